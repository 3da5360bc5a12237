//! Beam search (Graves 2012, Sequence Transduction with RNNs; Sutskever, Vinyals & Le 2014): several of the best
//! continuations are extended at the same time.

use std::cmp::Ordering;

use super::options::{BeamOptions, Sequence};
use super::scratch::{Prompt, Scratch};
use crate::base::error::Result;
use crate::gpu;
use crate::reference::{NO_SLOT, candidates, first_bad};
use crate::streams::{Store, StreamId, StreamPool};

impl StreamPool {
    /// Searches the most probable continuations of each stream after its prompt: up to `num_beams` each, the best first.
    ///
    /// In every step each beam's candidates are ranked by the log-probability of all their tokens; of the best
    /// `num_beams` those that end in `eos` are finished, and the best `num_beams` others are extended. A prompt is
    /// done when it has `num_beams` finished continuations and no beam can still beat the worst of them, or after
    /// `max_new_tokens`; beams that are not finished then are returned too. With as many beams as there are continuations it
    /// is an exhaustive search. Prompts are as for [`StreamPool::generate`]; the state of the streams does not change.
    ///
    /// # Errors
    /// As [`StreamPool::generate`].
    pub fn beam_search(&self, prompts: &[(StreamId, &[u32])], options: &BeamOptions) -> Result<Vec<Vec<Sequence>>> {
        options.check(super::decoder::check(self.session().network())?)?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let mut scratch = Scratch::new(self, prompts, options.num_beams)?;
        let mut groups: Vec<Group> = (0..prompts.len()).map(|_| Group::new()).collect();
        let mut lister = CandidateSource::new(&scratch, prompts.len(), options)?;
        let mut steps = 0;
        for _ in 0..options.max_new_tokens {
            let rows = BeamRows::new(&groups, &scratch.slots, prompts, options.num_beams);
            if rows.tokens.is_empty() {
                break;
            }
            steps += rows.tokens.len();
            let mut found = lister.candidates(&mut scratch, &rows, prompts)?.into_iter();
            for group in groups.iter_mut().filter(|group| !group.beams.is_empty()) {
                let found: Vec<Vec<(u32, f32)>> = found.by_ref().take(group.beams.len()).collect();
                group.advance(&found, options);
            }
        }
        scratch.inner.count(prompts.len(), steps);
        Ok(groups.into_iter().map(|group| group.ranked(options)).collect())
    }
}

/// A continuation that is being extended.
struct Beam {
    tokens: Vec<u32>,
    log_probability: f32,
    /// The beam from whose state it continues.
    parent: usize,
}

/// The beams of one prompt.
struct Group {
    /// The best first; none once the prompt is done.
    beams: Vec<Beam>,
    finished: Vec<Sequence>,
}

impl Group {
    fn new() -> Self {
        Self { beams: vec![Beam { tokens: Vec::new(), log_probability: 0.0, parent: 0 }], finished: Vec::new() }
    }

    /// Does a step with the candidates of each beam.
    fn advance(&mut self, found: &[Vec<(u32, f32)>], options: &BeamOptions) {
        let mut all: Vec<(f32, usize, u32)> = Vec::new();
        for (parent, (beam, found)) in self.beams.iter().zip(found).enumerate() {
            all.extend(found.iter().map(|&(token, log)| (beam.log_probability + log, parent, token)));
        }
        // If probabilities are equal, the better parent comes first, then the lower token.
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut next = Vec::with_capacity(options.num_beams.min(all.len()));
        for (rank, (log_probability, parent, token)) in all.into_iter().enumerate() {
            let tokens = || self.beams[parent].tokens.iter().copied().chain([token]).collect();
            if !options.eos.contains(&token) {
                next.push(Beam { tokens: tokens(), log_probability, parent });
            } else if rank < options.num_beams {
                self.finished.push(Sequence { tokens: tokens(), log_probability, stopped: true });
            }
            if next.len() == options.num_beams {
                break;
            }
        }
        self.beams = next;
        sort(&mut self.finished, options);
        self.finished.truncate(options.num_beams);
        if self.is_done(options) {
            self.beams.clear();
        }
    }

    /// Whether no beam can become better than the worst finished one: probabilities only decrease.
    fn is_done(&self, options: &BeamOptions) -> bool {
        let (Some(best), Some(worst)) = (self.beams.first(), self.finished.last()) else { return false };
        let length = if options.length_penalty > 0.0 { options.max_new_tokens } else { best.tokens.len() + 1 };
        #[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
        let reachable = best.log_probability / (length as f32).powf(options.length_penalty);
        self.finished.len() == options.num_beams && worst.score(options.length_penalty) >= reachable
    }

    fn ranked(self, options: &BeamOptions) -> Vec<Sequence> {
        let mut all = self.finished;
        all.extend(self.beams.into_iter().map(|Beam { tokens, log_probability, .. }| Sequence {
            tokens,
            log_probability,
            stopped: false,
        }));
        sort(&mut all, options);
        all.truncate(options.num_beams);
        all
    }
}

/// The best first.
fn sort(sequences: &mut [Sequence], options: &BeamOptions) {
    let score = |sequence: &Sequence| sequence.score(options.length_penalty);
    sequences.sort_by(|a, b| match score(b).total_cmp(&score(a)) {
        Ordering::Equal => a.tokens.cmp(&b.tokens),
        order => order,
    });
}

/// The beams of all prompts as rows of one batch.
struct BeamRows {
    tokens: Vec<u32>,
    /// Slots of the parents' states.
    from: Vec<u32>,
    /// Their own slots.
    to: Vec<u32>,
    /// Which prompt each row belongs to.
    prompts: Vec<usize>,
}

impl BeamRows {
    fn new(groups: &[Group], slots: &[u32], prompts: &[Prompt<'_>], num_beams: usize) -> Self {
        let mut rows = Self { tokens: Vec::new(), from: Vec::new(), to: Vec::new(), prompts: Vec::new() };
        for (prompt, (group, slots)) in groups.iter().zip(slots.chunks_exact(num_beams)).enumerate() {
            for (beam, &to) in group.beams.iter().zip(slots) {
                rows.tokens.push(beam.tokens.last().or(prompts[prompt].1.last()).copied().unwrap_or(0));
                rows.from.push(slots[beam.parent]);
                rows.to.push(to);
                rows.prompts.push(prompt);
            }
        }
        rows
    }
}

/// The source of the candidates.
struct CandidateSource {
    count: usize,
    gpu: Option<(gpu::Lister, usize)>,
}

impl CandidateSource {
    fn new(scratch: &Scratch<'_>, prompts: usize, options: &BeamOptions) -> Result<Self> {
        // Enough candidates of each beam that at least `num_beams` of them do not end it.
        let count = options.num_beams.saturating_add(options.eos.len()).min(scratch.vocabulary);
        let gpu = match &scratch.inner.store {
            Store::Cpu(_) => None,
            Store::Gpu(slots) => {
                let rows = super::filled_up(prompts * options.num_beams);
                // Beams of all prompts, so that the longest bank is among them.
                let banks = scratch.banks_of(0..prompts).map(|banks| banks.filled_up(rows));
                Some((scratch.pool.session().engine()?.lister(slots, rows, count, banks.as_ref())?, rows))
            }
        };
        Ok(Self { count, gpu })
    }

    /// Runs one step and lists each row's most probable tokens with their log-probabilities.
    fn candidates(
        &mut self,
        scratch: &mut Scratch<'_>,
        rows: &BeamRows,
        prompts: &[Prompt<'_>],
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        if let Some((lister, size)) = &self.gpu {
            let [mut from, mut to, mut tokens] = [&rows.from, &rows.to, &rows.tokens].map(Clone::clone);
            from.resize(*size, NO_SLOT);
            to.resize(*size, NO_SLOT);
            tokens.resize(*size, 0);
            let banks = scratch.banks_of(rows.prompts.iter().copied()).map(|banks| banks.filled_up(*size));
            let rows_of_step = gpu::ListerInput { from: &from, to: &to, tokens: &tokens, banks: banks.as_ref() };
            let words = scratch.pool.session().engine()?.list(lister, &rows_of_step)?;
            let of_rows = words.chunks_exact(2 + 2 * self.count).zip(&rows.prompts);
            return of_rows
                .map(|(words, &prompt)| {
                    if words[0] != u32::MAX {
                        let value = f32::from_bits(words[1]);
                        return Err(scratch.not_finite(prompts, prompt, words[0] as usize, value));
                    }
                    let (tokens, logs) = words[2..].split_at(self.count);
                    Ok(tokens.iter().zip(logs).map(|(&token, &log)| (token, f32::from_bits(log))).collect())
                })
                .collect();
        }
        let logits = scratch.step_on_host(&rows.prompts, rows.tokens.clone(), &rows.from, &rows.to)?;
        let of_rows = logits.chunks_exact(scratch.vocabulary).zip(&rows.prompts);
        of_rows
            .map(|(logits, &prompt)| match first_bad(logits) {
                Some(index) => Err(scratch.not_finite(prompts, prompt, index, logits[index])),
                None => {
                    let found = candidates(logits, self.count).into_iter();
                    Ok(found.map(|(token, log)| (u32::try_from(token).unwrap_or(u32::MAX), log)).collect())
                }
            })
            .collect()
    }
}

//! Generation of one token after the other: the most probable one, or a sampled one.

use super::options::{GenerateOptions, Sequence};
use super::scratch::{Prompt, Scratch};
use crate::base::error::Result;
use crate::gpu;
use crate::plan::{CHOICE_BAD, CHOICE_STOPPED};
use crate::reference::{NO_SLOT, choose, first_bad, log_probability, random};
use crate::streams::{Store, StreamId, StreamPool};

impl StreamPool {
    /// Continues each stream after its prompt, greedily or by [`Sampling`](crate::Sampling), all in one batch.
    ///
    /// A prompt has at least one token that its stream has not read; for a decoder that is the token that begins a
    /// sequence. Each stream then has read its prompt and every token but the last of its
    /// [`Sequence`], which begins its next prompt.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for an option out of its range, [`Error::Stream`](crate::Error::Stream),
    /// [`Error::TokenOutOfRange`](crate::Error::TokenOutOfRange), [`Error::Shape`](crate::Error::Shape) and
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a network that does not read tokens or does not give logits of
    /// them, [`Error::NonFinite`](crate::Error::NonFinite) for logits that are NaN or infinite,
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the forks do not fit into the pool. After each of these
    /// errors every stream is unchanged. A lost device.
    pub fn generate(&self, prompts: &[(StreamId, &[u32])], options: &GenerateOptions) -> Result<Vec<Sequence>> {
        options.check(super::decoder::check(self.session().network())?)?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let mut scratch = Scratch::new(self, prompts, 1)?;
        let sequences = match scratch.inner.store {
            Store::Cpu(_) => on_host(&mut scratch, prompts, options)?,
            Store::Gpu(_) => on_gpu(&scratch, prompts, options)?,
        };
        scratch.keep();
        scratch.inner.count(prompts.len(), sequences.iter().map(|sequence| sequence.tokens.len()).sum());
        Ok(sequences)
    }
}

fn on_host(scratch: &mut Scratch<'_>, prompts: &[Prompt<'_>], options: &GenerateOptions) -> Result<Vec<Sequence>> {
    let none = Sequence { tokens: Vec::new(), log_probability: 0.0, stopped: false };
    let mut sequences = vec![none; prompts.len()];
    for step in (0u32..).take(options.max_new_tokens) {
        let going: Vec<usize> = (0..prompts.len()).filter(|&row| !sequences[row].stopped).collect();
        if going.is_empty() {
            break;
        }
        let list: Vec<u32> = going.iter().map(|&row| scratch.slots[row]).collect();
        let last = |&row: &usize| sequences[row].tokens.last().or(prompts[row].1.last()).copied().unwrap_or(0);
        let logits = scratch.step_on_host(&going, going.iter().map(last).collect(), &list, &list)?;
        for (row, logits) in going.into_iter().zip(logits.chunks_exact(scratch.vocabulary)) {
            if let Some(index) = first_bad(logits) {
                return Err(scratch.not_finite(prompts, row, index, logits[index]));
            }
            let stream = u32::try_from(row).unwrap_or(u32::MAX);
            let drawn = options.sampling.map(|sampling| (sampling.filter(), random(sampling.seed, stream, step)));
            let token = choose(logits, drawn);
            let id = u32::try_from(token).unwrap_or(u32::MAX);
            let sequence = &mut sequences[row];
            sequence.tokens.push(id);
            sequence.log_probability += log_probability(logits, token);
            sequence.stopped = options.eos.contains(&id);
        }
    }
    Ok(sequences)
}

fn on_gpu(scratch: &Scratch<'_>, prompts: &[Prompt<'_>], options: &GenerateOptions) -> Result<Vec<Sequence>> {
    let Store::Gpu(slots) = &scratch.inner.store else { return Ok(Vec::new()) };
    let engine = scratch.pool.session().engine()?;
    let rows = super::filled_up(prompts.len());
    let most = options.max_new_tokens;
    let mut list = scratch.slots.clone();
    list.resize(rows, NO_SLOT);
    let mut tokens: Vec<u32> = prompts.iter().filter_map(|prompt| prompt.1.last().copied()).collect();
    tokens.resize(rows, 0);
    // Padding rows are marked as stopped from the beginning.
    let progress: Vec<u32> = (0..rows).flat_map(|row| [0, u32::from(row >= prompts.len()), 0, 0]).collect();
    let banks = scratch.banks_of(0..prompts.len()).map(|banks| banks.filled_up(rows));
    let start = gpu::ChooserInput { slots: &list, tokens: &tokens, progress: &progress, banks: banks.as_ref() };
    let chooser = engine.chooser(slots, &start, &settings(options), options.eos.len(), most)?;
    let mut progress = Vec::new();
    let mut done = 0;
    while done < most {
        let steps = options.read_every.min(most - done);
        progress = engine.choose(&chooser, steps)?;
        done += steps;
        if progress.chunks_exact(4).all(|row| row[1] != 0) {
            break;
        }
    }
    let all = engine.chosen(&chooser)?;
    let rows = progress.chunks_exact(4).zip(all.chunks_exact(most)).take(prompts.len());
    rows.enumerate()
        .map(|(row, (progress, tokens))| {
            let [count, state, what, value] = [progress[0], progress[1], progress[2], progress[3]];
            if state == CHOICE_BAD {
                return Err(scratch.not_finite(prompts, row, what as usize, f32::from_bits(value)));
            }
            let tokens = tokens[..(count as usize).min(most)].to_vec();
            Ok(Sequence { tokens, log_probability: f32::from_bits(what), stopped: state == CHOICE_STOPPED })
        })
        .collect()
}

/// In the layout of `shaders/choose.wgsl`.
fn settings(options: &GenerateOptions) -> Vec<u32> {
    let [scale, top_k, top_p] = options.sampling.map_or([0; 3], |sampling| {
        let filter = sampling.filter();
        [filter.scale.to_bits(), filter.top_k, filter.top_p]
    });
    let seed = options.sampling.map_or(0, |sampling| sampling.seed);
    let halves = [seed & u64::from(u32::MAX), seed >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let most = narrow(options.max_new_tokens);
    let mut settings = vec![scale, top_k, top_p, halves[0], halves[1], most, narrow(options.eos.len())];
    settings.extend(&options.eos);
    settings
}

//! Temporary streams of one call: generation works on forks, so that a call that fails changes no stream.

use std::sync::MutexGuard;

use super::decoder;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::data::banks::BankRows;
use crate::data::input::{Checked, Input, Values};
use crate::streams::{Inner, StreamId, StreamPool};

/// A prompt, which its stream has not read yet.
pub(super) type Prompt<'a> = (StreamId, &'a [u32]);

/// Several forks of each prompt's stream. The pool is locked meanwhile, so that calls run one after the other.
pub(super) struct Scratch<'a> {
    pub pool: &'a StreamPool,
    pub inner: MutexGuard<'a, Inner>,
    ids: Vec<StreamId>,
    /// The prompts' own streams.
    origins: Vec<u32>,
    /// The forks, those of one prompt side by side.
    forks: Vec<u32>,
    /// Their slots.
    pub slots: Vec<u32>,
    /// V
    pub vocabulary: usize,
}

impl<'a> Scratch<'a> {
    /// Takes `each` forks for every prompt. The first of them is the stream's copy and has read the prompt but for its last
    /// token; the others hold nothing yet.
    pub fn new(pool: &'a StreamPool, prompts: &[Prompt<'_>], each: usize) -> Result<Self> {
        let network = pool.session().network();
        let vocabulary = decoder::check(network)?;
        check_tokens(prompts, vocabulary)?;
        let mut inner = lock(&pool.inner);
        let origins = inner.table.batch(prompts.iter().map(|prompt| prompt.0))?;
        prompts.iter().try_for_each(|prompt| inner.table.check_bank(prompt.0))?;
        pool.room_for(&inner, prompts.len().saturating_mul(each))?;
        let mut scratch =
            Self { pool, inner, ids: Vec::new(), origins, forks: Vec::new(), slots: Vec::new(), vocabulary };
        // All forks of a prompt attend to the same bank.
        for at in 0..prompts.len() * each {
            let id = scratch.inner.table.fork(scratch.origins[at / each], false)?;
            scratch.ids.push(id);
            let fork = scratch.inner.table.number(id)?;
            scratch.forks.push(fork);
        }
        scratch.read(prompts, each)?;
        scratch.slots = pool.own(&mut scratch.inner, &scratch.forks, |row| row % each == 0)?;
        Ok(scratch)
    }

    /// Runs the first forks on all tokens of the prompts except the last.
    fn read(&mut self, prompts: &[Prompt<'_>], each: usize) -> Result<()> {
        let batch_first = self.pool.session().network().batch_first();
        let firsts = self.ids.iter().step_by(each);
        let calls: Vec<(StreamId, Input<'_>)> = firsts
            .zip(prompts)
            .filter(|(_, (_, tokens))| tokens.len() > 1)
            .map(|(&id, (_, tokens))| {
                let tokens = &tokens[..tokens.len() - 1];
                let shape = if batch_first { [1, tokens.len()] } else { [tokens.len(), 1] };
                (id, Input::tokens(tokens, shape))
            })
            .collect();
        if calls.is_empty() { Ok(()) } else { self.pool.advance_unread(&mut self.inner, &calls) }
    }

    /// Where the banks of rows lie that belong to these prompts.
    pub fn banks_of(&self, prompts: impl IntoIterator<Item = usize>) -> Option<BankRows> {
        let origins: Vec<u32> = prompts.into_iter().map(|prompt| self.origins[prompt]).collect();
        self.inner.table.banks_of(&origins)
    }

    /// One timestep on the CPU device: row r, of prompt `prompts[r]`, continues from slot `from[r]` with `tokens[r]`, and its state
    /// goes to `to[r]`. Gives the logits `[B, V]`.
    pub fn step_on_host(&mut self, prompts: &[usize], tokens: Vec<u32>, from: &[u32], to: &[u32]) -> Result<Vec<f32>> {
        let session = self.pool.session();
        let input = Checked {
            steps: 1,
            batch: tokens.len(),
            values: Values::Tokens(tokens.into()),
            mask: None,
            others: Vec::new(),
            begins: None,
            banks: self.banks_of(prompts.iter().copied()),
        };
        let Some(slots) = self.inner.store.cpu_mut() else {
            return Err(Error::Unsupported { place: "pool".into(), what: "a step on the host".into() });
        };
        slots.advance(session, &input, from, to)
    }

    /// Makes the states of the forks, one for each prompt, those of the streams.
    pub fn keep(&mut self) {
        let table = &mut self.inner.table;
        for (&fork, &origin) in self.forks.iter().zip(&self.origins) {
            let state = table.now(fork).state;
            table.states.set_seen(state, true);
            table.set_state(origin, state, self.pool.keep_last());
        }
    }

    /// An error about the logits that prompt `row` led to.
    pub fn not_finite(&self, prompts: &[Prompt<'_>], row: usize, index: usize, value: f32) -> Error {
        let stream = prompts.get(row).map(|prompt| prompt.0.to_string()).unwrap_or_default();
        Error::NonFinite { name: format!("logits of {stream}"), index, value }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            // They are open: no other caller has their ids.
            let _ = self.inner.table.close(id);
        }
    }
}

fn check_tokens(prompts: &[Prompt<'_>], num_embeddings: usize) -> Result<()> {
    for (row, (id, tokens)) in prompts.iter().enumerate() {
        if tokens.is_empty() {
            return Err(Error::shape(format!("prompt of {id}"), "at least one token", "none"));
        }
        if let Some(step) = tokens.iter().position(|&token| token as usize >= num_embeddings) {
            return Err(Error::TokenOutOfRange { token: tokens[step], row, step, num_embeddings });
        }
    }
    Ok(())
}

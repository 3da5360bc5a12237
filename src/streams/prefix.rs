//! The prefix memory: states after the first tokens of a text, from which later streams with the same beginning start.

use super::pool::{Inner, StreamPool};
use super::prefix_trie::PrefixTrie;
use super::table::StreamId;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::data::input::Input;

/// What the prefix memory of a pool holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixCounters {
    /// Prefixes whose states it holds.
    pub prefixes: usize,
    /// Bytes of these states and of the token ids that lead to them.
    pub bytes: u64,
    /// Calls that found their prefix, or a beginning of it.
    pub hits: u64,
    /// Calls that found nothing.
    pub misses: u64,
    /// Tokens that were not read because of it.
    pub tokens_saved: u64,
    /// Prefixes that it gave up for others.
    pub evicted: u64,
}

impl StreamPool {
    /// A new stream that has read `tokens`. What an earlier call has read of them is not read again: the stream starts from the
    /// state after the longest beginning that the prefix memory holds, by reference, and only the rest runs. The state after all of
    /// them is then held for later calls, within [`PoolOptions::prefix_bytes`](crate::PoolOptions::prefix_bytes); those used longest
    /// ago are given up for it. The stream's own past ([`StreamPool::rewind`]) begins after the prefix.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network that reads no tokens or has several inputs, [`Error::Shape`] for no tokens or a number
    /// that the network cannot read at once, [`Error::TokenOutOfRange`]; as [`StreamPool::open`] and [`StreamPool::advance`]. After an
    /// error no new stream stays open.
    pub fn open_with_prefix(&self, tokens: &[u32]) -> Result<StreamId> {
        let network = self.session().network();
        let Some(num_embeddings) = network.num_embeddings().filter(|_| network.inputs().len() == 1) else {
            let what = "a prefix of a network that reads anything but tokens".into();
            return Err(Error::Unsupported { place: "network".into(), what });
        };
        if tokens.is_empty() {
            return Err(Error::shape("prefix", "at least one token", "none"));
        }
        if let Some(step) = tokens.iter().position(|&token| token as usize >= num_embeddings) {
            return Err(Error::TokenOutOfRange { token: tokens[step], row: 0, step, num_embeddings });
        }
        let mut inner = lock(&self.inner);
        self.check_device()?;
        self.room_for(&inner, 1)?;
        let (known, state) = inner.prefixes.trie.longest(tokens).unwrap_or((0, inner.initial));
        let id = inner.table.open(state)?;
        let rest = &tokens[known..];
        if !rest.is_empty() {
            let shape = if network.batch_first() { [1, rest.len()] } else { [rest.len(), 1] };
            if let Err(error) = self.advance_unread(&mut inner, &[(id, Input::tokens(rest, shape))]) {
                inner.table.close(id)?;
                return Err(error);
            }
            let stream = inner.table.number(id)?;
            inner.table.forget_past(stream);
            let state = inner.table.now(stream).state;
            self.hold_prefix(&mut inner, tokens, state);
        }
        inner.counters.opened += 1;
        let counters = &mut inner.prefixes.counters;
        *(if known > 0 { &mut counters.hits } else { &mut counters.misses }) += 1;
        counters.tokens_saved += known as u64;
        Ok(id)
    }

    /// What the prefix memory holds and has done.
    #[must_use]
    pub fn prefix_counters(&self) -> PrefixCounters {
        let inner = lock(&self.inner);
        let PrefixMemory { trie, counters } = &inner.prefixes;
        PrefixCounters { prefixes: trie.len(), bytes: trie.bytes(inner.width), ..*counters }
    }

    fn hold_prefix(&self, inner: &mut Inner, tokens: &[u32], state: u32) {
        let (width, most) = (inner.width, self.options.prefix_bytes);
        if PrefixTrie::most_bytes(tokens, width) > most {
            return;
        }
        inner.table.states.hold(state);
        let PrefixMemory { trie, counters } = &mut inner.prefixes;
        trie.insert(tokens, state);
        while trie.bytes(width) > most {
            let Some(state) = trie.remove_oldest() else { return };
            inner.table.states.release(state);
            counters.evicted += 1;
        }
    }
}

/// The prefixes of a pool.
#[derive(Debug, Default)]
pub(crate) struct PrefixMemory {
    trie: PrefixTrie,
    /// Without what the trie says.
    counters: PrefixCounters,
}

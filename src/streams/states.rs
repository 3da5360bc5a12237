//! The table of states: who holds each, where its numbers lie, and which were used last.

use super::recency::Recency;
use crate::base::error::Result;
use crate::base::room::room;

/// A memory in which states lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// The slots of the store.
    Device,
    /// Rows of the host's memory.
    Host,
    /// Rows of the page file.
    File,
}

/// Where the numbers of a state are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatePlace {
    /// Nowhere: each of them is 0.
    Zero,
    /// In a slot or row.
    At(Tier, u32),
}

/// A state that has holders: streams, their past states, the prefix memory, banks or the pool.
#[derive(Clone, Copy, Debug)]
struct Entry {
    holders: u32,
    /// Of these, how many the batch that is being prepared replaces by new states.
    leaving: u32,
    place: StatePlace,
    /// Whether a step has counted, which a masked step's output depends on.
    seen: bool,
    /// Whether it stays where it is.
    fixed: bool,
    /// The last call that used it.
    used: u64,
}

/// The slots or rows of a tier.
#[derive(Debug, Default)]
struct TierRows {
    free: Vec<u32>,
    count: u32,
    /// The states in them that may move.
    order: Recency,
}

/// All states of a pool, by number.
#[derive(Debug, Default)]
pub(crate) struct StateTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    tiers: [TierRows; 3],
    calls: u64,
}

impl StateTable {
    /// A state with one holder.
    pub fn add(&mut self, place: StatePlace, seen: bool) -> u32 {
        self.add_entry(Entry { holders: 1, leaving: 0, place, seen, fixed: false, used: self.calls })
    }

    /// As [`StateTable::add`], of a state that stays where it is.
    pub fn add_fixed(&mut self, place: StatePlace) -> u32 {
        self.add_entry(Entry { holders: 1, leaving: 0, place, seen: false, fixed: true, used: self.calls })
    }

    fn add_entry(&mut self, entry: Entry) -> u32 {
        let state = self.free.pop().unwrap_or_else(|| {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.entries[state as usize] = entry;
        self.enter(state);
        state
    }

    /// Counts one more holder.
    pub fn hold(&mut self, state: u32) {
        self.entries[state as usize].holders += 1;
    }

    /// Counts one holder less; without any the state is gone.
    pub fn release(&mut self, state: u32) {
        let entry = &mut self.entries[state as usize];
        entry.holders -= 1;
        if entry.holders == 0 {
            self.depart(state);
            self.free.push(state);
        }
    }

    pub fn place(&self, state: u32) -> StatePlace {
        self.entries[state as usize].place
    }

    /// Whether a step of the state has counted.
    pub fn seen(&self, state: u32) -> bool {
        self.entries[state as usize].seen
    }

    pub fn set_seen(&mut self, state: u32, seen: bool) {
        self.entries[state as usize].seen = seen;
    }

    /// Puts a state elsewhere; where it was is free.
    pub fn move_to(&mut self, state: u32, place: StatePlace) {
        self.depart(state);
        self.entries[state as usize].place = place;
        self.enter(state);
    }

    /// Begins a call: what it uses is not paged out before the next.
    pub fn begin_call(&mut self) {
        self.calls += 1;
    }

    /// Uses a state that one of its holders is about to replace; says whether no other will be left.
    pub fn leave(&mut self, state: u32) -> bool {
        let entry = &mut self.entries[state as usize];
        entry.leaving += 1;
        entry.used = self.calls;
        let (alone, fixed) = (entry.leaving == entry.holders, entry.fixed);
        if let (StatePlace::At(tier, _), false) = (entry.place, fixed) {
            let order = &mut self.tiers[tier as usize].order;
            order.remove(state);
            order.push(state);
        }
        alone
    }

    /// Ends what [`StateTable::leave`] began.
    pub fn settle(&mut self, state: u32) {
        self.entries[state as usize].leaving = 0;
    }

    /// Number of slots or rows of a tier, taken and free.
    pub fn rows(&self, tier: Tier) -> usize {
        self.tiers[tier as usize].count as usize
    }

    /// Number of slots or rows of a tier that nothing lies in.
    pub fn free_rows(&self, tier: Tier) -> usize {
        self.tiers[tier as usize].free.len()
    }

    /// Number of states in a tier, without those that stay there.
    pub fn movable(&self, tier: Tier) -> usize {
        self.tiers[tier as usize].order.len()
    }

    /// Up to `count` states of a tier that the present call does not use, those used longest ago first.
    pub fn unused(&self, tier: Tier, count: usize) -> Vec<u32> {
        let unused = |state: &u32| self.entries[*state as usize].used != self.calls;
        self.tiers[tier as usize].order.iter().take_while(unused).take(count).collect()
    }

    /// Up to `count` states of a tier, those used longest ago first.
    pub fn oldest(&self, tier: Tier, count: usize) -> Vec<u32> {
        self.tiers[tier as usize].order.iter().take(count).collect()
    }

    /// Adds slots or rows up to `count`.
    pub fn grow(&mut self, tier: Tier, count: usize) -> Result<()> {
        let rows = &mut self.tiers[tier as usize];
        room(|| format!("list of {count} states"), count, size_of::<u32>())?;
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(rows.count);
        // The lowest is taken first.
        rows.free.splice(0..0, (rows.count..count).rev());
        rows.count = count;
        Ok(())
    }

    /// Takes a free slot or row.
    pub fn take_row(&mut self, tier: Tier) -> Option<u32> {
        self.tiers[tier as usize].free.pop()
    }

    /// Gives back a slot or row that no state got.
    pub fn give_row_back(&mut self, tier: Tier, row: u32) {
        self.tiers[tier as usize].free.push(row);
    }

    fn enter(&mut self, state: u32) {
        let Entry { place, fixed, .. } = self.entries[state as usize];
        if let (StatePlace::At(tier, _), false) = (place, fixed) {
            self.tiers[tier as usize].order.push(state);
        }
    }

    fn depart(&mut self, state: u32) {
        let Entry { place, fixed, .. } = self.entries[state as usize];
        if let StatePlace::At(tier, row) = place {
            if !fixed {
                self.tiers[tier as usize].order.remove(state);
            }
            self.give_row_back(tier, row);
        }
    }
}

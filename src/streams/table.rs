//! The table of slots and the streams that they belong to.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use super::banks::BankTable;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::data::banks::BankRows;
use crate::data::state::State;

/// A stream of one pool. Once closed it is never valid again, even when another stream has its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pool: u64,
    slot: u32,
    generation: u32,
}

impl Display for StreamId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}.{} of pool {}", self.slot, self.generation, self.pool)
    }
}

impl StreamId {
    /// An error about this stream.
    pub(super) fn error(self, expected: &str, got: &str) -> Error {
        Error::Stream { stream: self.to_string(), expected: expected.into(), got: got.into() }
    }
}

/// Data about a slot, without its state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    generation: u32,
    open: bool,
    /// Whether a stream has ever had it: its state is 0 until then.
    used: bool,
    /// Whether a step of the stream has counted, which a masked step's output depends on.
    pub seen: bool,
    /// The last batch that the stream was part of.
    batch: u64,
    /// The bank that the stream attends to.
    bank: Option<u32>,
}

/// The slots of a pool.
#[derive(Debug)]
pub(crate) struct Table {
    pool: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    batches: u64,
    pub banks: BankTable,
}

impl Table {
    /// `banks` is the number of inputs that a stream attends to.
    pub fn new(pool: u64, capacity: usize, banks: usize) -> Result<Self> {
        let banks = BankTable::new(banks);
        let mut table = Self { pool, slots: Vec::new(), free: Vec::new(), batches: 0, banks };
        table.grow(capacity)?;
        Ok(table)
    }

    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub fn open_streams(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Adds slots up to `capacity`.
    pub fn grow(&mut self, capacity: usize) -> Result<()> {
        room(|| format!("table of {capacity} streams"), capacity, size_of::<Slot>() + size_of::<u32>())?;
        let first = self.slots.len();
        self.slots.resize(capacity.max(first), Slot::default());
        // The lowest is taken first.
        let new = (first..self.slots.len()).rev().filter_map(|slot| u32::try_from(slot).ok());
        self.free.splice(0..0, new);
        Ok(())
    }

    /// Takes a free slot, and says whether another stream has used it.
    pub fn open(&mut self) -> Option<(StreamId, bool)> {
        let slot = self.free.pop()?;
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        (entry.open, entry.seen) = (true, false);
        let used = std::mem::replace(&mut entry.used, true);
        Some((StreamId { pool: self.pool, slot, generation: entry.generation }, used))
    }

    /// Frees the slot of an open stream.
    pub fn close(&mut self, id: StreamId) -> Result<()> {
        let slot = self.slot(id)?;
        self.slots[slot as usize].open = false;
        self.free.push(slot);
        self.set_bank(slot, None);
        Ok(())
    }

    /// Makes a stream attend to another bank, which counts it as a holder.
    pub fn set_bank(&mut self, slot: u32, bank: Option<u32>) {
        if let Some(bank) = bank {
            self.banks.hold(bank);
        }
        if let Some(before) = std::mem::replace(&mut self.at(slot).bank, bank) {
            self.banks.release(before);
        }
    }

    /// Makes a stream attend to the bank of another.
    pub fn share_bank(&mut self, from: u32, to: u32) {
        let bank = self.slots[from as usize].bank;
        self.set_bank(to, bank);
    }

    /// The bank of a stream.
    pub fn bank(&self, slot: u32) -> Option<u32> {
        self.slots[slot as usize].bank
    }

    /// The state that the bank of a stream begins with, if it gives one.
    pub fn start_of(&self, slot: u32) -> Option<Arc<State>> {
        self.banks.at(self.bank(slot)?).start.clone()
    }

    /// An error if a stream attends to a bank and was given none.
    pub fn check_bank(&self, id: StreamId) -> Result<()> {
        let slot = self.slot(id)?;
        if self.banks.inputs() > 0 && self.bank(slot).is_none() {
            return Err(id.error("a stream with a bank (StreamPool::open_reading or read)", "one that was given none"));
        }
        Ok(())
    }

    /// Where the banks of streams lie, for a network that has any; of no slot there is none.
    pub fn banks_of(&self, list: &[u32]) -> Option<BankRows> {
        let of = |input: usize| {
            let rows = list.iter().map(|&slot| {
                let bank = self.slots.get(slot as usize).and_then(|slot| slot.bank);
                bank.map_or([0; 2], |bank| self.banks.at(bank).row(input))
            });
            rows.collect()
        };
        (self.banks.inputs() > 0).then(|| BankRows((0..self.banks.inputs()).map(of).collect()))
    }

    /// The slot of an open stream.
    pub fn slot(&self, id: StreamId) -> Result<u32> {
        const EXPECTED: &str = "an open stream of this pool";
        if id.pool != self.pool {
            return Err(id.error(EXPECTED, &format!("one of another pool than {}", self.pool)));
        }
        match self.slots.get(id.slot as usize) {
            Some(slot) if slot.open && slot.generation == id.generation => Ok(id.slot),
            _ => Err(id.error(EXPECTED, "one that was closed")),
        }
    }

    /// The data about a slot.
    pub fn at(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    /// The slots of the streams of one batch, in which none comes twice.
    pub fn batch(&mut self, ids: impl Iterator<Item = StreamId>) -> Result<Vec<u32>> {
        self.batches += 1;
        let batch = self.batches;
        ids.map(|id| {
            let slot = self.slot(id)?;
            if std::mem::replace(&mut self.at(slot).batch, batch) == batch {
                return Err(id.error("each stream once in a batch", "it a second time"));
            }
            Ok(slot)
        })
        .collect()
    }
}

//! The table of streams, and what each holds: a state, a bank, and those it had before.

use std::fmt::{self, Display, Formatter};

use super::banks::BankTable;
use super::states::StateTable;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::data::banks::BankRows;

/// A stream of one pool. Once closed it is never valid again, even when another stream has its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pool: u64,
    number: u32,
    generation: u32,
}

impl Display for StreamId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}.{} of pool {}", self.number, self.generation, self.pool)
    }
}

impl StreamId {
    /// An error about this stream.
    pub(super) fn error(self, expected: &str, got: &str) -> Error {
        Error::Stream { stream: self.to_string(), expected: expected.into(), got: got.into() }
    }
}

/// What a stream is at one point: a state, and what it attends to. Both are numbers of tables that count their holders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamVersion {
    pub state: u32,
    pub bank: Option<u32>,
}

#[derive(Debug)]
struct Stream {
    generation: u32,
    open: bool,
    forked: bool,
    /// The last batch that the stream was part of.
    batch: u64,
    now: StreamVersion,
    /// What it was before, the last at the end.
    past: Vec<StreamVersion>,
}

/// The streams of a pool.
#[derive(Debug)]
pub(crate) struct Table {
    pool: u64,
    streams: Vec<Stream>,
    free: Vec<u32>,
    /// Open streams that are no forks.
    originals: usize,
    batches: u64,
    pub banks: BankTable,
    pub states: StateTable,
}

impl Table {
    /// `banks` is the number of inputs that a stream attends to.
    pub fn new(pool: u64, banks: usize) -> Self {
        let (banks, states) = (BankTable::new(banks), StateTable::default());
        Self { pool, streams: Vec::new(), free: Vec::new(), originals: 0, batches: 0, banks, states }
    }

    pub fn open_streams(&self) -> usize {
        self.streams.len() - self.free.len()
    }

    /// Open streams that are no forks.
    pub fn originals(&self) -> usize {
        self.originals
    }

    /// A new stream in a state, of which it becomes one more holder.
    pub fn open(&mut self, state: u32) -> Result<StreamId> {
        let id = self.add(StreamVersion { state, bank: None }, Vec::new(), false)?;
        self.originals += 1;
        Ok(id)
    }

    /// A new stream that is what another is, with its past if it is `whole`.
    pub fn fork(&mut self, from: u32, whole: bool) -> Result<StreamId> {
        let stream = &self.streams[from as usize];
        let past = if whole { stream.past.clone() } else { Vec::new() };
        self.add(stream.now, past, true)
    }

    fn add(&mut self, now: StreamVersion, past: Vec<StreamVersion>, forked: bool) -> Result<StreamId> {
        if self.free.is_empty() && self.streams.len() == self.streams.capacity() {
            let count = 2 * self.streams.len();
            room(|| format!("table of {count} streams"), count, size_of::<Stream>() + size_of::<u32>())?;
        }
        std::iter::once(&now).chain(&past).for_each(|version| self.hold(*version));
        let stream = Stream { generation: 1, open: true, forked, batch: 0, now, past };
        let number = match self.free.pop() {
            Some(number) => {
                let before = &mut self.streams[number as usize];
                *before = Stream { generation: before.generation.wrapping_add(1), ..stream };
                number
            }
            None => {
                self.streams.push(stream);
                u32::try_from(self.streams.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let generation = self.streams[number as usize].generation;
        Ok(StreamId { pool: self.pool, number, generation })
    }

    /// Closes an open stream.
    pub fn close(&mut self, id: StreamId) -> Result<()> {
        let number = self.number(id)?;
        let stream = &mut self.streams[number as usize];
        stream.open = false;
        self.originals -= usize::from(!stream.forked);
        let (now, past) = (stream.now, std::mem::take(&mut stream.past));
        past.into_iter().chain([now]).for_each(|version| self.release(version));
        self.free.push(number);
        Ok(())
    }

    fn hold(&mut self, version: StreamVersion) {
        self.states.hold(version.state);
        version.bank.into_iter().for_each(|bank| self.banks.hold(bank));
    }

    fn release(&mut self, version: StreamVersion) {
        self.states.release(version.state);
        version.bank.into_iter().for_each(|bank| self.release_bank(bank));
    }

    fn release_bank(&mut self, bank: u32) {
        let start = self.banks.release(bank);
        start.into_iter().for_each(|start| self.states.release(start));
    }

    /// Removes a bank that no stream holds.
    pub fn remove_bank(&mut self, bank: u32) {
        let start = self.banks.remove(bank);
        start.into_iter().for_each(|start| self.states.release(start));
    }

    /// What a stream is.
    pub fn now(&self, number: u32) -> StreamVersion {
        self.streams[number as usize].now
    }

    /// Whether a step of a stream has counted.
    pub fn seen(&self, number: u32) -> bool {
        self.states.seen(self.now(number).state)
    }

    /// Gives a stream another state, of which it becomes one more holder. The last `keep` of those before stay with it.
    pub fn set_state(&mut self, number: u32, state: u32, keep: usize) {
        let bank = self.now(number).bank;
        self.set_version(number, StreamVersion { state, bank }, keep);
    }

    /// As [`Table::set_state`], of both state and bank.
    pub fn set_version(&mut self, number: u32, version: StreamVersion, keep: usize) {
        self.hold(version);
        let before = std::mem::replace(&mut self.streams[number as usize].now, version);
        self.keep(number, before, keep);
    }

    /// Makes a version, which counts the stream as a holder, the last before what the stream is now; `keep` stay in all.
    pub fn keep(&mut self, number: u32, before: StreamVersion, keep: usize) {
        if keep == 0 {
            return self.release(before);
        }
        let past = &mut self.streams[number as usize].past;
        let outdated: Vec<StreamVersion> = past.drain(..(past.len() + 1).saturating_sub(keep)).collect();
        past.push(before);
        outdated.into_iter().for_each(|version| self.release(version));
    }

    /// How many versions a stream can go back by.
    pub fn past(&self, number: u32) -> usize {
        self.streams[number as usize].past.len()
    }

    /// Makes a stream's past begin with what it is now.
    pub fn forget_past(&mut self, number: u32) {
        let past = std::mem::take(&mut self.streams[number as usize].past);
        past.into_iter().for_each(|version| self.release(version));
    }

    /// Makes a stream what it was `count` versions ago, if it has so many.
    pub fn rewind(&mut self, number: u32, count: usize) {
        for _ in 0..count {
            let stream = &mut self.streams[number as usize];
            let Some(before) = stream.past.pop() else { return };
            let now = std::mem::replace(&mut stream.now, before);
            self.release(now);
        }
    }

    /// Makes a stream attend to another bank, which counts it as a holder. Its past does not change.
    pub fn set_bank(&mut self, number: u32, bank: u32) {
        self.banks.hold(bank);
        let before = self.streams[number as usize].now.bank.replace(bank);
        before.into_iter().for_each(|before| self.release_bank(before));
    }

    /// An error if a stream attends to a bank and was given none.
    pub fn check_bank(&self, id: StreamId) -> Result<()> {
        let number = self.number(id)?;
        if self.banks.inputs() > 0 && self.now(number).bank.is_none() {
            return Err(id.error("a stream with a bank (StreamPool::open_reading or read)", "one that was given none"));
        }
        Ok(())
    }

    /// Where the banks of streams lie, for a network that has any; of no stream there is none.
    pub fn banks_of(&self, list: &[u32]) -> Option<BankRows> {
        let of = |input: usize| {
            let rows = list.iter().map(|&number| {
                let bank = self.streams.get(number as usize).and_then(|stream| stream.now.bank);
                bank.map_or([0; 2], |bank| self.banks.at(bank).row(input))
            });
            rows.collect()
        };
        (self.banks.inputs() > 0).then(|| BankRows((0..self.banks.inputs()).map(of).collect()))
    }

    /// The number of an open stream.
    pub fn number(&self, id: StreamId) -> Result<u32> {
        const EXPECTED: &str = "an open stream of this pool";
        if id.pool != self.pool {
            return Err(id.error(EXPECTED, &format!("one of another pool than {}", self.pool)));
        }
        match self.streams.get(id.number as usize) {
            Some(stream) if stream.open && stream.generation == id.generation => Ok(id.number),
            _ => Err(id.error(EXPECTED, "one that was closed")),
        }
    }

    /// The numbers of the streams of one batch, in which none comes twice.
    pub fn batch(&mut self, ids: impl Iterator<Item = StreamId>) -> Result<Vec<u32>> {
        self.batches += 1;
        let batch = self.batches;
        ids.map(|id| {
            let number = self.number(id)?;
            if std::mem::replace(&mut self.streams[number as usize].batch, batch) == batch {
                return Err(id.error("each stream once in a batch", "it a second time"));
            }
            Ok(number)
        })
        .collect()
    }
}

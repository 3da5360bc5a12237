//! How a level's work is shared among threads, and how the threads of one recurrence exchange results.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::pool::{in_parallel, pause};
use super::product::GROUP;
use crate::base::lock::lock;

/// Multiplications and additions that a thread does in a nanosecond, roughly. It only decides whether more
/// threads are used.
const PER_NANOSECOND: usize = 40;
/// Multiplications and additions that take as long as moving a number from memory to memory, roughly.
pub(super) const WORK_OF_NUMBER: usize = 8;
/// A thread takes some 10 to 50 µs to wake, so less than this is done by the caller alone.
const WORTH_CALLING_NS: usize = 60_000;
/// Threads that exchange results at every step need steps that take longer than the exchange.
const WORTH_EXCHANGE_NS: usize = 2_500;

/// The part of one thread.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Batch rows.
    pub rows: Range<usize>,
    /// Blocks of units.
    pub blocks: Range<usize>,
}

/// Threads share rows in groups of so many, which share a load of weights: in larger ones the shares would be
/// uneven.
pub(super) const SHARED_ROWS: usize = 4;
/// Rows that go through all steps before the next do: what is kept of them stays in a cache.
const PIECE_ROWS: usize = 64;

impl Share {
    /// The share in pieces to be done one after the other.
    pub fn pieces(&self) -> impl Iterator<Item = Self> + use<> {
        let Self { rows, blocks } = self.clone();
        let count = rows.len().div_ceil(PIECE_ROWS);
        // Of one size, so that none is a remnant, in whole groups.
        let size = rows.len().div_ceil(count.max(1)).next_multiple_of(GROUP);
        rows.clone()
            .step_by(size.max(1))
            .map(move |first| Self { rows: first..rows.end.min(first + size), blocks: blocks.clone() })
    }
}

/// How the work is divided among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shares {
    /// The caller does everything.
    Caller,
    /// This many threads, each of which runs the whole recurrence of some rows.
    Rows(usize),
    /// This many threads, each of which runs some units of all rows; after every step they exchange results.
    Blocks(usize),
    /// The caller runs the steps; one more thread computes the projections ahead of it.
    Ahead,
}

/// What the units of a row need of each other at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitsNeed {
    /// h after the step before: threads that share them exchange it.
    State,
    /// The sums of all: threads cannot share them.
    Sums,
    /// Nothing: threads that share them need not wait for each other.
    Nothing,
}

/// The work to be divided.
#[derive(Clone, Copy)]
pub(super) struct WorkSize {
    pub steps: usize,
    pub rows: usize,
    pub blocks: usize,
    /// Multiplications and additions of one row in one step, ...
    pub of_row: usize,
    /// ... and those of them that do not wait for the step before.
    pub of_input: usize,
    /// What the units of a row need of each other.
    pub units: UnitsNeed,
}

impl WorkSize {
    /// How the work is divided among up to `threads` threads.
    pub fn shares(&self, threads: usize) -> Shares {
        let Self { steps, rows, blocks, of_row, of_input, units } = *self;
        let threads = threads.min(worth(steps * rows * of_row));
        let by_blocks = match units {
            UnitsNeed::State => threads.min(blocks).min(rows * of_row / PER_NANOSECOND / WORTH_EXCHANGE_NS),
            UnitsNeed::Sums => 1,
            UnitsNeed::Nothing => threads.min(blocks),
        };
        if by_blocks > 1 && rows < 2 * threads {
            return Shares::Blocks(by_blocks);
        }
        let groups = rows.div_ceil(SHARED_ROWS);
        if threads.min(groups) > 1 {
            return Shares::Rows(threads.min(groups));
        }
        if threads > 1 && steps > 1 && worth(steps * rows * of_input) > 1 {
            return Shares::Ahead;
        }
        Shares::Caller
    }

    /// The part of one of the threads.
    pub fn share(&self, shares: Shares, thread: usize) -> Share {
        let (rows, blocks) = (0..self.rows, 0..self.blocks);
        match shares {
            Shares::Caller | Shares::Ahead => Share { rows, blocks },
            Shares::Rows(threads) => {
                let groups = part(self.rows.div_ceil(SHARED_ROWS), threads, thread);
                Share { rows: groups.start * SHARED_ROWS..self.rows.min(groups.end * SHARED_ROWS), blocks }
            }
            Shares::Blocks(threads) => Share { rows, blocks: part(self.blocks, threads, thread) },
        }
    }
}

/// The number of threads for which this many multiplications and additions are enough work.
pub(super) fn worth(products: usize) -> usize {
    (products / PER_NANOSECOND / WORTH_CALLING_NS).saturating_add(1)
}

/// Does `work` with each of `items`, which up to `threads` threads take in turn.
pub(super) fn share<T: Send>(threads: usize, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let items = Mutex::new(items);
    let take = |_| {
        loop {
            // The lock is not held while the item is worked on.
            let item = lock(&items).next();
            let Some(item) = item else { return };
            work(item);
        }
    };
    if threads <= 1 || !in_parallel(threads, &take) {
        take(0);
    }
}

/// The part of a thread if `total` things go to `threads`, nearly the same number to each.
pub(super) fn part(total: usize, threads: usize, thread: usize) -> Range<usize> {
    thread * total / threads..(thread + 1) * total / threads
}

/// The results of one step that the threads of one recurrence exchange: a barrier with data.
#[derive(Debug, Default)]
pub(super) struct ThreadExchange {
    threads: usize,
    /// Numbers as bits, in two halves that alternate: a thread may be one round ahead.
    numbers: [Vec<AtomicU32>; 2],
    arrived: AtomicUsize,
    round: AtomicUsize,
    /// Whether a thread has panicked, so that the others stop waiting.
    broken: AtomicBool,
}

impl ThreadExchange {
    /// Makes it ready for a run.
    pub fn begin(&mut self, threads: usize, len: usize) {
        self.threads = threads;
        for half in &mut self.numbers {
            half.resize_with(len, || AtomicU32::new(0));
        }
        self.arrived = AtomicUsize::new(0);
        self.round = AtomicUsize::new(0);
        self.broken = AtomicBool::new(false);
    }

    /// Publishes the `own` columns of every row of `numbers` and fills in all others. `turn` counts the
    /// caller's exchanges.
    pub fn all_gather(&self, numbers: &mut [f32], stride: usize, own: &Range<usize>, turn: usize) {
        let shared = &self.numbers[turn % 2];
        for (row, shared) in numbers.chunks_exact(stride).zip(shared.chunks_exact(stride)) {
            for (number, shared) in row[own.clone()].iter().zip(&shared[own.clone()]) {
                shared.store(number.to_bits(), Ordering::Relaxed);
            }
        }
        self.wait(turn);
        for (row, shared) in numbers.chunks_exact_mut(stride).zip(shared.chunks_exact(stride)) {
            for part in [0..own.start, own.end..stride] {
                for (number, shared) in row[part.clone()].iter_mut().zip(&shared[part]) {
                    *number = f32::from_bits(shared.load(Ordering::Relaxed));
                }
            }
        }
    }

    fn wait(&self, turn: usize) {
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(turn + 1, Ordering::Release);
            return;
        }
        until(|| self.round.load(Ordering::Acquire) == turn + 1 || self.broken.load(Ordering::Relaxed));
    }

    /// Held by every thread.
    pub fn guard(&self) -> Guard<'_> {
        Guard(&self.broken)
    }
}

/// Informs the other threads if its thread panics.
pub(super) struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Waits for a thread that runs at the same time: within a microsecond or so.
fn until(condition: impl Fn() -> bool) {
    let mut polls = 0;
    while !condition() {
        pause(&mut polls, 100);
    }
}

/// Projections that one thread computes for the thread that takes the steps, chunk by chunk.
///
/// The first thread to arrive claims a chunk, so that a late thread does not delay the others.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Of even and of odd chunks.
    slots: [Mutex<Vec<f32>>; 2],
    /// Chunks that are computed or being computed, ...
    claimed: AtomicUsize,
    /// ... computed by the helper, the last of them, ...
    ready: AtomicUsize,
    /// ... and taken from their slot or computed by the taker.
    taken: AtomicUsize,
    broken: AtomicBool,
}

impl Ahead {
    /// Makes it ready for a run.
    pub fn begin(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        *self = Self { slots, ..Self::default() };
    }

    fn claim(&self, chunk: usize) -> bool {
        self.claimed.compare_exchange(chunk, chunk + 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Computes chunks until all `chunks` are claimed.
    pub fn help(&self, chunks: usize, mut compute: impl FnMut(usize, &mut Vec<f32>)) {
        let _guard = Guard(&self.broken);
        loop {
            let chunk = self.claimed.load(Ordering::Acquire);
            if chunk >= chunks || self.broken.load(Ordering::Relaxed) {
                return;
            }
            // Its slot is free when the chunk before the last is taken.
            if self.taken.load(Ordering::Acquire) + 2 <= chunk {
                until(|| {
                    self.taken.load(Ordering::Acquire) + 2 > chunk
                        || self.claimed.load(Ordering::Acquire) != chunk
                        || self.broken.load(Ordering::Relaxed)
                });
            } else if self.claim(chunk) {
                compute(chunk, &mut lock(&self.slots[chunk % 2]));
                self.ready.store(chunk + 1, Ordering::Release);
            }
        }
    }

    /// The next chunk, computed here if no other thread has begun it.
    pub fn take(&self, chunk: usize, into: &mut Vec<f32>, compute: impl FnOnce(&mut Vec<f32>)) {
        if self.claim(chunk) {
            compute(into);
        } else {
            until(|| self.ready.load(Ordering::Acquire) > chunk || self.broken.load(Ordering::Relaxed));
            std::mem::swap(into, &mut lock(&self.slots[chunk % 2]));
        }
        self.taken.store(chunk + 1, Ordering::Release);
    }

    /// Held by the taker.
    pub fn guard(&self) -> Guard<'_> {
        Guard(&self.broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread publishes reaches the others, round after round.
    #[test]
    fn threads_exchange_what_they_leave() {
        let mut exchange = ThreadExchange::default();
        exchange.begin(3, 6);
        in_parallel(3, &|thread: usize| {
            let mut numbers = [0.0f32; 6];
            for turn in 0..1000 {
                let own = thread * 2..thread * 2 + 2;
                let mine = (0..6).map(|at| f32::from(u16::try_from(turn * 6 + at).unwrap())).collect::<Vec<_>>();
                numbers[own.clone()].copy_from_slice(&mine[own.clone()]);
                exchange.all_gather(&mut numbers, 6, &own, turn);
                assert_eq!(numbers[..], mine[..]);
            }
        });
    }

    /// Every chunk comes once and in order, whichever thread computes it.
    #[test]
    fn chunks_are_taken_in_order() {
        let (mut ahead, chunks) = (Ahead::default(), 500u16);
        for late in [0, 1, 2] {
            ahead.begin();
            let fill = |chunk: usize, to: &mut Vec<f32>| {
                to.clear();
                to.push(f32::from(u16::try_from(chunk).unwrap()));
            };
            in_parallel(2, &|thread| {
                if thread == late % 2 {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                if thread == 1 {
                    if late < 2 {
                        ahead.help(chunks.into(), fill);
                    }
                    return;
                }
                let mut into = Vec::new();
                for chunk in 0..chunks {
                    ahead.take(chunk.into(), &mut into, |to| fill(chunk.into(), to));
                    assert_eq!(into, [f32::from(chunk)]);
                }
            });
        }
    }

    #[test]
    fn work_is_cut_where_it_is_worth_it() {
        let shares = |steps, rows, hidden: usize, threads| {
            let of_input = 4 * hidden * hidden;
            WorkSize { steps, rows, blocks: hidden / 16, of_row: 2 * of_input, of_input, units: UnitsNeed::State }
                .shares(threads)
        };
        assert_eq!(shares(10, 1, 64, 2), Shares::Caller, "a small one");
        assert_eq!(shares(100, 1, 128, 2), Shares::Ahead, "a longer one");
        assert_eq!(shares(100, 1, 512, 2), Shares::Blocks(2), "a large row");
        assert_eq!(shares(100, 1, 256, 16), Shares::Blocks(5), "a row that is not worth all threads");
        assert_eq!(shares(1, 1, 512, 2), Shares::Caller, "one step");
        assert_eq!(shares(50, 32, 256, 2), Shares::Rows(2), "many rows");
        assert_eq!(shares(50, 32, 256, 1), Shares::Caller, "one thread");
    }

    #[test]
    fn every_row_and_block_belongs_to_one_share() {
        let work = WorkSize { steps: 1, rows: 37, blocks: 7, of_row: 1, of_input: 1, units: UnitsNeed::State };
        for threads in 1..6 {
            let rows = (0..threads).map(|thread| work.share(Shares::Rows(threads), thread).rows);
            assert_eq!(rows.flatten().collect::<Vec<_>>(), (0..37).collect::<Vec<_>>());
            let blocks = (0..threads).map(|thread| work.share(Shares::Blocks(threads), thread).blocks);
            assert_eq!(blocks.flatten().collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
        }
    }
}

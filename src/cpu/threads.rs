//! How a level's work is shared among threads, and how the threads of one recurrence meet.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Multiplications and additions that a thread does in a nanosecond, roughly. It decides whether more
/// threads are worth starting, nothing else.
const PER_NANOSECOND: usize = 40;
/// A thread takes some 30 µs to start, so less than this is done by the caller alone.
const WORTH_STARTING_NS: usize = 150_000;
/// Threads that meet at every step need one that is longer than their meeting.
const WORTH_MEETING_NS: usize = 2_500;

/// The part of one thread.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Batch rows.
    pub rows: Range<usize>,
    /// Blocks of units.
    pub blocks: Range<usize>,
}

/// Who does what.
pub(super) enum Shares {
    /// The caller alone.
    Caller,
    /// Each the whole recurrence of some rows.
    Rows(Vec<Share>),
    /// Each some units of all rows; after every step they tell each other.
    Blocks(Vec<Share>),
}

/// What there is to share.
pub(super) struct Work {
    pub steps: usize,
    pub rows: usize,
    pub blocks: usize,
    /// Multiplications and additions of one row in one step.
    pub of_row: usize,
}

impl Work {
    /// How up to `threads` threads share it.
    pub fn share(&self, threads: usize) -> Shares {
        let Self { steps, rows, blocks, of_row } = *self;
        let threads = threads.min(worth(steps * rows * of_row));
        let step_ns = rows * of_row / PER_NANOSECOND;
        if threads > 1 && rows < 2 * threads && blocks >= threads && step_ns / threads >= WORTH_MEETING_NS {
            let shares = cut(blocks, threads);
            return Shares::Blocks(shares.map(|blocks| Share { rows: 0..rows, blocks }).collect());
        }
        // Rows that share a load of weights stay together.
        let groups = rows.div_ceil(super::product::GROUP);
        if threads.min(groups) < 2 {
            return Shares::Caller;
        }
        let shares = cut(groups, threads.min(groups));
        let rows_of = |groups: Range<usize>| {
            let first = groups.start * super::product::GROUP;
            first..rows.min(groups.end * super::product::GROUP)
        };
        Shares::Rows(shares.map(|groups| Share { rows: rows_of(groups), blocks: 0..blocks }).collect())
    }
}

/// Threads that so many multiplications and additions keep busy.
pub(super) fn worth(products: usize) -> usize {
    (products / PER_NANOSECOND / WORTH_STARTING_NS).saturating_add(1)
}

/// `total` things in `parts` parts of nearly the same size.
pub(super) fn cut(total: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.max(1);
    (0..parts).map(move |part| part * total / parts..(part + 1) * total / parts)
}

/// Does every task, the first in this thread and each further one in its own.
pub(super) fn in_threads<T: Send, R: Send>(tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    // Who wakes from it is given a core of its own; a new thread often begins on that of its maker, and they share
    // it for milliseconds.
    let start = Barrier::new(tasks.len());
    let begin = |task| {
        start.wait();
        work(task)
    };
    let mut tasks = tasks.into_iter();
    let Some(first) = tasks.next() else { return Vec::new() };
    std::thread::scope(|scope| {
        let begin = &begin;
        let others: Vec<_> = tasks.map(|task| scope.spawn(move || begin(task))).collect();
        let mut results = vec![begin(first)];
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// Where the threads of one recurrence leave what they computed and take what the others did.
pub(super) struct Exchange {
    threads: usize,
    /// Numbers as bits, in two halves that take turns: a thread may be one meeting ahead.
    numbers: [Vec<AtomicU32>; 2],
    arrived: AtomicUsize,
    meeting: AtomicUsize,
    /// Whether a thread has died, so that nobody waits for it.
    broken: AtomicBool,
}

impl Exchange {
    pub fn new(threads: usize, len: usize) -> Self {
        let half = || std::iter::repeat_with(|| AtomicU32::new(0)).take(len).collect();
        Self {
            threads,
            numbers: [half(), half()],
            arrived: AtomicUsize::new(0),
            meeting: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Leaves the `own` columns of every row of `numbers` and fills in all others. `turn` counts the
    /// caller's meetings.
    pub fn meet(&self, numbers: &mut [f32], stride: usize, own: &Range<usize>, turn: usize) {
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
            self.meeting.store(turn + 1, Ordering::Release);
            return;
        }
        // Threads that run at the same time meet within a microsecond or so.
        let mut patience = 100;
        while self.meeting.load(Ordering::Acquire) != turn + 1 && !self.broken.load(Ordering::Relaxed) {
            if patience > 0 {
                patience -= 1;
                std::hint::spin_loop();
            } else {
                // The one that is awaited may wait for this very core.
                std::thread::yield_now();
            }
        }
    }

    /// Held by every thread.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }
}

/// Frees the others if its thread panics.
pub(super) struct Guard<'a>(&'a Exchange);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

//! How a level's work is shared among threads, and how the threads of one recurrence meet.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::lock::lock;

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

/// Rows that go through all steps before the next do: what is kept of them stays in a cache.
const PIECE_ROWS: usize = 64;

impl Share {
    /// The share in pieces to be done one after the other.
    pub fn pieces(&self) -> impl Iterator<Item = Self> + use<> {
        let Self { rows, blocks } = self.clone();
        let count = rows.len().div_ceil(PIECE_ROWS);
        // Of one size, so that none is a remnant, in whole groups.
        let size = rows.len().div_ceil(count.max(1)).next_multiple_of(super::product::GROUP);
        rows.clone()
            .step_by(size.max(1))
            .map(move |first| Self { rows: first..rows.end.min(first + size), blocks: blocks.clone() })
    }
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

/// Does every task, the first in this thread and each further one in its own, all at the same time. `None`, and
/// nothing is done, if the system has no thread to give.
pub(super) fn in_threads<T: Send, R: Send>(tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Option<Vec<R>> {
    let start = Start::default();
    let all = tasks.len();
    let begin = |task| start.together(all).then(|| work(task));
    let mut tasks = tasks.into_iter();
    let first = tasks.next()?;
    std::thread::scope(|scope| {
        let begin = &begin;
        let mut others = Vec::with_capacity(all);
        for task in tasks {
            match std::thread::Builder::new().spawn_scoped(scope, move || begin(task)) {
                Ok(other) => others.push(other),
                Err(error) => {
                    log::warn!("running in one thread: {error}");
                    start.give_up();
                    return None;
                }
            }
        }
        let mut results = vec![begin(first)?];
        for other in others {
            match other.join() {
                Ok(result) => results.push(result?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Some(results)
    })
}

/// Where threads wait for each other before they begin, asleep. Who wakes from it is given a core of its own; a
/// new thread often begins on that of its maker, and they share it for milliseconds.
#[derive(Default)]
struct Start {
    /// How many are there, and whether it comes to nothing.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Start {
    /// Waits for `all`; false if it comes to nothing.
    fn together(&self, all: usize) -> bool {
        let mut state = lock(&self.state);
        state.0 += 1;
        self.changed.notify_all();
        while state.0 < all && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.1
    }

    fn give_up(&self) {
        lock(&self.state).1 = true;
        self.changed.notify_all();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tasks_are_done_in_order() {
        assert_eq!(in_threads(vec![1, 2, 3], |x| x * 10), Some(vec![10, 20, 30]));
        assert_eq!(in_threads(Vec::<u8>::new(), |x| x), None);
    }

    #[test]
    fn who_waits_for_a_thread_that_never_comes_is_freed() {
        let start = Start::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| start.together(2));
            start.give_up();
            assert!(!waiting.join().unwrap());
        });
    }

    /// What a thread leaves reaches the others, meeting after meeting.
    #[test]
    fn threads_exchange_what_they_leave() {
        let exchange = Exchange::new(3, 6);
        let done = in_threads(vec![0, 1, 2], |thread: usize| {
            let mut numbers = [0.0f32; 6];
            for turn in 0..1000 {
                let own = thread * 2..thread * 2 + 2;
                let mine = (0..6).map(|at| f32::from(u16::try_from(turn * 6 + at).unwrap())).collect::<Vec<_>>();
                numbers[own.clone()].copy_from_slice(&mine[own.clone()]);
                exchange.meet(&mut numbers, 6, &own, turn);
                if numbers[..] != mine[..] {
                    return Some((turn, numbers));
                }
            }
            None
        });
        assert_eq!(done, Some(vec![None; 3]));
    }

    #[test]
    fn work_is_cut_where_it_is_worth_it() {
        let share = |steps, rows, blocks, of_row, threads| match (Work { steps, rows, blocks, of_row }).share(threads) {
            Shares::Caller => (0, 0),
            Shares::Rows(shares) => (shares.len(), 0),
            Shares::Blocks(shares) => (0, shares.len()),
        };
        let lstm = |hidden: usize| 4 * hidden * 2 * hidden;
        assert_eq!(share(100, 1, 4, lstm(64), 2), (0, 0), "a small one");
        assert_eq!(share(100, 1, 32, lstm(512), 2), (0, 2), "a large row");
        assert_eq!(share(1, 1, 32, lstm(512), 2), (0, 0), "one step");
        assert_eq!(share(50, 32, 16, lstm(256), 2), (2, 0), "many rows");
        assert_eq!(share(50, 32, 16, lstm(256), 1), (0, 0), "one thread");
    }
}

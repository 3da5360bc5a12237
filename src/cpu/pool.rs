//! Threads that are kept between runs, so that a run neither starts one nor allocates.
//!
//! They belong to the process. A run takes a team of them and returns it; two runs at the same time have a team
//! each. Between runs they sleep. A forked child has none of its parent's threads and starts its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use super::object_pool::ObjectPool;
use crate::base::lock::lock;
use crate::base::process::process;

/// How often a waiting thread checks its condition with a spin hint between two checks, ...
pub(super) const SPINS: u32 = 1_000;
/// ... and then with a yield between them, until it parks: some 20 and 200 µs. Waking a thread takes as long on
/// a virtual machine, and the next call of a stream often comes sooner.
pub(super) const MAX_POLLS: u32 = SPINS + 500;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The job of a thread.
struct Job {
    work: &'static Task<'static>,
    index: usize,
    caller: Thread,
}

/// What a thread and its caller exchange.
#[derive(Default)]
struct JobSlot {
    /// Whether there is a job that has not ended.
    busy: AtomicBool,
    job: Mutex<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A kept thread.
struct Helper {
    slot: Arc<JobSlot>,
    thread: Thread,
}

/// Threads that share a run with its caller.
#[derive(Default)]
struct Team {
    /// The process that the threads belong to.
    process: u32,
    helpers: Vec<Helper>,
}

static TEAMS: ObjectPool<Team> = ObjectPool::new();

/// Does `work(0)` in this thread and `work(1)` to `work(count - 1)` each in one of its own, all at the same time.
/// Returns false and does nothing if the system cannot start a thread.
///
/// # Panics
///
/// If one of them panics, when all have ended.
pub(super) fn in_parallel(count: usize, work: &Task<'_>) -> bool {
    let mut team = Team::take();
    let others = count.saturating_sub(1);
    while team.helpers.len() < others {
        match Helper::start() {
            Ok(helper) => team.helpers.push(helper),
            Err(error) => {
                log::warn!("running in one thread: {error}");
                TEAMS.put(team);
                return false;
            }
        }
    }
    // SAFETY: only the helpers use the reference, until they say that their job has ended. That is waited for below,
    // and between here and there nothing returns or unwinds: the caller's own part is caught.
    #[expect(unsafe_code, reason = "std has no scope for threads that are kept")]
    let kept = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(work) };
    for (helper, index) in team.helpers[..others].iter().zip(1..) {
        helper.call(Job { work: kept, index, caller: thread::current() });
    }
    let mut outcome = catch_unwind(AssertUnwindSafe(|| work(0)));
    for helper in &team.helpers[..others] {
        let ended = helper.wait();
        outcome = outcome.and(ended);
    }
    TEAMS.put(team);
    match outcome {
        Ok(()) => true,
        Err(panic) => resume_unwind(panic),
    }
}

impl Team {
    /// One of this process's own.
    fn take() -> Self {
        let process = process();
        loop {
            let team = TEAMS.take();
            if team.helpers.is_empty() {
                return Self { process, helpers: Vec::new() };
            }
            if team.process == process {
                return team;
            }
            // The parent's threads do not exist in this process: they can neither work nor be ended.
            std::mem::forget(team);
        }
    }
}

impl Helper {
    fn start() -> std::io::Result<Self> {
        let slot = Arc::new(JobSlot::default());
        let own = slot.clone();
        let handle = thread::Builder::new().name("gatefold".into()).spawn(move || own.run_jobs())?;
        Ok(Self { slot, thread: handle.thread().clone() })
    }

    fn call(&self, job: Job) {
        *lock(&self.slot.job) = Some(job);
        self.slot.busy.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Waits until the job has ended.
    fn wait(&self) -> thread::Result<()> {
        until(|| !self.slot.busy.load(Ordering::Acquire));
        lock(&self.slot.panic).take().map_or(Ok(()), Err)
    }
}

impl Drop for Helper {
    /// Unparked without a job, the thread ends.
    fn drop(&mut self) {
        self.slot.busy.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl JobSlot {
    fn run_jobs(&self) {
        loop {
            until(|| self.busy.load(Ordering::Acquire));
            let Some(Job { work, index, caller }) = lock(&self.job).take() else { return };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(index))) {
                *lock(&self.panic) = Some(panic);
            }
            self.busy.store(false, Ordering::Release);
            caller.unpark();
        }
    }
}

/// Waits, first spinning, then parked: the thread that makes the condition true unparks this one.
fn until(condition: impl Fn() -> bool) {
    let mut polls = 0;
    while !condition() {
        if polls < MAX_POLLS { pause(&mut polls, SPINS) } else { thread::park() }
    }
}

/// Called between two checks of something that another thread changes: a spin hint the first `spins` times, then a
/// yield, since the awaited thread may need this core.
pub(super) fn pause(polls: &mut u32, spins: u32) {
    *polls = polls.saturating_add(1);
    if *polls <= spins { std::hint::spin_loop() } else { thread::yield_now() }
}

#[cfg(all(test, unix))]
#[path = "../../tests/support/forked.rs"]
mod forked;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_part_is_done_once_time_after_time() {
        for count in [1, 2, 5, 3] {
            for _ in 0..200 {
                let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                assert!(in_parallel(count, &|index| {
                    done[index].fetch_add(1, Ordering::Relaxed);
                }));
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
            }
        }
    }

    /// Parts that wait for each other end only if they run at the same time.
    #[test]
    fn parts_run_at_the_same_time() {
        let arrived = AtomicUsize::new(0);
        assert!(in_parallel(4, &|_| {
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < 4 {
                thread::yield_now();
            }
        }));
    }

    /// As if a team could not be kept.
    #[test]
    fn a_dropped_team_ends() {
        let team = Team { process: process(), helpers: vec![Helper::start().unwrap(), Helper::start().unwrap()] };
        let slots: Vec<_> = team.helpers.iter().map(|helper| Arc::downgrade(&helper.slot)).collect();
        assert!(slots.iter().all(|slot| slot.strong_count() == 2));
        drop(team);
        let start = std::time::Instant::now();
        while slots.iter().any(|slot| slot.strong_count() > 0) {
            assert!(start.elapsed().as_secs() < 60, "the threads have not ended");
            thread::yield_now();
        }
    }

    /// Another thread of the parent holds one list of teams, or both, when the child is forked.
    #[cfg(unix)]
    #[test]
    fn a_child_runs_where_the_lists_are_held() {
        let all_done = || {
            let done: [AtomicUsize; 3] = Default::default();
            let kept = in_parallel(3, &|index| {
                done[index].fetch_add(1, Ordering::Relaxed);
            });
            kept && done.iter().all(|done| done.load(Ordering::Relaxed) == 1)
        };
        assert!(all_done());
        for count in [0, 1, 2] {
            let child = || (0..3).all(|_| all_done());
            let fork = || super::forked::forked(std::time::Duration::from_secs(60), child);
            // The child never drops the guards, so the locks stay held as if by another thread.
            assert_eq!(TEAMS.held(count, fork), super::forked::Ended::Right, "{count} lists are held");
        }
        assert!(all_done());
    }

    #[test]
    fn callers_do_not_meet() {
        thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || {
                    for _ in 0..100 {
                        let sum = AtomicUsize::new(0);
                        in_parallel(3, &|index| {
                            sum.fetch_add(caller * 10 + index, Ordering::Relaxed);
                        });
                        assert_eq!(sum.load(Ordering::Relaxed), caller * 30 + 3);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        for culprit in 0..3 {
            let ended = AtomicUsize::new(0);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                in_parallel(3, &|index| {
                    assert_ne!(index, culprit, "meant");
                    ended.fetch_add(1, Ordering::Relaxed);
                })
            }));
            assert!(caught.is_err());
            assert_eq!(ended.load(Ordering::Relaxed), 2, "the others end first");
            assert!(in_parallel(3, &|_| {}));
        }
    }
}

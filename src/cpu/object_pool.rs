//! A pool of reusable objects: memory and threads between two runs.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::pool::{MAX_POLLS, SPINS, pause};

/// Objects that one thread uses at a time and that are reused afterwards.
///
/// No call waits for a lock without a limit. In a forked child a lock that another thread of the parent held is never
/// released. Then the second list is used; if both are held, a new object is made and dropped after use.
#[derive(Debug)]
pub(crate) struct ObjectPool<T> {
    lists: [Mutex<Vec<T>>; 2],
}

impl<T> ObjectPool<T> {
    /// None yet.
    pub const fn new() -> Self {
        Self { lists: [Mutex::new(Vec::new()), Mutex::new(Vec::new())] }
    }

    /// Keeps `one` for the next.
    pub fn put(&self, one: T) {
        let mut polls = 0;
        while polls <= MAX_POLLS {
            if let Some(mut list) = self.lists.iter().find_map(free) {
                list.push(one);
                return;
            }
            pause(&mut polls, SPINS);
        }
    }
}

impl<T: Default> ObjectPool<T> {
    /// One that was kept, else a new one.
    pub fn take(&self) -> T {
        let mut polls = 0;
        while polls <= MAX_POLLS {
            let mut all_seen = true;
            for list in &self.lists {
                match free(list).map(|mut list| list.pop()) {
                    Some(Some(one)) => return one,
                    Some(None) => {}
                    None => all_seen = false,
                }
            }
            if all_seen {
                break;
            }
            pause(&mut polls, SPINS);
        }
        T::default()
    }
}

impl<T> Default for ObjectPool<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The list, unless a thread holds it. A thread that panicked has left it in a valid state.
fn free<T>(list: &Mutex<Vec<T>>) -> Option<MutexGuard<'_, Vec<T>>> {
    match list.try_lock() {
        Ok(list) => Some(list),
        Err(TryLockError::Poisoned(error)) => Some(PoisonError::into_inner(error)),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
impl<T> ObjectPool<T> {
    /// Holds the first `count` lists while `work` runs.
    pub fn held<R>(&self, count: usize, work: impl FnOnce() -> R) -> R {
        let _held: Vec<_> = self.lists[..count].iter().map(|list| list.lock()).collect();
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_was_kept_is_taken_again() {
        let spares = ObjectPool::new();
        for one in [1, 2, 3] {
            spares.put(one);
        }
        let mut taken = [spares.take(), spares.take(), spares.take()];
        taken.sort_unstable();
        assert_eq!((taken, spares.take()), ([1, 2, 3], 0));
    }

    /// As after a fork: one list or both are never released.
    #[test]
    fn a_held_list_stops_nothing() {
        let spares = ObjectPool::new();
        spares.put(1);
        let in_another = |count| {
            spares
                .held(count, || thread::scope(|scope| scope.spawn(|| (spares.take(), spares.put(2))).join()))
                .unwrap()
                .0
        };
        // The 1 is in the first list, which is locked; the 2 is stored in the second list and taken from there.
        assert_eq!([in_another(1), in_another(1)], [0, 2]);
        assert_eq!([in_another(2), in_another(2)], [0, 0]);
        let mut left = [spares.take(), spares.take(), spares.take()];
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2], "nothing was lost but what came while both were held");
    }

    /// Under contention no new object is made while one is free.
    #[test]
    fn threads_share_what_is_kept() {
        let spares: ObjectPool<Vec<u8>> = ObjectPool::new();
        for _ in 0..4 {
            spares.put(vec![7]);
        }
        let new = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let turn = |_: &i32| {
                            let one = spares.take();
                            let new = one.is_empty();
                            spares.put(vec![7]);
                            new
                        };
                        (0..10_000).filter(turn).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        // It is rare that a thread is suspended while it holds a list, for longer than the others wait.
        assert!(new <= 40, "{new} of 40,000 were made anew");
    }
}

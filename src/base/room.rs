//! Checks that a large allocation will succeed, so that a failure is an error and does not end the process.

use std::cell::Cell;

use crate::base::error::{Error, Result};

/// Allocations of fewer bytes are not checked.
const LARGE: u64 = 64 << 20;

thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is making an allocation that it can do without. A program whose global allocator ends the process
/// when memory runs out can ask this first and let such an allocation fail.
#[must_use]
pub fn asking_for_memory() -> bool {
    ASKING.get()
}

/// Runs `ask`, which continues if its allocations fail.
pub(crate) fn asking<R>(ask: impl FnOnce() -> R) -> R {
    let before = ASKING.replace(true);
    let answer = ask();
    ASKING.set(before);
    answer
}

/// [`Error::TooLarge`] if the system has no memory for `numbers` of `size` bytes. Success is no guarantee on a system
/// that overcommits memory.
pub(crate) fn room(what: impl FnOnce() -> String, numbers: usize, size: usize) -> Result<()> {
    let needed = (numbers as u64).saturating_mul(size as u64);
    let fits = |bytes: u64| {
        asking(|| usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok()))
    };
    if needed < LARGE || fits(needed) {
        return Ok(());
    }
    let limit = std::iter::successors(Some(needed / 2), |bytes| Some(bytes / 2)).find(|&bytes| fits(bytes));
    Err(Error::TooLarge {
        what: what(),
        needed,
        limit: limit.unwrap_or_default(),
        limit_name: "this machine's memory in bytes, approximately".into(),
    })
}

//! Checks that a large allocation will succeed, so that it becomes an error instead of the end of the process.

use std::cell::Cell;

use crate::base::error::{Error, Result};

/// Less than this is not asked about.
const LARGE: u64 = 64 << 20;

thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread asks for memory that it can do without: for a program whose allocator ends it where there is none.
#[must_use]
pub fn asking_for_memory() -> bool {
    ASKING.get()
}

/// Does `ask`, which gets on without the memory that it asks for.
pub(crate) fn asking<R>(ask: impl FnOnce() -> R) -> R {
    let before = ASKING.replace(true);
    let answer = ask();
    ASKING.set(before);
    answer
}

/// [`Error::TooLarge`] if the system has no room for `numbers` of `size` bytes. It promises no more than the
/// system does, which may overcommit memory.
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
        limit_name: "this machine's memory in bytes, nearly".into(),
    })
}

//! Whether the host has memory for something large, asked before it is taken: a `Vec` that gets none ends the
//! process.

use crate::error::{Error, Result};

/// Less than this is not asked about.
const LARGE: u64 = 64 << 20;

/// [`Error::TooLarge`] if the system has no room for `numbers` of `size` bytes. It promises no more than the
/// system does, which may lend memory that it does not have.
pub(crate) fn room(what: impl FnOnce() -> String, numbers: usize, size: usize) -> Result<()> {
    let needed = (numbers as u64).saturating_mul(size as u64);
    let fits = |bytes: u64| usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
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

//! The identity of this process.

/// The number of this process: a forked child has another, its parent's memory, and none of its parent's threads but the
/// one that forked. 0 where processes do not fork.
pub(crate) fn process() -> u32 {
    if cfg!(unix) { std::process::id() } else { 0 }
}

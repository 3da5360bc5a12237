//! What workgroups that wait for each other share.

use super::BufferId;

/// What workgroups of a `resident` dispatch hand each other. Cleared before a run; its first words are read after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// Its buffer.
    pub buffer: BufferId,
    /// Workgroups that finish a run without a time-out, of all dispatches together.
    pub workgroups: u32,
}

impl Exchange {
    /// Words before the first h (`shaders/rungs/resident.wgsl`).
    pub const HEAD: u32 = 64;
    /// Word that is 0 unless an invocation timed out.
    pub const TIMED_OUT: usize = 0;
    /// Word that counts the workgroups that did all their steps.
    pub const FINISHED: usize = 1;
    /// Bytes that the host reads after a run.
    pub const READ: u64 = 8;
}

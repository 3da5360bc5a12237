//! The options of a pool.

use std::path::PathBuf;

use crate::base::error::{Error, Result};

/// Most streams that a pool can number.
pub(super) const MOST_STREAMS: usize = 1 << 30;

/// How many streams a pool holds, what it keeps of them, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// States that the device has memory for before the pool grows; at least 1.
    pub capacity: usize,
    /// Most open streams.
    pub limit: usize,
    /// How many earlier states each stream keeps, for [`StreamPool::rewind`](crate::StreamPool::rewind).
    pub keep_last: usize,
    /// Most bytes of states and token ids in the [prefix memory](crate::StreamPool::open_with_prefix).
    pub prefix_bytes: u64,
    /// Where states lie that are not used; on the device like all others if there are no such options.
    pub paging: Option<PagingOptions>,
}

/// Memory for more states than the device has: those used longest ago move to the host's memory and from there to a file, and come
/// back when a stream needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagingOptions {
    /// Most bytes of states on the device; at least one state.
    pub device_bytes: u64,
    /// Most bytes of states in the host's memory.
    pub host_bytes: u64,
    /// Most bytes of states in the file.
    pub file_bytes: u64,
    /// The file, which must not exist unless it is a device; it is removed with the pool. Without one there is only the host's memory.
    pub file: Option<PathBuf>,
}

impl Default for PoolOptions {
    /// One stream before the pool grows, with no other limit than the device's; nothing else is kept, and nothing moves.
    fn default() -> Self {
        Self { capacity: 1, limit: MOST_STREAMS, keep_last: 0, prefix_bytes: 0, paging: None }
    }
}

impl PoolOptions {
    /// Most states of `state_bytes` on a device that can hold `on_device` of them, in the host's memory and in the file; an error for
    /// options that contradict each other.
    pub(super) fn most_rows(&self, state_bytes: u64, on_device: usize) -> Result<[usize; 3]> {
        let refused = |option: &str, expected: String, got: u64| {
            Err(Error::Option { option: option.into(), expected, got: got.to_string() })
        };
        let Some(paging) = &self.paging else { return Ok([on_device, 0, 0]) };
        if paging.device_bytes < state_bytes {
            return refused("device_bytes", format!("at least {state_bytes}, those of a state"), paging.device_bytes);
        }
        if paging.file.is_none() && paging.file_bytes > 0 {
            return refused("file_bytes", "0 without a file".into(), paging.file_bytes);
        }
        let rows = |bytes: u64| usize::try_from(bytes / state_bytes).unwrap_or(usize::MAX).min(MOST_STREAMS);
        Ok([rows(paging.device_bytes).min(on_device), rows(paging.host_bytes), rows(paging.file_bytes)])
    }
}

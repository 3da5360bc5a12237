//! The requests to an engine, and its results.

use std::sync::Arc;
use std::time::Duration;

use super::state::State;
use crate::adapter::DeviceInfo;

/// How the caller of a run waits for the GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// The calling thread blocks.
    Block,
    /// The future is pending until the GPU has finished.
    Await,
}

/// What a caller wants in addition to the output.
#[derive(Clone, Copy, Default)]
pub(crate) struct RunRequest {
    /// The output of every stage, not only of the last.
    pub trace: bool,
    /// The time spent on the GPU.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no GPU time"))]
    pub timestamps: bool,
}

/// The results of an engine, time-major.
#[derive(Default)]
pub(crate) struct Raw {
    pub stages: Vec<Vec<f32>>,
    pub state: State,
    pub gpu_time: Option<Duration>,
    /// Time that the host spent recording and submitting.
    pub encoding: Option<Duration>,
    /// Whether a `resident` run timed out, so that its numbers are not valid.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no workgroups"))]
    pub timed_out: bool,
    /// Where it ran, if not on the session's device.
    pub fallback: Option<Arc<DeviceInfo>>,
}

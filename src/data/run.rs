//! What an engine is asked for, and what it hands back.

use std::sync::Arc;
use std::time::Duration;

use super::state::State;
use crate::adapter::DeviceInfo;

/// What a caller wants beside the answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wish {
    /// The output of every stage, not only of the last.
    pub trace: bool,
    /// The time spent on the GPU.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no GPU time"))]
    pub timestamps: bool,
}

/// What an engine hands back, time-major.
#[derive(Default)]
pub(crate) struct Raw {
    pub stages: Vec<Vec<f32>>,
    pub state: State,
    pub gpu_time: Option<Duration>,
    /// Time that the host spent recording and submitting.
    pub encoding: Option<Duration>,
    /// Whether workgroups waited for each other in vain, so that nothing here is right.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no workgroups"))]
    pub lost_patience: bool,
    /// Where it ran, if not on the session's device.
    pub aside: Option<Arc<DeviceInfo>>,
}

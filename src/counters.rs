//! What a session has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a session has done since it was made; runs through pools and encoders included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Runs, the recorded ones included.
    pub runs: u64,
    /// Of the runs, those of a GPU's session that were done on the CPU ([`Session::prefers_cpu`](crate::Session::prefers_cpu)).
    pub runs_on_cpu: u64,
    /// Timesteps × batch rows, padding rows included.
    pub steps: u64,
    /// Dispatches on the device; 0 on the CPU.
    pub dispatches: u64,
    /// Bytes of input, states and masks written to the device.
    pub bytes_to_device: u64,
    /// Bytes of output and states read back.
    pub bytes_from_device: u64,
    /// Plans that were prepared; no more are prepared for sizes that have been run before.
    pub plans: u64,
    /// Runs of the strategy `resident` that timed out and were repeated one step at a time.
    pub fall_backs: u64,
    /// Whether the device is known to be lost.
    pub device_lost: bool,
}

/// [`Counters`] that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    runs: AtomicU64,
    runs_on_cpu: AtomicU64,
    steps: AtomicU64,
    dispatches: AtomicU64,
    bytes_to_device: AtomicU64,
    bytes_from_device: AtomicU64,
    plans: AtomicU64,
    fall_backs: AtomicU64,
}

impl Meter {
    /// A run of T `steps` and B `batch` rows.
    pub fn run(&self, steps: usize, batch: usize, dispatches: u64) {
        self.runs.fetch_add(1, Relaxed);
        self.steps.fetch_add(steps as u64 * batch as u64, Relaxed);
        self.dispatches.fetch_add(dispatches, Relaxed);
    }

    pub fn read(&self, device_lost: bool) -> Counters {
        Counters {
            runs: self.runs.load(Relaxed),
            runs_on_cpu: self.runs_on_cpu.load(Relaxed),
            steps: self.steps.load(Relaxed),
            dispatches: self.dispatches.load(Relaxed),
            bytes_to_device: self.bytes_to_device.load(Relaxed),
            bytes_from_device: self.bytes_from_device.load(Relaxed),
            plans: self.plans.load(Relaxed),
            fall_backs: self.fall_backs.load(Relaxed),
            device_lost,
        }
    }

    /// Of the runs counted, one of a GPU's session was done on the CPU.
    pub fn on_cpu(&self) {
        self.runs_on_cpu.fetch_add(1, Relaxed);
    }
}

#[cfg(feature = "gpu")]
impl Meter {
    pub fn sent(&self, bytes: u64) {
        self.bytes_to_device.fetch_add(bytes, Relaxed);
    }

    pub fn fetched(&self, bytes: u64) {
        self.bytes_from_device.fetch_add(bytes, Relaxed);
    }

    pub fn plan(&self) {
        self.plans.fetch_add(1, Relaxed);
    }

    pub fn fall_back(&self) {
        self.fall_backs.fetch_add(1, Relaxed);
    }
}

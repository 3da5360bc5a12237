//! The only code that uses wgpu. It decides nothing: the plan does.

mod adapters;
mod bandwidth;
mod banks;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod browser;
mod context;
mod decode;
mod embed;
mod engine;
mod matrix;
pub(crate) mod pipeline_cache;
mod probe;
mod readback;
mod slots;
mod staging;
mod train;
mod workspace;

pub use adapters::AdapterReport;
pub(crate) use adapters::{info, open, reports};
pub(crate) use bandwidth::bandwidth;
pub(crate) use context::Context;
pub(crate) use decode::{ChooserInput, Lister, ListerInput};
pub(crate) use embed::DeviceRun;
pub(crate) use engine::{GpuEngine, Start};
pub(crate) use matrix::matrix_units;
pub(crate) use readback::Pending;
pub(crate) use slots::Slots;
pub(crate) use train::{GpuTrainer, SharedWeights, StepResult, TrainBatch};

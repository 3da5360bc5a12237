//! Recurrent networks on any GPU that wgpu reaches.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod classify;
pub mod compare;
mod device;
mod error;
pub mod formats;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "sentiment")]
pub mod models;
pub mod network;
pub mod plan;
pub mod reference;
mod session;
mod tensors;
mod text;
mod verify;

pub use classify::{Classifier, Prediction};
pub use device::{Device, DeviceChoice, DeviceInfo, DeviceKind};
pub use error::{Error, Result};
#[cfg(feature = "gpu")]
pub use gpu::AdapterReport;
pub use network::{Network, NetworkSpec, Tensor};
pub use plan::{Plan, PlanOptions};
pub use session::{Output, Session, Timing, Trace};
pub use tensors::{Input, LayerState, State};
pub use text::TextVectorizer;
pub use verify::{Check, RandomInput, Verification, verify};

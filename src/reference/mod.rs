//! The CPU twin of every kernel, plain on purpose: it is the specification.
//!
//! File stems equal those in `shaders/`. Everything is generic over `f32` and `f64`; the
//! `f64` instance is the oracle of every test, the `f32` instance is the CPU device.

mod activations;
mod embedding;
mod forward;
mod linear;
mod lstm_step;
mod real;
mod softmax;

pub use activations::{activate, sigmoid};
pub use embedding::embedding;
pub use forward::{Forward, Reference};
pub use linear::linear;
pub use lstm_step::{StepShape, lstm_step};
pub use real::Real;
pub use softmax::softmax;

//! The CPU device: what [`reference`](crate::reference) specifies, as fast as this CPU can.
//!
//! - Weights are packed once, in f32, f16 or 8-bit integers, so that a kernel reads them from first to last
//!   ([`packed`]).
//! - One kernel multiplies a block of them with one row or a few ([`product`]); it serves the projection of
//!   all inputs, the steps, dense layers and convolutions.
//! - The step of a cell follows in registers ([`cells`], [`functions`]).
//! - Large batches are cut into rows, large single rows into units ([`threads`]); small ones stay in the
//!   caller's thread.
//!
//! Results do not depend on the other rows of the batch, nor on the number of threads.

mod attention;
mod cells;
mod engine;
mod functions;
mod level;
mod matrix;
mod normalized;
mod object_pool;
mod options;
mod packed;
mod pool;
mod product;
mod scan;
mod simd;
mod slstm;
mod threads;
mod train;
mod worker;

pub(crate) use engine::CpuEngine;
pub(crate) use object_pool::ObjectPool;
pub(crate) use options::Cpu;
pub use options::{CpuOptions, InstructionSet};
pub(crate) use train::{TrainMemory, TrainStages};

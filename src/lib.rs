//! Recurrent networks (LSTM, GRU, plain RNN) on any GPU that wgpu reaches: Vulkan, Metal, DX12 and GL.
//!
//! ```
//! use gatefold::{Device, DeviceChoice, Input, Network, Session};
//!
//! let network = Network::load("models/sentiment/sentiment.safetensors")?;
//! let device = Device::open(&DeviceChoice::Auto)?; // the best GPU, else this CPU
//! let session = Session::new(&device, &network)?;
//! let output = session.run(Input::tokens(&[12, 7, 104], [1, 3]), None)?; // [B, T]
//! println!("{:?} {:?} on {}", output.shape, output.values, output.device);
//! # assert_eq!(output.shape, [1, 2]);
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # Main types
//!
//! - [`Network`]: layers and weights, read from a safetensors, Keras or ONNX file ([`Network::load`]).
//! - [`Device`]: a GPU, one that the application owns (`Device::from_wgpu`), or this CPU.
//! - [`Session`]: a network on a device. [`Session::run`] takes an [`Input`] and a [`State`] and
//!   gives an [`Output`] with the next state. [`Classifier`] adds a vocabulary and labels, [`Scorer`] runs sequences of any lengths.
//! - [`StreamPool`]: many streams of one network, whose states stay on the device; a
//!   [queue](streams::StreamQueue) in front of it, and `encode` into an application's own submission.
//! - [`generate`]: tokens after a prompt, greedy, drawn or by beam search, on top of a pool.
//! - [`verify()`]: compares the device with the f64 reference, stage by stage.
//!
//! # How it is built
//!
//! Data flows in one direction:
//!
//! ```text
//! file ── formats ──► Network ── plan ──► Plan ──► gpu        wgpu: pipelines, buffers, readback
//!                     (network) │         (pure)     │
//!                               └──────────────► cpu └────► Session ──► Output
//! ```
//!
//! | where | what |
//! | --- | --- |
//! | `shaders/` | WGSL, one file per layer's kernel; those of recurrences are put together from `cells/` (what a step computes), `rungs/` (how steps are run) and `weights/` (how weights are stored); sizes and switches are `override` constants |
//! | `base` | errors, numbers, [`files`], memory; uses no other folder |
//! | `data` | inputs, states, requests to an engine and its results |
//! | [`network`] | what a network is: layers, options, weights, validation; the [`network::Stage`]s that it is lowered to |
//! | [`formats`] | files to networks and back |
//! | `plan` | network, sizes and limits to buffers and dispatches, with reasons ([`Plan`]); the table of kernels; packed weights |
//! | `host` | runs stages one after the other, for the reference and the CPU device |
//! | `adapter`, `device` | names of devices and the choice of one; opened devices |
//! | `gpu` | the only module that uses wgpu; it carries out the plan |
//! | `cpu` | the CPU device: packed weights, vector kernels chosen at run time, threads |
//! | `reference` | the plain CPU version of every kernel in f32 and f64, which specifies it; file stems as in `shaders/` |
//! | [`compare`] | one comparator, one table of tolerances |
//! | `nearest` | past states, found by cosine ([`StateIndex`]) |
//! | [`generate`] | sequence to sequence, and generation |
//! | [`streams`] | many streams of one network, each with its state on the device |
//! | [`tuning`] | measuring of strategies on an adapter (`tune`), and the stored results (`measured`) |
//! | [`unstable`] | the public access to the internals of `plan` and `reference`, which any release may change |
//!
//! A recurrent level becomes one tiled matrix product for W·x + b of all timesteps (`linear.wgsl`,
//! cut into chunks of time where it would exceed a budget), then the timesteps, which fuse the gate
//! products and the cell update: one dispatch for each (`rungs/step.wgsl`, `tile.wgsl`; two with a
//! projection, or where a GRU resets its state before the product), one for many
//! (`sequence.wgsl`), one for all across workgroups (`resident.wgsl`), or stacked levels along the
//! diagonal. The [`Strategy`] is the plan's choice. Options are pipeline constants: an option
//! that is off costs nothing. All dispatches of a run are recorded into few submissions, each short enough
//! for an operating system's watchdog.
//!
//! # Shapes
//!
//! T timesteps, B batch rows, I input, H hidden, D directions, L layers, V vocabulary. Arrays are
//! row-major and time-major, `[T, B, I]`; with `batch_first` the caller's are `[B, T, I]`.
//! Gates are in PyTorch's order, i, f, g, o and r, z, n.
//!
//! # Processes that fork
//!
//! A forked child (Python's multiprocessing, servers that fork their workers) can continue to use networks and sessions on
//! the CPU device, even if other threads of its parent were running them: it starts threads of its own and gives the
//! same bits. A GPU belongs to the process that opened it, and a [queue](streams::StreamQueue) to the one that made it:
//! in a child a run returns [`Error::DeviceLost`] and a request [`Error::QueueClosed`], so a child opens its own. A
//! [`StreamPool`] can be used in a child unless another thread of the parent was in a call of it at the fork.
//!
//! # Browsers
//!
//! On `wasm32-unknown-unknown` a call that would wait for a GPU is [`Error::Unsupported`], which names the call to await instead,
//! such as [`Session::run_async`]; on the CPU device every call works. Files are read from bytes ([`Network::from_bytes`]).
//!
//! # Features
//!
//! - `gpu` (default): GPUs through wgpu. Without it there is only the CPU device.
//! - `keras`: reads `.keras`, `.weights.h5` and the legacy `.h5`.
//! - `onnx`: reads `.onnx`.
//! - `ndarray`: inputs, outputs and tensors as arrays of that crate.
//! - `tracing`: spans of that crate around loading, planning, runs and training steps.
//! - `sentiment`: `models::sentiment()`, the classifier that the repository ships.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod adapter;
mod alignment;
#[cfg(feature = "ndarray")]
mod arrays;
mod base;
mod classify;
pub mod compare;
mod counters;
mod cpu;
mod data;
mod device;
pub mod formats;
pub mod generate;
#[cfg_attr(not(feature = "gpu"), path = "gpu/stub.rs")]
mod gpu;
mod host;
mod measured;
#[cfg(feature = "sentiment")]
pub mod models;
mod nearest;
pub mod network;
mod plan;
mod reference;
mod score;
mod session;
pub mod streams;
mod text;
pub mod train;
mod tune;
pub mod unstable;
mod verify;

/// Choices that were measured: which strategy is fastest for a network on this adapter.
pub mod tuning {
    pub use crate::measured::{Tuned, Tuning};
    pub use crate::tune::tune;
}

pub use adapter::{DeviceChoice, DeviceInfo, DeviceKind, DeviceOptions};
pub use alignment::Alignment;
pub use base::error::{Error, Result};
pub use base::files;
pub use base::printable::printable;
#[doc(hidden)]
pub use base::room::asking_for_memory;
pub use classify::{Classifier, Prediction};
pub use counters::Counters;
pub use cpu::{CpuOptions, InstructionSet};
pub use data::banks::{Bank, BankPart};
pub use data::file_state::FileStateTensor;
pub use data::input::Input;
pub use data::named_input::NamedInput;
pub use data::state::{LayerState, State, StatePart, StateShape};
pub use device::Device;
pub use generate::{BeamOptions, GenerateOptions, Sampling, Sequence};
#[cfg(feature = "gpu")]
pub use gpu::AdapterReport;
pub use nearest::{NearState, StateIndex};
pub use network::{Network, NetworkSpec, Tensor, WeightFormat};
pub use plan::{
    Arithmetic, Choice, MatrixSide, MatrixUnits, Plan, PlanLimits, PlanOptions, RunShape, Strategy, Traffic,
};
pub use score::{ScoreInput, ScoreOutput, Scorer};
pub use session::{NamedOutput, Output, Session, Timing, Trace};
pub use streams::{Advanced, PagingOptions, PoolOptions, StreamId, StreamPool};
pub use text::TextVectorizer;
pub use verify::{Check, RandomInput, Verdict, Verification, verify, verify_async};
#[cfg(feature = "gpu")]
pub use wgpu;

/// The code in the README and in `docs/` runs as doctests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/library.md")]
    struct Library;
    #[doc = include_str!("../docs/streams.md")]
    struct Streams;
    #[doc = include_str!("../docs/training.md")]
    struct Training;
    #[doc = include_str!("../docs/generation.md")]
    struct Generation;
}

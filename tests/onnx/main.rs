//! ONNX files; the CPU device is enough. `tests/goldens/generate_onnx_nodes.py` made them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

#[path = "../support/mod.rs"]
mod support;

mod axes;
mod damage;
mod dropout;
mod dtln;
mod external;
mod files;
mod grid;
mod misread;
mod models;
mod mutations;
mod refusals;
mod states;
mod voice;
mod wire;

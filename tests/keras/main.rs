//! Files that Keras saved; the CPU device is enough. `tests/goldens/generate_keras_files.py` made them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod changes;
mod dtln;
mod misread;
mod models;
mod mutations;
mod refusals;
mod survey;
mod text;
mod training;

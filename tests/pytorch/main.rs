//! Networks that PyTorch ran in f64, from files as PyTorch writes them. The CPU device is enough;
//! `tests/goldens/generate_pytorch_grid.py` made them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

#[path = "../support/mod.rs"]
mod support;

mod amp;
mod files;
mod grid;
mod mutations;

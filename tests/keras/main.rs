//! Files that Keras saved; the CPU device is enough. `tests/goldens/generate_keras_files.py` made them.

#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod dtln;
mod models;
mod mutations;
mod refusals;

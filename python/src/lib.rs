//! The extension module of the Python package `gatefold_rnn`: gatefold's types for Python and NumPy.
//!
//! `../package/gatefold_rnn/` has the rest of the package in Python, and the types of this module in `_native.pyi`.
#![expect(clippy::needless_pass_by_value, reason = "PyO3 gives functions their arguments by value")]

mod arrays;
mod classifier;
mod dataset;
mod device;
mod errors;
mod network;
mod scorer;
mod state;
mod streams;
mod trainer;
mod verify;

/// What `gatefold_rnn/__init__.py` takes over.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::classifier::Classifier;
    #[pymodule_export]
    use crate::dataset::Dataset;
    #[pymodule_export]
    use crate::device::devices;
    #[pymodule_export]
    use crate::network::{Network, build, load, vocabulary};
    #[pymodule_export]
    use crate::scorer::SequenceScorer;
    #[pymodule_export]
    use crate::state::State;
    #[pymodule_export]
    use crate::streams::{Stream, Streams};
    #[pymodule_export]
    use crate::trainer::{Trainer, default_options, optimizer};
    #[pymodule_export]
    use crate::verify::verify;
}

//! ONNX files; the CPU device is enough. `tests/goldens/generate_onnx_nodes.py` made them.

#[path = "../support/mod.rs"]
mod support;

mod grid;

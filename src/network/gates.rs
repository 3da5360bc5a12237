//! The order of the four gates inside gatefold: PyTorch's, i, f, g, o.
//!
//! A `[4H, ..]` tensor holds four blocks of H rows in this order. Keras writes the same
//! order transposed; a reader of a format with another order (ONNX: i, o, f, c) converts
//! once, when the file is read.

/// Block of the input gate i.
pub const INPUT: usize = 0;
/// Block of the forget gate f.
pub const FORGET: usize = 1;
/// Block of the candidate g.
pub const CANDIDATE: usize = 2;
/// Block of the output gate o.
pub const OUTPUT: usize = 3;
/// Number of gates.
pub const COUNT: usize = 4;

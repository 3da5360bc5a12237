//! The order of the gates inside gatefold: PyTorch's, i, f, g, o of an LSTM and r, z, n of a GRU.
//!
//! A `[G*H, ..]` tensor holds G blocks of H rows in this order. Keras writes an LSTM's in the
//! same order, transposed; a reader of a format with another order (ONNX: i, o, f, c) converts
//! once, when the file is read.

/// Block of an LSTM's input gate i.
pub const INPUT: usize = 0;
/// Block of an LSTM's forget gate f.
pub const FORGET: usize = 1;
/// Block of an LSTM's candidate g.
pub const CANDIDATE: usize = 2;
/// Block of an LSTM's output gate o.
pub const OUTPUT: usize = 3;

/// Block of a GRU's reset gate r.
pub const RESET: usize = 0;
/// Block of a GRU's update gate z.
pub const UPDATE: usize = 1;
/// Block of a GRU's candidate n.
pub const NEW: usize = 2;

/// Rows of `weight_p` `[3H]`: the peephole of i, of f and of o.
pub const PEEPHOLES: usize = 3;
/// Rows of an SRU's `weight_p` `[2H]`: the peephole of f and of r.
pub const SRU_PEEPHOLES: usize = 2;

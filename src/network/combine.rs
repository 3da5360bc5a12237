//! How the outputs of stages, or of two directions, are combined into one.

use super::{Join, MergeMode};
use crate::base::Real;

/// How a value is combined with what is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// The value replaces it.
    Copy,
    /// Sum.
    Add,
    /// The value is taken off.
    Sub,
    /// Product.
    Mul,
    /// The larger of the two.
    Max,
}

/// A block of columns of a row-major matrix.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Width of a row.
    pub stride: usize,
    /// First column.
    pub offset: usize,
}

/// How the directions of a bidirectional layer are combined, and what the result is multiplied by.
pub(crate) fn merging(mode: MergeMode) -> (Combine, f32) {
    match mode {
        MergeMode::Concat => (Combine::Copy, 1.0),
        MergeMode::Sum => (Combine::Add, 1.0),
        MergeMode::Ave => (Combine::Add, 0.5),
        MergeMode::Mul => (Combine::Mul, 1.0),
    }
}

/// How joined outputs are combined, and what the result is multiplied by.
pub(crate) fn joining(join: Join, inputs: usize) -> (Combine, f32) {
    match join {
        Join::Concat => (Combine::Copy, 1.0),
        Join::Add => (Combine::Add, 1.0),
        Join::Sub => (Combine::Sub, 1.0),
        Join::Mul => (Combine::Mul, 1.0),
        Join::Max => (Combine::Max, 1.0),
        Join::Average => (Combine::Add, f32::count(inputs).recip()),
    }
}

//! Twin of `shaders/combine.wgsl`.

use super::Real;

/// How a value meets what is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// It takes the place.
    Copy,
    /// Sum.
    Add,
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

/// `output[r] = (output[r] op x[r]) * scale` over `width` columns of every row.
pub fn combine<F: Real>(how: Combine, scale: f32, width: usize, x: &[F], from: Columns, output: &mut [F], to: Columns) {
    for (x, output) in x.chunks_exact(from.stride).zip(output.chunks_exact_mut(to.stride)) {
        for (&x, output) in x[from.offset..][..width].iter().zip(&mut output[to.offset..][..width]) {
            let joined = match how {
                Combine::Copy => x,
                Combine::Add => *output + x,
                Combine::Mul => *output * x,
                Combine::Max if x > *output => x,
                Combine::Max => *output,
            };
            *output = joined * F::from_f32(scale);
        }
    }
}

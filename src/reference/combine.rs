//! Twin of `shaders/combine.wgsl`.

use super::Real;
use crate::network::{Columns, Combine};

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

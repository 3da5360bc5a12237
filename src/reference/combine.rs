//! Reference implementation of `shaders/combine.wgsl`.

use super::Real;
use crate::network::{Columns, Combine};

/// `output[r] = (output[r] op x[r]) * scale` over `width` columns of every row.
pub fn combine<F: Real>(how: Combine, scale: f32, width: usize, x: &[F], from: Columns, output: &mut [F], to: Columns) {
    for (x, output) in x.chunks_exact(from.stride).zip(output.chunks_exact_mut(to.stride)) {
        for (&x, output) in x[from.offset..][..width].iter().zip(&mut output[to.offset..][..width]) {
            let joined = match how {
                Combine::Copy => x,
                Combine::Add => *output + x,
                Combine::Sub => *output - x,
                Combine::Mul => *output * x,
                Combine::Max if x > *output => x,
                Combine::Max => *output,
            };
            *output = joined * F::from_f32(scale);
        }
    }
}

/// The gradients of parts that [`combine`] met one after the other, the first by [`Combine::Copy`], the others by `how`,
/// the last with `scale`; for the gradient `d_output` of the result. All are contiguous and of one length. Of equals the
/// first is the largest.
pub fn combine_backward<F: Real>(how: Combine, scale: f32, parts: &[Vec<F>], d_output: &[F]) -> Vec<Vec<F>> {
    let mut gradients = vec![Vec::with_capacity(d_output.len()); parts.len()];
    for (at, &d) in d_output.iter().enumerate() {
        let d = d * F::from_f32(scale);
        let winner = (1..parts.len()).fold(0, |best, part| if parts[part][at] > parts[best][at] { part } else { best });
        for (part, gradient) in gradients.iter_mut().enumerate() {
            let others = parts.iter().enumerate().filter(|&(other, _)| other != part);
            gradient.push(match how {
                Combine::Add => d,
                Combine::Sub if part == 0 => d,
                Combine::Sub => -d,
                Combine::Mul => others.fold(d, |product, (_, other)| product * other[at]),
                Combine::Max if part == winner => d,
                Combine::Copy if part + 1 == parts.len() => d,
                Combine::Max | Combine::Copy => F::default(),
            });
        }
    }
    gradients
}

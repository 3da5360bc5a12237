//! Reference implementation of `shaders/time_softmax.wgsl`.

use super::Real;
use crate::base::bits;

/// Softmax of every column of `x` `[T, B*N]` over time; the column's maximum is taken off first.
///
/// With a `mask` (bits `[T, B]`) a step that is off has the share 0; all have it where none is on.
pub fn time_softmax<F: Real>(x: &[F], batch: usize, features: usize, mask: Option<&[u32]>) -> Vec<F> {
    let columns = batch * features;
    let steps = x.len() / columns;
    let mut output = vec![F::default(); x.len()];
    for column in 0..columns {
        let on = |t: &usize| mask.is_none_or(|mask| mask[t * batch + column / features] & bits::VALID != 0);
        let valid = || (0..steps).filter(on);
        let Some(first) = valid().next() else { continue };
        let max = valid().fold(x[first * columns + column], |max, t| {
            let x = x[t * columns + column];
            if x > max { x } else { max }
        });
        let mut sum = F::default();
        for t in valid() {
            let share = (x[t * columns + column] - max).exp();
            output[t * columns + column] = share;
            sum += share;
        }
        for t in valid() {
            output[t * columns + column] = output[t * columns + column] / sum;
        }
    }
    output
}

/// The gradient of the input of [`time_softmax`] from its output `y` and the gradient of that:
/// `y (d_output - Σ y d_output)` in every column. What is masked has a share of 0, and so no gradient.
pub fn time_softmax_backward<F: Real>(y: &[F], columns: usize, d_output: &[F]) -> Vec<F> {
    let mut means = vec![F::default(); columns];
    for (y, d) in y.chunks_exact(columns).zip(d_output.chunks_exact(columns)) {
        means.iter_mut().zip(y.iter().zip(d)).for_each(|(mean, (&y, &d))| *mean += y * d);
    }
    let column = (0..columns).cycle();
    y.iter().zip(d_output).zip(column).map(|((&y, &d), column)| y * (d - means[column])).collect()
}

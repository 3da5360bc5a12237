//! Reference implementation of `shaders/softmax.wgsl`.

use super::Real;
use super::linear::dot;

/// Softmax of every row of `x` `[M, N]`, or its logarithm, after what `output` holds; the row's maximum is taken off first.
pub fn softmax<F: Real>(x: &[F], features: usize, log: bool, output: &mut Vec<F>) {
    output.reserve(x.len());
    for row in x.chunks_exact(features) {
        let max = row.iter().copied().fold(row[0], |max, x| if x > max { x } else { max });
        let start = output.len();
        output.extend(row.iter().map(|&x| (x - max).exp()));
        let mut sum = F::default();
        for &x in &output[start..] {
            sum += x;
        }
        if log {
            let rest = max + sum.ln();
            output.truncate(start);
            output.extend(row.iter().map(|&x| x - rest));
            continue;
        }
        for x in &mut output[start..] {
            *x = *x / sum;
        }
    }
}

/// The gradient of the input of [`softmax`] from its output `y` `[M, N]` and the gradient `d_output` of that:
/// `y (d_output - y·d_output)` for every row; of the logarithm, `d_output - exp(y) Σ d_output`.
pub fn softmax_backward<F: Real>(y: &[F], features: usize, log: bool, d_output: &[F]) -> Vec<F> {
    let mut d_x = Vec::with_capacity(y.len());
    for (y, d_row) in y.chunks_exact(features).zip(d_output.chunks_exact(features)) {
        if log {
            let mut sum = F::default();
            d_row.iter().for_each(|&d| sum += d);
            d_x.extend(y.iter().zip(d_row).map(|(&y, &d)| d - y.exp() * sum));
            continue;
        }
        let mean = dot(y, d_row);
        d_x.extend(y.iter().zip(d_row).map(|(&y, &d)| y * (d - mean)));
    }
    d_x
}

//! Twin of `shaders/softmax.wgsl`.

use super::Real;

/// Softmax of every row of `x` `[M, N]`, after what `output` holds; the row's maximum is taken off first.
pub fn softmax<F: Real>(x: &[F], features: usize, output: &mut Vec<F>) {
    output.reserve(x.len());
    for row in x.chunks_exact(features) {
        let max = row.iter().copied().fold(row[0], |max, x| if x > max { x } else { max });
        let start = output.len();
        output.extend(row.iter().map(|&x| (x - max).exp()));
        let mut sum = F::default();
        for &x in &output[start..] {
            sum += x;
        }
        for x in &mut output[start..] {
            *x = *x / sum;
        }
    }
}

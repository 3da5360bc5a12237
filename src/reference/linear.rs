//! Twin of `shaders/linear.wgsl`.

use super::{Real, activate};
use crate::network::Activation;

/// `activation(x w + bias)` with `x` `[M, K]`, `w` `[K, N]`, `bias` `[N]`: `[M, N]`.
pub fn linear<F: Real>(x: &[F], w: &[F], bias: &[F], activation: Activation) -> Vec<F> {
    let out_features = bias.len();
    let in_features = w.len() / out_features;
    let mut output = Vec::with_capacity(x.len() / in_features * out_features);
    for row in x.chunks_exact(in_features) {
        let start = output.len();
        output.extend_from_slice(bias);
        let sums = &mut output[start..];
        for (&x, weights) in row.iter().zip(w.chunks_exact(out_features)) {
            accumulate(sums, x, weights);
        }
        for sum in sums {
            *sum = activate(activation, *sum);
        }
    }
    output
}

/// `sums += x * weights`
pub(super) fn accumulate<F: Real>(sums: &mut [F], x: F, weights: &[F]) {
    for (sum, &weight) in sums.iter_mut().zip(weights) {
        *sum += x * weight;
    }
}

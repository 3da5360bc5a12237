//! Reference implementation of `shaders/linear.wgsl`.

use super::{Real, activate, derivative};
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

/// Gradients of [`linear`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGradients<F> {
    /// `[M, K]`
    pub x: Vec<F>,
    /// `[N, K]`, the order of the tensor
    pub weight: Vec<F>,
    /// `[N]`
    pub bias: Vec<F>,
}

/// The gradients of [`linear`] with the same arguments, for the gradient `d_output` `[M, N]` of its output.
pub fn linear_backward<F: Real>(
    x: &[F],
    w: &[F],
    bias: &[F],
    activation: Activation,
    d_output: &[F],
) -> LinearGradients<F> {
    let out_features = bias.len();
    let in_features = w.len() / out_features;
    let mut d_sums = linear(x, w, bias, Activation::Linear);
    for (sum, &d) in d_sums.iter_mut().zip(d_output) {
        *sum = d * derivative(activation, *sum);
    }
    let mut gradients = LinearGradients {
        x: Vec::with_capacity(x.len()),
        weight: vec![F::default(); w.len()],
        bias: vec![F::default(); out_features],
    };
    for (row, d_row) in x.chunks_exact(in_features).zip(d_sums.chunks_exact(out_features)) {
        accumulate(&mut gradients.bias, F::ONE, d_row);
        for (weights, &d) in gradients.weight.chunks_exact_mut(in_features).zip(d_row) {
            accumulate(weights, d, row);
        }
        gradients.x.extend(w.chunks_exact(out_features).map(|weights| dot(weights, d_row)));
    }
    gradients
}

/// Sum of the products, the first one first.
pub(super) fn dot<F: Real>(x: &[F], y: &[F]) -> F {
    x.iter().zip(y).fold(F::default(), |sum, (&x, &y)| sum + x * y)
}

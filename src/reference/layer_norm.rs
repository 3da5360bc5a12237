//! Reference implementation of `shaders/layer_norm.wgsl` (Ba, Kiros & Hinton 2016).

use super::Real;

/// `(x - mean) / sqrt(var + eps) * weight + bias` over every row of `x` `[M, N]`, with the
/// row's own mean and variance.
pub fn layer_norm<F: Real>(x: &[F], eps: f32, weight: &[F], bias: &[F]) -> Vec<F> {
    let mut output = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let [mean, scale] = statistics(row, eps);
        output
            .extend(row.iter().zip(weight).zip(bias).map(|((&x, &weight), &bias)| (x - mean) * scale * weight + bias));
    }
    output
}

/// The mean of a row, and `1 / sqrt(var + eps)`.
fn statistics<F: Real>(row: &[F], eps: f32) -> [F; 2] {
    let mean = mean_of(row.iter().copied());
    let variance = mean_of(row.iter().map(|&x| (x - mean) * (x - mean)));
    [mean, F::ONE / (variance + F::from_f32(eps)).sqrt()]
}

fn mean_of<F: Real>(numbers: impl ExactSizeIterator<Item = F>) -> F {
    let count = F::count(numbers.len());
    numbers.fold(F::default(), |sum, x| sum + x) / count
}

/// The gradients of `x` `[M, N]`, of the weight and of the bias `[N]` of [`layer_norm`], for the gradient `d_output`
/// `[M, N]` of its output.
///
/// With the normalized row x̂ and `a = d_output * weight`, that of a row is `scale (a - mean(a) - x̂ mean(a x̂))`.
pub fn layer_norm_backward<F: Real>(x: &[F], eps: f32, weight: &[F], d_output: &[F]) -> [Vec<F>; 3] {
    let features = weight.len();
    let mut d_x = Vec::with_capacity(x.len());
    let mut d_weight = vec![F::default(); features];
    let mut d_bias = d_weight.clone();
    for (row, d_row) in x.chunks_exact(features).zip(d_output.chunks_exact(features)) {
        let [mean, scale] = statistics(row, eps);
        let normal: Vec<F> = row.iter().map(|&x| (x - mean) * scale).collect();
        for (at, &d) in d_row.iter().enumerate() {
            d_weight[at] += d * normal[at];
            d_bias[at] += d;
        }
        let scaled: Vec<F> = d_row.iter().zip(weight).map(|(&d, &weight)| d * weight).collect();
        let constant = mean_of(scaled.iter().copied());
        let along = mean_of(scaled.iter().zip(&normal).map(|(&a, &normal)| a * normal));
        d_x.extend(scaled.iter().zip(&normal).map(|(&a, &normal)| scale * (a - constant - normal * along)));
    }
    [d_x, d_weight, d_bias]
}

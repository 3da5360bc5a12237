//! Twin of `shaders/layer_norm.wgsl` (Ba, Kiros & Hinton 2016).

use super::Real;

/// `(x - mean) / sqrt(var + eps) * weight + bias` over every row of `x` `[M, N]`, with the
/// row's own mean and variance.
pub fn layer_norm<F: Real>(x: &[F], eps: f32, weight: &[F], bias: &[F]) -> Vec<F> {
    let features = weight.len();
    let mean_of = |sum: F| sum / F::count(features);
    let sum = |numbers: &mut dyn Iterator<Item = F>| numbers.fold(F::default(), |sum, x| sum + x);
    let mut output = Vec::with_capacity(x.len());
    for row in x.chunks_exact(features) {
        let mean = mean_of(sum(&mut row.iter().copied()));
        let variance = mean_of(sum(&mut row.iter().map(|&x| (x - mean) * (x - mean))));
        let scale = F::ONE / (variance + F::from_f32(eps)).sqrt();
        output
            .extend(row.iter().zip(weight).zip(bias).map(|((&x, &weight), &bias)| (x - mean) * scale * weight + bias));
    }
    output
}

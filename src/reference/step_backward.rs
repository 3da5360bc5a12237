//! What the backward steps of all cells share: what a step read, and the gradients that it gives.

use super::Real;

/// What a step of one batch row read.
#[derive(Clone, Copy)]
pub struct StepInputs<'a, F> {
    /// `[G*H]`: W x + b
    pub projected: &'a [F],
    /// `[K, G*H]`: U transposed; K is H, or P with a projection
    pub recurrent: &'a [F],
    /// An LSTM's peepholes `[3H]`, a GRU's recurrent bias of the candidate `[H]`, or empty
    pub extra: &'a [F],
    /// `[K]`: h before the step
    pub h: &'a [F],
    /// `[S*H]`: c before the step, of an sLSTM c, n and m, or empty
    pub c: &'a [F],
}

/// The gradients of what a step read.
pub struct StepGradients<'a, F> {
    /// `[G*H]`, written
    pub projected: &'a mut [F],
    /// `[K, G*H]`, added to
    pub recurrent: &'a mut [F],
    /// As [`StepInputs::extra`], added to
    pub extra: &'a mut [F],
    /// `[K]`, written: of h before the step
    pub h: &'a mut [F],
    /// As [`StepInputs::c`]: of c after the step, then of c before it
    pub c: &'a mut [F],
}

/// The product U h of a step, `[G*H]`.
pub(super) fn product<F: Real>(recurrent: &[F], h: &[F], rows: usize) -> Vec<F> {
    let mut product = vec![F::default(); rows];
    for (&h, weights) in h.iter().zip(recurrent.chunks_exact(rows)) {
        super::linear::accumulate(&mut product, h, weights);
    }
    product
}

/// The gradients of a product U h from that of its result, `[G*H]`: both are added to.
pub(super) fn product_backward<F: Real>(
    recurrent: &[F],
    h: &[F],
    d_product: &[F],
    d_recurrent: &mut [F],
    d_h: &mut [F],
) {
    let rows = d_product.len();
    let weights = recurrent.chunks_exact(rows).zip(d_recurrent.chunks_exact_mut(rows));
    for ((&h, d_h), (weights, d_weights)) in h.iter().zip(d_h).zip(weights) {
        for ((&weight, d_weight), &d) in weights.iter().zip(d_weights).zip(d_product) {
            *d_h += weight * d;
            *d_weight += h * d;
        }
    }
}

/// The derivative of [`bounded`](super::bounded) at `x`: 0 outside of the bound, 1 within and at it.
pub(super) fn within<F: Real>(bound: Option<f32>, x: F) -> F {
    match bound {
        Some(bound) if x < F::from_f32(-bound) || x > F::from_f32(bound) => F::default(),
        _ => F::ONE,
    }
}

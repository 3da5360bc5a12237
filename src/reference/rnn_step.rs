//! Reference implementation of `shaders/cells/rnn.wgsl`: `h' = tanh(W x + U h + b)` (Elman 1990).

use super::linear::accumulate;
use super::{Real, StepOptions, activate, bounded};

/// One timestep of one batch row of a plain RNN.
///
/// - `projected` `[H]`: W x + b of this timestep
/// - `recurrent` `[H, H]`: U transposed
/// - `h_in`, `h_out` `[H]`
pub fn rnn_step<F: Real>(options: &StepOptions<1>, projected: &[F], recurrent: &[F], h_in: &[F], h_out: &mut [F]) {
    h_out.copy_from_slice(projected);
    for (&h, weights) in h_in.iter().zip(recurrent.chunks_exact(projected.len())) {
        accumulate(h_out, options.factor(h), weights);
    }
    let [activation] = options.activations;
    for h in h_out {
        *h = activate(activation, bounded(options.clip, *h));
    }
}

//! Reference implementation of `shaders/cells/gru.wgsl`, `gru_gates.wgsl` and `gru_candidate.wgsl`.
//!
//! ```text
//! r = σ(Wr x + Ur h + br)   z = σ(Wz x + Uz h + bz)
//! n = tanh(Wn x + bn + r∘(Un h + dn))   reset after the product (cuDNN)
//! n = tanh(Wn x + bn + Un (r∘h))        reset before it (Cho et al. 2014)
//! h' = (1 - z)∘n + z∘h
//! ```

use super::linear::accumulate;
use super::{Real, StepOptions, activate, bounded};
use crate::network::gates;

/// One timestep of one batch row of a GRU.
///
/// - `reset_after`: whether the reset gate acts on the recurrent product instead of on h
/// - `projected` `[3H]`: W x + b of this timestep, gates in the order r, z, n
/// - `recurrent` `[H, 3H]`: U transposed
/// - `new_bias` `[H]`: d, the candidate's recurrent bias; with reset before, part of `projected`
/// - `h_in`, `h_out` `[H]`
pub fn gru_step<F: Real>(
    options: &StepOptions<2>,
    reset_after: bool,
    projected: &[F],
    recurrent: &[F],
    new_bias: &[F],
    h_in: &[F],
    h_out: &mut [F],
) {
    let hidden = h_out.len();
    let [of_gates, of_candidate] = options.activations;
    // U h, and in the end of it U (r∘h) where the reset comes first.
    let mut product = vec![F::default(); projected.len()];
    for (&h, weights) in h_in.iter().zip(recurrent.chunks_exact(projected.len())) {
        accumulate(&mut product, options.factor(h), weights);
    }
    let gate = |block: usize, unit: usize| {
        let at = block * hidden + unit;
        activate(of_gates, bounded(options.clip, projected[at] + product[at]))
    };
    let reset: Vec<F> = (0..hidden).map(|unit| gate(gates::RESET, unit)).collect();
    let update: Vec<F> = (0..hidden).map(|unit| gate(gates::UPDATE, unit)).collect();
    let new = gates::NEW * hidden;
    if reset_after {
        for unit in 0..hidden {
            product[new + unit] = reset[unit] * (product[new + unit] + new_bias[unit]);
        }
    } else {
        product[new..].fill(F::default());
        for (unit, weights) in recurrent.chunks_exact(projected.len()).enumerate() {
            accumulate(&mut product[new..], options.factor(reset[unit] * h_in[unit]), &weights[new..]);
        }
    }
    for unit in 0..hidden {
        let sum = projected[new + unit] + product[new + unit];
        let candidate = activate(of_candidate, bounded(options.clip, sum));
        h_out[unit] = (F::ONE - update[unit]) * candidate + update[unit] * h_in[unit];
    }
}

//! Reference implementation of `shaders/cells/slstm.wgsl`.
//!
//! ```text
//! ĩ = Wi x + Ui h + bi   f̃ = Wf x + Uf h + bf   z = tanh(Wz x + Uz h + bz)   o = σ(Wo x + Uo h + bo)
//! a = log φ(f̃) + m       m' = max(ĩ, a), ĩ where n is 0
//! i = exp(ĩ - m')        f = min(exp(a - m'), 1)
//! c' = f∘c + i∘z         n' = f∘n + i         h' = o∘c'/n'
//! ```
//! with φ = σ or exp (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory"). From the first step on n is at least 1: one
//! of i and f is 1.

use super::activations::softplus;
use super::linear::accumulate;
use super::{Real, StepOptions, activate, sigmoid};
use crate::network::{Activation, gates};

/// One unit of a step: the gates of c and n, and what they come from.
pub(super) struct SlstmUnit<F> {
    pub input: F,
    pub forget: F,
    pub candidate: F,
    pub output: F,
    /// c, n and m after the step.
    pub after: [F; 3],
    /// Whether m is a, not ĩ, and whether f is bounded.
    pub keeps: bool,
    pub bounded: bool,
}

impl<F: Real> SlstmUnit<F> {
    /// From the pre-activations i, f, z, o and c, n, m before the step.
    pub fn new([of_forget, of_candidate]: [Activation; 2], sums: [F; 4], [c, n, m]: [F; 3]) -> Self {
        let log_forget = if of_forget == Activation::Exp { sums[1] } else { -softplus(-sums[1]) };
        let kept = log_forget + m;
        // A sum that is no number is handed on.
        let keeps = n != F::default() && kept > sums[0];
        let after_m = if keeps { kept } else { sums[0] };
        let input = (sums[0] - after_m).exp();
        let forget = (kept - after_m).exp();
        let bounded = forget > F::ONE;
        let forget = if bounded { F::ONE } else { forget };
        let candidate = activate(of_candidate, sums[2]);
        let after = [forget * c + input * candidate, forget * n + input, after_m];
        Self { input, forget, candidate, output: sigmoid(sums[3]), after, keeps, bounded }
    }

    /// `c'/n'`
    pub fn shown(&self) -> F {
        self.after[0] / self.after[1]
    }
}

/// One timestep of one batch row of an sLSTM.
///
/// - `projected` `[4H]`: W x + b of this timestep, gates in the order i, f, z, o
/// - `recurrent` `[H, 4H]`: U transposed
/// - `h_in`, `h_out` `[H]`
/// - `cells` `[3H]`: c, n and m, updated in place
pub fn slstm_step<F: Real>(
    options: &StepOptions<2>,
    projected: &[F],
    recurrent: &[F],
    h_in: &[F],
    cells: &mut [F],
    h_out: &mut [F],
) {
    let hidden = h_out.len();
    let mut sums = projected.to_vec();
    for (&h, weights) in h_in.iter().zip(recurrent.chunks_exact(projected.len())) {
        accumulate(&mut sums, options.factor(h), weights);
    }
    for (unit, h) in h_out.iter_mut().enumerate() {
        let of_unit =
            [gates::INPUT, gates::FORGET, gates::CANDIDATE, gates::OUTPUT].map(|gate| sums[gate * hidden + unit]);
        let before = [0, 1, 2].map(|part| cells[part * hidden + unit]);
        let found = SlstmUnit::new(options.activations, of_unit, before);
        for (part, after) in found.after.into_iter().enumerate() {
            cells[part * hidden + unit] = after;
        }
        *h = found.output * found.shown();
    }
}

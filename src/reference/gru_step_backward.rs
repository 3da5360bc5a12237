//! The gradient of one timestep of a GRU: the backward pass of `gru_step.rs`.
//!
//! With d the gradient of h', a the pre-activations, q = U_n h + d_n:
//!
//! ```text
//! da_n = d∘(1 - z)∘ψ'(a_n)      da_z = d∘(h - n)∘σ'(a_z)
//! reset after:   da_r = da_n∘q∘σ'(a_r)   of U h: (da_r, da_z, da_n∘r)      dh = d∘z + Uᵀ of it
//! reset before:  v = U_nᵀ da_n           da_r = v∘h∘σ'(a_r)                dh = d∘z + v∘r + U_rzᵀ(da_r, da_z)
//! ```

use super::derivatives::derivative;
use super::step_backward::{StepGradients, StepInputs, product, product_backward, within};
use super::{Real, StepOptions, activate, bounded};
use crate::network::gates::{NEW, RESET, UPDATE};

/// The gradients of one timestep of one batch row from `d_h` `[H]`, that of the new h.
pub fn gru_step_backward<F: Real>(
    options: &StepOptions<2>,
    reset_after: bool,
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
) {
    let hidden = d_h.len();
    let rows = inputs.projected.len();
    let StepInputs { projected, recurrent, extra, h, .. } = inputs;
    let [of_gates, of_candidate] = options.activations;
    let of_state = product(recurrent, h, rows);
    let both = |function, sum: F| {
        let x = bounded(options.clip, sum);
        (activate(function, x), derivative(function, x) * within(options.clip, sum))
    };
    let gate = |block: usize, unit: usize| {
        let at = block * hidden + unit;
        both(of_gates, projected[at] + of_state[at])
    };
    let reset: Vec<(F, F)> = (0..hidden).map(|unit| gate(RESET, unit)).collect();
    let new = NEW * hidden;
    // What the reset gate multiplies of U h, or the product U (r∘h).
    let reset_h: Vec<F> = reset.iter().zip(h).map(|(&(r, _), &h)| r * h).collect();
    let of_reset = if reset_after { Vec::new() } else { product(recurrent, &reset_h, rows) };
    let mut d_product = vec![F::default(); rows];
    gradients.h.fill(F::default());
    for unit in 0..hidden {
        let (r, by_r) = reset[unit];
        let (z, by_z) = gate(UPDATE, unit);
        let q = of_state[new + unit] + extra.get(unit).copied().unwrap_or_default();
        let sum = projected[new + unit] + if reset_after { r * q } else { of_reset[new + unit] };
        let (candidate, by_n) = both(of_candidate, sum);
        let d = d_h[unit];
        let d_n = d * (F::ONE - z) * by_n;
        let d_z = d * (h[unit] - candidate) * by_z;
        gradients.h[unit] = d * z;
        gradients.projected[new + unit] = d_n;
        gradients.projected[UPDATE * hidden + unit] = d_z;
        d_product[UPDATE * hidden + unit] = d_z;
        if reset_after {
            let d_r = d_n * q * by_r;
            gradients.projected[RESET * hidden + unit] = d_r;
            d_product[RESET * hidden + unit] = d_r;
            d_product[new + unit] = d_n * r;
            if let Some(d_extra) = gradients.extra.get_mut(unit) {
                *d_extra += d_n * r;
            }
        }
    }
    if !reset_after {
        // The candidate's product is over r∘h.
        let mut of_candidate = vec![F::default(); rows];
        of_candidate[new..].copy_from_slice(&gradients.projected[new..]);
        let mut d_reset_h = vec![F::default(); hidden];
        product_backward(recurrent, &reset_h, &of_candidate, gradients.recurrent, &mut d_reset_h);
        for unit in 0..hidden {
            let (r, by_r) = reset[unit];
            let d_r = d_reset_h[unit] * h[unit] * by_r;
            gradients.h[unit] += d_reset_h[unit] * r;
            gradients.projected[RESET * hidden + unit] = d_r;
            d_product[RESET * hidden + unit] = d_r;
        }
    }
    product_backward(recurrent, h, &d_product, gradients.recurrent, gradients.h);
}

//! The gradient of one timestep of an LSTM: the backward pass of `lstm_step.rs`.
//!
//! With d the gradient of h', a the pre-activations, D the gradient of c' from the step after:
//!
//! ```text
//! da_o = d∘φ(c')∘σ'(a_o)        D += d∘o∘φ'(c') + p_o∘da_o, 0 where c' was clipped
//! da_f = D∘c∘σ'(a_f)            da_i = D∘g∘σ'(a_i)   (coupled: da_i = D∘(g - c)∘σ'(a_i), da_f = 0)
//! da_g = D∘i∘ψ'(a_g)            dc = D∘f + p_i∘da_i + p_f∘da_f
//! ```

use super::derivatives::derivative;
use super::step_backward::{StepGradients, StepInputs, product, product_backward, within};
use super::{LstmOptions, Real, activate, bounded};
use crate::network::gates::{CANDIDATE, FORGET, INPUT, OUTPUT};

/// The gradients of one timestep of one batch row from `d_h` `[H]`, that of the new h before a projection.
pub fn lstm_step_backward<F: Real>(
    options: &LstmOptions,
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
) {
    let &LstmOptions { step, coupled, cell_clip } = options;
    let hidden = d_h.len();
    let rows = inputs.projected.len();
    let mut sums = product(inputs.recurrent, inputs.h, rows);
    for (sum, &projected) in sums.iter_mut().zip(inputs.projected) {
        *sum += projected;
    }
    let [of_gates, of_candidate, of_output] = step.activations;
    let peephole = |which: usize, unit: usize| inputs.extra.get(which * hidden + unit).copied().unwrap_or_default();
    for unit in 0..hidden {
        let (c, d) = (inputs.c[unit], d_h[unit]);
        let [p_i, p_f, p_o] = [0, 1, 2].map(|which| peephole(which, unit));
        let sum = |block: usize, more: F| sums[block * hidden + unit] + more;
        // A value and its derivative by the pre-activation.
        let both = |function, sum: F| {
            let x = bounded(step.clip, sum);
            (activate(function, x), derivative(function, x) * within(step.clip, sum))
        };
        let (input, by_i) = both(of_gates, sum(INPUT, p_i * c));
        let (forget, by_f) = match coupled {
            true => (F::ONE - input, F::default()),
            false => both(of_gates, sum(FORGET, p_f * c)),
        };
        let (candidate, by_g) = both(of_candidate, sum(CANDIDATE, F::default()));
        let unbounded = forget * c + input * candidate;
        let after = bounded(cell_clip, unbounded);
        let (output, by_o) = both(of_gates, sum(OUTPUT, p_o * after));

        let d_o = d * activate(of_output, after) * by_o;
        let d_c = gradients.c[unit] + d * output * derivative(of_output, after) + p_o * d_o;
        let d_c = d_c * within(cell_clip, unbounded);
        let d_i = d_c * if coupled { candidate - c } else { candidate } * by_i;
        let d_f = d_c * c * by_f;
        let d_g = d_c * input * by_g;
        for (block, d) in [(INPUT, d_i), (FORGET, d_f), (CANDIDATE, d_g), (OUTPUT, d_o)] {
            gradients.projected[block * hidden + unit] = d;
        }
        if !inputs.extra.is_empty() {
            for (which, d) in [(0, d_i * c), (1, d_f * c), (2, d_o * after)] {
                gradients.extra[which * hidden + unit] += d;
            }
        }
        gradients.c[unit] = d_c * forget + p_i * d_i + p_f * d_f;
    }
    gradients.h.fill(F::default());
    product_backward(inputs.recurrent, inputs.h, gradients.projected, gradients.recurrent, gradients.h);
}

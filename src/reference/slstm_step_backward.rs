//! The gradient of one timestep of an sLSTM: the backward pass of `slstm_step.rs`.
//!
//! With d the gradient of h', C, N, M those of c', n', m':
//!
//! ```text
//! dõ = d∘(c'/n')∘σ'(õ)     C += d∘o/n'      N -= d∘h'/n'
//! di = C∘z + N             df = C∘c + N∘n, 0 where f was bounded      dz̃ = C∘i∘tanh'(z̃)
//! dĩ = di∘i                da = df∘f        M -= dĩ + da, then to dĩ where m' is ĩ, else to da
//! df̃ = da∘(log φ)'(f̃)      dc = C∘f         dn = N∘f        dm = da
//! ```

use super::derivatives::derivative;
use super::slstm_step::SlstmUnit;
use super::step_backward::{StepGradients, StepInputs, product, product_backward};
use super::{Real, StepOptions, sigmoid};
use crate::network::{Activation, gates};

/// The gradients of one timestep of one batch row from `d_h` `[H]`, that of the new h.
pub fn slstm_step_backward<F: Real>(
    options: &StepOptions<2>,
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
) {
    let hidden = d_h.len();
    let mut sums = product(inputs.recurrent, inputs.h, inputs.projected.len());
    for (sum, &projected) in sums.iter_mut().zip(inputs.projected) {
        *sum += projected;
    }
    let [of_forget, of_candidate] = options.activations;
    for (unit, &d) in d_h.iter().enumerate() {
        let order = [gates::INPUT, gates::FORGET, gates::CANDIDATE, gates::OUTPUT];
        let of_unit = order.map(|gate| sums[gate * hidden + unit]);
        let before = [0, 1, 2].map(|part| inputs.c[part * hidden + unit]);
        let found = SlstmUnit::new(options.activations, of_unit, before);
        let [mut d_c, mut d_n, mut d_m] = [0, 1, 2].map(|part| gradients.c[part * hidden + unit]);
        let (shown, n) = (found.shown(), found.after[1]);
        d_c += d * found.output / n;
        d_n += -(d * found.output * shown / n);
        let d_output = d * shown * found.output * (F::ONE - found.output);
        let d_candidate = d_c * found.input * derivative(of_candidate, of_unit[2]);
        let mut d_input = (d_c * found.candidate + d_n) * found.input;
        let of_f = (d_c * before[0] + d_n * before[1]) * found.forget;
        let mut d_kept = if found.bounded { F::default() } else { of_f };
        d_m += -(d_input + d_kept);
        if found.keeps {
            d_kept += d_m;
        } else {
            d_input += d_m;
        }
        let slope = if of_forget == Activation::Exp { F::ONE } else { sigmoid(-of_unit[1]) };
        for (gate, d) in order.into_iter().zip([d_input, d_kept * slope, d_candidate, d_output]) {
            gradients.projected[gate * hidden + unit] = d;
        }
        for (part, d) in [d_c * found.forget, d_n * found.forget, d_kept].into_iter().enumerate() {
            gradients.c[part * hidden + unit] = d;
        }
    }
    gradients.h.fill(F::default());
    product_backward(inputs.recurrent, inputs.h, gradients.projected, gradients.recurrent, gradients.h);
}

//! The gradient of one timestep of a plain RNN: the backward pass of `rnn_step.rs`. `da = d∘φ'(a)`.

use super::derivatives::derivative;
use super::step_backward::{StepGradients, StepInputs, product, product_backward, within};
use super::{Real, StepOptions, bounded};

/// The gradients of one timestep of one batch row from `d_h` `[H]`, that of the new h.
pub fn rnn_step_backward<F: Real>(
    options: &StepOptions<1>,
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
) {
    let [activation] = options.activations;
    let of_state = product(inputs.recurrent, inputs.h, d_h.len());
    for (unit, &d) in d_h.iter().enumerate() {
        let sum = inputs.projected[unit] + of_state[unit];
        let slope = derivative(activation, bounded(options.clip, sum)) * within(options.clip, sum);
        gradients.projected[unit] = d * slope;
    }
    gradients.h.fill(F::default());
    product_backward(inputs.recurrent, inputs.h, gradients.projected, gradients.recurrent, gradients.h);
}

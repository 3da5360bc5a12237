//! The gradients of the steps of layer-normalized cells: the backward pass of `normalized.rs`.

use super::derivatives::derivative;
use super::step_backward::{StepGradients, StepInputs, product, product_backward};
use super::{Real, StepOptions, activate, layer_norm, layer_norm_backward};
use crate::network::{Affine, CellNorm, GateNorm, Norms, gates};

/// The gradients of the scales and offsets of [`Norms`], added to.
#[derive(Clone, Debug)]
pub struct NormGradients<F> {
    /// Of `W x`, or of the sum.
    pub input: Affine<F>,
    /// Of `U h`.
    pub state: Affine<F>,
    /// Of c.
    pub c: Affine<F>,
}

impl<F: Real> NormGradients<F> {
    /// 0 for each of `norms`.
    #[must_use]
    pub fn zeros(norms: &Norms<F>) -> Self {
        let zeros = |affine: &Affine<F>| affine.each_ref().map(|numbers| vec![F::default(); numbers.len()]);
        Self { input: zeros(&norms.input), state: zeros(&norms.state), c: zeros(&norms.c) }
    }
}

/// The gradient of one row `x` that is normalized, from that of the result; those of scale and offset are added to.
fn norm_backward<F: Real>(x: &[F], eps: f32, [weight, _]: &Affine<F>, dy: &[F], gradients: &mut Affine<F>) -> Vec<F> {
    let [d_x, of_weight, of_bias] = layer_norm_backward(x, eps, weight, dy);
    for (sums, more) in gradients.iter_mut().zip([of_weight, of_bias]) {
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    d_x
}

/// The sums of a step before and after they are normalized.
struct NormalizedSums<F> {
    /// What is normalized first: W x, or W x + U h.
    of_input: Vec<F>,
    /// U h
    of_state: Vec<F>,
    input: Vec<F>,
    state: Vec<F>,
}

impl<F: Real> NormalizedSums<F> {
    fn new(norms: &Norms<F>, inputs: StepInputs<'_, F>) -> Self {
        let of_state = product(inputs.recurrent, inputs.h, inputs.projected.len());
        let eps = norms.how.eps;
        let norm = |x: &[F], [weight, bias]: &Affine<F>| layer_norm(x, eps, weight, bias);
        match norms.how.gate_norm {
            GateNorm::Parts => {
                let of_input = inputs.projected.to_vec();
                let (input, state) = (norm(&of_input, &norms.input), norm(&of_state, &norms.state));
                Self { of_input, of_state, input, state }
            }
            GateNorm::Sum => {
                let of_input: Vec<F> = inputs.projected.iter().zip(&of_state).map(|(&x, &h)| x + h).collect();
                let input = norm(&of_input, &norms.input);
                let state = vec![F::default(); input.len()];
                Self { of_input, of_state, input, state }
            }
        }
    }

    /// From the gradients of the normalized sums to those of the step's inputs.
    fn backward(
        &self,
        norms: &Norms<F>,
        inputs: StepInputs<'_, F>,
        [d_input, d_state]: [&[F]; 2],
        gradients: &mut StepGradients<'_, F>,
        of_norms: &mut NormGradients<F>,
    ) {
        let eps = norms.how.eps;
        let of_input = norm_backward(&self.of_input, eps, &norms.input, d_input, &mut of_norms.input);
        gradients.projected.copy_from_slice(&of_input);
        let of_product = match norms.how.gate_norm {
            GateNorm::Sum => of_input,
            GateNorm::Parts => norm_backward(&self.of_state, eps, &norms.state, d_state, &mut of_norms.state),
        };
        product_backward(inputs.recurrent, inputs.h, &of_product, gradients.recurrent, gradients.h);
    }
}

/// The gradients of one timestep of one batch row of a layer-normalized LSTM from `d_h` `[H]`, that of the new h.
pub fn layer_norm_lstm_step_backward<F: Real>(
    options: &StepOptions<3>,
    norms: &Norms<F>,
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
    of_norms: &mut NormGradients<F>,
) {
    let hidden = d_h.len();
    let [of_gates, of_candidate, of_output] = options.activations;
    let sums = NormalizedSums::new(norms, inputs);
    let sum = |block: usize, unit: usize| sums.input[block * hidden + unit] + sums.state[block * hidden + unit];
    let gate = |block: usize, unit: usize| activate(of_gates, sum(block, unit));
    let candidate = |unit: usize| activate(of_candidate, sum(gates::CANDIDATE, unit));
    let after: Vec<F> = (0..hidden)
        .map(|unit| gate(gates::FORGET, unit) * inputs.c[unit] + gate(gates::INPUT, unit) * candidate(unit))
        .collect();
    let CellNorms { seen, d_after } = {
        let seen = match norms.how.cell_norm {
            CellNorm::None => after.clone(),
            CellNorm::State | CellNorm::Output => layer_norm(&after, norms.how.eps, &norms.c[0], &norms.c[1]),
        };
        let d_seen: Vec<F> =
            (0..hidden).map(|unit| d_h[unit] * gate(gates::OUTPUT, unit) * derivative(of_output, seen[unit])).collect();
        let plus = |x: &[F], y: &[F]| x.iter().zip(y).map(|(&x, &y)| x + y).collect::<Vec<F>>();
        let mut of_norm = |dy: &[F]| norm_backward(&after, norms.how.eps, &norms.c, dy, &mut of_norms.c);
        let d_after = match norms.how.cell_norm {
            CellNorm::None => plus(gradients.c, &d_seen),
            CellNorm::Output => plus(gradients.c, &of_norm(&d_seen)),
            CellNorm::State => of_norm(&plus(gradients.c, &d_seen)),
        };
        CellNorms { seen, d_after }
    };
    let mut d_sums = vec![F::default(); 4 * hidden];
    for unit in 0..hidden {
        let (c, d_c) = (inputs.c[unit], d_after[unit]);
        let d_gates = [
            (gates::INPUT, d_c * candidate(unit)),
            (gates::FORGET, d_c * c),
            (gates::OUTPUT, d_h[unit] * activate(of_output, seen[unit])),
        ];
        for (block, d) in d_gates {
            d_sums[block * hidden + unit] = d * derivative(of_gates, sum(block, unit));
        }
        let slope = derivative(of_candidate, sum(gates::CANDIDATE, unit));
        d_sums[gates::CANDIDATE * hidden + unit] = d_c * gate(gates::INPUT, unit) * slope;
        gradients.c[unit] = d_c * gate(gates::FORGET, unit);
    }
    gradients.h.fill(F::default());
    sums.backward(norms, inputs, [&d_sums, &d_sums], gradients, of_norms);
}

/// What the output sees of c, and the gradient of c before it is normalized.
struct CellNorms<F> {
    seen: Vec<F>,
    d_after: Vec<F>,
}

/// The gradients of one timestep of one batch row of a layer-normalized GRU from `d_h` `[H]`, that of the new h.
pub fn layer_norm_gru_step_backward<F: Real>(
    options: &StepOptions<2>,
    norms: &Norms<F>,
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
    of_norms: &mut NormGradients<F>,
) {
    let hidden = d_h.len();
    let [of_gates, of_candidate] = options.activations;
    let sums = NormalizedSums::new(norms, inputs);
    let [mut d_input, mut d_state] = [vec![F::default(); 3 * hidden], vec![F::default(); 3 * hidden]];
    for (unit, &d) in d_h.iter().enumerate() {
        let [reset_at, update_at, new_at] =
            [gates::RESET, gates::UPDATE, gates::NEW].map(|block| block * hidden + unit);
        let [reset_sum, update_sum] = [reset_at, update_at].map(|at| sums.input[at] + sums.state[at]);
        let (r, z) = (activate(of_gates, reset_sum), activate(of_gates, update_sum));
        let together = norms.how.gate_norm == GateNorm::Sum;
        // The reset gate multiplies this.
        let multiplied = if together { sums.input[new_at] } else { sums.state[new_at] };
        let sum = if together { r * multiplied } else { sums.input[new_at] + r * multiplied };
        let d_sum = d * (F::ONE - z) * derivative(of_candidate, sum);
        let d_r = d_sum * multiplied * derivative(of_gates, reset_sum);
        let d_z = d * (inputs.h[unit] - activate(of_candidate, sum)) * derivative(of_gates, update_sum);
        (d_input[reset_at], d_input[update_at]) = (d_r, d_z);
        (d_state[reset_at], d_state[update_at]) = (d_r, d_z);
        (d_input[new_at], d_state[new_at]) = if together { (d_sum * r, d_sum * r) } else { (d_sum, d_sum * r) };
        gradients.h[unit] = d * z;
    }
    sums.backward(norms, inputs, [&d_input, &d_state], gradients, of_norms);
}

//! The gradient of one timestep of the cells of `scan_step.rs`, unit by unit.

use super::derivatives::derivative;
use super::scan_step::{ScanUnit, normalized_gates};
use super::step_backward::{StepGradients, StepInputs};
use super::{Real, sigmoid};
use crate::network::{Activation, ScanCell};

/// The gradients of what one step of one unit read.
struct UnitGradients<F> {
    x: [F; 4],
    extra: [F; 2],
    before: F,
}

impl<F: Real> ScanUnit<'_, F> {
    /// φ' or ψ'.
    fn slope(&self, function: usize, x: F) -> F {
        self.functions.get(function).map_or(F::ONE, |&function| derivative(function, x))
    }

    /// From the gradients of h and, of a cell that keeps c, of c after the step.
    fn backward(&self, d_h: F, d_c: F) -> UnitGradients<F> {
        let (zero, one) = (F::default(), F::ONE);
        let [x, gate, output, _] = self.x;
        let (forget, candidate) = (self.forget(), self.candidate());
        match self.cell {
            ScanCell::MinGru => {
                let z = self.apply(0, gate);
                let d_gate = d_h * (candidate - self.before) * self.slope(0, gate);
                let x = [d_h * z * self.slope(1, x), d_gate, zero, zero];
                UnitGradients { x, extra: [zero; 2], before: d_h * (one - z) }
            }
            ScanCell::MinLstm => {
                let [_, input] = normalized_gates(gate, output);
                // f is σ of log σ(x₁) - log σ(x₂).
                let d = d_h * (self.before - candidate) * forget * input;
                let x = [d_h * input * self.slope(0, x), d * sigmoid(-gate), -d * sigmoid(-output), zero];
                UnitGradients { x, extra: [zero; 2], before: d_h * forget }
            }
            ScanCell::Sru { .. } => {
                let (after, r) = (self.after(), self.output_gate());
                let d_c = d_c + d_h * r * self.slope(1, after);
                let d_forget = d_c * (self.before - candidate) * self.slope(0, gate + self.extra[0] * self.before);
                let d_r = d_h * (self.apply(1, after) - self.x[3]);
                let d_output = d_r * self.slope(0, output + self.extra[1] * self.before);
                UnitGradients {
                    x: [d_c * (one - forget), d_forget, d_output, d_h * (one - r)],
                    extra: [d_forget * self.before, d_output * self.before],
                    before: d_c * forget + d_forget * self.extra[0] + d_output * self.extra[1],
                }
            }
            ScanCell::Qrnn => {
                let d_output = d_h * self.after() * self.slope(0, output);
                let d_c = d_c + d_h * self.output_gate();
                let d_forget = d_c * (self.before - candidate) * self.slope(0, gate);
                let x = [d_c * (one - forget) * self.slope(1, x), d_forget, d_output, zero];
                UnitGradients { x, extra: [zero; 2], before: d_c * forget }
            }
            ScanCell::IndRnn => {
                let d = d_h * self.slope(0, self.sum());
                UnitGradients { x: [d, zero, zero, zero], extra: [d * self.before, zero], before: d * self.extra[0] }
            }
        }
    }
}

/// The gradients of one timestep of one batch row from `d_h` `[H]`, that of the new h.
pub fn scan_step_backward<F: Real>(
    cell: (ScanCell, &[Activation]),
    inputs: StepInputs<'_, F>,
    d_h: &[F],
    gradients: &mut StepGradients<'_, F>,
) {
    let hidden = d_h.len();
    for (unit, &d_h) in d_h.iter().enumerate() {
        let before = inputs.c.get(unit).copied().unwrap_or(inputs.h[unit]);
        let of_unit = ScanUnit::new(cell, [inputs.projected, inputs.extra], (unit, hidden), before);
        let d_c = gradients.c.get(unit).copied().unwrap_or_default();
        let d = of_unit.backward(d_h, d_c);
        for (block, d) in gradients.projected.chunks_exact_mut(hidden).zip(d.x) {
            block[unit] = d;
        }
        for (block, d) in gradients.extra.chunks_exact_mut(hidden).zip(d.extra) {
            block[unit] += d;
        }
        // h is not read by a step that reads c.
        match gradients.c.get_mut(unit) {
            Some(d_c) => (*d_c, gradients.h[unit]) = (d.before, F::default()),
            None => gradients.h[unit] = d.before,
        }
    }
}

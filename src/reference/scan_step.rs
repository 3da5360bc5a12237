//! Reference implementation of the cells whose units do not depend on each other: `shaders/cells/min_gru.wgsl`,
//! `min_lstm.wgsl`, `sru.wgsl`, `qrnn.wgsl` and `ind_rnn.wgsl`.
//!
//! [`ScanCell`] has the equations. The step of all but two is `c' = f∘c + b` with f and b that do not depend on c; an IndRNN
//! applies a function to the sum, and an SRU with peepholes makes f from c.

use super::{Real, activate};
use crate::network::{Activation, ScanCell};

/// Blocks of W x + b, at most.
const BLOCKS: usize = 4;
/// Numbers that a unit has beside them, at most: an SRU's v and w, an IndRNN's u.
pub(super) const EXTRA: usize = 2;

/// What one step of one unit reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanUnit<'a, F> {
    pub cell: ScanCell,
    /// φ and ψ of [`ScanCell`].
    pub functions: &'a [Activation],
    /// x₀ to x₃
    pub x: [F; BLOCKS],
    pub extra: [F; EXTRA],
    /// c before the step; h of a cell that keeps no c.
    pub before: F,
}

impl<'a, F: Real> ScanUnit<'a, F> {
    /// Of unit `unit` of H, from W x + b `[G*H]` and what the units have beside it `[E*H]`.
    pub fn new(
        (cell, functions): (ScanCell, &'a [Activation]),
        [projected, extra]: [&[F]; 2],
        (unit, hidden): (usize, usize),
        before: F,
    ) -> Self {
        let at = |numbers: &[F], block: usize| numbers.get(block * hidden + unit).copied().unwrap_or_default();
        Self {
            cell,
            functions,
            x: std::array::from_fn(|block| at(projected, block)),
            extra: std::array::from_fn(|block| at(extra, block)),
            before,
        }
    }

    /// φ or ψ.
    pub fn apply(&self, function: usize, x: F) -> F {
        self.functions.get(function).map_or(x, |&function| activate(function, x))
    }

    /// The gate that keeps: f, or `1 - z` of a minGRU.
    pub fn forget(&self) -> F {
        let [_, gate, of_input, _] = self.x;
        match self.cell {
            ScanCell::MinGru => F::ONE - self.apply(0, gate),
            ScanCell::MinLstm => normalized_gates(gate, of_input)[0],
            ScanCell::Sru { .. } => self.apply(0, gate + self.extra[0] * self.before),
            ScanCell::Qrnn => self.apply(0, gate),
            ScanCell::IndRnn => F::default(),
        }
    }

    /// What the other gate takes in.
    pub fn candidate(&self) -> F {
        let x = self.x[0];
        match self.cell {
            ScanCell::MinGru | ScanCell::Qrnn => self.apply(1, x),
            ScanCell::MinLstm => self.apply(0, x),
            ScanCell::Sru { .. } => x,
            ScanCell::IndRnn => self.apply(0, self.sum()),
        }
    }

    /// What an IndRNN applies its function to.
    pub fn sum(&self) -> F {
        self.x[0] + self.extra[0] * self.before
    }

    /// c after the step; h of a cell that keeps no c.
    pub fn after(&self) -> F {
        let candidate = self.candidate();
        let taken = match self.cell {
            ScanCell::IndRnn => return candidate,
            ScanCell::MinGru => self.apply(0, self.x[1]),
            ScanCell::MinLstm => normalized_gates(self.x[1], self.x[2])[1],
            ScanCell::Sru { .. } | ScanCell::Qrnn => F::ONE - self.forget(),
        };
        self.forget() * self.before + taken * candidate
    }

    /// r of an SRU, the output gate of a QRNN.
    pub fn output_gate(&self) -> F {
        let of_c = if let ScanCell::Sru { .. } = self.cell { self.extra[1] * self.before } else { F::default() };
        self.apply(0, self.x[2] + of_c)
    }

    /// h after the step, of a cell that keeps c.
    pub fn output(&self, after: F) -> F {
        match self.cell {
            ScanCell::Sru { .. } => {
                let gate = self.output_gate();
                gate * self.apply(1, after) + (F::ONE - gate) * self.x[3]
            }
            ScanCell::Qrnn => self.output_gate() * after,
            _ => after,
        }
    }
}

/// `σ(f) / (σ(f) + σ(i))` and `σ(i) / (σ(f) + σ(i))`: both sigmoids by a common factor that leaves no exponent above 0 and
/// one of them at 0, so that neither overflows nor divides 0 by 0.
pub(super) fn normalized_gates<F: Real>(f: F, i: F) -> [F; 2] {
    let zero = F::default();
    let least = if f < i { f } else { i };
    let least = if least < zero { least } else { zero };
    let [of_f, of_i] = [i, f].map(|other| least.exp() + (least - other).exp());
    let sum = of_f + of_i;
    [of_f / sum, of_i / sum]
}

/// One timestep of one batch row.
///
/// - `projected` `[G*H]`: W x + b of this timestep, the blocks x₀, x₁, .. one behind the other
/// - `extra` `[2H]`: v and w of an SRU; `[H]`: u of an IndRNN; or empty
/// - `h_in`, `h_out` `[H]`
/// - `c` `[H]`: in place; empty for a cell that keeps none
pub fn scan_step<F: Real>(
    cell: (ScanCell, &[Activation]),
    projected: &[F],
    extra: &[F],
    h_in: &[F],
    c: &mut [F],
    h_out: &mut [F],
) {
    let hidden = h_out.len();
    for (unit, h) in h_out.iter_mut().enumerate() {
        let before = c.get(unit).copied().unwrap_or(h_in[unit]);
        let of_unit = ScanUnit::new(cell, [projected, extra], (unit, hidden), before);
        let after = of_unit.after();
        *h = of_unit.output(after);
        if let Some(c) = c.get_mut(unit) {
            *c = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_normalized_far_out() {
        for (f, i) in [(0.3f64, -0.7), (-2.0, 5.0), (40.0, 41.0), (-3.0, -3.0)] {
            let [of_f, of_i] = [f, i].map(super::super::sigmoid);
            let [forget, input] = normalized_gates(f, i);
            assert!((forget - of_f / (of_f + of_i)).abs() < 1e-12, "{f}, {i}: {forget}");
            assert!((forget + input - 1.0).abs() < 1e-12);
        }
        // Both sigmoids are 0 in f32, or their exponentials infinite.
        for (f, i, expected) in [(-200.0f32, -200.0, 0.5), (-1e4, -200.0, 0.0), (1e4, -1e4, 1.0), (1e4, 1e4, 0.5)] {
            let got = normalized_gates(f, i)[0];
            assert!((got - expected).abs() < 1e-6, "{f}, {i}: {got}");
        }
        assert!(normalized_gates(f32::NAN, 1.0)[0].is_nan() && normalized_gates(1.0, f32::NAN)[0].is_nan());
    }
}

//! The cell update of a step, from its sums, for one vector of units at a time.
//!
//! Equations and sources: `reference/{lstm_step,gru_step,rnn_step}.rs`.

use fearless_simd::prelude::*;

use super::functions::{apply, clamp, sigmoid, sigmoid_tanh};
use super::simd::Wide;
use crate::network::{Activation, Direction, Recurrence, RecurrentStage, gates};

/// The options of a step that are the same in all of a direction.
#[derive(Clone, Debug)]
pub(super) struct CellOptions {
    /// Gates, candidate, output; as many as the cell has.
    pub activations: [Activation; 3],
    pub clip: Option<f32>,
    /// Bound of an LSTM's c.
    pub cell_clip: Option<f32>,
    /// Whether an LSTM's forget gate is `1 - i`.
    pub coupled: bool,
    /// The share of c that stays as it was.
    zoneout_c: f32,
    /// Sigmoid, tanh, tanh and nothing coupled, as most LSTMs have it.
    usual: bool,
}

impl CellOptions {
    pub fn new(direction: &Direction, stage: &RecurrentStage) -> Self {
        let (coupled, cell_clip) = match stage.recurrence {
            Recurrence::Lstm { coupled, cell_clip, .. } => (coupled, cell_clip),
            _ => (false, None),
        };
        let mut activations = [Activation::Linear; 3];
        activations.iter_mut().zip(&direction.activations).for_each(|(to, &from)| *to = from);
        Self {
            activations,
            clip: stage.clip,
            cell_clip,
            coupled,
            zoneout_c: stage.zoneout.c,
            usual: !coupled && activations == [Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        }
    }

    #[inline(always)]
    fn activate<S: Wide>(&self, simd: S, which: usize, x: S::f32s) -> S::f32s {
        apply(simd, self.activations[which], bounded(simd, self.clip, x))
    }
}

#[inline(always)]
fn bounded<S: Wide>(simd: S, bound: Option<f32>, x: S::f32s) -> S::f32s {
    match bound {
        Some(bound) => clamp(simd, x, -bound, bound),
        None => x,
    }
}

const GATES: usize = 0;
const CANDIDATE: usize = 1;

#[inline(always)]
fn peep<S: Wide>(peepholes: Option<[S::f32s; 3]>, which: usize, sum: S::f32s, c: S::f32s) -> S::f32s {
    match peepholes {
        Some(peepholes) => peepholes[which].mul_add(c, sum),
        None => sum,
    }
}

/// New c and h of an LSTM from its pre-activations i, f, g, o and, if it has them, its peepholes
/// i, f, o.
#[inline(always)]
pub(super) fn lstm<S: Wide>(
    simd: S,
    options: &CellOptions,
    sums: [S::f32s; 4],
    peepholes: Option<[S::f32s; 3]>,
    c: S::f32s,
) -> [S::f32s; 2] {
    let input = bounded(simd, options.clip, peep::<S>(peepholes, 0, sums[gates::INPUT], c));
    let forget = bounded(simd, options.clip, peep::<S>(peepholes, 1, sums[gates::FORGET], c));
    let candidate = bounded(simd, options.clip, sums[gates::CANDIDATE]);
    if options.usual {
        let c = sigmoid(simd, forget).mul_add(c, sigmoid_tanh(simd, input, candidate));
        let c = bounded(simd, options.cell_clip, c);
        let output = bounded(simd, options.clip, peep::<S>(peepholes, 2, sums[gates::OUTPUT], c));
        return [c, sigmoid_tanh(simd, output, c)];
    }
    let [of_gates, of_candidate, of_output] = options.activations;
    let input = apply(simd, of_gates, input);
    let forget = if options.coupled { S::f32s::splat(simd, 1.0) - input } else { apply(simd, of_gates, forget) };
    let c = forget.mul_add(c, input * apply(simd, of_candidate, candidate));
    let c = bounded(simd, options.cell_clip, c);
    let output = bounded(simd, options.clip, peep::<S>(peepholes, 2, sums[gates::OUTPUT], c));
    [c, apply(simd, of_gates, output) * apply(simd, of_output, c)]
}

/// What an LSTM keeps of its c `before` and `after` a step.
#[inline(always)]
pub(super) fn zoned_c<S: Wide>(simd: S, options: &CellOptions, before: S::f32s, after: S::f32s) -> S::f32s {
    let share = options.zoneout_c;
    if share == 0.0 {
        return after;
    }
    S::f32s::splat(simd, share).mul_add(before, S::f32s::splat(simd, 1.0 - share) * after)
}

/// A gate of a GRU, reset or update, from its pre-activation.
#[inline(always)]
pub(super) fn gate<S: Wide>(simd: S, options: &CellOptions, sum: S::f32s) -> S::f32s {
    options.activate(simd, GATES, sum)
}

/// New h of a GRU from its update gate and its candidate's pre-activation.
#[inline(always)]
pub(super) fn gru<S: Wide>(simd: S, options: &CellOptions, update: S::f32s, candidate: S::f32s, h: S::f32s) -> S::f32s {
    let candidate = options.activate(simd, CANDIDATE, candidate);
    (S::f32s::splat(simd, 1.0) - update).mul_add(candidate, update * h)
}

/// New h of a plain RNN.
#[inline(always)]
pub(super) fn rnn<S: Wide>(simd: S, options: &CellOptions, sum: S::f32s) -> S::f32s {
    options.activate(simd, GATES, sum)
}

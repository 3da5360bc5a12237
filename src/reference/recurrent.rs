//! One level of a recurrent layer: the steps in all directions, masks, states.

use std::borrow::Cow;

use super::activations::clamp;
use super::normalized::{layer_norm_gru_step, layer_norm_lstm_step};
use super::weights::DirectionWeights;
use super::zoneout::{ZoneoutMode, ZoneoutPlace};
use super::{LstmOptions, Real, gru_step, linear, lstm_step, rnn_step, scan_step, slstm_step};
use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::network::{Activation, Direction, MaskedOutput, Norms, Recurrence, RecurrentStage, Rounding, StageRounding};

/// What a step of a recurrence does beyond its sums; an LSTM has N = 3 functions, a GRU 2, a plain RNN 1.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions<const N: usize> {
    /// Functions of the gates, the candidate and the output, as many as the cell has.
    pub activations: [Activation; N],
    /// Bound of the pre-activations.
    pub clip: Option<f32>,
    /// Whether h is rounded to f16 for the product with U.
    pub half_state: bool,
}

impl<const N: usize> StepOptions<N> {
    /// Those of one direction.
    pub(super) fn new(shape: LevelShape<'_>, stage: &RecurrentStage, direction: &Direction) -> Result<Self> {
        let activations = direction.activations.as_slice().try_into().map_err(|_| {
            let expected = format!("{N} functions ({})", stage.cell().name());
            Error::network(shape.label, "activations", expected, &direction.activations.len())
        })?;
        Ok(Self { activations, clip: stage.clip, half_state: shape.rounding.state.numbers })
    }

    /// What of the state is multiplied.
    pub(super) fn factor<F: Real>(&self, x: F) -> F {
        if self.half_state { x.to_half() } else { x }
    }
}

/// `x` within `±bound`.
pub(super) fn bounded<F: Real>(bound: Option<f32>, x: F) -> F {
    match bound {
        Some(bound) => clamp(x, F::from_f32(-bound), F::from_f32(bound)),
        None => x,
    }
}

/// Sizes of one run of a level.
#[derive(Clone, Copy)]
pub(crate) struct LevelShape<'a> {
    /// Name of the stage, for errors.
    pub label: &'a str,
    pub steps: usize,
    pub batch: usize,
    pub sequence_out: bool,
    /// Bits `[T, B]`, if any step is masked.
    pub mask: Option<&'a [u32]>,
    pub rounding: StageRounding,
    pub zoneout: ZoneoutMode,
}

/// One level in all its directions: `[T, B, I]` to `[T, B, D*H]` or `[B, D*H]`, with its layer's h `[L*D, B, H]` and what its cell
/// keeps beside it, `[L*D, B, S*H]` ([`RecurrentStage::cell_size`]).
pub(crate) fn level<F: Real>(
    shape: LevelShape<'_>,
    stage: &RecurrentStage,
    weights: &[DirectionWeights<F>],
    input: &[F],
    (state_h, state_c): (&mut [F], &mut [F]),
) -> Result<Vec<F>> {
    let LevelShape { steps, batch, sequence_out, .. } = shape;
    let (hidden, width, of_cells) = (stage.hidden_size, stage.state_size(), stage.cell_size());
    let stride = stage.directions.len() * width;
    let mut output = vec![F::default(); if sequence_out { steps } else { 1 } * batch * stride];
    let mut raw = vec![F::default(); hidden];
    let (mut before_h, mut before_c) = (vec![F::default(); width], Vec::new());
    for (index, (direction, weights)) in stage.directions.iter().zip(weights).enumerate() {
        let projected =
            linear(&factors(input, shape.rounding.input), &weights.input, &weights.biases.bias, Activation::Linear);
        let row_of_state = stage.level * stage.directions.len() + index;
        let h = &mut state_h[row_of_state * batch * width..][..batch * width];
        let c = &mut state_c[row_of_state * batch * of_cells..][..batch * of_cells];
        for step in 0..steps {
            let t = if direction.reverse { steps - 1 - step } else { step };
            for row in 0..batch {
                let at = t * batch + row;
                let h = &mut h[row * width..][..width];
                let out = &mut output[(if sequence_out { at } else { row }) * stride + index * width..][..width];
                let mask = shape.mask.map_or(bits::VALID, |mask| mask[at]);
                if mask & bits::VALID == 0 {
                    if stands_still(stage, direction.reverse, sequence_out, mask) {
                        out.copy_from_slice(h);
                    } else {
                        out.fill(F::default());
                    }
                    continue;
                }
                let projected = &projected[at * stage.gate_rows()..][..stage.gate_rows()];
                let c = &mut c[row * of_cells..][..of_cells];
                before_h.copy_from_slice(h);
                before_c.clear();
                before_c.extend_from_slice(c);
                step_of(shape, stage, direction, weights, [projected, h], c, &mut raw)?;
                if stage.recurrence.proj_size() == 0 {
                    h.copy_from_slice(&raw);
                } else {
                    let none = vec![F::default(); width];
                    let raw = factors(&raw, shape.rounding.projection);
                    h.copy_from_slice(&linear(&raw, &weights.projection, &none, Activation::Linear));
                }
                let place = ZoneoutPlace { direction: index, is_c: false, time: t, row };
                shape.zoneout.apply(stage, place, &before_h, h);
                shape.zoneout.apply(stage, ZoneoutPlace { is_c: true, ..place }, &before_c, c);
                out.copy_from_slice(h);
            }
        }
    }
    Ok(output)
}

/// One step of one row of a level: from W x + b and h to the new h, not projected yet; c in place.
pub(super) fn step_of<F: Real>(
    shape: LevelShape<'_>,
    stage: &RecurrentStage,
    direction: &Direction,
    weights: &DirectionWeights<F>,
    [projected, h]: [&[F]; 2],
    c: &mut [F],
    raw: &mut [F],
) -> Result<()> {
    let (recurrent, extra) = (&weights.recurrent, &weights.biases.extra);
    match stage.recurrence {
        Recurrence::Lstm { coupled, cell_clip, .. } => {
            let options = LstmOptions { step: StepOptions::new(shape, stage, direction)?, coupled, cell_clip };
            lstm_step(&options, projected, recurrent, extra, h, c, raw);
        }
        Recurrence::Gru { reset_after } => {
            let options = StepOptions::new(shape, stage, direction)?;
            gru_step(&options, reset_after, projected, recurrent, extra, h, raw);
        }
        Recurrence::LayerNormLstm(_) => {
            let options = StepOptions::new(shape, stage, direction)?;
            layer_norm_lstm_step(&options, weights.norms(shape)?, projected, recurrent, h, c, raw);
        }
        Recurrence::LayerNormGru(_) => {
            let options = StepOptions::new(shape, stage, direction)?;
            layer_norm_gru_step(&options, weights.norms(shape)?, projected, recurrent, h, raw);
        }
        Recurrence::Rnn => {
            let options = StepOptions::new(shape, stage, direction)?;
            rnn_step(&options, projected, recurrent, h, raw);
        }
        Recurrence::Slstm { .. } => {
            let options = StepOptions::new(shape, stage, direction)?;
            slstm_step(&options, projected, recurrent, h, c, raw);
        }
        Recurrence::Scan(cell) => scan_step((cell, &direction.activations), projected, extra, h, c, raw),
    }
    Ok(())
}

impl<F> DirectionWeights<F> {
    /// The normalizations, which a layer-normalized cell has.
    pub(super) fn norms(&self, shape: LevelShape<'_>) -> Result<&Norms<F>> {
        self.norms.as_ref().ok_or_else(|| Error::network(shape.label, "cell", "weights with normalizations", &"none"))
    }
}

/// What is multiplied: `numbers`, or what `rounding` makes of them.
pub(crate) fn factors<F: Real>(numbers: &[F], rounding: Rounding) -> Cow<'_, [F]> {
    if rounding.numbers { numbers.iter().map(|x| x.to_half()).collect() } else { Cow::Borrowed(numbers) }
}

/// Whether a masked step's output is the state, which does not change, or 0.
pub(crate) fn stands_still(stage: &RecurrentStage, reverse: bool, sequence_out: bool, mask: u32) -> bool {
    let seen = if reverse { bits::SEEN_REVERSE } else { bits::SEEN_FORWARD };
    match stage.masked_output {
        MaskedOutput::Previous => mask & seen != 0,
        MaskedOutput::Zero => !sequence_out,
    }
}

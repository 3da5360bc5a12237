//! The gradients of one level of a recurrent layer: the steps of all directions from the last to the first.

use super::normalized_backward::{NormGradients, layer_norm_gru_step_backward, layer_norm_lstm_step_backward};
use super::recurrent::{LevelShape, step_of};
use super::step_backward::{StepGradients, StepInputs};
use super::weights::DirectionWeights;
use super::zoneout::ZoneoutPlace;
use super::{
    LstmOptions, Real, StepOptions, gru_step_backward, linear, lstm_step_backward, rnn_step_backward,
    scan_step_backward, slstm_step_backward, stands_still,
};
use crate::base::bits;
use crate::base::error::Result;
use crate::network::{
    Activation, Biases, Cell, Direction, Recurrence, RecurrentStage, Role, unfold_biases, unfold_recurrent,
};

/// The gradient of a parameter: the direction that it belongs to, its role, its numbers in the tensor's order.
pub(crate) type ParamGradient<F> = (usize, Role, Vec<F>);

/// The gradients of what a level read.
pub(crate) struct LevelGradients<F> {
    /// `[T, B, I]`
    pub input: Vec<F>,
    /// In no order.
    pub params: Vec<ParamGradient<F>>,
}

/// The gradients of a level that ran from its layer's state `(h, c)`, `[L*D, B, H]` and `[L*D, B, S*H]` as in [`level`](super::level), from that of its output.
///
/// `d_state_h` and `d_state_c` are the gradient of its layer's state after the run; the level's rows become the
/// gradient of the state before it.
pub(crate) fn level_backward<F: Real>(
    shape: LevelShape<'_>,
    stage: &RecurrentStage,
    weights: &[DirectionWeights<F>],
    input: &[F],
    state: (&[F], &[F]),
    d_output: &[F],
    (d_state_h, d_state_c): (&mut [F], &mut [F]),
) -> Result<LevelGradients<F>> {
    let LevelShape { batch, .. } = shape;
    let (width, of_cells) = (stage.state_size(), stage.cell_size());
    let mut gradients = LevelGradients { input: vec![F::default(); input.len()], params: Vec::new() };
    for (index, (direction, weights)) in stage.directions.iter().zip(weights).enumerate() {
        let at = (stage.level * stage.directions.len() + index) * batch;
        let of_h = at * width..(at + batch) * width;
        let of_c = at * of_cells..(at + batch) * of_cells;
        let lane = LevelDirection { shape, stage, direction, index, weights, input };
        let state = (&state.0[of_h.clone()], &state.1[of_c.clone()]);
        lane.backward(state, d_output, (&mut d_state_h[of_h], &mut d_state_c[of_c]), &mut gradients)?;
    }
    Ok(gradients)
}

/// One direction of a level.
struct LevelDirection<'a, F> {
    shape: LevelShape<'a>,
    stage: &'a RecurrentStage,
    direction: &'a Direction,
    /// Its position among the level's directions.
    index: usize,
    weights: &'a DirectionWeights<F>,
    input: &'a [F],
}

/// h, c and the h before a projection of one row, before each step; the last is the final state.
struct History<F> {
    h: Vec<F>,
    c: Vec<F>,
    raw: Vec<F>,
}

/// The sums over all steps and rows of a direction's gradients, as the reference holds its weights.
pub(super) struct WeightSums<F> {
    pub recurrent: Vec<F>,
    pub extra: Vec<F>,
    pub projection: Vec<F>,
    pub norms: Option<NormGradients<F>>,
}

impl<F: Real> WeightSums<F> {
    pub fn zeros(weights: &DirectionWeights<F>) -> Self {
        let zeros = |of: &Vec<F>| vec![F::default(); of.len()];
        Self {
            recurrent: zeros(&weights.recurrent),
            extra: zeros(&weights.biases.extra),
            projection: zeros(&weights.projection),
            norms: weights.norms.as_ref().map(NormGradients::zeros),
        }
    }
}

impl<F: Real> LevelDirection<'_, F> {
    fn time(&self, step: usize) -> usize {
        if self.direction.reverse { self.shape.steps - 1 - step } else { step }
    }

    fn mask(&self, at: usize) -> u32 {
        self.shape.mask.map_or(bits::VALID, |mask| mask[at])
    }

    fn backward(
        &self,
        (h, c): (&[F], &[F]),
        d_output: &[F],
        (d_h, d_c): (&mut [F], &mut [F]),
        gradients: &mut LevelGradients<F>,
    ) -> Result<()> {
        let Self { shape, stage, weights, .. } = *self;
        let (of_cells, width, rows) = (stage.cell_size(), stage.state_size(), stage.gate_rows());
        let projected = linear(self.input, &weights.input, &weights.biases.bias, Activation::Linear);
        let mut d_projected = vec![F::default(); projected.len()];
        let mut sums = WeightSums::zeros(weights);
        for row in 0..shape.batch {
            let c = &c[row * of_cells..][..of_cells];
            let history = self.history(row, &h[row * width..][..width], c, &projected)?;
            let d_h = &mut d_h[row * width..][..width];
            let d_c = &mut d_c[row * of_cells..][..of_cells];
            for step in (0..shape.steps).rev() {
                let at = self.time(step) * shape.batch + row;
                self.add_output(d_output, at, row, step, d_h);
                if self.mask(at) & bits::VALID != 0 {
                    let of_step = (&projected[at * rows..][..rows], &mut d_projected[at * rows..][..rows]);
                    let [of_h, of_c] = self.zoneout_places(step, row);
                    let kept = [shape.zoneout.split(stage, of_h, d_h), shape.zoneout.split(stage, of_c, d_c)];
                    self.step(&history, step, of_step, (d_h, d_c), &mut sums)?;
                    let more = d_h.iter_mut().zip(&kept[0]).chain(d_c.iter_mut().zip(&kept[1]));
                    more.for_each(|(d, &kept)| *d += kept);
                }
            }
        }
        self.collect(&d_projected, sums, gradients);
        Ok(())
    }

    /// h and c of one step of one row.
    fn zoneout_places(&self, step: usize, row: usize) -> [ZoneoutPlace; 2] {
        let time = self.time(step);
        [false, true].map(|is_c| ZoneoutPlace { direction: self.index, is_c, time, row })
    }

    /// Runs one row again and keeps what its steps read.
    fn history(&self, row: usize, h: &[F], c: &[F], projected: &[F]) -> Result<History<F>> {
        let Self { shape, stage, direction, weights, .. } = *self;
        let rows = stage.gate_rows();
        let mut history = History { h: h.to_vec(), c: c.to_vec(), raw: Vec::new() };
        let (mut h, mut c, mut raw) = (h.to_vec(), c.to_vec(), vec![F::default(); stage.hidden_size]);
        for step in 0..shape.steps {
            let at = self.time(step) * shape.batch + row;
            if self.mask(at) & bits::VALID != 0 {
                let projected = &projected[at * rows..][..rows];
                let before = [h.clone(), c.clone()];
                step_of(shape, stage, direction, weights, [projected, &h], &mut c, &mut raw)?;
                if stage.recurrence.proj_size() == 0 {
                    h.copy_from_slice(&raw);
                } else {
                    h = linear(&raw, &weights.projection, &vec![F::default(); h.len()], Activation::Linear);
                }
                let [of_h, of_c] = self.zoneout_places(step, row);
                shape.zoneout.apply(stage, of_h, &before[0], &mut h);
                shape.zoneout.apply(stage, of_c, &before[1], &mut c);
            }
            history.h.extend(&h);
            history.c.extend(&c);
            history.raw.extend(&raw);
        }
        Ok(history)
    }

    /// Adds the gradient of the output of a step to that of h after it.
    fn add_output(&self, d_output: &[F], at: usize, row: usize, step: usize, d_h: &mut [F]) {
        let Self { shape, stage, .. } = *self;
        let mask = self.mask(at);
        // The output of a masked step is the state, which does not change, or 0.
        let seen = mask & bits::VALID != 0 || stands_still(stage, self.direction.reverse, shape.sequence_out, mask);
        // Without a time dimension the last step alone is handed on.
        if !seen || !shape.sequence_out && step + 1 < shape.steps {
            return;
        }
        let width = stage.state_size();
        let stride = stage.directions.len() * width;
        let d_output = &d_output[(if shape.sequence_out { at } else { row }) * stride + self.index * width..][..width];
        d_h.iter_mut().zip(d_output).for_each(|(d_h, &d)| *d_h += d);
    }

    /// The gradients of one step from that of the state after it, which becomes that of the state before it.
    fn step(
        &self,
        history: &History<F>,
        step: usize,
        (projected, d_projected): (&[F], &mut [F]),
        (d_h, d_c): (&mut [F], &mut [F]),
        sums: &mut WeightSums<F>,
    ) -> Result<()> {
        let Self { shape, stage, direction, weights, .. } = *self;
        let (hidden, width) = (stage.hidden_size, stage.state_size());
        let d_raw = if weights.projection.is_empty() {
            d_h.to_vec()
        } else {
            let raw = &history.raw[step * hidden..][..hidden];
            let lines = weights.projection.chunks_exact(width).zip(sums.projection.chunks_exact_mut(width));
            lines
                .zip(raw)
                .map(|((weights, d_weights), &raw)| {
                    let mut sum = F::default();
                    for ((&weight, d_weight), &d) in weights.iter().zip(d_weights).zip(&*d_h) {
                        sum += weight * d;
                        *d_weight += raw * d;
                    }
                    sum
                })
                .collect()
        };
        let inputs = StepInputs {
            projected,
            recurrent: &weights.recurrent,
            extra: &weights.biases.extra,
            h: &history.h[step * width..][..width],
            c: &history.c[step * stage.cell_size()..][..stage.cell_size()],
        };
        let gradients = &mut StepGradients {
            projected: d_projected,
            recurrent: &mut sums.recurrent,
            extra: &mut sums.extra,
            h: d_h,
            c: d_c,
        };
        step_backward((shape, stage, direction, weights), inputs, &d_raw, gradients, &mut sums.norms)
    }

    /// The gradients of the input and of the tensors.
    fn collect(&self, d_projected: &[F], sums: WeightSums<F>, gradients: &mut LevelGradients<F>) {
        let Self { stage, weights, index, .. } = *self;
        let rows = stage.gate_rows();
        let inputs = weights.input.len() / rows;
        let mut d_weights = vec![F::default(); weights.input.len()];
        let mut bias = vec![F::default(); rows];
        let lines = d_projected.chunks_exact(rows).zip(self.input.chunks_exact(inputs));
        for ((d, x), d_x) in lines.zip(gradients.input.chunks_exact_mut(inputs)) {
            super::step_backward::product_backward(&weights.input, x, d, &mut d_weights, d_x);
            bias.iter_mut().zip(d).for_each(|(bias, &d)| *bias += d);
        }
        gradients.params.extend(param_gradients(stage, index, (&d_weights, bias), sums));
    }
}

/// The gradients of one step of a cell from that of h after it, `d_raw`, before a projection.
pub(super) fn step_backward<F: Real>(
    (shape, stage, direction, weights): (LevelShape<'_>, &RecurrentStage, &Direction, &DirectionWeights<F>),
    inputs: StepInputs<'_, F>,
    d_raw: &[F],
    gradients: &mut StepGradients<'_, F>,
    norms: &mut Option<NormGradients<F>>,
) -> Result<()> {
    match (stage.recurrence, norms) {
        (Recurrence::Lstm { coupled, cell_clip, .. }, _) => {
            let options = LstmOptions { step: StepOptions::new(shape, stage, direction)?, coupled, cell_clip };
            lstm_step_backward(&options, inputs, d_raw, gradients);
        }
        (Recurrence::Gru { reset_after }, _) => {
            let options = StepOptions::new(shape, stage, direction)?;
            gru_step_backward(&options, reset_after, inputs, d_raw, gradients);
        }
        (Recurrence::LayerNormLstm(_), Some(of_norms)) => {
            let (options, norms) = (StepOptions::new(shape, stage, direction)?, weights.norms(shape)?);
            layer_norm_lstm_step_backward(&options, norms, inputs, d_raw, gradients, of_norms);
        }
        (Recurrence::LayerNormGru(_), Some(of_norms)) => {
            let (options, norms) = (StepOptions::new(shape, stage, direction)?, weights.norms(shape)?);
            layer_norm_gru_step_backward(&options, norms, inputs, d_raw, gradients, of_norms);
        }
        (Recurrence::Rnn, _) => {
            let options = StepOptions::new(shape, stage, direction)?;
            rnn_step_backward(&options, inputs, d_raw, gradients);
        }
        (Recurrence::Slstm { .. }, _) => {
            let options = StepOptions::new(shape, stage, direction)?;
            slstm_step_backward(&options, inputs, d_raw, gradients);
        }
        (Recurrence::Scan(cell), _) => {
            scan_step_backward((cell, &direction.activations), inputs, d_raw, gradients);
        }
        (Recurrence::LayerNormLstm(_) | Recurrence::LayerNormGru(_), None) => {
            weights.norms(shape)?;
        }
    }
    Ok(())
}

/// The gradients of the tensors of a direction, from those of W transposed, of what is added to the sums, and of the rest.
pub(super) fn param_gradients<F: Real>(
    stage: &RecurrentStage,
    index: usize,
    (d_weights, bias): (&[F], Vec<F>),
    sums: WeightSums<F>,
) -> Vec<ParamGradient<F>> {
    let rows = stage.gate_rows();
    let mut params = Vec::new();
    let WeightSums { recurrent, extra, projection, norms } = sums;
    let [bias_ih, bias_hh, weight_p] = unfold_biases(stage, &Biases { bias, extra });
    let mut add = |role, numbers: Vec<F>| params.push((index, role, numbers));
    add(Role::WeightIh, transposed(d_weights, rows));
    add(Role::BiasIh, bias_ih);
    add(Role::BiasHh, bias_hh);
    if stage.cell() == Cell::IndRnn {
        add(Role::WeightHh, weight_p);
    } else {
        add(Role::WeightHh, unfold_recurrent(stage, transposed(&recurrent, rows)));
        add(Role::WeightP, weight_p);
    }
    add(Role::WeightHr, transposed(&projection, stage.state_size()));
    if let Some(NormGradients { input: [weight, bias], state: [state_weight, state_bias], c: [c_weight, c_bias] }) =
        norms
    {
        // A level has the tensors of the sum or of the parts.
        add(Role::NormWeight, weight.clone());
        add(Role::NormBias, bias.clone());
        add(Role::NormIhWeight, weight);
        add(Role::NormIhBias, bias);
        add(Role::NormHhWeight, state_weight);
        add(Role::NormHhBias, state_bias);
        add(Role::NormCWeight, c_weight);
        add(Role::NormCBias, c_bias);
    }
    params
}

/// `[K, N]` as `[N, K]`.
pub(super) fn transposed<F: Real>(matrix: &[F], columns: usize) -> Vec<F> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns)).copied().collect()
}

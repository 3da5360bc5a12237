//! The gradients of a whole network: the backward passes of its stages, from the last to the first.

use std::collections::BTreeMap;

use super::forward::{Hooks, ParamGradients, ReferenceRun, StageBackward};
use super::step_loop::LoopInputs;
use super::walk::{RealInputs, RunStart, start_from_inputs, steps_in, tokens_of};
use super::{Forward, Reference, begin};
use crate::base::Real;
use crate::base::error::{Error, Result};
use crate::data::input::{Checked, Input};
use crate::data::state::State;
use crate::network::{Role, Source, Stage, StageKind};
use crate::reference::{
    LevelShape, StageGradients, StageInput, StageWeights, ZoneoutMode, level_backward, ntm_backward, shape_of, softmax,
    softmax_backward, stateless_backward,
};

/// The gradients of a number that depends on a network's output.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gradients<F> {
    /// Of every tensor that can be trained, by its name and in its order. Statistics have no gradient.
    pub params: BTreeMap<String, Vec<F>>,
    /// Of the input `[T, B, I]`, time-major; empty for tokens.
    pub input: Vec<F>,
    /// Of the state that the run began from.
    pub state: State<F>,
}

impl<F: Real> Reference<F> {
    /// The gradients of a number from that of the output of stage `from`, `d_output` `[T, B, N]` or `[B, N]`, time-major:
    /// the last stage, or, for a loss from logits, the one before a softmax. `forward` is what the run on the same input
    /// and state computed.
    ///
    /// # Errors
    /// As [`Reference::forward`]; [`Error::Shape`] if `d_output` is not as long as the output.
    pub fn gradients(
        &self,
        input: Input<'_>,
        state: Option<&State>,
        forward: &Forward<F>,
        from: (usize, &[F]),
    ) -> Result<Gradients<F>> {
        self.gradients_with(&Checked::new(&self.network, input, state)?, state, forward, from, Hooks::default())
    }

    /// As [`Reference::gradients`] of a run with the same `hooks`.
    pub(crate) fn gradients_with(
        &self,
        checked: &Checked<'_>,
        state: Option<&State>,
        forward: &Forward<F>,
        from: (usize, &[F]),
        hooks: Hooks<'_, F>,
    ) -> Result<Gradients<F>> {
        let mut memory = BackwardMemory { of_input: true, ..BackwardMemory::default() };
        let mut params = BTreeMap::new();
        self.run().gradients((checked, state), forward, from, hooks, &mut memory, &mut params)?;
        Ok(Gradients { params, input: memory.input, state: memory.d_state })
    }
}

/// What a backward pass computes, and memory for the next.
#[derive(Debug)]
pub(crate) struct BackwardMemory<F> {
    /// Whether the gradient of the network's input is wanted.
    pub of_input: bool,
    /// Gradient of the input; empty where it is not wanted.
    input: Vec<F>,
    /// Of every stage's output.
    stages: Vec<Vec<F>>,
    steps: Vec<usize>,
    /// The state that the run began from.
    start: State<F>,
    d_state: State<F>,
}

impl<F> Default for BackwardMemory<F> {
    fn default() -> Self {
        let none = || State { layers: Vec::new() };
        let (start, d_state) = (none(), none());
        Self { of_input: false, input: Vec::new(), stages: Vec::new(), steps: Vec::new(), start, d_state }
    }
}

fn zeros<F: Real>(numbers: &mut Vec<F>, len: usize) {
    numbers.clear();
    numbers.resize(len, F::default());
}

impl<F: Real> ReferenceRun<'_, F> {
    /// The gradients by all parameters of a number from that of the output of stage `from`. `forward` is what the run from
    /// the same state with the same `hooks` computed.
    pub fn gradients(
        &self,
        (checked, state): (&Checked<'_>, Option<&State>),
        forward: &Forward<F>,
        (from, d_output): (usize, &[F]),
        hooks: Hooks<'_, F>,
        memory: &mut BackwardMemory<F>,
        params: &mut dyn ParamGradients<F>,
    ) -> Result<()> {
        let (network, batch) = (self.network, checked.batch);
        if state.is_some() {
            network.trains_from_states()?;
        }
        let BackwardMemory { of_input, input: d_network, stages: d_stages, steps: steps_out, start, d_state } = memory;
        network.stage_steps_into(|input| checked.steps_of(input), steps_out)?;
        let real = RealInputs::new(network, checked);
        let numbers = forward.stages.get(from).map_or(0, Vec::len);
        if d_output.len() != numbers {
            let (expected, got) = (format!("{numbers} numbers"), d_output.len().to_string());
            return Err(Error::shape("gradient of the output", expected, got));
        }
        begin(network, batch, state, start);
        d_state.shape(network, batch);
        d_state.parts_mut().for_each(|part| part.data.fill(F::default()));
        d_stages.resize_with(forward.stages.len(), Vec::new);
        for (d_stage, output) in d_stages.iter_mut().zip(&forward.stages).take(from) {
            zeros(d_stage, output.len());
        }
        if let Some(from) = d_stages.get_mut(from) {
            from.clear();
            from.extend_from_slice(d_output);
        }
        zeros(d_network, if *of_input { real.features(0).len() } else { 0 });
        for (index, stage) in network.stages().iter().enumerate().take(from + 1).rev() {
            if let Some(steps_loop) = network.step_loop().filter(|steps_loop| steps_loop.stages.contains(&index)) {
                // A gradient of a stage of the loop goes through all of it.
                if index + 1 == steps_loop.stages.end || index == from {
                    let run = RunStart::default();
                    let of_loop = LoopInputs { network, steps_loop, checked, inputs: &real, start: run };
                    let later = d_stages.iter_mut().zip(&forward.stages).take(steps_loop.stages.end).skip(from + 1);
                    later.for_each(|(d, output)| zeros(d, output.len()));
                    let memory = (&mut *d_network, &mut *d_stages, &mut *d_state);
                    self.loop_gradients(&of_loop, steps_out[index], forward, start, hooks, memory, params)?;
                }
                continue;
            }
            let read = |source: &Source| match *source {
                Source::Input(input) => real.features(input),
                Source::Stage(index) => &forward.stages[index][..],
            };
            let (one, several);
            let inputs = if let [source] = &stage.inputs[..] {
                one = [read(source)];
                &one[..]
            } else {
                several = stage.inputs.iter().map(read).collect::<Vec<_>>();
                &several
            };
            let (steps, mask) = (steps_in(stage, checked, steps_out), checked.mask_at(network, stage));
            let flow = StageInput {
                inputs,
                tokens: tokens_of(stage, checked),
                steps,
                past: 0,
                steps_out: steps_out[index],
                batch,
                mask,
                banks: None,
            };
            let mut d_output = std::mem::take(&mut d_stages[index]);
            if let StageKind::FinalState(from) = &stage.kind {
                let to = d_state.layers[from.layer].parts[from.part.place()].row_mut(from.row);
                to.iter_mut().zip(&d_output).for_each(|(to, &d)| *to += d);
                d_stages[index] = d_output;
                continue;
            }
            start_from_inputs(stage, &flow, start);
            (hooks.change)(index, &mut d_output);
            let d_input = match stage.inputs[0] {
                Source::Input(0) => Some(&mut d_network[..]).filter(|d| !d.is_empty()),
                // Only the gradient of the first input is given.
                Source::Input(_) => None,
                Source::Stage(index) => Some(&mut d_stages[index][..]),
            };
            let mut pass = StageBackward { d_output: &d_output, d_input, d_state, params };
            if !hooks.stages.is_some_and(|stages| stages.backward(index, stage, &flow, &mut pass)) {
                let (d_inputs, of_params) =
                    match hooks.norms.and_then(|norms| norms.backward(index, stage, &flow, &d_output)) {
                        Some(StageGradients { inputs, params }) => (inputs, of_stage(params)),
                        None => self.stage_gradients(
                            (index, stage),
                            &flow,
                            &forward.stages[index],
                            &d_output,
                            (start, d_state),
                        )?,
                    };
                for (source, d) in stage.inputs.iter().zip(d_inputs) {
                    let to = match *source {
                        Source::Input(0) => &mut *d_network,
                        Source::Input(_) => continue,
                        Source::Stage(index) => &mut d_stages[index],
                    };
                    to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
                }
                for (direction, role, numbers) in of_params {
                    // What is folded may come from a tensor that the stage does not have.
                    if let Some(to) = stage.param(direction, role).and_then(|param| params.place(param)) {
                        to.copy_from_slice(&numbers);
                    }
                }
            }
            d_stages[index] = d_output;
            starts_backward(stage, batch, d_state, d_stages);
        }
        self.initial_state_gradients(batch, state.is_none(), d_state, params);
        Ok(())
    }

    /// The gradients of one stage by the reference: of its inputs and of its parameters.
    pub(super) fn stage_gradients(
        &self,
        (index, stage): (usize, &Stage),
        flow: &StageInput<'_, F>,
        output: &[F],
        d_output: &[F],
        (start, d_state): (&State<F>, &mut State<F>),
    ) -> Result<(Vec<Vec<F>>, DirectionGradients<F>)> {
        let weights = &self.weights[index];
        if let (StageKind::Ntm(ntm), StageWeights::Ntm(weights)) = (&stage.kind, weights) {
            let shape = shape_of(stage, flow, self.rounding(index));
            let mut start = start.layers[ntm.layer].clone();
            let (start, d_state) = (start.of_memory().into(), d_state.layers[ntm.layer].of_memory().into());
            let gradients = ntm_backward(shape, ntm, weights, flow.inputs[0], start, d_output, d_state)?;
            return Ok((vec![gradients.input], gradients.params));
        }
        let StageKind::Recurrent(level) = &stage.kind else {
            let StageGradients { inputs, params } =
                stateless_backward(self.network, stage, weights, flow, output, d_output)?;
            return Ok((inputs, of_stage(params)));
        };
        let StageInput { steps, batch, mask, .. } = *flow;
        let (rounding, sequence_out) = (self.rounding(index), stage.sequence_out);
        let shape =
            LevelShape { label: &stage.label, steps, batch, sequence_out, mask, rounding, zoneout: ZoneoutMode::Mean };
        let (start, d_layer) = (&start.layers[level.layer], &mut d_state.layers[level.layer]);
        let (cells, mut d_cells) = (start.cells(), d_layer.cells());
        let [d_h, _] = d_layer.h_and_c();
        let (start, d_state) = ((start.h(), &cells[..]), (d_h, &mut d_cells[..]));
        let directions = weights.recurrent().unwrap_or_default();
        let gradients = level_backward(shape, level, directions, flow.inputs[0], start, d_output, d_state)?;
        d_layer.set_cells(&d_cells);
        Ok((vec![gradients.input], gradients.params))
    }

    /// The gradients of stored initial states, from which every batch row starts; 0 where the caller's state is used.
    fn initial_state_gradients(
        &self,
        batch: usize,
        used: bool,
        d_state: &State<F>,
        params: &mut dyn ParamGradients<F>,
    ) {
        let all = self.network.stages().iter().flat_map(|stage| &stage.params);
        for (layer, spec) in d_state.layers.iter().zip(self.network.kept()) {
            for (part, spec) in layer.parts.iter().zip(&spec.parts) {
                let Some(name) = &spec.stored else { continue };
                let param = all.clone().find(|param| param.name == *name && !param.role.is_statistic());
                let Some(sums) = param.and_then(|param| params.place(param)) else { continue };
                let (numbers, width) = (&part.data, part.width());
                sums.fill(F::default());
                for (sums, rows) in sums.chunks_exact_mut(width).zip(numbers.chunks_exact(batch * width)) {
                    for row in rows.chunks_exact(width).filter(|_| used) {
                        sums.iter_mut().zip(row).for_each(|(sum, &d)| *sum += d);
                    }
                }
                if let (true, Some(&last)) = (spec.softmax, spec.dimensions.last()) {
                    let stored = F::of_f32(self.network.weight(name));
                    let mut shares = Vec::new();
                    softmax(&stored, last, false, &mut shares);
                    sums.copy_from_slice(&softmax_backward(&shares, last, false, sums));
                }
            }
        }
    }
}

/// Moves the gradient of a level's initial state to the stages that made it.
pub(super) fn starts_backward<F: Real>(stage: &Stage, batch: usize, d_state: &mut State<F>, d_stages: &mut [Vec<F>]) {
    let Some(level) = stage.recurrent() else { return };
    let layer = &mut d_state.layers[level.layer];
    let widths = [level.state_size(), level.hidden_size];
    for ((position, numbers), width) in level.starts.iter().zip(layer.h_and_c()).zip(widths) {
        let from = match position.and_then(|position| stage.inputs.get(position)) {
            Some(&Source::Stage(from)) => from,
            Some(Source::Input(_)) => {
                numbers.fill(F::default());
                continue;
            }
            None => continue,
        };
        let directions = level.directions.len();
        for (row, to) in d_stages[from].chunks_exact_mut(directions * width).enumerate() {
            for (direction, to) in to.chunks_exact_mut(width).enumerate() {
                let d = &numbers[(direction * batch + row) * width..][..width];
                to.iter_mut().zip(d).for_each(|(to, &d)| *to += d);
            }
        }
        numbers.fill(F::default());
    }
}

/// Gradients of parameters, each with its direction.
pub(super) type DirectionGradients<F> = Vec<(usize, Role, Vec<F>)>;

/// Those of a stage without directions.
fn of_stage<F>(params: Vec<(Role, Vec<F>)>) -> DirectionGradients<F> {
    params.into_iter().map(|(role, numbers)| (0, role, numbers)).collect()
}

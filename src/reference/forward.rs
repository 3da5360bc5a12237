//! A whole network on the CPU.

use std::borrow::Cow;

use super::recurrent::{LevelShape, level};
use super::weights::{StageWeights, convert};
use super::{Columns, Combine, Real, channelwise, combine, embedding, layer_norm, linear, pool, softmax, windows};
use crate::error::{Error, Result};
use crate::input::{Checked, Input, Values};
use crate::network::{Join, MergeMode, Network, Padding, SelectStep, Source, Stage, StageKind, Window};
use crate::room::room;
use crate::state::{LayerState, State};

/// A network prepared for the CPU in `F`.
#[derive(Clone, Debug)]
pub struct Reference<F> {
    network: Network,
    weights: Vec<StageWeights<F>>,
}

/// What [`Reference::forward`] computed, time-major.
#[derive(Clone, Debug)]
pub struct Forward<F> {
    /// Output of every stage, `[T, B, N]` or `[B, N]`.
    pub stages: Vec<Vec<F>>,
    /// Final state of every recurrent layer.
    pub state: State<F>,
}

/// What a stage reads.
pub(crate) struct Flow<'a, F> {
    /// One or several `[T, B, N]` or `[B, N]`.
    pub inputs: Vec<&'a [F]>,
    /// The network's tokens `[T, B]`, if it reads any.
    pub tokens: &'a [u32],
    /// Timesteps of the input.
    pub steps: usize,
    pub batch: usize,
    /// Bits `[T, B]`, where they fit the input's timesteps.
    pub mask: Option<&'a [u32]>,
}

impl<F: Real> Reference<F> {
    /// Converts the weights of `network` once.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let weights = network.stages().iter().map(|stage| StageWeights::new(network, stage)).collect();
        Self { network: network.clone(), weights }
    }

    /// The network this was made from.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs the network and keeps the output of every stage.
    ///
    /// # Errors
    /// Input or state of the wrong shape, a token outside the table.
    pub fn forward(&self, input: Input<'_>, state: Option<&State>) -> Result<Forward<F>> {
        self.forward_checked(&Checked::new(&self.network, input, state)?, state)
    }

    fn forward_checked(&self, checked: &Checked<'_>, state: Option<&State>) -> Result<Forward<F>> {
        walk(&self.network, checked, state, |index, stage, flow, state| match (&stage.kind, &self.weights[index]) {
            (StageKind::Recurrent(recurrent), StageWeights::Recurrent(directions)) => {
                let &Flow { steps, batch, mask, .. } = flow;
                let shape = LevelShape { steps, batch, sequence_out: stage.sequence_out, mask };
                Ok(level(shape, recurrent, directions, flow.inputs[0], &mut state.layers[recurrent.layer]))
            }
            (_, weights) => stateless(stage, weights, flow),
        })
    }
}

/// Has `run` do every stage in order: its index, itself, what it reads, and the state that it moves on.
pub(crate) fn walk<F: Real>(
    network: &Network,
    checked: &Checked<'_>,
    state: Option<&State>,
    mut run: impl FnMut(usize, &Stage, &Flow<'_, F>, &mut State<F>) -> Result<Vec<F>>,
) -> Result<Forward<F>> {
    let mut final_state = start(network, checked.batch, state);
    let steps_out = network.stage_steps(checked.steps)?;
    let (features, tokens) = match &checked.values {
        Values::Features(values) => (F::of_f32(values), &[][..]),
        Values::Tokens(tokens) => (Cow::Borrowed(&[][..]), &tokens[..]),
    };
    let mut outputs: Vec<Vec<F>> = Vec::with_capacity(steps_out.len());
    for (index, stage) in network.stages().iter().enumerate() {
        let read = |source: &Source| match *source {
            Source::Input => &features[..],
            Source::Stage(index) => &outputs[index][..],
        };
        let flow = Flow {
            inputs: stage.inputs.iter().map(read).collect(),
            tokens,
            steps: match stage.inputs[0] {
                Source::Input => checked.steps,
                Source::Stage(index) => steps_out[index],
            },
            batch: checked.batch,
            mask: checked.mask.as_deref().filter(|_| stage.mask_reaches),
        };
        let numbers = [steps_out[index], checked.batch, stage.out_features].into_iter().fold(1, usize::saturating_mul);
        let shape = if stage.sequence_out { "[T, B, N]" } else { "[B, N]" };
        room(|| format!("{} output {shape}", stage.label), numbers, size_of::<F>())?;
        let output = run(index, stage, &flow, &mut final_state)?;
        outputs.push(output);
    }
    Ok(Forward { stages: outputs, state: final_state })
}

/// Every stage but recurrent levels.
pub(crate) fn stateless<F: Real>(stage: &Stage, weights: &StageWeights<F>, flow: &Flow<'_, F>) -> Result<Vec<F>> {
    let x = flow.inputs[0];
    let sizes = [flow.steps, flow.batch, stage.in_features];
    let row_len = flow.batch * stage.in_features;
    Ok(match (&stage.kind, weights) {
        (StageKind::Embedding { .. }, StageWeights::Embedding(table)) => {
            embedding(flow.tokens, table, stage.out_features)
        }
        (StageKind::Dense { activation, .. }, StageWeights::Matrix { weight, bias }) => {
            linear(x, weight, bias, *activation)
        }
        (StageKind::Conv1d { window, activation, .. }, StageWeights::Matrix { weight, bias }) => {
            let seen = windows(x, flow.steps, flow.batch, stage.in_features, window);
            linear(&seen, weight, bias, *activation)
        }
        (StageKind::Pool1d { window, pool: how, count_include_pad }, _) => {
            pool(x, sizes, window, *how, *count_include_pad, None)
        }
        (StageKind::GlobalPool(how), _) => {
            let padding = Padding::default();
            let window = Window { kernel_size: flow.steps, stride: 1, dilation: 1, padding };
            pool(x, sizes, &window, *how, false, flow.mask)
        }
        (StageKind::LayerNorm { eps, .. }, StageWeights::LayerNorm([weight, bias])) => {
            layer_norm(x, *eps, weight, bias)
        }
        (StageKind::Channelwise { activation, .. }, StageWeights::Channels(channels)) => {
            channelwise(x, channels, *activation)
        }
        (StageKind::Softmax, _) => softmax(x, stage.in_features),
        (StageKind::Select(SelectStep::First), _) => x[..row_len].to_vec(),
        (StageKind::Select(SelectStep::Last), _) => x[x.len() - row_len..].to_vec(),
        (StageKind::Reverse, _) => x.chunks_exact(row_len).rev().flatten().copied().collect(),
        (StageKind::Merge(mode), _) => {
            let parts =
                [0, 1].map(|half| (x, Columns { stride: stage.in_features, offset: half * stage.out_features }));
            let (how, scale) = merging(*mode);
            joined(&parts, how, scale, stage.out_features)
        }
        (StageKind::Join(Join::Concat), _) => concatenated(&flow.inputs, flow.batch * rows(stage, flow)),
        (StageKind::Join(join), _) => {
            let columns = Columns { stride: stage.out_features, offset: 0 };
            let parts: Vec<_> = flow.inputs.iter().map(|&x| (x, columns)).collect();
            let (how, scale) = joining(*join, parts.len());
            joined(&parts, how, scale, stage.out_features)
        }
        _ => return Err(Error::network(&stage.label, "stage", "weights of its own kind", &"another kind")),
    })
}

/// Timesteps that a stage's input really has.
fn rows<F>(stage: &Stage, flow: &Flow<'_, F>) -> usize {
    if stage.sequence_in { flow.steps } else { 1 }
}

/// How the directions of a bidirectional layer meet, and what the result is multiplied by.
pub(crate) fn merging(mode: MergeMode) -> (Combine, f32) {
    match mode {
        MergeMode::Concat => (Combine::Copy, 1.0),
        MergeMode::Sum => (Combine::Add, 1.0),
        MergeMode::Ave => (Combine::Add, 0.5),
        MergeMode::Mul => (Combine::Mul, 1.0),
    }
}

/// How joined outputs meet, and what the result is multiplied by.
pub(crate) fn joining(join: Join, inputs: usize) -> (Combine, f32) {
    match join {
        Join::Concat => (Combine::Copy, 1.0),
        Join::Add => (Combine::Add, 1.0),
        Join::Mul => (Combine::Mul, 1.0),
        Join::Max => (Combine::Max, 1.0),
        Join::Average => (Combine::Add, f32::count(inputs).recip()),
    }
}

/// The first part, then each further part met with it; the scale comes last.
fn joined<F: Real>(parts: &[(&[F], Columns)], how: Combine, scale: f32, width: usize) -> Vec<F> {
    let rows = parts[0].0.len() / parts[0].1.stride;
    let mut output = vec![F::default(); rows * width];
    let to = Columns { stride: width, offset: 0 };
    for (index, &(x, from)) in parts.iter().enumerate() {
        let how = if index == 0 { Combine::Copy } else { how };
        let scale = if index + 1 == parts.len() { scale } else { 1.0 };
        combine(how, scale, width, x, from, &mut output, to);
    }
    output
}

fn concatenated<F: Real>(inputs: &[&[F]], rows: usize) -> Vec<F> {
    let stride = inputs.iter().map(|x| x.len() / rows).sum();
    let mut output = vec![F::default(); rows * stride];
    let mut offset = 0;
    for x in inputs {
        let width = x.len() / rows;
        let from = Columns { stride: width, offset: 0 };
        combine(Combine::Copy, 1.0, width, x, from, &mut output, Columns { stride, offset });
        offset += width;
    }
    output
}

/// The caller's state, or the one the network starts from.
fn start<F: Real>(network: &Network, batch: usize, state: Option<&State>) -> State<F> {
    let Some(state) = state else { return State::initial(network, batch) };
    let layers = state.layers.iter().map(|layer| {
        let LayerState { name, h_shape, h, c_shape, c } = layer;
        LayerState { name: name.clone(), h_shape: *h_shape, h: convert(h), c_shape: *c_shape, c: convert(c) }
    });
    State { layers: layers.collect() }
}

//! A whole network on the CPU.

use std::borrow::Cow;

use super::recurrent::{LevelShape, factors, level};
use super::weights::StageWeights;
use super::{Real, channelwise, combine, embedding, layer_norm, linear, pool, softmax, windows};
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::data::input::{Checked, Input, Values};
use crate::data::state::State;
use crate::network::StageRounding;
use crate::network::{
    Columns, Combine, Join, Network, Padding, SelectStep, Source, Stage, StageKind, Window, joining, merging,
};

/// A network prepared for the CPU in `F`.
#[derive(Clone, Debug)]
pub struct Reference<F> {
    network: Network,
    weights: Vec<StageWeights<F>>,
    roundings: Vec<StageRounding>,
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
    pub inputs: &'a [&'a [F]],
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
        Self::rounding(network, &[])
    }

    /// As [`Reference::new`], with factors of products rounded to f16 as in the
    /// [plan](crate::Plan::roundings) of a run; a stage without a rounding is left as it is.
    #[must_use]
    pub fn rounding(network: &Network, roundings: &[StageRounding]) -> Self {
        let mut roundings = roundings.to_vec();
        roundings.resize_with(network.stages().len(), StageRounding::default);
        let weights = network
            .stages()
            .iter()
            .zip(&roundings)
            .map(|(stage, &rounding)| StageWeights::new(network, stage).rounded(rounding))
            .collect();
        Self { network: network.clone(), weights, roundings }
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
        let mut memory = Memory::default();
        let Memory { forward: Forward { stages, state: to }, steps } = &mut memory;
        begin(&self.network, checked.batch, state, to);
        walk(&self.network, checked, to, (stages, steps), |index, stage, flow, state, output| {
            let rounding = self.roundings[index];
            match (&stage.kind, &self.weights[index]) {
                (StageKind::Recurrent(recurrent), StageWeights::Recurrent(directions)) => {
                    let &Flow { steps, batch, mask, .. } = flow;
                    let projected = product([steps, batch, recurrent.gate_rows()]);
                    room(|| format!("{} projected inputs [T, B, G*H]", stage.label), projected, size_of::<F>())?;
                    let shape = LevelShape { steps, batch, sequence_out: stage.sequence_out, mask, rounding };
                    let state = &mut state.layers[recurrent.layer];
                    *output = level(shape, recurrent, directions, flow.inputs[0], state);
                    Ok(())
                }
                (_, weights @ StageWeights::Matrix { .. }) => {
                    // Padding is 0, rounded or not: a convolution may be rounded before its windows are cut.
                    let x = factors(flow.inputs[0], rounding.input);
                    stateless(stage, weights, &Flow { inputs: &[&x], ..*flow }, output)
                }
                (_, weights) => stateless(stage, weights, flow, output),
            }
        })?;
        Ok(memory.forward)
    }
}

/// What a run computes, and memory for the next.
#[derive(Debug)]
pub(crate) struct Memory<F> {
    pub forward: Forward<F>,
    /// Timesteps of every stage's output.
    pub steps: Vec<usize>,
}

impl<F> Default for Memory<F> {
    fn default() -> Self {
        Self { forward: Forward { stages: Vec::new(), state: State { layers: Vec::new() } }, steps: Vec::new() }
    }
}

/// Has `run` do every stage in order: its index, itself, what it reads, the state that it moves on, and the output,
/// which may still hold that of another run. The outputs and their timesteps are left in the two lists.
///
/// What can fail fails before `run` is called.
pub(crate) fn walk<F: Real>(
    network: &Network,
    checked: &Checked<'_>,
    state: &mut State<F>,
    (stages, steps_out): (&mut Vec<Vec<F>>, &mut Vec<usize>),
    mut run: impl FnMut(usize, &Stage, &Flow<'_, F>, &mut State<F>, &mut Vec<F>) -> Result<()>,
) -> Result<()> {
    network.stage_steps_into(checked.steps, steps_out)?;
    let (features, tokens) = match &checked.values {
        Values::Features(values) => (F::of_f32(values), &[][..]),
        Values::Tokens(tokens) => (Cow::Borrowed(&[][..]), &tokens[..]),
    };
    stages.resize_with(steps_out.len(), Vec::new);
    let numbers = |stage: usize| product([steps_out[stage], checked.batch, network.stages()[stage].out_features]);
    let mut all = 0usize;
    for (index, stage) in network.stages().iter().enumerate() {
        let (own, held) = (numbers(index), stages[index].capacity());
        all = all.saturating_add(own.saturating_sub(held));
        let shape = if stage.sequence_out { "[T, B, N]" } else { "[B, N]" };
        room(|| format!("{} output {shape}", stage.label), own.saturating_sub(held), size_of::<F>())?;
        if let StageKind::Conv1d { window, .. } = &stage.kind {
            let seen = product([steps_out[index], checked.batch, stage.in_features, window.kernel_size]);
            room(|| format!("{} windows [T, B, K*I]", stage.label), seen, size_of::<F>())?;
        }
    }
    room(|| format!("outputs of all {} stages", steps_out.len()), all, size_of::<F>())?;
    for (index, stage) in network.stages().iter().enumerate() {
        let (before, output) = stages.split_at_mut(index);
        let read = |source: &Source| match *source {
            Source::Input => &features[..],
            Source::Stage(index) => &before[index][..],
        };
        let (one, several);
        let flow = Flow {
            inputs: if let [source] = &stage.inputs[..] {
                one = [read(source)];
                &one
            } else {
                several = stage.inputs.iter().map(read).collect::<Vec<_>>();
                &several
            },
            tokens,
            steps: match stage.inputs[0] {
                Source::Input => checked.steps,
                Source::Stage(index) => steps_out[index],
            },
            batch: checked.batch,
            mask: checked.mask.as_deref().filter(|_| stage.mask_reaches),
        };
        run(index, stage, &flow, state, &mut output[0])?;
    }
    Ok(())
}

/// Saturating: too large is too large.
fn product<const N: usize>(sizes: [usize; N]) -> usize {
    sizes.into_iter().fold(1, usize::saturating_mul)
}

/// Every stage but recurrent levels.
pub(crate) fn stateless<F: Real>(
    stage: &Stage,
    weights: &StageWeights<F>,
    flow: &Flow<'_, F>,
    output: &mut Vec<F>,
) -> Result<()> {
    let x = flow.inputs[0];
    output.clear();
    let sizes = [flow.steps, flow.batch, stage.in_features];
    let row_len = flow.batch * stage.in_features;
    *output = match (&stage.kind, weights) {
        (StageKind::Embedding { .. }, StageWeights::Embedding(table)) => {
            embedding(flow.tokens, table, stage.out_features, output);
            return Ok(());
        }
        (StageKind::Softmax, _) => {
            softmax(x, stage.in_features, output);
            return Ok(());
        }
        (StageKind::Select(which), _) => {
            let first = if *which == SelectStep::First { 0 } else { x.len() - row_len };
            output.extend_from_slice(&x[first..][..row_len]);
            return Ok(());
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
        (StageKind::Reverse, _) => x.chunks_exact(row_len).rev().flatten().copied().collect(),
        (StageKind::Merge(mode), _) => {
            let parts =
                [0, 1].map(|half| (x, Columns { stride: stage.in_features, offset: half * stage.out_features }));
            let (how, scale) = merging(*mode);
            joined(&parts, how, scale, stage.out_features)
        }
        (StageKind::Join(Join::Concat), _) => concatenated(flow.inputs, flow.batch * rows(stage, flow)),
        (StageKind::Join(join), _) => {
            let columns = Columns { stride: stage.out_features, offset: 0 };
            let parts: Vec<_> = flow.inputs.iter().map(|&x| (x, columns)).collect();
            let (how, scale) = joining(*join, parts.len());
            joined(&parts, how, scale, stage.out_features)
        }
        _ => return Err(Error::network(&stage.label, "stage", "weights of its own kind", &"another kind")),
    };
    Ok(())
}

/// Timesteps that a stage's input really has.
fn rows<F>(stage: &Stage, flow: &Flow<'_, F>) -> usize {
    if stage.sequence_in { flow.steps } else { 1 }
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

/// What a run of `batch` rows starts from: the given state, of the same shapes, or the network's own.
pub(crate) fn begin<F: Real>(network: &Network, batch: usize, from: Option<&State>, to: &mut State<F>) {
    let Some(from) = from else { return to.start(network, batch) };
    to.shape(network, batch);
    for (from, to) in from.layers.iter().zip(&mut to.layers) {
        for (from, to) in [(&from.h, &mut to.h), (&from.c, &mut to.c)] {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = F::from_f32(from));
        }
    }
}

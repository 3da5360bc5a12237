//! A stage other than a recurrent level: its reference implementation and its arguments.

use super::weights::StageWeights;
use super::{
    AttentionInputs, AttentionRun, Real, RearrangeSizes, arg_max, attention, attention_shares, channelwise, combine,
    embedding, layer_norm, linear, pool, rearrange, softmax, time_softmax, windows,
};
use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::network::{
    Attention, Columns, Combine, Join, Padding, SelectStep, Stage, StageKind, Window, joining, merging,
};

/// What a stage reads.
pub(crate) struct StageInput<'a, F> {
    /// One or several `[T, B, N]` or `[B, N]`.
    pub inputs: &'a [&'a [F]],
    /// The network's tokens `[T, B]`, if it reads any.
    pub tokens: &'a [u32],
    /// Timesteps of the input, past ones included.
    pub steps: usize,
    /// Timesteps of past inputs in front, which stand for the padding of a window.
    pub past: usize,
    /// Timesteps of the output.
    pub steps_out: usize,
    pub batch: usize,
    /// Bits `[T, B]`, where they fit the input's timesteps; of banks `[R]`.
    pub mask: Option<&'a [u32]>,
    /// Of attention to banks, as [`AttentionRun`] has it.
    pub banks: Option<&'a [[u32; 2]]>,
}

impl<F> StageInput<'_, F> {
    /// What a window of the stage sees of the input.
    pub fn window(&self, window: &Window) -> Window {
        window.behind(self.past)
    }
}

impl<F: Real> StageInput<'_, F> {
    /// Bits `[P+T, B]` of the steps that are inputs, if past ones may be none: those are the lowest number.
    fn inputs_of_past(&self, features: usize) -> Option<Vec<u32>> {
        let lowest = F::from_f32(f32::MIN);
        let is_input = |(at, step): (usize, &[F])| at >= self.past * self.batch || step[0] != lowest;
        let steps = self.inputs[0].chunks_exact(features).enumerate();
        (self.past > 0).then(|| steps.map(|step| if is_input(step) { bits::VALID } else { 0 }).collect())
    }
}

/// Every stage but recurrent levels.
pub(crate) fn stateless<F: Real>(
    stage: &Stage,
    weights: &StageWeights<F>,
    flow: &StageInput<'_, F>,
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
        (StageKind::Softmax { log }, _) => {
            softmax(x, stage.in_features, *log, output);
            return Ok(());
        }
        (StageKind::ArgMax, _) => arg_max(x, stage.in_features),
        (StageKind::TimeSoftmax, _) => time_softmax(x, flow.batch, stage.in_features, flow.mask),
        (StageKind::Rearrange(how), _) => {
            let map = how.map(flow.steps, stage.in_features, stage.out_features);
            rearrange(x, map, rearrange_sizes(stage, flow), output);
            return Ok(());
        }
        (StageKind::Select(which), _) => {
            for (row, step) in selected(*which, flow).enumerate() {
                let first = step * row_len + row * stage.in_features;
                output.extend_from_slice(&x[first..][..stage.in_features]);
            }
            return Ok(());
        }
        (StageKind::Dense { activation, .. }, StageWeights::Matrix { weight, bias }) => {
            linear(x, weight, bias, *activation)
        }
        (StageKind::Conv1d { window, activation, .. }, StageWeights::Matrix { weight, bias }) => {
            let mut seen = Vec::new();
            windows(x, sizes, &flow.window(window), &mut seen);
            linear(&seen, weight, bias, *activation)
        }
        (StageKind::Pool1d { window, pool: how, count_include_pad }, _) => {
            let inputs = if *count_include_pad { None } else { flow.inputs_of_past(stage.in_features) };
            pool(x, sizes, &flow.window(window), *how, *count_include_pad, inputs.as_deref())
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
            channelwise(x, channels, *activation, output);
            return Ok(());
        }
        (StageKind::Attention(how), StageWeights::Attention(weight)) => {
            let (run, inputs) = attention_run((stage, *how), weight, flow);
            room_for_shares(stage, &run, &inputs)?;
            attention(&run, &attention_shares(&run, &inputs), inputs.values)
        }
        (StageKind::Reverse, _) => x.chunks_exact(row_len).rev().flatten().copied().collect(),
        (StageKind::Merge(mode), _) => {
            let parts =
                [0, 1].map(|half| (x, Columns { stride: stage.in_features, offset: half * stage.out_features }));
            joined(parts.into_iter(), merging(*mode), stage.out_features, output);
            return Ok(());
        }
        (StageKind::Join(Join::Concat), _) => {
            concatenated(flow.inputs, flow.batch * rows(stage, flow), output);
            return Ok(());
        }
        (StageKind::Join(join), _) => {
            let columns = Columns { stride: stage.out_features, offset: 0 };
            let parts = flow.inputs.iter().map(|&x| (x, columns));
            joined(parts, joining(*join, flow.inputs.len()), stage.out_features, output);
            return Ok(());
        }
        _ => return Err(Error::network(&stage.label, "stage", "weights of its own kind", &"another kind")),
    };
    Ok(())
}

/// The timestep of every batch row that is selected.
pub(super) fn selected<F>(which: SelectStep, flow: &StageInput<'_, F>) -> impl Iterator<Item = usize> {
    let (steps, batch, mask) = (flow.steps, flow.batch, flow.mask.filter(|_| which == SelectStep::LastValid));
    (0..batch).map(move |row| {
        let last_valid =
            || (0..steps).rfind(|step| mask.is_some_and(|mask| mask[step * batch + row] & bits::VALID != 0));
        if which == SelectStep::First { 0 } else { last_valid().unwrap_or(steps - 1) }
    })
}

/// What a stage of attention reads.
pub(crate) fn attention_run<'a, F>(
    (stage, attention): (&Stage, Attention),
    weight: &'a [F],
    flow: &StageInput<'a, F>,
) -> (AttentionRun<'a>, AttentionInputs<'a, F>) {
    let (embed_dim, value_dim) = (stage.in_features, stage.out_features);
    let run = AttentionRun { attention, batch: flow.batch, embed_dim, value_dim, mask: flow.mask, banks: flow.banks };
    let [keys, queries, values] = [0, 1, 2].map(|at| flow.inputs[at]);
    (run, AttentionInputs { queries, keys, values, weight })
}

/// An error if there is no memory for the shares of a stage of attention.
pub(super) fn room_for_shares<F: Real>(
    stage: &Stage,
    run: &AttentionRun<'_>,
    inputs: &AttentionInputs<'_, F>,
) -> Result<()> {
    let rows = (inputs.queries.len() / run.embed_dim).saturating_mul(run.attention.num_heads);
    let shares = rows.saturating_mul(run.steps(inputs.keys.len() / run.embed_dim));
    room(|| format!("{} shares [T, B, heads, S]", stage.label), shares, size_of::<F>())
}

/// The sizes of a rearrangement.
pub(super) fn rearrange_sizes<F>(stage: &Stage, flow: &StageInput<'_, F>) -> RearrangeSizes {
    RearrangeSizes {
        input: [flow.steps, stage.in_features],
        output: [flow.steps_out, stage.out_features],
        batch: flow.batch,
    }
}

/// Timesteps that a stage's input really has.
fn rows<F>(stage: &Stage, flow: &StageInput<'_, F>) -> usize {
    if stage.sequence_in { flow.steps } else { 1 }
}

/// The first part, then each further part met with it; the scale comes last.
fn joined<'a, F: Real>(
    parts: impl ExactSizeIterator<Item = (&'a [F], Columns)>,
    (how, scale): (Combine, f32),
    width: usize,
    output: &mut Vec<F>,
) {
    let last = parts.len() - 1;
    let to = Columns { stride: width, offset: 0 };
    for (index, (x, from)) in parts.enumerate() {
        if index == 0 {
            output.resize(x.len() / from.stride * width, F::default());
        }
        let how = if index == 0 { Combine::Copy } else { how };
        let scale = if index == last { scale } else { 1.0 };
        combine(how, scale, width, x, from, output, to);
    }
}

fn concatenated<F: Real>(inputs: &[&[F]], rows: usize, output: &mut Vec<F>) {
    let stride = inputs.iter().map(|x| x.len() / rows).sum();
    output.resize(rows * stride, F::default());
    let mut offset = 0;
    for x in inputs {
        let width = x.len() / rows;
        let from = Columns { stride: width, offset: 0 };
        combine(Combine::Copy, 1.0, width, x, from, output, Columns { stride, offset });
        offset += width;
    }
}

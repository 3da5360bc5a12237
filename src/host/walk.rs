//! The order of the stages, what each reads, and checks that their outputs fit into memory.

use std::borrow::Cow;

use super::step_loop::LoopInputs;
use crate::base::Real;
use crate::base::error::Result;
use crate::base::room::room;
use crate::data::banks::BankArena;
use crate::data::input::{Checked, Values};
use crate::data::state::State;
use crate::network::{Network, Past, Source, Stage, StageKind};
use crate::reference::{PastSizes, StageInput, gather, past_after, scatter, with_past};

/// What [`Reference::forward`](super::Reference::forward) computed, time-major.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Forward<F> {
    /// Output of every stage, `[T, B, N]` or `[B, N]`.
    pub stages: Vec<Vec<F>>,
    /// What the layers keep after the last step.
    pub state: State<F>,
}

/// What a run computes, and memory for the next.
#[derive(Debug)]
pub(crate) struct Memory<F> {
    pub forward: Forward<F>,
    /// Timesteps of every stage's output.
    pub steps: Vec<usize>,
    /// The input of a window behind past ones, `[P+T, B, I]`.
    pub behind: Vec<F>,
}

/// The parts of [`Memory`] that a run fills beside the state.
pub(crate) type WalkMemory<'a, F> = (&'a mut Vec<Vec<F>>, &'a mut Vec<usize>, &'a mut Vec<F>);

/// Inputs of a stage of which a list is kept without memory of its own.
const FEW: usize = 4;

impl<F> Memory<F> {
    /// The state after the run.
    pub fn state(&self) -> &State<F> {
        &self.forward.state
    }
}

impl<F> Default for Memory<F> {
    fn default() -> Self {
        let forward = Forward { stages: Vec::new(), state: State { layers: Vec::new() } };
        Self { forward, steps: Vec::new(), behind: Vec::new() }
    }
}

/// What the rows of a run begin from.
#[derive(Clone, Copy, Default)]
pub(crate) struct RunStart<'a> {
    /// Whether windows continue from the inputs that the state has, not from their padding.
    pub continues: bool,
    /// The batch row of the state of each row, where they are others.
    pub slots: Option<&'a [u32]>,
    /// The banks that the inputs beside the first lie in, if they do.
    pub banks: &'a [BankArena],
}

/// Calls `run` for every stage in order, with its index, the stage, its inputs, the state that it updates, and the output,
/// which may still hold that of another run. The outputs and their timesteps are stored in the first two lists.
///
/// All checks are made before `run` is called.
pub(crate) fn walk<F: Real>(
    network: &Network,
    checked: &Checked<'_>,
    (state, start): (&mut State<F>, RunStart<'_>),
    (stages, steps_out, behind): WalkMemory<'_, F>,
    mut run: impl FnMut(usize, &Stage, &StageInput<'_, F>, &mut State<F>, &mut Vec<F>) -> Result<()>,
) -> Result<()> {
    network.stage_steps_into(|input| checked.steps_of(input), steps_out)?;
    let inputs = RealInputs::with_banks(network, checked, start.banks);
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
        if let Some(steps_loop) = network.step_loop().filter(|steps_loop| steps_loop.stages.contains(&index)) {
            if index == steps_loop.stages.start {
                let step_loop = LoopInputs { network, steps_loop, checked, inputs: &inputs, start };
                step_loop.run(state, (stages, steps_out[index]), &mut run, &mut |_| {})?;
            }
            continue;
        }
        let (before, output) = stages.split_at_mut(index);
        let read = |source: &Source| match *source {
            Source::Input(input) => inputs.features(input),
            Source::Stage(index) => &before[index][..],
        };
        let mut few = [&[][..]; FEW];
        let many;
        let mut flow = StageInput {
            inputs: if stage.inputs.len() <= FEW {
                few.iter_mut().zip(&stage.inputs).for_each(|(to, source)| *to = read(source));
                &few[..stage.inputs.len()]
            } else {
                many = stage.inputs.iter().map(read).collect::<Vec<_>>();
                &many
            },
            tokens: tokens_of(stage, checked),
            steps: steps_in(stage, checked, steps_out),
            past: 0,
            steps_out: steps_out[index],
            batch: checked.batch,
            mask: checked.mask_at(network, stage),
            banks: None,
        };
        if let (StageKind::Attention(_), Some(banks), Source::Input(number)) =
            (&stage.kind, &checked.banks, stage.inputs[0])
        {
            flow.mask = Some(&start.banks[number - 1].mask);
            flow.banks = Some(&banks.0[number - 1]);
        }
        if let StageKind::FinalState(from) = &stage.kind {
            output[0].clear();
            output[0].extend_from_slice(state.layers[from.layer].parts[from.part.place()].row(from.row));
            continue;
        }
        start_from_inputs(stage, &flow, state);
        let Some(past) = network.past(index) else {
            run(index, stage, &flow, state, &mut output[0])?;
            continue;
        };
        let inputs;
        if start.continues {
            behind_past(stage, past, &flow, checked, (state, start), behind);
            inputs = [&behind[..]];
            flow = StageInput { inputs: &inputs, steps: past.steps + flow.steps, past: past.steps, ..flow };
        }
        match &stage.kind {
            // A layer that pads in front of a window: past inputs stand for the padding.
            StageKind::Rearrange(_) if start.continues => {
                output[0].clear();
                output[0].extend_from_slice(flow.inputs[0]);
            }
            _ => run(index, stage, &flow, state, &mut output[0])?,
        }
        keep_past(stage, past, &flow, (state, start));
    }
    Ok(())
}

/// The input of a window behind the past inputs of each row.
fn behind_past<F: Real>(
    stage: &Stage,
    past: Past,
    flow: &StageInput<'_, F>,
    checked: &Checked<'_>,
    (state, start): (&State<F>, RunStart<'_>),
    behind: &mut Vec<F>,
) {
    let kept = &state.layers[past.layer].parts[0];
    let of_rows = start.slots.map(|slots| {
        let mut rows = vec![F::default(); slots.len() * kept.width()];
        gather(&kept.data, slots, kept.width(), &mut rows);
        rows
    });
    let first = checked.begins.as_ref().map(|begins| begins.first.iter().map(|&first| first as usize / past.rate));
    let first = first.map(Iterator::collect::<Vec<_>>);
    let kept = of_rows.as_ref().unwrap_or(&kept.data);
    with_past(kept, flow.inputs[0], past_sizes(stage, past, flow), first.as_deref(), behind);
}

/// Keeps the last inputs of a window.
fn keep_past<F: Real>(
    stage: &Stage,
    past: Past,
    flow: &StageInput<'_, F>,
    (state, start): (&mut State<F>, RunStart<'_>),
) {
    let kept = &mut state.layers[past.layer].parts[0];
    let (sizes, before) = (past_sizes(stage, past, flow), F::from_f32(past.start));
    match start.slots {
        Some(slots) => {
            let mut after = vec![F::default(); slots.len() * kept.width()];
            past_after(flow.inputs[0], sizes, before, &mut after);
            scatter(&after, slots, kept.width(), &mut kept.data);
        }
        None => past_after(flow.inputs[0], sizes, before, &mut kept.data),
    }
}

fn past_sizes<F>(stage: &Stage, past: Past, flow: &StageInput<'_, F>) -> PastSizes {
    PastSizes { past: past.steps, steps: flow.steps, batch: flow.batch, features: stage.in_features }
}

/// Makes a recurrent level start from the outputs of layers, where they give its initial state.
pub(super) fn start_from_inputs<F: Real>(stage: &Stage, flow: &StageInput<'_, F>, state: &mut State<F>) {
    let Some(level) = stage.recurrent() else { return };
    let layer = &mut state.layers[level.layer];
    let widths = [level.state_size(), level.hidden_size];
    for ((position, numbers), width) in level.starts.iter().zip(layer.h_and_c()).zip(widths) {
        let Some(given) = position.and_then(|position| flow.inputs.get(position)) else { continue };
        // `[B, D*H]` to `[D, B, H]`.
        let directions = level.directions.len();
        for (row, given) in given.chunks_exact(directions * width).enumerate() {
            for (direction, given) in given.chunks_exact(width).enumerate() {
                numbers[(direction * flow.batch + row) * width..][..width].copy_from_slice(given);
            }
        }
    }
}

/// The vectors of a network's inputs in `F`.
pub(super) struct RealInputs<'a, F: Clone> {
    first: Cow<'a, [F]>,
    others: Vec<Cow<'a, [F]>>,
}

impl<'a, F: Real> RealInputs<'a, F> {
    pub fn new(network: &Network, checked: &'a Checked<'_>) -> Self {
        Self::with_banks(network, checked, &[])
    }

    /// Those of a run whose inputs beside the first lie in `banks`, if there are any.
    fn with_banks(network: &Network, checked: &'a Checked<'_>, banks: &'a [BankArena]) -> Self {
        let of = |input: usize| match checked.values_of(input) {
            Values::Features(values) => F::of_f32(values),
            Values::Tokens(_) => Cow::Borrowed(&[][..]),
        };
        let others = match banks {
            [] => (1..network.inputs().len()).map(of).collect(),
            banks => banks.iter().map(|bank| F::of_f32(&bank.numbers)).collect(),
        };
        Self { first: of(0), others }
    }

    /// Those of one input; none of token ids.
    pub fn features(&self, input: usize) -> &[F] {
        input.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.first)
    }
}

/// The token ids that a stage reads, if it does.
pub(super) fn tokens_of<'a>(stage: &Stage, checked: &'a Checked<'_>) -> &'a [u32] {
    match (stage.inputs[0], &stage.kind) {
        (Source::Input(input), StageKind::Embedding { .. }) => match checked.values_of(input) {
            Values::Tokens(tokens) => tokens,
            Values::Features(_) => &[],
        },
        _ => &[],
    }
}

/// Timesteps of a stage's input.
pub(super) fn steps_in(stage: &Stage, checked: &Checked<'_>, steps_out: &[usize]) -> usize {
    match stage.inputs[0] {
        Source::Input(input) => checked.steps_of(input),
        Source::Stage(index) => steps_out[index],
    }
}

/// Saturating: a saturated size is too large in any case.
pub(crate) fn product<const N: usize>(sizes: [usize; N]) -> usize {
    sizes.into_iter().fold(1, usize::saturating_mul)
}

/// The state that a run of `batch` rows starts from: the given state, of the same shapes, or the network's own.
pub(crate) fn begin<F: Real>(network: &Network, batch: usize, from: Option<&State>, to: &mut State<F>) {
    let Some(from) = from else { return to.start(network, batch) };
    to.shape(network, batch);
    for (from, to) in from.parts().zip(to.parts_mut()) {
        to.data.iter_mut().zip(&from.data).for_each(|(to, &from)| *to = F::from_f32(from));
    }
}

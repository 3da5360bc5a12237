//! The stages of a loop, step by step: each step runs all of them, then feeds back what later ones were.

use super::walk::{RealInputs, RunStart, start_from_inputs, tokens_of};
use crate::base::Real;
use crate::base::bits;
use crate::base::error::Result;
use crate::data::input::Checked;
use crate::data::state::State;
use crate::network::{InputKind, Network, Source, Stage, StageKind, StepLoop};
use crate::reference::{StageInput, gather, scatter};

/// Where the stages of a loop read from.
pub(super) struct LoopInputs<'a, F: Clone> {
    pub network: &'a Network,
    pub steps_loop: &'a StepLoop,
    pub checked: &'a Checked<'a>,
    pub inputs: &'a RealInputs<'a, F>,
    pub start: RunStart<'a>,
}

/// What a stage of a loop reads at one step.
pub(super) struct StageReads<'a, F> {
    pub inputs: Vec<&'a [F]>,
    mask: Option<&'a [u32]>,
    banks: Option<&'a [[u32; 2]]>,
    tokens: &'a [u32],
    batch: usize,
}

impl<F> StageReads<'_, F> {
    pub fn flow(&self) -> StageInput<'_, F> {
        let &Self { ref inputs, mask, banks, tokens, batch } = self;
        StageInput { inputs, tokens, steps: 1, past: 0, steps_out: 1, batch, mask, banks }
    }
}

/// Runs a stage at its position.
pub(super) type RunStage<'a, F> =
    dyn FnMut(usize, &Stage, &StageInput<'_, F>, &mut State<F>, &mut Vec<F>) -> Result<()> + 'a;

impl<F: Real> LoopInputs<'_, F> {
    /// What a stage reads at one step: of a stage of the loop its output of `now`, of another all of `outputs` or one timestep.
    pub fn at<'b>(&'b self, stage: &Stage, step: usize, now: &'b [Vec<F>], outputs: &'b [Vec<F>]) -> StageReads<'b, F> {
        let batch = self.checked.batch;
        let timestep = |numbers: &'b [F], width: usize| &numbers[step * batch * width..][..batch * width];
        let read = |(at, source): (usize, &Source)| match *source {
            Source::Stage(index) if self.steps_loop.stages.contains(&index) => {
                &now[index - self.steps_loop.stages.start][..]
            }
            Source::Stage(index) => {
                let from = &self.network.stages()[index];
                match StepLoop::reads_whole(stage, at, from.sequence_out) {
                    true => &outputs[index][..],
                    false => timestep(&outputs[index], from.out_features),
                }
            }
            Source::Input(number) => {
                let (input, numbers) = (&self.network.inputs()[number], self.inputs.features(number));
                match StepLoop::reads_whole(stage, at, input.kind != InputKind::Row) || numbers.is_empty() {
                    true => numbers,
                    false => timestep(numbers, input.width),
                }
            }
        };
        let inputs = stage.inputs.iter().enumerate().map(read).collect();
        let mut mask = self.checked.mask_at(self.network, stage);
        let mut banks = None;
        if let StageKind::Attention(_) = stage.kind {
            if let (Some(rows), Source::Input(number)) = (&self.checked.banks, stage.inputs[0]) {
                mask = Some(&self.start.banks[number - 1].mask);
                banks = Some(&rows.0[number - 1][..]);
            }
        } else {
            mask = mask.map(|mask| &mask[step * batch..][..batch]);
        }
        let tokens = tokens_of(stage, self.checked);
        let tokens = if tokens.is_empty() { tokens } else { &tokens[step * batch..][..batch] };
        StageReads { inputs, mask, banks, tokens, batch }
    }

    /// Whether what is fed back to a stage changes at a step of a row.
    pub fn changes(&self, stage: usize, step: usize, row: usize) -> bool {
        let mask = self.checked.mask_at(self.network, &self.network.stages()[stage]);
        mask.is_none_or(|mask| mask[step * self.checked.batch + row] & bits::VALID != 0)
    }

    /// Runs all steps; `before` is called with the state in front of each. The outputs of the loop are put into `outputs`.
    pub fn run(
        &self,
        state: &mut State<F>,
        (outputs, steps): (&mut [Vec<F>], usize),
        run: &mut RunStage<'_, F>,
        before: &mut dyn FnMut(&State<F>),
    ) -> Result<()> {
        let (stages, batch, first) = (self.network.stages(), self.checked.batch, self.steps_loop.stages.start);
        for index in self.steps_loop.stages.clone() {
            outputs[index].clear();
            outputs[index].resize(steps * batch * stages[index].out_features, F::default());
        }
        let feedbacks = &self.steps_loop.feedbacks;
        let mut fed: Vec<Vec<F>> = feedbacks
            .iter()
            .map(|feedback| {
                let part = &state.layers[feedback.layer].parts[0];
                let mut rows = part.data.clone();
                if let Some(slots) = self.start.slots {
                    rows = vec![F::default(); slots.len() * part.width()];
                    gather(&part.data, slots, part.width(), &mut rows);
                }
                rows
            })
            .collect();
        let mut now: Vec<Vec<F>> = vec![Vec::new(); self.steps_loop.stages.len()];
        for step in 0..steps {
            if step == 0 {
                for (feedback, fed) in feedbacks.iter().zip(&mut fed) {
                    let stage = &stages[feedback.stage];
                    if stage.inputs.len() > 1 {
                        fed.copy_from_slice(self.at(stage, step, &now, outputs).inputs[1]);
                    }
                }
                for stage in &stages[self.steps_loop.stages.clone()] {
                    if stage.recurrent().is_some_and(|level| level.starts != [None, None]) {
                        let reads = self.at(stage, step, &now, outputs);
                        start_from_inputs(stage, &reads.flow(), state);
                    }
                }
            }
            before(state);
            for index in self.steps_loop.stages.clone() {
                let stage = &stages[index];
                let (earlier, rest) = now.split_at_mut(index - first);
                let output = &mut rest[0];
                if let Some(at) = feedbacks.iter().position(|feedback| feedback.stage == index) {
                    output.clone_from(&fed[at]);
                    continue;
                }
                let reads = self.at(stage, step, earlier, outputs);
                run(index, stage, &reads.flow(), state, output)?;
            }
            for (feedback, fed) in feedbacks.iter().zip(&mut fed) {
                let width = stages[feedback.from].out_features;
                let rows = now[feedback.from - first].chunks_exact(width).zip(fed.chunks_exact_mut(width));
                for (row, (from, to)) in rows.enumerate() {
                    if self.changes(feedback.stage, step, row) {
                        to.copy_from_slice(from);
                    }
                }
            }
            for (index, now) in self.steps_loop.stages.clone().zip(&now) {
                outputs[index][step * now.len()..][..now.len()].copy_from_slice(now);
            }
        }
        for (feedback, fed) in feedbacks.iter().zip(&fed) {
            let part = &mut state.layers[feedback.layer].parts[0];
            match self.start.slots {
                Some(slots) => {
                    let width = part.width();
                    scatter(fed, slots, width, &mut part.data);
                }
                None => part.data.copy_from_slice(fed),
            }
        }
        Ok(())
    }
}

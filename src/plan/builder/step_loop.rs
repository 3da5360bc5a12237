//! Stages that run step by step: the dispatches of one step, and what is carried from step to step. `step_loop_backward.rs` goes
//! back through them.

use super::step_loop_backward::LoopTape;
use super::{Builder, DispatchRows, F32, flat_grid};
use crate::base::error::Result;
use crate::network::{MaskReach, Network, Source, StageKind, StepLoop};
use crate::plan::weights::WeightLayout;
use crate::plan::{BufferId, Constants, Dispatch, FeedbackBuffer, Kernel, ROW_WORKGROUP, Slice};

/// Rows of one step that go into a buffer of one step, or out of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CarriedRows {
    pub stage: usize,
    /// All timesteps.
    pub all: Slice,
    /// One of them.
    pub one: Slice,
    /// Words of a row.
    pub width: usize,
}

/// What stood where buffers of one step stand while the dispatches of a step are planned, and the other way round after that.
#[derive(Clone, Debug, Default)]
pub(super) struct Replaced {
    outputs: Vec<(usize, Slice)>,
    inputs: Vec<(usize, BufferId)>,
    masks: Vec<(usize, BufferId)>,
    begins: Vec<(usize, BufferId)>,
    pub into: Vec<CarriedRows>,
}

impl Builder {
    /// All stages of a loop, for all timesteps.
    pub(super) fn step_loop(
        &mut self,
        network: &Network,
        steps_loop: &StepLoop,
        layouts: &[WeightLayout],
        stage_steps: &[usize],
    ) -> Result<()> {
        let all = steps_loop.stages.clone();
        let steps = stage_steps[all.start];
        let mut one_step = stage_steps.to_vec();
        one_step[all.clone()].fill(1);
        // Workgroups that wait for each other meet once in a run.
        let waiting = std::mem::take(&mut self.limits.resident_workgroups);
        let by_step = steps > 1 || self.training.is_some();
        let mut replaced = if by_step { self.replace(network, steps_loop)? } else { Replaced::default() };
        let first = self.plan.dispatches.len();
        let (first_state, first_memory) = (self.plan.states.len(), self.plan.memories.len());
        self.loop_starts = Some(Vec::new());
        let mut index = all.start;
        while index < all.end {
            let here: Vec<&WeightLayout> = layouts.iter().filter(|layout| layout.stages.start == index).collect();
            if let Some(layout) = here.first() {
                let stages = layout.stages.clone();
                index = stages.end;
                self.recurrence(network, stages, &here, &one_step)?;
                continue;
            }
            let output = self.output(network, index, &one_step)?;
            self.plan.outputs.push(output);
            let mut work = self.work(network, index, &one_step);
            if let (StageKind::Attention(_), MaskReach::Fits(number)) = (&work.stage.kind, work.stage.mask_reach) {
                // The keys are read as a whole.
                let masks = replaced.masks.iter().find(|mask| mask.0 == number);
                work.mask = masks.map_or(work.mask, |mask| Some(mask.1));
            }
            self.layer(network, &work)?;
            self.drop_out(index, output)?;
            index += 1;
        }
        let body = self.plan.dispatches.split_off(first);
        self.limits.resident_workgroups = waiting;
        let starts = self.loop_starts.take().unwrap_or_default();
        self.exchange(&mut replaced);
        let mut out = Vec::new();
        for index in all.clone() {
            // What is fed back takes the place of what was.
            let is_feedback = steps_loop.feedbacks.iter().any(|feedback| feedback.stage == index);
            if by_step || is_feedback {
                let (one, width) = (self.plan.outputs[index], network.stages()[index].out_features);
                let output = self.output(network, index, stage_steps)?;
                self.plan.outputs[index] = output;
                out.push(CarriedRows { stage: index, all: output, one, width });
            }
        }
        let one_of = |index: usize, builder: &Self| {
            out.iter().find(|carried| carried.stage == index).map_or(builder.plan.outputs[index], |carried| carried.one)
        };
        for feedback in &steps_loop.feedbacks {
            let place = one_of(feedback.stage, self);
            self.plan.feedbacks.push(FeedbackBuffer { layer: feedback.layer, place });
        }
        let saved = self.saved_state((network, steps_loop), (first_state, first_memory), steps)?;
        self.plan.dispatches.extend(starts);
        for feedback in &steps_loop.feedbacks {
            let work = self.work(network, feedback.stage, stage_steps);
            if let Some(&initial) = work.inputs.get(1) {
                let width = work.stage.out_features;
                self.carry_rows(feedback.stage, width, (initial, one_of(feedback.stage, self)), None)?;
            }
        }
        for step in 0..steps {
            for carried in &replaced.into {
                self.carry(carried, (step, false), None)?;
            }
            self.save(&saved, step)?;
            self.plan.dispatches.extend(body.iter().cloned());
            for at in first_state..self.plan.states.len() {
                let state = &self.plan.states[at];
                let (from, to) = (state.final_h(), state.h[0]);
                if from != to && step + 1 < steps {
                    let row = to.bytes / self.batch as u64;
                    let width = usize::try_from(row / F32).unwrap_or(usize::MAX);
                    // A lane's rows lie behind those of the lanes before it, at no offset that could be bound.
                    let first = |slice: Slice| usize::try_from(slice.offset / row).unwrap_or(usize::MAX);
                    let rows = DispatchRows { count: self.batch, input: first(from), output: first(to) };
                    let moved = (self.plan.whole(from.buffer), self.plan.whole(to.buffer));
                    self.carry_block(all.start, width, moved, rows, None)?;
                }
            }
            for feedback in &steps_loop.feedbacks {
                let width = network.stages()[feedback.stage].out_features;
                let mask = self.work(network, feedback.stage, stage_steps).mask.map(|mask| (mask, step));
                let moved = (one_of(feedback.from, self), one_of(feedback.stage, self));
                // The output of the step was read from there.
                for carried in out.iter().filter(|carried| carried.stage == feedback.stage) {
                    self.carry(carried, (step, true), None)?;
                }
                self.carry_rows(feedback.stage, width, moved, mask)?;
            }
            for carried in &out {
                if steps_loop.feedbacks.iter().all(|feedback| feedback.stage != carried.stage) {
                    self.carry(carried, (step, true), None)?;
                }
            }
        }
        self.save_end(&saved, steps)?;
        if let Some(training) = &mut self.training {
            training.loop_tape = Some(LoopTape { replaced, out, body, saved });
        }
        Ok(())
    }

    /// Puts buffers of one step in place of what the stages of a loop read step by step.
    fn replace(&mut self, network: &Network, steps_loop: &StepLoop) -> Result<Replaced> {
        let mut replaced = Replaced::default();
        for index in steps_loop.stages.clone() {
            let stage = &network.stages()[index];
            let is_feedback = matches!(stage.kind, StageKind::Feedback { .. });
            for (at, &source) in stage.inputs.iter().enumerate().filter(|_| !is_feedback) {
                let label = |name: &str| format!("{name}, one step [1, B, N]");
                match source {
                    Source::Stage(from) if !steps_loop.stages.contains(&from) => {
                        let read = &network.stages()[from];
                        let known = replaced.outputs.iter().any(|output| output.0 == from);
                        if known || StepLoop::reads_whole(stage, at, read.sequence_out) {
                            continue;
                        }
                        let one = self.buffer(label(&read.label), 1, self.batch, read.out_features)?;
                        let one = self.plan.whole(one);
                        let all = std::mem::replace(&mut self.plan.outputs[from], one);
                        replaced.outputs.push((from, all));
                        replaced.into.push(CarriedRows { stage: index, all, one, width: read.out_features });
                    }
                    Source::Input(number) => {
                        let read = &network.inputs()[number];
                        let is_sequence = read.kind != crate::network::InputKind::Row;
                        let known = replaced.inputs.iter().any(|input| input.0 == number);
                        if known || StepLoop::reads_whole(stage, at, is_sequence) {
                            continue;
                        }
                        let one = self.buffer(label(&read.name), 1, self.batch, read.width)?;
                        let before = std::mem::replace(&mut self.plan.inputs[number].numbers, one);
                        replaced.inputs.push((number, before));
                        let (all, one) = (self.plan.whole(before), self.plan.whole(one));
                        replaced.into.push(CarriedRows { stage: index, all, one, width: read.width });
                    }
                    Source::Stage(_) => {}
                }
            }
            if matches!(stage.kind, StageKind::Attention(_)) {
                continue;
            }
            match stage.mask_reach {
                MaskReach::Fits(number) if replaced.masks.iter().all(|mask| mask.0 != number) => {
                    let Some(before) = self.plan.inputs[number].mask else { continue };
                    let one = self.buffer(format!("{} mask, one step [1, B]", stage.label), 1, self.batch, 1)?;
                    self.plan.inputs[number].mask = Some(one);
                    replaced.masks.push((number, before));
                    let (all, one) = (self.plan.whole(before), self.plan.whole(one));
                    replaced.into.push(CarriedRows { stage: index, all, one, width: 1 });
                }
                MaskReach::Fits(_) => {}
                _ => {
                    let Some(before) = self.begin_mask(network, stage) else { continue };
                    let Some(begins) = &self.plan.begins else { continue };
                    let Some(at) = begins.masks.iter().position(|&mask| mask == before) else { continue };
                    if replaced.begins.iter().any(|begin| begin.0 == at) {
                        continue;
                    }
                    let one = self.buffer("mask of begun rows, one step [1, B]", 1, self.batch, 1)?;
                    if let Some(begins) = &mut self.plan.begins {
                        begins.masks[at] = one;
                    }
                    replaced.begins.push((at, before));
                    let (all, one) = (self.plan.whole(before), self.plan.whole(one));
                    replaced.into.push(CarriedRows { stage: index, all, one, width: 1 });
                }
            }
        }
        Ok(replaced)
    }

    /// Exchanges buffers of one step and those of all timesteps.
    pub(super) fn exchange(&mut self, replaced: &mut Replaced) {
        for (index, other) in &mut replaced.outputs {
            std::mem::swap(&mut self.plan.outputs[*index], other);
        }
        for (number, other) in &mut replaced.inputs {
            std::mem::swap(&mut self.plan.inputs[*number].numbers, other);
        }
        for (number, other) in &mut replaced.masks {
            if let Some(mask) = &mut self.plan.inputs[*number].mask {
                std::mem::swap(mask, other);
            }
        }
        if let Some(begins) = &mut self.plan.begins {
            for (at, other) in &mut replaced.begins {
                std::mem::swap(&mut begins.masks[*at], other);
            }
        }
    }

    /// The rows of a step from or to a buffer of all timesteps.
    pub(super) fn carry(
        &mut self,
        carried: &CarriedRows,
        (step, out): (usize, bool),
        mask: Option<(BufferId, usize)>,
    ) -> Result<()> {
        let row = step * self.batch;
        let (moved, rows) = match out {
            true => ((carried.one, carried.all), DispatchRows { count: self.batch, input: 0, output: row }),
            false => ((carried.all, carried.one), DispatchRows { count: self.batch, input: row, output: 0 }),
        };
        self.carry_block(carried.stage, carried.width, moved, rows, mask)
    }

    /// Rows from one buffer of a step to another; `mask` with the step that it is of.
    pub(super) fn carry_rows(
        &mut self,
        stage: usize,
        width: usize,
        moved: (Slice, Slice),
        mask: Option<(BufferId, usize)>,
    ) -> Result<()> {
        self.carry_block(stage, width, moved, DispatchRows::all(self.batch), mask)
    }

    pub(super) fn carry_block(
        &mut self,
        stage: usize,
        width: usize,
        (from, to): (Slice, Slice),
        rows: DispatchRows,
        mask: Option<(BufferId, usize)>,
    ) -> Result<()> {
        let number = |number: usize| self.number(number, "rows of a step");
        let elements = rows.count as u64 * width as u64;
        // A buffer that is written is bound once.
        let within = from.buffer == to.buffer;
        let source = if within { self.plan.whole(self.plan.inputs[0].numbers) } else { from };
        let dispatch = Dispatch {
            stage,
            constants: Constants::sizes([("FEATURES", width)])?
                .with("MASKED", mask.is_some())
                .with("WITHIN", within)
                .with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![source, mask.map_or(source, |mask| self.plan.whole(mask.0)), to],
            rows: number(rows.count)?,
            input_row: number(rows.input)?,
            output_row: number(rows.output)?,
            steps: number(mask.map_or(0, |mask| mask.1 * self.batch))?,
            batch: number(self.batch)?,
            workgroups: flat_grid(&self.limits, elements, "rows of a step")?,
            work: elements,
            ..Dispatch::empty(Kernel::Carry)
        };
        self.add(dispatch)
    }
}

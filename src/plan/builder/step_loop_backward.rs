//! The backward pass of stages that run step by step.
//!
//! The forward pass keeps the state in front of every step. The steps go back from the last to the first: a step runs again from its
//! state, so that everything of one step lies where its kernels left it; then the stages go back as those of a network of one
//! timestep do. What a step gives for the gradients of parameters is added to those of the steps behind it.

use super::backward::Move;
use super::step_loop::{CarriedRows, Replaced};
use super::{Builder, DispatchRows, F32, StageWork};
use crate::base::error::Result;
use crate::network::{Network, Role, Source, StageKind, StepLoop};
use crate::plan::train::{StartState, TrainGoal};
use crate::plan::{BufferId, Dispatch, Slice};

/// What a loop leaves for its backward pass.
#[derive(Clone, Debug)]
pub(super) struct LoopTape {
    /// Buffers of one step, while those of all timesteps are in the plan.
    pub replaced: Replaced,
    /// The outputs of the stages of the loop.
    pub out: Vec<CarriedRows>,
    /// The dispatches of a step.
    pub body: Vec<Dispatch>,
    /// The state.
    pub saved: Vec<SavedPart>,
}

/// A part of the state in front of every step, and behind the last.
#[derive(Clone, Debug)]
pub(super) struct SavedPart {
    width: usize,
    /// `[T + 1, B, width]`
    kept: Slice,
    /// Where a step, and its backward pass, reads it; the first is where the steps leave it for each other.
    starts: Vec<Slice>,
    /// Where it lies behind the last step.
    end: Slice,
}

/// The gradient of what the loop reads step by step from a stage before it.
struct OutsideGradient {
    stage: usize,
    rows: CarriedRows,
}

/// The backward pass of one step.
#[derive(Default)]
struct StepBody {
    dispatches: Vec<Dispatch>,
    /// What is cleared before them.
    clears: Vec<Slice>,
    /// What comes behind the first step: the gradients of what levels start from.
    ends: Vec<Dispatch>,
    /// The gradients of the parameters.
    gradients: BufferId,
}

impl Builder {
    /// Buffers for the state in front of every step, where there is to be a backward pass, and where the caller's state goes.
    pub(super) fn saved_state(
        &mut self,
        (network, steps_loop): (&Network, &StepLoop),
        (first_state, first_memory): (usize, usize),
        steps: usize,
    ) -> Result<Vec<SavedPart>> {
        let Some(training) = &mut self.training else { return Ok(Vec::new()) };
        let mut places = Vec::new();
        for state in &self.plan.states[first_state..] {
            places.push((state.h[0], state.final_h()));
            places.extend(state.c.iter().chain(&state.more).map(|&part| (part, part)));
        }
        places.extend(self.plan.memories[first_memory..].iter().map(|memory| (memory.place, memory.place)));
        for place in self
            .plan
            .feedbacks
            .iter()
            .filter(|place| steps_loop.feedbacks.iter().any(|feedback| feedback.layer == place.layer))
        {
            let &crate::plan::FeedbackBuffer { layer, place } = place;
            training.parts.starts.push(StartState { layer, row: 0, part: 0, from: place, to: place });
            places.push((place, place));
        }
        if training.task.goal == TrainGoal::Evaluate {
            return Ok(Vec::new());
        }
        let starts = training.parts.starts.clone();
        let label = &network.stages()[steps_loop.stages.start].label;
        let mut saved = Vec::new();
        for (start, end) in places {
            let width = usize::try_from(start.bytes / F32).unwrap_or(usize::MAX) / self.batch;
            let kept =
                self.buffer(format!("{label} loop: states of the steps [T + 1, B, N]"), steps + 1, self.batch, width)?;
            let also = starts.iter().filter(|known| known.to == start && known.from != start).map(|known| known.from);
            let starts = std::iter::once(start).chain(also).collect();
            saved.push(SavedPart { width, kept: self.plan.whole(kept), starts, end });
        }
        Ok(saved)
    }

    /// Keeps the state in front of a step.
    pub(super) fn save(&mut self, saved: &[SavedPart], step: usize) -> Result<()> {
        saved.iter().try_for_each(|part| self.copy_part(part, step, part.starts[0], false))
    }

    /// Keeps the state behind the last step.
    pub(super) fn save_end(&mut self, saved: &[SavedPart], steps: usize) -> Result<()> {
        saved.iter().try_for_each(|part| self.copy_part(part, steps, part.end, false))
    }

    /// Rows of a part from a place to where they are kept, or back.
    fn copy_part(&mut self, part: &SavedPart, step: usize, place: Slice, back: bool) -> Result<()> {
        // Rows of the whole buffers: a part of one need not begin where a binding may.
        let row = (part.width as u64 * F32).max(1);
        let first = usize::try_from(place.offset / row).unwrap_or(usize::MAX);
        let (then, now) = ((part.kept, step * self.batch), (self.plan.whole(place.buffer), first));
        let ((from, input), (to, output)) = if back { (then, now) } else { (now, then) };
        let rows = DispatchRows { count: self.batch, input, output };
        self.carry_block(0, part.width, (from, to), rows, None)
    }

    /// The backward pass of all timesteps of a loop.
    pub(super) fn step_loop_backward(
        &mut self,
        network: &Network,
        steps_loop: &StepLoop,
        stage_steps: &[usize],
    ) -> Result<()> {
        let (all, stages) = (steps_loop.stages.clone(), network.stages());
        let Some(training) = &mut self.training else { return Ok(()) };
        let has_gradient = training.gradients[all.clone()].iter().any(Option::is_some);
        let Some(tape) = training.loop_tape.take().filter(|_| has_gradient) else { return Ok(()) };
        let (steps, batch) = (stage_steps[all.start], self.batch);
        let whole = self.one_step_gradients(network, steps_loop, &tape)?;
        let outside = self.outside_gradients(network, steps_loop, stage_steps)?;
        let ones: Vec<Slice> = all.clone().filter_map(|index| self.gradient_of(index)).collect();
        let body = self.step_backward_body(network, steps_loop, (&tape, &ones), stage_steps)?;
        let step_gradients = self.step_gradients(network, steps_loop, body.gradients)?;
        let mut fed = Vec::new();
        for feedback in &steps_loop.feedbacks {
            let stage = &stages[feedback.stage];
            let d =
                self.buffer(format!("{} gradient of what is fed back", stage.label), batch, stage.out_features, 1)?;
            let d = self.plan.whole(d);
            self.begin_with_zeros(d);
            fed.push(d);
        }
        let work = self.work(network, all.start, stage_steps);
        for step in (0..steps).rev() {
            for carried in &tape.replaced.into {
                self.carry(carried, (step, false), None)?;
            }
            for part in &tape.saved {
                for &place in &part.starts {
                    self.copy_part(part, step, place, true)?;
                }
            }
            self.plan.dispatches.extend(tape.body.iter().cloned());
            for (&one, whole) in ones.iter().zip(&whole) {
                match whole {
                    Some(rows) => self.carry(rows, (step, false), None)?,
                    None => self.clear(&work, one)?,
                }
            }
            for rows in outside.iter().map(|outside| outside.rows) {
                self.clear(&work, rows.one)?;
            }
            for &slice in &body.clears {
                self.clear(&work, slice)?;
            }
            for (feedback, &d) in steps_loop.feedbacks.iter().zip(&fed) {
                let mask = self.work(network, feedback.stage, stage_steps).mask.map(|mask| (mask, step));
                let width = stages[feedback.stage].out_features;
                self.feed_back(&work, (feedback.stage, width), (d, ones[feedback.from - all.start]), mask)?;
            }
            self.plan.dispatches.extend(body.dispatches.iter().cloned());
            for rows in outside.iter().map(|outside| outside.rows) {
                let moved = DispatchRows { count: batch, input: 0, output: step * batch };
                self.moved(&work, moved, Move::whole(rows.one, rows.all, rows.width, true))?;
            }
            for (index, rows) in all.clone().zip(&whole) {
                if let (StageKind::Embedding { .. }, Some(rows)) = (&stages[index].kind, rows) {
                    self.carry(rows, (step, true), None)?;
                }
            }
            for (feedback, &d) in steps_loop.feedbacks.iter().zip(&fed) {
                let one = ones[feedback.stage - all.start];
                let width = stages[feedback.stage].out_features;
                self.moved(&work, DispatchRows::all(batch), Move::whole(one, d, width, true))?;
            }
            if let Some((from, to)) = step_gradients {
                let numbers = usize::try_from(from.bytes / F32).unwrap_or(usize::MAX);
                self.moved(&work, DispatchRows::all(1), Move::whole(from, to, numbers, true))?;
            }
        }
        self.plan.dispatches.extend(body.ends);
        for part in &tape.saved {
            self.copy_part(part, steps, part.end, true)?;
        }
        if let Some(training) = &mut self.training {
            for outside in &outside {
                training.gradients[outside.stage] = Some((outside.rows.all, true));
            }
        }
        for (feedback, &d) in steps_loop.feedbacks.iter().zip(&fed) {
            let Some(&initial) = stages[feedback.stage].inputs.get(1) else { continue };
            let Some(to) = self.part_of_gradient(network, initial, stage_steps)? else { continue };
            let width = stages[feedback.stage].out_features;
            self.moved(&work, DispatchRows::all(batch), Move::whole(d, to, width, true))?;
        }
        for (index, rows) in all.zip(&whole).rev() {
            if let (StageKind::Embedding { .. }, Some(rows)) = (&stages[index].kind, rows) {
                let work = self.work(network, index, stage_steps);
                self.stage_backward(network, &work, rows.all, stage_steps)?;
            }
        }
        Ok(())
    }

    /// Puts buffers of one step in place of the gradients of the outputs of the loop; returns those of all timesteps, as far as
    /// stages behind the loop have written them. An embedding reads its whole gradient at the end.
    fn one_step_gradients(
        &mut self,
        network: &Network,
        steps_loop: &StepLoop,
        tape: &LoopTape,
    ) -> Result<Vec<Option<CarriedRows>>> {
        let mut whole = Vec::new();
        for (index, out) in steps_loop.stages.clone().zip(&tape.out) {
            let stage = &network.stages()[index];
            let label = format!("{} gradient of the output", stage.label);
            let one = self.buffer(format!("{label}, one step"), 1, self.batch, stage.out_features)?;
            let one = self.plan.whole(one);
            let mut all = self.gradient_of(index);
            if matches!(stage.kind, StageKind::Embedding { .. }) && all.is_none() {
                let rows = usize::try_from(out.all.bytes / F32).unwrap_or(usize::MAX);
                let buffer = self.buffer(label, rows, 1, 1)?;
                let slice = self.plan.whole(buffer);
                self.begin_with_zeros(slice);
                all = Some(slice);
            }
            whole.push(all.map(|all| CarriedRows { stage: index, all, one, width: stage.out_features }));
            if let Some(training) = &mut self.training {
                training.gradients[index] = Some((one, true));
            }
        }
        Ok(whole)
    }

    /// Puts buffers of one step in place of the gradients of stages before the loop that it reads step by step.
    fn outside_gradients(
        &mut self,
        network: &Network,
        steps_loop: &StepLoop,
        stage_steps: &[usize],
    ) -> Result<Vec<OutsideGradient>> {
        let stages = network.stages();
        let mut outside: Vec<OutsideGradient> = Vec::new();
        for index in steps_loop.stages.clone() {
            let stage = &stages[index];
            for (at, &source) in stage.inputs.iter().enumerate() {
                let Source::Stage(from) = source else { continue };
                let is_known = outside.iter().any(|outside| outside.stage == from);
                let is_feedback = matches!(stage.kind, StageKind::Feedback { .. });
                if steps_loop.stages.contains(&from) || is_known || is_feedback {
                    continue;
                }
                let Some(all) = self.part_of_gradient(network, source, stage_steps)? else { continue };
                if StepLoop::reads_whole(stage, at, stages[from].sequence_out) {
                    continue;
                }
                let width = stages[from].out_features;
                let label = format!("{} gradient of the output, one step", stages[from].label);
                let one = self.buffer(label, 1, self.batch, width)?;
                let one = self.plan.whole(one);
                outside.push(OutsideGradient { stage: from, rows: CarriedRows { stage: index, all, one, width } });
            }
        }
        if let Some(training) = &mut self.training {
            for outside in &outside {
                training.gradients[outside.stage] = Some((outside.rows.one, true));
            }
        }
        Ok(outside)
    }

    /// The dispatches of one step.
    fn step_backward_body(
        &mut self,
        network: &Network,
        steps_loop: &StepLoop,
        (tape, ones): (&LoopTape, &[Slice]),
        stage_steps: &[usize],
    ) -> Result<StepBody> {
        let all = steps_loop.stages.clone();
        let mut one_step = stage_steps.to_vec();
        one_step[all.clone()].fill(1);
        let Some(training) = &mut self.training else { return Ok(StepBody::default()) };
        let (len, first_clear) = (training.layout.flat.len, training.parts.clears.len());
        let gradients = self.buffer("gradients of one step [P]", len, 1, 1)?;
        if let Some(training) = &mut self.training {
            training.step_gradients = Some(gradients);
        }
        let mut replaced = tape.replaced.clone();
        self.exchange(&mut replaced);
        let exchange_outputs = |builder: &mut Self, one: bool| {
            for out in &tape.out {
                builder.plan.outputs[out.stage] = if one { out.one } else { out.all };
            }
        };
        exchange_outputs(self, true);
        let first = self.plan.dispatches.len();
        self.loop_ends = Some(Vec::new());
        for (index, &d) in all.zip(ones).rev() {
            self.drop_out(index, d)?;
            if matches!(network.stages()[index].kind, StageKind::Embedding { .. }) {
                continue;
            }
            let work = self.work(network, index, &one_step);
            self.stage_backward(network, &work, d, &one_step)?;
        }
        let ends = self.loop_ends.take().unwrap_or_default();
        let dispatches = self.plan.dispatches.split_off(first);
        self.exchange(&mut replaced);
        exchange_outputs(self, false);
        let Some(training) = &mut self.training else { return Ok(StepBody::default()) };
        training.step_gradients = None;
        let clears = training.parts.clears.split_off(first_clear);
        Ok(StepBody { dispatches, clears, ends, gradients })
    }

    /// The gradients of the loop's parameters of one step, and those of all steps, which begin with zeros.
    fn step_gradients(
        &mut self,
        network: &Network,
        steps_loop: &StepLoop,
        of_step: BufferId,
    ) -> Result<Option<(Slice, Slice)>> {
        let Some(training) = &mut self.training else { return Ok(None) };
        let stages = &network.stages()[steps_loop.stages.clone()];
        let params = stages.iter().filter(|stage| !matches!(stage.kind, StageKind::Embedding { .. }));
        // The gradients of initial states come behind the first step, where they belong.
        let params = params
            .flat_map(|stage| &stage.params)
            .filter(|param| !param.role.is_statistic() && !matches!(param.role, Role::InitialH | Role::InitialC));
        let ranges: Vec<_> = params.filter_map(|param| training.layout.flat.get(&param.name)).collect();
        let (Some(first), Some(end)) =
            (ranges.iter().map(|range| range.start).min(), ranges.iter().map(|range| range.end).max())
        else {
            return Ok(None);
        };
        // Between them nothing but zeros is added.
        let of = |buffer: BufferId| Slice { buffer, offset: first as u64 * F32, bytes: (end - first) as u64 * F32 };
        let to = of(training.layout.buffers.gradients);
        training.parts.clears.push(to);
        Ok(Some((of(of_step), to)))
    }

    /// Adds what was fed back to the gradient of the stage that it comes from, and begins anew, in the rows that change.
    fn feed_back(
        &mut self,
        work: &StageWork<'_>,
        (stage, width): (usize, usize),
        (d, to): (Slice, Slice),
        mask: Option<(BufferId, usize)>,
    ) -> Result<()> {
        let rows = DispatchRows::all(self.batch);
        let Some(mask) = mask else {
            self.moved(work, rows, Move::whole(d, to, width, true))?;
            return self.clear(work, d);
        };
        let part = self.scratch("gradients of what changes [B, N]", self.batch, width, 1)?;
        self.clear(work, part)?;
        self.carry_rows(stage, width, (d, part), Some(mask))?;
        self.moved(work, rows, Move::whole(part, to, width, true))?;
        let zeros = self.zeros(d.bytes)?;
        self.carry_rows(stage, width, (zeros, d), Some(mask))
    }

    fn gradient_of(&self, stage: usize) -> Option<Slice> {
        self.training.as_ref()?.gradients[stage].map(|(slice, _)| slice)
    }

    /// Clears a buffer before the first dispatch.
    fn begin_with_zeros(&mut self, slice: Slice) {
        if let Some(training) = &mut self.training {
            training.parts.clears.push(slice);
        }
    }

    /// Clears a buffer between dispatches.
    fn clear(&mut self, work: &StageWork<'_>, slice: Slice) -> Result<()> {
        let numbers = usize::try_from(slice.bytes / F32).unwrap_or(usize::MAX);
        let zeros = self.zeros(slice.bytes)?;
        self.moved(work, DispatchRows::all(1), Move::whole(zeros, slice, numbers, false))
    }

    /// A buffer that nothing writes.
    fn zeros(&mut self, bytes: u64) -> Result<Slice> {
        self.scratch("zeros", usize::try_from(bytes / F32).unwrap_or(usize::MAX), 1, 1)
    }
}

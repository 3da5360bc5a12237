//! Recurrent levels: which of them go together, the hoisted projection and the steps.

use super::backward::Move;
use super::lanes::{LaneSet, Launch};
use super::layers::Product;
use super::{Builder, DispatchRows, StageWork};
use crate::base::error::{Error, Result};
use crate::network::Activation;
use crate::plan::decide::{Decision, decide, decide_diagonal};
use crate::plan::tactic::narrow;
use crate::plan::weights::{WeightLayout, part};
use crate::plan::{
    BufferId, Choice, Constants, Kernel, MAX_REPEAT, MAX_SUBMISSION_WORK, PlanOptions, Slice, Steps, Strategy, print,
};

/// What runs any timesteps of some lanes.
#[derive(Clone, Debug)]
pub(super) struct ChunkRun {
    /// The projection of each lane's input, and whether the lane reads the sequence from its end.
    products: Vec<(Product, bool)>,
    /// The direction of the first lane, where the lanes read their input through masks.
    dropped: Option<usize>,
    launches: Vec<Launch>,
    /// c, and where zoneout wants it before the first step.
    before: Option<[Slice; 2]>,
    /// Steps of one repetition.
    stride: u32,
    projected_lane: usize,
    output_lane: u64,
    /// How many steps the topmost lane is behind the first.
    behind: usize,
}

impl Builder {
    /// The levels of one layout, all at once or one after the other.
    pub(super) fn recurrent(
        &mut self,
        works: &[StageWork<'_>],
        layout: &WeightLayout,
        weights: [BufferId; 2],
        outputs_together: bool,
    ) -> Result<()> {
        let all = layout.directions.clone();
        if works.len() > 1
            && outputs_together
            && let Some(set) = LaneSet::new(works, layout, weights, all.clone(), true)
            && let Some(decision) = decide_diagonal(&set.problem(self.batch), &self.limits, &self.options)?
        {
            return self.run(&set, &decision);
        }
        for work in works {
            let Some(level) = work.stage.recurrent() else { continue };
            for directions in self.together(level, all.clone(), work.steps_in) {
                if let Some(mut set) = LaneSet::new(std::slice::from_ref(work), layout, weights, directions, false) {
                    set.kept = self.kept_sums(&set)?;
                    set.dropout = self.dropout_in(work.index, level);
                    set.zoneout = self.training.as_ref().map(|training| training.zoneout).unwrap_or_default();
                    let decision = self.decided(&set)?;
                    self.run(&set, &decision)?;
                }
            }
        }
        Ok(())
    }

    /// How some lanes run. Training does not fail where a strategy that was asked for does not run a level: its layers need not
    /// all be of one kind.
    fn decided(&self, set: &LaneSet<'_>) -> Result<Decision> {
        let problem = set.problem(self.batch);
        match decide(&problem, &self.limits, &self.options) {
            Err(Error::Unsupported { what, .. }) if self.training.is_some() && self.options.strategy.is_some() => {
                let strategy = if problem.scan.is_some() { Strategy::Scan } else { Strategy::Step };
                let options = PlanOptions { strategy: Some(strategy), ..self.options };
                let decision = decide(&problem, &self.limits, &options)?;
                Ok(Decision { reason: format!("not as asked for, {what}"), ..decision })
            }
            decided => decided,
        }
    }

    fn run(&mut self, set: &LaneSet<'_>, decision: &Decision) -> Result<()> {
        let work = &set.works[0];
        let hoisted = set.hoisted();
        let chunk = match set.kept {
            Some(_) => self.interval(work.steps_in),
            None => self.chunk(hoisted * set.level.gate_rows(), work.steps_in),
        };
        if chunk < work.steps_in && set.kept.is_none() {
            self.plan.reasons.push(format!(
                "{}: inputs are projected {chunk} of {} timesteps at a time, to stay within {}",
                set.label(),
                work.steps_in,
                print::bytes(self.budget())
            ));
        }
        self.plan.choices.push(Choice {
            stage: work.index,
            stages: set.works.len(),
            strategy: decision.strategy,
            reason: decision.reason.clone(),
        });
        let projected_lane = self.projected_lane(chunk, set.level.hidden_size);
        let first_state = self.plan.states.len();
        let (launches, before) = self.launches(set, decision)?;
        self.start_from_inputs(work, set.level, first_state)?;
        let run = ChunkRun {
            products: (0..hoisted)
                .map(|lane| (self.input_product(set, lane, projected_lane), set.is_reverse(lane)))
                .collect(),
            dropped: set.dropout.filter(|dropout| dropout.of_input()).map(|_| set.directions.start),
            launches,
            before,
            stride: decision.tactic.stride(),
            projected_lane,
            output_lane: set.output_lane(),
            behind: if set.stacked { set.lanes() - 1 } else { 0 },
        };
        if let Some(sums) = set.kept {
            return self.run_kept(set, sums, run);
        }
        for done in (0..work.steps_in).step_by(chunk) {
            self.run_chunk(work, &run, done, chunk.min(work.steps_in - done))?;
        }
        Ok(())
    }

    /// `count` timesteps of some lanes, after `done` others.
    pub(super) fn run_chunk(&mut self, work: &StageWork<'_>, run: &ChunkRun, done: usize, count: usize) -> Result<()> {
        for (lane, (product, reverse)) in run.products.iter().enumerate() {
            let first = if *reverse { work.steps_in - done - count } else { done };
            let rows = DispatchRows { count: count * self.batch, input: first * self.batch, output: 0 };
            match (run.dropped, work.stage.recurrent()) {
                (Some(first), Some(level)) => self.dropped_product(work, level, first + lane, (rows, product))?,
                _ => self.product(work, rows, product)?,
            }
        }
        if let Some([c, before]) = run.before {
            let numbers = usize::try_from(c.bytes / super::F32).unwrap_or(usize::MAX);
            self.moved(work, DispatchRows::all(1), Move::whole(c, before, numbers, false))?;
        }
        let last = done + count == work.steps_in;
        let end = done + count + if last { run.behind } else { 0 };
        let steps = Steps {
            done: narrow(done as u64),
            count: narrow(count as u64),
            first: narrow(done as u64),
            stride: run.stride,
            end: narrow(end as u64),
            projected_lane: narrow(run.projected_lane as u64),
            output_lane: narrow(run.output_lane),
        };
        self.steps(work, &run.launches, steps)
    }

    /// Where the projected inputs of some lanes lie.
    pub(super) fn projected_of(&self, set: &LaneSet<'_>) -> BufferId {
        set.kept.unwrap_or(self.projected)
    }

    /// The projection of one lane's input.
    fn input_product(&self, set: &LaneSet<'_>, lane: usize, projected_lane: usize) -> Product {
        let at = set.first_lane + lane;
        let [matrices, vectors] = set.weights;
        let gates = set.level.cell().gates() as u64;
        let each = projected_lane as u64 * gates * super::F32;
        let vector = |part| set.layout.vector_of(vectors, at, part);
        let projected = Slice { buffer: self.projected_of(set), offset: lane as u64 * each, bytes: each };
        Product {
            kernel: Kernel::Linear(self.product_kernel(set.layout.format, set.works[0].steps_in * self.batch)),
            features: [set.works[0].stage.in_features, set.level.gate_rows()],
            activation: Activation::Linear,
            more: Constants::default(),
            bindings: [
                set.works[0].inputs[0],
                WeightLayout::matrix(matrices, &set.layout.lanes[at].input),
                vector(part::BIAS),
                vector(part::SCALE_BELOW),
                projected,
            ],
        }
    }

    /// The timesteps of one chunk.
    fn steps(&mut self, work: &StageWork<'_>, launches: &[Launch], steps: Steps) -> Result<()> {
        let each = launches.iter().fold(0u64, |sum, launch| sum.saturating_add(launch.work)).max(1);
        let longest = u32::try_from(MAX_SUBMISSION_WORK / each).unwrap_or(u32::MAX).clamp(1, narrow(MAX_REPEAT as u64));
        let mut first = steps.first;
        while first < steps.end {
            let repeat = (steps.end - first).div_ceil(steps.stride).min(longest);
            for (index, launch) in launches.iter().enumerate() {
                self.push(work, DispatchRows::all(self.batch), launch.kernel, launch.constants.clone(), |dispatch| {
                    dispatch.bindings.clone_from(&launch.bindings);
                    dispatch.recurrence = Some(Steps { first, ..steps });
                    dispatch.repeat = repeat;
                    dispatch.interleaved = index + 1 < launches.len();
                    dispatch.workgroups = launch.workgroups;
                    dispatch.iterations = launch.iterations;
                    dispatch.work = launch.work;
                })?;
            }
            first = first.saturating_add(repeat.saturating_mul(steps.stride));
        }
        if let (Strategy::Resident, Some(exchange), Some(launch)) = (
            self.plan.choices.last().map_or(Strategy::Step, |choice| choice.strategy),
            self.plan.exchanges.last_mut(),
            launches.first(),
        ) {
            exchange.workgroups += launch.workgroups.iter().product::<u32>();
        }
        Ok(())
    }
}

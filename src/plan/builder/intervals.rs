//! Intervals of time: what a backward pass takes at once where memory is short.
//!
//! The forward pass of an LSTM keeps the sums of its gates. Where those of all timesteps do not fit, it keeps the state before
//! each interval; the backward pass runs an interval again before it goes back through it. The same kernels give the same
//! bits. Intervals begin at multiples of a length of time, and so do the slices of sums over all timesteps: no bit depends on
//! the length.

use std::ops::Range;

use super::backward::Move;
use super::lanes::LaneSet;
use super::matmul::SUM_BLOCK;
use super::recurrent::ChunkRun;
use super::{Builder, DispatchRows, StageWork};
use crate::base::error::{Error, Result};
use crate::network::{Activation, Recurrence, RecurrentStage};
use crate::plan::train::{TrainGoal, TrainTask};
use crate::plan::{BufferId, RunShape, Slice, print};

/// Some timesteps of a lane, counted in its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// Steps before it.
    pub done: usize,
    /// Its steps.
    pub count: usize,
}

impl Interval {
    /// The timestep with which it begins, of `steps` of a lane.
    pub fn origin(self, steps: usize, reverse: bool) -> usize {
        if reverse { steps - self.done - self.count } else { self.done }
    }

    /// Intervals of `length` timesteps, the last in time shorter, in the order of a lane.
    pub fn all(steps: usize, length: usize, reverse: bool) -> Vec<Self> {
        let times = (0..steps).step_by(length.max(1)).map(|first| first..steps.min(first + length));
        let interval =
            |time: Range<usize>| Self { done: if reverse { steps - time.end } else { time.start }, count: time.len() };
        let intervals = times.map(interval);
        if reverse { intervals.rev().collect() } else { intervals.collect() }
    }
}

/// The sums that the forward pass of some lanes keeps, and how it runs an interval again.
#[derive(Clone, Debug)]
pub(super) struct KeptSums {
    /// `[lanes, T', B, H, 4]`
    pub buffer: BufferId,
    /// Units from those of one lane to those of the next.
    pub lane: usize,
    /// Where there is more than one interval.
    pub again: Option<RunAgain>,
}

/// How an interval of one lane is run again.
#[derive(Clone, Debug)]
pub(super) struct RunAgain {
    run: ChunkRun,
    /// The halves of h, and c, which the kernels use.
    h: [Slice; 2],
    c: Slice,
    /// The same before every interval and after the last, `[intervals + 1, B, P]` and `[intervals + 1, B, H]`.
    kept_h: BufferId,
    kept_c: BufferId,
}

/// Lengths of intervals to try, from all timesteps to the fewest whose rows are whole blocks of a sum.
pub(super) fn lengths(shape: RunShape) -> Vec<usize> {
    let RunShape { steps, batch, .. } = shape;
    let block = SUM_BLOCK >> batch.trailing_zeros().min(SUM_BLOCK.trailing_zeros());
    let mut lengths = vec![steps];
    let mut pieces = 2;
    loop {
        let length = steps.div_ceil(pieces).next_multiple_of(block);
        if length < lengths[lengths.len() - 1] {
            lengths.push(length);
        }
        if length == block {
            return lengths;
        }
        pieces *= 2;
    }
}

impl Builder {
    /// Timesteps of an interval, of `steps`.
    pub(super) fn interval(&self, steps: usize) -> usize {
        self.training.as_ref().map_or(steps, |training| training.interval.min(steps))
    }

    /// Directions that one dispatch can run: functions are constants of a kernel, and intervals of time differ.
    pub(super) fn together(&self, level: &RecurrentStage, all: Range<usize>, steps: usize) -> Vec<Range<usize>> {
        let functions = |direction: usize| -> &[Activation] { &level.directions[direction].activations };
        let alike = all.clone().all(|direction| functions(direction) == functions(all.start));
        let whole = self.interval(steps) == steps;
        if alike && whole { vec![all] } else { all.map(|one| one..one + 1).collect() }
    }

    /// Whether the forward pass of a level keeps the sums of its gates for a backward pass.
    pub(super) fn keeps_sums(&self, level: &RecurrentStage) -> bool {
        let trains = |goal| matches!(goal, TrainGoal::Gradients | TrainGoal::Step);
        matches!(level.recurrence, Recurrence::Lstm { .. })
            && self.training.as_ref().is_some_and(|training| trains(training.task.goal))
    }

    /// The buffer for the sums that some lanes leave for their backward pass.
    pub(super) fn kept_sums(&mut self, set: &LaneSet<'_>) -> Result<Option<BufferId>> {
        if !self.keeps_sums(set.level) {
            return Ok(None);
        }
        let steps = set.works[0].steps_in;
        let interval = self.interval(steps);
        let [lane, gates] = [self.projected_lane(interval, set.level.hidden_size), set.level.cell().gates()];
        if interval < steps {
            return Ok(Some(self.scratch("sums of an interval [T', B, H, G]", set.lanes(), lane, gates)?.buffer));
        }
        let label = format!("{} sums [lanes, T, B, H, G]", set.label());
        self.buffer(label, set.lanes(), lane, gates).map(Some)
    }

    /// The timesteps of lanes that keep their sums.
    pub(super) fn run_kept(&mut self, set: &LaneSet<'_>, buffer: BufferId, run: ChunkRun) -> Result<()> {
        let work = &set.works[0];
        let interval = self.interval(work.steps_in);
        let lane = self.projected_lane(interval, set.level.hidden_size);
        let mut again = None;
        if interval == work.steps_in {
            self.run_chunk(work, &run, 0, work.steps_in)?;
        } else {
            let intervals = Interval::all(work.steps_in, interval, set.is_reverse(0));
            self.plan.reasons.push(format!(
                "{}: run again before the backward pass in {} intervals of {interval} timesteps",
                set.label(),
                intervals.len()
            ));
            let label = set.label();
            let [p, h] = [set.level.state_size(), set.level.hidden_size];
            let count = intervals.len() + 1;
            let kept_h = self.buffer(format!("{label} h before the intervals [N, B, P]"), count, self.batch, p)?;
            let kept_c = self.buffer(format!("{label} c before the intervals [N, B, H]"), count, self.batch, h)?;
            let Some((h, c)) = self.plan.states.last().and_then(|state| Some((state.h, state.c?))) else {
                return Ok(());
            };
            let states = RunAgain { run, h, c, kept_h, kept_c };
            for (index, interval) in intervals.iter().enumerate() {
                self.copy_state(work, &states, (index, interval.done), false)?;
                self.run_chunk(work, &states.run, interval.done, interval.count)?;
            }
            self.copy_state(work, &states, (intervals.len(), work.steps_in), false)?;
            again = Some(states);
        }
        if let Some(training) = &mut self.training {
            training.kept.insert((work.index, set.directions.start), KeptSums { buffer, lane, again });
        }
        Ok(())
    }

    /// Keeps the state before an interval, or goes back to it.
    fn copy_state(
        &mut self,
        work: &StageWork<'_>,
        states: &RunAgain,
        (index, done): (usize, usize),
        back: bool,
    ) -> Result<()> {
        for (state, kept) in [(states.h[done % 2], states.kept_h), (states.c, states.kept_c)] {
            let width = usize::try_from(state.bytes / super::F32).unwrap_or(usize::MAX) / self.batch;
            // Rows of the whole buffers: a part of one need not begin where a binding may.
            let [now, then] = [usize::try_from(state.offset / state.bytes).unwrap_or(usize::MAX), index];
            let [now, then] = [(state.buffer, now * self.batch), (kept, then * self.batch)];
            let [(x, input), (y, output)] = if back { [then, now] } else { [now, then] };
            let rows = DispatchRows { count: self.batch, input, output };
            self.moved(work, rows, Move::whole(self.plan.whole(x), self.plan.whole(y), width, false))?;
        }
        Ok(())
    }

    /// Runs the interval `index` of a lane again, from the state that was kept.
    pub(super) fn run_again(
        &mut self,
        work: &StageWork<'_>,
        states: &RunAgain,
        index: usize,
        interval: Interval,
    ) -> Result<()> {
        self.copy_state(work, states, (index, interval.done), true)?;
        self.run_chunk(work, &states.run, interval.done, interval.count)
    }

    /// c before the interval `index`.
    pub(super) fn c_before(&mut self, work: &StageWork<'_>, states: &RunAgain, index: usize) -> Result<Slice> {
        let width = usize::try_from(states.c.bytes / super::F32).unwrap_or(usize::MAX) / self.batch;
        self.c_of_interval(work, states.kept_c, width, index)
    }

    /// The same from where it was kept, `[N, B, width]`.
    pub(super) fn c_of_interval(
        &mut self,
        work: &StageWork<'_>,
        kept: BufferId,
        width: usize,
        index: usize,
    ) -> Result<Slice> {
        let c = self.scratch("c before an interval [B, H]", self.batch, width, 1)?;
        let rows = DispatchRows { count: self.batch, input: index * self.batch, output: 0 };
        self.moved(work, rows, Move::whole(self.plan.whole(kept), c, width, false))?;
        Ok(c)
    }

    /// Leaves the state behind all timesteps, as a run does.
    pub(super) fn state_at_end(&mut self, work: &StageWork<'_>, states: &RunAgain, intervals: usize) -> Result<()> {
        self.copy_state(work, states, (intervals, work.steps_in), true)
    }

    /// An error if what was planned takes more memory than the task allows.
    pub(super) fn within_memory(&self, task: &TrainTask) -> Result<()> {
        let needed = self.plan.bytes();
        match task.memory {
            Some(limit) if needed > limit => Err(Error::TooLarge {
                what: format!("memory of a training step ({})", print::bytes(needed)),
                needed,
                limit,
                limit_name: "the memory budget".into(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_cover_all_timesteps_at_the_same_times() {
        for (steps, length) in [(10, 4), (8, 4), (3, 4), (1, 1)] {
            let mut forward: Vec<Range<usize>> = Vec::new();
            for interval in Interval::all(steps, length, false) {
                let first = interval.origin(steps, false);
                assert_eq!(first % length, 0);
                forward.push(first..first + interval.count);
            }
            let reverse = Interval::all(steps, length, true);
            assert_eq!(reverse[0].done, 0);
            let mut times: Vec<Range<usize>> = Vec::new();
            for interval in reverse.iter().rev() {
                let first = interval.origin(steps, true);
                times.push(first..first + interval.count);
            }
            assert_eq!(forward, times);
            assert_eq!(forward.iter().map(Range::len).sum::<usize>(), steps);
        }
    }

    #[test]
    fn lengths_are_whole_blocks_of_a_sum() {
        let of = |steps, batch| lengths(RunShape::new(steps, batch));
        assert_eq!(of(100, 32), [100, 64, 32]);
        assert_eq!(of(10_000, 1), [10_000, 5120, 3072, 2048, 1024]);
        assert_eq!(of(5, 3), [5]);
        for (steps, batch) in [(1000, 3), (77, 64), (4096, 1024), (9, 2048)] {
            for length in &of(steps, batch)[1..] {
                assert_eq!(length * batch % SUM_BLOCK, 0);
            }
        }
    }
}

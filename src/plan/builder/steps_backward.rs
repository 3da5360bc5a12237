//! The timesteps of a recurrence's backward pass, from the last to the first.

use super::backward::Move;
use super::intervals::Interval;
use super::recurrent_backward::{Arrays, Lanes};
use super::tape::reverse_bits;
use super::{Builder, DispatchRows};
use crate::base::error::{Error, Result};
use crate::network::{Recurrence, RecurrentStage, Role, gates};
use crate::plan::constants::{CANDIDATE, GATE, function, masked_number};
use crate::plan::decide_backward::{
    BackwardDecision, BackwardGroup, BackwardProblem, BackwardProduct, BackwardTactic, decide_backward,
};
use crate::plan::tactic::narrow;
use crate::plan::{
    BackwardCell, BackwardKernel, BackwardRung, Choice, Constants, Dispatch, Kernel, MAX_REPEAT, MAX_SUBMISSION_WORK,
    Slice, Steps, TrainKernel,
};

/// One kernel of a backward step.
pub(super) struct StepKernel {
    cell: BackwardCell,
    /// Width of what it computes.
    units: usize,
    /// K of its product, and the first of them in a row.
    depth: usize,
    from: usize,
    /// The matrix, and where in it the product begins.
    weights: (Role, usize),
    constants: Constants,
}

impl From<(BackwardCell, [usize; 3], Role)> for StepKernel {
    /// Of the whole matrix, without constants of its own.
    fn from((cell, [units, depth, from], role): (BackwardCell, [usize; 3], Role)) -> Self {
        Self { cell, units, depth, from, weights: (role, 0), constants: Constants::default() }
    }
}

impl Builder {
    /// How the backward pass of a level runs; its plan says so.
    pub(super) fn decide_backward(&mut self, stage: usize, level: &RecurrentStage, steps: usize) -> BackwardTactic {
        let BackwardDecision { strategy, tactic, reason } =
            decide_backward(&self.backward_problem(stage, level, steps), &self.limits, &self.options);
        self.plan.backward.push(Choice { stage, stages: 1, strategy, reason });
        tactic
    }

    fn backward_problem(&self, stage: usize, level: &RecurrentStage, steps: usize) -> BackwardProblem {
        BackwardProblem {
            steps,
            batch: self.batch,
            directions: level.directions.len(),
            hidden: level.hidden_size,
            gate_rows: level.gate_rows(),
            in_halves: level.recurrence.proj_size() > 0 || level.recurrence == Recurrence::Gru { reset_after: false },
            normalizes: level.recurrence.normalization().is_some(),
            drops_state: self.dropout_in(stage, level).is_some_and(|dropout| dropout.of_state()),
        }
    }

    /// The timesteps of the interval, from the last to the first. Gives what the first hands on.
    pub(super) fn steps_backward(
        &mut self,
        lanes: &Lanes<'_>,
        arrays: &Arrays,
        tactic: BackwardTactic,
    ) -> Result<Slice> {
        let level = lanes.level;
        let (hidden, state, width) = (level.hidden_size, level.state_size(), level.gate_rows());
        let functions = lanes.functions();
        let clip = || Constants::default().with("CLIP_GATES", lanes.clip());
        let gate = || clip().and(function(GATE, functions[0]));
        let both = || gate().and(function(CANDIDATE, functions[1]));
        let h = Role::WeightHh;
        let part = |cell, [units, depth, from]: [usize; 3], weights, constants| StepKernel {
            cell,
            units,
            depth,
            from,
            weights,
            constants,
        };
        let parts = match level.recurrence {
            Recurrence::Lstm { proj_size: 0, .. } => {
                let constants = lanes.lstm(self)?.with("PROJECTED", false);
                vec![part(BackwardCell::Lstm, [hidden, width, 0], (h, 0), constants)]
            }
            Recurrence::Lstm { .. } => {
                let constants = lanes.lstm(self)?.with("PROJECTED", true);
                vec![
                    part(BackwardCell::State, [state, width, 0], (h, 0), Constants::default()),
                    part(BackwardCell::Lstm, [hidden, state, 0], (Role::WeightHr, 0), constants),
                ]
            }
            Recurrence::Gru { reset_after: true } => {
                vec![part(BackwardCell::Gru, [hidden, width, 0], (h, 0), both())]
            }
            Recurrence::Gru { .. } => {
                let new = gates::NEW * hidden;
                vec![
                    part(BackwardCell::GruGates, [hidden, new, 0], (h, 0), both()),
                    part(BackwardCell::GruReset, [hidden, hidden, new], (h, new * hidden), gate()),
                ]
            }
            Recurrence::Rnn => vec![part(BackwardCell::Rnn, [hidden, width, 0], (h, 0), gate())],
            Recurrence::Slstm { .. } => {
                vec![part(BackwardCell::Slstm, [hidden, width, 0], (h, 0), lanes.slstm())]
            }
            Recurrence::LayerNormLstm(_) | Recurrence::LayerNormGru(_) | Recurrence::Scan(_) => return Err(missing()),
        };
        let (room, count) = (hidden.max(state), lanes.count());
        // Those of n and m of an sLSTM, which takes all timesteps at once, are where others keep what lies behind an interval.
        let carry = self.scratch("gradients of the state [lanes, B, H, 2 + G]", count, self.batch, 2 * room + width)?;
        self.begin_with_final(lanes, carry)?;
        let dispatches: Vec<Dispatch> =
            parts.iter().map(|part| self.step_backward(lanes, arrays, carry, (part, tactic))).collect::<Result<_>>()?;
        self.repeat_backward(lanes, &dispatches, tactic.stride())?;
        if lanes.interval.done > 0 {
            self.keep_behind(lanes, arrays, carry, 2 * room)?;
        }
        Ok(carry)
    }

    /// The dispatches of `stride` timesteps for all timesteps of the interval.
    pub(super) fn repeat_backward(&mut self, lanes: &Lanes<'_>, dispatches: &[Dispatch], stride: u32) -> Result<()> {
        let each = dispatches.iter().fold(0u64, |sum, dispatch| sum.saturating_add(dispatch.work)).max(1);
        let longest = usize::try_from(MAX_SUBMISSION_WORK / each).unwrap_or(usize::MAX).clamp(1, MAX_REPEAT);
        let at_once = stride as usize;
        let Interval { done, count } = lanes.interval;
        // Counted from the last step of the lane.
        let end = lanes.work.steps_in - done;
        for first in (end - count..end).step_by(longest.saturating_mul(at_once)) {
            let repeat = longest.min((end - first).div_ceil(at_once));
            for (index, dispatch) in dispatches.iter().enumerate() {
                let steps = Steps {
                    done: narrow(done as u64),
                    count: narrow(count as u64),
                    first: narrow(first as u64),
                    stride,
                    end: narrow(end as u64),
                    projected_lane: 0,
                    output_lane: 0,
                };
                self.add(Dispatch {
                    recurrence: Some(steps),
                    repeat: narrow(repeat as u64),
                    interleaved: index + 1 < dispatches.len(),
                    ..dispatch.clone()
                })?;
            }
        }
        Ok(())
    }

    /// Keeps the gradients of the interval's first step for the step before it.
    pub(super) fn keep_behind(&mut self, lanes: &Lanes<'_>, arrays: &Arrays, carry: Slice, first: usize) -> Result<()> {
        let &Lanes { work, level, .. } = lanes;
        let width = level.gate_rows();
        let rows = DispatchRows { count: self.batch, input: lanes.first_step(0) * self.batch, output: 0 };
        let from = arrays.of_state.unwrap_or(arrays.sums);
        let block = Move::whole(from, carry, width, false).behind(first * self.batch);
        self.moved(work, rows, block)
    }

    /// One timestep, or one half of it, or many.
    pub(super) fn step_backward(
        &mut self,
        lanes: &Lanes<'_>,
        arrays: &Arrays,
        carry: Slice,
        (part, tactic): (&StepKernel, BackwardTactic),
    ) -> Result<Dispatch> {
        let &Lanes { work, level, tape, d, .. } = lanes;
        let &StepKernel { cell, units, depth, from, weights: (role, offset), .. } = part;
        let count = lanes.count();
        let Some(training) = &self.training else { return Err(missing()) };
        let parameters = self.plan.whole(training.layout.buffers.parameters);
        let [first, lane] = self.places_of(lanes, role);
        let state = level.state_size();
        // Of a product with U.
        let of_state = role == Role::WeightHh;
        let dropout = self.dropout_in(work.index, level).filter(|dropout| of_state && dropout.of_state());
        let products = if dropout.is_some() { depth / level.hidden_size } else { 1 };
        let product = BackwardProduct { units, depth, parts: products };
        let problem = self.backward_problem(work.index, level, work.steps_in);
        let rung = tactic.rung();
        let group = tactic.group(product, &problem, (&self.limits, &self.options));
        let BackwardGroup { units: of_group, quads, split } = group;
        let rows = match rung {
            BackwardRung::Tile => Some("TILE_QUADS"),
            BackwardRung::Step | BackwardRung::Sequence => Some("ROW_QUADS"),
            BackwardRung::Direct => None,
        };
        let mut constants = Constants::sizes([
            ("WIDTH", units),
            ("DEPTH", depth),
            ("SUMS", level.gate_rows()),
            ("CARRY", level.hidden_size.max(state)),
            ("LANES", count),
            ("OUTPUT_STRIDE", level.directions.len() * state),
            ("OUTPUT_FIRST", tape.directions.start * state),
            ("WEIGHTS_FIRST", first + offset),
            ("WEIGHTS_LANE", lane),
            ("FROM", from),
        ])?
        .with("UNITS", of_group)
        .with("SPLIT", split)
        .and(rows.map(|name| Constants::default().with(name, quads)).unwrap_or_default().iter())
        .with("WHOLE", lanes.interval.count == work.steps_in)
        .with("REVERSE", reverse_bits(level, &tape.directions))
        .with("LAST", !work.stage.sequence_out)
        .with("STARTED", tape.final_gradient.is_some())
        .with("MASKED", masked_number(work.mask.map(|_| level.masked_output)))
        .and(self.zoneout_constants(level.zoneout, work.index, tape.directions.start).iter())
        .and(part.constants.iter());
        if matches!(rung, BackwardRung::Step | BackwardRung::Tile) {
            constants = constants
                .and(Constants::sizes([("PRODUCTS", products)])?.iter())
                .and(self.state_dropout_constants(dropout, (from / level.hidden_size, tape.directions.start))?.iter());
        }
        let mask = work.mask.map_or(parameters, |mask| self.plan.whole(mask));
        let kept = match cell {
            BackwardCell::Lstm | BackwardCell::Slstm => arrays.c.unwrap_or(parameters),
            BackwardCell::Gru | BackwardCell::GruGates | BackwardCell::GruReset => arrays.before,
            BackwardCell::State | BackwardCell::Rnn => parameters,
        };
        let mut bindings = vec![arrays.sums, parameters, carry, d, mask, kept, self.settings()];
        match cell {
            BackwardCell::Lstm => bindings.push(arrays.d_state.unwrap_or(parameters)),
            BackwardCell::State => bindings.extend(arrays.d_state),
            BackwardCell::Gru => bindings.extend(arrays.of_state),
            _ => {}
        }
        let [of_units, of_rows] = tactic.size(group);
        let groups = |count: usize, each: usize| self.groups(count.div_ceil(each), "units of a backward pass");
        // One workgroup does all units where it does many steps.
        let columns = if rung == BackwardRung::Sequence { 1 } else { groups(units, of_units)? };
        let workgroups = [columns, groups(self.batch, of_rows)?, groups(count, 1)?];
        Ok(Dispatch {
            stage: work.index,
            constants,
            bindings,
            rows: narrow(self.batch as u64),
            steps: narrow(work.steps_in as u64),
            batch: narrow(self.batch as u64),
            workgroups,
            iterations: tactic.iterations(product, group),
            work: ((self.batch * units * count) as u64 * depth as u64).saturating_mul(tactic.stride().into()),
            ..Dispatch::empty(Kernel::Train(TrainKernel::RecurrentBackward(BackwardKernel { cell, rung })))
        })
    }
}

fn missing() -> Error {
    Error::Unsupported { place: "plan".into(), what: "a backward pass of a run".into() }
}

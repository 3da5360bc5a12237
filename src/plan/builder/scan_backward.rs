//! The backward pass of a level whose units do not depend on each other.
//!
//! W x + b of all timesteps is computed again. Then one dispatch takes every unit through the timesteps, forwards for the states
//! and back for the gradients. A lane takes all timesteps at once, in memory as large as its sums.

use super::intervals::Interval;
use super::recurrent_backward::{Arrays, Lanes};
use super::tape::reverse_bits;
use super::{Builder, StageWork, grid};
use crate::base::error::Result;
use crate::network::{Network, RecurrentStage, Role, ScanCell};
use crate::plan::constants::{CANDIDATE, GATE, OUTPUT, function, masked_number};
use crate::plan::decide::SCAN_WORK;
use crate::plan::program::Program;
use crate::plan::tactic::narrow;
use crate::plan::{Choice, Constants, Dispatch, Kernel, ROW_WORKGROUP, Slice, Steps, Strategy, TrainKernel};

/// The role of what a unit has beside W x + b, if its cell has any.
pub(super) fn of_units(cell: ScanCell) -> Option<Role> {
    match cell {
        ScanCell::Sru { peephole: true } => Some(Role::WeightP),
        ScanCell::IndRnn => Some(Role::WeightHh),
        _ => None,
    }
}

impl Builder {
    pub(super) fn scan_backward(
        &mut self,
        (network, stage_steps): (&Network, &[usize]),
        (work, level, cell): (&StageWork<'_>, &RecurrentStage, ScanCell),
        d: Slice,
    ) -> Result<()> {
        let Some(training) = &self.training else { return Ok(()) };
        let Some(tape) = training.tapes.iter().find(|tape| tape.stage == work.index).cloned() else { return Ok(()) };
        let reason = "no unit needs another's h (an invocation for each)".to_owned();
        self.plan.backward.push(Choice { stage: work.index, stages: 1, strategy: Strategy::Scan, reason });
        let interval = Interval { done: 0, count: work.steps_in };
        let (history, rows) = (tape.history, work.steps_in * self.batch);
        for tape in &tape.lanes {
            let lanes = Lanes { work, level, tape, history, d, interval, rows, accumulate: false };
            let (count, hidden) = (lanes.count(), level.hidden_size);
            let before = self.scratch("h before every step [lanes, T', B, H]", count * rows, hidden, 1)?;
            let sums = self.scratch("sums [lanes, T', B, G, H]", count * rows, level.gate_rows(), 1)?;
            let arrays = Arrays { before, sums, of_state: None, c: None, inner: None, d_state: None };
            self.input_sums(&lanes, sums)?;
            let carry = self.scratch("gradients of the state [lanes, B, H, 2 + G]", count, self.batch, 2 * hidden)?;
            self.begin_with_final(&lanes, carry)?;
            self.scan_steps_backward(&lanes, cell, &arrays, carry)?;
            self.initial_state_backward((network, stage_steps), &lanes, sums, carry)?;
            self.weights_backward(&lanes, &arrays)?;
            self.input_backward(network, &lanes, &arrays, (stage_steps, true))?;
        }
        Ok(())
    }

    fn scan_steps_backward(&mut self, lanes: &Lanes<'_>, cell: ScanCell, arrays: &Arrays, carry: Slice) -> Result<()> {
        let &Lanes { work, level, tape, d, .. } = lanes;
        let Some(training) = &self.training else { return Ok(()) };
        let parameters = self.plan.whole(training.layout.buffers.parameters);
        let (count, hidden) = (lanes.count(), level.hidden_size);
        let functions = lanes.functions();
        let constants = Constants::sizes([
            ("WIDTH", hidden),
            ("DEPTH", 0),
            ("SUMS", level.gate_rows()),
            ("CARRY", hidden),
            ("LANES", count),
            ("OUTPUT_STRIDE", level.directions.len() * hidden),
            ("OUTPUT_FIRST", tape.directions.start * hidden),
            ("WEIGHTS_FIRST", 0),
            ("WEIGHTS_LANE", 0),
            ("FROM", 0),
        ])?
        .with("UNITS", ROW_WORKGROUP)
        .with("SPLIT", 1u32)
        .with("WHOLE", lanes.interval.count == work.steps_in)
        .with("REVERSE", reverse_bits(level, &tape.directions))
        .with("LAST", !work.stage.sequence_out)
        .with("STARTED", tape.final_gradient.is_some())
        .with("MASKED", masked_number(work.mask.map(|_| level.masked_output)))
        .and(function(GATE, functions[0]));
        let constants = match of_units(cell) {
            Some(role) => {
                let [first, lane] = self.places_of(lanes, role);
                constants.and(Constants::sizes([("PEEPHOLE_FIRST", first), ("PEEPHOLE_LANE", lane)])?.iter())
            }
            None if cell.cell() == crate::network::Cell::Sru => {
                constants.with("PEEPHOLE_FIRST", 0u32).with("PEEPHOLE_LANE", 0u32)
            }
            None => constants,
        };
        let constants = match cell {
            ScanCell::MinGru | ScanCell::Qrnn => constants.and(function(CANDIDATE, functions[1])),
            ScanCell::Sru { peephole } => constants.with("PEEPHOLE", peephole).and(function(OUTPUT, functions[1])),
            ScanCell::MinLstm | ScanCell::IndRnn => constants,
        };
        let mask = work.mask.map_or(parameters, |mask| self.plan.whole(mask));
        let start = self.plan.whole(tape.c.unwrap_or(tape.h));
        let [steps, batch] = [work.steps_in, self.batch].map(|number| narrow(number as u64));
        let groups = hidden.div_ceil(ROW_WORKGROUP as usize) as u64;
        let [x, y, z] = grid(&self.limits, groups, self.batch as u64, &work.stage.label)?;
        if z > 1 {
            return Err(self.too_many_rows(self.batch));
        }
        let elements = (self.batch * hidden * count) as u64;
        self.add(Dispatch {
            stage: work.index,
            constants,
            bindings: vec![arrays.sums, parameters, carry, d, mask, start, arrays.before],
            rows: batch,
            steps,
            batch,
            recurrence: Some(Steps {
                done: 0,
                count: steps,
                first: 0,
                stride: steps,
                end: steps,
                projected_lane: 0,
                output_lane: 0,
            }),
            workgroups: [x, y, narrow(count as u64)],
            iterations: 2 * u64::from(steps),
            work: elements.saturating_mul(2 * SCAN_WORK * level.cell().gates() as u64).saturating_mul(steps.into()),
            ..Dispatch::empty(Kernel::Train(TrainKernel::ScanBackward(Program::of(level).kernels[0])))
        })
    }
}

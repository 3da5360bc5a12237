//! The backward pass of a recurrent level.
//!
//! The forward pass kept h of every timestep, and of an LSTM the sums of its gates, from which c follows unit by unit. The
//! pre-activations of other cells are two products over all timesteps. Then the timesteps go back (`steps_backward.rs`); then the gradients of the weights are products over all
//! timesteps. Where memory is short, all of that is done for one interval of time after the other.

use super::intervals::Interval;
use super::matmul::{Also, Operand};
use super::normalized_backward::IntervalStart;
use super::tape::{LanesTape, reverse_bits};
use super::{Builder, DispatchRows, StageWork, flat_grid};
use crate::base::error::Result;
use crate::network::{Activation, Cell, Network, Recurrence, RecurrentStage, Role, Stage, gates};
use crate::plan::constants::{CANDIDATE, GATE, OUTPUT, function};
use crate::plan::tactic::narrow;
use crate::plan::{Constants, Kernel, ROW_WORKGROUP, Slice, TrainKernel};

/// Arrays of one set of directions, of T' timesteps.
#[derive(Clone, Copy)]
pub(super) struct Arrays {
    /// h before every timestep `[lanes, T', B, P]`.
    pub before: Slice,
    /// Pre-activations, then their gradients `[lanes, T', B, G*H]`; of a GRU that resets the product only W x + b.
    pub sums: Slice,
    /// U h + d of such a GRU, then its gradient; that of a U h that is normalized apart.
    pub of_state: Option<Slice>,
    /// c between the timesteps `[lanes, T' + 1, B, H]`; twice where [`Lanes::keeps_new_c`]. Of an sLSTM c, n and m before every
    /// timestep `[lanes, T', B, 3, H]`.
    pub c: Option<Slice>,
    /// h before a projection `[lanes, T', B, H]`, or the state times the reset gate.
    pub inner: Option<Slice>,
    /// The gradient of h behind a projection or before a normalization `[lanes, T', B, P]`.
    pub d_state: Option<Slice>,
}

/// A set of directions of a level.
#[derive(Clone, Copy)]
pub(super) struct Lanes<'a> {
    pub work: &'a StageWork<'a>,
    pub level: &'a RecurrentStage,
    pub tape: &'a LanesTape,
    pub history: Slice,
    /// The gradient of the stage's output.
    pub d: Slice,
    /// The timesteps that are taken.
    pub interval: Interval,
    /// T'*B
    pub rows: usize,
    /// Whether the interval adds to the gradients of the weights.
    pub accumulate: bool,
}

impl Lanes<'_> {
    pub fn count(&self) -> usize {
        self.tape.directions.len()
    }

    fn stage(&self) -> &Stage {
        self.work.stage
    }

    /// The first row of the interval in arrays of all timesteps.
    pub fn first_row(&self) -> usize {
        // Only lanes that are alone have intervals.
        self.interval.origin(self.work.steps_in, self.is_reverse(0)) * (self.rows / self.interval.count)
    }

    /// Where the first step of a lane lies among the timesteps of the interval.
    pub fn first_step(&self, lane: usize) -> usize {
        if self.is_reverse(lane) { self.interval.count - 1 } else { 0 }
    }

    pub fn is_reverse(&self, lane: usize) -> bool {
        self.level.directions[self.tape.directions.start + lane].reverse
    }

    /// Whether c of every step is also kept as it is before zoneout: the peephole of the output gate sees that.
    pub fn keeps_new_c(&self) -> bool {
        self.level.zoneout.c > 0.0 && matches!(self.level.recurrence, Recurrence::Lstm { peephole: true, .. })
    }

    pub fn clip(&self) -> f32 {
        // 0 stands for no bound.
        self.level.clip.unwrap_or(0.0)
    }

    pub fn functions(&self) -> &[Activation] {
        &self.level.directions[self.tape.directions.start].activations
    }

    /// Functions of an sLSTM.
    pub fn slstm(&self) -> Constants {
        let functions = self.functions();
        Constants::default().with("EXPONENTIAL", functions[0] == Activation::Exp).and(function(CANDIDATE, functions[1]))
    }

    /// Functions, bounds and peepholes of an LSTM.
    pub fn lstm(&self, builder: &Builder) -> Result<Constants> {
        let Recurrence::Lstm { peephole, coupled, cell_clip, .. } = self.level.recurrence else {
            return Ok(Constants::default());
        };
        let [first, lane] = builder.places_of(self, Role::WeightP);
        let functions = self.functions();
        Ok(Constants::sizes([("PEEPHOLE_FIRST", first), ("PEEPHOLE_LANE", lane)])?
            .with("PEEPHOLE", peephole)
            .with("COUPLED", coupled)
            .with("CLIP_GATES", self.clip())
            .with("CLIP_CELL", cell_clip.unwrap_or(0.0))
            .and(function(GATE, functions[0]))
            .and(function(CANDIDATE, functions[1]))
            .and(function(OUTPUT, functions[2])))
    }
}

impl Builder {
    pub(super) fn recurrent_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        level: &RecurrentStage,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        if let Some(cell) = level.recurrence.scan() {
            return self.scan_backward((network, stage_steps), (work, level, cell), d);
        }
        let Some(training) = &self.training else { return Ok(()) };
        let Some(tape) = training.tapes.iter().find(|tape| tape.stage == work.index).cloned() else { return Ok(()) };
        // c, n and m of an sLSTM are kept for all timesteps.
        let whole = level.cell() == Cell::Slstm;
        let length = if whole { work.steps_in } else { self.interval(work.steps_in) };
        let tactic = self.decide_backward(work.index, level, work.steps_in);
        for tape_of_lanes in &tape.lanes {
            let reverse = level.directions[tape_of_lanes.directions.start].reverse;
            let intervals = Interval::all(work.steps_in, length, reverse);
            let again = tape_of_lanes.sums.as_ref().and_then(|sums| sums.again.as_ref());
            let history = tape.history;
            let lanes = |index: usize, interval: Interval| {
                let (rows, accumulate) = (interval.count * self.batch, index + 1 < intervals.len());
                Lanes { work, level, tape: tape_of_lanes, history, d, interval, rows, accumulate }
            };
            let lanes: Vec<Lanes<'_>> = intervals.iter().enumerate().map(|(index, &one)| lanes(index, one)).collect();
            let kept_c = match level.recurrence.normalization() {
                Some(how) if level.cell().keeps_c() && lanes.len() > 1 => Some(self.c_before_intervals(&lanes, how)?),
                _ => None,
            };
            for (index, lanes) in lanes.iter().enumerate().rev() {
                let interval = lanes.interval;
                if let Some(states) = again {
                    self.run_again(work, states, index, interval)?;
                }
                let (arrays, carry) = match level.recurrence.normalization() {
                    Some(how) => self.normalized_backward(lanes, how, IntervalStart { index, kept_c }, tactic)?,
                    None => {
                        let arrays = self.arrays(lanes, index)?;
                        let carry = self.steps_backward(lanes, &arrays, tactic)?;
                        (arrays, carry)
                    }
                };
                if index == 0 {
                    let sums = arrays.of_state.unwrap_or(arrays.sums);
                    self.initial_state_backward((network, stage_steps), lanes, sums, carry)?;
                }
                self.weights_backward(lanes, &arrays)?;
                self.input_backward(network, lanes, &arrays, (stage_steps, length == work.steps_in))?;
            }
            if let Some(states) = again {
                self.state_at_end(work, states, intervals.len())?;
            }
        }
        Ok(())
    }

    /// Where the tensors of a role begin: the first lane's, and the distance to the second's.
    pub(super) fn places_of(&self, lanes: &Lanes<'_>, role: Role) -> [usize; 2] {
        let directions = &lanes.tape.directions;
        let first = |direction: usize| self.first(lanes.stage(), direction, role).unwrap_or(0);
        let start = first(directions.start);
        // Tensors of the second direction follow those of the first.
        [start, if directions.len() > 1 { first(directions.start + 1) - start } else { 0 }]
    }

    /// What the forward pass computed in an interval, from what it kept.
    fn arrays(&mut self, lanes: &Lanes<'_>, index: usize) -> Result<Arrays> {
        let &Lanes { level, rows, .. } = lanes;
        let (count, state, hidden, width) = (lanes.count(), level.state_size(), level.hidden_size, level.gate_rows());
        let before = self.scratch("h before every step [lanes, T', B, H]", count * rows, state, 1)?;
        self.state_before(lanes, before)?;
        let sums = self.scratch("sums [lanes, T', B, G, H]", count * rows, width, 1)?;
        let mut arrays = Arrays { before, sums, of_state: None, c: None, inner: None, d_state: None };
        if !level.cell().keeps_c() || level.cell() == Cell::Slstm {
            self.sums_again(lanes, &mut arrays)?;
            if level.cell() == Cell::Slstm {
                arrays.c = Some(self.slstm_states(lanes, sums)?);
            }
            return Ok(arrays);
        }
        let steps = (lanes.interval.count + 1) * if lanes.keeps_new_c() { 2 } else { 1 };
        arrays.c =
            Some(self.scratch("c between the steps [lanes, T' + 1, B, H]", count * steps, self.batch, hidden)?);
        if level.recurrence.proj_size() > 0 {
            arrays.inner = Some(self.scratch("inner states [lanes, T', B, H]", count * rows, hidden, 1)?);
            arrays.d_state = Some(self.scratch("gradients of h [lanes, T', B, P]", count * rows, state, 1)?);
        }
        self.lstm_states(lanes, &arrays, index)?;
        Ok(arrays)
    }

    /// W x + b of the lanes, without what is added to the product with U.
    pub(super) fn input_sums(&mut self, lanes: &Lanes<'_>, sums: Slice) -> Result<()> {
        let &Lanes { work, level, rows, .. } = lanes;
        let (hidden, width, inputs) = (level.hidden_size, level.gate_rows(), work.stage.in_features);
        for lane in 0..lanes.count() {
            let direction = lanes.tape.directions.start + lane;
            let Some(w) = self.param(work.stage, direction, Role::WeightIh) else { continue };
            let bias = self.param(work.stage, direction, Role::BiasIh);
            let x = Operand::new(work.inputs[0], inputs).from(lanes.first_row() * inputs);
            for (block, mask) in self.input_blocks(work.index, level, direction) {
                let [first, count] = [block.start, block.len()].map(|gates| gates * hidden);
                let x = self.through(work.index, mask, x, [rows, inputs])?;
                let w = Operand::new(w, inputs).from(first * inputs).turned();
                let c = Operand::new(sums, width).from(lane * rows * width + first);
                let also = Also { accumulate: false, bias: bias.map(|bias| (bias, first)) };
                self.matmul(work.index, [rows, count, inputs], [x, w, c], also)?;
            }
        }
        Ok(())
    }

    /// The pre-activations of a cell without c, from the states that the forward pass kept.
    fn sums_again(&mut self, lanes: &Lanes<'_>, arrays: &mut Arrays) -> Result<()> {
        let &Lanes { work, level, rows, .. } = lanes;
        let &mut Arrays { before, sums, .. } = arrays;
        let count = lanes.count();
        let (state, hidden, width) = (level.state_size(), level.hidden_size, level.gate_rows());
        let resets_state = level.recurrence == Recurrence::Gru { reset_after: false };
        if level.recurrence == (Recurrence::Gru { reset_after: true }) {
            arrays.of_state = Some(self.scratch("sums over h [lanes, T', B, G, H]", count * rows, width, 1)?);
        }
        let of_state = arrays.of_state;
        self.input_sums(lanes, sums)?;
        for lane in 0..count {
            let direction = lanes.tape.directions.start + lane;
            let Some(u) = self.param(work.stage, direction, Role::WeightHh) else { continue };
            let of_hidden = self.param(work.stage, direction, Role::BiasHh);
            let h = Operand::new(before, state).from(lane * rows * state);
            for (block, mask) in self.state_blocks(work.index, level, direction) {
                // The product of a candidate that is reset before waits for the gates.
                if resets_state && block.start == gates::NEW {
                    continue;
                }
                let [first, count] = [block.start, block.len()].map(|gates| gates * hidden);
                let h = self.through(work.index, mask, h, [rows, state])?;
                let u = Operand::new(u, state).from(first * state).turned();
                let c = Operand::new(of_state.unwrap_or(sums), width).from(lane * rows * width + first);
                let also = Also { accumulate: of_state.is_none(), bias: of_hidden.map(|bias| (bias, first)) };
                self.matmul(work.index, [rows, count, state], [h, u, c], also)?;
            }
        }
        if resets_state {
            let inner = self.scratch("inner states [lanes, T', B, H]", count * rows, hidden, 1)?;
            arrays.inner = Some(inner);
            self.reset_state(lanes, arrays, inner)?;
            for lane in 0..count {
                let direction = lanes.tape.directions.start + lane;
                let Some(u) = self.param(work.stage, direction, Role::WeightHh) else { continue };
                let from = gates::NEW * hidden;
                let bias = self.param(work.stage, direction, Role::BiasHh).map(|bias| (bias, from));
                let x = Operand::new(inner, hidden).from(lane * rows * hidden);
                let mask = self.state_blocks(work.index, level, direction).pop().and_then(|(_, mask)| mask);
                let x = self.through(work.index, mask, x, [rows, hidden])?;
                let u = Operand::new(u, hidden).from(from * hidden).turned();
                let c = Operand::new(sums, width).from(lane * rows * width + from);
                let also = Also { accumulate: true, bias };
                self.matmul(work.index, [rows, hidden, hidden], [x, u, c], also)?;
            }
        }
        Ok(())
    }

    pub(super) fn state_before(&mut self, lanes: &Lanes<'_>, output: Slice) -> Result<()> {
        let &Lanes { work, level, tape, history, rows, .. } = lanes;
        let state = level.state_size();
        let constants = Constants::sizes([
            ("STATE", state),
            ("OUTPUT_STRIDE", level.directions.len() * state),
            ("OUTPUT_FIRST", tape.directions.start * state),
        ])?
        .with("REVERSE", reverse_bits(level, &tape.directions))
        .with("MASKED", work.mask.is_some())
        .with("WORKGROUP", ROW_WORKGROUP);
        let initial = self.plan.whole(tape.h);
        let mask = work.mask.map_or(initial, |mask| self.plan.whole(mask));
        let elements = (rows * state) as u64;
        let [x, y, _] = flat_grid(&self.limits, elements, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::StateBefore);
        let rows = DispatchRows { count: rows, input: lanes.first_row(), output: 0 };
        self.push(work, rows, kernel, constants, |dispatch| {
            dispatch.bindings = vec![history, initial, mask, output];
            dispatch.workgroups = [x, y, narrow(lanes.count() as u64)];
            dispatch.work = elements * lanes.count() as u64;
        })
    }

    fn reset_state(&mut self, lanes: &Lanes<'_>, arrays: &Arrays, output: Slice) -> Result<()> {
        let &Lanes { work, level, rows, .. } = lanes;
        let constants = Constants::sizes([("WIDTH", level.hidden_size)])?
            .with("CLIP_GATES", lanes.clip())
            .and(function(GATE, lanes.functions()[0]))
            .with("WORKGROUP", ROW_WORKGROUP);
        let rows = rows * lanes.count();
        let elements = (rows * level.hidden_size) as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::ResetState);
        self.push(work, DispatchRows::all(rows), kernel, constants, |dispatch| {
            dispatch.bindings = vec![arrays.sums, arrays.before, output];
            dispatch.workgroups = workgroups;
            dispatch.work = elements;
        })
    }

    /// c, n and m before every timestep.
    fn slstm_states(&mut self, lanes: &Lanes<'_>, sums: Slice) -> Result<Slice> {
        let &Lanes { work, level, tape, rows, .. } = lanes;
        let (count, hidden) = (lanes.count(), level.hidden_size);
        let label = "c, n, m before every step [lanes, T, B, 3, H]";
        let kept = self.scratch(label, count * rows, level.cell_size(), 1)?;
        let initial = self.plan.whole(tape.c.unwrap_or(tape.h));
        let mask = work.mask.map_or(initial, |mask| self.plan.whole(mask));
        let constants = Constants::sizes([("WIDTH", hidden), ("LANES", count)])?
            .with("REVERSE", reverse_bits(level, &tape.directions))
            .with("MASKED", work.mask.is_some())
            .with("WORKGROUP", ROW_WORKGROUP)
            .and(lanes.slstm().iter());
        let elements = (self.batch * hidden) as u64;
        let [x, y, _] = flat_grid(&self.limits, elements, &work.stage.label)?;
        let steps = work.steps_in as u64;
        let kernel = Kernel::Train(TrainKernel::SlstmStates);
        self.push(work, DispatchRows::all(self.batch), kernel, constants, |dispatch| {
            dispatch.bindings = vec![sums, initial, mask, kept];
            dispatch.steps = narrow(steps);
            dispatch.workgroups = [x, y, narrow(count as u64)];
            dispatch.iterations = steps;
            dispatch.work = elements * count as u64 * steps;
        })?;
        Ok(kept)
    }

    fn lstm_states(&mut self, lanes: &Lanes<'_>, arrays: &Arrays, index: usize) -> Result<()> {
        let &Lanes { work, level, tape, .. } = lanes;
        let (Some(c), Some(start), Some(sums)) = (arrays.c, tape.c, &tape.sums) else { return Ok(()) };
        let initial = match &sums.again {
            Some(states) => self.c_before(work, states, index)?,
            None => self.plan.whole(start),
        };
        let Some(training) = &self.training else { return Ok(()) };
        let parameters = self.plan.whole(training.layout.buffers.parameters);
        let mask = work.mask.map_or(initial, |mask| self.plan.whole(mask));
        let kept = self.plan.whole(sums.buffer);
        // Something must be bound; nothing writes it.
        let inner = match arrays.inner {
            Some(inner) => inner,
            None => self.scratch("nothing", 1, 1, 1)?,
        };
        let constants = Constants::sizes([("WIDTH", level.hidden_size), ("LANES", lanes.count())])?
            .with("REVERSE", reverse_bits(level, &tape.directions))
            .with("MASKED", work.mask.is_some())
            .with("KEEP_H", arrays.inner.is_some())
            .with("KEEP_NEW", lanes.keeps_new_c())
            .with("KEPT_LANE", self.number(sums.lane, "sums of a lane")?)
            .and(lanes.lstm(self)?.iter())
            .and(self.zoneout_constants(level.zoneout, work.index, tape.directions.start).iter())
            .with("WORKGROUP", ROW_WORKGROUP);
        let settings = self.settings();
        let elements = (self.batch * level.hidden_size) as u64;
        let [x, y, _] = flat_grid(&self.limits, elements, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::LstmStates);
        let rows = DispatchRows { count: self.batch, input: lanes.first_row(), output: 0 };
        let steps = lanes.interval.count as u64;
        self.push(work, rows, kernel, constants, |dispatch| {
            dispatch.bindings = vec![kept, parameters, initial, mask, c, inner, arrays.sums, settings];
            dispatch.steps = narrow(steps);
            dispatch.workgroups = [x, y, narrow(lanes.count() as u64)];
            dispatch.iterations = steps;
            dispatch.work = elements * lanes.count() as u64 * steps;
        })
    }
}

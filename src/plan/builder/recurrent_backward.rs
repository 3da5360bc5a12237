//! The backward pass of a recurrent level.
//!
//! The forward pass kept h of every timestep. From it the pre-activations of all timesteps are two products, and c follows
//! from them unit by unit; then the timesteps go back, one dispatch each (two where a state is projected, or reset before
//! the product); then the gradients of the weights are products over all timesteps.

use super::matmul::{Also, Operand};
use super::tape::{LanesTape, reverse_bits};
use super::{Builder, DispatchRows, StageWork, flat_grid};
use crate::base::error::{Error, Result};
use crate::network::{Network, Recurrence, RecurrentStage, Role, Stage, gates};
use crate::plan::constants::{CANDIDATE, GATE, OUTPUT, function, masked_number};
use crate::plan::tactic::narrow;
use crate::plan::{
    BackwardCell, Constants, Dispatch, Kernel, MAX_REPEAT, MAX_SUBMISSION_WORK, ROW_WORKGROUP, Slice, Steps,
    TrainKernel,
};

/// Units of a workgroup of a backward step.
const UNITS: usize = 64;
/// K of the gradients that a workgroup of a backward step keeps.
pub const SLICE: u64 = 128;
/// Workgroups that keep an adapter busy.
const ENOUGH: usize = 128;
/// Most invocations that share the sum of a unit.
const MOST_SPLIT: usize = 4;

/// Arrays of one set of directions.
#[derive(Clone, Copy)]
pub(super) struct Arrays {
    /// h before every timestep `[lanes, T, B, P]`.
    pub before: Slice,
    /// Pre-activations, then their gradients `[lanes, T, B, G*H]`; of a GRU that resets the product only W x + b.
    pub sums: Slice,
    /// U h + d of such a GRU, then its gradient; that of a U h that is normalized apart.
    pub of_state: Option<Slice>,
    /// c between the timesteps `[lanes, T + 1, B, H]`.
    pub c: Option<Slice>,
    /// h before a projection `[lanes, T, B, H]`, or the state times the reset gate.
    pub inner: Option<Slice>,
    /// The gradient of h behind a projection or before a normalization `[lanes, T, B, P]`.
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
    /// T*B
    pub rows: usize,
}

impl Lanes<'_> {
    pub fn count(&self) -> usize {
        self.tape.directions.len()
    }

    fn stage(&self) -> &Stage {
        self.work.stage
    }

    fn clip(&self) -> f32 {
        // 0 stands for no bound.
        self.level.clip.unwrap_or(0.0)
    }

    pub fn functions(&self) -> &[crate::network::Activation] {
        &self.level.directions[self.tape.directions.start].activations
    }

    /// Functions, bounds and peepholes of an LSTM.
    fn lstm(&self, builder: &Builder) -> Result<Constants> {
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
        let Some(training) = &self.training else { return Ok(()) };
        let Some(tape) = training.tapes.iter().find(|tape| tape.stage == work.index).cloned() else { return Ok(()) };
        for lanes in &tape.lanes {
            let rows = work.steps_in * self.batch;
            let lanes = Lanes { work, level, tape: lanes, history: tape.history, d, rows };
            let (arrays, carry) = match level.recurrence.normalization() {
                Some(how) => self.normalized_backward(&lanes, how)?,
                None => {
                    let arrays = self.run_again(&lanes)?;
                    let carry = self.steps_backward(&lanes, &arrays)?;
                    (arrays, carry)
                }
            };
            let of_product = arrays.of_state.unwrap_or(arrays.sums);
            self.initial_state_backward(network, (work, level, lanes.tape), of_product, carry)?;
            self.weights_backward(&lanes, &arrays)?;
            if let Some((to, add)) = self.gradient(network, work.stage.inputs[0], stage_steps)? {
                let (inputs, width) = (work.stage.in_features, level.gate_rows());
                for lane in 0..lanes.count() {
                    let Some(w) = self.param(work.stage, lanes.tape.directions.start + lane, Role::WeightIh) else {
                        continue;
                    };
                    let a = Operand::new(arrays.sums, width).from(lane * rows * width);
                    let also = Also { accumulate: add || lane > 0, bias: None };
                    let [b, c] = [Operand::new(w, inputs), Operand::new(to, inputs)];
                    self.matmul(work.index, [rows, inputs, width], [a, b, c], also)?;
                }
            }
        }
        Ok(())
    }

    /// Where the tensors of a role begin: the first lane's, and the distance to the second's.
    fn places_of(&self, lanes: &Lanes<'_>, role: Role) -> [usize; 2] {
        let directions = &lanes.tape.directions;
        let first = |direction: usize| self.first(lanes.stage(), direction, role).unwrap_or(0);
        let start = first(directions.start);
        // Tensors of the second direction follow those of the first.
        [start, if directions.len() > 1 { first(directions.start + 1) - start } else { 0 }]
    }

    /// What the forward pass computed, from the states that it kept.
    fn run_again(&mut self, lanes: &Lanes<'_>) -> Result<Arrays> {
        let &Lanes { work, level, rows, .. } = lanes;
        let count = lanes.count();
        let (state, hidden, width, inputs) =
            (level.state_size(), level.hidden_size, level.gate_rows(), work.stage.in_features);
        let before = self.scratch("h before every step [lanes, T, B, H]", count * rows, state, 1)?;
        self.state_before(lanes, before)?;
        let sums = self.scratch("sums [lanes, T, B, G, H]", count * rows, width, 1)?;
        let resets_product = level.recurrence == Recurrence::Gru { reset_after: true };
        let resets_state = level.recurrence == Recurrence::Gru { reset_after: false };
        let of_state = match resets_product {
            true => Some(self.scratch("sums over h [lanes, T, B, G, H]", count * rows, width, 1)?),
            false => None,
        };
        let mut arrays = Arrays { before, sums, of_state, c: None, inner: None, d_state: None };
        for lane in 0..count {
            let direction = lanes.tape.directions.start + lane;
            let [w, u] = [Role::WeightIh, Role::WeightHh].map(|role| self.param(work.stage, direction, role));
            let (Some(w), Some(u)) = (w, u) else { continue };
            let bias = |role| self.param(work.stage, direction, role).map(|bias| (bias, 0));
            let [of_input, of_hidden] = [bias(Role::BiasIh), bias(Role::BiasHh)];
            let c = Operand::new(sums, width).from(lane * rows * width);
            let x = Operand::new(work.inputs[0], inputs);
            let also = Also { accumulate: false, bias: of_input };
            self.matmul(work.index, [rows, width, inputs], [x, Operand::new(w, inputs).turned(), c], also)?;
            let h = Operand::new(before, state).from(lane * rows * state);
            let u = Operand::new(u, state).turned();
            if let Some(of_state) = of_state {
                let c = Operand::new(of_state, width).from(lane * rows * width);
                let also = Also { accumulate: false, bias: of_hidden };
                self.matmul(work.index, [rows, width, state], [h, u, c], also)?;
                continue;
            }
            // The product of a candidate that is reset before waits for the gates.
            let now = if resets_state { gates::NEW * hidden } else { width };
            let also = Also { accumulate: true, bias: of_hidden };
            self.matmul(work.index, [rows, now, state], [h, u, c], also)?;
        }
        if resets_state {
            let inner = self.scratch("inner states [lanes, T, B, H]", count * rows, hidden, 1)?;
            arrays.inner = Some(inner);
            self.reset_state(lanes, &arrays, inner)?;
            for lane in 0..count {
                let direction = lanes.tape.directions.start + lane;
                let Some(u) = self.param(work.stage, direction, Role::WeightHh) else { continue };
                let from = gates::NEW * hidden;
                let bias = self.param(work.stage, direction, Role::BiasHh).map(|bias| (bias, from));
                let x = Operand::new(inner, hidden).from(lane * rows * hidden);
                let u = Operand::new(u, hidden).from(from * hidden).turned();
                let c = Operand::new(sums, width).from(lane * rows * width + from);
                let also = Also { accumulate: true, bias };
                self.matmul(work.index, [rows, hidden, hidden], [x, u, c], also)?;
            }
        }
        if level.cell().keeps_c() {
            let steps = work.steps_in + 1;
            arrays.c =
                Some(self.scratch("c between the steps [lanes, T + 1, B, H]", count * steps, self.batch, hidden)?);
            if level.recurrence.proj_size() > 0 {
                arrays.inner = Some(self.scratch("inner states [lanes, T, B, H]", count * rows, hidden, 1)?);
                arrays.d_state = Some(self.scratch("gradients of h [lanes, T, B, P]", count * rows, state, 1)?);
            }
            self.lstm_states(lanes, &arrays)?;
        }
        Ok(arrays)
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
        self.push(work, DispatchRows::all(rows), kernel, constants, |dispatch| {
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

    fn lstm_states(&mut self, lanes: &Lanes<'_>, arrays: &Arrays) -> Result<()> {
        let &Lanes { work, level, tape, .. } = lanes;
        let (Some(c), Some(start), Some(training)) = (arrays.c, tape.c, &self.training) else { return Ok(()) };
        let parameters = self.plan.whole(training.layout.buffers.parameters);
        let initial = self.plan.whole(start);
        let mask = work.mask.map_or(initial, |mask| self.plan.whole(mask));
        // Something must be bound; nothing writes it.
        let inner = match arrays.inner {
            Some(inner) => inner,
            None => self.scratch("nothing", 1, 1, 1)?,
        };
        let constants = Constants::sizes([("WIDTH", level.hidden_size), ("LANES", lanes.count())])?
            .with("REVERSE", reverse_bits(level, &tape.directions))
            .with("MASKED", work.mask.is_some())
            .with("KEEP_H", arrays.inner.is_some())
            .and(lanes.lstm(self)?.iter())
            .with("WORKGROUP", ROW_WORKGROUP);
        let elements = (self.batch * level.hidden_size) as u64;
        let [x, y, _] = flat_grid(&self.limits, elements, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::LstmStates);
        self.push(work, DispatchRows::all(self.batch), kernel, constants, |dispatch| {
            dispatch.bindings = vec![arrays.sums, parameters, initial, mask, c, inner];
            dispatch.workgroups = [x, y, narrow(lanes.count() as u64)];
            dispatch.iterations = work.steps_in as u64;
            dispatch.work = elements * lanes.count() as u64 * work.steps_in as u64;
        })
    }

    /// All timesteps, from the last to the first. Gives what the first hands on.
    fn steps_backward(&mut self, lanes: &Lanes<'_>, arrays: &Arrays) -> Result<Slice> {
        let &Lanes { work, level, .. } = lanes;
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
            Recurrence::LayerNormLstm(_) | Recurrence::LayerNormGru(_) => return Err(missing()),
        };
        let carry =
            self.scratch("gradients of the state [2, lanes, B, H]", 2 * lanes.count(), self.batch, hidden.max(state))?;
        let dispatches: Vec<Dispatch> =
            parts.iter().map(|part| self.step_backward(lanes, arrays, carry, part)).collect::<Result<_>>()?;
        self.repeat_backward(work.steps_in, &dispatches)?;
        Ok(carry)
    }

    /// The dispatches of a timestep for all timesteps.
    pub(super) fn repeat_backward(&mut self, steps_in: usize, dispatches: &[Dispatch]) -> Result<()> {
        let each = dispatches.iter().fold(0u64, |sum, dispatch| sum.saturating_add(dispatch.work)).max(1);
        let longest = usize::try_from(MAX_SUBMISSION_WORK / each).unwrap_or(usize::MAX).clamp(1, MAX_REPEAT);
        for first in (0..steps_in).step_by(longest) {
            let repeat = longest.min(steps_in - first);
            for (index, dispatch) in dispatches.iter().enumerate() {
                let steps = Steps {
                    done: 0,
                    count: narrow(steps_in as u64),
                    first: narrow(first as u64),
                    stride: 1,
                    end: narrow(steps_in as u64),
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

    /// One timestep, or one half of it.
    pub(super) fn step_backward(
        &mut self,
        lanes: &Lanes<'_>,
        arrays: &Arrays,
        carry: Slice,
        part: &StepKernel,
    ) -> Result<Dispatch> {
        let &Lanes { work, level, tape, d, .. } = lanes;
        let &StepKernel { cell, units, depth, from, weights: (role, offset), .. } = part;
        let count = lanes.count();
        let Some(training) = &self.training else { return Err(missing()) };
        let parameters = self.plan.whole(training.layout.buffers.parameters);
        let [first, lane] = self.places_of(lanes, role);
        let row_quads = self.row_quads(units, count);
        // A software adapter runs the invocations of a workgroup one after the other.
        let most = if self.limits.software { 1 } else { MOST_SPLIT / row_quads };
        let split = depth.div_ceil(UNITS).next_power_of_two().min(most);
        let state = level.state_size();
        let constants = Constants::sizes([
            ("WIDTH", units),
            ("DEPTH", depth),
            ("SUMS", level.gate_rows()),
            ("LANES", count),
            ("OUTPUT_STRIDE", level.directions.len() * state),
            ("OUTPUT_FIRST", tape.directions.start * state),
            ("WEIGHTS_FIRST", first + offset),
            ("WEIGHTS_LANE", lane),
            ("FROM", from),
            ("UNITS", UNITS),
            ("SPLIT", split),
            ("ROW_QUADS", row_quads),
        ])?
        .with("REVERSE", reverse_bits(level, &tape.directions))
        .with("LAST", !work.stage.sequence_out)
        .with("MASKED", masked_number(work.mask.map(|_| level.masked_output)))
        .and(part.constants.iter());
        let mask = work.mask.map_or(parameters, |mask| self.plan.whole(mask));
        let kept = match cell {
            BackwardCell::Lstm => arrays.c.unwrap_or(parameters),
            BackwardCell::Gru | BackwardCell::GruGates | BackwardCell::GruReset => arrays.before,
            BackwardCell::State | BackwardCell::Rnn => parameters,
        };
        let mut bindings = vec![arrays.sums, parameters, carry, d, mask, kept];
        match cell {
            BackwardCell::Lstm => bindings.push(arrays.d_state.unwrap_or(parameters)),
            BackwardCell::State => bindings.extend(arrays.d_state),
            BackwardCell::Gru => bindings.extend(arrays.of_state),
            _ => {}
        }
        let groups = |count: usize, each: usize| self.groups(count.div_ceil(each), "units of a backward pass");
        let workgroups = [groups(units, UNITS)?, groups(self.batch, 4 * row_quads)?, groups(count, 1)?];
        let group = (UNITS * split) as u64;
        Ok(Dispatch {
            stage: work.index,
            constants,
            bindings,
            rows: narrow(self.batch as u64),
            steps: narrow(work.steps_in as u64),
            batch: narrow(self.batch as u64),
            workgroups,
            iterations: (depth as u64).div_ceil(SLICE)
                * (1 + (SLICE * row_quads as u64).div_ceil(group) * 5 + SLICE / split as u64)
                + 4 * (row_quads * split) as u64
                + 4 * row_quads as u64,
            work: (self.batch * units * count) as u64 * depth as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::StepBackward(cell)))
        })
    }

    /// Quads of rows that an invocation of a backward step takes: as many as leave enough workgroups.
    fn row_quads(&self, units: usize, lanes: usize) -> usize {
        let enough = if self.limits.software { 1 } else { ENOUGH };
        let groups = |quads: usize| units.div_ceil(UNITS) * self.batch.div_ceil(4 * quads) * lanes;
        let fitting = [4, 2].into_iter().find(|&quads| self.batch > 2 * quads && groups(quads) >= enough);
        fitting.unwrap_or(1)
    }

    /// The gradients of the weights of all directions.
    fn weights_backward(&mut self, lanes: &Lanes<'_>, arrays: &Arrays) -> Result<()> {
        let &Lanes { work, level, rows, .. } = lanes;
        let (hidden, state, width, inputs) =
            (level.hidden_size, level.state_size(), level.gate_rows(), work.stage.in_features);
        let stage = work.index;
        for lane in 0..lanes.count() {
            let direction = lanes.tape.directions.start + lane;
            let of = |builder: &Self, role| builder.param_gradient(work.stage, direction, role);
            let sums = Operand::new(arrays.sums, width).from(lane * rows * width);
            let of_state = arrays.of_state.map_or(sums, |slice| Operand::new(slice, width).from(lane * rows * width));
            let before = Operand::new(arrays.before, state).from(lane * rows * state);
            let inner = arrays.inner.map(|slice| Operand::new(slice, hidden).from(lane * rows * hidden));
            if let Some(d) = of(self, Role::WeightIh) {
                let x = Operand::new(work.inputs[0], inputs);
                let [a, c] = [sums.turned(), Operand::new(d, inputs)];
                self.weights_product(stage, [width, inputs, rows], [a, x, c], false)?;
            }
            if let Some(d) = of(self, Role::WeightHh) {
                let c = Operand::new(d, state);
                match (level.recurrence, inner) {
                    (Recurrence::Gru { reset_after: false }, Some(inner)) => {
                        let new = gates::NEW * hidden;
                        self.weights_product(stage, [new, state, rows], [sums.turned(), before, c], false)?;
                        let [a, c] = [sums.from(new).turned(), c.from(new * state)];
                        self.weights_product(stage, [hidden, state, rows], [a, inner, c], false)?;
                    }
                    _ => self.weights_product(stage, [width, state, rows], [of_state.turned(), before, c], false)?,
                }
            }
            let biases = [of(self, Role::BiasIh), of(self, Role::BiasHh)];
            match (biases, arrays.of_state) {
                ([of_input, of_hidden], Some(_)) => {
                    for (d, sums) in [(of_input, sums), (of_hidden, of_state)] {
                        let outputs: Vec<(Slice, usize)> = d.map(|d| (d, 0)).into_iter().collect();
                        self.column_sums(stage, [rows, width], sums, None, &outputs)?;
                    }
                }
                (biases, None) => {
                    let outputs: Vec<(Slice, usize)> = biases.into_iter().flatten().map(|d| (d, 0)).collect();
                    self.column_sums(stage, [rows, width], sums, None, &outputs)?;
                }
            }
            if let (Some(d), Some(c)) = (of(self, Role::WeightP), arrays.c) {
                // A reverse lane comes from behind the timestep.
                let behind = usize::from(level.directions[direction].reverse);
                let between = |at: usize| {
                    let first = (lane * (work.steps_in + 1) + at) * self.batch * hidden;
                    Operand::new(c, hidden).from(first)
                };
                let [c_before, c_after] = [between(behind), between(1 - behind)];
                let blocks = [(gates::INPUT, c_before), (gates::FORGET, c_before), (gates::OUTPUT, c_after)];
                for (block, (gate, c)) in blocks.into_iter().enumerate() {
                    let x = sums.from(gate * hidden);
                    self.column_sums(stage, [rows, hidden], x, Some(c), &[(d, block * hidden)])?;
                }
            }
            if let (Some(d), Some(inner), Some(d_state)) = (of(self, Role::WeightHr), inner, arrays.d_state) {
                let a = Operand::new(d_state, state).from(lane * rows * state).turned();
                self.weights_product(stage, [state, hidden, rows], [a, inner, Operand::new(d, hidden)], false)?;
            }
        }
        Ok(())
    }
}

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

fn missing() -> Error {
    Error::Unsupported { place: "plan".into(), what: "a backward pass of a run".into() }
}

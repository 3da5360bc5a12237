//! The backward pass of a level of layer-normalized cells.
//!
//! As that of other levels, but a step normalizes over a row: one dispatch takes the gradient of h of every unit, a second
//! one, a row in a workgroup, the rest of the step.

use super::backward::Move;
use super::matmul::{Also, Operand, SumOrder};
use super::recurrent_backward::{Arrays, Lanes};
use super::recurrent_dropout::GateBlock;
use super::tape::reverse_bits;
use super::{Builder, DispatchRows};
use crate::base::error::Result;
use crate::network::{CellNorm, GateNorm, Normalization, Role};
use crate::plan::constants::{CANDIDATE, GATE, OUTPUT, function};
use crate::plan::decide_backward::BackwardTactic;
use crate::plan::program::normalization;
use crate::plan::tactic::narrow;
use crate::plan::weights::ALIGN;
use crate::plan::{
    BackwardCell, BufferId, Constants, Dispatch, Kernel, MAX_SUBMISSION_WORK, ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT,
    Slice, TrainKernel,
};

/// Arrays of a set of directions beside those that all cells have.
#[derive(Clone, Copy)]
struct NormalizedArrays {
    /// Normalized sums, one part behind the other.
    normal: Slice,
    /// `1 / sqrt(variance + eps)` of their rows.
    scales: Slice,
    /// Gradients of the normalized sums, of the sums, of the normalized c; then the normalized c.
    gradients: Slice,
    /// Numbers of a part of the sums, of its rows, and of c, filled up.
    part: usize,
    scales_part: usize,
    cells: usize,
}

impl NormalizedArrays {
    /// A part of `gradients`.
    fn at(&self, first: usize, numbers: usize) -> Slice {
        let Slice { buffer, offset, .. } = self.gradients;
        Slice { buffer, offset: offset + first as u64 * super::F32, bytes: numbers as u64 * super::F32 }
    }
}

/// W x and U h are normalized apart, or their sum.
fn parts(how: Normalization) -> usize {
    if how.gate_norm == GateNorm::Parts { 2 } else { 1 }
}

/// Where the backward pass of an interval starts from.
#[derive(Clone, Copy)]
pub(super) struct IntervalStart {
    /// The position of the interval, in the order of the lane.
    pub index: usize,
    /// c before every interval `[N, B, H]`, where there is more than one.
    pub kept_c: Option<BufferId>,
}

impl Builder {
    /// Runs an interval again and goes back through its steps. Gives the arrays that other cells have too, and what the first
    /// step hands on.
    pub(super) fn normalized_backward(
        &mut self,
        lanes: &Lanes<'_>,
        how: Normalization,
        start: IntervalStart,
        tactic: BackwardTactic,
    ) -> Result<(Arrays, Slice)> {
        let &Lanes { level, rows, .. } = lanes;
        let (hidden, width, count, parts) = (level.hidden_size, level.gate_rows(), lanes.count(), parts(how));
        let (arrays, before) = self.normalized_sums(lanes, how)?;
        let c = match level.cell().keeps_c() {
            true => {
                let initial = self.c_before_interval(lanes, start)?;
                Some(self.normalized_states(lanes, how, &arrays, initial)?)
            }
            false => None,
        };
        let first_of_sums = parts * arrays.part;
        let numbers = count * rows * width;
        let sums = arrays.at(first_of_sums, numbers);
        let of_state = (parts == 2).then(|| arrays.at(first_of_sums + arrays.part, numbers));
        let d_state = self.scratch("gradients of h [lanes, T', B, P]", count * rows, hidden, 1)?;
        let shared = Arrays { before, sums, of_state, c, inner: None, d_state: Some(d_state) };
        let carry =
            self.scratch("gradients of the state [lanes, B, H, 2 + G]", count, self.batch, 2 * hidden + width)?;
        self.begin_with_final(lanes, carry)?;
        let of_h = Arrays { sums: of_state.unwrap_or(sums), ..shared };
        let of_h = self.step_of_h(lanes, &of_h, (carry, tactic))?;
        let rest = self.normalized_step(lanes, how, &arrays, [c.unwrap_or(before), d_state, carry])?;
        self.repeat_backward(lanes, &[of_h, rest], tactic.stride())?;
        if lanes.interval.done > 0 {
            self.keep_behind(lanes, &shared, carry, 2 * hidden)?;
        }
        self.norms_backward(lanes, how, &arrays)?;
        Ok((shared, carry))
    }

    /// c before every interval `[N, B, H]`: all but the last are run one after the other.
    pub(super) fn c_before_intervals(&mut self, intervals: &[Lanes<'_>], how: Normalization) -> Result<BufferId> {
        let Lanes { work, level, tape, .. } = intervals[0];
        let hidden = level.hidden_size;
        let label = &work.stage.label;
        let [count, longest] = [intervals.len(), intervals.iter().map(|lanes| lanes.interval.count).max().unwrap_or(0)];
        self.plan
            .reasons
            .push(format!("{label}: run twice before the backward pass in {count} intervals of {longest} timesteps"));
        let kept =
            self.buffer(format!("{label} c before the intervals [N, B, H]"), intervals.len(), self.batch, hidden)?;
        let keep = |builder: &mut Self, from: Slice, at: usize, index: usize| {
            let batch = builder.batch;
            let rows = DispatchRows { count: batch, input: at * batch, output: index * batch };
            let to = builder.plan.whole(kept);
            builder.moved(work, rows, Move::whole(from, to, hidden, false))
        };
        let start = self.plan.whole(tape.c.unwrap_or(tape.h));
        keep(self, start, 0, 0)?;
        for (index, lanes) in intervals[..intervals.len() - 1].iter().enumerate() {
            let (arrays, _) = self.normalized_sums(lanes, how)?;
            let initial = self.c_before_interval(lanes, IntervalStart { index, kept_c: Some(kept) })?;
            let c = self.normalized_states(lanes, how, &arrays, initial)?;
            let end = if lanes.is_reverse(0) { 0 } else { lanes.interval.count };
            keep(self, c, end, index + 1)?;
        }
        Ok(kept)
    }

    /// `x W^T` of `rows` rows, gate by gate where the gates read `x` through masks.
    fn block_products(
        &mut self,
        stage: usize,
        blocks: &[GateBlock],
        (rows, hidden): (usize, usize),
        [x, w, c]: [Operand; 3],
        accumulate: bool,
    ) -> Result<()> {
        for (gates, mask) in blocks {
            let [first, count] = [gates.start, gates.len()].map(|gates| gates * hidden);
            let x_of_gates = self.through(stage, *mask, x, [rows, x.stride])?;
            let (w, c) = (w.from(first * w.stride).turned(), c.from(first));
            let also = Also { accumulate, bias: None };
            self.matmul(stage, [rows, count, x.stride], [x_of_gates, w, c], also)?;
        }
        Ok(())
    }

    /// c before an interval `[lanes, B, H]`.
    fn c_before_interval(&mut self, lanes: &Lanes<'_>, start: IntervalStart) -> Result<Slice> {
        match start.kept_c {
            Some(kept) => self.c_of_interval(lanes.work, kept, lanes.level.hidden_size, start.index),
            None => Ok(self.plan.whole(lanes.tape.c.unwrap_or(lanes.tape.h))),
        }
    }

    /// The normalized sums of an interval, and h before each of its timesteps.
    fn normalized_sums(&mut self, lanes: &Lanes<'_>, how: Normalization) -> Result<(NormalizedArrays, Slice)> {
        let &Lanes { work, level, rows, .. } = lanes;
        let (hidden, width, inputs) = (level.hidden_size, level.gate_rows(), work.stage.in_features);
        let (count, parts) = (lanes.count(), parts(how));
        let before = self.scratch("h before every step [lanes, T', B, H]", count * rows, hidden, 1)?;
        self.state_before(lanes, before)?;
        let part = (count * rows * width).next_multiple_of(ALIGN);
        let scales_part = (count * rows).next_multiple_of(ALIGN);
        let cells = (count * rows * hidden).next_multiple_of(ALIGN);
        let normal = self.scratch("normalized sums [parts, lanes, T', B, G, H]", parts, part, 1)?;
        let scales = self.scratch("scales of rows [parts, lanes, T', B]", parts, scales_part, 1)?;
        let of_c = if level.cell().keeps_c() { 2 * cells } else { 0 };
        let gradients = self.scratch("gradients of normalized sums, of sums, of c", 2 * parts * part + of_c, 1, 1)?;
        let arrays = NormalizedArrays { normal, scales, gradients, part, scales_part, cells };
        for lane in 0..count {
            let direction = lanes.tape.directions.start + lane;
            let [w, u] = [Role::WeightIh, Role::WeightHh].map(|role| self.param(work.stage, direction, role));
            let (Some(w), Some(u)) = (w, u) else { continue };
            let of_input = Operand::new(normal, width).from(lane * rows * width);
            let of_state = if parts == 2 { of_input.from(part) } else { of_input };
            let x = Operand::new(work.inputs[0], inputs).from(lanes.first_row() * inputs);
            let before = Operand::new(before, hidden).from(lane * rows * hidden);
            let blocks = self.input_blocks(work.index, level, direction);
            self.block_products(work.index, &blocks, (rows, hidden), [x, Operand::new(w, inputs), of_input], false)?;
            let blocks = self.state_blocks(work.index, level, direction);
            let h = [before, Operand::new(u, hidden), of_state];
            self.block_products(work.index, &blocks, (rows, hidden), h, parts == 1)?;
        }
        for at in 0..parts {
            let of_part = |slice: Slice, each: usize, numbers: usize| Slice {
                offset: slice.offset + (at * each) as u64 * super::F32,
                bytes: numbers as u64 * super::F32,
                ..slice
            };
            let bindings =
                vec![of_part(normal, part, count * rows * width), of_part(scales, scales_part, count * rows)];
            let constants = Constants::sizes([("FEATURES", width)])?.with("EPS", how.eps);
            let constants = constants.with("WORKGROUP", ROW_WORKGROUP);
            self.by_row(work, TrainKernel::NormalizeRows, constants, bindings, [count * rows, width])?;
        }
        Ok((arrays, before))
    }

    /// Constants of all kernels of a layer-normalized cell.
    fn normalized(&self, lanes: &Lanes<'_>, how: Normalization, arrays: &NormalizedArrays) -> Result<Constants> {
        let &Lanes { work, level, tape, .. } = lanes;
        let functions = lanes.functions();
        Ok(Constants::sizes([
            ("WIDTH", level.hidden_size),
            ("LANES", lanes.count()),
            ("PART", arrays.part),
            ("VECTOR", tape.vectors.each),
            ("VECTORS_LANE", tape.vectors.lane),
        ])?
        .with("REVERSE", reverse_bits(level, &tape.directions))
        .with("MASKED", work.mask.is_some())
        .and(normalization(how).iter())
        .and(function(GATE, functions[0]))
        .and(function(CANDIDATE, functions[1]))
        .with("WORKGROUP", ROW_WORKGROUP))
    }

    /// c between the timesteps of an interval that starts from `initial`.
    fn normalized_states(
        &mut self,
        lanes: &Lanes<'_>,
        how: Normalization,
        arrays: &NormalizedArrays,
        initial: Slice,
    ) -> Result<Slice> {
        let &Lanes { work, level, tape, interval, .. } = lanes;
        let (steps, hidden) = (interval.count, level.hidden_size);
        let between = lanes.count() * (steps + 1);
        let c = self.scratch("c between the steps [lanes, T' + 1, B, H]", between, self.batch, hidden)?;
        let mask = work.mask.map_or(initial, |mask| self.plan.whole(mask));
        let constants = self.normalized(lanes, how, arrays)?;
        let workgroups = [1, self.groups(self.batch, "rows of a batch")?, self.groups(lanes.count(), "directions")?];
        let turns = hidden.div_ceil(ROW_WORKGROUP as usize) as u64;
        let of_step = 3 * turns + 2 * u64::from(ROW_WORKGROUP) + 1;
        let work_of_step = (self.batch * lanes.count() * hidden) as u64 * 8;
        let fitting = (SOFTWARE_LOOP_LIMIT / of_step).min(MAX_SUBMISSION_WORK / work_of_step.max(1));
        let at_once = usize::try_from(fitting).unwrap_or(usize::MAX).max(1);
        for first in (0..steps).step_by(at_once) {
            let end = first.saturating_add(at_once).min(steps);
            let number = |number: usize| self.number(number, "timesteps");
            let sizes = vec![
                ("batch", number(self.batch)?),
                ("steps", number(steps)?),
                ("first", number(first)?),
                ("end", number(end)?),
                ("origin", number(interval.origin(work.steps_in, lanes.is_reverse(0)))?),
            ];
            self.add(Dispatch {
                stage: work.index,
                sizes,
                constants: constants.clone(),
                bindings: vec![arrays.normal, tape.vectors.slice, initial, mask, c],
                workgroups,
                iterations: (end - first) as u64 * of_step,
                work: (end - first) as u64 * work_of_step,
                ..Dispatch::empty(Kernel::Train(TrainKernel::NormalizedStates))
            })?;
        }
        Ok(c)
    }

    /// The second dispatch of a step.
    fn normalized_step(
        &mut self,
        lanes: &Lanes<'_>,
        how: Normalization,
        arrays: &NormalizedArrays,
        [kept, d_state, carry]: [Slice; 3],
    ) -> Result<Dispatch> {
        let &Lanes { work, level, tape, .. } = lanes;
        let keeps_c = level.cell().keeps_c();
        let mut constants = self
            .normalized(lanes, how, arrays)?
            .and(Constants::sizes([("SCALES", arrays.scales_part), ("CELLS", arrays.cells)])?.iter())
            .with("STARTED", tape.final_gradient.is_some());
        if keeps_c {
            constants = constants.and(function(OUTPUT, lanes.functions()[2]));
        }
        let kernel = if keeps_c { TrainKernel::LayerNormLstmBackward } else { TrainKernel::LayerNormGruBackward };
        let mask = work.mask.map_or(d_state, |mask| self.plan.whole(mask));
        let Slice { buffer, .. } = arrays.gradients;
        let gradients = self.plan.whole(buffer);
        let turns = level.hidden_size.div_ceil(ROW_WORKGROUP as usize) as u64;
        Ok(Dispatch {
            stage: work.index,
            constants,
            bindings: vec![arrays.normal, arrays.scales, tape.vectors.slice, kept, d_state, mask, carry, gradients],
            rows: narrow(self.batch as u64),
            steps: narrow(work.steps_in as u64),
            batch: narrow(self.batch as u64),
            workgroups: [1, self.groups(self.batch, "rows of a batch")?, self.groups(lanes.count(), "directions")?],
            iterations: turns * (4 + 4 * (1 + 4)) + 5 * u64::from(ROW_WORKGROUP) + 4,
            work: (self.batch * lanes.count() * level.gate_rows()) as u64 * 8,
            ..Dispatch::empty(Kernel::Train(kernel))
        })
    }

    /// The first dispatch of a step.
    fn step_of_h(
        &mut self,
        lanes: &Lanes<'_>,
        arrays: &Arrays,
        (carry, tactic): (Slice, BackwardTactic),
    ) -> Result<Dispatch> {
        let &Lanes { level, .. } = lanes;
        let sizes = [level.hidden_size, level.gate_rows(), 0];
        let part = (BackwardCell::State, sizes, Role::WeightHh).into();
        self.step_backward(lanes, arrays, carry, (&part, tactic))
    }

    /// The gradients of the weights and biases of the normalizations.
    fn norms_backward(&mut self, lanes: &Lanes<'_>, how: Normalization, arrays: &NormalizedArrays) -> Result<()> {
        let &Lanes { work, level, rows, accumulate, .. } = lanes;
        let (hidden, width, parts) = (level.hidden_size, level.gate_rows(), parts(how));
        let total = work.steps_in * self.batch;
        let mut of_norm = |lane: usize, roles: [Role; 2], columns: usize, d: (Slice, usize), x: (Slice, usize)| {
            let direction = lanes.tape.directions.start + lane;
            let [d, x] = [d, x].map(|(slice, first)| Operand::new(slice, columns).from(first + lane * rows * columns));
            let order = SumOrder { total, accumulate, descending: !lanes.is_reverse(lane) };
            for (role, x) in [(roles[0], Some(x)), (roles[1], None)] {
                if let Some(to) = self.param_gradient(work.stage, direction, role) {
                    self.column_sums_part(work.index, [rows, columns], (d, x), &[(to, 0)], order)?;
                }
            }
            Ok(())
        };
        let (normal, gradients) = (arrays.normal, arrays.gradients);
        for lane in 0..lanes.count() {
            match how.gate_norm {
                GateNorm::Sum => {
                    let roles = [Role::NormWeight, Role::NormBias];
                    of_norm(lane, roles, width, (gradients, 0), (normal, 0))?;
                }
                GateNorm::Parts => {
                    let of_input = [Role::NormIhWeight, Role::NormIhBias];
                    let of_state = [Role::NormHhWeight, Role::NormHhBias];
                    for (roles, first) in [(of_input, 0), (of_state, arrays.part)] {
                        of_norm(lane, roles, width, (gradients, first), (normal, first))?;
                    }
                }
            }
            if level.cell().keeps_c() && how.cell_norm != CellNorm::None {
                let first = 2 * parts * arrays.part;
                let roles = [Role::NormCWeight, Role::NormCBias];
                of_norm(lane, roles, hidden, (gradients, first), (gradients, first + arrays.cells))?;
            }
        }
        Ok(())
    }
}

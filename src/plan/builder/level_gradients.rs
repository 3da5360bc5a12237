//! The gradients of a recurrent level's weights and input, from those of its pre-activations.

use super::Builder;
use super::matmul::{Also, Operand, SumOrder};
use super::recurrent_backward::{Arrays, Lanes};
use super::scan_backward::of_units;
use crate::base::error::Result;
use crate::network::{Network, Recurrence, Role, gates};
use crate::plan::Slice;

impl Builder {
    /// The gradient of what the lanes read.
    pub(super) fn input_backward(
        &mut self,
        network: &Network,
        lanes: &Lanes<'_>,
        arrays: &Arrays,
        (stage_steps, whole): (&[usize], bool),
    ) -> Result<()> {
        let &Lanes { work, level, rows, .. } = lanes;
        let source = work.stage.inputs[0];
        let target = match whole {
            true => self.gradient(network, source, stage_steps)?,
            // Intervals of two directions come in different orders.
            false => self.part_of_gradient(network, source, stage_steps)?.map(|to| (to, true)),
        };
        let Some((to, add)) = target else { return Ok(()) };
        let (inputs, width) = (work.stage.in_features, level.gate_rows());
        let to = Operand::new(to, inputs).from(lanes.first_row() * inputs);
        for lane in 0..lanes.count() {
            let direction = lanes.tape.directions.start + lane;
            let Some(w) = self.param(work.stage, direction, Role::WeightIh) else { continue };
            for (block, mask) in self.input_blocks(work.index, level, direction) {
                let [first, depth] = [block.start, block.len()].map(|gates| gates * level.hidden_size);
                let a = Operand::new(arrays.sums, width).from(lane * rows * width + first);
                let w = Operand::new(w, inputs).from(first * inputs);
                let accumulate = add || lane > 0 || first > 0;
                let Some(mask) = mask else {
                    let also = Also { accumulate, bias: None };
                    self.matmul(work.index, [rows, inputs, depth], [a, w, to], also)?;
                    continue;
                };
                let masked = self.scratch("gradients behind a mask [T', B, N]", rows, inputs, 1)?;
                let masked = Operand::new(masked, inputs);
                self.matmul(work.index, [rows, inputs, depth], [a, w, masked], Also::default())?;
                self.row_dropout(work.index, mask, [masked, to], ([rows, inputs], accumulate))?;
            }
        }
        Ok(())
    }

    /// The gradients of the weights of all directions.
    pub(super) fn weights_backward(&mut self, lanes: &Lanes<'_>, arrays: &Arrays) -> Result<()> {
        let &Lanes { work, level, rows, accumulate, .. } = lanes;
        let (hidden, state, width, inputs) =
            (level.hidden_size, level.state_size(), level.gate_rows(), work.stage.in_features);
        let stage = work.index;
        for lane in 0..lanes.count() {
            let direction = lanes.tape.directions.start + lane;
            // As the intervals of the lane come.
            let total = work.steps_in * self.batch;
            let order = SumOrder { total, accumulate, descending: !lanes.is_reverse(lane) };
            let of = |builder: &Self, role| builder.param_gradient(work.stage, direction, role);
            let sums = Operand::new(arrays.sums, width).from(lane * rows * width);
            let of_state = arrays.of_state.map_or(sums, |slice| Operand::new(slice, width).from(lane * rows * width));
            let before = Operand::new(arrays.before, state).from(lane * rows * state);
            let inner = arrays.inner.map(|slice| Operand::new(slice, hidden).from(lane * rows * hidden));
            if let Some(d) = of(self, Role::WeightIh) {
                let x = Operand::new(work.inputs[0], inputs).from(lanes.first_row() * inputs);
                for (block, mask) in self.input_blocks(stage, level, direction) {
                    let [first, count] = [block.start, block.len()].map(|gates| gates * hidden);
                    let x = self.through(stage, mask, x, [rows, inputs])?;
                    let [a, c] = [sums.from(first).turned(), Operand::new(d, inputs).from(first * inputs)];
                    self.weights_part(stage, [count, inputs, rows], [a, x, c], order)?;
                }
            }
            if let Some(cell) = level.recurrence.scan() {
                if let Some((d, role)) = of_units(cell).and_then(|role| Some((of(self, role)?, role))) {
                    // Of an SRU the gates f and r.
                    let blocks = if role == Role::WeightP { 1..3 } else { 0..1 };
                    for (at, block) in blocks.enumerate() {
                        let x = sums.from(block * hidden);
                        self.column_sums_part(stage, [rows, hidden], (x, Some(before)), &[(d, at * hidden)], order)?;
                    }
                }
            } else if let Some(d) = of(self, Role::WeightHh) {
                for (block, mask) in self.state_blocks(stage, level, direction) {
                    let [first, count] = [block.start, block.len()].map(|gates| gates * hidden);
                    let h = match (level.recurrence, inner) {
                        (Recurrence::Gru { reset_after: false }, Some(inner)) if block.start == gates::NEW => inner,
                        _ => before,
                    };
                    let h = self.through(stage, mask, h, [rows, state])?;
                    let [a, c] = [of_state.from(first).turned(), Operand::new(d, state).from(first * state)];
                    self.weights_part(stage, [count, state, rows], [a, h, c], order)?;
                }
            }
            let biases = [of(self, Role::BiasIh), of(self, Role::BiasHh)];
            match (biases, arrays.of_state) {
                ([of_input, of_hidden], Some(_)) => {
                    for (d, sums) in [(of_input, sums), (of_hidden, of_state)] {
                        let outputs: Vec<(Slice, usize)> = d.map(|d| (d, 0)).into_iter().collect();
                        self.column_sums_part(stage, [rows, width], (sums, None), &outputs, order)?;
                    }
                }
                (biases, None) => {
                    let outputs: Vec<(Slice, usize)> = biases.into_iter().flatten().map(|d| (d, 0)).collect();
                    self.column_sums_part(stage, [rows, width], (sums, None), &outputs, order)?;
                }
            }
            if let (Some(d), Some(c)) = (of(self, Role::WeightP), arrays.c) {
                // A reverse lane comes from behind the timestep.
                let behind = usize::from(level.directions[direction].reverse);
                let between = |at: usize| {
                    let first = (lane * (lanes.interval.count + 1) + at) * self.batch * hidden;
                    Operand::new(c, hidden).from(first)
                };
                // What lies behind all of c lies as c before the step does.
                let all = lanes.count() * (lanes.interval.count + 1) * self.batch * hidden;
                let c_before = between(behind);
                let c_after = if lanes.keeps_new_c() { c_before.from(all) } else { between(1 - behind) };
                let blocks = [(gates::INPUT, c_before), (gates::FORGET, c_before), (gates::OUTPUT, c_after)];
                for (block, (gate, c)) in blocks.into_iter().enumerate() {
                    let x = sums.from(gate * hidden);
                    self.column_sums_part(stage, [rows, hidden], (x, Some(c)), &[(d, block * hidden)], order)?;
                }
            }
            if let (Some(d), Some(inner), Some(d_state)) = (of(self, Role::WeightHr), inner, arrays.d_state) {
                let a = Operand::new(d_state, state).from(lane * rows * state).turned();
                self.weights_part(stage, [state, hidden, rows], [a, inner, Operand::new(d, hidden)], order)?;
            }
        }
        Ok(())
    }
}

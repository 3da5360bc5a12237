//! Stored initial states of recurrent layers while they are trained.

use super::backward::Move;
use super::final_state::carried_parts;
use super::matmul::{Also, Operand};
use super::recurrent_backward::Lanes;
use super::{Builder, DispatchRows, flat_grid};
use crate::base::error::Result;
use crate::network::{HiddenOrCell, Network, Recurrence, Role, gates};
use crate::plan::train::StartState;
use crate::plan::{Constants, Dispatch, Kernel, ROW_WORKGROUP, Slice, TrainKernel};

impl Builder {
    /// Puts the stored state, if the layer has one, where the first step and the backward pass read it; `at` is the position
    /// of the dispatch before which that must be.
    pub(super) fn stored_start(
        &mut self,
        network: &Network,
        (stage, at): (usize, usize),
        starts: &[StartState],
    ) -> Result<()> {
        let behind = self.plan.dispatches.len();
        for start in starts {
            let Some((_, layer)) = network.recurrent_layers().nth(start.layer).filter(|(_, layer)| layer.initial_state)
            else {
                continue;
            };
            let is_c = start.part == HiddenOrCell::C.place();
            let name = format!("{}.initial_{}", layer.name, if is_c { "c" } else { "h" });
            let Some(training) = self.training.as_ref().filter(|_| !self.continues) else { return Ok(()) };
            let Some(stored) = training.layout.flat.get(&name) else { continue };
            let parameters = self.plan.whole(training.layout.buffers.parameters);
            let width = if is_c { layer.hidden_size } else { layer.state_size() };
            for to in [start.from, start.to] {
                self.start_of_rows(stage, (parameters, stored.start + start.row * width), to, width)?;
            }
        }
        if let Some(starts) = &mut self.loop_starts {
            starts.extend(self.plan.dispatches.drain(behind..));
            return Ok(());
        }
        let added = self.plan.dispatches.len() - behind;
        self.plan.dispatches[at..].rotate_right(added);
        Ok(())
    }

    /// Copies `width` numbers to every row of a part of a state.
    pub(super) fn start_of_rows(
        &mut self,
        stage: usize,
        (source, first): (Slice, usize),
        to: Slice,
        width: usize,
    ) -> Result<()> {
        let count = to.bytes / super::F32;
        let number = |number: usize| self.number(number, "numbers of a state");
        let sizes = vec![
            ("first", number(first)?),
            ("output_first", number(usize::try_from(to.offset / super::F32).unwrap_or(usize::MAX))?),
            ("width", number(width)?),
            ("count", number(usize::try_from(count).unwrap_or(usize::MAX))?),
        ];
        self.add(Dispatch {
            stage,
            sizes,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![source, self.plan.whole(to.buffer)],
            workgroups: flat_grid(&self.limits, count, "a start")?,
            work: count,
            ..Dispatch::empty(Kernel::Train(TrainKernel::InitialState))
        })
    }

    /// The gradient of the state that some directions of a level start from, stored or given by layers. `carry` is what the
    /// first step hands on, `sums` `[lanes, T', B, G*H]` the gradients of the products with U.
    pub(super) fn initial_state_backward(
        &mut self,
        (network, stage_steps): (&Network, &[usize]),
        lanes: &Lanes<'_>,
        sums: Slice,
        carry: Slice,
    ) -> Result<()> {
        let &Lanes { work, level, rows, .. } = lanes;
        let Some((_, layer)) = network.recurrent_layers().nth(level.layer) else { return Ok(()) };
        let in_loop = self.loop_ends.is_some();
        if !layer.initial_state && level.starts == [None, None] && !in_loop {
            return Ok(());
        }
        let (state, hidden, width) = (level.state_size(), level.hidden_size, level.gate_rows());
        // The candidate's part of a GRU that resets its state before is in `carry` already.
        let depth = match level.recurrence {
            Recurrence::Gru { reset_after: false } => gates::NEW * hidden,
            _ => width,
        };
        let [of_h, of_c] = ["h", "c"].map(|part| {
            let training = self.training.as_ref()?;
            let range = training.layout.flat.get(&format!("{}.initial_{part}", layer.name))?;
            let bytes = range.len() as u64 * super::F32;
            Some(Slice { buffer: training.layout.buffers.gradients, offset: range.start as u64 * super::F32, bytes })
        });
        // Nothing starts there where the caller gives a state.
        let [of_h, of_c] = [of_h, of_c].map(|d| {
            if let (true, Some(training), Some(d)) = (self.continues, &mut self.training, d) {
                training.parts.clears.push(d);
            }
            d.filter(|_| !self.continues)
        });
        let (count, room) = (lanes.count(), hidden.max(state));
        for lane in 0..count {
            let direction = lanes.tape.directions.start + lane;
            // The state that a scan hands on is whole.
            let u = self.param(work.stage, direction, Role::WeightHh).filter(|_| !level.cell().scans());
            let a = Operand::new(sums, width).from((lane * rows + lanes.first_step(lane) * self.batch) * width);
            let h = Operand::new(carry, room).from(lane * self.batch * room);
            for (block, mask) in self.state_blocks(work.index, level, direction) {
                let [first, count] = [block.start, block.len()].map(|gates| gates * hidden);
                let Some(u) = u.filter(|_| first < depth) else { continue };
                let (a, u) = (a.from(first), Operand::new(u, state).from(first * state));
                let Some(mask) = mask else {
                    let also = Also { accumulate: true, bias: None };
                    self.matmul(work.index, [self.batch, state, count], [a, u, h], also)?;
                    continue;
                };
                let masked = self.scratch("gradients behind a mask [T', B, N]", self.batch, state, 1)?;
                let masked = Operand::new(masked, state);
                self.matmul(work.index, [self.batch, state, count], [a, u, masked], Also::default())?;
                self.row_dropout(work.index, mask, [masked, h], ([self.batch, state], true))?;
            }
        }
        let mut whole = carry;
        if let (true, Some(next)) = (in_loop, lanes.tape.final_gradient) {
            // The step before begins with it; the gradients of what the level starts from come behind the first step.
            let rows = DispatchRows::all(carried_parts(level) * count * self.batch);
            self.moved(work, rows, Move::whole(carry, next, room, false))?;
            whole = next;
        }
        let ends = self.plan.dispatches.len();
        for lane in 0..count {
            let row = level.level * level.directions.len() + lanes.tape.directions.start + lane;
            let h = Operand::new(whole, room).from(lane * self.batch * room);
            self.starts_backward(network, (lanes, lane), whole, stage_steps)?;
            if let Some(of_h) = of_h {
                self.column_sums(work.index, [self.batch, state], h, None, &[(of_h, row * state)])?;
            }
            if let Some(of_c) = of_c {
                let c = Operand::new(whole, room).from((count + lane) * self.batch * room);
                self.column_sums(work.index, [self.batch, hidden], c, None, &[(of_c, row * hidden)])?;
            }
        }
        if let Some(later) = &mut self.loop_ends {
            later.extend(self.plan.dispatches.drain(ends..));
        }
        Ok(())
    }
}

//! A cell with a memory: one dispatch runs many timesteps of all rows, a workgroup for each.

use super::{Builder, F32, StageWork, grid};
use crate::base::error::{Error, Result};
use crate::network::{Activation, Cell, HeadOrder, NtmStage};
use crate::plan::{
    Constants, Dispatch, Kernel, MAX_SUBMISSION_WORK, MemoryPlace, ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT, Slice, ntm_sums,
};

/// Invocations of a workgroup on hardware, if the adapter has as many.
const INVOCATIONS: u32 = 256;

/// Sizes of the kernel.
struct KernelSizes {
    z: usize,
    sums: usize,
    /// Numbers of workgroup memory beside those that may stay in storage, and those.
    fixed: usize,
    movable: usize,
    workgroup: u32,
}

impl KernelSizes {
    fn new(ntm: &NtmStage, inputs: usize, sums: usize, workgroup: u32) -> Self {
        let z = inputs + ntm.read_size();
        Self {
            z,
            sums,
            fixed: z + 2 * ntm.hidden_size() + sums + ntm.control_size() + workgroup as usize,
            movable: ntm.rows * (ntm.columns + ntm.heads() + 1),
            workgroup,
        }
    }

    /// Loop iterations of an invocation in a timestep, roughly.
    fn iterations(&self, ntm: &NtmStage) -> u64 {
        let turns = |numbers: usize| numbers.div_ceil(self.workgroup as usize);
        let (rows, columns) = (turns(ntm.rows), ntm.columns);
        let controller =
            turns(self.sums) * (self.z + ntm.hidden_size() + 1) + turns(ntm.control_size()) * ntm.hidden_size();
        let groups = (self.workgroup as usize / columns.min(self.workgroup as usize)).max(1);
        let of_head = rows * (columns + 2 * ntm.shift_count() + 5) + columns + 2 * ntm.shift_count() + 36;
        let of_read = turns(columns) * (ntm.rows.div_ceil(groups) + groups);
        let of_write = turns(ntm.rows * columns);
        (controller + ntm.heads() * of_head + ntm.read_heads * of_read + ntm.write_heads * of_write + 8) as u64
    }
}

impl Builder {
    pub(super) fn ntm(&mut self, work: &StageWork<'_>, ntm: &NtmStage) -> Result<()> {
        if self.training.is_some() {
            return Err(work.stage.without_gpu_training());
        }
        let label = &work.stage.label;
        let cell = ntm.controller.cell();
        let Some(sums) = ntm_sums(ntm) else {
            return Err(Error::Unsupported {
                place: format!("layer `{label}`"),
                what: format!(
                    "{} as the controller of a memory on a GPU (supported there: lstm, gru, rnn)",
                    cell.name()
                ),
            });
        };
        let workgroup = if self.limits.software { ROW_WORKGROUP } else { INVOCATIONS.min(self.limits.max_invocations) };
        // Sums are added in pairs.
        let workgroup = 1 << workgroup.max(1).ilog2();
        let sizes = KernelSizes::new(ntm, work.stage.in_features, sums, workgroup);
        let bytes = |numbers: usize| numbers as u64 * F32;
        let limit = u64::from(self.limits.max_workgroup_memory);
        let (kept, least) = (bytes(sizes.fixed + sizes.movable), bytes(sizes.fixed + 3));
        if least > limit {
            return Err(Error::TooLarge {
                what: format!("{label}: the controller's sums and what it gives the heads"),
                needed: least,
                limit,
                limit_name: "the adapter's workgroup memory, bytes".into(),
            });
        }
        let stored = kept > limit;
        let (rows, columns) = (ntm.rows, ntm.columns);
        self.plan.reasons.push(match stored {
            false => format!("{label}: the memory of {rows} x {columns} in workgroup memory, {kept} of {limit} bytes"),
            true => format!(
                "{label}: the memory of {rows} x {columns} in storage, since it takes {kept} bytes of workgroup memory and \
                 the adapter has {limit}"
            ),
        });
        let (state, places) = self.memory_state(work, ntm)?;
        let weights = self.weight();
        let mask = work.mask.map_or(work.inputs[0], |mask| self.plan.whole(mask));
        let kept_or_one = |numbers: usize| if stored { 1 } else { numbers };
        let constants = Constants::sizes([
            ("INPUTS", work.stage.in_features),
            ("HIDDEN", ntm.hidden_size()),
            ("Z", sizes.z),
            ("SUMS", sums),
            ("CONTROLS", ntm.control_size()),
            ("MEMORY_ROWS", rows),
            ("MEMORY_COLUMNS", columns),
            ("READS", ntm.read_heads),
            ("WRITES", ntm.write_heads),
            ("SHIFTS", ntm.shifts),
            ("KEPT_MEMORY", kept_or_one(rows * columns)),
            ("KEPT_WEIGHTS", kept_or_one(ntm.heads() * rows)),
            ("KEPT_ROWS", kept_or_one(rows)),
        ])?
        .with("CELL", cell_number(cell))
        .with("ORDER", order_number(ntm.order))
        .with("TANH_KEY", ntm.key_activation == Activation::Tanh)
        .with("TANH_ADD", ntm.add_activation == Activation::Tanh)
        .with("CLIP_CONTROLS", ntm.clip.unwrap_or(0.0))
        .with("STORED", stored)
        .with("MASKED", work.mask.is_some())
        .with("LAST", !work.stage.sequence_out)
        .with("WORKGROUP", workgroup);
        let iterations = sizes.iterations(ntm);
        let of_step = (ntm.work(work.stage.in_features) as u64).saturating_mul(self.batch as u64);
        let at_once = |limit: u64, of_one: u64| usize::try_from(limit / of_one.max(1)).unwrap_or(usize::MAX).max(1);
        let chunk = at_once(MAX_SUBMISSION_WORK, of_step).min(at_once(SOFTWARE_LOOP_LIMIT - 64, iterations));
        let [_, x, y] = grid(&self.limits, 1, self.batch as u64, label)?;
        for first in (0..work.steps_in).step_by(chunk) {
            let end = first.saturating_add(chunk).min(work.steps_in);
            let number = |number: usize| self.number(number, "numbers of a memory");
            let mut fields = vec![
                ("rows", number(self.batch)?),
                ("first", number(first)?),
                ("end", number(end)?),
                ("steps", number(work.steps_in)?),
            ];
            for (name, place) in ["c", "read", "weights", "memory", "scratch"].into_iter().zip(places) {
                fields.push((name, number(place)?));
            }
            self.add(Dispatch {
                stage: work.index,
                sizes: fields,
                constants: constants.clone(),
                bindings: vec![work.inputs[0], weights, mask, state, work.output],
                workgroups: [x, y, 1],
                iterations: iterations * (end - first) as u64,
                work: of_step.saturating_mul((end - first) as u64),
                ..Dispatch::empty(Kernel::Ntm)
            })?;
        }
        Ok(())
    }

    /// The state of all rows in one buffer, and where in it c, what was read, weights, memory and the kernel's own numbers lie.
    fn memory_state(&mut self, work: &StageWork<'_>, ntm: &NtmStage) -> Result<(Slice, [usize; 5])> {
        let hidden = ntm.hidden_size();
        let c = if ntm.controller.cell().keeps_c() { hidden } else { 0 };
        let widths = [hidden, c, ntm.read_size(), ntm.heads() * ntm.rows, ntm.rows * ntm.columns, ntm.rows];
        let mut places = [0; 6];
        let mut len = 0usize;
        for (place, width) in places.iter_mut().zip(widths) {
            // Slots find a part by its first row.
            *place = if width == 0 { len } else { len.next_multiple_of(width) };
            len = place.saturating_add(self.batch.saturating_mul(width));
        }
        let state = self.buffer(format!("{} state [B, ..]", work.stage.label), len, 1, 1)?;
        let parts = widths.iter().zip(places).take(5).filter(|(width, _)| **width > 0);
        for (part, (&width, place)) in parts.enumerate() {
            let (offset, bytes) = (place as u64 * F32, (self.batch * width) as u64 * F32);
            let place = Slice { buffer: state, offset, bytes };
            self.plan.memories.push(MemoryPlace { layer: ntm.layer, part, place });
        }
        let [_, others @ ..] = places;
        Ok((self.plan.whole(state), others))
    }
}

/// As `shaders/ntm.wgsl` numbers them.
fn cell_number(cell: Cell) -> u32 {
    match cell {
        Cell::Gru => 1,
        Cell::Rnn => 2,
        _ => 0,
    }
}

fn order_number(order: HeadOrder) -> u32 {
    match order {
        HeadOrder::ReadFirst => 0,
        HeadOrder::Sequential => 1,
        HeadOrder::WriteFirst => 2,
    }
}

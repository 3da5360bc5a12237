//! A cell with a memory: one dispatch runs many timesteps of all rows, a workgroup for each, forward or back.

use std::ops::Range;

use super::{Builder, F32, StageWork, grid};
use crate::base::error::{Error, Result};
use crate::network::{Activation, Cell, HeadOrder, Network, NtmStage};
use crate::plan::{
    Constants, Dispatch, Kernel, MAX_SUBMISSION_WORK, MemoryPlace, ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT, Slice, ntm_sums,
};

/// Invocations of a workgroup on hardware, if the adapter has as many.
const INVOCATIONS: u32 = 256;

/// Sizes of the kernels of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryKernelSizes {
    pub z: usize,
    pub sums: usize,
    pub workgroup: u32,
}

impl MemoryKernelSizes {
    /// Times that an invocation takes where all take one of so many numbers.
    fn turns(self, numbers: usize) -> usize {
        numbers.div_ceil(self.workgroup as usize)
    }

    /// Loop iterations of an invocation where the rows of a column are added up.
    fn of_columns(self, ntm: &NtmStage) -> usize {
        let groups = (self.workgroup as usize / ntm.columns.min(self.workgroup as usize)).max(1);
        self.turns(ntm.columns) * (ntm.rows.div_ceil(groups) + groups)
    }

    /// Loop iterations of an invocation in a timestep, roughly.
    fn iterations(self, ntm: &NtmStage) -> usize {
        let (rows, columns) = (self.turns(ntm.rows), ntm.columns);
        let controller = self.turns(self.sums) * (self.z + ntm.hidden_size() + 1)
            + self.turns(ntm.control_size()) * ntm.hidden_size();
        let of_head = rows * (columns + 2 * ntm.shift_count() + 5) + columns + 2 * ntm.shift_count() + 36;
        let of_write = self.turns(ntm.rows * columns);
        controller + ntm.heads() * of_head + ntm.read_heads * self.of_columns(ntm) + ntm.write_heads * of_write + 8
    }

    /// The same where a timestep is kept for a backward pass.
    pub fn kept_iterations(self, ntm: &NtmStage) -> usize {
        let state = ntm.hidden_size() + ntm.heads() * ntm.rows + ntm.rows * ntm.columns;
        self.iterations(ntm) + 2 * (self.turns(state) + self.turns(self.z + self.sums) + 5)
    }

    /// The same of a timestep of the backward pass.
    pub fn backward_iterations(self, ntm: &NtmStage) -> usize {
        let (rows, columns, shifts) = (self.turns(ntm.rows), ntm.columns, ntm.shift_count());
        let (hidden, controls) = (ntm.hidden_size(), ntm.control_size());
        let gates = ntm.controller.gate_rows();
        let controller = self.turns(hidden) * (controls + gates + 3)
            + self.turns(ntm.read_size()) * (gates + 2)
            + 2 * self.turns(controls)
            + self.turns(self.sums);
        let reductions = (9 + shifts) * (self.workgroup.ilog2() as usize + 1);
        let of_head = rows * (4 * columns + 3 * shifts + 10) + columns + 5 * shifts + reductions + self.of_columns(ntm);
        let of_write = 2 * self.of_columns(ntm) + rows * (columns + 1) + self.turns(ntm.rows * columns);
        controller
            + ntm.heads() * of_head
            + ntm.read_heads * rows * (columns + 1)
            + ntm.write_heads * of_write
            + (ntm.write_heads + 1) * (ntm.heads() + 1)
    }
}

/// How the timesteps of a layer are run.
#[derive(Clone, Debug)]
pub(super) struct NtmLaunch {
    pub kernel: Kernel,
    pub constants: Constants,
    pub bindings: Vec<Slice>,
    /// Where c, what was read, weights, memory and the kernel's own numbers lie in the state.
    pub places: [usize; 5],
    /// Loop iterations and work of a timestep.
    pub iterations: usize,
    pub work: u64,
    /// Whether the last timestep comes first.
    pub descending: bool,
}

impl Builder {
    pub(super) fn ntm(&mut self, network: &Network, work: &StageWork<'_>, ntm: &NtmStage) -> Result<()> {
        let label = &work.stage.label;
        let sizes = self.ntm_sizes(work, ntm)?;
        let fixed = sizes.z + 2 * ntm.hidden_size() + sizes.sums + ntm.control_size() + sizes.workgroup as usize;
        let movable = ntm.rows * (ntm.columns + ntm.heads() + 1);
        let stored = self.is_stored(label, "the memory", ntm, [fixed, movable])?;
        let (state, places) = self.memory_state((&format!("{label} state [B, ..]"), ntm), ntm.rows)?;
        for (part, place) in self.state_parts(ntm, places).into_iter().enumerate() {
            let place = Slice { buffer: state.buffer, ..place };
            self.plan.memories.push(MemoryPlace { layer: ntm.layer, part, place });
        }
        let weights = self.weight();
        let mask = work.mask.map_or(work.inputs[0], |mask| self.plan.whole(mask));
        let rows = if stored { 1 } else { ntm.rows };
        let launch = NtmLaunch {
            kernel: Kernel::Ntm,
            constants: ntm_constants(work, (ntm, sizes), stored)?.and(Constants::sizes([("KEPT_ROWS", rows)])?.iter()),
            bindings: vec![work.inputs[0], weights, mask, state, work.output],
            places,
            iterations: sizes.iterations(ntm),
            work: (ntm.work(work.stage.in_features) as u64).saturating_mul(self.batch as u64),
            descending: false,
        };
        if self.training.is_some() {
            return self.kept_ntm(network, (work, ntm), (sizes, launch));
        }
        self.ntm_steps(work, &launch, 0..work.steps_in, 0..0)
    }

    /// Sizes of the kernels of a layer, if there are any for its controller.
    pub(super) fn ntm_sizes(&self, work: &StageWork<'_>, ntm: &NtmStage) -> Result<MemoryKernelSizes> {
        let Some(sums) = ntm_sums(ntm) else {
            let what = format!(
                "{} as the controller of a memory on a GPU (supported there: lstm, gru, rnn)",
                ntm.controller.cell().name()
            );
            return Err(Error::Unsupported { place: format!("layer `{}`", work.stage.label), what });
        };
        let workgroup = if self.limits.software { ROW_WORKGROUP } else { INVOCATIONS.min(self.limits.max_invocations) };
        // Sums are added in pairs.
        let workgroup = 1 << workgroup.max(1).ilog2();
        Ok(MemoryKernelSizes { z: work.stage.in_features + ntm.read_size(), sums, workgroup })
    }

    /// Whether arrays of `movable` numbers stay in storage, because workgroup memory does not hold them beside `fixed` others.
    pub(super) fn is_stored(
        &mut self,
        label: &str,
        what: &str,
        ntm: &NtmStage,
        [fixed, movable]: [usize; 2],
    ) -> Result<bool> {
        let bytes = |numbers: usize| numbers as u64 * F32;
        let limit = u64::from(self.limits.max_workgroup_memory);
        let (kept, least) = (bytes(fixed + movable), bytes(fixed + 3));
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
            false => format!("{label}: {what} of {rows} x {columns} in workgroup memory, {kept} of {limit} bytes"),
            true => format!(
                "{label}: {what} of {rows} x {columns} in storage, since it takes {kept} bytes of workgroup memory and the \
                 adapter has {limit}"
            ),
        });
        Ok(stored)
    }

    /// Timesteps of a layer, as many in a dispatch as may be; `tape` are those that the tape has, if there is one.
    pub(super) fn ntm_steps(
        &mut self,
        work: &StageWork<'_>,
        launch: &NtmLaunch,
        steps: Range<usize>,
        tape: Range<usize>,
    ) -> Result<()> {
        let at_once = |limit: u64, of_one: u64| usize::try_from(limit / of_one.max(1)).unwrap_or(usize::MAX).max(1);
        let iterations = launch.iterations as u64;
        let chunk = at_once(MAX_SUBMISSION_WORK, launch.work).min(at_once(SOFTWARE_LOOP_LIMIT / 2, iterations));
        let [_, x, y] = grid(&self.limits, 1, self.batch as u64, &work.stage.label)?;
        let mut firsts: Vec<usize> = steps.clone().step_by(chunk).collect();
        if launch.descending {
            firsts.reverse();
        }
        for first in firsts {
            let end = first.saturating_add(chunk).min(steps.end);
            let number = |number: usize| self.number(number, "numbers of a memory");
            let mut fields = vec![
                ("rows", number(self.batch)?),
                ("first", number(first)?),
                ("end", number(end)?),
                ("steps", number(work.steps_in)?),
            ];
            for (name, place) in ["c", "read", "weights", "memory", "scratch"].into_iter().zip(launch.places) {
                fields.push((name, number(place)?));
            }
            fields.extend([("tape_first", number(tape.start)?), ("tape_steps", number(tape.len())?)]);
            self.add(Dispatch {
                stage: work.index,
                sizes: fields,
                constants: launch.constants.clone(),
                bindings: launch.bindings.clone(),
                workgroups: [x, y, 1],
                iterations: iterations * (end - first) as u64,
                work: launch.work.saturating_mul((end - first) as u64),
                ..Dispatch::empty(launch.kernel)
            })?;
        }
        Ok(())
    }

    /// A buffer for the state of all rows, and where in it c, what was read, weights, memory and `scratch` numbers of each row
    /// lie.
    pub(super) fn memory_state(
        &mut self,
        (label, ntm): (&str, &NtmStage),
        scratch: usize,
    ) -> Result<(Slice, [usize; 5])> {
        let mut places = [0; 6];
        let mut len = 0usize;
        for (place, width) in places.iter_mut().zip(state_widths(ntm).into_iter().chain([scratch])) {
            // Slots find a part by its first row.
            *place = if width == 0 { len } else { len.next_multiple_of(width) };
            len = place.saturating_add(self.batch.saturating_mul(width));
        }
        let state = self.buffer(label, len, 1, 1)?;
        let [_, others @ ..] = places;
        Ok((self.plan.whole(state), others))
    }

    /// Where the parts of a state that the layer has lie in its buffer.
    pub(super) fn state_parts(&self, ntm: &NtmStage, [c, read, weights, memory, _]: [usize; 5]) -> Vec<Slice> {
        let parts = state_widths(ntm).into_iter().zip([0, c, read, weights, memory]).filter(|(width, _)| *width > 0);
        let slice = |(width, place): (usize, usize)| Slice {
            buffer: 0,
            offset: place as u64 * F32,
            bytes: (self.batch * width) as u64 * F32,
        };
        parts.map(slice).collect()
    }
}

/// Numbers of a row of h, c, what was read, weights and memory.
fn state_widths(ntm: &NtmStage) -> [usize; 5] {
    let hidden = ntm.hidden_size();
    let c = if ntm.controller.cell().keeps_c() { hidden } else { 0 };
    [hidden, c, ntm.read_size(), ntm.heads() * ntm.rows, ntm.rows * ntm.columns]
}

/// The constants that all kernels of a layer have.
pub(super) fn ntm_constants(
    work: &StageWork<'_>,
    (ntm, sizes): (&NtmStage, MemoryKernelSizes),
    stored: bool,
) -> Result<Constants> {
    let kept_or_one = |numbers: usize| if stored { 1 } else { numbers };
    let (rows, columns) = (ntm.rows, ntm.columns);
    Ok(Constants::sizes([
        ("INPUTS", work.stage.in_features),
        ("HIDDEN", ntm.hidden_size()),
        ("Z", sizes.z),
        ("SUMS", sizes.sums),
        ("CONTROLS", ntm.control_size()),
        ("MEMORY_ROWS", rows),
        ("MEMORY_COLUMNS", columns),
        ("READS", ntm.read_heads),
        ("WRITES", ntm.write_heads),
        ("SHIFTS", ntm.shifts),
        ("KEPT_MEMORY", kept_or_one(rows * columns)),
        ("KEPT_WEIGHTS", kept_or_one(ntm.heads() * rows)),
    ])?
    .with("CELL", cell_number(ntm.controller.cell()))
    .with("ORDER", order_number(ntm.order))
    .with("TANH_KEY", ntm.key_activation == Activation::Tanh)
    .with("TANH_ADD", ntm.add_activation == Activation::Tanh)
    .with("CLIP_CONTROLS", ntm.clip.unwrap_or(0.0))
    .with("STORED", stored)
    .with("MASKED", work.mask.is_some())
    .with("LAST", !work.stage.sequence_out)
    .with("WORKGROUP", sizes.workgroup))
}

/// As `shaders/common/ntm.wgsl` numbers them.
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

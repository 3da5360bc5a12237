//! The training of a cell with a memory.
//!
//! The forward pass keeps on a tape what every timestep read and computed, and the state in front of it. One workgroup a row goes
//! back through the timesteps and leaves the gradients of the sums and of the controls on the tape; those of the weights are
//! products over all timesteps. Where memory is short, the state is kept in front of every interval of time, and an interval runs
//! again before the backward pass goes through it.

use super::backward::Move;
use super::intervals::Interval;
use super::matmul::{Also, Operand, SumOrder};
use super::ntm::{MemoryKernelSizes, NtmLaunch, ntm_constants};
use super::{Builder, DispatchRows, F32, StageWork};
use crate::base::error::Result;
use crate::network::{Cell, Network, NtmStage, PartSpec, Role};
use crate::plan::train::{StartState, TrainGoal};
use crate::plan::{BufferId, Constants, Kernel, ROW_WORKGROUP, Slice, TrainKernel};

/// What the forward pass of a layer leaves for its backward pass.
#[derive(Clone, Debug)]
pub(super) struct NtmTape {
    sizes: MemoryKernelSizes,
    /// How the timesteps are run and kept.
    launch: NtmLaunch,
    state: Slice,
    tape: Slice,
    /// The state in front of each interval and behind the last, if there are several.
    kept: Option<BufferId>,
    /// The weights of the heads `[K, N]` in front of the first timestep, where they are a softmax.
    shares: Option<Slice>,
    backward: BackwardState,
}

/// What the backward pass hands from timestep to timestep.
#[derive(Clone, Copy, Debug)]
struct BackwardState {
    /// The gradient of the state.
    carry: Slice,
    /// Where its parts lie.
    places: [usize; 5],
    /// Whether parts of it stay in storage.
    stored: bool,
}

/// Where the tape has what T' timesteps of B rows read and computed (`shaders/common/ntm_tape.wgsl`).
struct TapePlaces {
    z: Operand,
    sums: Operand,
    controls: Operand,
    /// h in front of each timestep; behind it B rows later.
    h: Operand,
    /// Numbers of all.
    len: usize,
}

impl TapePlaces {
    fn new(tape: Slice, (ntm, sizes): (&NtmStage, MemoryKernelSizes), [steps, batch]: [usize; 2]) -> Self {
        let (hidden, rows, states) = (ntm.hidden_size(), steps * batch, (steps + 1) * batch);
        let mut len = 0usize;
        let mut part = |rows: usize, width: usize| {
            let place = Operand::new(tape, width).from(len);
            len = len.saturating_add(rows.saturating_mul(width));
            place
        };
        let [z, sums, controls] = [sizes.z, sizes.sums, ntm.control_size()].map(|width| part(rows, width));
        let h = part(states, hidden);
        part(states, if ntm.controller.cell().keeps_c() { hidden } else { 0 });
        part(states, ntm.heads() * ntm.rows + ntm.rows * ntm.columns);
        Self { z, sums, controls, h, len }
    }
}

impl Builder {
    /// The forward pass of training.
    pub(super) fn kept_ntm(
        &mut self,
        network: &Network,
        (work, ntm): (&StageWork<'_>, &NtmStage),
        (sizes, mut launch): (MemoryKernelSizes, NtmLaunch),
    ) -> Result<()> {
        let state = launch.bindings[3];
        let first = self.plan.dispatches.len();
        let shares = self.memory_starts(network, work, ntm)?;
        if let Some(starts) = &mut self.loop_starts {
            starts.extend(self.plan.dispatches.drain(first..));
        }
        if self.training.as_ref().is_none_or(|training| training.task.goal == TrainGoal::Evaluate) {
            return self.ntm_steps(work, &launch, 0..work.steps_in, 0..0);
        }
        let label = &work.stage.label;
        let interval = self.interval(work.steps_in);
        let of = |tape: Slice| TapePlaces::new(tape, (ntm, sizes), [interval, self.batch]);
        let len = of(state).len;
        let tape = self.buffer(format!("{label} tape [T', B, ..]"), len, 1, 1)?;
        let tape = self.plan.whole(tape);
        launch.kernel = Kernel::Train(TrainKernel::NtmKept);
        launch.bindings.push(tape);
        launch.iterations = sizes.kept_iterations(ntm);
        let intervals = Interval::all(work.steps_in, interval, false);
        let kept = match intervals.len() {
            1 => None,
            count => {
                self.plan.reasons.push(format!(
                    "{label}: run again before the backward pass in {count} intervals of {interval} timesteps"
                ));
                let words = usize::try_from(state.bytes / F32).unwrap_or(usize::MAX);
                Some(self.buffer(format!("{label} state before the intervals [N, B, ..]"), count + 1, words, 1)?)
            }
        };
        for (index, interval) in intervals.iter().enumerate() {
            self.copy_memory(work, (state, kept), index, false)?;
            let steps = interval.done..interval.done + interval.count;
            self.ntm_steps(work, &launch, steps.clone(), steps)?;
        }
        self.copy_memory(work, (state, kept), intervals.len(), false)?;
        let backward = self.backward_state(work, ntm, sizes)?;
        if let Some(training) = &mut self.training {
            training.memories.insert(work.index, NtmTape { sizes, launch, state, tape, kept, shares, backward });
        }
        Ok(())
    }

    /// A buffer for the gradient of the state, which is 0 behind the last timestep.
    fn backward_state(
        &mut self,
        work: &StageWork<'_>,
        ntm: &NtmStage,
        sizes: MemoryKernelSizes,
    ) -> Result<BackwardState> {
        let label = &work.stage.label;
        let fixed = 2 * ntm.control_size() + sizes.sums + sizes.workgroup as usize;
        let movable = ntm.rows * (ntm.columns + ntm.heads() + 3);
        let stored = self.is_stored(label, "the gradient of the memory", ntm, [fixed, movable])?;
        let scratch = ntm.rows * (3 + (ntm.write_heads - 1) * ntm.columns);
        let (carry, places) = self.memory_state((&format!("{label} gradient of the state [B, ..]"), ntm), scratch)?;
        if let Some(training) = &mut self.training {
            training.parts.clears.push(carry);
        }
        Ok(BackwardState { carry, places, stored })
    }

    /// Keeps the state in front of an interval, or goes back to it.
    fn copy_memory(
        &mut self,
        work: &StageWork<'_>,
        (state, kept): (Slice, Option<BufferId>),
        index: usize,
        back: bool,
    ) -> Result<()> {
        let Some(kept) = kept else { return Ok(()) };
        let kept = self.plan.whole(kept);
        let words = usize::try_from(state.bytes / F32).unwrap_or(usize::MAX);
        let (from, to, input, output) = if back { (kept, state, index, 0) } else { (state, kept, 0, index) };
        self.moved(work, DispatchRows { count: 1, input, output }, Move::whole(from, to, words, false))
    }

    /// Puts what the layer starts from in place: stored tensors, unless the caller gives a state, and constants. Returns the
    /// weights of the heads where they are a softmax.
    fn memory_starts(&mut self, network: &Network, work: &StageWork<'_>, ntm: &NtmStage) -> Result<Option<Slice>> {
        let places = self.plan.memories.iter().filter(|place| place.layer == ntm.layer).map(|place| place.place);
        let parts: Vec<(Slice, &PartSpec)> = places.zip(&network.kept()[ntm.layer].parts).collect();
        let mut shares = None;
        for (part, (place, spec)) in parts.into_iter().enumerate() {
            let Some(training) = &mut self.training else { break };
            let Some(name) = spec.stored.as_ref().filter(|_| !self.continues) else {
                let start = StartState { layer: ntm.layer, row: 0, part, from: place, to: place };
                training.parts.starts.push(start);
                continue;
            };
            let layout = training.layout.clone();
            let (buffer, range) = match layout.flat.get(name) {
                Some(range) => (layout.buffers.parameters, range),
                None => (layout.buffers.statistics, layout.statistics.get(name).unwrap_or_default()),
            };
            let (mut source, mut first) = (self.plan.whole(buffer), range.start);
            if spec.softmax {
                let logits = Slice { buffer, offset: range.start as u64 * F32, bytes: range.len() as u64 * F32 };
                let label = format!("{} weights of the heads before the first step [K, N]", work.stage.label);
                let of_heads = self.buffer(label, ntm.heads(), ntm.rows, 1)?;
                let of_heads = self.plan.whole(of_heads);
                self.softmax_rows(work, false, [logits, of_heads], [ntm.heads(), ntm.rows])?;
                (source, first, shares) = (of_heads, 0, Some(of_heads));
            }
            self.start_of_rows(work.index, (source, first), place, spec.width())?;
        }
        Ok(shares)
    }

    /// The backward pass of a layer.
    pub(super) fn ntm_backward(
        &mut self,
        network: &Network,
        (work, ntm): (&StageWork<'_>, &NtmStage),
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let Some(training) = &self.training else { return Ok(()) };
        let Some(tape) = training.memories.get(&work.index).cloned() else { return Ok(()) };
        let parameters = self.plan.whole(training.layout.buffers.parameters);
        let NtmTape { sizes, launch, state, kept, backward: BackwardState { carry, places, stored }, .. } = &tape;
        let first = |role: Role| self.first(work.stage, 0, role).unwrap_or(0);
        let more = Constants::sizes([
            ("INPUT_FIRST", first(Role::WeightIh)),
            ("STATE_FIRST", first(Role::WeightHh)),
            ("HEADS_FIRST", first(Role::HeadsWeight)),
            ("SCRATCH", if *stored { 1 } else { 3 * ntm.rows }),
        ])?;
        let mask = work.mask.map_or(parameters, |mask| self.plan.whole(mask));
        let backward = NtmLaunch {
            kernel: Kernel::Train(TrainKernel::NtmBackward),
            constants: ntm_constants(work, (ntm, *sizes), *stored)?.and(more.iter()),
            bindings: vec![parameters, mask, d, tape.tape, *carry],
            places: *places,
            iterations: sizes.backward_iterations(ntm),
            work: launch.work.saturating_mul(2),
            descending: true,
        };
        let intervals = Interval::all(work.steps_in, self.interval(work.steps_in), false);
        for (index, interval) in intervals.iter().enumerate().rev() {
            let steps = interval.done..interval.done + interval.count;
            if kept.is_some() {
                self.copy_memory(work, (*state, *kept), index, true)?;
                self.ntm_steps(work, launch, steps.clone(), steps.clone())?;
            }
            self.ntm_steps(work, &backward, steps.clone(), steps)?;
            let accumulate = index + 1 < intervals.len();
            let order = SumOrder { total: work.steps_in * self.batch, accumulate, descending: true };
            self.ntm_weights_backward((work, ntm), &tape, *interval, order)?;
            self.ntm_input_backward(network, (work, ntm), &tape, *interval, stage_steps)?;
        }
        self.copy_memory(work, (*state, *kept), intervals.len(), true)?;
        let first = self.plan.dispatches.len();
        self.memory_starts_backward(network, (work, ntm), &tape)?;
        if let Some(ends) = &mut self.loop_ends {
            ends.extend(self.plan.dispatches.drain(first..));
        }
        Ok(())
    }

    /// The gradients of the weights, from what an interval left on the tape.
    fn ntm_weights_backward(
        &mut self,
        (work, ntm): (&StageWork<'_>, &NtmStage),
        tape: &NtmTape,
        interval: Interval,
        order: SumOrder,
    ) -> Result<()> {
        let (hidden, batch, rows) = (ntm.hidden_size(), self.batch, interval.count * self.batch);
        let (gates, controls) = (ntm.controller.gate_rows(), ntm.control_size());
        let places = TapePlaces::new(tape.tape, (ntm, tape.sizes), [interval.count, batch]);
        let TapePlaces { z, sums, controls: of_controls, h, .. } = places;
        let stage = work.index;
        let of = |builder: &Self, role| builder.param_gradient(work.stage, 0, role);
        // A GRU's candidate has the gradient of its product with h apart.
        let is_gru = ntm.controller.cell() == Cell::Gru;
        let of_state =
            if is_gru { vec![(0, 0, 2 * hidden), (2 * hidden, 3 * hidden, hidden)] } else { vec![(0, 0, gates)] };
        if let Some(d) = of(self, Role::WeightIh) {
            let c = Operand::new(d, tape.sizes.z);
            self.weights_part(stage, [gates, tape.sizes.z, rows], [sums.turned(), z, c], order)?;
        }
        if let Some(d) = of(self, Role::BiasIh) {
            self.column_sums_part(stage, [rows, gates], (sums, None), &[(d, 0)], order)?;
        }
        for (to, from, count) in of_state {
            if let Some(d) = of(self, Role::WeightHh) {
                let c = Operand::new(d, hidden).from(to * hidden);
                self.weights_part(stage, [count, hidden, rows], [sums.from(from).turned(), h, c], order)?;
            }
            if let Some(d) = of(self, Role::BiasHh) {
                self.column_sums_part(stage, [rows, count], (sums.from(from), None), &[(d, to)], order)?;
            }
        }
        if let Some(d) = of(self, Role::HeadsWeight) {
            let [after, c] = [h.from(batch * hidden), Operand::new(d, hidden)];
            self.weights_part(stage, [controls, hidden, rows], [of_controls.turned(), after, c], order)?;
        }
        if let Some(d) = of(self, Role::HeadsBias) {
            self.column_sums_part(stage, [rows, controls], (of_controls, None), &[(d, 0)], order)?;
        }
        Ok(())
    }

    /// The gradient of what the layer read.
    fn ntm_input_backward(
        &mut self,
        network: &Network,
        (work, ntm): (&StageWork<'_>, &NtmStage),
        tape: &NtmTape,
        interval: Interval,
        stage_steps: &[usize],
    ) -> Result<()> {
        let source = work.stage.inputs[0];
        let target = match interval.count == work.steps_in {
            true => self.gradient(network, source, stage_steps)?,
            false => self.part_of_gradient(network, source, stage_steps)?.map(|to| (to, true)),
        };
        let (Some((to, accumulate)), Some(w)) = (target, self.param(work.stage, 0, Role::WeightIh)) else {
            return Ok(());
        };
        let (inputs, gates, rows) = (work.stage.in_features, ntm.controller.gate_rows(), interval.count * self.batch);
        let places = TapePlaces::new(tape.tape, (ntm, tape.sizes), [interval.count, self.batch]);
        let to = Operand::new(to, inputs).from(interval.done * self.batch * inputs);
        let also = Also { accumulate, bias: None };
        self.matmul(work.index, [rows, inputs, gates], [places.sums, Operand::new(w, tape.sizes.z), to], also)
    }

    /// The gradients of the tensors that the layer starts from, of that of the state; 0 where the caller gave a state.
    fn memory_starts_backward(
        &mut self,
        network: &Network,
        (work, ntm): (&StageWork<'_>, &NtmStage),
        tape: &NtmTape,
    ) -> Result<()> {
        let BackwardState { carry, places, .. } = tape.backward;
        let parts = self.state_parts(ntm, places);
        for (place, spec) in parts.into_iter().zip(&network.kept()[ntm.layer].parts) {
            let Some(training) = &mut self.training else { break };
            let range = spec.stored.as_ref().and_then(|name| training.layout.flat.get(name));
            let Some(range) = range else { continue };
            let buffer = training.layout.buffers.gradients;
            let to = Slice { buffer, offset: range.start as u64 * F32, bytes: range.len() as u64 * F32 };
            if self.continues {
                training.parts.clears.push(to);
                continue;
            }
            let first = usize::try_from(place.offset / F32).unwrap_or(usize::MAX);
            let of_rows = Operand::new(carry, spec.width()).from(first);
            let size = [self.batch, spec.width()];
            let Some(shares) = tape.shares.filter(|_| spec.softmax) else {
                self.column_sums(work.index, size, of_rows, None, &[(to, 0)])?;
                continue;
            };
            let sums = self.scratch("gradients of the heads' first weights [K, N]", ntm.heads(), ntm.rows, 1)?;
            self.column_sums(work.index, size, of_rows, None, &[(sums, 0)])?;
            let constants = Constants::sizes([("FEATURES", ntm.rows)])?
                .with("ADD", false)
                .with("LOG", false)
                .with("WORKGROUP", ROW_WORKGROUP);
            let size = [ntm.heads(), ntm.rows];
            self.by_row(work, TrainKernel::SoftmaxBackward, constants, vec![shares, sums, to], size)?;
        }
        Ok(())
    }
}

//! Recurrent levels: the hoisted projection and the steps of every direction.

use super::layers::Product;
use super::{Builder, Rows, Work};
use crate::error::{Error, Result};
use crate::input::bits;
use crate::network::{Activation, Cell, Direction, MaskedOutput, RecurrentStage};
use crate::plan::constants::{activation, bound, size};
use crate::plan::weights::has_new_bias;
use crate::plan::{BufferId, Kernel, MAX_REPEAT, MAX_SUBMISSION_WORK, StateBuffers, print};

/// Invocations that keep a GPU busy; below it, several share one unit's sum.
const BUSY: u64 = 16_384;
const MAX_SPLIT: u32 = 16;
/// Most invocations a step kernel puts in a workgroup, WebGPU's guaranteed limit.
const STEP_WORKGROUP: u32 = 256;

/// One kernel of a timestep, with its bindings at even and odd steps.
struct Launch {
    kernel: Kernel,
    constants: Vec<u32>,
    bindings: [Vec<BufferId>; 2],
    workgroups: [u32; 3],
    iterations: u64,
    work: u64,
}

impl Builder {
    /// One level of a recurrent layer in all its directions.
    pub(super) fn recurrent(&mut self, work: &Work<'_>, stage: &RecurrentStage, projected: BufferId) -> Result<()> {
        let chunk = self.chunk(stage.gate_rows(), work.steps_in);
        if chunk < work.steps_in {
            self.reason(format!(
                "{}: inputs are projected {chunk} of {} timesteps at a time, to stay within {}",
                work.stage.label,
                work.steps_in,
                print::bytes(self.budget())
            ));
        }
        for (index, direction) in stage.directions.iter().enumerate() {
            let input_weights = [self.weight(), self.weight()];
            let launches = self.launches(work, stage, index, projected)?;
            let bindings = [work.inputs[0], input_weights[0], input_weights[1], projected];
            let features = [work.stage.in_features, stage.gate_rows()];
            let (kernel, activation, more) = (Kernel::Linear, Activation::Linear, Vec::new());
            let product = Product { kernel, features, activation, more, bindings };
            let mut done = 0;
            while done < work.steps_in {
                let count = chunk.min(work.steps_in - done);
                // A reverse direction takes the chunks of time from the end.
                let first = if direction.reverse { work.steps_in - done - count } else { done };
                let rows = Rows { count: count * self.batch, input: first * self.batch, output: 0 };
                self.product(work, rows, &product)?;
                self.steps(work, direction, &launches, Chunk { done, first, count })?;
                done += count;
            }
        }
        Ok(())
    }

    /// The timesteps of one chunk.
    fn steps(&mut self, work: &Work<'_>, direction: &Direction, launches: &[Launch], chunk: Chunk) -> Result<()> {
        let advance = i32::try_from(self.batch).map_err(|_| self.too_many_rows(self.batch))?;
        let advance = if direction.reverse { -advance } else { advance };
        let step_work = launches.iter().fold(0u64, |sum, launch| sum.saturating_add(launch.work)).max(1);
        let longest = usize::try_from(MAX_SUBMISSION_WORK / step_work).unwrap_or(usize::MAX).clamp(1, MAX_REPEAT);
        let mut stepped = 0;
        while stepped < chunk.count {
            let repeat = (chunk.count - stepped).min(longest);
            let local = if direction.reverse { chunk.count - 1 - stepped } else { stepped };
            let at = (chunk.first + local) * self.batch;
            let sequence = work.stage.sequence_out;
            let rows = Rows { count: self.batch, input: local * self.batch, output: if sequence { at } else { 0 } };
            let mask_row = u32::try_from(at).map_err(|_| self.too_many_rows(at))?;
            let parity = (chunk.done + stepped) % 2;
            for (index, launch) in launches.iter().enumerate() {
                self.push(work, rows, launch.kernel, launch.constants.clone(), |dispatch| {
                    dispatch.bindings = launch.bindings[parity].clone();
                    dispatch.alternate = Some(launch.bindings[1 - parity].clone());
                    dispatch.input_row.1 = advance;
                    dispatch.output_row.1 = if sequence { advance } else { 0 };
                    dispatch.mask_row = (mask_row, advance);
                    dispatch.repeat = u32::try_from(repeat).unwrap_or(u32::MAX);
                    dispatch.interleaved = index + 1 < launches.len();
                    dispatch.workgroups = launch.workgroups;
                    dispatch.iterations = launch.iterations;
                    dispatch.work = launch.work;
                })?;
            }
            stepped += repeat;
        }
        Ok(())
    }

    /// What one timestep of direction `index` consists of; its state's buffers are made here.
    fn launches(
        &mut self,
        work: &Work<'_>,
        stage: &RecurrentStage,
        index: usize,
        projected: BufferId,
    ) -> Result<Vec<Launch>> {
        let direction = &stage.directions[index];
        let (hidden, width, batch) = (stage.hidden_size, stage.state_size(), self.batch);
        let end = if direction.reverse { " reverse" } else { "" };
        let label = work.stage.label.clone();
        let mut state = |part: &str, width: usize| self.buffer(format!("{label}{end} {part}"), 1, batch, width);
        let h = [state("h even [B, H]", width)?, state("h odd [B, H]", width)?];
        let c = match stage.cell {
            Cell::Lstm => Some(state("c [B, H]", hidden)?),
            Cell::Gru | Cell::Rnn => None,
        };
        let before = stage.cell == Cell::Gru && !stage.reset_after;
        let reset_state = if before { Some([state("r*h [B, H]", hidden)?, state("z [B, H]", hidden)?]) } else { None };
        let raw = if stage.proj_size > 0 { Some(state("h before its projection [B, H]", hidden)?) } else { None };
        let row = stage.level * stage.directions.len() + index;
        self.plan.states.push(StateBuffers { layer: stage.layer, row, h, c, steps: work.steps_in });

        let recurrent = self.weight();
        let new_bias = has_new_bias(stage).then(|| self.weight());
        let peephole = stage.peephole.then(|| self.weight());
        let projection = (stage.proj_size > 0).then(|| self.weight());

        let target =
            [stage.directions.len() * width, index * width].map(size).into_iter().collect::<Result<Vec<_>>>()?;
        let target = [target, masking(work, stage, direction)].concat();
        // Something must be bound where an option is off; nothing reads it.
        let mask = work.mask.unwrap_or(recurrent);
        let clip = bound(stage.clip);
        let functions: Vec<[u32; 3]> = direction.activations.iter().map(|&function| activation(function)).collect();
        let pair = |bind: &dyn Fn(BufferId, BufferId) -> Vec<BufferId>| [bind(h[0], h[1]), bind(h[1], h[0])];
        let out = work.output;
        let mut launches = Vec::new();
        match (stage.cell, c, reset_state) {
            (Cell::Lstm, Some(c), _) => {
                let mut more = target.clone();
                more.extend([raw.is_some(), stage.peephole, stage.coupled].map(u32::from));
                more.extend([clip, bound(stage.cell_clip)]);
                more.extend(functions.concat());
                let bindings = pair(&|from, to| {
                    vec![projected, recurrent, from, raw.unwrap_or(to), c, out, mask, peephole.unwrap_or(recurrent)]
                });
                launches.push(self.launch(work, Kernel::LstmStep, [hidden, width], more, bindings)?);
                if let (Some(raw), Some(projection)) = (raw, projection) {
                    let bindings = pair(&|from, to| vec![raw, projection, from, to, out, mask]);
                    launches.push(self.launch(work, Kernel::ProjectStep, [width, hidden], target, bindings)?);
                }
            }
            (Cell::Gru, _, Some([reset, update])) => {
                let gates = [vec![clip], functions[0].to_vec()].concat();
                let bindings = pair(&|from, _| vec![projected, recurrent, from, reset, update]);
                launches.push(self.launch(work, Kernel::GruGates, [hidden; 2], gates, bindings)?);
                let candidate = [target, vec![clip], functions[1].to_vec()].concat();
                let bindings = pair(&|from, to| vec![projected, recurrent, from, to, out, mask, reset, update]);
                launches.push(self.launch(work, Kernel::GruCandidate, [hidden; 2], candidate, bindings)?);
            }
            (Cell::Gru, ..) => {
                let more = [target, vec![clip], functions.concat()].concat();
                let bindings =
                    pair(&|from, to| vec![projected, recurrent, from, to, out, mask, new_bias.unwrap_or(recurrent)]);
                launches.push(self.launch(work, Kernel::GruStep, [hidden; 2], more, bindings)?);
            }
            (Cell::Rnn | Cell::Lstm, ..) => {
                let more = [target, vec![clip], functions.concat()].concat();
                let bindings = pair(&|from, to| vec![projected, recurrent, from, to, out, mask]);
                launches.push(self.launch(work, Kernel::RnnStep, [hidden; 2], more, bindings)?);
            }
        }
        Ok(launches)
    }

    /// A kernel that sums over `depth` for each of `width` units.
    fn launch(
        &mut self,
        work: &Work<'_>,
        kernel: Kernel,
        [width, depth]: [usize; 2],
        more: Vec<u32>,
        bindings: [Vec<BufferId>; 2],
    ) -> Result<Launch> {
        let (units, split, why) = self.workgroup(width)?;
        self.reason(format!("{}: {}: {why}", work.stage.label, kernel.spec().name));
        let constants = [vec![size(width)?, size(depth)?, units, split], more].concat();
        let workgroups = self.grid((width as u64).div_ceil(units.into()), self.batch as u64, &work.stage.label)?;
        let iterations = (depth as u64).div_ceil(split.into()) + u64::from(split);
        let gates: u64 = match kernel {
            Kernel::LstmStep => 4,
            Kernel::GruStep => 3,
            Kernel::GruGates => 2,
            _ => 1,
        };
        let work = (self.batch as u64 * width as u64).saturating_mul(depth as u64).saturating_mul(gates);
        Ok(Launch { kernel, constants, bindings, workgroups, iterations, work })
    }

    /// Units per workgroup, invocations per unit, and why.
    fn workgroup(&self, width: usize) -> Result<(u32, u32, String)> {
        let invocations = (self.batch as u64).saturating_mul(width as u64);
        let widest = size(width.next_power_of_two().clamp(8, 64))?;
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        let (split, why) = match self.options.split {
            Some(split) if split.is_power_of_two() && split <= MAX_SPLIT => (split, "forced by an option".to_owned()),
            Some(split) => {
                return Err(Error::Unsupported {
                    place: "plan".into(),
                    what: format!("split {split} (powers of two up to {MAX_SPLIT} are)"),
                });
            }
            None if self.limits.software => (1, "a software adapter gains nothing from sharing a sum".to_owned()),
            None if invocations >= BUSY => (1, format!("B*H = {invocations} invocations fill a GPU")),
            None => {
                let wanted = BUSY.div_ceil(invocations).next_power_of_two();
                let split = u32::try_from(wanted).unwrap_or(MAX_SPLIT).min(MAX_SPLIT);
                (split, format!("B*H = {invocations} invocations alone cannot fill a GPU"))
            }
        };
        let units = widest.min(most / split).max(1);
        Ok((units, split, format!("split {split}, {units} units per workgroup: {why}")))
    }
}

/// A piece of the sequence: `count` steps from `first`, after `done` steps of the direction.
#[derive(Clone, Copy)]
struct Chunk {
    done: usize,
    first: usize,
    count: usize,
}

/// The constants `MASKED` and `SEEN` of `shaders/common/step_output.wgsl`.
fn masking(work: &Work<'_>, stage: &RecurrentStage, direction: &Direction) -> Vec<u32> {
    let masked = match (work.mask, stage.masked_output) {
        (None, _) => 0,
        (Some(_), MaskedOutput::Previous) => 3,
        (Some(_), MaskedOutput::Zero) if work.stage.sequence_out => 1,
        (Some(_), MaskedOutput::Zero) => 2,
    };
    vec![masked, if direction.reverse { bits::SEEN_REVERSE } else { bits::SEEN_FORWARD }]
}

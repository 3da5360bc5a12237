//! Network and sizes to a plan.

mod attention;
mod backward;
mod batch_norm;
mod ctc;
mod final_state;
mod initial_state;
mod intervals;
mod lanes;
mod layers;
mod layers_backward;
mod level_gradients;
mod matmul;
mod normalized_backward;
mod ntm;
mod ntm_backward;
mod past;
mod recurrent;
mod recurrent_backward;
mod recurrent_dropout;
mod regularize;
mod scan_backward;
mod step_loop;
mod step_loop_backward;
mod steps_backward;
mod tape;
mod update;
mod zoneout;

#[cfg(test)]
pub(super) use matmul::matmul_flags;
#[cfg(test)]
pub(super) use update::rule_number;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::decide::matrix_units;
use super::tactic::narrow;
use super::train::{TrainLayout, TrainParts, TrainTask};
use super::weights::{ALIGN, WeightLayout, layouts};
use super::{
    Arithmetic, BufferId, BufferSpec, Constants, Dispatch, InputBuffers, Kernel, MAX_SUBMISSION_DISPATCHES,
    MAX_SUBMISSION_WORK, MatrixUnits, OtherShape, Plan, PlanLimits, PlanOptions, ROW_WORKGROUP, RunShape,
    SOFTWARE_LOOP_LIMIT, Slice, WeightSize, weight_sizes,
};
use crate::base::error::{Error, Result};
use crate::network::{InputKind, MAX_INPUTS, MaskReach, Network, Source, Stage, StageKind, Zoneout};
use batch_norm::NormStatistics;
use intervals::KeptSums;
use ntm_backward::NtmTape;
use step_loop_backward::LoopTape;
use tape::StageTape;

pub(super) const F32: u64 = 4;

/// Plans a run of `shape`.
///
/// # Errors
/// [`Error::TooLarge`] if a buffer or a dispatch exceeds `limits`, [`Error::Shape`] if T or B is 0
/// or T is less than a layer needs, [`Error::Unsupported`] for an option that cannot be met: a
/// strategy that does not run this network here, a split that its kernel cannot do.
pub fn plan(network: &Network, shape: RunShape, limits: &PlanLimits, options: &PlanOptions) -> Result<Plan> {
    let mut builder = Builder::new(network, shape, limits, options)?;
    builder.build(network)?;
    Ok(builder.plan)
}

/// Plans a step of training, or a part of one, with the buffers of `layout`.
///
/// # Errors
/// As [`plan`].
pub fn plan_training(
    network: &Network,
    shape: RunShape,
    limits: &PlanLimits,
    options: &PlanOptions,
    (task, layout): (&TrainTask, &Arc<TrainLayout>),
) -> Result<Plan> {
    // No workgroups wait for each other: a step cannot be repeated where they waited too long.
    let limits = PlanLimits { resident_workgroups: 0, ..*limits };
    let mut refused = None;
    for interval in intervals::lengths(shape) {
        let mut builder = Builder::new(network, shape, &limits, options)?;
        builder.training = Some(TrainBuild::new(task, layout, network, interval));
        match builder.build(network).and_then(|()| builder.within_memory(task)) {
            Ok(()) => return Ok(builder.plan),
            // Shorter intervals take less.
            Err(error @ Error::TooLarge { .. }) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::shape("plan", "T and B at least 1", "no timesteps")))
}

impl Builder {
    fn new(network: &Network, shape: RunShape, limits: &PlanLimits, options: &PlanOptions) -> Result<Self> {
        let RunShape { steps, batch, masked, others, continues, uneven, banked } = shape;
        if steps == 0 || batch == 0 {
            return Err(Error::shape("plan", "T and B at least 1", format!("T = {steps}, B = {batch}")));
        }
        Ok(Self {
            limits: *limits,
            options: *options,
            batch,
            others,
            continues,
            uneven,
            banked,
            loop_starts: None,
            loop_ends: None,
            plan: Plan {
                steps,
                batch,
                masked: masked || network.masks().is_some(),
                choices: Vec::new(),
                backward: Vec::new(),
                reasons: Vec::new(),
                stages: network.stages().iter().map(|stage| stage.label.clone()).collect(),
                buffers: Vec::new(),
                weights: 0,
                inputs: Vec::new(),
                outputs: Vec::new(),
                states: Vec::new(),
                pasts: Vec::new(),
                feedbacks: Vec::new(),
                memories: Vec::new(),
                begins: None,
                exchanges: Vec::new(),
                dispatches: Vec::new(),
                train: None,
            },
            next_weight: 0,
            projected: 0,
            training: None,
        })
    }
}

struct Builder {
    limits: PlanLimits,
    options: PlanOptions,
    batch: usize,
    /// Of the inputs beside the first.
    others: [OtherShape; MAX_INPUTS - 1],
    /// As in [`RunShape`].
    continues: bool,
    uneven: bool,
    banked: bool,
    /// In a loop, the dispatches that put what its levels start from in place.
    loop_starts: Option<Vec<Dispatch>>,
    /// In the backward pass of a loop, the dispatches for the gradients of what its levels start from.
    loop_ends: Option<Vec<Dispatch>>,
    plan: Plan,
    next_weight: BufferId,
    /// The projected inputs of one chunk of time, which all recurrences share.
    projected: BufferId,
    /// What a plan for training needs in addition.
    training: Option<TrainBuild>,
}

/// What a plan for training needs in addition.
struct TrainBuild {
    task: TrainTask,
    layout: Arc<TrainLayout>,
    /// N of every stage.
    widths: Vec<usize>,
    /// What every recurrence left.
    tapes: Vec<StageTape>,
    /// What a loop left.
    loop_tape: Option<LoopTape>,
    /// Where gradients of parameters go that are of one step of a loop.
    step_gradients: Option<BufferId>,
    /// What every layer with a memory left.
    memories: BTreeMap<usize, NtmTape>,
    /// Bindings of the product of every convolution.
    products: BTreeMap<usize, [Slice; 5]>,
    /// The shares of every stage of attention.
    shares: BTreeMap<usize, Slice>,
    /// Which statistics every batch normalization goes by.
    norms: BTreeMap<usize, NormStatistics>,
    /// Where weights are kept while numbers of them are dropped.
    dropped: Option<BufferId>,
    /// The gradient of every stage's output, and whether something was written there.
    gradients: Vec<Option<(Slice, bool)>>,
    /// Of the level that is planned, where its units are drawn.
    zoneout: Zoneout,
    /// The sums that the forward pass of some directions of a stage keeps, by the stage and the first direction.
    kept: BTreeMap<(usize, usize), KeptSums>,
    /// Most timesteps that the backward pass of a recurrence takes at once.
    interval: usize,
    /// Buffers that parts of the backward pass share.
    shared: BTreeMap<&'static str, BufferId>,
    parts: TrainParts,
}

/// A stage with its buffers.
struct StageWork<'a> {
    stage: &'a Stage,
    index: usize,
    inputs: Vec<Slice>,
    output: Slice,
    /// Timesteps of the input, past ones included; 1 without a time dimension.
    steps_in: usize,
    /// Timesteps of past inputs in front, which stand for the padding of a window.
    past: usize,
    /// Timesteps of the output; 1 without a time dimension.
    steps_out: usize,
    /// Bits `[T, B]`, where steps may be masked.
    mask: Option<BufferId>,
}

/// Rows of a dispatch.
#[derive(Clone, Copy)]
struct DispatchRows {
    count: usize,
    input: usize,
    output: usize,
}

impl DispatchRows {
    /// `count` rows from the first.
    fn all(count: usize) -> Self {
        Self { count, input: 0, output: 0 }
    }
}

impl Builder {
    fn build(&mut self, network: &Network) -> Result<()> {
        self.check_arithmetic()?;
        for WeightSize { label, words, bound } in weight_sizes(network, &self.limits) {
            self.bounded(&label, bound as u64 * F32, self.limits.max_binding)?;
            self.bounded(&label, words as u64 * F32, self.limits.max_buffer)?;
            self.plan.buffers.push(BufferSpec { label, bytes: words as u64 * F32 });
        }
        if let Some(training) = &self.training {
            self.plan.buffers.extend(training.layout.specs.iter().cloned());
        }
        self.plan.weights = self.plan.buffers.len();
        let batch = self.batch;
        for (number, input) in network.inputs().iter().enumerate() {
            if self.banked && number > 0 {
                let bank = self.bank_buffers(input)?;
                self.plan.inputs.push(bank);
                continue;
            }
            let (letters, steps) = match input.kind {
                InputKind::Tokens => ("tokens [T, B]", self.steps_of(network, number)),
                InputKind::Row => ("input [B, I]", 1),
                _ => ("input [T, B, I]", self.steps_of(network, number)),
            };
            let of = |what: &str| if number == 0 { what.to_owned() } else { format!("{} {what}", input.name) };
            let numbers = self.buffer(of(letters), steps, batch, input.width)?;
            let masked = match number {
                0 => self.plan.masked,
                _ => input.masks.is_some() || self.others[number - 1].masked,
            };
            let mask = if masked { Some(self.buffer(of("mask [T, B]"), steps, batch, 1)?) } else { None };
            self.plan.inputs.push(InputBuffers { numbers, mask, rows: None });
        }
        let mut stage_steps = Vec::new();
        network.stage_steps_into(|number| self.steps_of(network, number), &mut stage_steps)?;
        self.begin_buffers(network)?;
        let layouts = layouts(network, &self.limits);
        self.projected = self.projection(network, &layouts, &stage_steps)?;
        self.drop_weights()?;
        let mut index = 0;
        while index < network.stages().len() {
            if let Some(steps_loop) = network.step_loop().filter(|steps_loop| steps_loop.stages.start == index) {
                self.step_loop(network, steps_loop, &layouts, &stage_steps)?;
                index = steps_loop.stages.end;
                continue;
            }
            let here: Vec<&WeightLayout> = layouts.iter().filter(|layout| layout.stages.start == index).collect();
            match here.first() {
                Some(first) => {
                    let stages = first.stages.clone();
                    index = stages.end;
                    self.recurrence(network, stages, &here, &stage_steps)?;
                }
                None => {
                    let output = self.output(network, index, &stage_steps)?;
                    self.plan.outputs.push(output);
                    let work = self.work(network, index, &stage_steps);
                    match network.past(index).filter(|_| self.training.is_none()) {
                        Some(past) => self.layer_with_past(network, &work, past)?,
                        None => self.layer(network, &work)?,
                    }
                    self.drop_out(index, output)?;
                    index += 1;
                }
            }
        }
        self.train(network, &stage_steps)?;
        self.cut_into_submissions();
        Ok(())
    }

    /// Timesteps of an input of the network.
    fn steps_of(&self, network: &Network, number: usize) -> usize {
        let given = number.checked_sub(1).map_or(0, |other| self.others[other].steps);
        network.steps_of_input(number, if given > 0 { given } else { self.plan.steps })
    }

    /// Timesteps of what a stage reads.
    fn steps_in(&self, network: &Network, source: Source, stage_steps: &[usize]) -> usize {
        match source {
            Source::Input(number) => self.steps_of(network, number),
            Source::Stage(earlier) => stage_steps[earlier],
        }
    }

    /// Whether the adapter has the arithmetic that the options ask for.
    fn check_arithmetic(&mut self) -> Result<()> {
        let refuse = |what: &str| Err(Error::Unsupported { place: "plan".into(), what: what.into() });
        match self.options.arithmetic {
            Arithmetic::F16 if !self.limits.f16 => refuse("f16 arithmetic: the adapter has no SHADER_F16"),
            Arithmetic::Matrix => match self.limits.matrix_units {
                None => refuse(
                    "matrix arithmetic: the adapter has no matrix units (f16 factors, f32 sums, 8 x 8 or 16 x 16) that \
                     wgpu reaches, or the device was opened without them",
                ),
                Some(units) => {
                    self.plan.reasons.push(format!(
                        "products of at least {} rows on {units}, of factors rounded to f16; all others in f32",
                        units.side.length()
                    ));
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }

    /// The units that products are to be taken on.
    fn matrix_units(&self) -> Option<MatrixUnits> {
        matrix_units(&self.limits, &self.options)
    }

    /// Levels that share their weights' buffers; a level alone may have one for each direction.
    fn recurrence(
        &mut self,
        network: &Network,
        stages: Range<usize>,
        layouts: &[&WeightLayout],
        stage_steps: &[usize],
    ) -> Result<()> {
        let weights: Vec<[BufferId; 2]> = layouts.iter().map(|_| [self.weight_id(), self.weight_id()]).collect();
        if self.training.is_some() {
            return self.kept_recurrence(network, stages, layouts, &weights, stage_steps);
        }
        let shared = stages.len() > 1 && self.outputs_together(network, stages.clone(), stage_steps)?;
        if !shared {
            for index in stages.clone() {
                let output = self.output(network, index, stage_steps)?;
                self.plan.outputs.push(output);
            }
        }
        let works: Vec<StageWork<'_>> = stages.map(|index| self.work(network, index, stage_steps)).collect();
        for (layout, weights) in layouts.iter().zip(weights) {
            self.recurrent(&works, layout, weights, shared)?;
        }
        Ok(())
    }

    /// A stage, whose output has been made, and those it reads.
    fn work<'a>(&self, network: &'a Network, index: usize, stage_steps: &[usize]) -> StageWork<'a> {
        let stage = &network.stages()[index];
        let inputs = stage.inputs.iter().map(|source| match *source {
            Source::Input(number) => self.input_slice(number, self.plan.inputs[number].numbers),
            Source::Stage(earlier) => self.plan.outputs[earlier],
        });
        StageWork {
            stage,
            index,
            inputs: inputs.collect(),
            output: self.plan.outputs[index],
            steps_in: match stage.kind {
                // All keys are read at every step.
                StageKind::Attention(_) => self.steps_in(network, stage.inputs[0], stage_steps),
                _ if self.loop_starts.is_some() || self.loop_ends.is_some() => 1,
                _ => self.steps_in(network, stage.inputs[0], stage_steps),
            },
            past: 0,
            steps_out: stage_steps[index],
            mask: match stage.mask_reach {
                MaskReach::Fits(number) => self.plan.inputs[number].mask,
                _ => self.begin_mask(network, stage),
            },
        }
    }

    fn output(&mut self, network: &Network, index: usize, stage_steps: &[usize]) -> Result<Slice> {
        let stage = &network.stages()[index];
        let letters = if stage.sequence_out { "[T, B, N]" } else { "[B, N]" };
        let label = format!("{} output {letters}", stage.label);
        let buffer = self.buffer(label, stage_steps[index], self.batch, stage.out_features)?;
        Ok(self.plan.whole(buffer))
    }

    /// One buffer for the outputs of stacked levels, if a binding may be as large.
    fn outputs_together(&mut self, network: &Network, stages: Range<usize>, stage_steps: &[usize]) -> Result<bool> {
        let numbers = |index: usize| {
            let (steps, width) = (stage_steps[index] as u64, network.stages()[index].out_features as u64);
            steps.saturating_mul(self.batch as u64).saturating_mul(width)
        };
        let each = numbers(stages.start).checked_next_multiple_of(ALIGN as u64).unwrap_or(u64::MAX);
        let last = numbers(stages.end - 1);
        let bytes = each.saturating_mul(stages.len() as u64 - 1).saturating_add(last).saturating_mul(F32);
        if bytes > self.limits.max_binding.min(self.limits.max_buffer) || bytes / F32 > u32::MAX.into() {
            return Ok(false);
        }
        let [first, last] = [stages.start, stages.end - 1].map(|index| network.stages()[index].label.as_str());
        self.plan.buffers.push(BufferSpec { label: format!("{first}..{last} outputs [L, T, B, N]"), bytes });
        let buffer = self.plan.buffers.len() - 1;
        for (level, index) in stages.enumerate() {
            let offset = level as u64 * each * F32;
            self.plan.outputs.push(Slice { buffer, offset, bytes: numbers(index) * F32 });
        }
        Ok(true)
    }

    /// The buffer that the projected inputs of one chunk of time share, if anything is recurrent.
    fn projection(&mut self, network: &Network, layouts: &[WeightLayout], stage_steps: &[usize]) -> Result<BufferId> {
        let mut largest = None;
        for layout in layouts {
            for index in layout.stages.clone() {
                let stage = &network.stages()[index];
                let Some(level) = stage.recurrent() else { continue };
                let steps = self.steps_in(network, stage.inputs[0], stage_steps);
                if self.keeps_sums(level) {
                    continue;
                }
                // Directions go together or apart.
                for lanes in [1, layout.directions.len()] {
                    let chunk = self.chunk(lanes * level.gate_rows(), steps);
                    let numbers = lanes * self.projected_lane(chunk, level.hidden_size) * level.cell().gates();
                    largest = largest.max(Some(numbers));
                }
            }
        }
        match largest {
            Some(numbers) => self.buffer("projected [lanes, T', B, H, G]", numbers, 1, 1),
            None => Ok(0),
        }
    }

    /// Gates from the projected inputs of one lane to those of the next.
    fn projected_lane(&self, chunk: usize, hidden: usize) -> usize {
        chunk.saturating_mul(self.batch).saturating_mul(hidden).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
    }

    /// Of `steps`, the timesteps whose projected inputs, `width` wide, fit the budget and a binding.
    fn chunk(&self, width: usize, steps: usize) -> usize {
        let per_step = (self.batch as u64).saturating_mul(width as u64).saturating_mul(F32);
        let fitting = usize::try_from(self.budget() / per_step).unwrap_or(usize::MAX);
        fitting.clamp(1, steps)
    }

    fn budget(&self) -> u64 {
        // What lanes are filled up with must fit too.
        let room = self.limits.max_binding.min(self.limits.max_buffer).saturating_sub(8 << 10);
        self.options.projection_budget.min(room)
    }

    /// The next weight buffer, in the order of [`weight_sizes`].
    fn weight_id(&mut self) -> BufferId {
        self.next_weight += 1;
        self.next_weight - 1
    }

    /// The next weight buffer, whole.
    fn weight(&mut self) -> Slice {
        let id = self.weight_id();
        self.plan.whole(id)
    }

    /// A buffer of `a * b * c` numbers.
    fn buffer(&mut self, label: impl Into<String>, a: usize, b: usize, c: usize) -> Result<BufferId> {
        let label = label.into();
        let bytes = (a as u64).saturating_mul(b as u64).saturating_mul(c as u64).saturating_mul(F32);
        self.bounded(&label, bytes, self.limits.max_binding)?;
        self.plan.buffers.push(BufferSpec { label, bytes });
        Ok(self.plan.buffers.len() - 1)
    }

    /// An error if `bytes` are more than `most`, than a buffer, or than 32-bit indices reach.
    fn bounded(&self, label: &str, bytes: u64, most: u64) -> Result<()> {
        let bounds = [
            (most, "the adapter's largest storage binding, bytes"),
            (self.limits.max_buffer, "the adapter's largest buffer, bytes"),
            // Kernels count rows and elements in 32 bits.
            (u64::from(u32::MAX) * F32, "32-bit indices, bytes"),
        ];
        match bounds.into_iter().find(|&(limit, _)| bytes > limit) {
            Some((limit, limit_name)) => {
                Err(Error::TooLarge { what: label.into(), needed: bytes, limit, limit_name: limit_name.into() })
            }
            None => Ok(()),
        }
    }

    fn push(
        &mut self,
        work: &StageWork<'_>,
        rows: DispatchRows,
        kernel: Kernel,
        constants: Constants,
        fill: impl FnOnce(&mut Dispatch),
    ) -> Result<()> {
        let row = |row: usize| u32::try_from(row).map_err(|_| self.too_many_rows(row));
        let mut dispatch = Dispatch {
            stage: work.index,
            constants,
            rows: row(rows.count)?,
            input_row: row(rows.input)?,
            output_row: row(rows.output)?,
            steps: row(work.steps_in)?,
            batch: row(self.batch)?,
            ..Dispatch::empty(kernel)
        };
        fill(&mut dispatch);
        self.add(dispatch)
    }

    /// The next dispatch.
    fn add(&mut self, dispatch: Dispatch) -> Result<()> {
        debug_assert_eq!(dispatch.kernel.spec().mismatch(&dispatch.constants), None, "{:?}", dispatch.kernel);
        if self.limits.software && dispatch.iterations > SOFTWARE_LOOP_LIMIT {
            return Err(Error::TooLarge {
                what: format!("{}: loop iterations of one invocation", self.plan.stages[dispatch.stage]),
                needed: dispatch.iterations,
                limit: SOFTWARE_LOOP_LIMIT,
                limit_name: "software adapters stop a shader there without a word".into(),
            });
        }
        self.plan.dispatches.push(dispatch);
        Ok(())
    }

    fn too_many_rows(&self, rows: usize) -> Error {
        Error::TooLarge {
            what: format!("rows T*B with T = {}, B = {}", self.plan.steps, self.batch),
            needed: rows as u64,
            limit: u32::MAX.into(),
            limit_name: "32-bit indices".into(),
        }
    }

    /// Numbers the submissions, so that none runs long. Interleaved dispatches stay together.
    fn cut_into_submissions(&mut self) {
        let (mut submission, mut dispatches, mut work) = (0, 0, 0u64);
        for group in self.plan.dispatches.chunk_by_mut(|dispatch, _| dispatch.interleaved) {
            let count: u64 = group.iter().map(|dispatch| u64::from(dispatch.repeat)).sum();
            let more = group
                .iter()
                .fold(0u64, |sum, dispatch| sum.saturating_add(dispatch.work.saturating_mul(dispatch.repeat.into())));
            let full =
                dispatches + count > MAX_SUBMISSION_DISPATCHES || work.saturating_add(more) > MAX_SUBMISSION_WORK;
            if full && dispatches > 0 {
                submission += 1;
                (dispatches, work) = (0, 0);
            }
            group.iter_mut().for_each(|dispatch| dispatch.submission = submission);
            dispatches += count;
            work = work.saturating_add(more);
        }
    }
}

/// A grid of `x` workgroups by `y`, the second folded into y and z where one dimension is too short.
fn grid(limits: &PlanLimits, x: u64, y: u64, what: &str) -> Result<[u32; 3]> {
    let most = u64::from(limits.max_workgroups);
    let folds = y.div_ceil(most);
    let longest = x.max(folds);
    if longest > most {
        return Err(Error::TooLarge {
            what: format!("{what}: workgroups"),
            needed: longest,
            limit: most,
            limit_name: "the adapter's workgroups per dimension".into(),
        });
    }
    Ok([narrow(x), narrow(y.div_ceil(folds)), narrow(folds)])
}

/// A grid of enough workgroups of [`ROW_WORKGROUP`] for `elements`, flat in x and y.
pub(super) fn flat_grid(limits: &PlanLimits, elements: u64, what: &str) -> Result<[u32; 3]> {
    let [_, x, y] = grid(limits, 1, elements.div_ceil(ROW_WORKGROUP.into()), what)?;
    Ok([x, y, 1])
}

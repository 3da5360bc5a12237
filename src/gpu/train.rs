//! Training on a GPU: does what the plans for training say. Nothing leaves the device but what is asked for.

use std::sync::{Arc, Mutex, MutexGuard};

use super::context::Context;
use super::engine::run_shape;
use super::readback::{DELIVERY, ended};
use super::workspace::{Key, Prepared, StepKey, Workspace, buffer};
use crate::base::error::Result;
use crate::base::lock::lock;
use crate::base::wait::may_block;
use crate::data::input::{Checked, Values};
use crate::data::state::State;
use crate::network::{Network, Source, StageKind};
use crate::plan::train::{
    RESULT_WORDS, StartState, TrainContents, TrainGoal, TrainLayout, TrainMetrics, TrainTask, lookup, setting,
};
use crate::plan::{BufferId, Plan, PlanOptions, RunShape, Slice, pack, parts};

const WHAT: &str = "training the network";
const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

/// A network whose parameters, gradients and optimizer lie on a GPU.
#[derive(Debug)]
pub(crate) struct GpuTrainer {
    context: Arc<Context>,
    network: Network,
    options: PlanOptions,
    task: TrainTask,
    layout: Arc<TrainLayout>,
    /// Packed weights, then the buffers of the layout.
    buffers: Vec<wgpu::Buffer>,
    workspace: Mutex<Workspace>,
    /// Held from a step to the reading of what it found.
    turn: Mutex<()>,
}

/// The packed weights of a [`GpuTrainer`], which each of its steps writes.
pub(crate) struct SharedWeights(pub(super) Vec<wgpu::Buffer>);

/// What a step of training reads.
pub(crate) struct TrainBatch<'a> {
    pub input: &'a Checked<'a>,
    /// The state that layers start from; the network's own without one.
    pub state: Option<&'a State>,
    /// Classes, or the bits of numbers.
    pub targets: &'a [u32],
    /// Whether targets are numbers.
    pub values: bool,
    /// Room for the labels of a sequence.
    pub labels: usize,
    /// What is measured beside the loss.
    pub metrics: Option<TrainMetrics>,
    /// How much each row counts.
    pub factors: &'a [f32],
    /// Place among the results.
    pub slot: usize,
    pub learning_rate: f32,
    /// Of the step's dropout.
    pub seed: u64,
}

/// What the device found in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepResult {
    pub loss: f32,
    pub correct: u32,
    pub norm: f32,
    pub skipped: bool,
}

impl GpuTrainer {
    /// Uploads `network` for `task`; `class_weights` are those of its loss.
    pub fn new(
        context: &Arc<Context>,
        network: &Network,
        options: PlanOptions,
        task: TrainTask,
        class_weights: &[f32],
    ) -> Result<Self> {
        may_block("the CPU device")?;
        context.check_by_asking(WHAT)?;
        let limits = context.limits();
        let TrainContents { layout, words } = TrainContents::new(network, &limits, &task, class_weights);
        // The smallest plan checks every buffer against the adapter's limits.
        let shape = RunShape::new(network.least_steps(), 1);
        Plan::training(network, shape, &limits, &options, (&task, &layout))?;
        let make = || {
            let packed = pack(network, &limits).into_iter().map(|weight| {
                let bytes = weight.words.len() as u64 * 4;
                (weight.label, bytes, Some(weight.words))
            });
            let rest = layout.specs.iter().zip(words).map(|(spec, words)| (spec.label.clone(), spec.bytes, words));
            Ok(packed
                .chain(rest)
                .map(|(label, bytes, words)| {
                    let buffer = buffer(context, &label, bytes, STORAGE);
                    if let Some(words) = words {
                        context.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
                    }
                    buffer
                })
                .collect())
        };
        let buffers = context.scoped_now(WHAT, make)?;
        let (context, network, workspace) = (context.clone(), network.clone(), Mutex::default());
        Ok(Self { context, network, options, task, layout, buffers, workspace, turn: Mutex::default() })
    }

    /// The plan of a step of these sizes.
    fn plan(&self, shape: RunShape, asked: StepKey) -> Result<Plan> {
        let StepKey { goal, values, labels, metrics } = asked;
        let task = TrainTask { values, labels, metrics, ..self.task.clone().goal(goal) };
        Plan::training(&self.network, shape, &self.context.limits(), &self.options, (&task, &self.layout))
    }

    /// Keeps other threads from a step until what this one found is read.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Its weights as the kernels of a run read them, and the device on which they lie.
    pub fn shared_weights(&self) -> (Arc<Context>, SharedWeights) {
        (self.context.clone(), SharedWeights(self.buffers[..self.layout.packed.len()].to_vec()))
    }

    /// Where each tensor lies in the arrays of parameters, gradients and moments.
    pub fn layout(&self) -> &TrainLayout {
        &self.layout
    }

    /// Submits a step, or as much of it as `goal` says; returns at once.
    pub fn submit(&self, batch: &TrainBatch<'_>, goal: TrainGoal) -> Result<()> {
        self.with_prepared(batch, goal, |prepared| self.encode(prepared, batch))
    }

    /// Records a step into an application's encoder; nothing is submitted. What the step reads travels with the encoder, so that
    /// several steps may be recorded one after the other.
    pub fn record(&self, batch: &TrainBatch<'_>, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.with_prepared(batch, TrainGoal::Step, |prepared| {
            let (mut copies, mut failed) = (Vec::new(), None);
            self.uploads(prepared, batch, |to, offset, bytes| {
                if bytes.is_empty() || failed.is_some() {
                    return;
                }
                let staging = self.context.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("a recorded step's input"),
                    size: bytes.len() as u64,
                    usage: wgpu::BufferUsages::COPY_SRC,
                    mapped_at_creation: true,
                });
                match staging.get_mapped_range_mut(..) {
                    Ok(mut mapped) => mapped.copy_from_slice(bytes),
                    Err(error) => failed = Some(self.context.failed(WHAT, &error)),
                }
                staging.unmap();
                copies.push((staging, to.clone(), offset, bytes.len() as u64));
            });
            // Nothing is recorded of a step whose input is not there.
            if let Some(error) = failed {
                return Err(error);
            }
            for (staging, to, offset, bytes) in &copies {
                encoder.copy_buffer_to_buffer(staging, 0, to, *offset, *bytes);
            }
            self.begin(prepared, batch, encoder);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.context.record(&mut pass, &prepared.plan.dispatches, &prepared.dispatches);
            Ok(())
        })
    }

    /// Calls `run` with what a step of these sizes needs.
    fn with_prepared(
        &self,
        batch: &TrainBatch<'_>,
        goal: TrainGoal,
        run: impl FnOnce(&Prepared) -> Result<()>,
    ) -> Result<()> {
        self.context.check()?;
        let done = self.context.scoped_now(WHAT, || {
            let mut workspace = lock(&self.workspace);
            let shape = RunShape { continues: batch.state.is_some(), ..run_shape(batch.input) };
            let TrainBatch { values, labels, metrics, .. } = *batch;
            let asked = StepKey { goal, values, labels, metrics };
            let key = Key { shape, waits: false, goal: Some(asked) };
            let prepared = match workspace.ready(key) {
                Some(prepared) => prepared,
                None => {
                    let plan = self.plan(shape, asked)?;
                    log::debug!("{plan}");
                    workspace.prepare(&self.context, &self.buffers, plan, key)
                }
            };
            run(&prepared)
        });
        if done.is_err() {
            lock(&self.workspace).clear();
        }
        done
    }

    /// Gives `put` what a step reads, with the buffer and the byte where it goes.
    fn uploads(&self, prepared: &Prepared, batch: &TrainBatch<'_>, mut put: impl FnMut(&wgpu::Buffer, u64, &[u8])) {
        let plan = &prepared.plan;
        let Some(parts) = &plan.train else { return };
        let mut write = |id: BufferId, bytes: &[u8]| put(&prepared.buffers[id], 0, bytes);
        for (number, buffers) in plan.inputs.iter().enumerate() {
            write(buffers.numbers, batch.input.values_of(number).bytes());
            if let (Some(id), Some(mask)) = (buffers.mask, batch.input.mask_of(number)) {
                write(id, bytemuck::cast_slice(mask));
            }
        }
        write(parts.targets, bytemuck::cast_slice(batch.targets));
        write(parts.factors, bytemuck::cast_slice(batch.factors));
        for &(stage, id) in &parts.lookups {
            let stage = &self.network.stages()[stage];
            if let (StageKind::Embedding { num_embeddings }, Source::Input(input)) = (&stage.kind, stage.inputs[0])
                && let Values::Tokens(tokens) = batch.input.values_of(input)
            {
                write(id, bytemuck::cast_slice(&lookup(tokens, *num_embeddings)));
            }
        }
        let mut settings = [0u32; setting::COUNT];
        settings[setting::SLOT] = u32::try_from(batch.slot).unwrap_or(u32::MAX);
        settings[setting::LEARNING_RATE] = batch.learning_rate.to_bits();
        #[expect(clippy::cast_possible_truncation, reason = "both halves count")]
        let seed = [batch.seed as u32, (batch.seed >> 32) as u32];
        settings[setting::SEED..][..2].copy_from_slice(&seed);
        write(self.layout.buffers.settings, bytemuck::cast_slice(&settings));
        for start in &parts.starts {
            let numbers = match batch.state {
                Some(state) => state.layers[start.layer].parts[start.part].row(start.row),
                None if self.starts_at_zero(start) => continue,
                None => {
                    let value = self.network.kept()[start.layer].parts[start.part].start;
                    &vec![value; usize::try_from(start.from.bytes / 4).unwrap_or(0)]
                }
            };
            put(&prepared.buffers[start.from.buffer], start.from.offset, bytemuck::cast_slice(numbers));
        }
    }

    /// Whether a part of the state is 0 where nothing says what it is.
    fn starts_at_zero(&self, start: &StartState) -> bool {
        self.network.kept()[start.layer].parts[start.part].start.to_bits() == 0
    }

    /// Records what is copied and cleared before the first dispatch.
    fn begin(&self, prepared: &Prepared, batch: &TrainBatch<'_>, encoder: &mut wgpu::CommandEncoder) {
        let Some(parts) = &prepared.plan.train else { return };
        for start in &parts.starts {
            let [from, to] = [start.from, start.to].map(|slice| &prepared.buffers[slice.buffer]);
            if batch.state.is_none() && self.starts_at_zero(start) {
                encoder.clear_buffer(from, start.from.offset, Some(start.from.bytes));
            }
            if start.from == start.to {
                continue;
            }
            encoder.copy_buffer_to_buffer(from, start.from.offset, to, start.to.offset, start.to.bytes);
        }
        for &Slice { buffer, offset, bytes } in &parts.clears {
            encoder.clear_buffer(&prepared.buffers[buffer], offset, Some(bytes));
        }
    }

    fn encode(&self, prepared: &Prepared, batch: &TrainBatch<'_>) -> Result<()> {
        let (context, plan) = (&self.context, &prepared.plan);
        self.uploads(prepared, batch, |to, offset, bytes| context.queue.write_buffer(to, offset, bytes));
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.begin(prepared, batch, &mut encoder);
        let mut first = 0;
        for dispatches in plan.dispatches.chunk_by(|a, b| a.submission == b.submission) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            context.record(&mut pass, dispatches, &prepared.dispatches[first..][..dispatches.len()]);
            drop(pass);
            first += dispatches.len();
            let next = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            context.submit_unread(WHAT, std::mem::replace(&mut encoder, next))?;
        }
        Ok(())
    }

    /// What the device found in the steps of `count` places from `first` on; waits for them.
    pub fn results(&self, first: usize, count: usize) -> Result<Vec<StepResult>> {
        let results = &self.buffers[self.layout.buffers.results];
        let words: Vec<u32> = self.read_at(results, (first * RESULT_WORDS * 4) as u64, count * RESULT_WORDS)?;
        let result = |words: &[u32]| StepResult {
            loss: f32::from_bits(words[0]),
            correct: words[1],
            norm: f32::from_bits(words[2]),
            skipped: words[3] != 0,
        };
        Ok(words.chunks_exact(RESULT_WORDS).map(result).collect())
    }

    /// What the metrics of the last run counted: right answers, then pairs of classes; or a sum's bits and its rows.
    pub fn counts(&self) -> Result<Vec<u32>> {
        let Some(prepared) = lock(&self.workspace).latest() else { return Ok(Vec::new()) };
        match prepared.plan.train.as_ref().and_then(|parts| parts.counts) {
            Some(Slice { buffer, offset, bytes }) => {
                self.read_at(&prepared.buffers[buffer], offset, usize::try_from(bytes / 4).unwrap_or(0))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The state after the last run, to one of the same shape.
    pub fn read_state(&self, state: &mut State) -> Result<()> {
        let Some(prepared) = lock(&self.workspace).latest() else { return Ok(()) };
        for place in parts(&prepared.plan) {
            let to = state.layers[place.layer].parts[place.part].row_mut(place.row);
            let Slice { buffer, offset, .. } = place.end;
            to.copy_from_slice(&self.read_at(&prepared.buffers[buffer], offset, to.len())?);
        }
        Ok(())
    }

    /// All parameters, as the layout says.
    pub fn parameters(&self) -> Result<Vec<f32>> {
        self.read(self.layout.buffers.parameters, self.layout.flat.len)
    }

    /// The statistics of all batch normalizations, as the layout says.
    pub fn statistics(&self) -> Result<Vec<f32>> {
        self.read(self.layout.buffers.statistics, self.layout.statistics.len)
    }

    /// The average of the parameters, as the layout says, once a step was made.
    pub fn average(&self) -> Result<Option<Vec<f32>>> {
        let made: Vec<u32> = self.read(self.layout.buffers.norms, 1)?;
        match self.task.average.filter(|_| made[0] > 0) {
            Some(_) => self.read(self.layout.buffers.average, self.layout.flat.len).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces what [`GpuTrainer::average`] gives.
    pub fn set_average(&self, average: &[f32]) -> Result<()> {
        self.write(self.layout.buffers.average, bytemuck::cast_slice(average))
    }

    /// The gradients of the last step, as the layout says.
    pub fn gradients(&self) -> Result<Vec<f32>> {
        self.read(self.layout.buffers.gradients, self.layout.flat.len)
    }

    /// What the optimizer keeps, one array behind the other, and how many steps it made.
    pub fn optimizer_state(&self) -> Result<(Vec<f32>, u32)> {
        let kept = self.task.optimizer.rule.keeps().iter().filter(|&&kept| kept).count();
        let moments = self.read(self.layout.buffers.moments, kept * self.layout.flat.len)?;
        let steps: Vec<u32> = self.read(self.layout.buffers.norms, 1)?;
        Ok((moments, steps[0]))
    }

    /// Replaces what [`GpuTrainer::optimizer_state`] gives.
    pub fn set_optimizer_state(&self, moments: &[f32], steps: u32) -> Result<()> {
        self.write(self.layout.buffers.moments, bytemuck::cast_slice(moments))?;
        self.write(self.layout.buffers.norms, bytemuck::bytes_of(&steps))
    }

    /// Takes over the weights of a network of the same layers.
    pub fn set_weights(&self, network: &Network) -> Result<()> {
        self.write(self.layout.buffers.parameters, bytemuck::cast_slice(&self.layout.flat.numbers(network)))?;
        let statistics = self.layout.statistics.numbers(network);
        if !statistics.is_empty() {
            self.write(self.layout.buffers.statistics, bytemuck::cast_slice(&statistics))?;
        }
        for (id, weight) in pack(network, &self.context.limits()).iter().enumerate() {
            self.write(id, bytemuck::cast_slice(&weight.words))?;
        }
        Ok(())
    }

    fn write(&self, id: BufferId, bytes: &[u8]) -> Result<()> {
        let write = || {
            self.context.queue.write_buffer(&self.buffers[id], 0, bytes);
            Ok(())
        };
        self.context.scoped_now(WHAT, write)
    }

    /// The first `count` words of a buffer that stays; waits until all steps before are done.
    fn read<T: bytemuck::Pod>(&self, id: BufferId, count: usize) -> Result<Vec<T>> {
        self.read_at(&self.buffers[id], 0, count)
    }

    /// `count` words of a buffer from byte `offset` on; waits until all steps before are done.
    fn read_at<T: bytemuck::Pod>(&self, from: &wgpu::Buffer, offset: u64, count: usize) -> Result<Vec<T>> {
        self.context.check()?;
        let bytes = (count * 4) as u64;
        let Context { device, queue, .. } = &*self.context;
        let copy = || {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let staging = buffer(&self.context, "staging", bytes.max(4), usage);
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(from, offset, &staging, 0, bytes);
            let submission = queue.submit([encoder.finish()]);
            let (sent, came) = std::sync::mpsc::channel();
            // Nothing waits for what cannot be sent.
            staging.map_async(wgpu::MapMode::Read, .., move |mapped| drop(sent.send(mapped)));
            ended(device, submission).map_err(|reason| self.context.failed(WHAT, &reason))?;
            // Another thread that polled at the same time may be the one that calls back.
            match came.recv_timeout(DELIVERY) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.context.failed(WHAT, &error)),
                Err(error) => return Err(self.context.failed(WHAT, &error)),
            }
            let range = staging.get_mapped_range(0..bytes).map_err(|error| self.context.failed(WHAT, &error))?;
            Ok(bytemuck::pod_collect_to_vec(&range[..]))
        };
        self.context.scoped_now(WHAT, copy)
    }
}

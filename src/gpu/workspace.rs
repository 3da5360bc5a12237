//! Buffers and bind groups of a session, kept from run to run.

use std::sync::Arc;

use super::context::{Context, Pipeline, Repetitions};
use super::staging::Staging;
use crate::plan::train::{TrainGoal, TrainMetrics};
use crate::plan::{Dispatch, PARAMS_SIZE, Plan, RunShape, Slice};

/// Plans that are kept ready.
const MAX_PREPARED: usize = 128;

/// What a run works in. Buffers grow to the largest plan seen and are then reused.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// By position after the weights.
    buffers: Vec<wgpu::Buffer>,
    /// The latest used last.
    prepared: Vec<Arc<Prepared>>,
    queries: Option<wgpu::QuerySet>,
    /// Staging buffers between two uses.
    pub staging: Staging,
}

/// A plan with everything made that it needs.
#[derive(Debug)]
pub(super) struct Prepared {
    pub plan: Plan,
    key: Key,
    /// Buffer of each [`BufferId`](crate::plan::BufferId).
    pub buffers: Vec<wgpu::Buffer>,
    /// What each dispatch needs.
    pub dispatches: Vec<Ready>,
}

/// What a dispatch needs to be recorded.
pub(super) type Ready = (Arc<Pipeline>, wgpu::BindGroup);

/// What a plan was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub shape: RunShape,
    /// Whether a time-out is allowed, because the host reads whether one happened.
    pub waits: bool,
    /// Of a run of training.
    pub goal: Option<StepKey>,
}

/// What a plan of a step of training was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepKey {
    /// How far it goes.
    pub goal: TrainGoal,
    /// Whether targets are numbers.
    pub values: bool,
    /// Room for labels of a sequence.
    pub labels: usize,
    /// What is measured beside the loss.
    pub metrics: Option<TrainMetrics>,
}

impl Workspace {
    /// What an earlier run of these sizes left ready.
    pub fn ready(&mut self, key: Key) -> Option<Arc<Prepared>> {
        let at = self.prepared.iter().rposition(|prepared| prepared.key == key)?;
        let prepared = self.prepared.remove(at);
        self.prepared.push(prepared.clone());
        Some(prepared)
    }

    /// What the latest run used.
    pub fn latest(&self) -> Option<Arc<Prepared>> {
        self.prepared.last().cloned()
    }

    pub fn prepare(&mut self, context: &Context, weights: &[wgpu::Buffer], plan: Plan, key: Key) -> Arc<Prepared> {
        let mut grown = false;
        for (index, spec) in plan.buffers[plan.weights..].iter().enumerate() {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let make = || buffer(context, &spec.label, spec.bytes, usage);
            match self.buffers.get_mut(index) {
                Some(buffer) if buffer.size() >= spec.bytes => {}
                Some(buffer) => {
                    *buffer = make();
                    grown = true;
                }
                None => self.buffers.push(make()),
            }
        }
        if grown {
            // The others hold the buffers that were too small.
            self.prepared.clear();
        } else if self.prepared.len() == MAX_PREPARED {
            self.prepared.remove(0);
        }
        let buffers: Vec<wgpu::Buffer> =
            weights.iter().chain(&self.buffers).take(plan.buffers.len()).cloned().collect();
        let dispatches = bind(context, &plan.dispatches, &buffers);
        let prepared = Arc::new(Prepared { plan, key, buffers, dispatches });
        self.prepared.push(prepared.clone());
        prepared
    }

    /// A query set for at least `count` timestamps.
    pub fn queries(&mut self, context: &Context, count: u32) -> wgpu::QuerySet {
        let make = || {
            let ty = wgpu::QueryType::Timestamp;
            context.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("timestamps"), ty, count })
        };
        let queries = self.queries.take().filter(|queries| queries.count() >= count).unwrap_or_else(make);
        self.queries = Some(queries.clone());
        queries
    }

    /// Forgets everything, after an error that may have left something half made.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Context {
    /// Records dispatches: for each repetition no more than its number and a launch.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>, dispatches: &[Dispatch], ready: &[Ready]) {
        let mut at = 0;
        for together in dispatches.chunk_by(|dispatch, _| dispatch.interleaved) {
            let ready = &ready[at..][..together.len()];
            at += together.len();
            for repetition in 0..together[0].repeat {
                for (dispatch, (pipeline, group)) in together.iter().zip(ready) {
                    // What is bound stays bound while one kernel repeats.
                    if repetition == 0 || together.len() > 1 {
                        pass.set_pipeline(&pipeline.pipeline);
                        pass.set_bind_group(0, group, &[]);
                    }
                    if dispatch.recurrence.is_some() {
                        match &self.repetitions {
                            Repetitions::Immediates => pass.set_immediates(0, &repetition.to_ne_bytes()),
                            Repetitions::Table { group, .. } => {
                                let offset = u64::from(repetition) * self.uniform_stride;
                                pass.set_bind_group(1, group, &[u32::try_from(offset).unwrap_or(u32::MAX)]);
                            }
                        }
                    }
                    let [x, y, z] = dispatch.workgroups;
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
    }
}

/// The parameters of dispatches, each where [`bind`] looks for it.
fn table(context: &Context, dispatches: &[Dispatch]) -> wgpu::Buffer {
    let stride = usize::try_from(context.uniform_stride).unwrap_or(usize::MAX);
    let mut table = vec![0; dispatches.len() * stride];
    for (dispatch, entry) in dispatches.iter().zip(table.chunks_exact_mut(stride)) {
        let params = dispatch.params().map(|(_, value)| value);
        entry[..size_of_val(&params)].copy_from_slice(bytemuck::bytes_of(&params));
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let params = buffer(context, "parameters", table.len() as u64, usage);
    context.queue.write_buffer(&params, 0, &table);
    params
}

/// Pipeline and bindings of each dispatch.
pub(super) fn bind(context: &Context, dispatches: &[Dispatch], buffers: &[wgpu::Buffer]) -> Vec<Ready> {
    let params = table(context, dispatches);
    let ready = |(dispatch, index): (&Dispatch, u64)| {
        let pipeline = context.pipeline(dispatch.kernel, &dispatch.constants);
        let params = (&params, index * context.uniform_stride);
        let group = bind_group(context, &pipeline, params, &dispatch.bindings, buffers);
        (pipeline, group)
    };
    dispatches.iter().zip(0..).map(ready).collect()
}

pub(super) fn buffer(context: &Context, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    context.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes,
        usage,
        mapped_at_creation: false,
    })
}

fn bind_group(
    context: &Context,
    pipeline: &Pipeline,
    (params, offset): (&wgpu::Buffer, u64),
    bindings: &[Slice],
    buffers: &[wgpu::Buffer],
) -> wgpu::BindGroup {
    let part = |buffer, offset, bytes| {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(bytes) })
    };
    let bindings = bindings.iter().map(|slice| part(&buffers[slice.buffer], slice.offset, slice.bytes));
    let resources = std::iter::once(part(params, offset, PARAMS_SIZE)).chain(bindings);
    let entries: Vec<wgpu::BindGroupEntry<'_>> =
        (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    context.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &entries,
    })
}

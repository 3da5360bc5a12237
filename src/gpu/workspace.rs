//! Buffers and bind groups of a session, kept from run to run.

use std::sync::Arc;

use super::context::{Context, PARAMS_SIZE, Pipeline};
use crate::plan::{Dispatch, Plan, RunShape, Slice};

/// What a run works in. Buffers grow to the largest plan seen and are then reused.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// By position behind the weights.
    buffers: Vec<wgpu::Buffer>,
    params: Option<wgpu::Buffer>,
    prepared: Option<Arc<Prepared>>,
    queries: Option<wgpu::QuerySet>,
    /// Staging buffers between two uses.
    pub staging: Vec<wgpu::Buffer>,
}

/// A plan with everything made that it needs.
#[derive(Debug)]
pub(super) struct Prepared {
    pub plan: Plan,
    /// Buffer of each [`BufferId`](crate::plan::BufferId).
    pub buffers: Vec<wgpu::Buffer>,
    /// What each dispatch needs.
    pub dispatches: Vec<(Arc<Pipeline>, wgpu::BindGroup)>,
}

impl Workspace {
    /// What the last run of these sizes left ready.
    pub fn ready(&self, shape: RunShape) -> Option<Arc<Prepared>> {
        self.prepared.clone().filter(|prepared| {
            let Plan { steps, batch, masked, .. } = prepared.plan;
            shape == RunShape { steps, batch, masked }
        })
    }

    pub fn prepare(&mut self, context: &Context, weights: &[wgpu::Buffer], plan: Plan) -> Arc<Prepared> {
        for (index, spec) in plan.buffers[plan.weights..].iter().enumerate() {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let make = || buffer(context, &spec.label, spec.bytes, usage);
            match self.buffers.get_mut(index) {
                Some(buffer) if buffer.size() >= spec.bytes => {}
                Some(buffer) => *buffer = make(),
                None => self.buffers.push(make()),
            }
        }
        let stride = usize::try_from(context.uniform_stride).unwrap_or(usize::MAX);
        let mut table = vec![0; plan.dispatches.len() * stride];
        for (dispatch, entry) in plan.dispatches.iter().zip(table.chunks_exact_mut(stride)) {
            let params = params(dispatch);
            entry[..size_of_val(&params)].copy_from_slice(bytemuck::bytes_of(&params));
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = match self.params.take() {
            Some(params) if params.size() >= table.len() as u64 => params,
            _ => buffer(context, "parameters", table.len() as u64, usage),
        };
        context.queue.write_buffer(&params, 0, &table);
        self.params = Some(params.clone());
        let buffers: Vec<wgpu::Buffer> = weights.iter().chain(&self.buffers).cloned().collect();
        let dispatches = plan
            .dispatches
            .iter()
            .zip(0u64..)
            .map(|(dispatch, index)| {
                let pipeline = context.pipeline(dispatch.kernel, &dispatch.constants);
                let params = (&params, index * context.uniform_stride);
                let group = bind_group(context, &pipeline, params, &dispatch.bindings, &buffers);
                (pipeline, group)
            })
            .collect();
        let prepared = Arc::new(Prepared { plan, buffers, dispatches });
        self.prepared = Some(prepared.clone());
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

/// As `shaders/common/params.wgsl` has them.
fn params(dispatch: &Dispatch) -> [u32; 12] {
    let Dispatch { rows, input_row, output_row, steps, batch, .. } = *dispatch;
    let [done, count, first, stride, end, projected_lane, output_lane] = dispatch
        .recurrence
        .map_or([0; 7], |r| [r.done, r.count, r.first, r.stride, r.end, r.projected_lane, r.output_lane]);
    [rows, input_row, output_row, steps, batch, done, count, first, stride, end, projected_lane, output_lane]
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

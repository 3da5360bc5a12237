//! Buffers and bind groups of a session, kept from run to run.

use std::collections::HashMap;
use std::sync::Arc;

use super::context::{Context, PARAMS_SIZE, Pipeline};
use crate::plan::{BufferId, Plan, RunShape};

/// What a run works in. Buffers grow to the largest plan seen and are then reused.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// By position behind the weights.
    buffers: Vec<wgpu::Buffer>,
    params: Option<wgpu::Buffer>,
    prepared: Option<Arc<Prepared>>,
    /// Staging buffers between two uses.
    pub staging: Vec<wgpu::Buffer>,
}

/// A plan with everything made that it needs.
#[derive(Debug)]
pub(super) struct Prepared {
    pub plan: Plan,
    /// Buffer of each [`BufferId`].
    pub buffers: Vec<wgpu::Buffer>,
    /// Table of parameters, one entry per dispatch of a submission.
    pub params: wgpu::Buffer,
    /// Pipeline of each dispatch, and the bind groups of its even and odd repetitions.
    pub dispatches: Vec<(Arc<Pipeline>, [wgpu::BindGroup; 2])>,
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
        let table = plan.longest_submission() * context.params_stride;
        let params = match self.params.take() {
            Some(params) if params.size() >= table => params,
            _ => buffer(context, "parameters", table, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST),
        };
        self.params = Some(params.clone());
        let buffers: Vec<wgpu::Buffer> = weights.iter().chain(&self.buffers).cloned().collect();
        let mut groups = HashMap::new();
        let dispatches = plan
            .dispatches
            .iter()
            .map(|dispatch| {
                let pipeline = context.pipeline(dispatch.kernel, &dispatch.constants);
                let mut group = |bindings: &[BufferId]| {
                    let key = (dispatch.kernel, bindings.to_vec());
                    let make = || bind_group(context, &pipeline, &params, bindings, &buffers);
                    groups.entry(key).or_insert_with(make).clone()
                };
                let even = group(&dispatch.bindings);
                let odd = group(dispatch.alternate.as_ref().unwrap_or(&dispatch.bindings));
                (pipeline, [even, odd])
            })
            .collect();
        let prepared = Arc::new(Prepared { plan, buffers, params, dispatches });
        self.prepared = Some(prepared.clone());
        prepared
    }

    /// Forgets everything, after an error that may have left something half made.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
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
    params: &wgpu::Buffer,
    bindings: &[BufferId],
    buffers: &[wgpu::Buffer],
) -> wgpu::BindGroup {
    let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: params,
        offset: 0,
        size: wgpu::BufferSize::new(PARAMS_SIZE),
    });
    let resources = std::iter::once(params).chain(bindings.iter().map(|&id| buffers[id].as_entire_binding()));
    let entries: Vec<wgpu::BindGroupEntry<'_>> =
        (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    context.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &entries,
    })
}

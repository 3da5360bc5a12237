//! A network on a GPU: does what the plan says.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::context::{Context, lock};
use super::readback::{Part, Pending, Target};
use super::workspace::{Prepared, Workspace, buffer};
use crate::error::Result;
use crate::input::{Checked, Values};
use crate::network::Network;
use crate::plan::{BufferId, Dispatch, Plan, PlanOptions, RunShape, pack, plan};
use crate::session::Wish;
use crate::state::State;

/// WebGPU's largest query set.
const MAX_QUERIES: usize = 4096;
/// Bytes of a timestamp.
const TIMESTAMP_SIZE: u64 = 8;
/// Staging buffers kept between runs.
const MAX_STAGING: usize = 4;

/// A network whose weights lie on a GPU.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) context: Arc<Context>,
    network: Network,
    options: PlanOptions,
    weights: Vec<wgpu::Buffer>,
    workspace: Mutex<Workspace>,
}

impl Engine {
    pub async fn new(context: Arc<Context>, network: &Network, options: PlanOptions) -> Result<Self> {
        context.check()?;
        // The smallest plan checks every weight against the adapter's limits.
        plan(network, RunShape::new(network.least_steps(), 1), &context.limits, &options)?;
        let upload = || {
            let weights = pack(network);
            Ok(weights
                .iter()
                .map(|weight| {
                    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                    let bytes: &[u8] = bytemuck::cast_slice(&weight.data);
                    let buffer = buffer(&context, &weight.label, bytes.len() as u64, usage);
                    context.queue.write_buffer(&buffer, 0, bytes);
                    buffer
                })
                .collect())
        };
        let weights = context.scoped("uploading the weights", upload).await?;
        Ok(Self { network: network.clone(), options, weights, workspace: Mutex::default(), context })
    }

    pub fn plan(&self, shape: RunShape) -> Result<Plan> {
        plan(&self.network, shape, &self.context.limits, &self.options)
    }

    /// Submits a run; the results follow through [`Pending`].
    pub async fn submit(&self, input: &Checked<'_>, state: Option<&State>, wish: Wish) -> Result<Pending<'_>> {
        self.context.check()?;
        let submitted = self
            .context
            .scoped("running the network", || {
                let mut workspace = lock(&self.workspace);
                let shape = RunShape { steps: input.steps, batch: input.batch, masked: input.mask.is_some() };
                let prepared = match workspace.ready(shape) {
                    Some(prepared) => prepared,
                    None => {
                        let plan = self.plan(shape)?;
                        log::debug!("{plan}");
                        workspace.prepare(&self.context, &self.weights, plan)
                    }
                };
                let start = Instant::now();
                let pending = self.encode(&mut workspace, &prepared, input, state, wish);
                Ok(Pending { encode: start.elapsed(), ..pending })
            })
            .await;
        if submitted.is_err() {
            lock(&self.workspace).clear();
        }
        submitted
    }

    /// Takes a staging buffer back for the next run.
    pub(super) fn recycle(&self, staging: wgpu::Buffer) {
        let mut workspace = lock(&self.workspace);
        if workspace.staging.len() < MAX_STAGING {
            workspace.staging.push(staging);
        }
    }

    fn encode(
        &self,
        workspace: &mut Workspace,
        prepared: &Prepared,
        input: &Checked<'_>,
        state: Option<&State>,
        wish: Wish,
    ) -> Pending<'_> {
        let Context { device, queue, .. } = &*self.context;
        let plan = &prepared.plan;
        let bytes: &[u8] = match &input.values {
            Values::Tokens(tokens) => bytemuck::cast_slice(tokens),
            Values::Features(values) => bytemuck::cast_slice(values),
        };
        queue.write_buffer(&prepared.buffers[plan.input], 0, bytes);
        if let (Some(id), Some(mask)) = (plan.mask, &input.mask) {
            queue.write_buffer(&prepared.buffers[id], 0, bytemuck::cast_slice(mask));
        }

        let submissions = plan.submissions();
        let queries = (wish.timestamps && self.context.timestamps && 2 * submissions <= MAX_QUERIES).then(|| {
            device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: u32::try_from(2 * submissions).unwrap_or(u32::MAX),
            })
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.start_state(prepared, state, &mut encoder);
        let mut rest = plan.dispatches.as_slice();
        let mut first = 0;
        while let Some(head) = rest.first() {
            let (now, later) = rest.split_at(rest.partition_point(|d| d.submission == head.submission));
            let mut table = Vec::new();
            let query = u32::try_from(2 * head.submission).unwrap_or(u32::MAX);
            let timestamp_writes = queries.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(query),
                end_of_pass_write_index: Some(query + 1),
            });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            let mut ready = prepared.dispatches[first..].iter();
            for together in now.chunk_by(|dispatch, _| dispatch.interleaved) {
                let ready: Vec<_> = ready.by_ref().take(together.len()).collect();
                for repetition in 0..together[0].repeat {
                    for (dispatch, (pipeline, groups)) in together.iter().zip(&ready) {
                        pass.set_pipeline(&pipeline.pipeline);
                        let offset = self.push_params(&mut table, dispatch, repetition);
                        pass.set_bind_group(0, &groups[repetition as usize % 2], &[offset]);
                        let [x, y, z] = dispatch.workgroups;
                        pass.dispatch_workgroups(x, y, z);
                    }
                }
            }
            drop(pass);
            queue.write_buffer(&prepared.params, 0, &table);
            let next = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            queue.submit([std::mem::replace(&mut encoder, next).finish()]);
            first += now.len();
            rest = later;
        }
        self.copy_out(workspace, prepared, queries.as_ref(), wish.trace, encoder)
    }

    /// Appends the parameters of one repetition to `table` and returns their offset.
    fn push_params(&self, table: &mut Vec<u8>, dispatch: &Dispatch, repetition: u32) -> u32 {
        let offset = table.len();
        let row = |(start, advance): (u32, i32)| {
            start.wrapping_add_signed(advance.wrapping_mul(i32::try_from(repetition).unwrap_or(i32::MAX)))
        };
        let rows = [dispatch.rows, row(dispatch.input_row), row(dispatch.output_row), row(dispatch.mask_row)];
        let params = [rows, [dispatch.steps, dispatch.batch, 0, 0]];
        table.extend_from_slice(bytemuck::bytes_of(&params));
        let stride = usize::try_from(self.context.params_stride).unwrap_or(usize::MAX);
        table.resize(offset + stride, 0);
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    /// Writes the caller's state, or the network's own, where the first step reads it.
    fn start_state(&self, prepared: &Prepared, state: Option<&State>, encoder: &mut wgpu::CommandEncoder) {
        let stored = match state {
            None if self.network.recurrent_layers().any(|(_, layer)| layer.initial_state) => {
                Some(State::initial(&self.network, prepared.plan.batch))
            }
            _ => None,
        };
        for buffers in &prepared.plan.states {
            let layer = state.or(stored.as_ref()).map(|state| &state.layers[buffers.layer]);
            let parts = [(Some(buffers.h[0]), layer.map(|layer| &layer.h)), (buffers.c, layer.map(|layer| &layer.c))];
            for (id, numbers) in parts {
                let Some(id) = id else { continue };
                let (buffer, bytes) = (&prepared.buffers[id], prepared.plan.buffers[id].bytes);
                match (numbers, layer) {
                    (Some(numbers), Some(layer)) => {
                        let len = numbers.len() / layer.h_shape[0];
                        let span = buffers.row * len..(buffers.row + 1) * len;
                        self.context.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&numbers[span]));
                    }
                    _ => encoder.clear_buffer(buffer, 0, Some(bytes)),
                }
            }
        }
    }

    /// Copies what the caller will read into a staging buffer.
    fn copy_out(
        &self,
        workspace: &mut Workspace,
        prepared: &Prepared,
        queries: Option<&wgpu::QuerySet>,
        trace: bool,
        mut encoder: wgpu::CommandEncoder,
    ) -> Pending<'_> {
        let plan = &prepared.plan;
        let outputs = if trace { &plan.outputs[..] } else { &plan.outputs[plan.outputs.len().saturating_sub(1)..] };
        let mut pieces: Vec<(Target, BufferId)> = outputs.iter().map(|&id| (Target::Stage, id)).collect();
        for buffers in &plan.states {
            let (layer, row) = (buffers.layer, buffers.row);
            pieces.push((Target::Hidden { layer, row }, buffers.final_h()));
            pieces.extend(buffers.c.map(|c| (Target::Cell { layer, row }, c)));
        }
        let mut parts = Vec::with_capacity(pieces.len() + 1);
        let mut bytes = 0;
        for &(target, id) in &pieces {
            parts.push(Part { target, offset: bytes, bytes: plan.buffers[id].bytes });
            bytes += plan.buffers[id].bytes;
        }
        // Timestamps are 8 bytes; resolved here, a submission after the passes, since some
        // Vulkan drivers read 0 in the same one.
        let stamps = queries.map(|queries| {
            let offset = bytes.next_multiple_of(8);
            let len = u64::from(queries.count()) * TIMESTAMP_SIZE;
            parts.push(Part { target: Target::Timestamps, offset, bytes: len });
            bytes = offset + len;
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            (queries, buffer(&self.context, "timestamps", len, usage), offset)
        });
        let staging = match workspace.staging.iter().position(|staging| staging.size() >= bytes) {
            Some(index) => workspace.staging.swap_remove(index),
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                buffer(&self.context, "staging", bytes, usage)
            }
        };
        for (part, (_, id)) in parts.iter().zip(&pieces) {
            encoder.copy_buffer_to_buffer(&prepared.buffers[*id], 0, &staging, part.offset, part.bytes);
        }
        if let Some((queries, resolved, offset)) = stamps {
            encoder.resolve_query_set(queries, 0..queries.count(), &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, offset, resolved.size());
        }
        self.context.queue.submit([encoder.finish()]);
        let state = State::zeros(&self.network, plan.batch);
        Pending { engine: self, staging, parts, bytes, state, encode: Duration::ZERO }
    }
}

//! A network on a GPU: does what the plan says.

use std::sync::{Arc, Mutex};

use super::context::{Context, PARAMS_SIZE, lock};
use super::readback::{Part, Pending, Target};
use super::workspace::{Prepared, Workspace, buffer};
use crate::error::Result;
use crate::network::Network;
use crate::plan::{BufferId, Dispatch, Plan, PlanOptions, pack, plan};
use crate::session::Wish;
use crate::input::{Checked, Values};
use crate::state::State;

/// WebGPU's largest query set.
const MAX_QUERIES: usize = 4096;
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
        plan(network, 1, 1, &context.limits, &options)?;
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

    pub fn plan(&self, steps: usize, batch: usize) -> Result<Plan> {
        plan(&self.network, steps, batch, &self.context.limits, &self.options)
    }

    /// Submits a run; the results follow through [`Pending`].
    pub async fn submit(&self, input: &Checked<'_>, state: Option<&State>, wish: Wish) -> Result<Pending<'_>> {
        self.context.check()?;
        let submitted = self
            .context
            .scoped("running the network", || {
                let mut workspace = lock(&self.workspace);
                let prepared = match workspace.ready(input.steps, input.batch) {
                    Some(prepared) => prepared,
                    None => {
                        let plan = self.plan(input.steps, input.batch)?;
                        log::debug!("{plan}");
                        workspace.prepare(&self.context, &self.weights, plan)
                    }
                };
                Ok(self.encode(&mut workspace, &prepared, input, state, wish))
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
            for (dispatch, (pipeline, groups)) in now.iter().zip(&prepared.dispatches[first..]) {
                pass.set_pipeline(&pipeline.pipeline);
                for repetition in 0..dispatch.repeat {
                    let offset = self.push_params(&mut table, dispatch, repetition);
                    pass.set_bind_group(0, &groups[repetition as usize % 2], &[offset]);
                    let [x, y, z] = dispatch.workgroups;
                    pass.dispatch_workgroups(x, y, z);
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
        let params = [dispatch.rows, row(dispatch.input_row), row(dispatch.output_row), 0];
        table.extend_from_slice(bytemuck::bytes_of(&params));
        let stride = usize::try_from(self.context.params_stride).unwrap_or(usize::MAX);
        table.resize(offset + stride, 0);
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    /// Writes the caller's state, or zeros, where the first step reads it.
    fn start_state(&self, prepared: &Prepared, state: Option<&State>, encoder: &mut wgpu::CommandEncoder) {
        for buffers in &prepared.plan.states {
            let bytes = prepared.plan.buffers[buffers.c].bytes;
            let h = &prepared.buffers[buffers.h[0]];
            let c = &prepared.buffers[buffers.c];
            match state {
                Some(state) => {
                    let layer = &state.layers[buffers.lstm];
                    let len = layer.h.len() / layer.shape[0];
                    let span = buffers.row * len..(buffers.row + 1) * len;
                    self.context.queue.write_buffer(h, 0, bytemuck::cast_slice(&layer.h[span.clone()]));
                    self.context.queue.write_buffer(c, 0, bytemuck::cast_slice(&layer.c[span]));
                }
                None => {
                    encoder.clear_buffer(h, 0, Some(bytes));
                    encoder.clear_buffer(c, 0, Some(bytes));
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
            let (lstm, row) = (buffers.lstm, buffers.row);
            pieces.push((Target::Hidden { lstm, row }, buffers.h[plan.steps % 2]));
            pieces.push((Target::Cell { lstm, row }, buffers.c));
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
            let len = u64::from(queries.count()) * PARAMS_SIZE / 2;
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
        Pending { engine: self, staging, parts, bytes, state }
    }
}

//! How many workgroups run at the same time. No API reports it, so it is measured.

use super::context::{Context, trusted_module};
use super::readback::mapped;
use crate::base::error::Result;
use crate::data::run::Wait;
use crate::plan::HELD_WORKGROUP;

const WHAT: &str = "counting workgroups";
const SOURCE: &str = include_str!("../../shaders/probe.wgsl");
/// More than any GPU runs at once with their registers.
const WORKGROUPS: u32 = 1024;
/// Words of the counters and of what two invocations hold, one word apart.
const WORDS: u64 = 2 + 108 + 1;
/// Looks of a workgroup before it leaves: some milliseconds, in which all that can start have.
const MAX_LOOKS: u32 = 10_000;

/// Workgroups of the largest size that hold weights in registers, with as many registers, that ran together.
pub(super) async fn workgroups_at_once(context: &Context, wait: Wait) -> Result<u32> {
    let (staging, submission) = context.scoped(WHAT, || Ok(submit(context))).await?;
    let failed = |error: &dyn std::fmt::Display| context.failed(WHAT, error);
    mapped(&context.device, &staging, 8, submission, wait).await.map_err(|error| failed(&error))?;
    let view = staging.get_mapped_range(..).map_err(|error| failed(&error))?;
    let [arrived, together]: [u32; 2] = bytemuck::pod_read_unaligned(&view);
    // All of them must have been there in the end, or the count is no count.
    Ok(if arrived == WORKGROUPS { together } else { 0 })
}

/// Starts the workgroups, whose two counts are copied to a buffer to be read.
fn submit(context: &Context) -> (wgpu::Buffer, wgpu::SubmissionIndex) {
    const LABEL: Option<&str> = Some("probe");
    let device = &context.device;
    let module = trusted_module(device, "probe", SOURCE.into());
    let group = f64::from(context.invocations().min(HELD_WORKGROUP));
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: LABEL,
        layout: None,
        module: &module,
        entry_point: Some("probe"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[("GROUP", group), ("MAX_LOOKS", MAX_LOOKS.into())],
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    let buffer = |size, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: LABEL, size, usage, mapped_at_creation: false })
    };
    let counts = buffer(4 * WORDS, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let staging = buffer(8, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
    let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: LABEL,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: counts.as_entire_binding() }],
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups(WORKGROUPS, 1, 1);
    }
    encoder.copy_buffer_to_buffer(&counts, 0, &staging, 0, 8);
    let submission = context.queue.submit([encoder.finish()]);
    (staging, submission)
}

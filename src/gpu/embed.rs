//! Runs recorded into an application's own command encoder.

use std::sync::Arc;

use super::engine::GpuEngine;
use super::slots::{Moves, Slots};
use super::workspace::{Prepared, buffer};
use crate::base::error::{Error, Result};
use crate::plan::Plan;

/// A run with everything made that recording needs. Its buffers hold T steps and B rows.
#[derive(Debug)]
pub(crate) struct DeviceRun {
    prepared: Arc<Prepared>,
    moves: Moves,
    /// Whether the states go back to their slots.
    keep: bool,
}

impl GpuEngine {
    /// Prepares a run of `steps` timesteps of these slots.
    pub fn device_run(&self, slots: &Slots, list: &[u32], steps: usize, keep: bool) -> Result<DeviceRun> {
        const WHAT: &str = "preparing a run";
        self.context.check_by_asking(WHAT)?;
        if self.network().masks().is_some() {
            return Err(Error::Unsupported {
                place: "network".into(),
                what: "an input that is on the device alone, since which steps it masks is decided on the host,".into(),
            });
        }
        if self.network().inputs().len() > 1 {
            let what = "a network of several inputs in an application's command encoder".into();
            return Err(Error::Unsupported { place: "network".into(), what });
        }
        if let Some(cuts) = self.network().cuts().filter(|_| keep) {
            cuts.check_steps("steps of a run", steps)?;
        }
        let prepare = || {
            let prepared = self.prepared_alone(steps, list.len(), keep, None)?;
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let rows = buffer(&self.context, "slots [B]", size_of_val(list) as u64, usage);
            self.context.queue.write_buffer(&rows, 0, bytemuck::cast_slice(list));
            let moves = slots.moves_by(&self.context, &prepared, [&rows, &rows], None)?;
            Ok(DeviceRun { prepared, moves, keep })
        };
        self.context.scoped_now(WHAT, prepare)
    }

    /// Records a run: the first bytes of `input` are read, those of `output` written.
    pub fn record_run(
        &self,
        run: &DeviceRun,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<()> {
        self.context.check()?;
        let plan = &run.prepared.plan;
        let [input_bytes, output_bytes] = run.bytes();
        usable("input", input, input_bytes, wgpu::BufferUsages::COPY_SRC)?;
        usable("output", output, output_bytes, wgpu::BufferUsages::COPY_DST)?;
        let buffers = &run.prepared.buffers;
        self.meter.run(plan.steps, plan.batch, plan.dispatch_count());
        encoder.copy_buffer_to_buffer(input, 0, &buffers[plan.inputs[0].numbers], 0, input_bytes);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        self.context.record(&mut pass, &run.moves.gather.0, &run.moves.gather.1);
        self.context.record(&mut pass, &plan.dispatches, &run.prepared.dispatches);
        if run.keep {
            self.context.record(&mut pass, &run.moves.scatter.0, &run.moves.scatter.1);
        }
        drop(pass);
        if let Some(last) = plan.outputs.last() {
            encoder.copy_buffer_to_buffer(&buffers[last.buffer], last.offset, output, 0, last.bytes);
        }
        Ok(())
    }
}

impl DeviceRun {
    /// Bytes of the input and of the output.
    pub fn bytes(&self) -> [u64; 2] {
        let Plan { buffers, inputs, outputs, .. } = &self.prepared.plan;
        [buffers[inputs[0].numbers].bytes, outputs.last().map_or(0, |last| last.bytes)]
    }
}

fn usable(what: &str, buffer: &wgpu::Buffer, bytes: u64, usage: wgpu::BufferUsages) -> Result<()> {
    if !buffer.usage().contains(usage) || buffer.size() < bytes {
        let expected = format!("at least {bytes} bytes with {usage:?}");
        return Err(Error::shape(
            format!("{what} buffer"),
            expected,
            format!("{} bytes with {:?}", buffer.size(), buffer.usage()),
        ));
    }
    Ok(())
}

//! How fast an adapter moves memory.

use std::time::Duration;

use super::context::Context;
use super::readback::mapped;
use super::workspace::buffer;
use crate::base::clock::Instant;
use crate::base::error::Result;
use crate::data::run::Wait;

/// Buffers far beyond any cache but the largest.
const BYTES: u64 = 128 << 20;
/// Long enough that a submission's own cost is lost in it.
const LONG: Duration = Duration::from_millis(60);
const MOST_COPIES: u32 = 1024;

/// Bytes read and written per second by copies from one buffer to another; the best of three.
pub(crate) async fn bandwidth(context: &Context, wait: Wait) -> Result<f64> {
    const WHAT: &str = "measuring the bandwidth";
    let bytes = BYTES.min(context.limits().max_buffer);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let make = || Ok([buffer(context, "from", bytes, usage), buffer(context, "to", bytes, usage)]);
    let [from, to] = context.scoped(WHAT, make).await?;
    let copies = async |count: u32| -> Result<Duration> {
        let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let end = buffer(context, "the end of the copies", 4, read);
        let start = Instant::now();
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for _ in 0..count {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes);
        }
        encoder.copy_buffer_to_buffer(&to, 0, &end, 0, 4);
        let submission = context.queue.submit([encoder.finish()]);
        mapped(&context.device, &end, 4, submission, wait).await.map_err(|error| context.failed(WHAT, &error))?;
        Ok(start.elapsed())
    };
    copies(1).await?; // The first one touches the memory.
    let (mut count, mut best) = (1, copies(1).await?);
    while best < LONG && count < MOST_COPIES {
        count *= 2;
        best = copies(count).await?;
    }
    for _ in 0..2 {
        best = best.min(copies(count).await?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    let moved = (2 * bytes * u64::from(count)) as f64;
    Ok(moved / best.as_secs_f64().max(1e-9))
}

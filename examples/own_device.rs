//! A program that owns wgpu: its own compute pass and the network in one submission, frame after frame, with
//! nothing between them leaving the GPU.
//!
//! `cargo run --release --example own_device -- --frames 8`
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::process::ExitCode;

use arguments::{Arguments, Result, finish};
use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Device, Input, Network, NetworkSpec, Session, StreamPool};

const FEATURES: u32 = 16;
/// Timesteps of a frame.
const STEPS: u32 = 4;
const STREAMS: u32 = 3;

/// The program's own work: samples of an oscillator for each stream, `[T, B, I]`.
const OSCILLATOR: &str = "
@group(0) @binding(0) var<uniform> frame: vec4<f32>;
@group(0) @binding(1) var<storage, read_write> samples: array<f32>;
@compute @workgroup_size(64) fn oscillate(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&samples) {
        samples[id.x] = sin(0.37 * f32(id.x) + frame.x);
    }
}";

fn main() -> ExitCode {
    finish("own_device", Arguments::read(&["--frames"]).and_then(run))
}

fn run((args, rest): (Arguments, Vec<String>)) -> Result<()> {
    if let Some(word) = rest.first() {
        return Err(format!("expected options alone, got {word:?}").into());
    }
    let frames = args.get("--frames", 8u16)?;
    let (device, queue) = pollster::block_on(open())?;
    println!("the program's own device: {}", device.adapter_info().name);
    let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", FEATURES as usize, 8))];
    let network = Network::random(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, 1)?;
    let session = Session::new(&Device::from_wgpu(device.clone(), queue.clone()), &network)?;
    let pool = StreamPool::new(session, STREAMS as usize)?;
    let streams: Vec<_> = (0..STREAMS).map(|_| pool.open()).collect::<std::result::Result<_, _>>()?;
    let mut network_run = pool.prepare(&streams, STEPS as usize)?;
    let [input_bytes, output_bytes] = network_run.bytes();

    let buffer = |size, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let samples = buffer(input_bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let frame = buffer(16, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
    // A renderer would use these on the GPU; here they are printed.
    let answers = buffer(output_bytes, wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST);
    let read = buffer(output_bytes, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
    let pipeline = oscillator(&device);
    let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: frame.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: samples.as_entire_binding() },
        ],
    });

    let mut last = Vec::new();
    for number in 0..frames {
        queue.write_buffer(&frame, 0, bytemuck::cast_slice(&[f32::from(number), 0.0, 0.0, 0.0]));
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bindings, &[]);
            pass.dispatch_workgroups((STEPS * STREAMS * FEATURES).div_ceil(64), 1, 1);
        }
        pool.encode(&mut network_run, &mut encoder, &samples, &answers)?;
        encoder.copy_buffer_to_buffer(&answers, 0, &read, 0, output_bytes);
        queue.submit([encoder.finish()]);
        read.map_async(wgpu::MapMode::Read, .., |_| {});
        device.poll(wgpu::PollType::wait_indefinitely())?;
        last = bytemuck::pod_collect_to_vec::<u8, f32>(&read.get_mapped_range(..)?);
        read.unmap();
        println!("frame {number}: stream 0 ends with {:+.4?}", &last[last.len() - 24..][..4]);
    }
    check(&network, frames, &last)
}

async fn open() -> Result<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 8, ..wgpu::Limits::downlevel_defaults() };
    let limits = limits.using_resolution(adapter.limits());
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    Ok(adapter.request_device(&descriptor).await?)
}

fn oscillator(device: &wgpu::Device) -> wgpu::ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("oscillator"),
        source: wgpu::ShaderSource::Wgsl(OSCILLATOR.into()),
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("oscillator"),
        layout: None,
        module: &module,
        entry_point: Some("oscillate"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}

/// The last frame must be what the CPU makes of all frames.
fn check(network: &Network, frames: u16, last: &[f32]) -> Result<()> {
    let per_frame = u16::try_from(STEPS * STREAMS * FEATURES)?;
    let all: Vec<f32> = (0..frames)
        .flat_map(|frame| (0..per_frame).map(move |i| (0.37 * f32::from(i) + f32::from(frame)).sin()))
        .collect();
    let shape = [usize::from(frames) * STEPS as usize, STREAMS as usize, FEATURES as usize];
    let exact = Session::new(&Device::cpu(), network)?.run(Input::features(&all, shape), None)?.values;
    let pairs = last.iter().zip(&exact[exact.len() - last.len()..]);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference from the CPU: {worst:.1e}");
    if worst < 1e-3 { Ok(()) } else { Err(format!("expected the CPU's numbers, got {worst:e} off").into()) }
}

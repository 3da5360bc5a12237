//! A network inside a program that owns wgpu learns while the program runs: between two frames it takes as many
//! training steps as a budget of time allows, on the same device; the first is recorded into the frame's own encoder.
//!
//! The network predicts the next sample of a signal. It was trained for one frequency; the signal that it meets has
//! another.
//!
//! `cargo run --release --example fine_tune -- --frames 60 --budget 8` (milliseconds for a frame)
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use arguments::{Arguments, Result, finish};
use gatefold::network::{Activation, DenseSpec, Init, LayerSpec, RecurrentSpec};
use gatefold::train::{Adam, Answers, Dataset, Fit, Loss, Next, TrainOptions, Trainer};
use gatefold::{Device, Input, Network, NetworkSpec};

/// Samples that the network reads at once.
const STEPS: u16 = 32;
const STREAMS: u16 = 8;
const HIDDEN: usize = 16;

fn main() -> ExitCode {
    finish("fine_tune", Arguments::read(&["--frames", "--budget"]).and_then(run))
}

fn run((args, rest): (Arguments, Vec<String>)) -> Result<()> {
    if let Some(word) = rest.first() {
        return Err(format!("expected options alone, got {word:?}").into());
    }
    let (frames, budget) = (args.get("--frames", 60u16)?, Duration::from_millis(args.get("--budget", 8u64)?));
    if budget.is_zero() {
        return Err("--budget: expected at least 1 ms, got 0".into());
    }
    let deployed = trained_before()?;

    let (device, queue) = pollster::block_on(open())?;
    println!("the program's own device: {}", device.adapter_info().name);
    let screen = screen(&device);
    let gatefold_device = Device::from_wgpu(device.clone(), queue.clone());
    let adam = Adam { learning_rate: 5e-3, ..Adam::default() };
    let mut trainer = Trainer::new(&gatefold_device, &deployed, TrainOptions::new(Loss::Mse).optimizer(adam))?;
    let signal = signal(0.45)?;
    let batch = signal.batches(&deployed, STREAMS.into()).next().ok_or("expected a batch, got none")?;
    let before = trainer.evaluate(&batch.batch())?.loss;
    // The first step builds the pipelines; a program takes it while it loads.
    trainer.step(&batch.batch())?;

    let (mut longest, mut over) = (Duration::ZERO, 0);
    for frame in 0..frames {
        // The frame's own work, and a step of training in the same submission.
        let start = Instant::now();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        draw(&mut encoder, &screen, f64::from(frame) / f64::from(frames));
        let mut encoder = Some(encoder);
        // A step begins where one as long as the longest of this frame still fits; the first always does.
        let mut step_time = Duration::ZERO;
        while start.elapsed() + step_time < budget {
            let step = Instant::now();
            let mut recorded = encoder.take().unwrap_or_else(|| device.create_command_encoder(&Default::default()));
            trainer.encode(&mut recorded, &batch.batch())?;
            queue.submit([recorded.finish()]);
            let skipped = trainer.encoded()?.iter().any(|measured| measured.skipped);
            step_time = step_time.max(step.elapsed());
            if skipped {
                return Err("expected finite gradients, got others".into());
            }
        }
        longest = longest.max(start.elapsed());
        over += u32::from(start.elapsed() > budget);
    }
    let after = trainer.evaluate(&batch.batch())?.loss;
    println!("{} steps in {frames} frames of {budget:?} for training", trainer.steps());
    println!("longest training of a frame: {longest:.1?}; frames over the budget: {over}");
    println!("mean squared error before {before:.5}, after {after:.5}");
    check(&trainer, after)?;
    if after < before { Ok(()) } else { Err(format!("expected less than {before}, got {after}").into()) }
}

/// The network as it is shipped: it knows one frequency.
fn trained_before() -> Result<Network> {
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: HIDDEN,
        out_features: 1,
        bias: true,
        activation: Activation::Linear,
    };
    let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 1, HIDDEN)), LayerSpec::Dense(dense)];
    let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
    let network = Network::initialized(spec, Init::PyTorch, 1)?;
    let adam = Adam { learning_rate: 1e-2, ..Adam::default() };
    let mut trainer = Trainer::new(&Device::cpu(), &network, TrainOptions::new(Loss::Mse).optimizer(adam))?;
    trainer.fit(&signal(0.2)?, None, &Fit::new(STREAMS.into()).epochs(150), |_| Next::Continue)?;
    Ok(Network::clone(&*trainer.network()?))
}

/// Samples of oscillators that begin at different times, each with the next sample as its answer.
fn signal(frequency: f32) -> Result<Dataset> {
    let sample = |stream: u16, at: u16| (frequency * f32::from(at) + 0.8 * f32::from(stream)).sin();
    let stream = |first: u16| (0..STREAMS).map(move |stream| (first..first + STEPS).map(move |at| sample(stream, at)));
    let [read, next] = [0, 1].map(|first| stream(first).map(Iterator::collect).collect::<Vec<Vec<f32>>>());
    Ok(Dataset::features(read, 1, Answers::Values(next))?)
}

async fn open() -> Result<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 8, ..wgpu::Limits::downlevel_defaults() };
    let limits = limits.using_resolution(adapter.limits());
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    Ok(adapter.request_device(&descriptor).await?)
}

/// What the program draws on.
fn screen(device: &wgpu::Device) -> wgpu::TextureView {
    let texture = device.create_texture(&wgpu::TextureDescriptor {
        label: Some("screen"),
        size: wgpu::Extent3d { width: 320, height: 200, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
        view_formats: &[],
    });
    texture.create_view(&wgpu::TextureViewDescriptor::default())
}

/// The program's own work of a frame.
fn draw(encoder: &mut wgpu::CommandEncoder, screen: &wgpu::TextureView, grey: f64) {
    let color = wgpu::Color { r: grey, g: grey, b: grey, a: 1.0 };
    let attachment = wgpu::RenderPassColorAttachment {
        view: screen,
        depth_slice: None,
        resolve_target: None,
        ops: wgpu::Operations { load: wgpu::LoadOp::Clear(color), store: wgpu::StoreOp::Store },
    };
    let attachments = [Some(attachment)];
    drop(
        encoder
            .begin_render_pass(&wgpu::RenderPassDescriptor { color_attachments: &attachments, ..Default::default() }),
    );
}

/// The adapted network, run on the program's device, must be off by as much as the trainer says.
fn check(trainer: &Trainer, loss: f64) -> Result<()> {
    let set = |first: u16| -> Vec<f32> { (first..first + STEPS).map(|at| (0.45 * f32::from(at)).sin()).collect() };
    let output = trainer.session()?.run(Input::features(&set(0), [STEPS.into(), 1, 1]), None)?;
    let errors = output.values.iter().zip(set(1)).map(|(got, next)| f64::from(got - next).powi(2));
    let mean = errors.sum::<f64>() / f64::from(STEPS);
    println!("of the first oscillator, by a session with the adapted network: {mean:.5}");
    if mean < 10.0 * loss { Ok(()) } else { Err(format!("expected about {loss}, got {mean}").into()) }
}

//! The network inside an application: its device, its encoder, its buffers; several runs in flight; a device that is lost.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gatefold::compare::{Tolerance, compare};
use gatefold::network::{EmbeddingSpec, LayerSpec, RecurrentSpec};
use gatefold::unstable::reference::Reference;
use gatefold::{Device, Error, Input, Network, RandomInput, Session, State, StreamId, StreamPool};

use crate::common::{device, lstm, own_device, random_state, spec};

const WIDTH: usize = 6;

fn network() -> Network {
    let layer = RecurrentSpec { num_layers: 2, initial_state: true, ..lstm(WIDTH, 10) };
    Network::random(spec(vec![LayerSpec::Lstm(layer)]), 1).unwrap()
}

fn features(input: &RandomInput) -> &[f32] {
    match input {
        RandomInput::Features(values, _) => values,
        other => panic!("expected vectors, got {other:?}"),
    }
}

/// An application with a compute pass of its own, which doubles what it reads.
struct App {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    raw: wgpu::Buffer,
    doubled: wgpu::Buffer,
    answer: wgpu::Buffer,
    read: wgpu::Buffer,
}

impl App {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue, [input, output]: [u64; 2]) -> Self {
        let source = "@group(0) @binding(0) var<storage, read> from_raw: array<f32>;
            @group(0) @binding(1) var<storage, read_write> doubled: array<f32>;
            @compute @workgroup_size(64) fn double(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < arrayLength(&doubled) { doubled[id.x] = 2.0 * from_raw[id.x]; }
            }";
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("double"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        Self {
            pipeline,
            raw: buffer(input, storage),
            doubled: buffer(input, storage),
            answer: buffer(output, storage),
            read: buffer(output, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            device: device.clone(),
            queue: queue.clone(),
        }
    }

    /// Doubles `values`, runs what `network` records, and reads the answer: one submission.
    fn frame(
        &self,
        values: &[f32],
        network: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer, &wgpu::Buffer),
    ) -> Vec<f32> {
        let halves: Vec<f32> = values.iter().map(|x| x / 2.0).collect();
        self.queue.write_buffer(&self.raw, 0, bytemuck::cast_slice(&halves));
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[&self.raw, &self.doubled]
                .into_iter()
                .zip(0..)
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect::<Vec<_>>(),
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(u32::try_from(values.len()).unwrap().div_ceil(64), 1, 1);
        }
        network(&mut encoder, &self.doubled, &self.answer);
        encoder.copy_buffer_to_buffer(&self.answer, 0, &self.read, 0, self.read.size());
        self.queue.submit([encoder.finish()]);
        self.read.map_async(wgpu::MapMode::Read, .., |_| {});
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let answer = bytemuck::pod_collect_to_vec(&self.read.get_mapped_range(..).unwrap());
        self.read.unmap();
        answer
    }
}

fn assert_near(got: &[f32], exact: &[f64], steps: usize) {
    let comparison = compare(got, exact, Tolerance::f32(steps));
    assert!(comparison.passed, "{comparison:?}");
}

#[test]
fn a_run_goes_into_the_applications_submission() {
    let device = device();
    let (instance, own, queue) = own_device(device.info());
    let network = network();
    let session = Session::new(&Device::from_wgpu(own.clone(), queue.clone()), &network).unwrap();
    let run = session.prepare(7, 3).unwrap();
    assert_eq!(run.bytes(), [4 * 7 * 3 * WIDTH as u64, 4 * 7 * 3 * 10]);
    let app = App::new(&own, &queue, run.bytes());
    let mut objects = 0;
    for seed in 0..4 {
        let input = RandomInput::new(&network, 7, 3, seed).unwrap();
        let exact = Reference::<f64>::new(&network).forward(input.as_input(), None).unwrap();
        // Another run in between of any size must not disturb it.
        session.run(RandomInput::new(&network, 9, 2, 77).unwrap().as_input(), None).unwrap();
        let answer = app.frame(features(&input), |encoder, from, to| session.encode(&run, encoder, from, to).unwrap());
        assert_near(&answer, exact.stages.last().unwrap(), 7);
        let buffers = instance.generate_report().unwrap().hub.buffers.num_allocated;
        assert!(seed == 0 || buffers == objects, "recording makes no buffers");
        objects = buffers;
    }
}

/// Streams advanced by the application's submissions and by the pool's own, in alternation, while the pool grows.
#[test]
fn streams_run_in_the_applications_submission() {
    let window = r#"[{"type": "conv1d", "name": "window", "in_channels": 6, "out_channels": 10, "kernel_size": 3,
        "dilation": 2, "padding": {"zeros": {"left": 4, "right": 0}}}]"#;
    let window = Network::random(spec(serde_json::from_str(window).unwrap()), 1).unwrap();
    [network(), window].iter().for_each(streams_in_the_applications_submission);
}

fn streams_in_the_applications_submission(network: &Network) {
    let device = device();
    let (_instance, own, queue) = own_device(device.info());
    let session = Session::new(&Device::from_wgpu(own.clone(), queue.clone()), network).unwrap();
    let pool = StreamPool::new(session, 3).unwrap();
    let [a, b, c] = [(); 3].map(|()| pool.open().unwrap());
    let mut run = pool.prepare(&[c, a], 2).unwrap();
    assert_eq!(run.streams(), [c, a]);
    let app = App::new(&own, &queue, run.bytes());
    let untouched = pool.snapshot(b).unwrap();
    let input = RandomInput::new(network, 12, 2, 5).unwrap();
    let values = features(&input);
    let exact = Reference::<f64>::new(network).forward(input.as_input(), None).unwrap();
    let (step_in, step_out) = (2 * WIDTH, 2 * 10);
    for turn in 0..6 {
        let chunk = &values[turn * 2 * step_in..][..2 * step_in];
        let answer = if turn % 3 == 2 {
            let row = |row: usize| -> Vec<f32> {
                (0..2).flat_map(|t| chunk[t * step_in + row * WIDTH..][..WIDTH].to_vec()).collect()
            };
            let rows = [row(0), row(1)];
            let calls = [(c, Input::features(&rows[0], [2, 1, WIDTH])), (a, Input::features(&rows[1], [2, 1, WIDTH]))];
            let advanced = pool.advance(&calls).unwrap();
            (0..2).flat_map(|t| [0, 1].map(|r| advanced.values(r)[t * 10..][..10].to_vec()).concat()).collect()
        } else {
            app.frame(chunk, |encoder, from, to| pool.encode(&mut run, encoder, from, to).unwrap())
        };
        assert_near(&answer, &exact.stages.last().unwrap()[turn * 2 * step_out..][..2 * step_out], 12);
        if turn == 3 {
            // A larger pool lies in other buffers.
            pool.open().unwrap();
            assert_eq!(pool.capacity(), 6);
        }
    }
    assert_eq!(pool.snapshot(b).unwrap(), untouched);
    pool.close(c).unwrap();
    let mut encoder = own.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let error = pool.encode(&mut run, &mut encoder, &app.doubled, &app.answer).unwrap_err();
    assert!(matches!(error, Error::Stream { .. }), "{error}");
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let device = device();
    let (_instance, own, queue) = own_device(device.info());
    let network = network();
    let session = Session::new(&Device::from_wgpu(own.clone(), queue.clone()), &network).unwrap();
    let run = session.prepare(2, 1).unwrap();
    let [input, output] = run.bytes();
    let buffer = |size, usage| {
        own.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let (from, to) = (buffer(input, wgpu::BufferUsages::COPY_SRC), buffer(output, wgpu::BufferUsages::COPY_DST));
    let short = buffer(output - 4, wgpu::BufferUsages::COPY_DST);
    let mut encoder = own.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for (from, to, word) in
        [(&to, &to, "input buffer"), (&from, &from, "output buffer"), (&from, &short, "output buffer")]
    {
        let error = session.encode(&run, &mut encoder, from, to).unwrap_err().to_string();
        assert!(error.starts_with(word), "{error}");
    }
    session.encode(&run, &mut encoder, &from, &to).unwrap();
    let cpu = Session::new(&Device::cpu(), &network).unwrap();
    assert!(matches!(cpu.prepare(2, 1), Err(Error::Unsupported { .. })));
    let pool = StreamPool::new(cpu, 1).unwrap();
    let id = pool.open().unwrap();
    assert!(matches!(pool.prepare(&[id], 1), Err(Error::Unsupported { .. })));
    let embedding = EmbeddingSpec { name: "embedding".into(), num_embeddings: 5, embedding_dim: 3, mask_zero: true };
    let masks = Network::random(spec(vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(lstm(3, 4))]), 1).unwrap();
    let session = Session::new(device, &masks).unwrap();
    assert!(matches!(session.prepare(2, 1), Err(Error::Unsupported { .. })));
}

/// Several runs are in flight before the first is read, and submitting one does not wait for its end.
/// (lavapipe itself may wait for the first when the second is submitted, so only the first is timed.)
#[test]
fn runs_in_flight_do_not_block() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(64, 128))]), 1).unwrap();
    let session = Session::new(device, &network).unwrap();
    let inputs = [1, 2, 3].map(|seed| RandomInput::new(&network, 400, 4, seed).unwrap());
    let alone = inputs.each_ref().map(|input| session.run(input.as_input(), None).unwrap());
    let mut runs: Vec<_> = inputs.iter().map(|input| Box::pin(session.run_async(input.as_input(), None))).collect();
    let mut idle = Context::from_waker(Waker::noop());
    let start = Instant::now();
    let mut first = Vec::new();
    let mut submitted = Duration::ZERO;
    for run in &mut runs {
        first.push(match run.as_mut().poll(&mut idle) {
            Poll::Ready(output) => Some(output.unwrap().values),
            Poll::Pending => None,
        });
        if first.len() == 1 {
            submitted = start.elapsed();
        }
    }
    let in_flight = first.iter().filter(|first| first.is_none()).count();
    let rest = runs.into_iter().zip(first);
    let answers: Vec<Vec<f32>> =
        rest.map(|(run, first)| first.unwrap_or_else(|| pollster::block_on(run).unwrap().values)).collect();
    assert_eq!(answers, alone.each_ref().map(|output| output.values.clone()));
    // llvmpipe's GL computes while it is submitted to, which counts as encoding.
    let (wall, encoding) = (alone[1].timing.wall, alone[1].timing.encoding.unwrap());
    eprintln!("submitted in {submitted:?}, a run takes {encoding:?} of {wall:?}, {in_flight} of 3 in flight");
    let least = if device.info().backend == "gl" { 1 } else { 2 };
    assert!(in_flight >= least, "a run waited: {in_flight} of 3 in flight");
    assert!(submitted < 2 * encoding + Duration::from_millis(20), "{submitted:?} of {wall:?}");
}

/// A run's result arrives as soon as it is done, however much has been submitted after it.
#[test]
fn a_run_does_not_wait_for_later_runs() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(64, 128))]), 1).unwrap();
    let session = Session::new(device, &network).unwrap();
    let [short, long] = [1, 400].map(|steps| RandomInput::new(&network, steps, 4, 1).unwrap());
    // Plans are made ready.
    for input in [&short, &long] {
        session.run(input.as_input(), None).unwrap();
    }
    let mut idle = Context::from_waker(Waker::noop());
    // A run that ends before this thread looks at it says nothing: on a busy machine the test tries again. A session
    // that makes the short run wait for the long one fails every try.
    for _ in 0..20 {
        let mut first = pin!(session.run_async(short.as_input(), None));
        let mut later = pin!(session.run_async(long.as_input(), None));
        let first_done = first.as_mut().poll(&mut idle).is_ready();
        let later_done = later.as_mut().poll(&mut idle).is_ready();
        if first_done || later_done {
            continue;
        }
        pollster::block_on(first).unwrap();
        if later.as_mut().poll(&mut idle).is_ready() {
            continue;
        }
        pollster::block_on(later).unwrap();
        return;
    }
    // llvmpipe's GL computes inside the submission, so a run has often ended before it is looked at.
    assert_eq!(device.info().backend, "gl", "the short run waited for the long one in every try");
}

/// The same through a pool: each batch continues the one before, which is still on its way.
#[test]
fn batches_in_flight_follow_each_other() {
    let device = device();
    let network = network();
    let pool = StreamPool::new(Session::new(device, &network).unwrap(), 1).unwrap();
    let id = pool.open().unwrap();
    let input = RandomInput::new(&network, 12, 1, 5).unwrap();
    let exact = Reference::<f64>::new(&network).forward(input.as_input(), None).unwrap();
    let chunks: Vec<[_; 1]> =
        features(&input).chunks(4 * WIDTH).map(|chunk| [(id, Input::features(chunk, [4, 1, WIDTH]))]).collect();
    let mut runs: Vec<_> = chunks.iter().map(|chunk| Box::pin(pool.advance_async(chunk))).collect();
    let mut idle = Context::from_waker(Waker::noop());
    let mut answers = vec![Vec::new(); 3];
    for (run, answer) in runs.iter_mut().zip(&mut answers) {
        if let Poll::Ready(ready) = run.as_mut().poll(&mut idle) {
            *answer = ready.unwrap().values(0).to_vec();
        }
    }
    for (run, answer) in runs.into_iter().zip(&mut answers) {
        if answer.is_empty() {
            *answer = pollster::block_on(run).unwrap().values(0).to_vec();
        }
    }
    assert_near(&answers.concat(), exact.stages.last().unwrap(), 12);
}

/// Whatever needs the device first after an application's was lost returns that error. A fork, a reset and a new stream need it when
/// they are advanced.
#[test]
fn every_call_on_a_lost_device_returns_that_error() {
    type Call = fn(&StreamPool, StreamId, &State) -> Result<(), Error>;
    let device = device();
    fn advance(pool: &StreamPool, id: StreamId) -> Result<(), Error> {
        pool.advance(&[(id, Input::features(&[0.5; WIDTH], [1, 1, WIDTH]))]).map(drop)
    }
    let network = network();
    let calls: [(&str, Call); 9] = [
        ("reset", |pool, id, _| pool.reset(id).and_then(|()| advance(pool, id))),
        ("restore", |pool, id, state| pool.restore(id, state)),
        ("fork", |pool, id, _| pool.fork(id).and_then(|fork| advance(pool, fork))),
        ("snapshot", |pool, id, _| pool.snapshot(id).map(drop)),
        ("open", |pool, _, _| pool.open().and_then(|id| advance(pool, id))),
        ("advance", |pool, id, _| advance(pool, id)),
        ("prepare", |pool, id, _| pool.prepare(&[id], 1).map(drop)),
        ("run", |pool, _, _| pool.session().run(Input::features(&[0.5; WIDTH], [1, 1, WIDTH]), None).map(drop)),
        ("run_async", |pool, _, _| {
            let input = Input::features(&[0.5; WIDTH], [1, 1, WIDTH]);
            pollster::block_on(pool.session().run_async(input, None)).map(drop)
        }),
    ];
    for (name, call) in calls {
        let (_instance, own, queue) = own_device(device.info());
        let session = Session::new(&Device::from_wgpu(own.clone(), queue), &network).unwrap();
        let pool = StreamPool::new(session, 4).unwrap();
        let id = pool.open().unwrap();
        let state = random_state(&network, 1, 1);
        pool.restore(id, &state).unwrap();
        assert!(call(&pool, id, &state).is_ok(), "{name} on a device that works");
        own.destroy();
        let error = call(&pool, id, &state).expect_err(name);
        assert!(matches!(error, Error::DeviceLost { .. }), "{name}: {error}");
        assert!(pool.session().counters().device_lost, "{name}");
        assert!(call(&pool, id, &state).is_err(), "{name}, once more");
    }
}

/// A device destroyed in the middle says so, and another continues from the last snapshots.
#[test]
fn a_destroyed_device_loses_nothing_that_was_kept() {
    let device = device();
    let network = network();
    let input = RandomInput::new(&network, 10, 1, 5).unwrap();
    let values = features(&input);
    let exact = Reference::<f64>::new(&network).forward(input.as_input(), None).unwrap();
    let chunk = |from: usize, to: usize| Input::features(&values[from * WIDTH..to * WIDTH], [to - from, 1, WIDTH]);

    let (_instance, own, queue) = own_device(device.info());
    let session = Session::new(&Device::from_wgpu(own.clone(), queue), &network).unwrap();
    let pool = StreamPool::new(session, 2).unwrap();
    let (id, other) = (pool.open().unwrap(), pool.open().unwrap());
    pool.restore(other, &random_state(&network, 1, 1)).unwrap();
    pool.advance(&[(id, chunk(0, 4))]).unwrap();
    let kept = pool.snapshot(id).unwrap();
    pool.advance(&[(id, chunk(4, 6))]).unwrap();
    own.destroy();
    let lost = |error: Error| assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    lost(pool.advance(&[(id, chunk(6, 10))]).unwrap_err());
    assert!(pool.session().counters().device_lost);
    lost(pool.snapshot(id).unwrap_err());
    lost(pool.open().unwrap_err());
    lost(pool.fork(other).unwrap_err());
    lost(pool.session().run(chunk(0, 1), None).unwrap_err());
    lost(pollster::block_on(pin!(pool.session().run_async(chunk(0, 1), None))).unwrap_err());

    let pool = StreamPool::new(Session::new(device, &network).unwrap(), 1).unwrap();
    let id = pool.open().unwrap();
    pool.restore(id, &kept).unwrap();
    let advanced = pool.advance(&[(id, chunk(4, 10))]).unwrap();
    assert_near(advanced.values(0), &exact.stages.last().unwrap()[40..], 10);
}

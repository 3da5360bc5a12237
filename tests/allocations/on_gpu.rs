//! An additional timestep costs the host only what wgpu allocates for one more dispatch.

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Device, DeviceInfo, PlanOptions, RandomInput, Session, Strategy};

use crate::{allocations, network, support};

/// T of two runs. What wgpu keeps in lists that double grows at the same lengths for both sides.
const FEW: usize = 100;
const MANY: usize = 800;

/// The smallest of several counts, because the driver and wgpu sometimes free memory.
fn least(mut run: impl FnMut()) -> usize {
    // After two runs everything that is made once exists.
    run();
    run();
    (0..5).map(|_| allocations(&mut run)).min().unwrap()
}

/// Of a warm run of T `steps` with a dispatch for each; `disturb` is done in addition for every timestep.
fn ours(device: &Device, steps: usize, disturb: impl Fn(usize)) -> usize {
    let network = network(vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 3, 8))]);
    let session = Session::with_options(device, &network, PlanOptions::default().strategy(Strategy::Step)).unwrap();
    let plan = session.plan(steps, 2).unwrap().expect("a GPU has a plan");
    assert_eq!((plan.dispatch_count(), plan.submissions()), (steps as u64 + 1, 1), "{plan}");
    let input = RandomInput::new(&network, steps, 2, 1).unwrap();
    least(|| {
        session.run(input.as_input(), None).unwrap();
        (0..steps).for_each(&disturb);
    })
}

/// A kernel that does nothing, dispatched as gatefold dispatches a timestep: its number, then the launch.
struct Bare {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    /// The numbers that a dynamic offset selects, where there are no immediates.
    table: Option<(wgpu::BindGroup, u32)>,
}

impl Bare {
    fn new(info: &DeviceInfo) -> Self {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let same = |adapter: &wgpu::Adapter| {
            let found = adapter.get_info();
            found.name == info.name && found.backend.to_str() == info.backend
        };
        let adapter = adapters.into_iter().find(same).expect("the adapter under test");
        let required_features = adapter.features() & wgpu::Features::IMMEDIATES;
        let immediates = !required_features.is_empty();
        let immediate_size = if immediates { 4 } else { 0 };
        let required_limits = wgpu::Limits {
            max_immediate_size: immediate_size,
            ..wgpu::Limits::downlevel_defaults().using_resolution(adapter.limits())
        };
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let (place, ty) = match immediates {
            true => ("var<immediate>", wgpu::BufferUsages::STORAGE),
            false => ("@group(1) @binding(0) var<uniform>", wgpu::BufferUsages::UNIFORM),
        };
        let source = format!(
            "{place} step: u32; @group(0) @binding(0) var<storage, read_write> out: array<u32>;
             @compute @workgroup_size(1) fn main() {{ out[0] = step; }}"
        );
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let layout = |ty, has_dynamic_offset| {
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &[wgpu::BindGroupLayoutEntry {
                    binding: 0,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                    count: None,
                }],
            })
        };
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let group = |layout: &wgpu::BindGroupLayout, buffer: &wgpu::Buffer| {
            let size = wgpu::BufferSize::new(4);
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size });
            let entries = &[wgpu::BindGroupEntry { binding: 0, resource }];
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries })
        };
        let out_layout = layout(wgpu::BufferBindingType::Storage { read_only: false }, false);
        let table_layout = layout(wgpu::BufferBindingType::Uniform, true);
        let stride = device.limits().min_uniform_buffer_offset_alignment;
        let table = (!immediates).then(|| (group(&table_layout, &buffer(MANY as u64 * u64::from(stride), ty)), stride));
        let layouts = [Some(&out_layout), Some(&table_layout)];
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &layouts[..if immediates { 1 } else { 2 }],
            immediate_size,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let group = group(&out_layout, &buffer(4, wgpu::BufferUsages::STORAGE));
        Self { device, queue, pipeline, group, table }
    }

    /// Of so many dispatches in one submission that is waited for.
    fn count(&self, dispatches: usize) -> usize {
        least(|| {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            for number in (0..).take(dispatches) {
                match &self.table {
                    None => pass.set_immediates(0, &u32::to_ne_bytes(number)),
                    Some((table, stride)) => pass.set_bind_group(1, table, &[number * stride]),
                }
                pass.dispatch_workgroups(1, 1, 1);
            }
            drop(pass);
            self.queue.submit([encoder.finish()]);
            self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        })
    }
}

#[test]
fn a_timestep_more_costs_one_more_dispatch_and_nothing_of_ours() {
    let device = support::device_under_test();
    let bare = Bare::new(device.info());
    let wgpus = bare.count(MANY) - bare.count(FEW);
    let counts = [FEW, MANY].map(|steps| ours(&device, steps, |_| {}));
    eprintln!("{}: {counts:?} in runs of {FEW} and {MANY} steps; wgpu alone: {wgpus} more", device.info());
    let more = counts[1] - counts[0];
    assert!(more <= wgpus, "{more} allocations for {} timesteps, {wgpus} of wgpu alone", MANY - FEW);
    // The negative control: one small allocation per timestep must be seen.
    let disturbed = [FEW, MANY].map(|steps| ours(&device, steps, |step| drop(std::hint::black_box(Box::new(step)))));
    assert!(disturbed[1] - disturbed[0] >= wgpus + (MANY - FEW) / 2, "{disturbed:?}");
}

//! The device under test, and functions that the tests share.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{
    CpuOptions, Device, DeviceChoice, DeviceOptions, Input, Network, NetworkSpec, PlanOptions, Session, State,
    StreamPool, Tensor, verify,
};

use crate::device_under_test::{choice, opened};
pub use crate::repository::in_repository;
pub use crate::selection::{all_are_run, selected};

/// Which instruction set to test on the CPU device; the widest when unset.
const TEST_INSTRUCTIONS: &str = "GATEFOLD_TEST_INSTRUCTIONS";

/// The device under test, opened with options.
pub fn device_with(options: DeviceOptions) -> Device {
    opened(Device::open_with(&choice(), options))
}

/// The device under test; one per process, as drivers like it.
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let choice = choice();
        let device = opened(match std::env::var(TEST_INSTRUCTIONS) {
            Ok(set) if choice == DeviceChoice::Cpu => {
                Device::cpu_with(CpuOptions { instruction_set: Some(set.parse().unwrap()), ..CpuOptions::default() })
            }
            _ => Device::open(&choice),
        });
        eprintln!("device under test: {} {}", device.info(), device.info().driver);
        device
    })
}

/// The adapter under test as an application finds it.
pub fn own_adapter(info: &gatefold::DeviceInfo) -> (wgpu::Instance, wgpu::Adapter) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let same = |adapter: &wgpu::Adapter| {
        let found = adapter.get_info();
        found.name == info.name && found.backend.to_str() == info.backend
    };
    (instance, adapters.into_iter().find(same).expect("the adapter under test"))
}

/// The adapter under test opened as an application does it: itself, with WebGPU's least limits.
pub fn own_device(info: &gatefold::DeviceInfo) -> (wgpu::Instance, wgpu::Device, wgpu::Queue) {
    let (instance, adapter) = own_adapter(info);
    let limits = wgpu::Limits::downlevel_defaults().using_resolution(adapter.limits());
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 8, ..limits };
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    (instance, device, queue)
}

/// A network of these layers without text.
pub fn spec(layers: Vec<LayerSpec>) -> NetworkSpec {
    NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }
}

/// An LSTM layer with PyTorch's defaults.
pub fn lstm(input_size: usize, hidden_size: usize) -> RecurrentSpec {
    RecurrentSpec::new("lstm", input_size, hidden_size)
}

/// Loads `network` and asserts that every stage and state agrees with the f64 reference.
pub fn assert_right(device: &Device, network: &Network, options: PlanOptions, input: Input<'_>, state: Option<&State>) {
    let session = Session::with_options(device, network, options).unwrap();
    let verification = verify(&session, network, input, state).unwrap();
    let failures: Vec<_> = verification.checks.iter().filter(|check| !check.comparison.passed).collect();
    assert!(failures.is_empty(), "{}: {failures:#?}", device.info());
}

/// As [`assert_right`], but errors as large as those that f32 alone makes pass too, as `verify` judges: for networks that
/// multiply rounding errors, as a normalization by a small variance does.
pub fn assert_right_as_f32(device: &Device, network: &Network, input: Input<'_>, state: Option<&State>) {
    let session = Session::new(device, network).unwrap();
    let verification = verify(&session, network, input, state).unwrap();
    let failures: Vec<_> = verification.checks.iter().filter(|check| !check.passed()).collect();
    assert!(failures.is_empty(), "{}: {failures:#?}", device.info());
}

/// The network with one change to one of its tensors.
pub fn changed(network: &Network, name: &str, change: impl FnOnce(&mut Vec<f32>)) -> Network {
    let mut tensors: BTreeMap<String, Tensor> = network.tensors().clone();
    let tensor = &tensors[name];
    let mut data = tensor.data().to_vec();
    change(&mut data);
    let tensor = Tensor::new(tensor.shape().to_vec(), data).unwrap();
    tensors.insert(name.into(), tensor);
    Network::new(network.spec().clone(), tensors).unwrap()
}

/// A state of random numbers in ±1; the weights of heads are shares.
pub fn random_state(network: &Network, batch: usize, seed: u64) -> State {
    let mut generator = fastrand::Rng::with_seed(seed);
    let mut state = State::zeros(network, batch).unwrap();
    for part in state.layers.iter_mut().flat_map(|layer| &mut layer.parts) {
        let rows = part.shape.last().copied().unwrap_or(1) as f32;
        let number = |x: f32| match &*part.name {
            // Shares of the rows of a memory.
            "weights" => x / rows,
            // The normalizer of an sLSTM that has taken a step.
            "n" => 1.0 + x,
            _ => x * 2.0 - 1.0,
        };
        part.data.iter_mut().for_each(|x| *x = number(generator.f32()));
    }
    state
}

/// The device under test, and the CPU.
pub fn devices(device: &Device) -> [Device; 2] {
    [device.clone(), Device::cpu()]
}

/// A pool of streams of `network`.
pub fn pool(device: &Device, network: &Network, capacity: usize) -> StreamPool {
    StreamPool::new(Session::new(device, network).unwrap(), capacity).unwrap()
}

//! The device under test and what the batteries share.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{
    CpuOptions, Device, DeviceChoice, DeviceOptions, Input, Network, NetworkSpec, PlanOptions, Session, State, Tensor,
    verify,
};

pub use crate::repository::in_repository;

/// Set where a missing adapter must fail the run (CI, `test.sh`).
const REQUIRE_ADAPTER: &str = "GATEFOLD_REQUIRE_ADAPTER";
/// Which device to test, as `--device` reads it; any adapter when unset.
const TEST_DEVICE: &str = "GATEFOLD_TEST_DEVICE";
/// Which instruction set to test on the CPU device; the widest when unset.
const TEST_INSTRUCTIONS: &str = "GATEFOLD_TEST_INSTRUCTIONS";

/// Which device is under test.
fn choice() -> DeviceChoice {
    std::env::var(TEST_DEVICE).map_or_else(|_| best(), |text| text.parse().unwrap())
}

/// The device under test, opened with more than usual.
pub fn device_with(options: DeviceOptions) -> Device {
    Device::open_with(&choice(), options).unwrap()
}

/// The device under test; one per process, as drivers like it.
pub fn device() -> Option<&'static Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let choice = choice();
        let opened = match std::env::var(TEST_INSTRUCTIONS) {
            Ok(set) if choice == DeviceChoice::Cpu => {
                Device::cpu_with(CpuOptions { instruction_set: Some(set.parse().unwrap()), ..CpuOptions::default() })
            }
            _ => Device::open(&choice),
        };
        match opened {
            Ok(device) => {
                eprintln!("device under test: {} {}", device.info(), device.info().driver);
                Some(device)
            }
            Err(error) if std::env::var_os(REQUIRE_ADAPTER).is_some() => {
                panic!("{REQUIRE_ADAPTER} is set, but {error}")
            }
            Err(error) => {
                eprintln!("NOT RUN, no adapter: {error}");
                None
            }
        }
    });
    device.as_ref()
}

/// A real GPU if there is one, else a software adapter.
fn best() -> DeviceChoice {
    let real = Device::adapters().iter().any(|adapter| adapter.info.kind.is_gpu());
    if real { DeviceChoice::Gpu } else { DeviceChoice::Software }
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

/// The device under test, or the end of the test.
macro_rules! device_or_return {
    () => {
        match $crate::common::device() {
            Some(device) => device,
            None => return,
        }
    };
}
pub(crate) use device_or_return;

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

/// A state of random numbers in ±1.
pub fn random_state(network: &Network, batch: usize, seed: u64) -> State {
    let mut generator = fastrand::Rng::with_seed(seed);
    let mut state = State::zeros(network, batch).unwrap();
    for layer in &mut state.layers {
        for number in layer.h.iter_mut().chain(&mut layer.c) {
            *number = generator.f32() * 2.0 - 1.0;
        }
    }
    state
}

//! A device that the application owns, and the plan of a session.

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Device, Network, PlanOptions, RandomInput, Session, Strategy};

use crate::common::{assert_right, device, lstm, own_adapter, own_device, spec};

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec { num_layers: 2, ..lstm(6, 24) })]), 41).unwrap()
}

#[test]
fn an_applications_own_device_works() {
    let device = device();
    let (_, own, queue) = own_device(device.info());
    let device = Device::from_wgpu(own.clone(), queue);
    let network = network();
    let input = RandomInput::new(&network, 8, 3, 2).unwrap();
    assert_right(&device, &network, PlanOptions::default(), input.as_input(), None);
    // A lost device is an error, not a panic.
    let session = Session::new(&device, &network).unwrap();
    own.destroy();
    let error = session.run(input.as_input(), None).unwrap_err();
    assert!(matches!(error, gatefold::Error::Gpu { .. } | gatefold::Error::DeviceLost { .. }), "{error}");
}

/// 32 bytes, which Bevy's device asks for on lavapipe, are no divisor of the size of a dispatch's parameters.
#[test]
fn parameters_lie_at_multiples_of_the_devices_alignment() {
    let (_instance, adapter) = own_adapter(device().info());
    let least = adapter.limits().min_uniform_buffer_offset_alignment.max(32);
    let limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 8,
        min_uniform_buffer_offset_alignment: least,
        ..wgpu::Limits::downlevel_defaults().using_resolution(adapter.limits())
    };
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (own, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let network = network();
    let input = RandomInput::new(&network, 8, 3, 2).unwrap();
    assert_right(&Device::from_wgpu(own, queue), &network, PlanOptions::default(), input.as_input(), None);
}

#[test]
fn the_plan_of_a_session_is_its_devices() {
    let device = device();
    let options = PlanOptions::default().strategy(Strategy::Step);
    let session = Session::with_options(device, &network(), options).unwrap();
    let plan = session.plan(10, 2).unwrap().expect("a GPU has a plan");
    // Two levels, each one projection and ten steps.
    assert_eq!(plan.dispatch_count(), 22);
    assert!(Session::new(&Device::cpu(), &network()).unwrap().plan(10, 2).unwrap().is_none());
}

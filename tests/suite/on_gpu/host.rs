//! The costs of a run: time of the host, and memory of the device.

use gatefold::compare::{Tolerance, compare};
use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::unstable::plan::PlanParts;
use gatefold::unstable::reference::Reference;
use gatefold::{Device, Input, Network, PlanOptions, RandomInput, Session, Strategy};

use crate::common::{device, lstm, own_device, spec};

fn network(hidden_size: usize, num_layers: usize) -> Network {
    let layer = RecurrentSpec { num_layers, ..lstm(hidden_size, hidden_size) };
    Network::random(spec(vec![LayerSpec::Lstm(layer)]), 1).unwrap()
}

/// Long-lived objects of the GPU that wgpu knows of.
fn objects(instance: &wgpu::Instance) -> [usize; 7] {
    let report = instance.generate_report().expect("a native wgpu").hub;
    [
        report.buffers.num_allocated,
        report.bind_groups.num_allocated,
        report.bind_group_layouts.num_allocated,
        report.pipeline_layouts.num_allocated,
        report.compute_pipelines.num_allocated,
        report.shader_modules.num_allocated,
        report.query_sets.num_allocated,
    ]
}

/// After the first call, runs of one size create no lasting objects.
#[test]
fn later_runs_make_no_objects() {
    let device = device();
    let (instance, own, queue) = own_device(device.info());
    let device = Device::from_wgpu(own, queue);
    for strategy in [Strategy::Step, Strategy::Sequence, Strategy::Wavefront] {
        let network = network(24, 2);
        let session = Session::with_options(&device, &network, PlanOptions::default().strategy(strategy)).unwrap();
        let input = RandomInput::new(&network, 50, 2, 2).unwrap();
        session.run(input.as_input(), None).unwrap();
        let first = objects(&instance);
        for _ in 0..5 {
            session.run(input.as_input(), None).unwrap();
        }
        assert_eq!(objects(&instance), first, "{strategy}");
        // The count itself must be able to rise.
        session.run(RandomInput::new(&network, 60, 3, 2).unwrap().as_input(), None).unwrap();
        assert_ne!(objects(&instance), first, "{strategy}: a larger run needs larger buffers");
    }
}

/// The plan's count of bytes agrees with what the device allocates, within 5 %.
#[test]
fn the_plan_knows_its_memory() {
    let device = device();
    let (_, own, queue) = own_device(device.info());
    let allocated = || own.generate_allocator_report().map(|report| report.total_allocated_bytes);
    let Some(before) = allocated() else {
        // GL manages its memory itself and does not report it.
        assert_eq!(device.info().backend, "gl", "only GL has no allocator to ask");
        return;
    };
    let device = Device::from_wgpu(own.clone(), queue);
    let network = network(192, 1);
    let session = Session::new(&device, &network).unwrap();
    let input = RandomInput::new(&network, 40, 64, 2).unwrap();
    let output = session.run(input.as_input(), None).unwrap();
    let plan = session.plan(40, 64).unwrap().unwrap();
    // In addition to the plan's buffers there are those that the host reads: output and state.
    let staging = 4 * (output.values.len() + 2 * 64 * 192) as u64;
    let used = allocated().unwrap() - before;
    let expected = plan.bytes() + staging;
    let share = used as f64 / expected as f64;
    eprintln!("{used} bytes for {expected} expected");
    assert!((0.95..=1.05).contains(&share), "{used} bytes, expected {expected}");
}

/// A hundred thousand steps run in bounded memory: what grows with T is the input and the output.
#[test]
fn long_sequences_stay_within_their_budget() {
    let device = device();
    let (_, own, queue) = own_device(device.info());
    let device = Device::from_wgpu(own.clone(), queue);
    let network = network(128, 1);
    let sequence = |steps: usize| 4 * (steps * 128) as u64;
    let bounded = |steps: usize, budget: u64| {
        let options = PlanOptions::default().projection_budget(budget);
        let session = Session::with_options(&device, &network, options).unwrap();
        let plan = session.plan(steps, 1).unwrap().unwrap();
        let parts = PlanParts::of(&plan);
        let weights: u64 = parts.buffers[..parts.weights].iter().map(|buffer| buffer.bytes).sum();
        assert!(plan.bytes() <= 2 * sequence(steps) + weights + budget + (1 << 20), "{plan}");
        assert!(plan.bytes() > 2 * sequence(steps), "input and output are there: {plan}");
        (session, plan, steps)
    };
    let whole = bounded(100_000, PlanOptions::default().projection_budget);
    let (session, plan, steps) = if device.info().kind.is_gpu() {
        whole
    } else {
        // Minutes for a software adapter. An eighth of it is cut into as many pieces by an eighth of the budget.
        eprintln!("NOT RUN on {}: 100,000 steps; 12,500 are", device.info());
        bounded(12_500, PlanOptions::default().projection_budget / 8)
    };
    let input = RandomInput::new(&network, steps, 1, 3).unwrap();
    let output = session.run(input.as_input(), None).unwrap();
    if let Some(report) = own.generate_allocator_report() {
        // In addition to the plan's buffers there are those that the host writes and reads.
        let (used, expected) = (report.total_allocated_bytes, plan.bytes() + 2 * sequence(steps));
        eprintln!("{used} bytes for {expected} expected");
        assert!(used as f64 <= 1.05 * expected as f64, "{used} bytes, expected {expected}");
    }
    // All of it would take the reference minutes. A window does: the network forgets, so that what it ends with does not
    // depend on the state it begins with.
    let RandomInput::Features(numbers, _) = &input else { panic!("an LSTM reads numbers") };
    let reference = Reference::<f64>::new(&network);
    let window = |first: usize| {
        let window = Input::features(&numbers[first * 128..][..400 * 128], [400, 1, 128]);
        reference.forward(window, None).unwrap().stages.pop().unwrap().split_off(300 * 128)
    };
    for first in [0, steps / 3, steps - 400] {
        let got = &output.values[(first + 300) * 128..][..100 * 128];
        let comparison = compare(got, &window(first), Tolerance::f32(400));
        assert!(comparison.passed, "steps from {first}: {comparison:?}");
        // The negative control: a step off is seen.
        assert!(!compare(got, &window((first + 1) % (steps - 400)), Tolerance::f32(400)).passed);
    }
}

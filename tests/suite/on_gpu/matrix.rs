//! Matrix units: every cell, format and layer that runs on them against a reference that rounds the same factors. Where
//! the device under test has none (most software renderers), each test asserts that asking is refused.

use std::sync::OnceLock;

use fastrand::Rng;
use gatefold::compare::{Comparison, Tolerance, compare};
use gatefold::network::StageRounding;
use gatefold::network::{Activation, Cell, Conv1dSpec, DenseSpec, LayerSpec, Padding, RecurrentSpec, WeightFormat};
use gatefold::unstable::plan::{Kernel, PlanParts, Rung, Tiling};
use gatefold::unstable::reference::Reference;
use gatefold::{
    Arithmetic, Device, DeviceOptions, Network, PlanOptions, RandomInput, Session, State, Strategy, verify,
};

use super::strategies::random_networks_in;
use crate::common::{changed, device_with, own_adapter, random_state, spec};

/// Set where the device under test must have matrix units (`tests/mesa26.sh`).
const REQUIRE: &str = "GATEFOLD_REQUIRE_MATRIX";

/// The device under test with its matrix units. If it has none: `None`, after a check that asking for them is refused.
fn matrix_device() -> Option<&'static Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let plain = crate::common::device();
    let device = DEVICE.get_or_init(|| {
        let device = device_with(DeviceOptions::default().matrix_units(true));
        if device.matrix_units().is_some() {
            return Some(device);
        }
        assert!(std::env::var_os(REQUIRE).is_none(), "{REQUIRE} is set, but {} has no matrix units", device.info());
        assert_refused(&device);
        None
    });
    // A device opened without asking never has them.
    assert!(plain.matrix_units().is_none());
    assert_refused(plain);
    device.as_ref()
}

fn assert_refused(device: &Device) {
    let network = Network::random(spec(vec![LayerSpec::Rnn(RecurrentSpec::new("rnn", 3, 4))]), 1).unwrap();
    let error = Session::with_options(device, &network, matrix()).unwrap_err();
    assert!(error.to_string().contains("no matrix units"), "{error}");
    eprintln!("no matrix units here: {error}");
}

macro_rules! matrix_device_or_return {
    () => {
        match matrix_device() {
            Some(device) => device,
            None => return,
        }
    };
}

fn matrix() -> PlanOptions {
    PlanOptions::default().arithmetic(Arithmetic::Matrix)
}

/// Every stage and state of a run against the f64 reference with `roundings`, the worst of them.
fn worst(
    session: &Session,
    network: &Network,
    roundings: &[StageRounding],
    input: &RandomInput,
    state: Option<&State>,
    tolerance: Tolerance,
) -> Comparison {
    let got = session.trace(input.as_input(), state).unwrap();
    let exact = Reference::<f64>::rounding(network, roundings).forward(input.as_input(), state).unwrap();
    let stages = got.stages.iter().zip(&exact.stages).map(|(got, exact)| compare(got, exact, tolerance));
    let states = got.state.layers.iter().zip(&exact.state.layers).flat_map(|(got, exact)| {
        got.parts.iter().zip(&exact.parts).map(|(got, exact)| compare(&got.data, &exact.data, tolerance))
    });
    stages.chain(states).max_by(|a, b| a.used.total_cmp(&b.used)).unwrap()
}

fn one(cell: Cell, layer: RecurrentSpec, seed: u64) -> Network {
    let layer = LayerSpec::of_cell(cell, layer);
    Network::random(spec(vec![layer]), seed).unwrap()
}

/// One step from a given state rounds the very numbers that the reference rounds: no more than f32 may be off.
#[test]
fn a_step_is_as_exact_as_f32() {
    let device = matrix_device_or_return!();
    let mut on_units = 0;
    // Mesa takes seconds to compile a case: every cell with every format, once.
    for case in 0..9usize {
        let seed = case as u64;
        let mut rng = Rng::with_seed(seed);
        let cell = [Cell::Lstm, Cell::Gru, Cell::Rnn][case % 3];
        let mut layer = RecurrentSpec::new("cell", rng.usize(1..=70), rng.usize(1..=90));
        layer.bidirectional = rng.bool();
        layer.bias = rng.bool();
        layer.peephole = cell == Cell::Lstm && rng.bool();
        let format = WeightFormat::ALL[case / 3];
        let network = one(cell, layer, seed).with_weights(format).unwrap();
        let batch = rng.usize(1..=70);
        let session = Session::with_options(device, &network, matrix().strategy(Strategy::Tile)).unwrap();
        let plan = session.plan(1, batch).unwrap().unwrap();
        let input = RandomInput::new(&network, 1, batch, seed).unwrap();
        let state = random_state(&network, batch, seed);
        let found = worst(&session, &network, &plan.roundings(), &input, Some(&state), Tolerance::f32(1));
        assert!(found.passed, "case {seed}, {cell:?} {format}, B = {batch}: {found:?}\n{plan}");
        let rungs = PlanParts::of(&plan).dispatches.iter().filter_map(|dispatch| dispatch.kernel.recurrent());
        assert!(rungs.into_iter().all(|kernel| matches!(kernel.rung, Rung::TileMatrix(_))), "{plan}");
        on_units += usize::from(plan.roundings()[0].input.numbers);
    }
    assert!(on_units > 4, "{on_units} of 9 projections on matrix units");
}

/// Dense layers and convolutions of odd sizes, as exact as in f32 with the same factors.
#[test]
fn a_layer_is_as_exact_as_f32() {
    let device = matrix_device_or_return!();
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        let activation = [Activation::Linear, Activation::Relu, Activation::Tanh][rng.usize(0..3)];
        let (inputs, outputs, steps, batch) =
            (rng.usize(1..=80), rng.usize(1..=80), rng.usize(3..=9), rng.usize(8..=20));
        let layer = if rng.bool() {
            let name = "dense".into();
            LayerSpec::Dense(DenseSpec {
                name,
                in_features: inputs,
                out_features: outputs,
                bias: rng.bool(),
                activation,
            })
        } else {
            LayerSpec::Conv1d(Conv1dSpec {
                name: "conv".into(),
                in_channels: inputs,
                out_channels: outputs,
                kernel_size: rng.usize(1..=3),
                stride: rng.usize(1..=2),
                padding: Padding::Zeros { left: rng.usize(0..=2), right: 0 },
                dilation: 1,
                groups: 1,
                bias: rng.bool(),
                activation,
            })
        };
        let format = WeightFormat::ALL[rng.usize(0..3)];
        let network = Network::random(spec(vec![layer]), seed).unwrap().with_weights(format).unwrap();
        let session = Session::with_options(device, &network, matrix()).unwrap();
        let plan = session.plan(steps, batch).unwrap().unwrap();
        let on_units = |kernel: Kernel| match kernel {
            Kernel::Linear(product) | Kernel::Conv1d(product) => matches!(product.tiling, Tiling::Matrix(_)),
            _ => false,
        };
        assert!(PlanParts::of(&plan).dispatches.iter().any(|dispatch| on_units(dispatch.kernel)), "{plan}");
        let input = RandomInput::new(&network, steps, batch, seed).unwrap();
        let found = worst(&session, &network, &plan.roundings(), &input, None, Tolerance::f32(1));
        assert!(found.passed, "case {seed}: {found:?}\n{plan}");
    }
}

/// As `strategies::tile_agrees`: halves, projections, stacked levels, masks, lengths, chunks of time.
#[test]
fn tile_on_matrix_units_agrees() {
    let device = matrix_device_or_return!();
    random_networks_in(device, Arithmetic::Matrix, Strategy::Tile, 4);
}

/// Every other strategy stays in f32, but for the projection before it.
#[test]
fn other_strategies_agree() {
    let device = matrix_device_or_return!();
    for strategy in [Strategy::Step, Strategy::Sequence, Strategy::Wavefront] {
        random_networks_in(device, Arithmetic::Matrix, strategy, 1);
    }
}

/// What the plan chooses by itself, through layers that follow each other.
#[test]
fn a_whole_network_agrees_and_answers_the_same_twice() {
    let device = matrix_device_or_return!();
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: 40,
        out_features: 9,
        bias: true,
        activation: Activation::Linear,
    };
    let lstm = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("lstm", 33, 200) };
    let gru = RecurrentSpec::new("gru", 200, 40);
    let layers = vec![LayerSpec::Lstm(lstm), LayerSpec::Gru(gru), LayerSpec::Dense(dense), LayerSpec::Softmax];
    let network = Network::random(spec(layers), 5).unwrap();
    let session = Session::with_options(device, &network, matrix()).unwrap();
    let input = RandomInput::new(&network, 12, 19, 3).unwrap();
    let plan = session.plan(12, 19).unwrap().unwrap();
    assert!(plan.choices.iter().any(|choice| choice.reason.contains(", on matrix units")), "{plan}");
    let verification = verify(&session, &network, input.as_input(), None).unwrap();
    assert!(verification.passed(), "{:#?}\n{plan}", verification.checks);
    let run = || session.run(input.as_input(), None).unwrap();
    let (first, again) = (run(), run());
    assert_eq!((first.values, first.state), (again.values, again.state));
}

/// Negative controls: the tight comparison detects factors that are not rounded, one changed weight, and two swapped gates.
#[test]
fn what_is_wrong_is_seen() {
    let device = matrix_device_or_return!();
    let plain = crate::common::device();
    let tight = Tolerance::f32(1);
    for (cell, format) in
        [(Cell::Lstm, WeightFormat::F32), (Cell::Gru, WeightFormat::F16), (Cell::Rnn, WeightFormat::Int8)]
    {
        let network = one(cell, RecurrentSpec::new("cell", 20, 48), 7).with_weights(format).unwrap();
        let input = RandomInput::new(&network, 1, 16, 8).unwrap();
        let state = random_state(&network, 16, 9);
        let session = Session::with_options(device, &network, matrix().strategy(Strategy::Tile)).unwrap();
        let roundings = session.plan(1, 16).unwrap().unwrap().roundings();
        let passes = |session: &Session, network: &Network, roundings: &[StageRounding]| {
            worst(session, network, roundings, &input, Some(&state), tight).passed
        };
        assert!(passes(&session, &network, &roundings), "{cell:?}");
        assert!(!passes(&session, &network, &[]), "{cell:?}: nothing was rounded");
        let exact = Session::with_options(plain, &network, PlanOptions::default().strategy(Strategy::Tile)).unwrap();
        assert!(passes(&exact, &network, &[]) && !passes(&exact, &network, &roundings), "{cell:?} in f32");
        for name in ["cell.weight_ih_l0", "cell.weight_hh_l0"] {
            let nudged = changed(&network, name, |data| data[100] += 1e-2);
            assert!(!passes(&session, &nudged, &roundings), "{cell:?} {name}");
        }
        if cell != Cell::Rnn {
            let swapped = changed(&network, "cell.weight_hh_l0", |data| {
                let (first, second) = data.split_at_mut(48 * 48);
                first.swap_with_slice(&mut second[..48 * 48]);
            });
            assert!(!passes(&session, &swapped, &roundings), "{cell:?}: gates swapped");
        }
    }
}

/// An application's own device: with the adapter it has the units, without it there is no way to find out what they multiply.
#[test]
#[expect(unsafe_code, reason = "wgpu asks for it before an experimental feature may be turned on")]
fn an_applications_own_device_has_its_units() {
    let ours = matrix_device_or_return!();
    let (_instance, adapter) = own_adapter(ours.info());
    let descriptor = wgpu::DeviceDescriptor {
        required_features: wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP,
        // SAFETY: as in the library, the kernels are held to the reference.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    };
    let (own, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    assert_refused(&Device::from_wgpu(own.clone(), queue.clone()));
    let device = Device::from_wgpu_adapter(&adapter, own, queue);
    assert_eq!(device.matrix_units(), ours.matrix_units());
    let network = one(Cell::Lstm, RecurrentSpec::new("cell", 9, 30), 3);
    let session = Session::with_options(&device, &network, matrix().strategy(Strategy::Tile)).unwrap();
    let input = RandomInput::new(&network, 6, 11, 4).unwrap();
    assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
}

//! Truncated backpropagation through time: steps that start from a carried state.

use fastrand::Rng;
use gatefold::network::{Activation, Cell, DenseSpec, Init, LayerSpec, RecurrentSpec};
use gatefold::train::{Batch, Dropout, Loss, Sgd, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{self, LossOptions, Reference};
use gatefold::{Device, Input, LayerState, Network, Session, State, StreamPool};

use crate::common::spec;

const STEPS: usize = 12;
const BATCH: usize = 5;
const INPUTS: usize = 3;
const CLASSES: usize = 4;
/// Largest error of a gradient as a share of the tensor's largest.
const TOLERANCE: f64 = 4e-6;

pub fn network(cell: Cell) -> Network {
    let layer = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("cell", INPUTS, 19) };
    let activation = Activation::Linear;
    let dense = DenseSpec { name: "dense".into(), in_features: 19, out_features: CLASSES, bias: true, activation };
    let layers = vec![LayerSpec::of_cell(cell, layer), LayerSpec::Dense(dense), LayerSpec::Softmax];
    Network::initialized(spec(layers), Init::PyTorch, 5).unwrap()
}

/// Features and classes of all steps.
pub struct Examples {
    features: Vec<f32>,
    classes: Vec<u32>,
}

impl Examples {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let features = (0..STEPS * BATCH * INPUTS).map(|_| 2.0 * rng.f32() - 1.0).collect();
        Self { features, classes: (0..STEPS * BATCH).map(|_| rng.u32(..4)).collect() }
    }

    /// The steps from `first` on.
    pub fn window(&self, first: usize, steps: usize) -> Batch<'_> {
        let features = &self.features[first * BATCH * INPUTS..][..steps * BATCH * INPUTS];
        let classes = &self.classes[first * BATCH..][..steps * BATCH];
        let input = Input::features(features, [steps, BATCH, INPUTS]);
        Batch { input, targets: Targets::Classes(classes), weights: None }
    }
}

pub fn options(learning_rate: f64) -> TrainOptions {
    TrainOptions::new(Loss::CrossEntropy).optimizer(Sgd { learning_rate, ..Sgd::default() })
}

/// A state that no run has left.
pub fn random_state(network: &Network, seed: u64) -> State {
    let mut rng = Rng::with_seed(seed);
    let mut state = State::zeros(network, BATCH).unwrap();
    for layer in &mut state.layers {
        layer.numbers_mut().for_each(|x| *x = 2.0 * rng.f32() - 1.0);
    }
    state
}

/// The largest error of the gradients by which a step from `from` moves the weights, as a multiple of the tolerance, where
/// those of the f64 reference are from `expected`; and the state after it.
pub fn worst(device: &Device, network: &Network, from: &State, expected: &State) -> (f64, State) {
    // A step this wide shows the gradients as exactly as f32 has them.
    const RATE: f64 = 16.0;
    let examples = Examples::new(1);
    let batch = examples.window(0, STEPS);
    let mut trainer = Trainer::new(device, network, options(RATE)).unwrap();
    let mut state = from.clone();
    trainer.step_from(&batch, &mut state).unwrap();
    let after = trainer.network().unwrap();
    let exact = Reference::<f64>::new(network);
    let forward = exact.forward(batch.input, Some(expected)).unwrap();
    let logits = forward.stages.len() - 2;
    let targets = Targets::Classes(&examples.classes);
    let output = &forward.stages[logits];
    let loss = reference::loss(Loss::CrossEntropy, output, CLASSES, targets, &LossOptions::default()).unwrap();
    let gradients = exact.gradients(batch.input, Some(expected), &forward, (logits, &loss.d_output)).unwrap();
    let of_tensor = |(name, exact): (&String, &Vec<f64>)| {
        let largest = exact.iter().fold(1e-30f64, |most, d| most.max(d.abs()));
        let [before, after] = [network, &after].map(|network| network.tensors()[name].data());
        let moved = before.iter().zip(after).map(|(&x, &y)| (f64::from(x) - f64::from(y)) / RATE);
        moved.zip(exact).map(|(d, exact)| (d - exact).abs() / largest).fold(0.0, f64::max) / TOLERANCE
    };
    (gradients.params.iter().map(of_tensor).fold(0.0, f64::max), state)
}

#[test]
fn gradients_end_at_the_state() {
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn, Cell::LayerNormLstm] {
        let network = network(cell);
        let state = random_state(&network, 2);
        let (error, after) = worst(&Device::cpu(), &network, &state, &state);
        assert!(error <= 1.0, "{cell:?}: {error:.1e}");
        let examples = Examples::new(1);
        let run = Session::new(&Device::cpu(), &network).unwrap().run(examples.window(0, STEPS).input, Some(&state));
        let run = run.unwrap().state;
        for (after, run) in after.layers.iter().zip(&run.layers) {
            let pairs = after.numbers().zip(run.numbers());
            pairs.for_each(|(x, y)| assert!((x - y).abs() < 1e-5, "{cell:?}: {x} and {y}"));
        }
        // Negative control: another state gives other gradients.
        let zeros = State::zeros(&network, BATCH).unwrap();
        assert!(worst(&Device::cpu(), &network, &zeros, &state).0 > 1000.0);
    }
}

/// Windows that carry the state are the whole sequence, cut.
#[test]
fn windows_have_the_losses_of_the_whole() {
    let (network, examples) = (network(Cell::Lstm), Examples::new(1));
    let mut trainer = Trainer::new(&Device::cpu(), &network, options(0.0)).unwrap();
    let mut whole = random_state(&network, 3);
    let mut state = whole.clone();
    let of_whole = trainer.evaluate_from(&examples.window(0, STEPS), &mut whole).unwrap();
    let mut sum = 0.0;
    for window in 0..4 {
        let batch = examples.window(3 * window, 3);
        let mut evaluated = state.clone();
        let expected = trainer.evaluate_from(&batch, &mut evaluated).unwrap().loss;
        sum += trainer.step_from(&batch, &mut state).unwrap().loss;
        assert_eq!(state, evaluated);
        assert!(expected > 0.0);
    }
    assert!((sum / 4.0 - of_whole.loss).abs() < 1e-6, "{} and {}", sum / 4.0, of_whole.loss);
    assert_eq!(state, whole, "bit by bit");
    // Negative control: windows that forget the state.
    let first = trainer.step(&examples.window(3, 3)).unwrap().loss;
    let mut state = random_state(&network, 4);
    assert!((first - trainer.step_from(&examples.window(3, 3), &mut state).unwrap().loss).abs() > 1e-4);
}

/// Streams of a pool are a state whose rows may come in any order.
#[test]
fn streams_carry_the_state() {
    let (network, examples) = (network(Cell::Lstm), Examples::new(1));
    let pool = StreamPool::new(Session::new(&Device::cpu(), &network).unwrap(), 8).unwrap();
    let mut streams: Vec<_> = (0..BATCH).map(|_| pool.open().unwrap()).collect();
    streams.reverse();
    let trainer = || Trainer::new(&Device::cpu(), &network, options(0.1)).unwrap();
    let (mut by_state, mut by_streams) = (trainer(), trainer());
    let mut state = State::initial(&network, BATCH).unwrap();
    for window in 0..3 {
        let batch = examples.window(4 * window, 4);
        let expected = by_state.step_from(&batch, &mut state).unwrap();
        assert_eq!(by_streams.step_streams(&batch, &pool, &streams).unwrap(), expected);
    }
    assert_eq!(by_state.network().unwrap(), by_streams.network().unwrap());
    for (row, &stream) in streams.iter().enumerate() {
        let h = pool.snapshot(stream).unwrap().layers[0].h().to_vec();
        assert_eq!(h[..19], state.layers[0].h()[row * 19..][..19]);
    }
    let batch = examples.window(0, 4);
    streams[1] = streams[0];
    let error = by_streams.step_streams(&batch, &pool, &streams).unwrap_err().to_string();
    assert!(error.contains("a second time"), "{error}");
    let error = by_streams.step_streams(&batch, &pool, &streams[2..]).unwrap_err().to_string();
    assert!(error.contains("state"), "{error}");
}

/// A window over time keeps inputs that no gradient goes through: it is trained from its padding alone.
#[test]
fn past_inputs_are_not_carried() {
    let conv = r#"{"type": "conv1d", "name": "conv", "in_channels": 3, "out_channels": 3, "kernel_size": 3,
        "padding": {"zeros": {"left": 2, "right": 0}}}"#;
    let mut layers = network(Cell::Gru).spec().layers.clone();
    layers.insert(0, serde_json::from_str(conv).unwrap());
    let network = Network::initialized(spec(layers), Init::PyTorch, 5).unwrap();
    let (examples, mut state) = (Examples::new(1), State::initial(&network, BATCH).unwrap());
    let mut trainer = Trainer::new(&Device::cpu(), &network, options(0.3)).unwrap();
    let batch = examples.window(0, 6);
    let expected =
        "layer `conv`: training that carries the past inputs of a window from batch to batch is not supported";
    let refused = [
        trainer.step_from(&batch, &mut state).unwrap_err().to_string(),
        trainer.evaluate_from(&batch, &mut state).unwrap_err().to_string(),
    ];
    assert_eq!(refused, [expected; 2]);
    let reference = Reference::<f64>::new(&network);
    let forward = reference.forward(batch.input, Some(&state)).unwrap();
    let d_output = vec![1.0; forward.stages.last().unwrap().len()];
    let last = forward.stages.len() - 1;
    let error = reference.gradients(batch.input, Some(&state), &forward, (last, &d_output)).unwrap_err();
    assert_eq!(error.to_string(), expected);
    trainer.step(&batch).unwrap();
}

/// A run that stops between two windows goes on to the same bits, if the state is kept.
#[test]
fn windows_go_on_behind_a_checkpoint() {
    let (network, examples) = (network(Cell::Gru), Examples::new(1));
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("between.safetensors");
    let mut trainer = Trainer::new(&Device::cpu(), &network, options(0.3)).unwrap();
    let mut state = State::initial(&network, BATCH).unwrap();
    trainer.step_from(&examples.window(0, 6), &mut state).unwrap();
    trainer.save_checkpoint(&path).unwrap();
    let mut resumed = Trainer::resume(&Device::cpu(), &path).unwrap();
    let mut carried = state.clone();
    for (trainer, state) in [(&mut trainer, &mut state), (&mut resumed, &mut carried)] {
        trainer.step_from(&examples.window(6, 6), state).unwrap();
    }
    assert_eq!(state, carried);
    assert_eq!(trainer.network().unwrap(), resumed.network().unwrap());
    // Negative control: without the state it comes to something else.
    let mut forgetful = Trainer::resume(&Device::cpu(), &path).unwrap();
    forgetful.step(&examples.window(6, 6)).unwrap();
    assert_ne!(trainer.network().unwrap(), forgetful.network().unwrap());
}

#[test]
fn a_skipped_step_leaves_the_state() {
    let (network, examples) = (network(Cell::Lstm), Examples::new(1));
    let mut trainer = Trainer::new(&Device::cpu(), &network, options(1e38)).unwrap();
    let mut state = State::initial(&network, BATCH).unwrap();
    let mut skipped = false;
    for _ in 0..5 {
        let before = state.clone();
        if trainer.step_from(&examples.window(0, 6), &mut state).unwrap().skipped {
            assert_eq!(state, before);
            skipped = true;
        }
    }
    assert!(skipped, "a rate so large explodes");
    let mut wrong = State::initial(&network, BATCH + 1).unwrap();
    let error = trainer.step_from(&examples.window(0, 6), &mut wrong).unwrap_err().to_string();
    assert!(error.contains("state"), "{error}");
}

/// Training that goes on from a checkpoint in the middle of its sequences comes to the bits of a whole run.
pub fn resumes_in_the_middle(device: &Device) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let examples = Examples::new(1);
    for cell in [Cell::Lstm, Cell::Gru] {
        let network = network(cell);
        let options = TrainOptions::new(Loss::CrossEntropy).dropout(Dropout::elements("cell", 0.3)).seed(4);
        let fresh = || Trainer::new(device, &network, options.clone()).unwrap();
        let step = |trainer: &mut Trainer, state: &mut State, (first, steps)| {
            trainer.step_from(&examples.window(first, steps), state).unwrap();
        };
        let bits = |trainer: &Trainer, state: &State| {
            let network = trainer.network().unwrap();
            let weights = network.tensors().values().flat_map(|tensor| tensor.data());
            let states = state.layers.iter().flat_map(LayerState::numbers);
            weights.chain(states).map(|x| x.to_bits()).collect::<Vec<u32>>()
        };
        let windows = [(0, 4), (4, 3), (7, 5)];
        let (mut whole, mut state) = (fresh(), State::initial(&network, BATCH).unwrap());
        windows.iter().for_each(|&window| step(&mut whole, &mut state, window));
        let expected = bits(&whole, &state);

        let (mut first, mut state) = (fresh(), State::initial(&network, BATCH).unwrap());
        step(&mut first, &mut state, windows[0]);
        first.save_checkpoint_with(&path, &state).unwrap();
        let mut resumed = Trainer::resume(device, &path).unwrap();
        let mut carried = resumed.carried().cloned().unwrap();
        assert_eq!(carried, state);
        windows[1..].iter().for_each(|&window| step(&mut resumed, &mut carried, window));
        assert_eq!(bits(&resumed, &carried), expected, "{cell:?}");

        // The same over the streams of a pool.
        let pool = StreamPool::new(Session::new(device, &network).unwrap(), 8).unwrap();
        let streams: Vec<_> = (0..BATCH).map(|_| pool.open().unwrap()).collect();
        let mut resumed = Trainer::resume(device, &path).unwrap();
        pool.set_states(&streams, resumed.carried().unwrap()).unwrap();
        for &(first, steps) in &windows[1..] {
            resumed.step_streams(&examples.window(first, steps), &pool, &streams).unwrap();
        }
        assert_eq!(bits(&resumed, &pool.states(&streams).unwrap()), expected, "{cell:?}");

        // Negative control: from another state it goes another way.
        let mut resumed = Trainer::resume(device, &path).unwrap();
        let mut other = State::initial(&network, BATCH).unwrap();
        windows[1..].iter().for_each(|&window| step(&mut resumed, &mut other, window));
        assert_ne!(bits(&resumed, &other), expected, "{cell:?}");

        // A checkpoint without a state has none, and a state of other rows than the network's is refused.
        first.save_checkpoint(&path).unwrap();
        assert!(Trainer::resume(device, &path).unwrap().carried().is_none());
        let mut wrong = state.clone();
        wrong.layers[0].name = "other".into();
        let error = first.save_checkpoint_with(&path, &wrong).unwrap_err().to_string();
        assert!(error.contains("state of `cell`"), "{error}");
    }
}

#[test]
fn a_checkpoint_holds_the_carried_state() {
    resumes_in_the_middle(&Device::cpu());
}

//! Gradients of the f64 reference against differences of its outputs.

use fastrand::Rng;
use gatefold::network::{
    Activation, Cell, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentOutput, RecurrentSpec, Role, SelectSpec, SelectStep,
};
use gatefold::unstable::reference::{Gradients, Reference};
use gatefold::{Input, Network, RandomInput, State};

use crate::common::{changed, lstm, random_state, spec};
use crate::on_device::cells::{functions, layer, network};

/// Functions without kinks.
const SMOOTH: [Activation; 6] = [
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Softplus,
    Activation::Silu,
    Activation::Mish,
    Activation::ScaledTanh { alpha: 0.9, beta: 1.2 },
];
/// Largest error of a gradient as a share of the tensor's largest.
const TOLERANCE: f64 = 1e-6;
/// Distances of the differences: the second is for the rare case that the first crosses a kink.
const DISTANCES: [f32; 2] = [1.0 / 65_536.0, 1.0 / 524_288.0];

/// A run whose output is weighed by random numbers, which gives one number.
pub struct Case<'a> {
    pub network: Network,
    input: Input<'a>,
    pub state: Option<State>,
    weights: Vec<f64>,
}

impl<'a> Case<'a> {
    pub fn new(network: &Network, input: Input<'a>, state: Option<State>, seed: u64) -> Self {
        let forward = Reference::<f64>::new(network).forward(input, state.as_ref()).unwrap();
        let mut rng = Rng::with_seed(seed);
        let weights = forward.stages.last().unwrap().iter().map(|_| rng.f64() - 0.5).collect();
        Self { network: network.clone(), input, state, weights }
    }

    pub fn value(&self, network: &Network, input: Input<'_>, state: Option<&State>) -> f64 {
        let forward = Reference::<f64>::new(network).forward(input, state).unwrap();
        forward.stages.last().unwrap().iter().zip(&self.weights).map(|(x, weight)| x * weight).sum()
    }

    pub fn gradients(&self) -> Gradients<f64> {
        let reference = Reference::<f64>::new(&self.network);
        let forward = reference.forward(self.input, self.state.as_ref()).unwrap();
        let last = (forward.stages.len() - 1, &self.weights[..]);
        reference.gradients(self.input, self.state.as_ref(), &forward, last).unwrap()
    }

    /// The largest error of some of `gradient`'s numbers as a share of its largest, where `at` gives the number after
    /// a change of numbers `numbers`.
    pub fn error(&self, gradient: &[f64], numbers: &[f32], at: impl Fn(&[f32]) -> f64, rng: &mut Rng) -> f64 {
        assert_eq!(gradient.len(), numbers.len());
        let largest = gradient.iter().fold(1e-3f64, |most, g| most.max(g.abs()));
        let some = (0..6).map(|_| rng.usize(..numbers.len()));
        some.map(|index| {
            let errors = DISTANCES.map(|distance| {
                let mut changed = numbers.to_vec();
                let mut end = |step: f32| {
                    changed[index] = numbers[index] + step;
                    (f64::from(changed[index]), at(&changed))
                };
                let ((left, low), (right, high)) = (end(-distance), end(distance));
                ((high - low) / (right - left) - gradient[index]).abs() / largest
            });
            errors[0].min(errors[1])
        })
        .fold(0.0, f64::max)
    }

    /// Names of the tensors, the input and the states whose gradients differ from differences by more than the tolerance.
    pub fn faults(&self, gradients: &Gradients<f64>, seed: u64) -> Vec<String> {
        let mut rng = Rng::with_seed(seed);
        let mut faults = Vec::new();
        let mut check = |what: &str, error: f64| {
            if error.is_nan() || error > TOLERANCE {
                faults.push(format!("{what}: {error:.1e}"));
            }
        };
        let stays = |name: &str| {
            let params = self.network.stages().iter().flat_map(|stage| &stage.params);
            params.into_iter().any(|param| param.name == name && param.role == Role::FixedMemory)
        };
        for (name, tensor) in self.network.tensors().iter().filter(|(name, _)| !stays(name)) {
            let gradient = gradients.params.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
            let at = |numbers: &[f32]| {
                let network = changed(&self.network, name, |data| data.copy_from_slice(numbers));
                self.value(&network, self.input, self.state.as_ref())
            };
            check(name, self.error(gradient, tensor.data(), at, &mut rng));
        }
        if let Some(state) = &self.state {
            for (layer, gradient) in gradients.state.layers.iter().enumerate() {
                for (part, gradient) in gradient.parts.iter().enumerate() {
                    let at = |numbers: &[f32]| {
                        let mut state = state.clone();
                        state.layers[layer].parts[part].data = numbers.to_vec();
                        self.value(&self.network, self.input, Some(&state))
                    };
                    let what = format!("state {layer}, {}", gradient.name);
                    let numbers = &state.layers[layer].parts[part].data;
                    check(&what, self.error(&gradient.data, numbers, at, &mut rng));
                }
            }
        }
        faults
    }
}

/// A random layer of `cell` whose functions have no kinks.
fn smooth_layer(cell: Cell, rng: &mut Rng) -> RecurrentSpec {
    let mut layer = layer(cell, rng);
    layer.batch_first = false;
    let sets = layer.activations.len() / cell.default_activations().len();
    layer.activations = functions(cell, sets, &SMOOTH, rng);
    layer
}

/// An input with lengths, with a mask or with neither.
fn given<'a>(values: &'a [f32], shape: [usize; 3], kind: u8, (lengths, mask): (&'a [usize], &'a [bool])) -> Input<'a> {
    let input = Input::features(values, shape);
    match kind {
        0 => input.with_lengths(lengths),
        1 => input.with_mask(mask),
        _ => input,
    }
}

/// What is wrong with the gradients of a random run of up to `most` timesteps, and what the run was.
pub fn faults_of_a_run(network: &Network, most: usize, rng: &mut Rng, seed: u64) -> (Vec<String>, String) {
    let (batch, steps) = (rng.usize(1..=3), rng.usize(1..=most));
    let input = RandomInput::new(network, steps, batch, seed ^ 1).unwrap();
    let RandomInput::Features(values, shape) = &input else { panic!("features") };
    let state = rng.bool().then(|| random_state(network, batch, seed ^ 2));
    let lengths: Vec<usize> = (0..batch).map(|row| [steps, 1, rng.usize(0..=steps)][row % 3]).collect();
    let mask: Vec<bool> = (0..steps * batch).map(|_| rng.u8(0..4) > 0).collect();
    let kind = rng.u8(0..3);
    let case = Case::new(network, given(values, *shape, kind, (&lengths, &mask)), state, seed ^ 3);
    let gradients = case.gradients();
    let mut faults = case.faults(&gradients, seed);
    let at = |numbers: &[f32]| {
        let input = given(numbers, *shape, kind, (&lengths, &mask));
        case.value(&case.network, input, case.state.as_ref())
    };
    let error = case.error(&gradients.input, values, at, rng);
    if error.is_nan() || error > TOLERANCE {
        faults.push(format!("input: {error:.1e}"));
    }
    (faults, format!("case {seed}, T = {steps}, B = {batch}, {kind}"))
}

fn random_networks(cell: Cell, cases: u64) {
    for seed in 0..cases {
        let mut rng = Rng::with_seed(seed);
        let layer = smooth_layer(cell, &mut rng);
        let (faults, run) = faults_of_a_run(&network(cell, &layer, seed), 6, &mut rng, seed);
        assert!(faults.is_empty(), "{run}: {faults:?}\n{layer:#?}");
    }
}

#[test]
fn of_every_lstm() {
    random_networks(Cell::Lstm, 40);
}

#[test]
fn of_every_gru() {
    random_networks(Cell::Gru, 30);
}

#[test]
fn of_every_rnn() {
    random_networks(Cell::Rnn, 20);
}

#[test]
fn of_every_layer_normalized_lstm() {
    random_networks(Cell::LayerNormLstm, 30);
}

#[test]
fn of_every_layer_normalized_gru() {
    random_networks(Cell::LayerNormGru, 30);
}

#[test]
fn of_every_slstm() {
    random_networks(Cell::Slstm, 40);
}

#[test]
fn of_every_scan() {
    for cell in Cell::ALL.into_iter().filter(|cell| cell.scans()) {
        random_networks(cell, 12);
    }
}

/// Token ids to classes: the usual network for text, and a branch that reads a stage twice.
#[test]
fn of_whole_networks() {
    let embedding = |mask_zero| {
        LayerSpec::Embedding(EmbeddingSpec { name: "embedding".into(), num_embeddings: 7, embedding_dim: 4, mask_zero })
    };
    let dense = |name: &str, in_features, activation| {
        LayerSpec::Dense(DenseSpec { name: name.into(), in_features, out_features: 3, bias: true, activation })
    };
    let last = RecurrentSpec { output: RecurrentOutput::Last, ..lstm(4, 5) };
    let select = LayerSpec::Select(SelectSpec { name: "select".into(), step: SelectStep::Last });
    let networks = [
        vec![embedding(true), LayerSpec::Lstm(last.clone()), dense("dense", 5, Activation::Tanh), LayerSpec::Softmax],
        vec![
            embedding(false),
            LayerSpec::Gru(RecurrentSpec { bidirectional: true, num_layers: 2, ..RecurrentSpec::new("gru", 4, 3) }),
            dense("each", 6, Activation::Silu),
            select,
        ],
        attention(),
        autoencoder(),
        states(),
        one_feature_exchanged(),
    ];
    for (index, layers) in networks.into_iter().enumerate() {
        let network = Network::random(spec(layers), 5).unwrap();
        let tokens = [3, 0, 1, 6, 2, 3, 5, 5, 0, 4];
        let case = Case::new(&network, Input::tokens(&tokens, [5, 2]), None, 9);
        let faults = case.faults(&case.gradients(), 1);
        assert!(faults.is_empty(), "network {index}: {faults:?}");
    }
}

fn layers(text: &str) -> Vec<LayerSpec> {
    serde_json::from_str(text).unwrap()
}

/// Attention pooling by the last state: every layer that joins a row with a sequence.
pub fn attention() -> Vec<LayerSpec> {
    layers(
        r#"[{"type": "embedding", "name": "embedding", "num_embeddings": 7, "embedding_dim": 4},
        {"type": "gru", "name": "gru", "input_size": 4, "hidden_size": 5},
        {"type": "select", "name": "query", "step": "last_valid"},
        {"type": "join", "name": "products", "inputs": ["gru", "query"], "join": "mul"},
        {"type": "dense", "name": "scores", "in_features": 5, "out_features": 1},
        {"type": "time_softmax", "name": "shares"},
        {"type": "join", "name": "weighted", "inputs": ["shares", "gru"], "join": "mul"},
        {"type": "global_pool", "name": "context", "pool": "sum"},
        {"type": "join", "name": "both", "inputs": ["query", "context"], "join": "concat"},
        {"type": "dense", "name": "head", "in_features": 10, "out_features": 3},
        {"type": "log_softmax", "name": "output"}]"#,
    )
}

/// Layers that start from the final states of others.
fn states() -> Vec<LayerSpec> {
    layers(
        r#"[{"type": "embedding", "name": "embedding", "num_embeddings": 7, "embedding_dim": 4},
        {"type": "lstm", "name": "encoder", "input_size": 4, "hidden_size": 3, "num_layers": 2, "bidirectional": true},
        {"type": "final_state", "name": "h", "layer": "encoder", "part": "h", "direction": 1},
        {"type": "final_state", "name": "c", "layer": "encoder", "part": "c", "level": 0},
        {"type": "dense", "name": "bridge", "in_features": 3, "out_features": 3, "activation": "tanh"},
        {"type": "from", "layer": "embedding"},
        {"type": "lstm", "name": "decoder", "input_size": 4, "hidden_size": 3, "initial_h": "h", "initial_c": "bridge"},
        {"type": "select", "name": "last", "step": "last"},
        {"type": "dense", "name": "head", "in_features": 3, "out_features": 3}]"#,
    )
}

/// One feature at every timestep becomes one timestep.
fn one_feature_exchanged() -> Vec<LayerSpec> {
    layers(
        r#"[{"type": "embedding", "name": "embedding", "num_embeddings": 7, "embedding_dim": 1},
        {"type": "transpose", "name": "exchanged", "steps": 5},
        {"type": "dense", "name": "each", "in_features": 5, "out_features": 4, "activation": "tanh"},
        {"type": "select", "name": "only", "step": "first"},
        {"type": "dense", "name": "head", "in_features": 4, "out_features": 3}]"#,
    )
}

/// A row that becomes a sequence again, and parts of it.
pub fn autoencoder() -> Vec<LayerSpec> {
    layers(
        r#"[{"type": "embedding", "name": "embedding", "num_embeddings": 7, "embedding_dim": 4},
        {"type": "lstm", "name": "encoder", "input_size": 4, "hidden_size": 6, "output": "last"},
        {"type": "repeat", "name": "repeat", "times": 4},
        {"type": "lstm", "name": "decoder", "input_size": 6, "hidden_size": 4, "bidirectional": true},
        {"type": "channels", "name": "forward", "start": 0, "count": 4},
        {"type": "from", "layer": "decoder"},
        {"type": "channels", "name": "backward", "start": 4, "count": 4},
        {"type": "join", "name": "difference", "inputs": ["forward", "backward"], "join": "sub"},
        {"type": "slice", "name": "slice", "start": -3},
        {"type": "pad", "name": "pad", "left": 1, "right": 0},
        {"type": "pad", "name": "mirror", "left": 2, "right": 3, "mode": "reflect"},
        {"type": "reshape", "name": "flat", "in_steps": 9},
        {"type": "dense", "name": "head", "in_features": 36, "out_features": 3, "activation": "hard_swish"}]"#,
    )
}

/// Negative controls: a gradient with two gates exchanged, a matrix transposed or a step missing is seen.
#[test]
fn planted_faults_are_seen() {
    let network = network(Cell::Lstm, &RecurrentSpec::new("cell", 4, 4), 3);
    let input = RandomInput::new(&network, 5, 2, 4).unwrap();
    let case = Case::new(&network, input.as_input(), Some(random_state(&network, 2, 5)), 6);
    let right = case.gradients();
    assert!(case.faults(&right, 7).is_empty());
    let faulty = |name: &str, change: &dyn Fn(&mut Vec<f64>)| {
        let mut wrong = right.clone();
        change(wrong.params.get_mut(name).unwrap());
        case.faults(&wrong, 7)
    };
    let gates = faulty("cell.bias_ih_l0", &|numbers| numbers.rotate_left(4));
    assert!(gates.len() == 1 && gates[0].starts_with("cell.bias_ih_l0"), "{gates:?}");
    let transposed = faulty("cell.weight_hh_l0", &|numbers| {
        for gate in numbers.chunks_exact_mut(16) {
            (0..4).for_each(|row| (0..row).for_each(|column| gate.swap(row * 4 + column, column * 4 + row)));
        }
    });
    assert!(transposed.len() == 1 && transposed[0].starts_with("cell.weight_hh_l0"), "{transposed:?}");
    // Of a sequence one step shorter.
    let shorter = RandomInput::new(&network, 4, 2, 4).unwrap();
    let short = Case::new(&network, shorter.as_input(), case.state.clone(), 6).gradients();
    assert!(!case.faults(&short, 7).is_empty());
}

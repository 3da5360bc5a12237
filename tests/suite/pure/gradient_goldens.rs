//! Gradients against PyTorch's and Keras', from `tests/goldens/generate_gradients.py` and `tests/goldens/generate_ntm.py`.

use std::collections::BTreeMap;

use gatefold::network::{LayerSpec, expected_tensors};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{self, Gradients, LossOptions, Real, Reference};
use gatefold::{Device, Input, LayerState, Network, State, Tensor};
use serde::Deserialize;

use crate::common::spec;
use crate::exact::{ExactGolden, error};

const GOLDENS: [&[u8]; 2] = [include_bytes!("../../goldens/gradients.st"), include_bytes!("../../goldens/ntm.st")];
/// Largest error of a gradient as a share of the tensor's largest.
const EXACT: f64 = 1e-9;
const SINGLE: f64 = 4e-6;

/// What the metadata say of a case.
#[derive(Deserialize)]
struct About {
    layers: Vec<LayerSpec>,
    /// T and B
    shape: [usize; 2],
    loss: String,
    value: f64,
    #[serde(default)]
    input_size: usize,
    #[serde(default)]
    tokens: Vec<u32>,
    #[serde(default)]
    lengths: Vec<usize>,
    #[serde(default)]
    state: bool,
    #[serde(default)]
    classes: Vec<u32>,
    /// Whether a row of the output counts; empty where all do.
    #[serde(default)]
    counts: Vec<u8>,
    #[serde(default)]
    label_smoothing: f32,
    #[serde(default)]
    class_weights: Vec<f32>,
}

/// One case: a network, what it reads, and the gradients of the loss.
struct GradientCase {
    name: String,
    about: About,
    network: Network,
    features: Vec<f32>,
    state: Option<State>,
    target: Vec<f32>,
    counts: Vec<f32>,
    params: BTreeMap<String, Vec<f64>>,
    d_input: Vec<f64>,
    d_state: Vec<f64>,
}

/// Takes the first `count` numbers.
fn take<T: Copy>(numbers: &mut &[T], count: usize) -> Vec<T> {
    let (taken, rest) = numbers.split_at(count);
    *numbers = rest;
    taken.to_vec()
}

fn numbers_of(state: &State<f64>) -> Vec<f64> {
    state.layers.iter().flat_map(LayerState::numbers).copied().collect()
}

impl GradientCase {
    fn new(golden: &ExactGolden, name: &str, about: About) -> Self {
        let given = golden.singles(&format!("{name}.given"));
        let gradients = golden.doubles(&format!("{name}.gradients"));
        let (mut given, mut gradients) = (&given[..], &gradients[..]);
        let spec = spec(about.layers.clone());
        let (mut tensors, mut params) = (BTreeMap::new(), BTreeMap::new());
        for (name, shape) in expected_tensors(&spec) {
            let count = shape.iter().product();
            if !name.contains(".running_") {
                params.insert(name.clone(), take(&mut gradients, count));
            }
            tensors.insert(name, Tensor::new(shape, take(&mut given, count)).unwrap());
        }
        let network = Network::new(spec, tensors).unwrap();
        let [steps, batch] = about.shape;
        let features = take(&mut given, steps * batch * about.input_size);
        let d_input = take(&mut gradients, features.len());
        let state = about.state.then(|| {
            let mut state = State::zeros(&network, batch).unwrap();
            for part in state.layers.iter_mut().flat_map(|layer| &mut layer.parts) {
                part.data = take(&mut given, part.data.len());
            }
            state
        });
        let counts = about.counts.iter().map(|&counts| f32::from(counts)).collect();
        let (name, target, d_state) = (name.to_owned(), given.to_vec(), gradients.to_vec());
        Self { name, about, network, features, state, target, counts, params, d_input, d_state }
    }

    fn input(&self) -> Input<'_> {
        let [steps, batch] = self.about.shape;
        let input = match self.about.tokens.is_empty() {
            true => Input::features(&self.features, [steps, batch, self.about.input_size]),
            false => Input::tokens(&self.about.tokens, [steps, batch]),
        };
        if self.about.lengths.is_empty() { input } else { input.with_lengths(&self.about.lengths) }
    }

    fn loss(&self) -> Loss {
        if self.about.loss == "mse" { Loss::Mse } else { Loss::CrossEntropy }
    }

    /// The loss and its gradients by the reference.
    fn of_reference<F: Real>(&self) -> (F, Gradients<F>) {
        let reference = Reference::<F>::new(&self.network);
        let forward = reference.forward(self.input(), self.state.as_ref()).unwrap();
        let softmax = matches!(self.about.layers.last(), Some(LayerSpec::Softmax));
        let from = forward.stages.len() - 1 - usize::from(softmax);
        let (counts, class_weights) = (F::of_f32(&self.counts), F::of_f32(&self.about.class_weights));
        let options = LossOptions {
            label_smoothing: self.about.label_smoothing,
            class_weights: Some(&class_weights[..]).filter(|weights| !weights.is_empty()),
            sample_weights: Some(&counts[..]).filter(|weights| !weights.is_empty()),
            ..LossOptions::default()
        };
        let target = F::of_f32(&self.target);
        let targets = match self.loss() {
            Loss::Mse => Targets::Values(&target[..]),
            _ => Targets::Classes(&self.about.classes),
        };
        let width = self.network.stages()[from].out_features;
        let loss = reference::loss(self.loss(), &forward.stages[from], width, targets, &options).unwrap();
        let d_output = (from, &loss.d_output[..]);
        (loss.value, reference.gradients(self.input(), self.state.as_ref(), &forward, d_output).unwrap())
    }

    /// The gradients of a trainer, which starts from the network's own state.
    fn of_trainer(&self) -> BTreeMap<String, Vec<f64>> {
        let mut options = TrainOptions::new(self.loss());
        options.label_smoothing = self.about.label_smoothing;
        options.class_weights.clone_from(&self.about.class_weights);
        for layer in &self.about.layers {
            if matches!(layer, LayerSpec::BatchNorm(_)) {
                options = options.freeze(layer.name());
            }
        }
        let targets = match self.loss() {
            Loss::Mse => Targets::Values(&self.target[..]),
            _ => Targets::Classes(&self.about.classes),
        };
        let weights = Some(&self.counts[..]).filter(|weights| !weights.is_empty());
        let batch = Batch { input: self.input(), targets, weights };
        let gradients = Trainer::new(&Device::cpu(), &self.network, options).unwrap().gradients(&batch).unwrap();
        let wide = |tensor: &Tensor| tensor.data().iter().copied().map(f64::from).collect();
        gradients.iter().map(|(name, tensor)| (name.clone(), wide(tensor))).collect()
    }

    /// The tensors whose gradients are farther from the golden than `tolerance`.
    fn faults(&self, got: &BTreeMap<String, Vec<f64>>, tolerance: f64) -> Vec<String> {
        assert_eq!(got.keys().collect::<Vec<_>>(), self.params.keys().collect::<Vec<_>>(), "{}", self.name);
        let errors = self.params.iter().map(|(name, golden)| (name, error(&got[name], golden)));
        let wrong = errors.filter(|(_, error)| *error > tolerance);
        wrong.map(|(name, error)| format!("{}, {name}: {error:.1e}", self.name)).collect()
    }
}

fn cases() -> Vec<GradientCase> {
    let of = |bytes| {
        let golden = ExactGolden::new(bytes);
        let cases = golden.cases().into_iter();
        cases.map(|(name, about)| GradientCase::new(&golden, &name, about)).collect::<Vec<_>>()
    };
    GOLDENS.into_iter().flat_map(of).collect()
}

fn case(name: &str) -> GradientCase {
    cases().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"))
}

#[test]
fn the_f64_reference_has_them() {
    let cases = cases();
    assert_eq!(cases.len(), 69 + 11);
    let mut faults = Vec::new();
    for case in &cases {
        let (value, gradients) = case.of_reference::<f64>();
        faults.extend(case.faults(&gradients.params, EXACT));
        for (what, got, golden) in [
            ("loss", &[value][..], &[case.about.value][..]),
            ("input", &gradients.input, &case.d_input),
            ("state", &numbers_of(&gradients.state), &case.d_state),
        ] {
            // A run without a given state has a gradient of the zeros that it starts from, which the golden leaves out.
            if what != "state" || case.about.state {
                let error = error(got, golden);
                if error > EXACT {
                    faults.push(format!("{}, {what}: {error:.1e}", case.name));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_cpu_in_f32_has_them() {
    let (mut faults, mut trained) = (Vec::new(), 0);
    for case in cases() {
        if case.state.is_none() {
            faults.extend(case.faults(&case.of_trainer(), SINGLE));
            trained += 1;
        }
        let (_, gradients) = case.of_reference::<f32>();
        let wide = |numbers: &[f32]| numbers.iter().copied().map(f64::from).collect::<Vec<_>>();
        let params = gradients.params.iter().map(|(name, numbers)| (name.clone(), wide(numbers))).collect();
        faults.extend(case.faults(&params, SINGLE));
        let error = error(&wide(&gradients.input), &case.d_input);
        if error > SINGLE {
            faults.push(format!("{}, input: {error:.1e}", case.name));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(trained > 35, "{trained} cases through a trainer");
}

/// A mistake that the backward pass of an LSTM could have.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    /// The gradients of two gates' sums change places.
    GatesSwapped,
    /// The gradient of h goes through U instead of its transpose.
    NotTransposed,
    /// The gradient of U is taken with h after the step.
    OneStepOff,
}

/// A plain LSTM of one level and one direction, written here once more, with a mistake: the gradients of `weight_ih`,
/// `weight_hh`, `bias_ih` and `bias_hh`.
fn lstm_gradients(case: &GradientCase, planted: Planted) -> BTreeMap<String, Vec<f64>> {
    let wide = |numbers: &[f32]| numbers.iter().copied().map(f64::from).collect::<Vec<_>>();
    let tensor = |name: &str| wide(case.network.tensors()[&format!("layer.{name}_l0")].data());
    let (w, u) = (tensor("weight_ih"), tensor("weight_hh"));
    let bias: Vec<f64> = tensor("bias_ih").iter().zip(tensor("bias_hh")).map(|(x, y)| x + y).collect();
    let [steps, batch] = case.about.shape;
    let (inputs, hidden) = (case.about.input_size, bias.len() / 4);
    let (x, target) = (wide(&case.features), wide(&case.target));
    let start = &case.state.as_ref().unwrap().layers[0];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let [mut d_w, mut d_u, mut d_bias] = [vec![0.0; w.len()], vec![0.0; u.len()], vec![0.0; 4 * hidden]];
    for row in 0..batch {
        let of_row = row * hidden..(row + 1) * hidden;
        let (mut h, mut c) = (vec![wide(&start.h()[of_row.clone()])], vec![wide(&start.c()[of_row])]);
        let mut gates: Vec<Vec<f64>> = Vec::new();
        let of_input = |t: usize| &x[(t * batch + row) * inputs..][..inputs];
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        for t in 0..steps {
            let sum = |line: usize| {
                bias[line] + dot(&w[line * inputs..][..inputs], of_input(t)) + dot(&u[line * hidden..][..hidden], &h[t])
            };
            let value = |line: usize| if line / hidden == 2 { sum(line).tanh() } else { sigmoid(sum(line)) };
            let a: Vec<f64> = (0..4 * hidden).map(value).collect();
            let cell = |k: usize| a[hidden + k] * c[t][k] + a[k] * a[2 * hidden + k];
            c.push((0..hidden).map(cell).collect());
            h.push((0..hidden).map(|k| a[3 * hidden + k] * c[t + 1][k].tanh()).collect());
            gates.push(a);
        }
        let (mut d_h, mut d_c) = (vec![0.0; hidden], vec![0.0; hidden]);
        for t in (0..steps).rev() {
            let mut d = vec![0.0; 4 * hidden];
            for k in 0..hidden {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[t][gate * hidden + k]);
                let rows = f64::from(u8::try_from(steps * batch * hidden).unwrap());
                d_h[k] += 2.0 * (h[t + 1][k] - target[(t * batch + row) * hidden + k]) / rows;
                let seen = c[t + 1][k].tanh();
                d_c[k] += d_h[k] * o * (1.0 - seen * seen);
                d[k] = d_c[k] * g * i * (1.0 - i);
                d[hidden + k] = d_c[k] * c[t][k] * f * (1.0 - f);
                d[2 * hidden + k] = d_c[k] * i * (1.0 - g * g);
                d[3 * hidden + k] = d_h[k] * seen * o * (1.0 - o);
                d_c[k] *= f;
            }
            if planted == Planted::GatesSwapped {
                (0..hidden).for_each(|k| d.swap(k, hidden + k));
            }
            let before = if planted == Planted::OneStepOff { &h[t + 1] } else { &h[t] };
            for (line, &d) in d.iter().enumerate() {
                d_bias[line] += d;
                d_w[line * inputs..][..inputs].iter_mut().zip(of_input(t)).for_each(|(sum, x)| *sum += d * x);
                d_u[line * hidden..][..hidden].iter_mut().zip(before).for_each(|(sum, h)| *sum += d * h);
            }
            let place = |line: usize, k: usize| match planted {
                Planted::NotTransposed => (line / hidden * hidden + k) * hidden + line % hidden,
                _ => line * hidden + k,
            };
            d_h = (0..hidden).map(|k| (0..4 * hidden).map(|line| u[place(line, k)] * d[line]).sum()).collect();
        }
    }
    let of = [("weight_ih", d_w), ("weight_hh", d_u), ("bias_ih", d_bias.clone()), ("bias_hh", d_bias)];
    of.map(|(name, numbers)| (format!("layer.{name}_l0"), numbers)).into()
}

/// Negative controls: an LSTM with a mistake in its backward pass is seen, also at the tolerance of f32; the same without
/// one is not.
#[test]
fn planted_faults_are_seen() {
    let case = case("lstm_l1");
    assert_eq!(case.faults(&lstm_gradients(&case, Planted::Nothing), EXACT), [""; 0]);
    for planted in [Planted::GatesSwapped, Planted::NotTransposed] {
        assert_eq!(case.faults(&lstm_gradients(&case, planted), SINGLE).len(), 4);
    }
    let of_u = case.faults(&lstm_gradients(&case, Planted::OneStepOff), SINGLE);
    assert!(of_u.len() == 1 && of_u[0].contains("weight_hh"), "{of_u:?}");
    // A number that is none is no small error.
    let mut nan = case.params.clone();
    nan.get_mut("layer.bias_ih_l0").unwrap()[0] = f64::NAN;
    assert_eq!(case.faults(&nan, SINGLE).len(), 1);
}

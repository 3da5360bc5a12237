//! Training on the device against the f64 reference: losses, gradients, steps of optimizers, dropout.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::Input;
use gatefold::network::{
    Activation, Cell, DenseSpec, EmbeddingSpec, Init, LayerSpec, MaskedOutput, MergeMode, Network, RecurrentOutput,
    RecurrentSpec,
};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{self, LossOptions, Reference};

use crate::common::{device, spec};

/// Largest error of a gradient as a share of the tensor's largest.
const TOLERANCE: f64 = 4e-6;

fn dense(name: &str, in_features: usize, out_features: usize, bias: bool, activation: Activation) -> LayerSpec {
    LayerSpec::Dense(DenseSpec { name: name.into(), in_features, out_features, bias, activation })
}

/// Functions of every shape that neither explode nor have a pole.
const FUNCTIONS: [Activation; 8] = [
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Relu,
    Activation::Softsign,
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::Silu,
    Activation::GeluTanh,
    Activation::Linear,
];

/// A layer with random options.
fn layer(cell: Cell, rng: &mut Rng) -> RecurrentSpec {
    let mut layer = RecurrentSpec::new("cell", rng.usize(1..=19), rng.usize(1..=70));
    layer.num_layers = rng.usize(1..=2);
    layer.bidirectional = rng.bool();
    layer.reverse = !layer.bidirectional && rng.bool();
    layer.output = [RecurrentOutput::Sequence, RecurrentOutput::Last][rng.usize(0..2)];
    layer.masked_output = [MaskedOutput::Zero, MaskedOutput::Previous][rng.usize(0..2)];
    layer.bias = rng.u8(0..4) > 0;
    layer.batch_first = rng.bool();
    layer.clip = (rng.u8(0..4) == 0).then(|| 0.2 + rng.f32());
    if layer.bidirectional {
        layer.merge_mode = [MergeMode::Concat, MergeMode::Sum, MergeMode::Ave, MergeMode::Mul][rng.usize(0..4)];
    }
    if cell == Cell::Lstm {
        layer.peephole = rng.bool();
        layer.coupled = rng.bool();
        layer.cell_clip = (rng.u8(0..4) == 0).then(|| 0.1 + rng.f32());
        if layer.hidden_size > 1 && rng.bool() {
            layer.proj_size = rng.usize(1..layer.hidden_size);
        }
    }
    if cell == Cell::Gru {
        layer.reset_after = rng.bool();
    }
    if rng.u8(0..3) == 0 {
        let sets = if rng.bool() { layer.directions() } else { 1 };
        let count = sets * cell.default_activations().len();
        layer.activations = (0..count).map(|_| FUNCTIONS[rng.usize(0..FUNCTIONS.len())]).collect();
    }
    layer
}

/// A batch in memory.
struct Example {
    network: Network,
    loss: Loss,
    tokens: Vec<u32>,
    features: Vec<f32>,
    shape: [usize; 3],
    lengths: Option<Vec<usize>>,
    classes: Vec<u32>,
    values: Vec<f32>,
    weights: Option<Vec<f32>>,
}

impl Example {
    fn batch(&self) -> Batch<'_> {
        let [outer, inner, _] = self.shape;
        let input = match self.tokens.is_empty() {
            true => Input::features(&self.features, self.shape),
            false => Input::tokens(&self.tokens, [outer, inner]),
        };
        let input = match &self.lengths {
            Some(lengths) => input.with_lengths(lengths),
            None => input,
        };
        let targets = match self.values.is_empty() {
            true => Targets::Classes(&self.classes),
            false => Targets::Values(&self.values),
        };
        Batch { input, targets, weights: self.weights.as_deref() }
    }

    /// T, B and the number of rows of the output.
    fn rows(&self) -> [usize; 3] {
        let [outer, inner, _] = self.shape;
        let [steps, batch] = if self.network.batch_first() { [inner, outer] } else { [outer, inner] };
        [steps, batch, if self.network.output_is_sequence() { steps * batch } else { batch }]
    }

    /// The loss and the gradients of the f64 reference.
    fn exact(&self) -> (f64, BTreeMap<String, Vec<f64>>) {
        let exact = Reference::<f64>::new(&self.network);
        let batch = self.batch();
        let forward = exact.forward(batch.input, None).unwrap();
        let from_logits = self.loss == Loss::CrossEntropy;
        let from = forward.stages.len() - if from_logits { 2 } else { 1 };
        let width = self.network.stages()[from].out_features;
        let [steps, rows, _] = self.rows();
        // The reference is time-major.
        let by_time = self.network.batch_first() && self.network.output_is_sequence();
        let places: Vec<usize> = match by_time {
            true => (0..steps).flat_map(|step| (0..rows).map(move |row| row * steps + step)).collect(),
            false => (0..self.rows()[2]).collect(),
        };
        let weights: Option<Vec<f64>> =
            self.weights.as_ref().map(|weights| places.iter().map(|&at| weights[at].into()).collect());
        let options = LossOptions { sample_weights: weights.as_deref(), ..LossOptions::default() };
        let classes: Vec<u32> =
            if self.classes.is_empty() { Vec::new() } else { places.iter().map(|&at| self.classes[at]).collect() };
        let values: Vec<f64> = match self.values.is_empty() {
            true => Vec::new(),
            false => places.iter().flat_map(|&at| &self.values[at * width..][..width]).map(|&x| x.into()).collect(),
        };
        let targets = if values.is_empty() { Targets::Classes(&classes) } else { Targets::Values(&values) };
        let loss = reference::loss(self.loss, &forward.stages[from], width, targets, &options).unwrap();
        let gradients = exact.gradients(batch.input, None, &forward, (from, &loss.d_output)).unwrap();
        (loss.value, gradients.params)
    }

    fn trainer(&self) -> Trainer {
        Trainer::on(device(), &self.network, TrainOptions::new(self.loss)).unwrap()
    }

    /// The largest error of the device's gradients as a multiple of the tolerance, and the tensor that has it.
    fn worst(&self) -> (f64, String) {
        let (loss, exact) = self.exact();
        let trainer = self.trainer();
        let measured = trainer.evaluate(&self.batch()).unwrap();
        assert!((measured.loss - loss).abs() <= 4e-6 * loss.abs().max(1.0), "{} for {loss}", measured.loss);
        worst_of(&exact, |name| trainer.gradients(&self.batch()).unwrap()[name].data().to_vec())
    }
}

/// The largest error of `got` as a multiple of the tolerance, and the tensor that has it.
fn worst_of(exact: &BTreeMap<String, Vec<f64>>, got: impl Fn(&str) -> Vec<f32>) -> (f64, String) {
    let errors = exact.iter().map(|(name, exact)| {
        let largest = exact.iter().fold(1e-30f64, |most, g| most.max(g.abs()));
        let errors = got(name).into_iter().zip(exact).map(|(got, exact)| (f64::from(got) - exact).abs() / largest);
        let error = errors.fold(0.0, |most: f64, error| if error.is_nan() { f64::INFINITY } else { most.max(error) });
        (error / TOLERANCE, name.clone())
    });
    errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// A random network of `cell` with a random batch.
fn example(cell: Cell, seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let layer = layer(cell, &mut rng);
    let (inputs, width, batch_first) = (layer.input_size, layer.output_size(), layer.batch_first);
    let mut layers = Vec::new();
    let embedded = rng.bool();
    if embedded {
        let mask_zero = rng.bool();
        layers.push(LayerSpec::Embedding(EmbeddingSpec {
            name: "embedding".into(),
            num_embeddings: 30,
            embedding_dim: inputs,
            mask_zero,
        }));
    }
    let masks = embedded && matches!(&layers[0], LayerSpec::Embedding(spec) if spec.mask_zero);
    layers.push(LayerSpec::of_cell(cell, layer));
    let losses = [Loss::CrossEntropy, Loss::Mse, Loss::BinaryCrossEntropy, Loss::Huber { delta: 0.3 }, Loss::Mae];
    let loss = losses[rng.usize(0..losses.len())];
    let (middle, outputs) = (rng.usize(1..=40), rng.usize(2..=7));
    layers.push(dense("first", width, middle, rng.bool(), FUNCTIONS[rng.usize(0..FUNCTIONS.len())]));
    layers.push(dense("second", middle, outputs, true, Activation::Linear));
    if loss == Loss::CrossEntropy {
        layers.push(LayerSpec::Softmax);
    }
    let network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
    let (steps, batch) = (rng.usize(1..=9), rng.usize(1..=9));
    let [outer, inner] = if batch_first { [batch, steps] } else { [steps, batch] };
    let mut example = Example {
        network,
        loss,
        tokens: Vec::new(),
        features: Vec::new(),
        shape: [outer, inner, inputs],
        lengths: None,
        classes: Vec::new(),
        values: Vec::new(),
        weights: None,
    };
    match embedded {
        true => example.tokens = (0..steps * batch).map(|_| rng.u32(0..30)).collect(),
        false => example.features = (0..steps * batch * inputs).map(|_| rng.f32() * 2.0 - 1.0).collect(),
    }
    if !masks && rng.bool() {
        example.lengths = Some((0..batch).map(|row| [0, 1, steps, rng.usize(0..=steps)][row % 4]).collect());
    }
    let [_, _, rows] = example.rows();
    match loss {
        Loss::CrossEntropy => {
            let outputs = u32::try_from(outputs).unwrap();
            example.classes = (0..rows).map(|_| rng.u32(0..outputs)).collect();
        }
        _ => example.values = (0..rows * outputs).map(|_| rng.f32()).collect(),
    }
    if rng.bool() {
        example.weights =
            Some((0..rows).map(|row| [0.0, 1.0, 0.5][row % 3] + rng.f32() * f32::from(row % 3 > 0)).collect());
    }
    example
}

fn battery(cell: Cell, cases: u64) {
    for seed in 0..cases {
        let example = example(cell, seed);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
    }
}

#[test]
fn gradients_of_an_lstm_agree() {
    battery(Cell::Lstm, 30);
}

#[test]
fn gradients_of_a_gru_agree() {
    battery(Cell::Gru, 30);
}

#[test]
fn gradients_of_an_rnn_agree() {
    battery(Cell::Rnn, 20);
}

//! A network with a batch, trained on the device and by the reference.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::Input;
use gatefold::network::{Activation, DenseSpec, LayerSpec, Network};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{self, LossOptions, Real, Reference};

use crate::common::device;

/// Largest error of a gradient as a share of the tensor's largest.
pub const TOLERANCE: f64 = 4e-6;

pub fn dense(name: &str, in_features: usize, out_features: usize, bias: bool, activation: Activation) -> LayerSpec {
    LayerSpec::Dense(DenseSpec { name: name.into(), in_features, out_features, bias, activation })
}

/// Functions of every shape that neither explode nor have a pole.
pub const FUNCTIONS: [Activation; 8] = [
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Relu,
    Activation::Softsign,
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::Silu,
    Activation::GeluTanh,
    Activation::Linear,
];

/// A batch in memory.
#[derive(Clone)]
pub struct Example {
    pub network: Network,
    pub loss: Loss,
    pub tokens: Vec<u32>,
    pub features: Vec<f32>,
    pub shape: [usize; 3],
    pub lengths: Option<Vec<usize>>,
    pub classes: Vec<u32>,
    pub values: Vec<f32>,
    pub weights: Option<Vec<f32>>,
}

impl Example {
    /// A batch of random sequences `[T, B, I]`, of which some rows may be short, with random values of all outputs.
    pub fn of_values(network: Network, [steps, batch, inputs]: [usize; 3], rng: &mut Rng) -> Self {
        let features = (0..steps * batch * inputs).map(|_| rng.f32() * 2.0 - 1.0).collect();
        let lengths = rng.bool().then(|| (0..batch).map(|row| [steps, 0, 1, rng.usize(0..=steps)][row % 4]).collect());
        let width = network.stages().last().unwrap().out_features;
        let (loss, shape) = (Loss::Mse, [steps, batch, inputs]);
        let (tokens, classes, values) = (Vec::new(), Vec::new(), Vec::new());
        let mut example = Self { network, loss, tokens, features, shape, lengths, classes, values, weights: None };
        example.values = (0..example.rows()[2] * width).map(|_| rng.f32()).collect();
        example
    }

    pub fn batch(&self) -> Batch<'_> {
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

    /// T of the output, B and the number of rows of the output.
    pub fn rows(&self) -> [usize; 3] {
        let [outer, inner, _] = self.shape;
        let [steps, batch] = if self.network.batch_first() { [inner, outer] } else { [outer, inner] };
        let steps = self.network.stage_steps(steps).unwrap().pop().unwrap();
        [steps, batch, if self.network.output_is_sequence() { steps * batch } else { batch }]
    }

    /// The loss and the gradients of the reference.
    pub fn reference<F: Real>(&self) -> (f64, BTreeMap<String, Vec<f64>>) {
        let reference = Reference::<F>::new(&self.network);
        let batch = self.batch();
        let forward = reference.forward(batch.input, None).unwrap();
        let last = self.network.stages().len() - 1;
        let from_logits = self.loss == Loss::CrossEntropy && self.network.stages()[last].is_softmax();
        let from = if from_logits { last - 1 } else { last };
        let width = self.network.stages()[from].out_features;
        let [steps, rows, _] = self.rows();
        // The reference is time-major.
        let by_time = self.network.batch_first() && self.network.output_is_sequence();
        let places: Vec<usize> = match by_time {
            true => (0..steps).flat_map(|step| (0..rows).map(move |row| row * steps + step)).collect(),
            false => (0..self.rows()[2]).collect(),
        };
        let weights = self.weights.as_ref();
        let weights: Option<Vec<F>> =
            weights.map(|weights| places.iter().map(|&at| F::from_f32(weights[at])).collect());
        let options = LossOptions { sample_weights: weights.as_deref(), ..LossOptions::default() };
        let classes: Vec<u32> =
            if self.classes.is_empty() { Vec::new() } else { places.iter().map(|&at| self.classes[at]).collect() };
        let values: Vec<F> = match self.values.is_empty() {
            true => Vec::new(),
            false => {
                places.iter().flat_map(|&at| &self.values[at * width..][..width]).map(|&x| F::from_f32(x)).collect()
            }
        };
        let targets = if values.is_empty() { Targets::Classes(&classes) } else { Targets::Values(&values) };
        let loss = reference::loss(self.loss, &forward.stages[from], width, targets, &options).unwrap();
        let gradients = reference.gradients(batch.input, None, &forward, (from, &loss.d_output)).unwrap().params;
        let wide = |(name, numbers): (String, Vec<F>)| (name, numbers.into_iter().map(Real::to_f64).collect());
        (loss.value.to_f64(), gradients.into_iter().map(wide).collect())
    }

    /// Its batch normalizations go by the statistics that they have, as those of the reference do.
    pub fn options(&self) -> TrainOptions {
        let norms = self.network.spec().layers.iter().filter(|layer| matches!(layer, LayerSpec::BatchNorm(_)));
        norms.fold(TrainOptions::new(self.loss), |options, norm| options.freeze(norm.name()))
    }

    pub fn trainer(&self) -> Trainer {
        Trainer::new(device(), &self.network, self.options()).unwrap()
    }

    /// The largest error of the device's gradients as a multiple of the tolerance, and the tensor that has it. Where sums
    /// cancel, the f32 reference says how much is right.
    pub fn worst(&self) -> (f64, String) {
        self.worst_of(&self.trainer())
    }

    /// The same of a trainer of this network.
    pub fn worst_of(&self, trainer: &Trainer) -> (f64, String) {
        let (loss, exact) = self.reference::<f64>();
        let single = errors(&exact, |name| self.reference::<f32>().1[name].clone());
        let measured = trainer.evaluate(&self.batch()).unwrap();
        assert!((measured.loss - loss).abs() <= 4e-6 * loss.abs().max(1.0), "{} for {loss}", measured.loss);
        let got = trainer.gradients(&self.batch()).unwrap();
        let found = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        let found = found.into_iter().map(|(name, error)| (error / (8.0 * single[&name]).max(TOLERANCE), name));
        found.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    }
}

/// The largest error of each tensor as a share of its largest number.
pub fn errors(exact: &BTreeMap<String, Vec<f64>>, got: impl Fn(&str) -> Vec<f64>) -> BTreeMap<String, f64> {
    let error = |(name, exact): (&String, &Vec<f64>)| {
        let largest = exact.iter().fold(1e-30f64, |most, g| most.max(g.abs()));
        let errors = got(name).into_iter().zip(exact).map(|(got, exact)| (got - exact).abs() / largest);
        let error = errors.fold(0.0, |most: f64, error| if error.is_nan() { f64::INFINITY } else { most.max(error) });
        (name.clone(), error)
    };
    exact.iter().map(error).collect()
}

/// Losses and weights after some steps.
pub fn run(mut trainer: Trainer, example: &Example, steps: usize) -> (Vec<f64>, Vec<(String, Vec<f32>)>) {
    let losses = (0..steps).map(|_| trainer.step(&example.batch()).unwrap().loss).collect();
    let network = trainer.network().unwrap();
    let weights = network.tensors().iter().map(|(name, tensor)| (name.clone(), tensor.data().to_vec()));
    (losses, weights.collect())
}

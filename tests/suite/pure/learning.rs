//! What training comes to on small problems, and what padding does to it: nothing.

use fastrand::Rng;
use gatefold::network::{Activation, Cell, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{
    Adam, Answers, Batch, Clip, Convention, Dataset, Fit, Loss, Next, Optimizer, Targets, TrainOptions, Trainer,
};
use gatefold::unstable::reference::{Real, Reference};
use gatefold::{Device, Input, Network};

use crate::common::spec;

fn dense(in_features: usize, out_features: usize) -> LayerSpec {
    let activation = Activation::Linear;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features, bias: true, activation })
}

fn embedding(count: usize, width: usize) -> LayerSpec {
    let name = "embedding".into();
    LayerSpec::Embedding(EmbeddingSpec { name, num_embeddings: count, embedding_dim: width, mask_zero: false })
}

fn initialized(layers: Vec<LayerSpec>) -> Network {
    Network::initialized(spec(layers), Init::PyTorch, 3).unwrap()
}

fn adam(learning_rate: f64) -> Optimizer {
    let mut optimizer = Optimizer::from(Adam { learning_rate, ..Adam::default() });
    optimizer.clip = Some(Clip::GlobalNorm { max: 1.0, convention: Convention::PyTorch });
    optimizer
}

/// 200 steps on one batch of random sequences with random classes: nothing but learning it by heart helps. Cells without
/// products of h have fewer weights and get 400.
#[test]
fn every_cell_learns_one_batch_by_heart() {
    let mut rng = Rng::with_seed(4);
    let sequences: Vec<Vec<f32>> =
        (0..12).map(|_| (0..3 * rng.usize(3..=8)).map(|_| rng.f32() - 0.5).collect()).collect();
    let set = Dataset::features(sequences, 3, Answers::Classes((0..12).map(|_| rng.u32(0..3)).collect())).unwrap();
    let mut losses = Vec::new();
    for cell in Cell::ALL {
        let layer = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 3, 24) };
        let network = initialized(vec![LayerSpec::of_cell(cell, layer), dense(24, 3), LayerSpec::Softmax]);
        let options = TrainOptions::new(Loss::CrossEntropy).optimizer(adam(0.02));
        let mut trainer = Trainer::new(&Device::cpu(), &network, options).unwrap();
        let before = trainer.evaluate_all(&set, 12).unwrap().loss;
        let epochs = if cell.scans() { 400 } else { 200 };
        trainer.fit(&set, None, &Fit::new(12).epochs(epochs), |_| Next::Continue).unwrap();
        assert_eq!(trainer.steps(), epochs as u64);
        losses.push((cell, before, trainer.evaluate_all(&set, 12).unwrap().loss));
    }
    assert!(losses.iter().all(|&(_, before, after)| before > 0.9 && after < 1e-3), "{losses:?}");
}

/// The adding problem (Hochreiter & Schmidhuber 1997): of 50 pairs, the sum of the two first numbers whose second one is 1.
/// Always to say 1 has an error of 1/6.
fn adding(count: usize, seed: u64) -> Dataset {
    const STEPS: usize = 50;
    let mut rng = Rng::with_seed(seed);
    let (mut sequences, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut sequence: Vec<f32> = (0..2 * STEPS).map(|at| if at % 2 == 0 { rng.f32() } else { 0.0 }).collect();
        let marked = [rng.usize(..STEPS / 2), rng.usize(STEPS / 2..STEPS)];
        marked.iter().for_each(|step| sequence[2 * step + 1] = 1.0);
        sums.push(vec![marked.iter().map(|step| sequence[2 * step]).sum::<f32>()]);
        sequences.push(sequence);
    }
    Dataset::features(sequences, 2, Answers::Values(sums)).unwrap()
}

#[test]
fn an_lstm_adds_over_fifty_steps() {
    let layer = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 2, 24) };
    let network = initialized(vec![LayerSpec::Lstm(layer), dense(24, 1)]);
    let mut trainer =
        Trainer::new(&Device::cpu(), &network, TrainOptions::new(Loss::Mse).optimizer(adam(0.01))).unwrap();
    let (train, test) = (adding(2000, 1), adding(300, 2));
    let before = trainer.evaluate_all(&test, 100).unwrap().loss;
    trainer.fit(&train, None, &Fit::new(32).epochs(12), |_| Next::Continue).unwrap();
    let after = trainer.evaluate_all(&test, 100).unwrap().loss;
    assert!(before > 0.15 && after < 0.05, "{before} to {after}");
}

/// Three symbols, a pause of four steps, then the same three symbols have to come.
fn copying(count: usize, seed: u64) -> Dataset {
    const PAUSE: u32 = 4;
    const GO: u32 = 5;
    let mut rng = Rng::with_seed(seed);
    let (mut sequences, mut classes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let symbols: Vec<u32> = (0..3).map(|_| rng.u32(0..4)).collect();
        sequences.push([&symbols[..], &[PAUSE; 4], &[GO; 3]].concat());
        classes.push([&[PAUSE; 7], &symbols[..]].concat());
    }
    Dataset::tokens(sequences, Answers::StepClasses(classes)).unwrap()
}

#[test]
fn a_gru_copies_what_it_read() {
    let network = initialized(vec![
        embedding(6, 6),
        LayerSpec::Gru(RecurrentSpec::new("cell", 6, 32)),
        dense(32, 5),
        LayerSpec::Softmax,
    ]);
    let mut trainer =
        Trainer::new(&Device::cpu(), &network, TrainOptions::new(Loss::CrossEntropy).optimizer(adam(0.01))).unwrap();
    trainer.fit(&copying(1000, 1), None, &Fit::new(32).epochs(20), |_| Next::Continue).unwrap();
    let after = trainer.evaluate_all(&copying(200, 2), 100).unwrap();
    // Without memory 7 of 10 steps are right, and a quarter of the rest.
    assert!(after.accuracy > 0.99, "{after:?}");
}

/// Tokens of several rows, of which some are filled up, and a class of every step.
struct Rows {
    tokens: Vec<u32>,
    classes: Vec<u32>,
    lengths: Vec<usize>,
    steps: usize,
}

impl Rows {
    fn new(lengths: &[usize], steps: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let batch = lengths.len();
        // Token 6 stands where nothing is read, and nowhere else.
        let token = |at: usize, rng: &mut Rng| if at / batch < lengths[at % batch] { rng.u32(0..6) } else { 6 };
        Self {
            tokens: (0..steps * batch).map(|at| token(at, &mut rng)).collect(),
            classes: (0..steps * batch).map(|_| rng.u32(0..3)).collect(),
            lengths: lengths.to_vec(),
            steps,
        }
    }

    /// One row alone, as long as it is.
    fn alone(&self, row: usize) -> Self {
        let (batch, steps) = (self.lengths.len(), self.lengths[row]);
        let of_row = |numbers: &[u32]| (0..steps).map(|step| numbers[step * batch + row]).collect();
        Self { tokens: of_row(&self.tokens), classes: of_row(&self.classes), lengths: vec![steps], steps }
    }

    /// Calls `with` with a batch in which only the steps of the row `of` count.
    fn batch<T>(&self, of: usize, with: impl FnOnce(&Batch<'_>) -> T) -> T {
        let batch = self.lengths.len();
        let counts = |at: usize| at % batch == of && at / batch < self.lengths[of];
        let weights: Vec<f32> = (0..self.steps * batch).map(|at| f32::from(u8::from(counts(at)))).collect();
        let input = Input::tokens(&self.tokens, [self.steps, batch]).with_lengths(&self.lengths);
        with(&Batch { input, targets: Targets::Classes(&self.classes), weights: Some(&weights) })
    }
}

fn tagger(cell: Cell) -> Network {
    let layer = RecurrentSpec { num_layers: 2, bidirectional: true, ..RecurrentSpec::new("cell", 5, 9) };
    initialized(vec![embedding(7, 5), LayerSpec::of_cell(cell, layer), dense(18, 3), LayerSpec::Softmax])
}

/// The gradient of a row's loss is the same alone and beside longer and shorter rows, whatever stands behind its end; what
/// stands there has a gradient of exactly 0.
#[test]
fn a_rows_gradient_is_the_same_in_any_company() {
    let rows = Rows::new(&[7, 3, 1, 5], 7, 8);
    for cell in Cell::ALL {
        let trainer = Trainer::new(&Device::cpu(), &tagger(cell), TrainOptions::new(Loss::CrossEntropy)).unwrap();
        for row in 0..4 {
            let together = rows.batch(row, |batch| trainer.gradients(batch)).unwrap();
            let alone = rows.alone(row).batch(0, |batch| trainer.gradients(batch)).unwrap();
            let mut worst = 0.0f32;
            for (name, alone) in &alone {
                let largest = alone.data().iter().fold(1e-12f32, |most, g| most.max(g.abs()));
                let pairs = together[name].data().iter().zip(alone.data());
                let errors = pairs.map(|(x, y)| (x - y).abs() / largest);
                worst = errors.fold(worst, |most, error| if error.is_nan() { f32::INFINITY } else { most.max(error) });
            }
            assert!(worst < 4e-6, "{cell:?}, row {row}: {worst:e}");
            let table = together["embedding.weight"].data();
            assert!(table[6 * 5..].iter().all(|d| d.to_bits() << 1 == 0), "{cell:?}: {:?}", &table[6 * 5..]);
            assert!(table[..6 * 5].iter().any(|&d| d != 0.0));
        }
        // Negative control: one more step of the row is another gradient.
        let longer = Rows { lengths: vec![7, 4, 1, 5], ..Rows::new(&[7, 3, 1, 5], 7, 8) };
        let [longer, right] = [&longer, &rows].map(|rows| rows.batch(1, |batch| trainer.gradients(batch)).unwrap());
        assert_ne!(longer["cell.weight_ih_l1"], right["cell.weight_ih_l1"]);
    }
}

/// In f64 and f32: of the input at masked steps, whatever they hold.
fn input_gradient<F: Real>(network: &Network, input: Input<'_>) -> Vec<F> {
    let reference = Reference::<F>::new(network);
    let forward = reference.forward(input, None).unwrap();
    let output = forward.stages.last().unwrap();
    let d_output: Vec<F> = (0..output.len()).map(|at| F::count(at % 7 + 1)).collect();
    let last = forward.stages.len() - 1;
    reference.gradients(input, None, &forward, (last, &d_output)).unwrap().input
}

#[test]
fn masked_steps_have_no_gradient() {
    let (steps, batch) = (6, 3);
    let mask: Vec<bool> = (0..steps * batch).map(|at| at % 5 != 2 && at < 15).collect();
    let mut rng = Rng::with_seed(1);
    let values: Vec<f32> = (0..steps * batch * 4).map(|_| rng.f32() - 0.5).collect();
    for cell in Cell::ALL {
        let layer = RecurrentSpec { num_layers: 2, bidirectional: true, ..RecurrentSpec::new("cell", 4, 5) };
        let network = initialized(vec![LayerSpec::of_cell(cell, layer)]);
        let input = Input::features(&values, [steps, batch, 4]).with_mask(&mask);
        let exact = input_gradient::<f64>(&network, input);
        let single: Vec<f64> = input_gradient::<f32>(&network, input).into_iter().map(f64::from).collect();
        for gradient in [exact, single] {
            for (step, gradient) in gradient.chunks_exact(4).enumerate() {
                assert_eq!(gradient.iter().all(|&d| d == 0.0), !mask[step], "{cell:?}, step {step}: {gradient:?}");
            }
        }
    }
}

//! Training on the CPU: its gradients against the f64 reference, what a run comes to, and what is refused.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::network::{Cell, DenseSpec, Init, LayerSpec, NtmSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{
    Adam, Answers, Batch, Clip, Convention, Dataset, Dropout, Event, Fit, Loss, Next, Optimizer, Sgd, Targets,
    TrainOptions, Trainer,
};
use gatefold::unstable::plan::{Kernel, PlanParts, TrainKernel};
use gatefold::unstable::reference::{self, LossOptions, Reference};
use gatefold::{Device, Input, Network, PlanLimits, RunShape, WeightFormat};

use crate::common::{lstm, spec};

/// Largest error of a gradient as a share of the tensor's largest.
const TOLERANCE: f64 = 4e-6;

fn dense(in_features: usize, out_features: usize) -> LayerSpec {
    let activation = gatefold::network::Activation::Linear;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features, bias: true, activation })
}

/// A layer of `cell`, a dense layer and a softmax.
fn classifier(cell: Cell, layer: RecurrentSpec, classes: usize) -> Network {
    let width = layer.output_size();
    let layers = vec![LayerSpec::of_cell(cell, layer), dense(width, classes), LayerSpec::Softmax];
    Network::initialized(spec(layers), Init::PyTorch, 3).unwrap()
}

/// The gradients of the f64 reference.
fn of_reference(network: &Network, batch: &Batch<'_>, classes: &[u32], width: usize) -> BTreeMap<String, Vec<f64>> {
    let exact = Reference::<f64>::new(network);
    let forward = exact.forward(batch.input, None).unwrap();
    let from = forward.stages.len() - 2;
    let weights: Option<Vec<f64>> = batch.weights.map(|weights| weights.iter().copied().map(f64::from).collect());
    let options = LossOptions { sample_weights: weights.as_deref(), ..LossOptions::default() };
    let logits = &forward.stages[from];
    let loss = reference::loss(Loss::CrossEntropy, logits, width, Targets::Classes(classes), &options).unwrap();
    exact.gradients(batch.input, None, &forward, (from, &loss.d_output)).unwrap().params
}

/// The largest error of a trainer's gradients as a multiple of the tolerance, and the tensor that has it.
fn worst(network: &Network, batch: &Batch<'_>, classes: &[u32], width: usize) -> (f64, String) {
    let got =
        Trainer::new(&Device::cpu(), network, TrainOptions::new(Loss::CrossEntropy)).unwrap().gradients(batch).unwrap();
    let exact = of_reference(network, batch, classes, width);
    let errors = exact.iter().map(|(name, exact)| {
        let largest = exact.iter().fold(1e-30f64, |most, g| most.max(g.abs()));
        let error = |numbers: &mut dyn Iterator<Item = f64>| {
            let errors = numbers.zip(exact).map(|(got, exact)| (got - exact).abs() / largest);
            errors.fold(0.0, |most: f64, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
        };
        (error(&mut got[name].data().iter().map(|&x| x.into())) / TOLERANCE, name.clone())
    });
    errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// Every cell at sizes around those of vectors, in both directions and several levels, with lengths.
#[test]
fn gradients_are_the_references() {
    let mut rng = Rng::with_seed(1);
    for cell in Cell::ALL {
        for hidden_size in [3, 7, 8, 16, 17, 33, 64] {
            for last in [true, false] {
                let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
                let base = RecurrentSpec { output, ..RecurrentSpec::new("cell", 5, hidden_size) };
                let layer = RecurrentSpec {
                    bidirectional: rng.bool(),
                    num_layers: rng.usize(1..=2),
                    layer_norm_eps: if cell.name().starts_with("layer_norm") { 0.1 } else { base.layer_norm_eps },
                    ..base
                };
                let network = classifier(cell, layer.clone(), 3);
                let (steps, batch) = (rng.usize(1..=9), rng.usize(1..=5));
                let values: Vec<f32> = (0..steps * batch * 5).map(|_| rng.f32() - 0.5).collect();
                let lengths: Vec<usize> = (0..batch).map(|_| rng.usize(0..=steps)).collect();
                let rows = if last { batch } else { steps * batch };
                let classes: Vec<u32> = (0..rows).map(|_| rng.u32(0..3)).collect();
                let weights: Vec<f32> = (0..rows).map(|row| f32::from(row % 4 != 1)).collect();
                let input = Input::features(&values, [steps, batch, 5]).with_lengths(&lengths);
                let batch = Batch { input, targets: Targets::Classes(&classes), weights: Some(&weights) };
                let (error, name) = worst(&network, &batch, &classes, 3);
                assert!(error <= 1.0, "{name}: {error:.1e}, T = {steps}, {lengths:?}: {layer:#?}");
            }
        }
    }
}

/// Negative control: the gradients of another batch are not within the tolerance.
#[test]
fn another_batchs_gradients_are_seen() {
    let network = classifier(Cell::Lstm, lstm(5, 9), 3);
    let values: Vec<f32> = (0..4 * 2 * 5u8).map(|x| f32::from(x) / 40.0).collect();
    let (classes, others) = ([0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 0, 1, 2, 0, 2]);
    let input = Input::features(&values, [4, 2, 5]);
    let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
    assert!(worst(&network, &batch, &classes, 3).0 <= 1.0);
    assert!(worst(&network, &batch, &others, 3).0 > 1000.0);
}

/// Sequences of one number per step whose class says whether they sum up to more than 0.
pub fn sums(count: usize, seed: u64) -> Dataset {
    let mut rng = Rng::with_seed(seed);
    let sequences: Vec<Vec<f32>> =
        (0..count).map(|_| (0..rng.usize(1..=12)).map(|_| rng.f32() - 0.5).collect()).collect();
    let classes = sequences.iter().map(|numbers| u32::from(numbers.iter().sum::<f32>() > 0.0)).collect();
    Dataset::features(sequences, 1, Answers::Classes(classes)).unwrap()
}

pub fn summing(cell: Cell) -> Network {
    classifier(cell, RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 1, 16) }, 2)
}

/// What is learned holds for sequences that were not seen, and early stopping keeps the best weights.
#[test]
fn a_fit_generalizes_and_keeps_its_best_epoch() {
    let (train, valid) = (sums(600, 1), sums(200, 2));
    let optimizer = Adam { learning_rate: 0.01, ..Adam::default() };
    let mut trainer =
        Trainer::new(&Device::cpu(), &summing(Cell::Gru), TrainOptions::new(Loss::CrossEntropy).optimizer(optimizer))
            .unwrap();
    let mut losses = Vec::new();
    let fit = Fit::new(20).epochs(12).patience(3);
    let fitted = trainer
        .fit(&train, Some(&valid), &fit, |event| {
            if let Event::Epoch { valid: Some(valid), .. } = event {
                losses.push(valid.loss);
            }
            Next::Continue
        })
        .unwrap();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[fitted.best_epoch - 1].to_bits(), least.to_bits());
    let kept = trainer.evaluate_all(&valid, 20).unwrap();
    assert!((kept.loss - least).abs() < 1e-6 && kept.accuracy > 0.9, "{kept:?} of {losses:?}");
}

fn weights_after(options: &TrainOptions, steps: usize) -> Vec<Vec<u32>> {
    let mut trainer = Trainer::new(&Device::cpu(), &summing(Cell::Lstm), options.clone()).unwrap();
    let mut left = steps;
    let fit = Fit::new(8).epochs(100);
    trainer
        .fit(&sums(64, 5), None, &fit, |event| {
            left -= usize::from(matches!(event, Event::Step { .. }));
            if left == 0 { Next::Stop } else { Next::Continue }
        })
        .unwrap();
    let network = trainer.network().unwrap();
    let tensors = network.tensors().values();
    tensors.map(|tensor| tensor.data().iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let options = TrainOptions::new(Loss::CrossEntropy).dropout(Dropout::elements("cell", 0.4)).seed(3);
    assert_eq!(weights_after(&options, 20), weights_after(&options, 20));
    assert_ne!(weights_after(&options, 20), weights_after(&options.clone().seed(4), 20));
    let without = TrainOptions::new(Loss::CrossEntropy).seed(3);
    assert_ne!(weights_after(&options, 20), weights_after(&without, 20));
}

/// A frozen layer and, with one bias, the second bias stay as they are; all else moves.
#[test]
fn frozen_weights_stay() {
    let network = summing(Cell::Lstm);
    let options = TrainOptions::new(Loss::CrossEntropy).freeze("dense").one_bias(true);
    let mut trainer = Trainer::new(&Device::cpu(), &network, options).unwrap();
    trainer.fit(&sums(32, 5), None, &Fit::new(8), |_| Next::Continue).unwrap();
    for (name, tensor) in network.tensors() {
        let stays = name.starts_with("dense.") || name == "cell.bias_hh_l0";
        assert_eq!(trainer.network().unwrap().tensors()[name] == *tensor, stays, "{name}");
    }
}

/// A single tensor stays; of a memory's controller one bias is trained, and moves the sum once.
#[test]
fn single_tensors_stay() {
    let layer = NtmSpec { initial_state: true, ..NtmSpec::new("memory", 2, 3, [4, 2]) };
    let network = Network::initialized(spec(vec![LayerSpec::Ntm(layer)]), Init::PyTorch, 1).unwrap();
    let (x, y) = ([0.5, -0.2, 0.1, 0.9], [0.1; 10]);
    let batch = Batch { input: Input::features(&x, [2, 1, 2]), targets: Targets::Values(&y), weights: None };
    let options = TrainOptions::new(Loss::Mse).freeze("memory.initial_read").one_bias(true);
    let mut trainer = Trainer::new(&Device::cpu(), &network, options).unwrap();
    trainer.step(&batch).unwrap();
    let trained = trainer.network().unwrap();
    for (name, tensor) in network.tensors() {
        let stays = ["memory.initial_read", "memory.bias_hh_l0", "memory.memory"].contains(&&name[..]);
        assert_eq!(trained.tensors()[name] == *tensor, stays, "{name}");
    }
}

/// A gradient is cut to its bound: one step of plain SGD moves the weights by the rate times the bound.
#[test]
fn the_norm_of_a_step_is_bounded() {
    let set = sums(8, 5);
    let moved = |clip| {
        let mut optimizer = Optimizer::from(Sgd { learning_rate: 1.0, ..Sgd::default() });
        optimizer.clip = clip;
        let network = summing(Cell::Rnn);
        let options = TrainOptions::new(Loss::CrossEntropy).optimizer(optimizer);
        let mut trainer = Trainer::new(&Device::cpu(), &network, options).unwrap();
        trainer.fit(&set, None, &Fit::new(8), |_| Next::Continue).unwrap();
        let after = trainer.network().unwrap();
        let pairs = network.tensors().iter().map(|(name, before)| (before, &after.tensors()[name]));
        let squares = pairs.flat_map(|(a, b)| a.data().iter().zip(b.data()).map(|(x, y)| f64::from(x - y).powi(2)));
        squares.sum::<f64>().sqrt()
    };
    let bound = Clip::GlobalNorm { max: 0.01, convention: Convention::PyTorch };
    assert!((moved(Some(bound)) - 0.01).abs() < 1e-4, "{}", moved(Some(bound)));
    assert!(moved(None) > 0.02, "{}", moved(None));
}

#[test]
fn mistakes_are_named() {
    let network = summing(Cell::Lstm);
    let refused = |network: &Network, options: TrainOptions| {
        Trainer::new(&Device::cpu(), network, options).unwrap_err().to_string()
    };
    let options = || TrainOptions::new(Loss::CrossEntropy);
    let half = network.with_weights(WeightFormat::F16).unwrap();
    let error = refused(&half, options());
    assert!(error.contains("training weights stored as f16 (supported: f32)"), "{error}");
    let error = refused(&network, options().dropout(Dropout::elements("cel", 0.5)));
    assert!(error.contains("expected a layer (cell, dense") && error.contains("cel"), "{error}");
    let error = refused(&network, options().dropout(Dropout::elements("cell", 1.0)));
    assert!(error.contains("a rate from 0 to below 1, got 1"), "{error}");
    let error = refused(&network, options().optimizer(Adam { learning_rate: -1.0, ..Adam::default() }));
    assert!(error.contains("learning_rate"), "{error}");

    let mut trainer = Trainer::new(&Device::cpu(), &network, options()).unwrap();
    let values = [0.1; 6];
    let wrong = Batch { input: Input::features(&values, [3, 2, 1]), targets: Targets::Classes(&[0, 2]), weights: None };
    let error = trainer.step(&wrong).unwrap_err().to_string();
    assert!(error.contains("row 1") && error.contains('2'), "{error}");
    let few = Batch { targets: Targets::Classes(&[0]), ..wrong };
    assert!(trainer.step(&few).unwrap_err().to_string().contains("got"), "{few:?}");
    assert_eq!(*trainer.network().unwrap(), network, "a step that fails changes nothing");

    let error = refused(&network, options().freeze("embeding"));
    assert!(error.contains("embeding") && error.contains("cell, dense"), "{error}");
    for (sequences, classes, part) in [
        (vec![], vec![], "at least one sequence"),
        (vec![vec![0.0]], vec![0, 1], "1 answers, got 2"),
        (vec![vec![0.0], vec![0.5, f32::NAN]], vec![0, 1], "NaN in sequence 1, step 1"),
        (vec![vec![0.0; 3]], vec![0], "a multiple of I = 2"),
    ] {
        let width = if part.contains("multiple") { 2 } else { 1 };
        let error = Dataset::features(sequences, width, Answers::Classes(classes)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    // A rate that explodes: the run ends and says at which step.
    let rate = Adam { learning_rate: 1e38, ..Adam::default() };
    let mut trainer = Trainer::new(&Device::cpu(), &network, options().optimizer(rate)).unwrap();
    let fit = Fit::new(4).epochs(50);
    let error = trainer.fit(&sums(16, 1), None, &fit, |_| Next::Continue).unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains("step"), "{error}");
}

/// Operating systems take a GPU away that is busy for long: products of any size are cut up.
#[test]
fn no_dispatch_of_a_plan_is_long() {
    let layer = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 600, 700) };
    let network = classifier(Cell::Lstm, layer, 3);
    let limits = PlanLimits { max_binding: 4 << 30, max_buffer: 4 << 30, ..PlanLimits::default() };
    let (steps, batch) = (400, 64);
    let options = TrainOptions::new(Loss::CrossEntropy);
    let plan = options.plan(&network, RunShape::new(steps, batch), &limits).unwrap();
    let products: Vec<_> = PlanParts::of(&plan)
        .dispatches
        .iter()
        .filter(|dispatch| matches!(dispatch.kernel, Kernel::Train(TrainKernel::Matmul)))
        .collect();
    let most = products.iter().map(|dispatch| dispatch.work).max().unwrap();
    assert!(most <= 4 << 30, "{most}");
    let (rows, gates, inputs, hidden) = (25_600, 2_800, 600, 700);
    // The gradients of W and U; nothing needs that of the input. And the dense layer.
    let expected = rows * gates * (inputs + hidden) + 2 * 64 * hidden * 3;
    assert_eq!(products.iter().map(|dispatch| dispatch.work).sum::<u64>(), expected);
    assert!(products.len() > 8 && plan.submissions() > 8, "{plan}");
    // A binding of WebGPU holds the sums of fewer timesteps.
    let plan = options.plan(&network, RunShape::new(steps, batch), &PlanLimits::default()).unwrap();
    assert!(plan.reasons.iter().any(|reason| reason.contains("intervals of")), "{plan}");
}

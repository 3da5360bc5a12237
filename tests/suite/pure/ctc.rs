//! CTC as the loss of a network.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::network::{Activation, Cell, DenseSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec, Tensor};
use gatefold::train::{Adam, Answers, Batch, Dataset, Fit, Loss, Next, Reduction, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{CtcInput, Reference, ctc};
use gatefold::{Device, Input, Network};

use crate::common::spec;

const CLASSES: usize = 4;
const INPUTS: usize = 3;
const BLANK: u32 = 2;

fn network(batch_first: bool, output: RecurrentOutput) -> Network {
    let layer = RecurrentSpec { batch_first, output, ..RecurrentSpec::new("cell", INPUTS, 16) };
    let activation = Activation::Linear;
    let dense = DenseSpec { name: "dense".into(), in_features: 16, out_features: CLASSES, bias: true, activation };
    let layers = vec![LayerSpec::of_cell(Cell::Lstm, layer), LayerSpec::Dense(dense), LayerSpec::Softmax];
    Network::initialized(spec(layers), Init::PyTorch, 7).unwrap()
}

fn options() -> TrainOptions {
    TrainOptions::new(Loss::Ctc { blank: BLANK })
}

/// Each label is an input that comes two to four times, with noise.
fn spoken(count: usize, seed: u64) -> Dataset {
    let mut rng = Rng::with_seed(seed);
    let (mut sequences, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (mut sequence, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..rng.usize(1..=4) {
            let label = rng.usize(0..INPUTS);
            for _ in 0..rng.usize(2..=4) {
                sequence.extend((0..INPUTS).map(|input| f32::from(u8::from(input == label)) + 0.2 * rng.f32()));
            }
            // A pause: nothing is said.
            sequence.extend((0..INPUTS).map(|_| 0.2 * rng.f32()));
            labels.push([0, 1, 3][label]);
        }
        sequences.push(sequence);
        answers.push(labels);
    }
    Dataset::features(sequences, INPUTS, Answers::Labels(answers)).unwrap()
}

#[test]
fn a_network_learns_to_transcribe() {
    let (train, valid) = (spoken(120, 1), spoken(60, 2));
    for batch_first in [false, true] {
        let network = network(batch_first, RecurrentOutput::Sequence);
        let options = options().optimizer(Adam { learning_rate: 0.02, ..Adam::default() });
        let mut trainer = Trainer::new(&Device::cpu(), &network, options).unwrap();
        let before = trainer.evaluate_all(&valid, 20).unwrap();
        trainer.fit(&train, Some(&valid), &Fit::new(20).epochs(25), |_| Next::Continue).unwrap();
        let after = trainer.evaluate_all(&valid, 20).unwrap();
        assert!(before.accuracy < 0.2 && after.accuracy > 0.95, "{before:?}, {after:?}");
        assert!(after.loss < 0.1 * before.loss, "{before:?}, {after:?}");
    }
}

const STEPS: usize = 9;
const BATCH: usize = 3;

/// The loss by the f64 reference, and its gradients.
fn exact(network: &Network, input: Input<'_>, labels: &[Vec<u32>]) -> (f64, BTreeMap<String, Vec<f64>>) {
    let reference = Reference::<f64>::new(network);
    let forward = reference.forward(input, None).unwrap();
    let from = forward.stages.len() - 2;
    let rows: Vec<&[u32]> = labels.iter().map(Vec::as_slice).collect();
    let (logits, shape) = (&forward.stages[from][..], [STEPS, BATCH, CLASSES]);
    let found = ctc(CtcInput { logits, shape, lengths: &[9, 6, 7], labels: &rows, blank: BLANK }).unwrap();
    let gradients = reference.gradients(input, None, &forward, (from, &found.d_logits)).unwrap();
    (found.value, gradients.params)
}

#[test]
fn gradients_are_those_of_differences() {
    let network = network(false, RecurrentOutput::Sequence);
    let mut rng = Rng::with_seed(3);
    let features: Vec<f32> = (0..STEPS * BATCH * INPUTS).map(|_| 2.0 * rng.f32() - 1.0).collect();
    let input = Input::features(&features, [STEPS, BATCH, INPUTS]).with_lengths(&[9, 6, 7]);
    let labels = [vec![0, 1, 1, 3], vec![3, 3], Vec::new()];
    let batch = Batch { input, targets: Targets::Labels(&labels), weights: None };
    let trainer = Trainer::new(&Device::cpu(), &network, options()).unwrap();
    let (value, of_reference) = exact(&network, input, &labels);
    let measured = trainer.evaluate(&batch).unwrap();
    assert!((measured.loss - value).abs() < 1e-6 * value, "{} and {value}", measured.loss);
    assert_eq!(measured.counts.counted, 3);
    let gradients = trainer.gradients(&batch).unwrap();
    for (name, tensor) in network.tensors() {
        let (got, expected) = (gradients[name].data(), &of_reference[name]);
        let largest = expected.iter().fold(1e-30f64, |most, d| most.max(d.abs()));
        let error = |sign: f64| {
            let errors = got.iter().zip(expected).map(|(&got, &exact)| (sign * f64::from(got) - exact).abs() / largest);
            errors.fold(0.0, f64::max)
        };
        assert!(error(1.0) < 4e-6, "{name}: {:e}", error(1.0));
        // Negative control.
        assert!(error(-1.0) > 1.0, "{name}");
        for element in (0..5).map(|_| rng.usize(..expected.len())) {
            let value = |step: f32| {
                let mut tensors = network.tensors().clone();
                let mut data = tensor.data().to_vec();
                data[element] += step;
                let moved = f64::from(data[element]);
                tensors.insert(name.clone(), Tensor::new(tensor.shape().to_vec(), data).unwrap());
                (moved, exact(&Network::new(network.spec().clone(), tensors).unwrap(), input, &labels).0)
            };
            let ((left, low), (right, high)) = (value(-1.0 / 4096.0), value(1.0 / 4096.0));
            let slope = (high - low) / (right - left);
            assert!((slope - expected[element]).abs() < 1e-5 * largest, "{name}: {slope} and {}", expected[element]);
        }
    }
}

#[test]
fn mistakes_are_named() {
    let sequence = network(false, RecurrentOutput::Sequence);
    let refused = |network: &Network, options: TrainOptions| {
        Trainer::new(&Device::cpu(), network, options).unwrap_err().to_string()
    };
    let error = refused(&network(false, RecurrentOutput::Last), options());
    assert!(error.contains("time dimension"), "{error}");
    let error = refused(&sequence, TrainOptions::new(Loss::Ctc { blank: 4 }));
    assert!(error.contains("blank") && error.contains("a class below 4, got 4"), "{error}");
    let mut smoothed = options();
    smoothed.label_smoothing = 0.1;
    assert!(refused(&sequence, smoothed).contains("label_smoothing"));
    let mut counted = options();
    counted.reduction = Reduction::Count;
    assert!(refused(&sequence, counted).contains("reduction"));
    let trainer = Trainer::new(&Device::cpu(), &sequence, options()).unwrap();
    let features = [0.5; 3 * 2 * INPUTS];
    let error = |targets: Targets<'_, f32>, lengths: &[usize]| {
        let input = Input::features(&features, [3, 2, INPUTS]).with_lengths(lengths);
        trainer.gradients(&Batch { input, targets, weights: None }).unwrap_err().to_string()
    };
    let labels = |second: &[u32]| vec![vec![0], second.to_vec()];
    let text = error(Targets::Labels(&labels(&[0, 4])), &[3, 3]);
    assert_eq!(text, "label 4 at row 1: expected a class below 4");
    let text = error(Targets::Labels(&labels(&[0, 2])), &[3, 3]);
    assert!(text.contains("no blank") && text.contains("row 1"), "{text}");
    // Two equal labels need a blank between them.
    for (second, least) in [(&[0, 1, 3, 0][..], 4), (&[1, 1, 0], 4), (&[3, 3], 3)] {
        let lengths = [3, least - 1];
        let text = error(Targets::Labels(&labels(second)), &lengths);
        let expected = format!("labels of row 1: expected at least {least} steps for {} labels", second.len());
        assert!(text.contains(&expected) && text.contains(&format!("got {}", least - 1)), "{text}");
    }
    let text = error(Targets::Labels(&labels(&[1])[..1]), &[3, 3]);
    assert!(text.contains("rows of labels"), "{text}");
    let text = error(Targets::Classes(&[0; 6]), &[3, 3]);
    assert!(text.contains("labels of each sequence with CTC"), "{text}");

    let plain = Trainer::new(&Device::cpu(), &sequence, TrainOptions::new(Loss::CrossEntropy)).unwrap();
    let labels = labels(&[1]);
    let input = Input::features(&features, [3, 2, INPUTS]);
    let batch = Batch { input, targets: Targets::Labels(&labels), weights: None };
    let text = plain.evaluate(&batch).unwrap_err().to_string();
    assert!(text.contains("labels of sequences, which CTC takes"), "{text}");
}

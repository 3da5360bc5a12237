//! Training of a batch normalization against PyTorch and Keras, from `tests/goldens/generate_batch_norm.py`.

use std::collections::BTreeMap;

use gatefold::network::{LayerSpec, RecurrentSpec, expected_tensors};
use gatefold::train::{Batch, Loss, RunningStatistics, Sgd, Targets, TrainOptions, Trainer};
use gatefold::{Device, Input, Network, Tensor};

use crate::common::spec;
use crate::exact::{ExactGolden, error};

const GOLDEN: &[u8] = include_bytes!("../../goldens/batch_norm.st");
/// B, T, I, N, and how many steps were trained.
const BATCH: usize = 3;
const STEPS: usize = 4;
const INPUTS: usize = 2;
const OUTPUTS: usize = 2;
const RUNS: usize = 5;
/// Largest error of a tensor behind a step as a share of its largest number.
const TOLERANCE: f64 = 1e-5;

/// A GRU, the normalization and a dense layer; PyTorch's eps or Keras'.
fn layers(eps: f32) -> Vec<LayerSpec> {
    let norm = format!(r#"{{"type": "batch_norm", "name": "norm", "num_features": 4, "eps": {eps}}}"#);
    let dense = r#"{"type": "dense", "name": "dense", "in_features": 4, "out_features": 2}"#;
    let of = |text: &str| serde_json::from_str(text).unwrap();
    vec![LayerSpec::Gru(RecurrentSpec::new("gru", INPUTS, 4)), of(&norm), of(dense)]
}

/// The numbers of one framework.
struct Path {
    network: Network,
    /// All tensors behind each step.
    path: Vec<BTreeMap<String, Vec<f64>>>,
    input: Vec<f32>,
    target: Vec<f32>,
    lengths: Vec<usize>,
}

impl Path {
    fn new(framework: &str, eps: f32) -> Self {
        let golden = ExactGolden::new(GOLDEN);
        let single = |part: &str| golden.singles(&format!("{framework}.{part}"));
        let double = golden.doubles(&format!("{framework}.path"));
        let lengths = golden.cases::<Vec<usize>>().remove(framework).unwrap();
        let spec = spec(layers(eps));
        let expected = expected_tensors(&spec);
        let start = single("start");
        let mut at = 0;
        let places: Vec<_> = expected
            .iter()
            .map(|(name, shape)| {
                at += shape.iter().product::<usize>();
                (name.clone(), at - shape.iter().product::<usize>()..at)
            })
            .collect();
        let tensors = expected.iter().zip(&places).map(|((name, shape), (_, range))| {
            (name.clone(), Tensor::new(shape.clone(), start[range.clone()].to_vec()).unwrap())
        });
        let network = Network::new(spec.clone(), tensors.collect()).unwrap();
        let of_step =
            |step: &[f64]| places.iter().map(|(name, range)| (name.clone(), step[range.clone()].to_vec())).collect();
        Self {
            network,
            path: double.chunks_exact(start.len()).map(of_step).collect(),
            input: single("input"),
            target: single("target"),
            lengths,
        }
    }

    /// Calls `with` with the batch of a step.
    fn batch<T>(&self, step: usize, with: impl FnOnce(&Batch<'_>) -> T) -> T {
        let lengths = &self.lengths[step * BATCH..][..BATCH];
        let input = &self.input[step * STEPS * BATCH * INPUTS..][..STEPS * BATCH * INPUTS];
        let counts = (0..STEPS * BATCH).map(|at| f32::from(u8::from(at / BATCH < lengths[at % BATCH])));
        let counts: Vec<f32> = counts.collect();
        with(&Batch {
            input: Input::features(input, [STEPS, BATCH, INPUTS]).with_lengths(lengths),
            targets: Targets::Values(&self.target[step * STEPS * BATCH * OUTPUTS..][..STEPS * BATCH * OUTPUTS]),
            weights: Some(&counts),
        })
    }

    /// Trains and gives the tensors that leave the path of the framework.
    fn faults(&self, device: &Device, options: TrainOptions) -> Vec<String> {
        let mut trainer = Trainer::new(device, &self.network, options).unwrap();
        assert_eq!(self.path.len(), RUNS);
        let mut faults = Vec::new();
        for (step, golden) in self.path.iter().enumerate() {
            self.batch(step, |batch| trainer.step(batch)).unwrap();
            let network = trainer.network().unwrap();
            for (name, golden) in golden {
                let got = network.tensors()[name].data().iter().copied();
                if error(&got.map(f64::from).collect::<Vec<_>>(), golden) > TOLERANCE {
                    faults.push(format!("{name} behind step {}", step + 1));
                }
            }
        }
        faults
    }
}

fn options() -> TrainOptions {
    TrainOptions::new(Loss::Mse).optimizer(Sgd { learning_rate: 0.2, ..Sgd::default() })
}

/// Trains on `device` and compares with both frameworks.
pub fn assert_follows(device: &Device) {
    let (of_pytorch, mut of_keras) = (Path::new("pytorch", 1e-5), Path::new("keras", 1e-3));
    assert_eq!(of_pytorch.faults(device, options()), [""; 0]);
    let keras = || options().statistics(RunningStatistics::keras());
    assert_eq!(of_keras.faults(device, keras()), [""; 0]);
    // Negative controls: the other's statistics, and a length that is one step off.
    let faults = of_keras.faults(device, options());
    assert!(faults.len() == 2 * RUNS && faults.iter().all(|fault| fault.starts_with("norm.running_")), "{faults:?}");
    of_keras.lengths[1] -= 1;
    assert!(!of_keras.faults(device, keras()).is_empty());
}

#[test]
fn training_follows_pytorch_and_keras() {
    assert_follows(&Device::cpu());
}

/// A frozen layer keeps its statistics and its weights, and normalizes by them.
#[test]
fn a_frozen_layer_stays() {
    let path = Path::new("pytorch", 1e-5);
    let mut trainer = Trainer::new(&Device::cpu(), &path.network, options().freeze("norm")).unwrap();
    let measured = path.batch(0, |batch| (trainer.evaluate(batch).unwrap(), trainer.step(batch).unwrap()));
    assert_eq!(measured.0.loss.to_bits(), measured.1.loss.to_bits(), "by the stored statistics in both");
    for (name, tensor) in path.network.tensors() {
        assert_eq!(trainer.network().unwrap().tensors()[name] == *tensor, name.starts_with("norm."), "{name}");
    }
    let mut trainer = Trainer::new(&Device::cpu(), &path.network, options()).unwrap();
    let (evaluated, stepped) = path.batch(0, |batch| (trainer.evaluate(batch).unwrap(), trainer.step(batch).unwrap()));
    assert!((evaluated.loss - stepped.loss).abs() > 1e-3, "{evaluated:?} {stepped:?}");
}

/// A batch of one row, and one in which none counts, change nothing to numbers that are not finite.
#[test]
fn few_rows_are_no_fault() {
    let path = Path::new("pytorch", 1e-5);
    let mut trainer = Trainer::new(&Device::cpu(), &path.network, options()).unwrap();
    for lengths in [[1], [0]] {
        let weights = [f32::from(u8::try_from(lengths[0]).unwrap())];
        let input = Input::features(&path.input[..INPUTS], [1, 1, INPUTS]).with_lengths(&lengths);
        let batch = Batch { input, targets: Targets::Values(&path.target[..OUTPUTS]), weights: Some(&weights) };
        assert!(!trainer.step(&batch).unwrap().skipped);
    }
    for (name, tensor) in trainer.network().unwrap().tensors() {
        assert!(tensor.data().iter().all(|x| x.is_finite()), "{name}");
    }
}

#[test]
fn a_share_that_is_none_is_refused() {
    let path = Path::new("pytorch", 1e-5);
    let statistics = RunningStatistics { momentum: 1.5, unbiased: true };
    let error = Trainer::new(&Device::cpu(), &path.network, options().statistics(statistics)).unwrap_err().to_string();
    assert!(error.contains("a number from 0 to 1, got 1.5"), "{error}");
}

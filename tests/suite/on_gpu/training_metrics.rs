//! Metrics that a device counts while it trains, against those of the CPU.

use fastrand::Rng;
use gatefold::Device;
use gatefold::network::{Activation, Cell, Init, LayerSpec, Network};
use gatefold::train::{Loss, Measures, TrainOptions, Trainer};

use super::training::example;
use super::training_example::{Example, dense};
use crate::common::{changed, device, spec};

fn trainer(device: &Device, example: &Example) -> Trainer {
    Trainer::new(device, &example.network, TrainOptions::new(example.loss)).unwrap()
}

/// Random networks from `seed` on with one of some losses.
fn examples(seed: u64, of: fn(Loss) -> bool) -> impl Iterator<Item = Example> {
    let cells = [Cell::Lstm, Cell::Gru, Cell::Rnn];
    let all = (0..40).map(move |more| example(cells[(more % 3) as usize], seed + more));
    all.filter(move |example| of(example.loss))
}

/// Metrics that are counted on the device are those of the CPU.
#[test]
fn metrics_are_those_of_the_cpu() {
    let (mut found, mut counted) = (0, 0);
    for example in examples(300, |loss| loss == Loss::CrossEntropy) {
        let on = |device: &Device, top_k| {
            trainer(device, &example).metrics(&example.batch(), Measures { top_k, confusion: top_k != 2 }).unwrap()
        };
        for top_k in 1..=3 {
            let (cpu, gpu) = (on(&Device::cpu(), top_k), on(device(), top_k));
            assert_eq!(gpu.top_k, cpu.top_k);
            assert_eq!(gpu.confusion, cpu.confusion);
            assert_eq!(gpu.measured.counts, cpu.measured.counts);
            assert!((gpu.perplexity() - cpu.perplexity()).abs() < 1e-4 * cpu.perplexity());
            let pairs = if top_k == 2 { 0 } else { gpu.top_k.counted };
            assert_eq!(gpu.confusion.iter().copied().map(u64::from).sum::<u64>(), pairs);
            if top_k == 1 {
                assert_eq!(gpu.top_k, gpu.measured.counts, "the most probable class alone is accuracy");
            }
            // Negative control: another K has other counts.
            found += u64::from(top_k == 3 && gpu.top_k.correct > gpu.measured.counts.correct);
        }
        counted += 1;
    }
    assert!(counted > 4 && 2 * found > counted, "{found} of {counted}");
}

/// Logits of NaN and of infinities count the same way: NaN is below all numbers and never right.
#[test]
fn logits_that_are_no_numbers_count_as_on_the_cpu() {
    let layer = |name: &str| dense(name, 3, 3, true, Activation::Linear);
    let layers = vec![layer("first"), layer("second"), LayerSpec::Softmax];
    let network = Network::initialized(spec(layers), Init::PyTorch, 1).unwrap();
    // The first layer makes infinities of large features, the second one NaN where some of both signs meet.
    let network = changed(&network, "first.weight", |weights| {
        weights.iter_mut().enumerate().for_each(|(at, x)| *x = if at % 4 == 0 { 1e30 } else { 0.0 });
    });
    let network = changed(&network, "second.weight", |weights| {
        weights.copy_from_slice(&[1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0, 1.0, -1.0]);
    });
    let (mut rng, mut nan) = (Rng::with_seed(4), 0);
    for case in 0..20 {
        let rows = rng.usize(1..=9);
        let features = (0..3 * rows).map(|_| match rng.usize(0..4) {
            0 => 1e20,
            1 => -1e20,
            _ => (rng.f32() - 0.5) * 1e-30,
        });
        let example = Example {
            network: network.clone(),
            loss: Loss::CrossEntropy,
            tokens: Vec::new(),
            features: features.collect(),
            shape: [1, rows, 3],
            lengths: None,
            classes: (0..rows).map(|_| rng.u32(0..3)).collect(),
            values: Vec::new(),
            weights: None,
        };
        for top_k in 1..=2 {
            let measures = Measures { top_k, confusion: true };
            let of = |device: &Device| trainer(device, &example).metrics(&example.batch(), measures).unwrap();
            let (cpu, gpu) = (of(&Device::cpu()), of(device()));
            assert_eq!((gpu.top_k, &gpu.confusion), (cpu.top_k, &cpu.confusion), "case {case}");
            assert_eq!(gpu.measured.counts, cpu.measured.counts, "case {case}");
            assert_eq!(gpu.measured.loss.is_nan(), cpu.measured.loss.is_nan(), "case {case}");
            // A row of NaN alone is in no pair.
            nan += u64::from(cpu.confusion.iter().sum::<u32>() < u32::try_from(rows).unwrap());
        }
    }
    assert!(nan > 4, "{nan} of 40 with a row of NaN alone");
}

/// The mean absolute error is summed up on the device.
#[test]
fn absolute_errors_are_those_of_the_cpu() {
    let mut counted = 0;
    for example in examples(340, |loss| matches!(loss, Loss::Mse | Loss::Mae | Loss::Huber { .. })) {
        let of = |device: &Device, example: &Example| {
            trainer(device, example).number_metrics(&example.batch()).unwrap().mean_absolute_error
        };
        let (cpu, gpu) = (of(&Device::cpu(), &example), of(device(), &example));
        assert!((gpu - cpu).abs() <= 2e-6 * cpu.max(1e-3), "{gpu} and {cpu}");
        let mut other = example;
        if other.loss == Loss::Mae && other.weights.is_none() {
            let loss = trainer(device(), &other).evaluate(&other.batch()).unwrap().loss;
            assert!((gpu - loss).abs() <= 4e-6 * loss, "{gpu} and the loss {loss}");
        }
        // Negative control: other targets.
        let weighs = other.weights.as_ref().is_none_or(|weights| weights.iter().any(|&weight| weight > 0.0));
        other.values.iter_mut().for_each(|x| *x += 10.0);
        assert!(!weighs || (of(device(), &other) - cpu).abs() > 1e-3);
        counted += 1;
    }
    assert!(counted > 10, "{counted}");
    let classes = examples(300, |loss| loss == Loss::CrossEntropy).next().unwrap();
    let error = trainer(device(), &classes).number_metrics(&classes.batch()).unwrap_err().to_string();
    assert!(error.contains("mse, mae or huber"), "{error}");
}

/// What one thread measures is not what another one runs at the same time.
#[test]
fn threads_measure_their_own_batches() {
    let of_loss = |loss| loss == Loss::CrossEntropy;
    let example = examples(300, of_loss).find(|example| example.classes.len() > 1).unwrap();
    let trainer = trainer(device(), &example);
    let measures = Measures { top_k: 1, confusion: true };
    let mut other = example.classes.clone();
    other.iter_mut().for_each(|class| *class = u32::from(*class == 0));
    let mut batch = example.batch();
    let expected = trainer.metrics(&batch, measures).unwrap();
    batch.targets = gatefold::train::Targets::Classes(&other);
    let of_other = trainer.evaluate(&batch).unwrap();
    assert_ne!(of_other.loss.to_bits(), expected.measured.loss.to_bits(), "two batches that differ");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..60 {
                assert_eq!(trainer.metrics(&example.batch(), measures).unwrap(), expected);
            }
        });
        for _ in 0..60 {
            assert_eq!(trainer.evaluate(&batch).unwrap(), of_other);
        }
    });
}

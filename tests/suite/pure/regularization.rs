//! Dropout between levels, bounds and averages of the weights while training.

use gatefold::network::{Activation, DenseSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{
    Answers, Average, Convention, Dataset, Dropout, Fit, Loss, MaxNorm, Next, RecurrentDropout, Sgd, TrainOptions,
    Trainer, WeightDrop,
};
use gatefold::{Device, Network, Tensor};

use crate::common::spec;

fn dense() -> LayerSpec {
    let (name, activation) = ("dense".into(), Activation::Linear);
    LayerSpec::Dense(DenseSpec { name, in_features: 6, out_features: 2, bias: true, activation })
}

fn last(name: &str, inputs: usize) -> RecurrentSpec {
    RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new(name, inputs, 6) }
}

/// A stack of two levels and a dense layer.
fn stack() -> Network {
    let layers = vec![LayerSpec::Gru(RecurrentSpec { num_layers: 2, ..last("stack", 3) }), dense(), LayerSpec::Softmax];
    Network::initialized(spec(layers), Init::PyTorch, 3).unwrap()
}

/// The same in two layers.
fn in_two_layers(stack: &Network) -> Network {
    let layers = vec![LayerSpec::Gru(RecurrentSpec::new("first", 3, 6)), LayerSpec::Gru(last("second", 6)), dense()];
    let rename = |name: &str| match name.strip_suffix("_l1") {
        Some(rest) => format!("{}_l0", rest.replace("stack", "second")),
        None => name.replace("stack", "first"),
    };
    let tensors = stack.tensors().iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
    Network::new(spec([layers, vec![LayerSpec::Softmax]].concat()), tensors).unwrap()
}

fn options() -> TrainOptions {
    TrainOptions::new(Loss::CrossEntropy).optimizer(Sgd { learning_rate: 0.5, ..Sgd::default() }).seed(3)
}

/// Trains three steps; `behind_step` sees the network behind each.
fn trained(network: &Network, options: TrainOptions, mut behind_step: impl FnMut(&Trainer)) -> Trainer {
    let mut rng = fastrand::Rng::with_seed(2);
    let sequences: Vec<Vec<f32>> =
        (0..12).map(|row| (0..3 * (row % 4 + 2)).map(|_| rng.f32() - 0.5).collect()).collect();
    let set = Dataset::features(sequences, 3, Answers::Classes((0..12).map(|row| row % 2).collect())).unwrap();
    let mut trainer = Trainer::new(&Device::cpu(), network, options).unwrap();
    for _ in 0..3 {
        trainer.fit(&set, None, &Fit::new(12), |_| Next::Continue).unwrap();
        behind_step(&trainer);
    }
    trainer
}

fn numbers(network: &Network) -> Vec<f32> {
    // In the order of the layers, which is the same in both networks.
    let params = network.spec().layers.iter().flat_map(LayerSpec::params);
    params.flat_map(|param| network.tensors()[&param.name].data().to_vec()).collect()
}

#[test]
fn between_levels_is_behind_the_first_of_two_layers() {
    let one = stack();
    let two = in_two_layers(&one);
    let in_stack = trained(&one, options().dropout(Dropout::between_levels("stack", 0.5)), |_| {});
    let in_layers = trained(&two, options().dropout(Dropout::elements("first", 0.5)), |_| {});
    assert_eq!(numbers(&in_stack.network().unwrap()), numbers(&in_layers.network().unwrap()));
    let without = trained(&one, options(), |_| {});
    assert_ne!(numbers(&in_stack.network().unwrap()), numbers(&without.network().unwrap()));
}

/// Dropout of U and of h trains; the same seed gives the same bits, and evaluation is without it.
#[test]
fn every_dropout_comes_again() {
    let network = stack();
    let all = || {
        let inside = RecurrentDropout::new("stack", 0.2, 0.3);
        options().recurrent_dropout(inside).weight_drop(WeightDrop::new("stack", 0.3))
    };
    let [first, again] = [0, 1].map(|_| numbers(&trained(&network, all(), |_| {}).network().unwrap()));
    assert_eq!(first, again);
    assert_ne!(first, numbers(&trained(&network, all().seed(4), |_| {}).network().unwrap()));
    assert_ne!(first, numbers(&trained(&network, options(), |_| {}).network().unwrap()));
}

fn longest_row(tensor: &Tensor) -> f32 {
    let rows = tensor.data().chunks_exact(tensor.data().len() / tensor.shape()[0]);
    rows.map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt()).fold(0.0, f32::max)
}

#[test]
fn no_row_is_longer_than_the_bound() {
    let network = stack();
    let max = 0.4;
    let bounded = trained(&network, options().max_norm(MaxNorm::new("stack", max)), |trainer| {
        for (name, tensor) in trainer.network().unwrap().tensors() {
            if name.starts_with("stack.weight") {
                assert!(longest_row(tensor) <= max * 1.000_001, "{name}: {}", longest_row(tensor));
            }
        }
    });
    // Negative control: without it, and what is not named, is longer.
    let free = trained(&network, options(), |_| {});
    assert!(longest_row(&free.network().unwrap().tensors()["stack.weight_ih_l1"]) > max);
    assert!(longest_row(&bounded.network().unwrap().tensors()["dense.weight"]) > max);
    // A bound that nothing reaches changes nothing.
    let wide = trained(&network, options().max_norm(MaxNorm::new("stack", 100.0)), |_| {});
    assert_eq!(numbers(&wide.network().unwrap()), numbers(&free.network().unwrap()));
}

#[test]
fn an_average_follows_the_weights() {
    let network = stack();
    for convention in [Convention::PyTorch, Convention::Keras] {
        let keras = convention == Convention::Keras;
        let mut expected: Vec<f64> = numbers(&network).into_iter().map(f64::from).collect();
        let mut steps = 0;
        let average = Average { decay: 0.8, convention };
        let trainer = trained(&network, options().average(average), |trainer| {
            let first = steps == 0 && !keras;
            let weights = numbers(&trainer.network().unwrap());
            for (average, weight) in expected.iter_mut().zip(weights) {
                *average = if first { f64::from(weight) } else { 0.8 * *average + 0.2 * f64::from(weight) };
            }
            steps += 1;
        });
        let averaged = numbers(&trainer.averaged().unwrap().unwrap());
        let off =
            |x: &[f64]| averaged.iter().zip(x).fold(0.0f64, |most, (got, x)| most.max((f64::from(*got) - x).abs()));
        assert!(off(&expected) < 1e-6, "{convention:?}: {:e}", off(&expected));
        let now: Vec<f64> = numbers(&trainer.network().unwrap()).into_iter().map(f64::from).collect();
        assert!(off(&now) > 1e-3, "an average is no copy");
    }
    assert!(trained(&network, options(), |_| {}).averaged().unwrap().is_none());
}

#[test]
fn mistakes_are_named() {
    let network = stack();
    let one = Network::initialized(spec(vec![LayerSpec::Gru(last("gru", 3))]), Init::PyTorch, 1).unwrap();
    let inside = || RecurrentDropout::new("stack", 0.1, 0.1);
    let twice = options().recurrent_dropout(inside()).recurrent_dropout(inside());
    for (network, options, part) in [
        (&network, options().dropout(Dropout::between_levels("dense", 0.5)), "a recurrent layer (stack), got dense"),
        (&one, options().dropout(Dropout::between_levels("gru", 0.5)), "num_layers of at least 2, got 1"),
        (&network, options().dropout(Dropout::between_levels("stack", 1.0)), "below 1, got 1"),
        (&network, options().recurrent_dropout(RecurrentDropout::new("stack", -0.1, 0.5)), "below 1, got -0.1"),
        (&network, twice, "one for each layer, got two"),
        (&network, options().weight_drop(WeightDrop::new("dense", 0.5)), "a recurrent layer (stack), got dense"),
        (&network, options().weight_drop(WeightDrop::new("stack", f32::NAN)), "below 1, got NaN"),
        (&network, options().max_norm(MaxNorm::new("stac", 1.0)), "a layer with matrices (stack, dense), got stac"),
        (&network, options().max_norm(MaxNorm::new("stack", 0.0)), "a finite number above 0, got 0"),
        (&network, options().max_norm(MaxNorm::new("stack", 1.0)).freeze("stack"), "a layer that is not frozen"),
        (&network, options().average(Average::new(1.0)), "below 1, got 1"),
    ] {
        let error = Trainer::new(&Device::cpu(), network, options).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

//! Every other kernel alone against the f64 reference.

use gatefold::compare::{Tolerance, compare};
use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, LayerSpec};
use gatefold::unstable::reference::softmax;
use gatefold::{Device, Network, PlanOptions, RandomInput, Session, verify};

use crate::common::{assert_right, changed, device, selected, spec};

fn dense(in_features: usize, out_features: usize, bias: bool, activation: Activation) -> LayerSpec {
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features, bias, activation })
}

fn check(device: &Device, layers: Vec<LayerSpec>, steps: usize, batch: usize) {
    let network = Network::random(spec(layers), 21).unwrap();
    let input = RandomInput::new(&network, steps, batch, 22).unwrap();
    assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
}

const SIZES: [(usize, usize); 5] = [(1, 1), (13, 1), (1, 7), (5, 3), (37, 2)];

#[test]
fn embedding_agrees() {
    let device = device();
    for (num_embeddings, embedding_dim) in [(1, 1), (2, 3), (101, 64), (1009, 65)] {
        for (steps, batch) in SIZES {
            let layer = EmbeddingSpec { name: "embedding".into(), num_embeddings, embedding_dim, mask_zero: false };
            check(device, vec![LayerSpec::Embedding(layer)], steps, batch);
        }
    }
}

/// Functions that f32 follows at any argument; `exp` overflows, `sqrt` and `log` have none below 0, `reciprocal` none at 0.
fn followed() -> impl Iterator<Item = &'static Activation> {
    Activation::ALL
        .iter()
        .filter(|a| !matches!(a, Activation::Exp | Activation::Sqrt | Activation::Log | Activation::Reciprocal))
}

#[test]
fn linear_agrees_with_every_activation() {
    let device = device();
    for (inputs, outputs) in [(1, 1), (3, 2), (16, 32), (17, 33), (64, 31), (131, 67)] {
        for (index, &activation) in selected(followed().enumerate()) {
            let (steps, batch) = SIZES[(inputs + index) % SIZES.len()];
            check(device, vec![dense(inputs, outputs, index % 2 == 0, activation)], steps, batch);
        }
    }
    check(device, vec![dense(40, 50, true, Activation::Tanh)], 64, 33);
}

#[test]
fn softmax_agrees() {
    let device = device();
    for features in [1, 2, 63, 64, 65, 257] {
        for (steps, batch) in SIZES {
            check(device, vec![dense(3, features, true, Activation::Linear), LayerSpec::Softmax], steps, batch);
        }
    }
}

/// A dense layer whose sums reach ± `drive`.
fn driven(drive: f32, activation: Activation, following: Vec<LayerSpec>) -> Network {
    let layers = [vec![dense(4, 9, true, activation)], following].concat();
    let network = Network::random(spec(layers), 23).unwrap();
    changed(&network, "dense.bias", |bias| {
        for (bias, sign) in bias.iter_mut().zip([1.0, -1.0, 0.0].iter().cycle()) {
            *bias += drive * sign;
        }
    })
}

#[test]
fn activations_agree_at_extremes() {
    let device = device();
    for drive in [50.0f32, 100.0, 1e4] {
        for &activation in followed() {
            let network = driven(drive, activation, Vec::new());
            let input = RandomInput::new(&network, 5, 3, 24).unwrap();
            assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
        }
    }
}

/// Logits of ±1e4 overflow exp unless the row's maximum is taken off. The logits' own rounding
/// would hide the kernel's error, so the reference reads the device's logits.
#[test]
fn softmax_agrees_at_extremes() {
    let device = device();
    for drive in [50.0f32, 100.0, 1e4, 1e30] {
        let network = driven(drive, Activation::Linear, vec![LayerSpec::Softmax]);
        let input = RandomInput::new(&network, 5, 3, 24).unwrap();
        let stages = Session::new(device, &network).unwrap().trace(input.as_input(), None).unwrap().stages;
        let logits: Vec<f64> = stages[0].iter().map(|&x| x.into()).collect();
        let mut expected = Vec::new();
        softmax(&logits, 9, false, &mut expected);
        let comparison = compare(&stages[1], &expected, Tolerance::f32(1));
        assert!(comparison.passed, "{drive}: {comparison:?}");
    }
}

/// tanh is accurate around 0 and around the boundary between the series and the exponential form.
#[test]
fn tanh_keeps_its_digits() {
    let device = device();
    let network = Network::random(spec(vec![dense(1, 1, false, Activation::Tanh)]), 1).unwrap();
    let network = changed(&network, "dense.weight", |weight| weight[0] = 1.0);
    let values: Vec<f32> = (-4000i16..=4000).map(|i| f32::from(i) / 4000.0 * 1.2).chain([1e-30, -1e-6, 1e-4]).collect();
    let session = Session::new(device, &network).unwrap();
    let output = session.run(gatefold::Input::features(&values, [values.len(), 1, 1]), None).unwrap();
    for (&x, &y) in values.iter().zip(&output.values) {
        let exact = f64::from(x).tanh();
        let error = (f64::from(y) - exact).abs();
        assert!(error <= 1e-6 * exact.abs() + 1e-30, "tanh({x}) = {y}, expected {exact}");
    }
}

/// Negative control for each kernel: a changed weight must be detected.
#[test]
fn a_changed_weight_is_seen() {
    let device = device();
    let embedding = EmbeddingSpec { name: "embedding".into(), num_embeddings: 4, embedding_dim: 8, mask_zero: false };
    let layers = vec![LayerSpec::Embedding(embedding), dense(8, 5, true, Activation::Tanh), LayerSpec::Softmax];
    let network = Network::random(spec(layers), 31).unwrap();
    let input = RandomInput::new(&network, 30, 4, 32).unwrap();
    let session = Session::new(device, &network).unwrap();
    for (name, stage) in [("embedding.weight", 0), ("dense.weight", 1), ("dense.bias", 1)] {
        let changed = changed(&network, name, |data| data[0] += 1e-3);
        let checks = verify(&session, &changed, input.as_input(), None).unwrap().checks;
        for (index, check) in checks.iter().enumerate() {
            assert_eq!(check.comparison.passed, index < stage, "{name}, seen in {}", check.label);
        }
    }
}

//! A published file that this project did not write: DTLN's weights, which Keras 2.2 saved without a configuration.

use std::path::PathBuf;

use gatefold::formats::keras;
use gatefold::network::{Activation, DenseSpec, LayerSpec, NormSpec, RecurrentSpec};
use gatefold::{Device, DeviceChoice, Input, Network, NetworkSpec, Session};

use crate::support::in_repository;

/// Set where absent data must fail the run.
const REQUIRE_DATA: &str = "GATEFOLD_REQUIRE_DATA";

fn file() -> Option<PathBuf> {
    let path = in_repository("../shared/data/dtln/model.h5");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os(REQUIRE_DATA).is_none(), "{REQUIRE_DATA} is set, but there is no {}", path.display());
    eprintln!("NOT RUN, no {}", path.display());
    None
}

fn lstm(name: &str, input_size: usize) -> LayerSpec {
    LayerSpec::Lstm(RecurrentSpec { batch_first: true, ..RecurrentSpec::new(name, input_size, 128) })
}

fn mask(name: &str, out_features: usize) -> LayerSpec {
    let activation = Activation::Sigmoid;
    LayerSpec::Dense(DenseSpec { name: name.into(), in_features: 128, out_features, bias: true, activation })
}

/// The core as the file has it.
fn core(layers: Vec<LayerSpec>) -> Option<Network> {
    let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
    Some(keras::load_weights(file()?, spec).unwrap())
}

/// Output of `network` for three steps of a slow wave.
fn run(network: &Network) -> Vec<f32> {
    let width = network.input_size();
    let input: Vec<f32> = (0..3 * width).map(|k| (k as f32 * 0.01).sin()).collect();
    let session = Session::new(&Device::open(&DeviceChoice::Cpu).unwrap(), network).unwrap();
    let output = session.run(Input::features(&input, [1, 3, width]), None).unwrap();
    assert_eq!(output.shape, [1, 3, network.output_size()]);
    output.values
}

#[test]
fn the_first_core_is_read() {
    let Some(network) = core(vec![lstm("lstm", 257), lstm("lstm_1", 128), mask("dense", 257)]) else { return };
    assert_eq!(network.parameters(), 4 * 128 * (257 + 128 + 128 + 128) + 2 * 8 * 128 + 257 * 129);
    let values = run(&network);
    assert!(values.iter().all(|x| (0.0..=1.0).contains(x)), "a mask is between 0 and 1");
    let spread = values.iter().copied().fold(0.0, f32::max) - values.iter().copied().fold(1.0, f32::min);
    assert!(spread > 0.1, "a trained mask is not flat: {spread}");
}

#[test]
fn the_second_core_is_read() {
    let norm = NormSpec { name: "layer_normalization".into(), num_features: 256, eps: 1e-7, weight: true, bias: true };
    let layers = vec![LayerSpec::LayerNorm(norm), lstm("lstm_2", 256), lstm("lstm_3", 128), mask("dense_1", 256)];
    let Some(network) = core(layers) else { return };
    assert!(run(&network).iter().all(|x| (0.0..=1.0).contains(x)));
}

#[test]
fn a_wrong_size_is_named() {
    let Some(path) = file() else { return };
    let spec = NetworkSpec { format: 1, layers: vec![lstm("lstm", 256)], text: None, labels: Vec::new() };
    let error = keras::load_weights(path, spec).unwrap_err().to_string();
    assert_eq!(error, "tensor `lstm/lstm/kernel:0`: expected shape [256, 512], got [257, 512]");
}

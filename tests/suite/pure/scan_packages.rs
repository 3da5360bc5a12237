//! Files of packages that have cells whose units do not depend on each other: names, layouts, what is missing.

use std::collections::HashMap;

use gatefold::network::{Cell, LayerSpec};
use gatefold::{Input, Network, Session};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::common::in_repository;

/// The file of a golden without its description, each tensor under the name that `name` gives; none where that gives none.
fn undescribed(golden: &str, name: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let bytes = std::fs::read(in_repository("tests/goldens").join(format!("{golden}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().filter_map(|(old, view)| {
        Some((name(old)?, TensorView::new(view.dtype(), view.shape().to_vec(), view.data()).unwrap()))
    });
    safetensors::serialize(tensors, None::<HashMap<String, String>>).unwrap()
}

fn golden(name: &str) -> Network {
    Network::load(in_repository("tests/goldens").join(format!("{name}.safetensors"))).unwrap()
}

/// What both make of one input.
fn answers(networks: [&Network; 2]) -> [Vec<f32>; 2] {
    let device = gatefold::Device::cpu();
    networks.map(|network| {
        let width = network.input_size();
        let values: Vec<f32> = (0..4 * width).map(|at| (at % 7) as f32 / 3.0 - 1.0).collect();
        let shape = if network.batch_first() { [1, 4, width] } else { [4, 1, width] };
        Session::new(&device, network).unwrap().run(Input::features(&values, shape), None).unwrap().values
    })
}

#[test]
fn modules_are_read_without_a_description() {
    let own = |name: &str| Some(name.trim_start_matches("rnn.").to_owned());
    for (name, cell) in [("min_gru", Cell::MinGru), ("min_lstm", Cell::MinLstm), ("sru", Cell::Sru)] {
        let bytes = undescribed(name, own);
        let network = Network::from_bytes(name, &bytes).unwrap();
        assert_eq!(network.recurrent_layers().next().unwrap().0, cell);
        let [got, expected] = answers([&network, &golden(name)]);
        assert_eq!(got, expected, "{name}");
        // Under a prefix too.
        let prefixed = undescribed(name, |old| Some(format!("encoder.{}", own(old)?)));
        let prefixed = Network::from_bytes(name, &prefixed).unwrap();
        assert_eq!(answers([&prefixed, &network])[0], expected, "{name}");
        // What is read is written in gatefold's own names, and read again.
        assert_eq!(Network::from_bytes(name, &network.to_bytes().unwrap()).unwrap(), network);
    }
    // haste's file does not say which function it was trained with.
    let network = Network::from_bytes("ind_rnn", &undescribed("ind_rnn", own)).unwrap();
    let mut spec = network.spec().clone();
    let LayerSpec::IndRnn(layer) = &mut spec.layers[0] else { panic!("no IndRNN") };
    layer.activations = vec![gatefold::network::Activation::Tanh];
    let with_tanh = Network::new(spec, network.tensors().clone()).unwrap();
    let [got, expected] = answers([&with_tanh, &golden("ind_rnn")]);
    assert_eq!(got, expected);
    assert_ne!(answers([&network, &network])[0], expected, "a ReLU is another function");
}

/// A tensor that is missing, or that nothing reads, is named; a QRNN needs a description.
#[test]
fn what_does_not_fit_is_named() {
    let own = |name: &str| Some(name.trim_start_matches("rnn.").to_owned());
    let error = |bytes: Vec<u8>| Network::from_bytes("file", &bytes).unwrap_err().to_string();
    let without = |golden: &str, gone: &str| undescribed(golden, |name| own(name).filter(|name| name != gone));
    assert!(
        error(without("sru", "rnn_lst.1.weight")).contains("rnn_lst.1"),
        "{}",
        error(without("sru", "rnn_lst.1.weight"))
    );
    assert!(error(without("ind_rnn", "recurrent_scale")).contains("recurrent module"));
    let more = undescribed("min_gru", |name| Some(own(name)?.replace("to_out", "to_in")));
    assert!(error(more).contains("to_in.weight"));
    assert!(error(undescribed("qrnn", own)).contains("network description"));
    // An SRU whose gates see c needs the option; another stands in its place.
    let mut bytes = std::fs::read(in_repository("tests/goldens/sru.safetensors")).unwrap();
    let (option, other) = (br#"\"peephole\":true"#, br#"\"bias\":    true"#);
    let at = bytes.windows(option.len()).position(|window| window == option).unwrap();
    bytes[at..at + other.len()].copy_from_slice(other);
    assert!(error(bytes).contains("weight_c is not 0"));
}

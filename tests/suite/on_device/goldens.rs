//! Networks that PyTorch and Keras ran; `tests/goldens/generate.py` and `generate_keras.py`.

use gatefold::compare::{Tolerance, compare};
use gatefold::{Device, Input, LayerState, Network, Session, State, StatePart};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::common::{device, in_repository};

struct Golden {
    name: String,
    network: Network,
    bytes: Vec<u8>,
}

fn goldens() -> Vec<Golden> {
    let folder = in_repository("tests/goldens");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".golden.safetensors").map(Into::into))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| Golden {
            network: Network::load(folder.join(format!("{name}.safetensors"))).unwrap(),
            bytes: std::fs::read(folder.join(format!("{name}.golden.safetensors"))).unwrap(),
            name,
        })
        .collect()
}

/// The tensor as 32-bit numbers, and its shape.
fn numbers(file: &SafeTensors<'_>, name: &str) -> Option<(Vec<f32>, Vec<usize>)> {
    let view = file.tensor(name).ok()?;
    assert_eq!(view.dtype(), Dtype::F32, "{name}");
    let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Some((data, view.shape().to_vec()))
}

fn start(network: &Network, file: &SafeTensors<'_>) -> Option<State> {
    let (h, shape) = numbers(file, "h_0")?;
    let (c, c_shape) = numbers(file, "c_0").unwrap();
    let name = network.recurrent_layers().next().unwrap().1.name.clone();
    let part = |name: &'static str, shape: Vec<usize>, data| StatePart { name: name.into(), shape: shape.into(), data };
    // A cell without c has an empty one in the file.
    let c = (!c.is_empty()).then(|| part("c", c_shape, c));
    let parts = std::iter::once(part("h", shape, h)).chain(c).collect();
    Some(State { layers: vec![LayerState { name, parts }] })
}

/// Names of the tensors in which `network` on `device` misses the golden.
fn misses(device: &Device, network: &Network, golden: &Golden) -> Vec<String> {
    let file = SafeTensors::deserialize(&golden.bytes).unwrap();
    let session = Session::new(device, network).unwrap();
    let state = start(network, &file);
    let view = file.tensor("input").unwrap();
    let shape = view.shape();
    let (ids, values);
    let input = if view.dtype() == Dtype::I32 {
        ids = view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
        Input::tokens(&ids, [shape[0], shape[1]])
    } else {
        (values, _) = numbers(&file, "input").unwrap();
        Input::features(&values, [shape[0], shape[1], shape[2]])
    };
    let output = session.run(input, state.as_ref()).unwrap();
    let (expected, expected_shape) = numbers(&file, "output").unwrap();
    assert_eq!(output.shape, expected_shape, "{}", golden.name);
    let tolerance = Tolerance::f32(shape[0].max(shape[1]));
    let mut missed = Vec::new();
    let mut check = |what: String, got: &[f32], expected: &[f32]| {
        let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
        let comparison = compare(got, &expected, tolerance);
        if !comparison.passed {
            missed.push(format!("{} {what}: {comparison:?}", golden.name));
        }
    };
    check("output".into(), &output.values, &expected);
    for layer in &output.state.layers {
        for part in &layer.parts {
            let what = format!("{}.{}_n", layer.name, part.name);
            let (expected, shape) = numbers(&file, &what).unwrap_or_else(|| panic!("{}: no {what}", golden.name));
            assert_eq!(part.shape, shape, "{} {what}", golden.name);
            check(what, &part.data, &expected);
        }
    }
    missed
}

fn all_agree(device: &Device) {
    let goldens = goldens();
    assert!(goldens.len() >= 40, "goldens are missing: {}", goldens.len());
    let missed: Vec<String> = goldens.iter().flat_map(|golden| misses(device, &golden.network, golden)).collect();
    assert!(missed.is_empty(), "{}: {missed:#?}", device.info());
}

#[test]
fn agree_on_the_device() {
    all_agree(device());
}

#[test]
fn agree_on_the_cpu() {
    all_agree(&Device::cpu());
}

/// Negative control: two gates swapped must be seen in every golden with an LSTM.
#[test]
fn swapped_gates_are_seen() {
    let device = device();
    let mut seen = 0;
    for golden in goldens() {
        // A saturated or a tiny network may hide some of it; these do not.
        if !["lstm", "lstm_bidirectional", "lstm_two_layers", "keras_bidirectional"].contains(&golden.name.as_str()) {
            continue;
        }
        let names = golden.network.tensors().keys();
        let name = names.clone().find(|name| name.contains("weight_hh_l0")).unwrap();
        let swapped = crate::common::changed(&golden.network, name, |data| {
            let block = data.len() / 4;
            let (input, rest) = data.split_at_mut(block);
            input.swap_with_slice(&mut rest[..block]);
        });
        assert!(!misses(device, &swapped, &golden).is_empty(), "{}: a swap of i and f went unseen", golden.name);
        assert!(!misses(&Device::cpu(), &swapped, &golden).is_empty(), "{} on the CPU", golden.name);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

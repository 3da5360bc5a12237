//! Every case of the grid: output, h_n and c_n of every layer.

use std::collections::BTreeSet;

use gatefold::{Device, Input, Network, Session, State, Tensor};

use crate::support::selection::selected;
use crate::support::{Files, Golden, bundle, cpu, miss};

/// Names of the cases.
fn cases(files: &Files) -> BTreeSet<&str> {
    files.keys().filter_map(|name| name.strip_suffix(".golden.safetensors")).collect()
}

pub fn network(files: &Files, case: &str) -> Network {
    let bytes = &files[&format!("{case}.safetensors")];
    Network::from_bytes("state dict", bytes).unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// The differences between `network` on `device` and the golden of `case`; lengths are changed by `slip`.
fn misses(device: &Device, files: &Files, case: &str, network: &Network, slip: usize) -> Vec<String> {
    let golden = Golden::new(&files[&format!("{case}.golden.safetensors")]);
    let lengths: Option<Vec<usize>> =
        golden.ids("lengths").map(|(ids, _)| ids.iter().map(|&id| (id as usize).max(1 + slip) - slip).collect());
    let (ids, values, shape);
    let mut input = match golden.ids("input") {
        Some(found) => {
            (ids, shape) = found;
            Input::tokens(&ids, [shape[0], shape[1]])
        }
        None => {
            (values, shape) = golden.numbers("input").unwrap();
            Input::features(&values, [shape[0], shape[1], shape[2]])
        }
    };
    if let Some(lengths) = &lengths {
        input = input.with_lengths(lengths);
    }
    let (steps, batch) = if network.batch_first() { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let mut state = State::zeros(network, batch).unwrap();
    let mut given = false;
    for layer in &mut state.layers {
        for part in &mut layer.parts {
            if let Some((found, shape)) = golden.numbers(&format!("{}.{}_0", layer.name, part.name)) {
                assert_eq!(part.shape, shape, "{case} {}", part.name);
                part.data = found;
                given = true;
            }
        }
    }
    let session = Session::new(device, network).unwrap();
    let output = session.run(input, given.then_some(&state)).unwrap_or_else(|error| panic!("{case}: {error}"));
    let (expected, shape) = golden.numbers("output").unwrap();
    assert_eq!(output.shape, shape, "{case}");
    let mut missed: Vec<String> =
        miss(&format!("{case} output"), &output.values, &expected, steps).into_iter().collect();
    for layer in &output.state.layers {
        for part in &layer.parts {
            let what = format!("{}.{}_n", layer.name, part.name);
            let Some((expected, shape)) = golden.numbers(&what) else {
                assert_eq!(part.name, "past", "{case}: no {what}");
                continue;
            };
            assert_eq!(part.shape, shape, "{case} {what}");
            missed.extend(miss(&format!("{case} {what}"), &part.data, &expected, steps));
        }
    }
    missed
}

/// Every case agrees with PyTorch on `device`.
fn all_agree(device: &Device) {
    let files = bundle("pytorch_grid.zip");
    let cases = cases(&files);
    assert!(cases.len() >= 237, "cases are missing: {}", cases.len());
    let missed: Vec<String> =
        selected(&cases).flat_map(|case| misses(device, &files, case, &network(&files, case), 0)).collect();
    assert!(missed.is_empty(), "{}: {missed:#?}", device.info());
}

#[test]
fn agree_with_pytorch_on_the_cpu() {
    all_agree(&cpu());
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    #[ignore = "minutes on a software renderer; test.sh runs it"]
    fn agree_with_pytorch() {
        let device = crate::support::device_under_test();
        super::all_agree(&device);
    }
}

/// Negative controls: lengths off by one, swapped gates and changed weights must be detected.
#[test]
fn wrong_networks_are_seen() {
    let files = bundle("pytorch_grid.zip");
    let device = cpu();
    let (mut slipped, mut swapped, mut nudged) = (0, 0, 0);
    for case in cases(&files) {
        let right = network(&files, case);
        let Some((cell, layer)) = right.recurrent_layers().next() else { continue };
        let name = format!("{}.weight_hh_l0", layer.name);
        let block = layer.hidden_size * layer.state_size();
        let wrong = |change: &dyn Fn(&mut Vec<f32>)| {
            let mut tensors = right.tensors().clone();
            let mut data = tensors[&name].data().to_vec();
            change(&mut data);
            tensors.insert(name.clone(), Tensor::new(tensors[&name].shape().to_vec(), data).unwrap());
            let network = Network::new(right.spec().clone(), tensors).unwrap();
            u32::from(!misses(&device, &files, case, &network, 0).is_empty())
        };
        // The state must matter: more than one step or a start that is not 0.
        if layer.hidden_size < 3 || case.contains("last") {
            continue;
        }
        if cell.gates() > 1 {
            swapped += wrong(&|data| data.rotate_left(block));
        }
        nudged += wrong(&|data| data.iter_mut().for_each(|x| *x += 1e-3));
        if case.contains("lengths") {
            slipped += u32::from(!misses(&device, &files, case, &right, 1).is_empty());
        }
    }
    assert!(swapped >= 60 && nudged >= 90 && slipped >= 30, "swapped {swapped}, nudged {nudged}, slipped {slipped}");
}

//! Models of one recurrent node: the ONNX project's own tests, and random attributes. Y, Y_h and
//! Y_c of each.

use std::collections::BTreeSet;

use gatefold::formats::onnx;
use gatefold::{Device, Input, Network, Session, State, StatePart, Tensor};

use crate::support::selection::selected;
use crate::support::{Files, Golden, bundle, cpu, miss, swapped};

fn cases(files: &Files) -> BTreeSet<&str> {
    files.keys().filter_map(|name| name.strip_suffix(".onnx")).collect()
}

fn network(files: &Files, case: &str) -> Network {
    let name = format!("{case}.onnx");
    onnx::from_bytes(&name, &files[&name]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `[T, B, D, H]` as `[T, D, B, H]`, ONNX's Y with layout 0.
fn directions_first(values: &[f32], steps: usize, batch: usize, directions: usize) -> Vec<f32> {
    let hidden = values.len() / (steps * batch * directions);
    values
        .chunks_exact(batch * directions * hidden)
        .flat_map(|step| swapped(step, [batch, directions, hidden]))
        .collect()
}

/// The differences between `network` on `device` and the golden of `case`; every length is changed by `slip`.
fn misses(device: &Device, files: &Files, case: &str, network: &Network, slip: usize) -> Vec<String> {
    let golden = Golden::new(&files[&format!("{case}.golden.safetensors")]);
    let (values, shape) = golden.numbers("X").unwrap();
    let rows_first = network.batch_first();
    let (steps, batch) = if rows_first { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    let lengths: Option<Vec<usize>> =
        golden.ids("sequence_lens").map(|(ids, _)| ids.iter().map(|&id| (id as usize).saturating_sub(slip)).collect());
    let mut input = Input::features(&values, [shape[0], shape[1], shape[2]]);
    if let Some(lengths) = &lengths {
        input = input.with_lengths(lengths);
    }
    let mut state = State::zeros(network, batch).unwrap();
    let mut given = false;
    let layer = &mut state.layers[0];
    let directions = layer.parts[0].rows();
    for part in &mut layer.parts {
        if let Some((found, shape)) = golden.numbers(&format!("initial_{}", part.name)) {
            part.data = if rows_first { swapped(&found, [shape[0], shape[1], shape[2]]) } else { found };
            given = true;
        }
    }
    let session = Session::new(device, network).unwrap();
    let output = session.run(input, given.then_some(&state)).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut missed = Vec::new();
    let sequence = network.output_is_sequence();
    if let Some((expected, _)) = golden.numbers("Y").filter(|_| sequence) {
        let got = match rows_first {
            true => output.values.clone(), // [B, T, D, H] on both sides
            false => directions_first(&output.values, steps, batch, directions),
        };
        missed.extend(miss(&format!("{case} Y"), &got, &expected, steps));
    }
    for StatePart { name, shape, data } in &output.state.layers[0].parts {
        if let Some((expected, _)) = golden.numbers(&format!("Y_{name}")) {
            let got = if rows_first { swapped(data, shape[..].try_into().unwrap()) } else { data.clone() };
            missed.extend(miss(&format!("{case} Y_{name}"), &got, &expected, steps));
        }
    }
    if let Some((expected, _)) = golden.numbers("Y_h").filter(|_| !sequence) {
        // Y_h alone is read as the network's output, [B, D*H].
        let hidden = expected.len() / (batch * directions);
        let got = if rows_first { output.values.clone() } else { swapped(&output.values, [batch, directions, hidden]) };
        missed.extend(miss(&format!("{case} last output"), &got, &expected, steps));
    }
    missed
}

/// Every case of both bundles agrees on `device`.
fn all_agree(device: &Device) {
    for (bundle_name, least) in [("onnx_nodes.zip", 18), ("onnx_grid.zip", 240)] {
        let files = bundle(bundle_name);
        let cases = cases(&files);
        assert!(cases.len() >= least, "{bundle_name}: cases are missing: {}", cases.len());
        let missed: Vec<String> =
            selected(&cases).flat_map(|case| misses(device, &files, case, &network(&files, case), 0)).collect();
        assert!(missed.is_empty(), "{}: {missed:#?}", device.info());
    }
}

#[test]
fn agree_on_the_cpu() {
    all_agree(&cpu());
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    #[ignore = "minutes on a software renderer; test.sh runs it"]
    fn agree_with_onnx() {
        let device = crate::support::device_under_test();
        super::all_agree(&device);
    }
}

/// Negative controls: swapped gates, changed weights and lengths off by one must be detected.
#[test]
fn wrong_networks_are_seen() {
    let files = bundle("onnx_grid.zip");
    let device = cpu();
    let (mut turned, mut nudged, mut slipped) = (0, 0, 0);
    for case in cases(&files) {
        let right = network(&files, case);
        let (cell, layer) = right.recurrent_layers().next().unwrap();
        let name = format!("{}.weight_ih_l0", layer.name);
        let block = layer.hidden_size * layer.input_size;
        let wrong = |change: &dyn Fn(&mut Vec<f32>)| {
            let mut tensors = right.tensors().clone();
            let mut data = tensors[&name].data().to_vec();
            change(&mut data);
            tensors.insert(name.clone(), Tensor::new(tensors[&name].shape().to_vec(), data).unwrap());
            let network = Network::new(right.spec().clone(), tensors).unwrap();
            u32::from(!misses(&device, &files, case, &network, 0).is_empty())
        };
        if cell.gates() > 1 {
            turned += wrong(&|data| data.rotate_left(block));
        }
        nudged += wrong(&|data| data.iter_mut().for_each(|x| *x += 1e-2));
        slipped += u32::from(!misses(&device, &files, case, &right, 1).is_empty());
    }
    // Clipping and flat functions hide some changes.
    assert!(turned >= 120 && nudged >= 180 && slipped >= 80, "turned {turned}, nudged {nudged}, slipped {slipped}");
}

//! Models as people bring them (`tests/goldens/generate_onnx_files.py`): what exporters write around recurrent layers,
//! loops, masks, branches and hand-made graphs, against the frameworks' numbers in the file's own shape.

use gatefold::formats::onnx;
use gatefold::network::{Axis, InputKind};
use gatefold::{Device, Input, NamedInput, Network, Session, Tensor};
use safetensors::SafeTensors;

use crate::axes::in_order_of_the_file;
use crate::support::selection::selected;
use crate::support::{Files, Golden, bundle, cpu, miss};

/// Token ids that a file takes as floats.
fn as_ids(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| format!("{x}").parse().unwrap()).collect()
}

/// Models in the bundle, and how many of each origin.
const ORIGINS: [(&str, usize); 6] =
    [("torch_script", 33), ("torch_dynamo", 32), ("tf2onnx", 24), ("keras", 24), ("hand", 17), ("pattern", 64)];

/// Tensors that have no part in the answer: both sides of a softmax get them, or a softmax over one weight.
const UNSEEN: [&str; 0] = [];

fn names(files: &Files) -> Vec<&str> {
    files.keys().filter_map(|name| name.strip_suffix(".onnx")).collect()
}

fn network(files: &Files, name: &str) -> Result<Network, String> {
    onnx::from_bytes(name, &files[&format!("{name}.onnx")]).map_err(|error| format!("{name}: {error}"))
}

/// The difference between `network` on `device` and the model's golden; `file` is as the file was read.
fn missed(device: &Device, files: &Files, name: &str, network: &Network, file: &Network) -> Option<String> {
    let golden = Golden::new(&files[&format!("{name}.golden.safetensors")]);
    // Classes are integers.
    let of_output = |key: &str| match golden.numbers(key) {
        Some(numbers) => numbers,
        None => golden.ids(key).map(|(ids, shape)| (ids.iter().map(|&id| id as f32).collect(), shape)).unwrap(),
    };
    let (expected, shape) = of_output("output");
    let file_axes = file.file_axes().unwrap();
    let axes = file_axes.input.axes.clone();
    // The first input of the network need not be that of the file.
    let first = format!("input {}", file_axes.input.name);
    let has = |key: &str| golden.numbers(key).is_some() || golden.ids(key).is_some();
    let main = if has(&first) { &first } else { "input" };
    let (numbers, ids) = (golden.numbers(main), golden.ids(main));
    let (tokens, vectors): (Vec<u32>, Vec<f32>);
    let mut input = match (&numbers, &ids) {
        // Token ids that the file takes as floats.
        (Some((values, s)), _) if network.num_embeddings().is_some() => {
            tokens = as_ids(values);
            Input::tokens(&tokens, [s[0], s[1]])
        }
        // Vectors of one row each, as a run has them.
        (Some((values, s)), _) if s.len() == 2 && network.input_size() == s[1] && s[1] > 1 => {
            let (shape, values) = file.input_from_file(values, s).unwrap();
            vectors = values;
            Input::features(&vectors, [shape[0], shape[1], shape[2]])
        }
        (Some((values, s)), _) if s.len() == 2 => Input::features(values, [s[0], s[1], 1]),
        (Some((values, s)), _) => Input::features(values, [s[0], s[1], s[2]]).with_axes(&axes),
        (_, Some((ids, s))) => Input::tokens(ids, [s[0], s[1]]),
        _ => panic!("{name}: no input"),
    };
    let lengths: Option<Vec<usize>> =
        golden.ids("input lengths").map(|(ids, _)| ids.iter().map(|&n| n as usize).collect());
    if let Some(lengths) = &lengths {
        input = input.with_lengths(lengths);
    }
    let others: Vec<NamedInput> = network.inputs()[1..]
        .iter()
        .map(|input| {
            let key = format!("input {}", input.name);
            let key = if has(&key) { key } else { "input".to_owned() };
            match input.kind {
                InputKind::Tokens => {
                    let (ids, s) = golden.ids(&key).unwrap_or_else(|| {
                        let (values, shape) = golden.numbers(&key).unwrap();
                        (as_ids(&values), shape)
                    });
                    NamedInput::tokens(input.name.clone(), ids, [s[0], s[1]])
                }
                InputKind::Row => {
                    let (values, s) = golden.numbers(&key).unwrap();
                    NamedInput::rows(input.name.clone(), values, [s[0], s[1]])
                }
                _ => {
                    let (values, s) = golden.numbers(&key).unwrap();
                    // Of one feature, whose axis the file may leave out.
                    NamedInput::features(input.name.clone(), values, [s[0], s[1], s.get(2).copied().unwrap_or(1)])
                }
            }
        })
        .collect();
    let session = match Session::new(device, network) {
        Ok(session) => session,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let output = match session.run(input.with_others(&others), None) {
        Ok(output) => output,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let (got, got_shape) = in_order_of_the_file(file, &output);
    if got_shape != shape {
        return Some(format!("{name}: expected {shape:?}, got {got_shape:?}"));
    }
    let mut missed = miss(name, &got, &expected, 16);
    for other in &output.others {
        let (expected, shape) = of_output(&format!("output {}", other.name));
        if other.shape != shape {
            return Some(format!("{name}, {}: expected {shape:?}, got {:?}", other.name, other.shape));
        }
        missed = missed.or(miss(&format!("{name}, {}", other.name), &other.values, &expected, 16));
    }
    let bytes = &files[&format!("{name}.golden.safetensors")];
    let names = SafeTensors::deserialize(bytes).unwrap();
    // States of the network are among the answers of a run, not among its outputs.
    let wanted = names.names().iter().filter(|name| name.starts_with("output ")).count();
    if wanted != output.others.len() {
        return Some(format!("{name}: {wanted} further outputs, got {}", output.others.len()));
    }
    missed
}

fn all_agree(device: &Device) {
    let files = bundle("onnx_files.zip");
    for (origin, count) in ORIGINS {
        assert_eq!(names(&files).into_iter().filter(|name| name.starts_with(origin)).count(), count, "{origin}");
    }
    let failures: Vec<String> = selected(names(&files))
        .filter_map(|name| match network(&files, name) {
            Ok(network) => missed(device, &files, name, &network, &network),
            Err(error) => Some(error),
        })
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), names(&files).len(), failures.join("\n"));
}

#[test]
fn agree_on_the_cpu() {
    all_agree(&cpu());
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    fn files_agree() {
        let device = crate::support::device_under_test();
        super::all_agree(&device);
    }
}

/// Negative control: a change of any matrix of any model must be detected.
#[test]
fn nudged_files_are_seen() {
    let files = bundle("onnx_files.zip");
    let device = cpu();
    for name in names(&files) {
        let right = network(&files, name).unwrap();
        for (tensor, old) in right.tensors().iter().filter(|(_, tensor)| tensor.shape().len() > 1) {
            let mut tensors = right.tensors().clone();
            let data = old.data().iter().enumerate().map(|(i, x)| if i % 5 == 0 { x + 0.05 } else { *x }).collect();
            tensors.insert(tensor.clone(), Tensor::new(old.shape().to_vec(), data).unwrap());
            let wrong = Network::new(right.spec().clone(), tensors).unwrap();
            let label = format!("{name}: {tensor}");
            let seen = missed(&device, &files, name, &wrong, &right).is_some() || UNSEEN.contains(&label.as_str());
            assert!(seen, "{label} nudged went unseen");
        }
    }
}

#[test]
fn axes_of_one_feature_are_left_out_as_the_file_does() {
    let files = bundle("onnx_files.zip");
    let one = network(&files, "torch_script_one_feature").unwrap();
    assert_eq!(one.file_axes().unwrap().input.axes, [Axis::Batch, Axis::Time]);
    assert_eq!(one.input_axes(), [Axis::Batch, Axis::Time, Axis::Feature]);
    for name in ["torch_script_squeeze_one", "torch_dynamo_view_rows"] {
        let network = network(&files, name).unwrap();
        assert_eq!(network.file_axes().unwrap().output.axes, [Axis::Batch], "{name}");
        assert_eq!(network.output_axes(), [Axis::Batch, Axis::Feature], "{name}");
    }
}

//! Whole models as PyTorch's two exporters, tf2onnx and Keras write them
//! (`tests/goldens/generate_onnx_models.py`), against what the framework itself computes.

use gatefold::formats::onnx;
use gatefold::network::StageKind;
use gatefold::{Device, Input, Network, Session, Tensor};

use crate::support::selection::selected;
use crate::support::{Files, Golden, bundle, cpu, miss};

/// Models in the bundle, and how many of them each exporter wrote.
const EXPORTERS: [(&str, usize); 4] = [("torch_script", 18), ("torch_dynamo", 18), ("tf2onnx", 10), ("keras", 10)];

fn names(files: &Files) -> Vec<&str> {
    files.keys().filter_map(|name| name.strip_suffix(".onnx")).collect()
}

fn network(files: &Files, name: &str) -> Result<Network, String> {
    onnx::from_bytes(name, &files[&format!("{name}.onnx")]).map_err(|error| format!("{name}: {error}"))
}

/// The differences between `network` on `device` and the model's golden.
fn missed(device: &Device, files: &Files, name: &str, network: &Network) -> Option<String> {
    let golden = Golden::new(&files[&format!("{name}.golden.safetensors")]);
    let (expected, shape) = golden.numbers("output").unwrap();
    let session = Session::new(device, network).unwrap();
    let (numbers, ids) = (golden.numbers("input"), golden.ids("input"));
    let input = match (&numbers, &ids) {
        (Some((values, s)), _) => Input::features(values, [s[0], s[1], s[2]]),
        (_, Some((ids, s))) => Input::tokens(ids, [s[0], s[1]]),
        _ => panic!("{name}: no input"),
    };
    let output = match session.run(input, None) {
        Ok(output) => output,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    if output.shape != shape {
        return Some(format!("{name}: expected {shape:?}, got {:?}", output.shape));
    }
    miss(name, &output.values, &expected, 16)
}

fn all_agree(device: &Device) {
    let files = bundle("onnx_models.zip");
    for (exporter, count) in EXPORTERS {
        let found = names(&files).into_iter().filter(|name| name.starts_with(exporter)).count();
        assert_eq!(found, count, "{exporter}");
    }
    let failures: Vec<String> = selected(names(&files))
        .filter_map(|name| match network(&files, name) {
            Ok(network) => missed(device, &files, name, &network),
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
    fn exported_models_agree() {
        let device = crate::support::device_under_test();
        super::all_agree(&device);
    }
}

/// Negative control: a change of any matrix of any model must be detected.
#[test]
fn nudged_models_are_seen() {
    let files = bundle("onnx_models.zip");
    let device = cpu();
    for name in names(&files) {
        let right = network(&files, name).unwrap();
        let matrices = right.tensors().iter().filter(|(_, tensor)| tensor.shape().len() > 1);
        // Not all elements, which a softmax would not see.
        let (tensor, old) = matrices.clone().next().unwrap();
        let mut tensors = right.tensors().clone();
        let data = old.data().iter().enumerate().map(|(i, x)| if i % 5 == 0 { x + 0.05 } else { *x }).collect();
        tensors.insert(tensor.clone(), Tensor::new(old.shape().to_vec(), data).unwrap());
        let wrong = Network::new(right.spec().clone(), tensors).unwrap();
        assert!(missed(&device, &files, name, &wrong).is_some(), "{name}: {tensor} nudged went unseen");
        // One is unrolled step by step (`torch.export` on `nn.RNN`).
        let recurrent = right.stages().iter().any(|stage| matches!(stage.kind, StageKind::Recurrent(_)));
        assert!(recurrent || name == "torch_dynamo_rnn_relu", "{name}");
    }
}

//! Whole models as exporters write them: PyTorch's two, tf2onnx and Keras' own.
//! `tests/goldens/generate_onnx_models.py` made them.

use gatefold::formats::onnx;
use gatefold::{Device, Input, Network, Session, Tensor};

use crate::support::{Files, Golden, bundle, cpu, miss};

/// How many models of each exporter the bundle has.
const EXPORTERS: [(&str, usize); 4] = [("torch_script", 18), ("torch_dynamo", 18), ("tf2onnx", 10), ("keras", 10)];

/// Recurrences that an exporter wrote out as other operators, by model and node.
const REFUSED: [(&str, &str); 9] = [
    // torch.export unrolls nn.RNN, one Slice for each timestep of the example it was given.
    ("torch_dynamo_rnn_relu", "node `node_Slice_20` (Slice)"),
    // tf2onnx knows Keras' LSTM alone; other cells stay TensorFlow's loops.
    ("tf2onnx_gru_sequence", "while_loop` (Loop)"),
    ("tf2onnx_gru_reset_before", "while_loop` (Loop)"),
    ("tf2onnx_simple_rnn", "while_loop` (Loop)"),
    ("tf2onnx_bidirectional_gru_last", "while_loop` (Loop)"),
    ("keras_gru_sequence", "while_loop` (Loop)"),
    ("keras_gru_reset_before", "while_loop` (Loop)"),
    ("keras_simple_rnn", "while_loop` (Loop)"),
    ("keras_bidirectional_gru_last", "while_loop` (Loop)"),
];

/// The models of one exporter, by name.
fn models<'a>(files: &'a Files, exporter: &str) -> Vec<&'a str> {
    let names = files.keys().filter_map(|name| name.strip_suffix(".onnx"));
    names.filter(|name| name.strip_prefix(exporter).is_some_and(|rest| rest.starts_with('_'))).collect()
}

/// What `network` on `device` misses of the output that the framework gave for `model`.
fn missed(device: &Device, files: &Files, model: &str, network: &Network) -> Option<String> {
    let golden = Golden::new(&files[&format!("{model}.golden.safetensors")]);
    let (expected, shape) = golden.numbers("output").unwrap();
    let session = Session::new(device, network).unwrap_or_else(|error| panic!("{model}: {error}"));
    let (output, steps) = if let Some((ids, shape)) = golden.ids("input") {
        (session.run(Input::tokens(&ids, [shape[0], shape[1]]), None), shape[1])
    } else {
        let (values, shape) = golden.numbers("input").unwrap();
        (session.run(Input::features(&values, [shape[0], shape[1], shape[2]]), None), shape[0].max(shape[1]))
    };
    let output = output.unwrap_or_else(|error| panic!("{model}: {error}"));
    if output.shape != shape {
        return Some(format!("{model}: shape {:?} instead of {shape:?}", output.shape));
    }
    miss(model, &output.values, &expected, steps)
}

fn read(files: &Files, model: &str) -> Result<Network, String> {
    let name = format!("{model}.onnx");
    onnx::from_bytes(&name, &files[&name]).map_err(|error| format!("{name}: {error}"))
}

/// Every model of every exporter agrees on `device`, or is refused where `REFUSED` says so.
fn all_agree(device: &Device) {
    let files = bundle("onnx_models.zip");
    let (mut failures, mut agreed) = (Vec::new(), 0);
    for (exporter, count) in EXPORTERS {
        let models = models(&files, exporter);
        assert_eq!(models.len(), count, "{exporter}: {models:?}");
        for model in models {
            let node = REFUSED.iter().find(|(name, _)| *name == model).map(|(_, node)| node);
            match (read(&files, model), node) {
                (Ok(network), None) => {
                    failures.extend(missed(device, &files, model, &network));
                    agreed += 1;
                }
                (Err(error), Some(node)) if error.contains(node) => {}
                (Ok(_), Some(_)) => failures.push(format!("{model}: is read; take it off the list")),
                (Err(error), _) => failures.push(error),
            }
        }
    }
    assert!(failures.is_empty(), "{}: {failures:#?}", device.info());
    assert_eq!(agreed, 47);
}

#[test]
fn exported_models_agree_on_the_cpu() {
    all_agree(&cpu());
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    fn exported_models_agree() {
        let Some(device) = crate::support::device_under_test() else { return };
        super::all_agree(&device);
    }
}

/// Negative control: one tensor nudged, or turned, must be seen in nearly every model.
#[test]
fn wrong_models_are_seen() {
    let files = bundle("onnx_models.zip");
    let device = cpu();
    let (mut nudged, mut turned, mut tried) = (0, 0, 0);
    for model in EXPORTERS.iter().flat_map(|(exporter, _)| models(&files, exporter)) {
        let Ok(right) = read(&files, model) else { continue };
        let wrong = |change: &dyn Fn(&mut Vec<f32>)| {
            let mut tensors = right.tensors().clone();
            let (name, tensor) = tensors.iter().find(|(name, _)| name.ends_with("weight_hh_l0")).unwrap();
            let (name, shape, mut data) = (name.clone(), tensor.shape().to_vec(), tensor.data().to_vec());
            change(&mut data);
            tensors.insert(name, Tensor::new(shape, data).unwrap());
            let network = Network::new(right.spec().clone(), tensors).unwrap();
            u32::from(missed(&device, &files, model, &network).is_some())
        };
        nudged += wrong(&|data| data.iter_mut().for_each(|x| *x += 1e-2));
        turned += wrong(&|data| data.rotate_left(1));
        tried += 1;
    }
    assert_eq!(tried, 47);
    // A saturated head hides some changes.
    assert!(nudged + 2 >= tried && turned + 2 >= tried, "nudged {nudged}, turned {turned} of {tried}");
}

//! Outputs of models, compared with Keras' outputs for the same input in f64.

use gatefold::compare::{Tolerance, compare};
use gatefold::formats::keras;
use gatefold::network::{Activation, LayerSpec};
use gatefold::{Device, DeviceChoice, Input, NamedInput, Network, Session, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::bundle::{file, files, network};
use crate::support::selection::{all_are_run, selected};

/// The difference between `network` on `device` and the golden of `case`, if there is one.
pub fn miss(device: &Device, case: &str, network: &Network) -> Option<String> {
    let golden = SafeTensors::deserialize(file(&format!("{case}.golden.safetensors"))).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        golden.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let tokens = |name: &str| -> Vec<u32> {
        golden.tensor(name).unwrap().data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let input = golden.tensor("input").unwrap();
    let shape = input.shape();
    let (ids, values);
    let given = if input.dtype() == Dtype::I32 {
        ids = tokens("input");
        Input::tokens(&ids, [shape[0], shape[1]])
    } else {
        values = floats("input");
        match *shape {
            [batch, width] => Input::rows(&values, [batch, width]),
            _ => Input::features(&values, [shape[0], shape[1], shape[2]]),
        }
    };
    let mut others = Vec::new();
    for key in golden.names() {
        let Some(name) = key.strip_prefix("input.") else { continue };
        let view = golden.tensor(key).unwrap();
        others.push(match (view.dtype(), view.shape()) {
            (Dtype::I32, &[batch, steps]) => NamedInput::tokens(name.to_owned(), tokens(key), [batch, steps]),
            (_, &[batch, width]) => NamedInput::rows(name.to_owned(), floats(key), [batch, width]),
            (_, shape) => NamedInput::features(name.to_owned(), floats(key), [shape[0], shape[1], shape[2]]),
        });
    }
    let output = Session::new(device, network).unwrap().run(given.with_others(&others), None).unwrap();
    let wanted = golden.names().into_iter().filter(|name| name.starts_with("output."));
    assert_eq!(output.others.len(), wanted.clone().count(), "{case}: outputs");
    let steps = shape[1];
    let miss = |name: &str, values: &[f32], shape: &[usize]| {
        let expected: Vec<f64> = floats(name).into_iter().map(f64::from).collect();
        assert_eq!(shape, golden.tensor(name).unwrap().shape(), "{case} {name}");
        let comparison = compare(values, &expected, Tolerance::f32(steps));
        (!comparison.passed).then(|| format!("{case} {name}: {comparison:?}"))
    };
    let found =
        output.others.iter().find_map(|other| miss(&format!("output.{}", other.name), &other.values, &other.shape));
    found.or_else(|| miss("output", &output.values, &output.shape))
}

/// The cases, each with the names of its whole models.
fn cases() -> Vec<(&'static str, Vec<String>)> {
    let cases = files().keys().filter_map(|name| name.strip_suffix(".golden.safetensors"));
    let models = |case: &str| {
        let names = [".keras", ".h5"].map(|suffix| format!("{case}{suffix}"));
        names.into_iter().filter(|name| files().contains_key(name)).collect()
    };
    cases.map(|case| (case, models(case))).collect()
}

/// Every whole model of the bundle agrees with Keras on `device`.
pub fn all_agree(device: &Device) {
    let mut missed = Vec::new();
    let (mut run, mut grid) = (0, 0);
    for (case, models) in selected(cases()) {
        assert!(!models.is_empty(), "{case} has no model");
        for model in models {
            missed.extend(miss(device, case, &network(&model)).map(|miss| format!("{model} {miss}")));
            run += 1;
            grid += usize::from(case.starts_with("grid_"));
        }
    }
    assert!(missed.is_empty(), "{}: {} of {run}: {missed:#?}", device.info(), missed.len());
    assert!(
        !all_are_run() || (grid >= 100 && run - grid >= 60),
        "models are missing: {run}, {grid} of them in the grid"
    );
}

fn cpu() -> Device {
    Device::open(&DeviceChoice::Cpu).unwrap()
}

#[test]
fn agree_with_keras_on_the_cpu() {
    all_agree(&cpu());
}

/// The format is recognized by the content.
#[test]
fn bytes_are_recognized() {
    for name in ["lstm.keras", "stacked.h5"] {
        assert_eq!(Network::from_bytes("bytes", file(name)).unwrap(), network(name), "{name}");
    }
    let error = Network::from_bytes("bytes", &file("lstm.keras")[..400]).unwrap_err().to_string();
    assert!(error.starts_with("bytes"), "{error}");
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    #[ignore = "minutes on a software renderer; test.sh runs it"]
    fn agree_with_keras() {
        let device = crate::support::device_under_test();
        super::all_agree(&device);
    }
}

/// A file of weights alone, with the description of the whole model, is the same network. Keras'
/// own layer names are those of the groups as long as no name is given.
#[test]
fn weights_alone_are_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for (name, bytes) in files().iter().filter(|(name, _)| name.ends_with(".weights.h5")) {
        let case = name.strip_suffix(".weights.h5").unwrap();
        let whole = network(&format!("{case}.keras"));
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let by_argument = keras::load_weights(&path, whole.spec().clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let same = |one: &Network| {
            // A description says nothing of dropout.
            assert_eq!(
                (one.spec(), one.tensors(), one.file_axes()),
                (whole.spec(), whole.tensors(), whole.file_axes())
            );
        };
        same(&by_argument);

        let error = keras::load(&path).unwrap_err().to_string();
        assert!(error.contains("weights alone") && error.contains(".weights.json"), "{error}");
        std::fs::write(path.with_extension("json"), serde_json::to_string(whole.spec()).unwrap()).unwrap();
        same(&keras::load(&path).unwrap());
        compared += 1;
    }
    assert!(compared >= 15, "{compared}");
}

#[test]
fn the_configuration_may_be_what_to_json_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gru.weights.h5");
    std::fs::write(&path, file("gru_reset_before.weights.h5")).unwrap();
    let beside = path.with_extension("json");
    std::fs::write(&beside, file("gru_reset_before.to_json")).unwrap();
    assert_eq!(miss(&Device::cpu(), "gru_reset_before", &keras::load(&path).unwrap()), None);
    std::fs::write(&beside, r#"{"class_name": "Sequential"}"#).unwrap();
    let error = keras::load(&path).unwrap_err().to_string();
    assert!(error.contains("class_name and config"), "{error}");
}

#[test]
fn both_whole_formats_are_the_same_network() {
    let mut compared = 0;
    for (name, _) in files().iter().filter(|(name, _)| name.ends_with(".h5") && !name.contains(".weights")) {
        let other = format!("{}.keras", name.strip_suffix(".h5").unwrap());
        if files().contains_key(&other) {
            assert_eq!(network(name), network(&other), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

/// Deflated and shuffled chunks, doubles, other versions of HDF5's structures, a deflated archive.
#[test]
fn storage_does_not_matter() {
    let stacked = network("stacked.keras");
    for name in [
        "odd_stacked_packed.h5",
        "odd_stacked_packed_earliest.h5",
        "odd_stacked_double.h5",
        "odd_stacked_deflated.keras",
    ] {
        assert_eq!(network(name), stacked, "{name}");
    }
    let halves = network("odd_quarter_half.h5");
    for (name, tensor) in halves.tensors() {
        // Without reset_after there is no second bias.
        let expected = if name.ends_with("bias_hh_l0") { 0.0 } else { 0.25 };
        assert!(tensor.data().iter().all(|&x| x == expected), "{name}: {:?}", tensor.data());
    }
}

/// Weights under every dtype policy; these are multiples of 1/64, which all of them hold exactly.
#[test]
fn half_precision_policies_are_read() {
    for policy in ["mixed_float16", "bfloat16", "float16"] {
        let network = network(&format!("odd_{policy}.keras"));
        let numbers: Vec<f32> = network.tensors().values().flat_map(Tensor::data).copied().collect();
        assert!(numbers.iter().all(|x| (x * 64.0).fract() == 0.0 && x.abs() <= 0.5), "{policy}: {numbers:?}");
        assert!(numbers.iter().filter(|&&x| x != 0.0).count() > 100, "{policy}");
    }
}

/// What hard_sigmoid means depends on the version that wrote the file.
#[test]
fn hard_sigmoid_depends_on_the_keras_version() {
    let slope = |name: &str| {
        network(name).spec().layers.iter().find_map(|layer| match layer.recurrent()?.1.activations.first()? {
            Activation::HardSigmoid { alpha, .. } => Some(*alpha),
            _ => None,
        })
    };
    assert_eq!(slope("keras2_sequential.keras"), Some(0.2));
    assert_eq!(slope("keras2_sequential.h5"), Some(0.2));
    let keras_3 = (0..120).find_map(|number| slope(&format!("grid_{number:03}.keras")));
    assert_eq!(keras_3, Some(1.0 / 6.0));
}

/// A Softmax layer has no name; where another layer goes back to it, one is put after it.
#[test]
fn a_softmax_that_is_read_twice_gets_a_name() {
    let network = network("graph_attention.keras");
    let bearer = network.spec().layers.iter().position(|layer| layer.name() == "dense_softmax").unwrap();
    assert_eq!(network.spec().layers[bearer - 1], LayerSpec::Softmax);
}

/// Negative control: swapped gates, swapped directions and a changed weight must be detected.
#[test]
fn wrong_weights_are_seen() {
    let device = cpu();
    for (case, tensor) in [
        ("lstm", "lstm.weight_hh_l0"),
        ("gru", "gru.weight_ih_l0"),
        ("gru_reset_before", "gru.bias_ih_l0"),
        ("simple_rnn", "simple_rnn.weight_hh_l0"),
        ("bidirectional_concat", "bidirectional.weight_hh_l0_reverse"),
        ("stacked", "lstm_1.weight_ih_l0"),
        ("norms", "batch_normalization.running_var"),
        ("convolutions", "conv1d.weight"),
        ("flow_prelu", "p_re_lu_1_alpha.weight"),
        ("flow_one_query", "additive_attention_scores.weight"),
        ("flow_heads", "multi_head_attention_keys.weight"),
        ("flow_heads", "multi_head_attention_output.bias"),
        ("flow_attending", "additive_attention.weight"),
        ("flow_attending_heads", "multi_head_attention_keys.weight"),
        ("flow_separable", "depthwise_conv1d.weight"),
        ("flow_separable", "separable_conv1d_depthwise.weight"),
    ] {
        let right = network(&format!("{case}.keras"));
        assert_eq!(miss(&device, case, &right), None);
        let half = right.tensors()[tensor].data().len() / 2;
        let swapped = changed(&right, tensor, |data| {
            let (first, second) = data.split_at_mut(half);
            first.swap_with_slice(&mut second[..half]);
        });
        assert!(miss(&device, case, &swapped).is_some(), "{case}: swapped halves of {tensor} went unseen");
        let nudged = changed(&right, tensor, |data| data[0] += 0.1);
        assert!(miss(&device, case, &nudged).is_some(), "{case}: a nudge of {tensor} went unseen");
    }
}

fn changed(network: &Network, name: &str, change: impl FnOnce(&mut [f32])) -> Network {
    let mut tensors = network.tensors().clone();
    let mut data = tensors[name].data().to_vec();
    change(&mut data);
    tensors.insert(name.into(), Tensor::new(tensors[name].shape().to_vec(), data).unwrap());
    Network::new(network.spec().clone(), tensors).unwrap()
}

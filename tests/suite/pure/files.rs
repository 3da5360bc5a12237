//! Files that are broken, hostile, or not what they say: one clear error, no panic.

use std::collections::BTreeMap;
use std::fs;

use gatefold::network::{Activation, Cell, DenseSpec, LayerSpec};
use gatefold::{Error, Network, Tensor};
use proptest::prelude::*;

use crate::common::{in_repository, lstm, spec};

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 3))]), 1).unwrap()
}

/// A safetensors file by hand.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn message(bytes: &[u8]) -> String {
    Network::from_bytes("network", bytes).unwrap_err().to_string()
}

const DESCRIPTION: &str = r#"{\"format\":1,\"layers\":[{\"type\":\"dense\",\"name\":\"d\",\"in_features\":1,\"out_features\":1,\"bias\":false}]}"#;

/// A file with the tensor `d.weight` `[1, 1]` of this type and data.
fn one_weight(dtype: &str, data: &[u8]) -> Vec<u8> {
    let len = data.len();
    let header = format!(
        r#"{{"__metadata__":{{"gatefold":"{DESCRIPTION}"}},"d.weight":{{"dtype":"{dtype}","shape":[1,1],"data_offsets":[0,{len}]}}}}"#
    );
    file(&header, data)
}

#[test]
fn a_network_survives_the_round_trip() {
    for path in ["models/sentiment/sentiment.safetensors", "tests/goldens/tokens_to_classes.safetensors"] {
        let network = Network::load(in_repository(path)).unwrap();
        let bytes = network.to_bytes().unwrap();
        assert_eq!(Network::from_bytes("network", &bytes).unwrap(), network);
    }
    for cell in Cell::ALL {
        for seed in 0..8 {
            let options = crate::on_device::cells::layer(cell, &mut fastrand::Rng::with_seed(seed));
            let network = Network::random(spec(vec![LayerSpec::of_cell(cell, options)]), seed).unwrap();
            assert_eq!(Network::from_bytes("network", &network.to_bytes().unwrap()).unwrap(), network);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    network().save(&path).unwrap();
    assert_eq!(Network::load(&path).unwrap(), network());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a partial file was left");
}

#[test]
fn the_description_may_be_in_a_json_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    fs::write(&path, file(r#"{"d.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#, &[0; 4])).unwrap();
    let error = Network::load(&path).unwrap_err().to_string();
    assert!(error.contains("network.json") && error.contains("metadata key `gatefold`"), "{error}");
    fs::write(folder.path().join("network.json"), DESCRIPTION.replace('\\', "")).unwrap();
    assert_eq!(Network::load(&path).unwrap().parameters(), 1);
    fs::write(folder.path().join("network.json"), [0xff, 0xfe]).unwrap();
    assert!(Network::load(&path).unwrap_err().to_string().contains("network.json"));
}

#[test]
fn every_float_type_is_read() {
    for (dtype, data) in [
        ("F32", 1.5f32.to_le_bytes().to_vec()),
        ("F64", 1.5f64.to_le_bytes().to_vec()),
        ("F16", half::f16::from_f32(1.5).to_le_bytes().to_vec()),
        ("BF16", half::bf16::from_f32(1.5).to_le_bytes().to_vec()),
    ] {
        let network = Network::from_bytes("network", &one_weight(dtype, &data)).unwrap();
        assert_eq!(network.tensors()["d.weight"].data(), [1.5], "{dtype}");
    }
    let error = message(&one_weight("I32", &[0; 4]));
    assert_eq!(error, "tensor `d.weight`: dtype I32 (supported: F32, F16, BF16, F64, I8 with scales) is not supported");
}

#[test]
fn numbers_that_are_none_are_named() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = message(&one_weight("F32", &value.to_le_bytes()));
        assert_eq!(error, format!("tensor `d.weight`: expected finite numbers, got {value} at element 0"));
    }
    // If rounding to f32 turns a number into infinity, that is an error.
    assert!(message(&one_weight("F64", &1e300f64.to_le_bytes())).contains("got inf"));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let tensors = || network().tensors().clone();
    let error =
        |tensors: BTreeMap<String, Tensor>| Network::new(network().spec().clone(), tensors).unwrap_err().to_string();
    let mut missing = tensors();
    missing.remove("lstm.weight_hh_l0");
    assert_eq!(error(missing), "tensor `lstm.weight_hh_l0` [12, 3] is missing");
    let mut misnamed = tensors();
    let tensor = misnamed.remove("lstm.weight_hh_l0").unwrap();
    misnamed.insert("lstm.weight_hh".into(), tensor);
    assert_eq!(error(misnamed), "tensor `lstm.weight_hh_l0` [12, 3] is missing; tensors of no layer: lstm.weight_hh");
    let mut wrong = tensors();
    wrong.insert("lstm.weight_ih_l0".into(), Tensor::new(vec![2, 12], vec![0.0; 24]).unwrap());
    assert_eq!(error(wrong), "tensor `lstm.weight_ih_l0`: expected shape [12, 2], got [2, 12]");
    let mut extra = tensors();
    extra.insert("lstm.weight_hr_l0".into(), Tensor::new(vec![1], vec![0.0]).unwrap());
    assert_eq!(
        error(extra),
        "tensor `lstm.weight_hr_l0` [1] belongs to no layer; \
         expected: lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0"
    );
}

#[test]
fn headers_that_do_not_fit_the_file_are_refused() {
    let cases: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("seven bytes", vec![0; 7]),
        ("a header longer than the file", u64::MAX.to_le_bytes().to_vec()),
        ("a header of a terabyte", [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat()),
        ("no JSON", file("{not json", &[])),
        ("offsets beyond the data", file(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, &[0; 8])),
        (
            "a shape that overflows",
            file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}"#, &[0; 4]),
        ),
        (
            "overlapping tensors",
            file(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
        ),
    ];
    for (what, bytes) in cases {
        let error = message(&bytes);
        assert!(error.contains("expected a safetensors file"), "{what}: {error}");
    }
    assert!(message(&file("{}", &[])).contains("metadata key `gatefold`"));
}

#[test]
fn descriptions_that_are_not_understood_are_refused() {
    let with = |description: &str| {
        let header = serde_json::json!({"__metadata__": {"gatefold": description}}).to_string();
        message(&file(&header, &[]))
    };
    assert!(with("").contains("network description: expected gatefold's JSON"));
    assert!(with(r#"{"format":2,"layers":[]}"#).contains("expected format 1 to 1, got format 2"));
    assert!(with(r#"{"format":1,"layers":[]}"#).contains("number of layers"));
    assert!(with(r#"{"format":1,"layers":[{"type":"mamba","name":"g"}]}"#).contains("unknown variant `mamba`"));
    let sizes = |option: &str| {
        with(&format!(
            r#"{{"format":1,"layers":[{{"type":"lstm","name":"l","input_size":1,"hidden_size":1,{option}}}]}}"#
        ))
    };
    assert!(sizes(r#""projection":3"#).contains("unknown field `projection`"));
    assert!(sizes(r#""num_layers":18446744073709551615"#).contains("layer `l`: num_layers: expected 1 to 1024"));
    assert!(sizes(r#""num_layers":0"#).contains("num_layers: expected 1 to"));
    assert!(sizes(r#""num_layers":-1"#).contains("invalid value"));
    let huge = r#"{"format":1,"layers":[{"type":"lstm","name":"l","input_size":1,"hidden_size":9223372036854775807}]}"#;
    assert!(with(huge).contains("hidden_size: expected 1 to 16777216, got 9223372036854775807"));
    let deep = format!(r#"{{"format":1,"layers":{}"#, "[".repeat(100_000));
    assert!(with(&deep).contains("network description: expected gatefold's JSON"));
}

#[test]
fn files_that_are_not_there_are_named() {
    let error = Network::load("no/such/file.safetensors").unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().starts_with("no/such/file.safetensors: "));
    let error = Network::load(in_repository("models")).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }) && error.to_string().ends_with("got a folder"), "{error}");
    let error = network().save("no/such/folder/file.safetensors").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any cut of a good file is refused.
    #[test]
    fn truncated_files_are_refused(share in 0.0f64..1.0) {
        let bytes = network().to_bytes().unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let cut = (bytes.len() as f64 * share) as usize;
        prop_assert!(Network::from_bytes("network", &bytes[..cut]).is_err());
    }

    /// Any flipped byte either leaves a valid network or is refused; nothing panics.
    #[test]
    fn flipped_bytes_do_not_panic(index in any::<prop::sample::Index>(), flip in 1u8..) {
        let dense = DenseSpec {
            name: "d".into(), in_features: 2, out_features: 3, bias: true, activation: Activation::Relu,
        };
        let mut bytes = Network::random(spec(vec![LayerSpec::Dense(dense)]), 1).unwrap().to_bytes().unwrap();
        let index = index.index(bytes.len());
        bytes[index] ^= flip;
        if let Ok(network) = Network::from_bytes("network", &bytes) {
            prop_assert!(network.tensors().values().all(|t| t.data().iter().all(|x| x.is_finite())));
        }
    }

    /// Nor do bytes that were never a network.
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Network::from_bytes("network", &bytes).is_err());
    }
}

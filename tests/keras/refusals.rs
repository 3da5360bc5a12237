//! Unsupported features are refused by name; the error for a wrong file says what was expected.

use gatefold::formats::keras;
use gatefold::{Error, Network, Result};
use serde_json::{Value, json};

use crate::bundle::{file, reconfigured, unzip, zip};

/// Option `key` of the layer at `index` of `name` set to `value`.
pub fn with_option(name: &str, index: usize, key: &str, value: &Value) -> Result<Network> {
    let bytes = reconfigured(name, |model| model["config"]["layers"][index]["config"][key] = value.clone());
    keras::from_bytes(name, &bytes)
}

/// Index of the first layer of `class`.
pub fn place(name: &str, class: &str) -> usize {
    let config: Value = serde_json::from_slice(&unzip(file(name))["config.json"]).unwrap();
    let layers = config["config"]["layers"].as_array().unwrap();
    layers.iter().position(|layer| layer["class_name"] == class).unwrap_or_else(|| panic!("{name} has no {class}"))
}

#[test]
fn unsupported_options_are_named() {
    for (name, class, key, value) in [
        ("lstm.keras", "LSTM", "time_major", json!(true)),
        ("flow_cells_with_states.keras", "RNN", "cell", json!({"class_name": "Minimal", "config": {"name": "a"}})),
        ("flow_normalized.keras", "Normalization", "invert", json!(true)),
        ("lstm.keras", "LSTM", "projection", json!(3)),
        ("lstm.keras", "LSTM", "return_state", json!(true)),
        ("lstm.keras", "LSTM", "activation", json!("softmax")),
        ("lstm.keras", "LSTM", "activation", json!("log_sigmoid")),
        (
            "lstm.keras",
            "LSTM",
            "activation",
            json!({"module": "builtins", "class_name": "function", "config": "f", "registered_name": "function"}),
        ),
        ("lstm.keras", "LSTM", "dtype", json!({"class_name": "QuantizedDTypePolicy", "config": {"name": "int8"}})),
        ("lstm_last.keras", "LSTM", "zero_output_for_mask", json!(true)),
        ("bidirectional_concat.keras", "Bidirectional", "merge_mode", json!(null)),
        ("convolutions.keras", "Conv1D", "data_format", json!("channels_first")),
        ("convolutions.keras", "Conv1D", "lora_rank", json!(4)),
        ("convolutions.keras", "Conv1D", "padding", json!("reflect")),
        ("norms.keras", "BatchNormalization", "axis", json!(1)),
        ("norms.keras", "LayerNormalization", "axis", json!([1, 2])),
        ("norms.keras", "LayerNormalization", "rms_scaling", json!(true)),
        ("graph_branches.keras", "Concatenate", "axis", json!(0)),
        ("stacked.keras", "Dense", "quantization_config", json!({"mode": "int8"})),
    ] {
        let error = with_option(name, place(name, class), key, &value).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{name} {key}: {error}");
        let text = error.to_string();
        assert!(text.contains("layer `") && text.contains(class) && text.contains(key), "{key}: {text}");
    }
}

/// A layer that a model calls as in training (dropout that drops, statistics of the batch) is not run as in inference.
#[test]
fn a_call_in_training_mode_is_refused() {
    let name = "graph_branches.keras";
    let at = place(name, "LSTM");
    for (training, fits) in [(json!(true), false), (json!(false), true), (json!(null), true), (json!(1), false)] {
        let bytes = reconfigured(name, |model| {
            model["config"]["layers"][at]["inbound_nodes"][0]["kwargs"]["training"] = training.clone();
        });
        match keras::from_bytes(name, &bytes) {
            Ok(_) => assert!(fits, "training = {training}"),
            Err(error) => assert!(!fits && error.to_string().contains("training"), "{training}: {error}"),
        }
    }
}

#[test]
fn options_that_do_not_matter_are_let_through() {
    let right = keras::from_bytes("lstm.keras", file("lstm.keras")).unwrap();
    for (key, value) in [
        ("unroll", json!(true)),
        ("stateful", json!(true)),
        ("dropout", json!(0.5)),
        ("seed", json!(3)),
        ("kernel_regularizer", json!({"class_name": "L2", "config": {"l2": 0.1}})),
        ("implementation", json!(1)),
        ("time_major", json!(false)),
        ("dtype", json!("float64")),
    ] {
        let network = with_option("lstm.keras", place("lstm.keras", "LSTM"), key, &value);
        let network = network.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!((network.spec(), network.tensors()), (right.spec(), right.tensors()), "{key}");
    }
}

#[test]
fn values_of_a_wrong_kind_are_malformed() {
    for (key, value) in [
        ("units", json!("four")),
        ("units", json!(-4)),
        ("units", json!(4.5)),
        ("units", json!(null)),
        ("use_bias", json!("yes")),
        ("return_sequences", json!(1)),
        ("go_backwards", json!([])),
    ] {
        let error = with_option("lstm.keras", place("lstm.keras", "LSTM"), key, &value).unwrap_err();
        assert!(matches!(&error, Error::Malformed { what, .. } if what.contains(key)), "{key}: {error}");
    }
    let error = with_option("gru.keras", place("gru.keras", "GRU"), "reset_after", &json!(null)).unwrap_err();
    assert!(error.to_string().contains("reset_after"), "{error}");
}

#[test]
fn classes_that_are_not_read_are_named() {
    let refused = |name: &str, index: usize, class: &str| {
        let bytes = reconfigured(name, |model| model["config"]["layers"][index]["class_name"] = json!(class));
        keras::from_bytes(name, &bytes).unwrap_err().to_string()
    };
    for class in ["Flatten", "Reshape", "PReLU", "ConvLSTM1D", "MultiHeadAttention", "Lambda", "Custom>Mine", "RNN"] {
        let text = refused("stacked.keras", 2, class);
        assert!(text.contains("`dropout`") && text.contains(class), "{class}: {text}");
    }
    let text = refused("graph_branches.keras", place("graph_branches.keras", "Add"), "Dot");
    assert!(text.contains("`add`") && text.contains("Dot"), "{text}");

    let bytes = reconfigured("lstm.keras", |model| {
        model["config"]["layers"][1]["registered_name"] = json!("Mine>LSTM");
    });
    let text = keras::from_bytes("lstm.keras", &bytes).unwrap_err().to_string();
    assert!(text.contains("Mine>LSTM"), "{text}");

    let bytes = reconfigured("lstm.keras", |model| model["class_name"] = json!("MyModel"));
    let text = keras::from_bytes("lstm.keras", &bytes).unwrap_err().to_string();
    assert!(text.contains("MyModel"), "{text}");
}

/// The table of docs/options.md: a class that is read may be refused for its options, one that is refused is so by its name.
#[test]
fn every_class_is_read_or_refused_as_the_table_says() {
    let text = include_str!("../../docs/options.md");
    let section = text.split("## Keras layers").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let mut seen = [0, 0];
    for (classes, what) in rows.skip(2) {
        for class in classes.split(" and ").next().unwrap().split(", ") {
            // A layer of one tensor, and one of several.
            let (name, at) = match what.contains("several tensors") {
                true => ("graph_branches.keras", place("graph_branches.keras", "Add")),
                false => ("stacked.keras", 2),
            };
            let bytes = reconfigured(name, |model| model["config"]["layers"][at]["class_name"] = json!(class));
            let by_name = format!("layer class {class}");
            let refused = keras::from_bytes(name, &bytes).is_err_and(|error| error.to_string().contains(&by_name));
            assert_eq!(refused, what.starts_with("refused"), "{class}: {what}");
            seen[usize::from(refused)] += 1;
        }
    }
    assert!(seen[0] >= 55 && seen[1] >= 60, "{seen:?}");
}

/// `flow_one_query.keras`, whose layers of attention read one query each, with `change` of the layer `class`.
fn attention_refusal(class: &str, change: impl FnOnce(&mut Value)) -> String {
    let name = "flow_one_query.keras";
    graph_refusal(name, |model| change(&mut model["layers"][place(name, class)]))
}

#[test]
fn attention_says_what_is_read() {
    let name = "flow_attending_masked.keras";
    let text = graph_refusal(name, |model| {
        let layers = model["layers"].as_array_mut().unwrap();
        let embeds_target = |layer: &&mut Value| layer["config"]["input_dim"] == json!(7);
        layers.iter_mut().find(embeds_target).unwrap()["config"]["mask_zero"] = json!(true);
    });
    assert!(text.contains("a query that is masked"), "{text}");
    let option = |key: &str, value: Value| attention_refusal("Attention", |layer| layer["config"][key] = value);
    let text = option("score_mode", json!("cosine"));
    assert!(text.contains("`attention`") && text.contains("`score_mode` = cosine"), "{text}");
    let text = attention_refusal("AdditiveAttention", |layer| layer["config"]["use_scale"] = json!(false));
    assert!(text.contains("expected no array, got") && text.contains("additive_attention/vars/0"), "{text}");
    let text = option("causal", json!(true));
    assert!(text.contains("`causal` = true"), "{text}");
    let text = attention_refusal("Attention", |layer| {
        layer["inbound_nodes"][0]["kwargs"] = json!({"use_causal_mask": true});
    });
    assert!(text.contains("call argument use_causal_mask = true"), "{text}");

    let name = "flow_heads.keras";
    let text = graph_refusal(name, |model| {
        model["layers"][place(name, "MultiHeadAttention")]["config"]["attention_axes"] = json!([2]);
    });
    assert!(text.contains("MultiHeadAttention: option `attention_axes` = [2]"), "{text}");
    let text = graph_refusal(name, |model| {
        let calls = &mut model["layers"][place(name, "MultiHeadAttention")]["inbound_nodes"];
        calls[0]["kwargs"] = json!({"attention_mask": 1});
    });
    assert!(text.contains("call argument attention_mask = 1"), "{text}");
    let open = graph_refusal("flow_scores.keras", |model| model["layers"][0]["config"]["batch_shape"][1] = json!(null));
    assert!(open.contains("`return_attention_scores`") && open.contains("an open number of timesteps"), "{open}");
}

#[test]
fn what_needs_a_fixed_number_of_timesteps_says_so() {
    for (name, class) in [("flow_prelu.keras", "PReLU"), ("flow_separable.keras", "UpSampling1D")] {
        let text = graph_refusal(name, |model| model["layers"][0]["config"]["batch_shape"][1] = json!(null));
        assert!(text.contains(class) && text.contains("give the model's input a fixed length"), "{name}: {text}");
    }
    let name = "flow_prelu.keras";
    let text = graph_refusal(name, |model| {
        model["layers"][place(name, "PReLU")]["config"]["shared_axes"] = json!([3]);
    });
    assert!(text.contains("`shared_axes`") && text.contains("axes from 1 to 2"), "{text}");
    let name = "flow_separable.keras";
    let text = graph_refusal(name, |model| {
        model["layers"][place(name, "SeparableConv1D")]["config"]["depth_multiplier"] = json!(3);
    });
    assert!(text.contains("depthwise") || text.contains("separable_conv1d/vars/0"), "{text}");
}

/// What the functional model `name` is refused with, changed.
fn graph_refusal(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let bytes = reconfigured(name, |model| change(&mut model["config"]));
    keras::from_bytes(name, &bytes).unwrap_err().to_string()
}

#[test]
fn unsupported_graphs_are_refused() {
    let name = "graph_branches.keras";
    let text = graph_refusal(name, |m| m["input_layers"] = json!([["a", 0, 0], ["b", 0, 0]]));
    assert!(text.contains("output 0 of call 0 of `a`"), "{text}");
    let text = graph_refusal(name, |m| m["input_layers"] = json!([]));
    assert!(text.contains("input_layers") && text.contains("at least one"), "{text}");
    let text = graph_refusal(name, |m| m["output_layers"] = json!([["lstm", 0, 0], ["gru", 1, 0]]));
    assert!(text.contains("output 0 of call 1 of `gru`"), "{text}");
    let text = graph_refusal(name, |m| m["output_layers"] = json!(["nowhere", 0, 0]));
    assert!(text.contains("nowhere"), "{text}");
    let text = graph_refusal("graph_state_unused.keras", |m| m["output_layers"] = json!(["lstm", 0, 7]));
    assert!(text.contains("`lstm`") && text.contains("output 7, which it does not have"), "{text}");

    let lstm = place(name, "LSTM");
    let cycle = json!([{"args": [{"class_name": "__keras_tensor__",
        "config": {"keras_history": ["maximum", 0, 0]}}], "kwargs": {}}]);
    let text = graph_refusal(name, |m| m["layers"][lstm]["inbound_nodes"] = cycle.clone());
    assert!(text.contains("cycle"), "{text}");
    let text = graph_refusal(name, |m| {
        m["layers"][lstm]["inbound_nodes"][0]["kwargs"]["initial_state"] = json!(["x"]);
    });
    assert!(text.contains("`lstm`") && text.contains("no layer's output"), "{text}");
    let text = graph_refusal(name, |m| {
        let call = m["layers"][lstm]["inbound_nodes"][0].clone();
        let input = call["args"][0].clone();
        m["layers"][lstm]["inbound_nodes"][0]["kwargs"]["initial_state"] = json!([input]);
    });
    assert!(text.contains("`lstm`") && text.contains("an initial state of other than 2 vectors per row"), "{text}");
    let text = graph_refusal("flow_slices.keras", |m| {
        let at = m["layers"].as_array().unwrap().iter().position(|layer| layer["class_name"] == "GetItem").unwrap();
        m["layers"][at]["inbound_nodes"][0]["args"][1][0] = json!(0);
    });
    assert!(text.contains("slice [0,"), "{text}");
    let text = graph_refusal("flow_operations.keras", |m| {
        let at = m["layers"].as_array().unwrap().iter().position(|layer| layer["class_name"] == "Mean").unwrap();
        m["layers"][at]["config"]["axis"] = json!(2);
    });
    assert!(text.contains("an open number of timesteps"), "{text}");

    let name = "masking_residual.keras";
    let other = place(name, "NotEqual");
    let text = graph_refusal(name, |m| m["layers"][other]["inbound_nodes"][0]["args"][1] = json!(7.0));
    assert!(text.contains("call argument mask"), "{text}");
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let error = with_option("lstm.keras", place("lstm.keras", "LSTM"), "units", &json!(5)).unwrap_err();
    let Error::TensorShape { name, expected, got } = &error else { panic!("{error}") };
    assert_eq!((name.as_str(), expected, got), ("layers/lstm/cell/vars/0", &vec![5, 20], &vec![5, 16]));

    let bytes = reconfigured("lstm.keras", |model| {
        model["config"]["layers"][1]["class_name"] = json!("SimpleRNN");
        model["config"]["layers"][1]["config"].as_object_mut().unwrap().remove("recurrent_activation");
    });
    let error = keras::from_bytes("lstm.keras", &bytes).unwrap_err();
    assert!(matches!(&error, Error::MissingTensor { name, .. } if name.contains("simple_rnn")), "{error}");

    let huge = with_option("lstm.keras", place("lstm.keras", "LSTM"), "units", &json!(u64::MAX)).unwrap_err();
    assert!(matches!(huge, Error::TensorShape { .. }), "{huge}");
}

#[test]
fn files_of_another_kind_are_refused() {
    let text = |bytes: &[u8]| keras::from_bytes("file", bytes).unwrap_err().to_string();
    assert!(text(b"").contains("a .keras (zip) or .h5 (HDF5) file"));
    assert!(text(b"\x08\x00\x00\x00{}").contains("a .keras (zip) or .h5 (HDF5) file"));
    assert!(text(file("lstm.weights.h5")).contains("weights alone"));
    let mut entries = unzip(file("lstm.keras"));
    entries.remove("model.weights.h5");
    assert!(text(&zip(&entries)).contains("an entry model.weights.h5"));
    let missing = keras::load("nowhere.keras").unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
}

/// Arrays of whole numbers, and numbers that are not finite.
#[test]
fn weights_that_are_no_weights_are_refused() {
    let bytes = file("lstm.h5").to_vec();
    let kernel = keras::from_bytes("lstm.h5", &bytes).unwrap().tensors()["lstm.weight_hh_l0"].data()[0];
    let at = bytes.windows(4).position(|w| w == kernel.to_le_bytes()).unwrap();
    let mut broken = bytes;
    broken[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = keras::from_bytes("lstm.h5", &broken).unwrap_err();
    assert!(matches!(&error, Error::NonFinite { name, index: 0, .. } if name == "lstm.weight_hh_l0"), "{error}");
}

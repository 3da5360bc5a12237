//! Graphs that come close to ones that are read, but compute something else: each is refused, and its neighbour that is read is a
//! control.

use gatefold::formats::keras;
use gatefold::network::{Activation, LayerSpec};
use gatefold::{Error, Network, Result};
use serde_json::{Value, json};

use crate::bundle::reconfigured;

/// A tensor of a layer, as a call has it.
fn of(layer: &str) -> Value {
    let config = json!({"shape": [null, 6, 4], "dtype": "float32", "keras_history": [layer, 0, 0]});
    json!({"class_name": "__keras_tensor__", "config": config})
}

fn called(module: &str, class: &str, name: &str, mut config: Value, args: &[Value]) -> Value {
    config["name"] = json!(name);
    let calls = json!([{"args": args, "kwargs": {}}]);
    json!({"module": module, "class_name": class, "config": config, "registered_name": null, "name": name,
        "inbound_nodes": calls})
}

fn layer(class: &str, name: &str, config: Value, inputs: &[Value]) -> Value {
    called("keras.layers", class, name, config, inputs)
}

fn operation(class: &str, name: &str, config: Value, args: &[Value]) -> Value {
    called("keras.src.ops.numpy", class, name, config, args)
}

fn slice(start: &Value, stop: &Value) -> Value {
    json!({"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": null}})
}

/// A model of `layers` over inputs `x` (and `x2`) `[6, 4]`; the last layer is its output.
fn model(layers: &[Value]) -> Result<Network> {
    let several = layers.iter().any(|layer| layer["inbound_nodes"].to_string().contains("\"x2\""));
    let inputs: &[&str] = if several { &["x", "x2"] } else { &["x"] };
    let bytes = reconfigured("flow_slices.keras", |model| {
        let input = |name: &&str| {
            json!({"module": "keras.layers", "class_name": "InputLayer", "registered_name": null, "name": name,
                "config": {"batch_shape": [null, 6, 4], "dtype": "float32", "name": name}, "inbound_nodes": []})
        };
        let all: Vec<Value> = inputs.iter().map(input).chain(layers.iter().cloned()).collect();
        model["config"]["output_layers"] = json!([all[all.len() - 1]["name"], 0, 0]);
        model["config"]["input_layers"] = inputs.iter().map(|name| json!([name, 0, 0])).collect();
        model["config"]["layers"] = json!(all);
    });
    keras::from_bytes("made", &bytes)
}

fn error(layers: &[Value]) -> String {
    model(layers).unwrap_err().to_string()
}

fn gru(input: &str) -> Value {
    layer(
        "GRU",
        "gru",
        json!({"units": 3, "activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": true}),
        &[of(input)],
    )
}

/// Panics unless all of `layers` are read; the weights are another model's and need not fit.
fn is_read(layers: &[Value]) {
    if let Err(error) = model(layers) {
        assert!(matches!(error, Error::TensorShape { .. } | Error::MissingTensor { .. }), "{error}");
    }
}

fn masking(name: &str, input: &str) -> Value {
    layer("Masking", name, json!({"mask_value": 0.0}), &[of(input)])
}

#[test]
fn slices_other_than_by_ranges_are_refused() {
    let sliced = |index: Value| [operation("GetItem", "part", json!({}), &[of("x"), index]), gru("part")];
    let all = slice(&Value::Null, &Value::Null);
    let ellipsis = json!({"class_name": "__ellipsis__", "config": {}});
    is_read(&sliced(json!([all, slice(&json!(1), &Value::Null)])));
    is_read(&sliced(json!([ellipsis, slice(&Value::Null, &json!(2))])));
    for (index, words) in [
        (json!([{"class_name": "Mine", "config": {}}, slice(&Value::Null, &json!(2))]), "slice by"),
        (json!([ellipsis, all, all, all, all]), "slice ["),
        (json!(0), "a slice by a single index"),
        (json!([{"config": {"start": 1}}]), "slice by"),
    ] {
        let error = error(&sliced(index));
        assert!(error.contains("`part`") && error.contains(words), "{error}");
    }
}

#[test]
fn a_number_and_a_tensor_are_told_apart() {
    let made = |class: &str, args: &[Value]| [operation(class, "made", json!({}), args), gru("made")];
    let function = |class: &str, args: &[Value]| match &model(&made(class, args)).unwrap().spec().layers[1] {
        LayerSpec::Activation(layer) => layer.activation,
        other => panic!("{other:?}"),
    };
    assert_eq!(function("TrueDivide", &[of("x"), json!(2.0)]), Activation::Affine { alpha: 0.5, beta: 0.0 });
    assert_eq!(function("TrueDivide", &[json!(2.0), of("x")]), Activation::Reciprocal);
    assert_eq!(function("Power", &[of("x"), json!(2.0)]), Activation::Square);
    let error = error(&made("Power", &[json!(2.0), of("x")]));
    assert!(error.contains("`made`") && error.contains("operation Power"), "{error}");
}

#[test]
fn a_clip_without_a_bound_and_a_power_of_a_number_are_refused() {
    let clipped = |config: Value| [operation("Clip", "bounded", config, &[of("x")]), gru("bounded")];
    is_read(&clipped(json!({"x_min": -1.0, "x_max": 1.0})));
    for config in [json!({"x_min": null, "x_max": 1.0}), json!({"x_min": -1.0, "x_max": null})] {
        assert!(error(&clipped(config)).contains("`bounded`"));
    }
    let power = |args: &[Value]| [operation("Power", "power", json!({}), args), gru("power")];
    is_read(&power(&[of("x"), json!(2)]));
    for args in [[json!(2), of("x")], [of("x"), json!(3)]] {
        assert!(error(&power(&args)).contains("`power`"));
    }
}

#[test]
fn a_largest_number_with_a_start_is_refused() {
    let largest = |config: Value| {
        [operation("Max", "top", config, &[of("x")]), layer("Dense", "out", json!({"units": 2}), &[of("top")])]
    };
    is_read(&largest(json!({"axis": 1})));
    let error = error(&largest(json!({"axis": 1, "initial": 0.5})));
    assert!(error.contains("`top`") && error.contains("option `initial`"), "{error}");
}

/// Keras drops the mask here: the layers behind it read all steps.
#[test]
fn masked_steps_lose_their_mask() {
    let all = slice(&Value::Null, &Value::Null);
    let range = json!([all, slice(&json!(1), &Value::Null), all]);
    let unmasks = |layers: &[Value]| {
        let network = model(layers).unwrap();
        network.spec().layers.iter().any(|layer| layer.name() == "next_unmask")
    };
    for next in [
        operation("GetItem", "next", json!({}), &[of("masked"), range]),
        layer("Reshape", "next", json!({"target_shape": [6, 4]}), &[of("masked")]),
        operation("Add", "next", json!({}), &[of("masked"), json!(1.0)]),
    ] {
        assert!(unmasks(&[masking("masked", "x"), next, gru("next")]));
    }
    let kept = layer("Activation", "next", json!({"activation": "relu"}), &[of("masked")]);
    assert!(!unmasks(&[masking("masked", "x"), kept, gru("next")]));
}

#[test]
fn one_mask_does_not_stand_for_those_of_two_inputs() {
    let joined = |second: &str, more: &[Value]| {
        let join = layer("Concatenate", "both", json!({"axis": -1}), &[json!([of("first"), of(second)])]);
        [&[masking("first", "x")], more, &[join, gru("both")]].concat()
    };
    is_read(&joined("first", &[]));
    let error = error(&joined("second", &[masking("second", "x2")]));
    assert!(error.contains("`both`") && error.contains("masks of several inputs of the model"), "{error}");
}

//! Networks of several inputs and outputs, and recurrent layers whose states go from one to another, against the f64
//! reference.

use gatefold::network::{InputKind, LayerSpec, Tensor};
use gatefold::{Input, NamedInput, Network, PlanOptions, RandomInput, Session, State};

use crate::common::{assert_right, changed, device, spec};

fn network(layers: &str) -> Network {
    let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
    Network::random(spec(layers), 11).unwrap()
}

fn output(network: &Network, input: Input<'_>) -> Vec<f32> {
    Session::new(device(), network).unwrap().run(input, None).unwrap().values
}

/// A series and fixed features of a row, joined, and an attention over the series as a second output.
fn series_and_row(batch_first: bool) -> Network {
    network(&format!(
        r#"[{{"type": "input", "name": "series", "input_size": 3}},
        {{"type": "gru", "name": "gru", "input_size": 3, "hidden_size": 5, "batch_first": {batch_first}}},
        {{"type": "dense", "name": "scores", "in_features": 5, "out_features": 1}},
        {{"type": "time_softmax", "name": "shares"}},
        {{"type": "output", "name": "attention"}},
        {{"type": "join", "name": "weighted", "inputs": ["shares", "gru"], "join": "mul"}},
        {{"type": "global_pool", "name": "context", "pool": "sum"}},
        {{"type": "input", "name": "fixed", "kind": "row", "input_size": 2}},
        {{"type": "join", "name": "both", "inputs": ["context", "fixed"], "join": "concat"}},
        {{"type": "dense", "name": "head", "in_features": 7, "out_features": 4}}]"#
    ))
}

/// An encoder whose final states a decoder starts from, each with an embedding and a length of its own.
fn encoder_and_decoder(cell: &str, bidirectional: bool) -> Network {
    let directions = if bidirectional { 2 } else { 1 };
    let width = 4 * directions;
    let mut layers = format!(
        r#"[{{"type": "input", "name": "source", "kind": "tokens"}},
        {{"type": "embedding", "name": "source_table", "num_embeddings": 9, "embedding_dim": 3, "mask_zero": true}},
        {{"type": "{cell}", "name": "encoder", "input_size": 3, "hidden_size": 4, "bidirectional": {bidirectional}}},"#
    );
    let parts: &[&str] = if cell == "lstm" { &["h", "c"] } else { &["h"] };
    let mut initial = String::new();
    for part in parts {
        for direction in 0..directions {
            layers += &format!(
                r#"{{"type": "final_state", "name": "{part}{direction}", "layer": "encoder", "part": "{part}",
                "direction": {direction}}},"#
            );
        }
        let name = if directions == 1 { format!("{part}0") } else { format!("{part}s") };
        if directions == 2 {
            layers += &format!(
                r#"{{"type": "join", "name": "{name}", "inputs": ["{part}0", "{part}1"], "join": "concat"}},"#
            );
        }
        initial += &format!(r#""initial_{part}": "{name}", "#);
    }
    layers += &format!(
        r#"{{"type": "input", "name": "target", "kind": "tokens"}},
        {{"type": "embedding", "name": "target_table", "num_embeddings": 7, "embedding_dim": 2, "mask_zero": true}},
        {{"type": "{cell}", "name": "decoder", "input_size": 2, "hidden_size": 4, {initial}
        "bidirectional": {bidirectional}}},
        {{"type": "dense", "name": "head", "in_features": {width}, "out_features": 7}}]"#
    );
    network(&layers)
}

#[test]
fn several_inputs_agree() {
    for batch_first in [false, true] {
        let network = series_and_row(batch_first);
        for (steps, batch) in [(1, 1), (7, 3)] {
            let input = RandomInput::new(&network, steps, batch, 12).unwrap();
            assert_right(device(), &network, PlanOptions::default(), input.as_input(), None);
        }
    }
}

#[test]
fn states_go_from_layer_to_layer() {
    for cell in ["lstm", "gru", "rnn"] {
        for bidirectional in [false, true] {
            let network = encoder_and_decoder(cell, bidirectional);
            assert_eq!(network.inputs().iter().map(|input| input.kind).collect::<Vec<_>>(), [InputKind::Tokens; 2]);
            // Each has its own number of timesteps, and its own padding.
            let source = [3, 1, 2, 8, 8, 0, 4, 0, 0, 0];
            let others = [NamedInput::tokens("target", &[1u32, 2, 3, 4, 5, 0][..], [3, 2])];
            let input = Input::tokens(&source, [5, 2]).with_others(&others);
            assert_right(device(), &network, PlanOptions::default(), input, None);
        }
    }
}

/// The decoder starts from the encoder's states, whatever the caller gives; a network of its own from the same states has
/// the same output.
#[test]
fn a_decoder_starts_where_its_encoder_ended() {
    let device = device();
    let whole = encoder_and_decoder("lstm", false);
    let part = |layers: &str, names: &[&str]| {
        let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap();
        let kept = |name: &String| names.iter().any(|prefix| name.starts_with(prefix));
        let tensors = whole.tensors().iter().filter(|(name, _)| kept(name));
        Network::new(spec(layers), tensors.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()).unwrap()
    };
    let encoder = part(
        r#"[{"type": "embedding", "name": "source_table", "num_embeddings": 9, "embedding_dim": 3, "mask_zero": true},
        {"type": "lstm", "name": "encoder", "input_size": 3, "hidden_size": 4}]"#,
        &["source", "encoder"],
    );
    let decoder = part(
        r#"[{"type": "embedding", "name": "target_table", "num_embeddings": 7, "embedding_dim": 2, "mask_zero": true},
        {"type": "lstm", "name": "decoder", "input_size": 2, "hidden_size": 4},
        {"type": "dense", "name": "head", "in_features": 4, "out_features": 7}]"#,
        &["target", "decoder", "head"],
    );
    let (source, target) = ([3, 1, 2, 8, 8, 0], [1u32, 2, 3, 4]);
    let others = [NamedInput::tokens("target", &target[..], [2, 2])];
    let input = Input::tokens(&source, [3, 2]).with_others(&others);
    let got = Session::new(device, &whole).unwrap().run(input, None).unwrap();
    let mut state = Session::new(device, &encoder).unwrap().run(Input::tokens(&source, [3, 2]), None).unwrap().state;
    state.layers[0].name = "decoder".into();
    let session = Session::new(device, &decoder).unwrap();
    let expected = session.run(Input::tokens(&target, [2, 2]), Some(&state)).unwrap();
    assert_eq!(got.values, expected.values);
    assert_ne!(got.values, session.run(Input::tokens(&target, [2, 2]), None).unwrap().values, "the states count");
    let mut other = State::zeros(&whole, 2).unwrap();
    other.layers[1].part_mut("h").unwrap().data.fill(0.7);
    let again = Session::new(device, &whole).unwrap().run(input, Some(&other)).unwrap();
    assert_eq!(again.values, expected.values, "the caller's state of the decoder does not count");
}

#[test]
fn other_outputs_have_names() {
    let device = device();
    let network = series_and_row(true);
    let input = RandomInput::new(&network, 4, 3, 12).unwrap();
    let session = Session::new(device, &network).unwrap();
    let output = session.run(input.as_input(), None).unwrap();
    assert_eq!((output.shape.as_slice(), output.others.len()), (&[3, 4][..], 1));
    let attention = &output.others[0];
    assert_eq!((attention.name.as_str(), attention.shape.as_slice()), ("attention", &[3, 4, 1][..]));
    for shares in attention.values.chunks_exact(4) {
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{shares:?}");
    }
    let mut into = output.clone();
    session.run_into(input.as_input(), None, &mut into).unwrap();
    assert_eq!((&into.values, &into.others[0].values), (&output.values, &attention.values));
    // Negative control: another weight, another attention.
    let other = changed(&network, "scores.weight", |weight| weight[0] += 1.0);
    let other = Session::new(device, &other).unwrap().run(input.as_input(), None).unwrap();
    assert_ne!(other.others[0].values, attention.values);
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let network = series_and_row(false);
    let session = Session::new(device(), &network).unwrap();
    let series = Input::features(&[0.5; 12], [2, 2, 3]);
    let refused = |input: Input<'_>| session.run(input, None).unwrap_err().to_string();
    let row = |shape: [usize; 2]| NamedInput::rows("fixed", vec![0.5; shape[0] * shape[1]], shape);
    let error = refused(series);
    assert_eq!(error, "inputs beside the first: expected `fixed`, got none");
    let error = refused(series.with_others(&[NamedInput::rows("static", vec![0.5; 4], [2, 2])]));
    assert_eq!(error, "inputs beside the first: expected `fixed`, got `static`");
    let error = refused(series.with_others(&[row([2, 2]), row([2, 2])]));
    assert_eq!(error, "inputs beside the first: expected `fixed`, got `fixed`, `fixed`");
    let error = refused(series.with_others(&[row([3, 2])]));
    assert_eq!(error, "input `fixed`: expected 2 batch rows, as the first input has, got 3");
    let error = refused(series.with_others(&[row([2, 3])]));
    assert_eq!(error, "input `fixed`: expected a vector for each row, [B, 2], got [2, 3] with 6 elements");
    let sequence = NamedInput::features("fixed", vec![0.5; 4], [1, 2, 2]);
    let error = refused(series.with_others(&[sequence]));
    assert_eq!(error, "input `fixed`: expected a vector for each row, [B, 2], got vectors [1, 2, 2]");
    assert!(session.run(series.with_others(&[row([2, 2])]), None).is_ok());
}

#[test]
fn descriptions_that_do_not_fit_are_named() {
    let refused = |layers: &str| {
        let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap();
        Network::random(spec(layers), 1).unwrap_err().to_string()
    };
    let lstm = r#"{"type": "lstm", "name": "lstm", "input_size": 3, "hidden_size": 4}"#;
    let cases = [
        (
            format!(r#"[{lstm}, {{"type": "input", "input_size": 3}}]"#),
            "expected a name, since it is not the first layer",
        ),
        (
            format!(r#"[{lstm}, {{"type": "input", "name": "lstm", "input_size": 3}}]"#),
            "expected a name that no other layer has",
        ),
        (
            format!(r#"[{lstm}, {{"type": "input", "name": "x", "kind": "tokens", "input_size": 3}}]"#),
            "expected none, since it is token ids",
        ),
        (
            format!(r#"[{lstm}, {{"type": "input", "name": "x", "input_size": 3}}]"#),
            "expected one that computes something",
        ),
        (
            format!(r#"[{lstm}, {{"type": "final_state", "name": "s", "layer": "gru", "part": "h"}}]"#),
            "expected an earlier recurrent layer, got gru",
        ),
        (
            format!(
                r#"[{lstm}, {{"type": "final_state", "name": "s", "layer": "lstm", "part": "c", "direction": 1}}]"#
            ),
            "direction: expected 0 to 0, got 1",
        ),
        (
            format!(
                r#"[{lstm}, {{"type": "from", "layer": "input"}},
                {{"type": "gru", "name": "g", "input_size": 3, "hidden_size": 4, "initial_h": "lstm"}}]"#
            ),
            "expected a layer that gives [B, 4], got lstm",
        ),
        (
            format!(
                r#"[{lstm}, {{"type": "final_state", "name": "s", "layer": "lstm", "part": "h"}},
                {{"type": "from", "layer": "input"}},
                {{"type": "gru", "name": "g", "input_size": 3, "hidden_size": 4, "initial_c": "s"}}]"#
            ),
            "initial_c: expected none, since the cell has no c",
        ),
    ];
    for (layers, expected) in cases {
        let error = refused(&layers);
        assert!(error.contains(expected), "{layers}: {error}");
    }
}

/// The first of several inputs may have the name that a single one has; a later one may not.
#[test]
fn the_first_of_several_inputs_may_be_called_input() {
    let layers = |first: &str, second: &str| {
        format!(
            r#"[{{"type": "input", "name": "{first}", "input_size": 3}},
            {{"type": "gru", "name": "gru", "input_size": 3, "hidden_size": 2}},
            {{"type": "input", "name": "{second}", "input_size": 2}},
            {{"type": "join", "name": "sum", "inputs": ["gru", "{second}"], "join": "add"}}]"#
        )
    };
    let (named, other) = (network(&layers("input", "more")), network(&layers("series", "more")));
    let input = RandomInput::new(&named, 4, 2, 8).unwrap();
    assert_eq!(output(&named, input.as_input()), output(&other, input.as_input()));
    let twice: Vec<LayerSpec> = serde_json::from_str(&layers("series", "input")).unwrap();
    let error = Network::random(spec(twice), 1).unwrap_err().to_string();
    assert!(error.contains("expected a name that no other layer has"), "{error}");
}

/// A description of several inputs and outputs, written and read again.
#[test]
fn several_inputs_are_kept_in_files() {
    let network = encoder_and_decoder("lstm", true);
    let text = serde_json::to_string(network.spec()).unwrap();
    let again = Network::new(serde_json::from_str(&text).unwrap(), network.tensors().clone()).unwrap();
    assert_eq!((again.spec(), again.stages(), again.inputs()), (network.spec(), network.stages(), network.inputs()));
    let _: &Tensor = &again.tensors()["decoder.weight_ih_l0"];
}

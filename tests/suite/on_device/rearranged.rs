//! Layers that move numbers, joins of rows with sequences, and softmax over time against the f64 reference.

use gatefold::network::LayerSpec;
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::arg_max;
use gatefold::{Input, Network, PlanOptions, RandomInput, Session, verify};

use crate::common::{assert_right, changed, device, spec};
use crate::pure::gradients::{attention, autoencoder};

fn network(layers: &str) -> Network {
    let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
    Network::random(spec(layers), 11).unwrap()
}

/// A dense layer of `width` and then `layers`.
fn after_dense(width: usize, layers: &str) -> Network {
    network(&format!(r#"[{{"type": "dense", "name": "first", "in_features": 3, "out_features": {width}}}, {layers}]"#))
}

fn agrees(network: &Network, steps: usize, batch: usize) {
    let input = RandomInput::new(network, steps, batch, 12).unwrap();
    assert_right(device(), network, PlanOptions::default(), input.as_input(), None);
}

fn output(network: &Network, input: Input<'_>) -> Vec<f32> {
    Session::new(device(), network).unwrap().run(input, None).unwrap().values
}

#[test]
fn parts_of_time_and_channels_agree() {
    let layers = [
        r#"{"type": "slice", "name": "s"}"#,
        r#"{"type": "slice", "name": "s", "start": -3}"#,
        r#"{"type": "slice", "name": "s", "start": 1, "end": -1, "step": 3}"#,
        r#"{"type": "pad", "name": "p", "left": 5, "right": 2}"#,
        r#"{"type": "pad", "name": "p", "left": -2, "right": -3}"#,
        r#"{"type": "pad", "name": "p", "left": 6, "right": 4, "mode": "reflect"}"#,
        r#"{"type": "channels", "name": "c", "start": 3, "count": 1}"#,
        r#"{"type": "channels", "name": "c", "start": 0, "count": 65}"#,
        r#"{"type": "reshape", "name": "r", "in_steps": 7}"#,
        r#"{"type": "reshape", "name": "r", "in_steps": 7, "out_steps": 65}"#,
        r#"{"type": "transpose", "name": "t", "steps": 7}"#,
        r#"{"type": "select", "name": "s", "step": "last"}, {"type": "repeat", "name": "r", "times": 6}"#,
        r#"{"type": "select", "name": "s", "step": "last"}, {"type": "reshape", "name": "r", "out_steps": 13}"#,
    ];
    for layer in layers {
        for batch in [1, 4] {
            agrees(&after_dense(65, layer), 7, batch);
        }
    }
}

/// What the layers give for numbers that tell their place.
#[test]
fn numbers_are_where_they_belong() {
    // [T, B, N] = [3, 2, 2]; a number is 100 t + 10 b + n.
    let x: Vec<f32> = [0u8, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211].map(f32::from).to_vec();
    let check = |layers: &str, expected: &[u8]| {
        let network = network(&format!(r#"[{{"type": "input", "input_size": 2}}, {layers}]"#));
        let expected: Vec<f32> = expected.iter().map(|&x| f32::from(x)).collect();
        assert_eq!(output(&network, Input::features(&x, [3, 2, 2])), expected, "{layers}");
    };
    check(r#"{"type": "slice", "name": "s", "start": 1, "end": 2}"#, &[100, 101, 110, 111]);
    check(r#"{"type": "pad", "name": "p", "left": 1, "right": -2}"#, &[0, 0, 0, 0, 0, 1, 10, 11]);
    check(
        r#"{"type": "pad", "name": "p", "left": 1, "right": 2, "mode": "reflect"}"#,
        &[100, 101, 110, 111, 0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211, 100, 101, 110, 111, 0, 1, 10, 11],
    );
    check(r#"{"type": "channels", "name": "c", "start": 1, "count": 1}"#, &[1, 11, 101, 111, 201, 211]);
    check(
        r#"{"type": "reshape", "name": "r", "in_steps": 3}"#,
        &[0, 1, 100, 101, 200, 201, 10, 11, 110, 111, 210, 211],
    );
    check(
        r#"{"type": "reshape", "name": "r", "in_steps": 3, "out_steps": 2}"#,
        &[0, 1, 100, 10, 11, 110, 101, 200, 201, 111, 210, 211],
    );
    check(r#"{"type": "transpose", "name": "t", "steps": 3}"#, &[0, 100, 200, 10, 110, 210, 1, 101, 201, 11, 111, 211]);
    check(
        r#"{"type": "select", "name": "s", "step": "first"}, {"type": "repeat", "name": "r", "times": 2}"#,
        &[0, 1, 10, 11, 0, 1, 10, 11],
    );
}

#[test]
fn softmax_over_time_agrees() {
    for width in [1, 3, 65] {
        for (steps, batch) in [(1, 1), (63, 2), (200, 3)] {
            agrees(&after_dense(width, r#"{"type": "time_softmax", "name": "s"}"#), steps, batch);
            agrees(&after_dense(width, r#"{"type": "log_softmax", "name": "s"}"#), steps, batch);
        }
    }
    // Masked steps have no share, and those that are left share 1.
    let network = after_dense(2, r#"{"type": "time_softmax", "name": "s"}"#);
    let input = RandomInput::new(&network, 5, 3, 3).unwrap();
    let masked = input.as_input().with_lengths(&[5, 2, 0]);
    assert_right(device(), &network, PlanOptions::default(), masked, None);
    let shares = output(&network, masked);
    let sum = |row: usize| (0..5).map(|t| shares[(t * 3 + row) * 2]).sum::<f32>();
    assert!((sum(0) - 1.0).abs() < 1e-6 && (sum(1) - 1.0).abs() < 1e-6 && sum(2) == 0.0, "{shares:?}");
    assert!((2..5).all(|t| shares[(t * 3 + 1) * 2] == 0.0), "{shares:?}");
}

/// Rows of few different numbers: of equal ones the first counts.
#[test]
fn the_place_of_the_largest_is_exact() {
    let mut with_equals = 0;
    for width in [1, 2, 63, 64, 65, 300] {
        let layers = format!(r#"[{{"type": "input", "input_size": {width}}}, {{"type": "arg_max", "name": "a"}}]"#);
        let network = network(&layers);
        let [steps, batch] = [9, 7];
        let x: Vec<f32> =
            (0..steps * batch * width).map(|i| ((i * i) as f32 * 0.37).sin() * 40.0).map(f32::floor).collect();
        let largest = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let first = |row: &[f32]| row.iter().position(|&x| x == largest(row)).unwrap() as f32;
        let last = |row: &[f32]| row.iter().rposition(|&x| x == largest(row)).unwrap() as f32;
        let expected: Vec<f32> = x.chunks_exact(width).map(first).collect();
        assert_eq!(output(&network, Input::features(&x, [steps, batch, width])), expected, "{width}");
        with_equals += x.chunks_exact(width).filter(|row| first(row) < last(row)).count();
    }
    assert!(with_equals > 50, "the control: {with_equals} rows of which another place would be wrong");
    for (width, steps, batch) in [(5, 1, 1), (65, 40, 3), (1000, 3, 70)] {
        agrees(&after_dense(width, r#"{"type": "arg_max", "name": "a"}"#), steps, batch);
    }
}

/// The first NaN is the largest number; the two zeros are equal, and the smallest numbers are not.
#[test]
fn the_place_of_the_largest_is_exact_for_every_float() {
    let odd = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0, f32::MIN, f32::MAX, 1e-42, -1e-42, -f32::NAN];
    let mut with_nan = 0;
    for (width, batch) in [(1, 10), (3, 40), (70, 6)] {
        let layers = format!(r#"[{{"type": "input", "input_size": {width}}}, {{"type": "arg_max", "name": "a"}}]"#);
        let x: Vec<f32> = (0..batch * width)
            .map(|i| if i * i % 7 == 2 { odd[i * i / 7 % odd.len()] } else { -((i * 37 % 11) as f32) })
            .collect();
        let expected: Vec<f32> = x.chunks_exact(width).map(|row| arg_max(row, width)[0]).collect();
        assert_eq!(output(&network(&layers), Input::features(&x, [1, batch, width])), expected, "{width}");
        let numbers = |row: &&[f32]| row.iter().any(|x| x.is_nan()) && row.iter().any(|x| !x.is_nan());
        with_nan += x.chunks_exact(width).filter(numbers).count();
    }
    assert!(with_nan > 5, "the control: {with_nan} rows with NaN and with numbers");
}

#[test]
fn the_place_of_the_largest_has_no_gradient() {
    let network = after_dense(4, r#"{"type": "arg_max", "name": "class"}"#);
    let input = RandomInput::new(&network, 3, 2, 1).unwrap();
    let step = |network: &Network, values: &[f32]| {
        let mut trainer = Trainer::new(device(), network, TrainOptions::new(Loss::Mse))?;
        let batch = Batch { input: input.as_input(), targets: Targets::Values(values), weights: None };
        trainer.step(&batch).map(drop)
    };
    let error = step(&network, &[0.0; 6]).unwrap_err().to_string();
    assert!(error.contains("layer `class`: a gradient of arg_max"), "{error}");
    let dense = after_dense(4, r#"{"type": "activation", "name": "class", "activation": "tanh"}"#);
    step(&dense, &[0.0; 24]).unwrap();
}

/// Layers that joins read are widened and expanded: attention, and a row beside every timestep.
#[test]
fn rows_join_sequences() {
    let device = device();
    for layers in [attention(), autoencoder()] {
        let network = Network::random(spec(layers), 5).unwrap();
        let input = RandomInput::new(&network, 6, 4, 8).unwrap();
        assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
        let masked = input.as_input().with_lengths(&[6, 1, 3, 0]);
        assert_right(device, &network, PlanOptions::default(), masked, None);
    }
}

/// The last valid timestep is the one before the length, and the last of all without lengths.
#[test]
fn the_last_valid_timestep_is_selected() {
    let of = |step: &str| after_dense(5, &format!(r#"{{"type": "select", "name": "s", "step": "{step}"}}"#));
    let [valid, last] = [of("last_valid"), of("last")];
    let input = RandomInput::new(&valid, 6, 4, 8).unwrap();
    assert_eq!(output(&valid, input.as_input()), output(&last, input.as_input()));
    let lengths = [6, 1, 3, 0];
    let masked = input.as_input().with_lengths(&lengths);
    assert_right(device(), &valid, PlanOptions::default(), masked, None);
    let all = output(&after_dense(5, r#"{"type": "slice", "name": "s"}"#), input.as_input());
    let got = output(&valid, masked);
    for (row, step) in [5, 0, 2, 5].into_iter().enumerate() {
        assert_eq!(got[row * 5..][..5], all[(step * 4 + row) * 5..][..5], "row {row}");
    }
    assert_ne!(got, output(&last, masked), "the lengths count");
}

/// A mask says nothing about a row that is repeated, and does not fit what was cut.
#[test]
fn lengths_end_where_time_ends() {
    let lstm = r#"{"type": "lstm", "name": "decoder", "input_size": 5, "hidden_size": 4}"#;
    let repeated = after_dense(
        5,
        &format!(
            r#"{{"type": "global_pool", "name": "p", "pool": "sum"}}, {{"type": "repeat", "name": "r", "times": 3}}, {lstm}"#
        ),
    );
    let input = RandomInput::new(&repeated, 6, 2, 8).unwrap();
    assert_right(device(), &repeated, PlanOptions::default(), input.as_input().with_lengths(&[6, 2]), None);
    let cut = after_dense(5, &format!(r#"{{"type": "slice", "name": "s", "start": 1}}, {lstm}"#));
    let session = Session::new(device(), &cut).unwrap();
    let error = session.run(input.as_input().with_lengths(&[6, 2]), None).unwrap_err().to_string();
    assert!(error.contains("decoder.l0") && error.contains("changes the number of timesteps"), "{error}");
}

#[test]
fn what_does_not_fit_is_named() {
    let refused = |layers: &str| {
        let layers = serde_json::from_str(&format!(
            r#"[{{"type": "dense", "name": "first", "in_features": 3, "out_features": 4}}, {layers}]"#
        ));
        Network::random(spec(layers.unwrap()), 1).unwrap_err().to_string()
    };
    let cases = [
        (r#"{"type": "repeat", "name": "r", "times": 3}"#, "expected one vector per row [B, N], got a sequence"),
        (r#"{"type": "reshape", "name": "r"}"#, "expected the input's number of timesteps, got none"),
        (r#"{"type": "reshape", "name": "r", "in_steps": 3, "out_steps": 5}"#, "expected a divisor of the 12 numbers"),
        (
            r#"{"type": "channels", "name": "c", "start": 3, "count": 2}"#,
            "expected features of the 4 there are, got 2 from 3",
        ),
        (r#"{"type": "slice", "name": "s", "step": 0}"#, "step: expected 1 to"),
        (r#"{"type": "pad", "name": "p", "left": 99999999, "right": 0}"#, "expected -16777216 to 16777216"),
        (
            r#"{"type": "pad", "name": "p", "left": 1, "right": -1, "mode": "reflect"}"#,
            "padding: expected 0 or more, since it is reflected, got -1",
        ),
    ];
    for (layers, expected) in cases {
        let error = refused(layers);
        assert!(error.contains(expected), "{layers}: {error}");
    }
    let run = |layers: &str, steps: usize| {
        let network = after_dense(4, layers);
        let input = vec![0.0; steps * 3];
        let session = Session::new(device(), &network).unwrap();
        session.run(Input::features(&input, [steps, 1, 3]), None).unwrap_err().to_string()
    };
    let flat = r#"{"type": "reshape", "name": "flat", "in_steps": 7}"#;
    assert_eq!(run(flat, 6), "input of `flat`: expected 7 timesteps, got 6");
    let part = r#"{"type": "slice", "name": "part", "start": 4, "end": -2}"#;
    assert_eq!(run(part, 5), "input of `part`: expected enough timesteps for the slice 4:-2, got 5");
    let mirror = r#"{"type": "pad", "name": "mirror", "left": 1, "right": 3, "mode": "reflect"}"#;
    assert_eq!(run(mirror, 3), "input of `mirror`: expected more than 3 timesteps, which are reflected, got 3");
    let crop = r#"{"type": "pad", "name": "crop", "left": -2, "right": -3}"#;
    assert_eq!(run(crop, 5), "input of `crop`: expected more than 5 timesteps, which are removed, got 5");
}

/// Negative control: a change before a layer that only moves is seen in its output.
#[test]
fn nudges_are_seen() {
    let network = after_dense(4, r#"{"type": "pad", "name": "pad", "left": 1, "right": 0}"#);
    let input = RandomInput::new(&network, 5, 2, 5).unwrap();
    let session = Session::new(device(), &network).unwrap();
    assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
    let nudged = changed(&network, "first.bias", |data| data[1] += 1e-2);
    let checks = verify(&session, &nudged, input.as_input(), None).unwrap().checks;
    assert!(checks.iter().all(|check| !check.comparison.passed), "{checks:#?}");
}

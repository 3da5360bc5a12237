//! Networks of amplifiers: files as Neural Amp Modeler, GuitarML, RTNeural and AIDA-X write them, and what PyTorch and Keras
//! make of their weights in f64. `tests/goldens/generate_amp.py` made them.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::formats::amp;
use gatefold::{Device, Input, Network, Session, State};
use serde_json::{Value, json};

use crate::support::{Golden, bundle, cpu, miss};

fn run(device: &Device, network: &Network, golden: &Golden<'_>) -> Vec<f32> {
    let (x, shape) = golden.numbers("x").unwrap();
    let session = Session::new(device, network).unwrap();
    session.run(Input::features(&x, shape.try_into().unwrap()), None).unwrap().values
}

/// The files of each name: the model and the golden.
fn cases() -> BTreeMap<String, (String, Vec<u8>, Vec<u8>)> {
    let files = bundle("amp.zip");
    let models = files.iter().filter(|(name, _)| !name.ends_with(".st"));
    let case = |(name, bytes): (&String, &Vec<u8>)| {
        let stem = name.split('.').next().unwrap().to_owned();
        let golden = files[&format!("{stem}.st")].clone();
        (stem, (name.clone(), bytes.clone(), golden))
    };
    models.map(case).collect()
}

#[test]
fn files_give_what_their_frameworks_compute() {
    let cases = cases();
    assert_eq!(cases.len(), 12);
    let device = cpu();
    let mut misses = Vec::new();
    for (file, bytes, golden) in cases.values() {
        let golden = Golden::new(golden);
        let network = Network::from_bytes(file, bytes).unwrap();
        let (y, _) = golden.numbers("y").unwrap();
        misses.extend(miss(file, &run(&device, &network, &golden), &y, 48));
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn the_comparison_sees_a_changed_weight_state_and_option() {
    let device = cpu();
    for (name, pointer, value) in [
        ("nam", "/weights/0", json!(0.9)),
        ("nam", "/weights/61", json!(0.9)),
        ("guitarml", "/model_data/skip", json!(0)),
        ("rtneural_gru", "/layers/0/weights/2/1/0", json!(0.9)),
        ("aidax", "/in_gain", json!(-5.0)),
    ] {
        let (file, bytes, golden) = &cases()[name];
        let golden = Golden::new(golden);
        let mut changed: Value = serde_json::from_slice(bytes).unwrap();
        match changed.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => changed["model_data"]["skip"] = value,
        }
        let network = Network::from_bytes(file, &serde_json::to_vec(&changed).unwrap()).unwrap();
        let (y, _) = golden.numbers("y").unwrap();
        assert!(miss(name, &run(&device, &network, &golden), &y, 48).is_some(), "{name} {pointer}");
    }
}

#[test]
fn a_stream_of_frames_gives_what_one_run_gives() {
    let device = cpu();
    for name in ["nam", "guitarml", "aidax", "rtneural_layers"] {
        let (file, bytes, golden) = &cases()[name];
        let golden = Golden::new(golden);
        let (x, shape) = golden.numbers("x").unwrap();
        let network = Network::from_bytes(file, bytes).unwrap();
        let session = Session::new(&device, &network).unwrap();
        // The first row alone.
        let width = shape[2];
        let batch_first = network.batch_first();
        let [rows, steps] = if batch_first { [shape[0], shape[1]] } else { [shape[1], shape[0]] };
        let at = |step: usize| if batch_first { step * width } else { step * rows * width };
        let row: Vec<f32> = (0..steps).flat_map(|step| &x[at(step)..][..width]).copied().collect();
        let frame = |samples: &[f32], state: Option<&State>| {
            let steps = samples.len() / width;
            let shape = if batch_first { [1, steps, width] } else { [steps, 1, width] };
            session.run(Input::features(samples, shape), state).unwrap()
        };
        let whole = frame(&row, None).values;
        let (mut heard, mut state) = (Vec::new(), None);
        for samples in row.chunks(7 * width) {
            let output = frame(samples, state.as_ref());
            heard.extend(output.values);
            state = Some(output.state);
        }
        assert_eq!(heard, whole, "{name}");
    }
}

#[test]
fn what_a_file_says_beside_its_network_is_read() {
    let amp = |name: &str| {
        let (file, bytes, _) = &cases()[name];
        amp::from_bytes(file, bytes).unwrap()
    };
    assert_eq!(amp("nam").sample_rate, Some(48000.0));
    assert_eq!(amp("nam").name.as_deref(), Some("nam"));
    assert_eq!(amp("aidax").sample_rate, Some(48000.0));
    assert_eq!(amp("guitarml").sample_rate, None);
}

#[test]
fn other_files_are_refused_in_words() {
    let refusal = |file: &Value| Network::from_bytes("amp.json", file.to_string().as_bytes()).unwrap_err().to_string();
    let with = |name: &str, pointer: &str, value: Value| {
        let mut file: Value = serde_json::from_slice(&cases()[name].1).unwrap();
        *file.pointer_mut(pointer).unwrap() = value;
        refusal(&file)
    };
    for (error, words) in [
        (
            with("nam", "/architecture", json!("WaveNet")),
            "amp.json: architecture: Neural Amp Modeler's architecture `WaveNet`",
        ),
        (with("nam", "/config/hidden_size", json!(4)), "amp.json: weights: expected 109 numbers, for H 4"),
        (with("nam", "/config/hidden_size", json!(-4)), "config.hidden_size: expected a size from 1"),
        (with("nam", "/config/hidden_size", json!(1 << 20)), "expected"),
        (with("nam", "/weights/3", json!("x")), "weights: expected numbers of shape [70]"),
        (with("nam", "/weights/3", json!(1e300)), "finite"),
        (with("nam", "/sample_rate", json!("fast")), "sample_rate: expected a number, got a text"),
        (with("guitarml", "/model_data/unit_type", json!("Mamba")), "unit_type `Mamba`"),
        (
            with("guitarml", "/state_dict/rec.weight_ih_l0", json!([[1.0]])),
            "expected numbers of shape [20, 1], got [1, 1]",
        ),
        (with("guitarml_gru", "/model_data/skip", json!(2)), "skip 2"),
        (with("rtneural_lstm", "/layers/0/type", json!("conv2d")), "amp.json: layers[0]: layer type `conv2d`"),
        (
            with("rtneural_lstm", "/layers/0/activation", json!("relu")),
            "another function of a recurrent layer than tanh",
        ),
        (with("rtneural_lstm", "/layers/1/activation", json!("swish")), "layers[1].activation: activation `swish`"),
        (
            with("rtneural_lstm", "/layers/1/weights/0", json!([[1.0], [2.0]])),
            "expected numbers of shape [5, 1], got [2, 1]",
        ),
        (with("rtneural_lstm", "/layers", json!([])), "at least one layer"),
        (with("rtneural_layers", "/layers/2/groups", json!(3)), "groups that divide 4 features"),
        (with("rtneural_layers", "/layers/2/kernel_size", json!([4])), "expected numbers of shape [4, 4, 4]"),
        (with("aidax", "/in_skip", json!(2)), "in_skip: 2 with 1 outputs"),
        (refusal(&json!({"class_name": "Sequential", "config": {}})), "Keras model"),
        (refusal(&json!({"format": 1, "layers": []})), "gatefold network"),
        (refusal(&json!({"a": 1, "b": 2})), "got fields a, b"),
        (refusal(&json!({})), "got no fields"),
    ] {
        assert!(error.contains(words) && !error.contains('\n'), "{error}\nexpected: {words}");
    }
    let deep = format!("{{\"weights\": {}", "[".repeat(100_000));
    let error = Network::from_bytes("deep.nam", deep.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("deep.nam: expected JSON"), "{error}");
}

/// Damaged files are errors or networks, never panics.
#[test]
fn damaged_files_end_in_errors() {
    let mut rng = Rng::with_seed(5);
    let mut refused = 0;
    for (file, bytes, _) in cases().values() {
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..damaged.len());
                damaged[at] = rng.u8(b' '..b'~');
            }
            if rng.bool() {
                damaged.truncate(rng.usize(..damaged.len()));
            }
            refused += usize::from(Network::from_bytes(file, &damaged).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
}

//! One-layer networks that isolate a kernel each, every result checked before it is timed.
//!
//! `GATEFOLD_BENCH_DEVICE` chooses the device as `--device` does; the default is `auto`. Every time includes the
//! upload and the readback of a run, so a kernel can only be compared with itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that fails panics")]
#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gatefold::{
    Device, DeviceChoice, Error, Network, PlanOptions, RandomInput, Session, Strategy, WeightFormat, verify,
};

fn device() -> Device {
    let choice = std::env::var("GATEFOLD_BENCH_DEVICE").map_or(DeviceChoice::Auto, |text| text.parse().unwrap());
    Device::open(&choice).unwrap()
}

fn network(layers: &str) -> Network {
    let spec = serde_json::from_str(&format!(r#"{{"format": 1, "layers": [{layers}]}}"#)).unwrap();
    Network::random(spec, 1).unwrap()
}

/// Name, layers as in a file, T, B.
const KERNELS: [(&str, &str, usize, usize); 13] = [
    ("embedding", r#"{"type": "embedding", "name": "l", "num_embeddings": 500, "embedding_dim": 64}"#, 16, 4),
    ("linear", r#"{"type": "dense", "name": "l", "in_features": 64, "out_features": 128}"#, 16, 4),
    ("conv1d", r#"{"type": "conv1d", "name": "l", "in_channels": 32, "out_channels": 64, "kernel_size": 3}"#, 16, 4),
    ("lstm_step", r#"{"type": "lstm", "name": "l", "input_size": 1, "hidden_size": 96}"#, 8, 1),
    ("project_step", r#"{"type": "lstm", "name": "l", "input_size": 1, "hidden_size": 96, "proj_size": 32}"#, 8, 1),
    ("gru_step", r#"{"type": "gru", "name": "l", "input_size": 1, "hidden_size": 96}"#, 8, 1),
    (
        "gru_gates_candidate",
        r#"{"type": "gru", "name": "l", "input_size": 1, "hidden_size": 96, "reset_after": false}"#,
        8,
        1,
    ),
    ("rnn_step", r#"{"type": "rnn", "name": "l", "input_size": 1, "hidden_size": 96}"#, 8, 1),
    ("softmax", r#"{"type": "input", "input_size": 64}, {"type": "softmax"}"#, 16, 4),
    ("layer_norm", r#"{"type": "layer_norm", "name": "l", "num_features": 64, "eps": 1e-5}"#, 16, 4),
    ("channelwise", r#"{"type": "batch_norm", "name": "l", "num_features": 64, "eps": 1e-5}"#, 16, 4),
    (
        "combine",
        r#"{"type": "dense", "name": "l", "in_features": 64, "out_features": 64},
           {"type": "join", "name": "j", "inputs": ["input", "l"], "join": "add"}"#,
        16,
        4,
    ),
    (
        "pool",
        r#"{"type": "input", "input_size": 64}, {"type": "pool1d", "name": "l", "pool": "max", "kernel_size": 2, "stride": 2}"#,
        16,
        4,
    ),
];

/// Every strategy with weights in every format: two levels of an LSTM, so that a wavefront has something to do.
fn recurrences(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group(format!("{}, two LSTMs of H 96, T 8, B 4", device.info()));
    let layers = r#"{"type": "lstm", "name": "l", "input_size": 96, "hidden_size": 96, "num_layers": 2}"#;
    let network = network(layers);
    for (strategy, format) in Strategy::ALL.into_iter().flat_map(|one| WeightFormat::ALL.map(|format| (one, format))) {
        let network = network.with_weights(format).unwrap();
        let options = PlanOptions::default().strategy(strategy);
        let session = match Session::with_options(&device, &network, options) {
            Ok(session) => session,
            Err(Error::Unsupported { place, what }) => {
                eprintln!("NOT RUN: {place}: {what}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let input = RandomInput::new(&network, 8, 4, 2).unwrap();
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed(), "{strategy} {format}");
        group.bench_function(format!("{strategy} {format}"), |bencher| {
            bencher.iter(|| session.run(black_box(input.as_input()), None).unwrap());
        });
    }
    group.finish();
}

fn kernels(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group(device.info().to_string());
    for (name, layers, steps, batch) in KERNELS {
        let network = network(layers);
        let session = Session::new(&device, &network).unwrap();
        let input = RandomInput::new(&network, steps, batch, 2).unwrap();
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed(), "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| session.run(black_box(input.as_input()), None).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, kernels, recurrences);
criterion_main!(benches);

//! Whole runs of one LSTM, each result checked before it is timed.
//!
//! `GATEFOLD_BENCH_DEVICE` chooses the device as `--device` does; the default is `auto`.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails panics")]
#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Device, DeviceChoice, Network, NetworkSpec, RandomInput, Session, verify};

/// H, T, B
const SHAPES: [(usize, usize, usize); 3] = [(64, 25, 1), (128, 25, 1), (128, 25, 16)];

fn lstm(criterion: &mut Criterion) {
    let choice = std::env::var("GATEFOLD_BENCH_DEVICE").map_or(DeviceChoice::Auto, |text| text.parse().unwrap());
    let device = Device::open(&choice).unwrap();
    let mut group = criterion.benchmark_group(device.info().to_string());
    for (hidden_size, steps, batch) in SHAPES {
        let layer = RecurrentSpec::new("lstm", hidden_size, hidden_size);
        let spec = NetworkSpec { format: 1, layers: vec![LayerSpec::Lstm(layer)], text: None, labels: Vec::new() };
        let network = Network::random(spec, 1).unwrap();
        let session = Session::new(&device, &network).unwrap();
        let input = RandomInput::new(&network, steps, batch, 2);
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
        let id = BenchmarkId::from_parameter(format!("H{hidden_size} T{steps} B{batch}"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| session.run(black_box(input.as_input()), None).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, lstm);
criterion_main!(benches);

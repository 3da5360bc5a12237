//! Whole runs of one LSTM, GRU or RNN, each result checked before it is timed.
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

fn recurrent(criterion: &mut Criterion) {
    let choice = std::env::var("GATEFOLD_BENCH_DEVICE").map_or(DeviceChoice::Auto, |text| text.parse().unwrap());
    let device = Device::open(&choice).unwrap();
    let mut group = criterion.benchmark_group(device.info().to_string());
    type Layer = fn(RecurrentSpec) -> LayerSpec;
    let cells: [(&str, Layer); 3] = [("LSTM", LayerSpec::Lstm), ("GRU", LayerSpec::Gru), ("RNN", LayerSpec::Rnn)];
    for ((cell, layer), (hidden_size, steps, batch)) in
        cells.into_iter().flat_map(|cell| SHAPES.map(|shape| (cell, shape)))
    {
        let layer = layer(RecurrentSpec::new("layer", hidden_size, hidden_size));
        let spec = NetworkSpec { format: 1, layers: vec![layer], text: None, labels: Vec::new() };
        let network = Network::random(spec, 1).unwrap();
        let session = Session::new(&device, &network).unwrap();
        let input = RandomInput::new(&network, steps, batch, 2).unwrap();
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
        let id = BenchmarkId::from_parameter(format!("{cell} H{hidden_size} T{steps} B{batch}"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| session.run(black_box(input.as_input()), None).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, recurrent);
criterion_main!(benches);

//! One training step: Embedding(10,000, 64) → cell → Dense(2), cross-entropy, Adam, T steps of B rows.
//! Prints the median milliseconds of a run of the network, of its loss with all gradients, and of a step with the update; on a
//! GPU each with the wait for its result. `cargo bench --bench train`.
//!
//! `GATEFOLD_BENCH_DEVICE` chooses the device as `--device` does; the default is the CPU, with one thread for each core.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a benchmark prints, and ends where it cannot run")]

use std::time::Instant;

use gatefold::network::{Activation, Cell, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::{Device, Input, Network, NetworkSpec, Session};

const VOCABULARY: u32 = 10_000;
const STEPS: usize = 15;

fn main() {
    // `cargo test` runs each benchmark once, to check that it works.
    let shapes =
        [(Cell::Lstm, 128, 32, 100), (Cell::Lstm, 256, 32, 100), (Cell::Lstm, 512, 16, 50), (Cell::Gru, 128, 32, 100)];
    let device = match std::env::var("GATEFOLD_BENCH_DEVICE") {
        Ok(text) => Device::open(&text.parse().expect("a device")).expect("a device that opens"),
        Err(_) => Device::cpu(),
    };
    println!("{}", device.info());
    let quick = !std::env::args().any(|argument| argument == "--bench");
    for (cell, hidden, batch, time) in shapes {
        let (batch, time, count) = if quick { (2, 2, 1) } else { (batch, time, STEPS) };
        let [forward, gradients, step] = medians(&device, cell, hidden, [batch, time], count);
        let name = cell.name();
        println!(
            "{name} H {hidden} B {batch} T {time}: {forward:.1} forward, {gradients:.1} with gradients, {step:.1} ms a step"
        );
    }
}

fn medians(device: &Device, cell: Cell, hidden: usize, [batch, time]: [usize; 2], count: usize) -> [f64; 3] {
    let embedding = EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: VOCABULARY as usize,
        embedding_dim: 64,
        mask_zero: false,
    };
    let recurrent = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 64, hidden) };
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: hidden,
        out_features: 2,
        bias: true,
        activation: Activation::Linear,
    };
    let layers = vec![LayerSpec::Embedding(embedding), LayerSpec::of_cell(cell, recurrent), LayerSpec::Dense(dense)];
    let spec = NetworkSpec { format: 1, layers, text: None, labels: Vec::new() };
    let network = Network::initialized(spec, Init::PyTorch, 1).expect("a network");
    let mut trainer = Trainer::new(device, &network, TrainOptions::new(Loss::CrossEntropy)).expect("a trainer");
    let session = Session::new(device, &network).expect("a session");
    let mut random = fastrand::Rng::with_seed(1);
    let tokens: Vec<u32> = (0..batch * time).map(|_| random.u32(..VOCABULARY)).collect();
    let classes: Vec<u32> = (0..batch).map(|_| random.u32(..2)).collect();
    let input = Input::tokens(&tokens, [time, batch]);
    let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
    let median = |run: &mut dyn FnMut()| {
        run();
        let time = |_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        };
        let mut times: Vec<f64> = (0..count).map(time).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    [
        median(&mut || drop(session.run(input, None).expect("a run"))),
        median(&mut || drop(trainer.gradients(&batch).expect("gradients"))),
        median(&mut || {
            trainer.step(&batch).expect("a step");
        }),
    ]
}

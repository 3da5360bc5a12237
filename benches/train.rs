//! One training step on the CPU: Embedding(10,000, 64) → cell → Dense(2), cross-entropy, Adam, T steps of B rows.
//! Prints the median milliseconds of a step, forward and backward and update together. `cargo bench --bench train`.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a benchmark prints, and ends where it cannot run")]

use std::time::Instant;

use gatefold::network::{Activation, Cell, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::{Device, Input, Network, NetworkSpec};

const VOCABULARY: u32 = 10_000;
const STEPS: usize = 15;

fn main() {
    // `cargo test` runs each benchmark once, to check that it works.
    let shapes =
        [(Cell::Lstm, 128, 32, 100), (Cell::Lstm, 256, 32, 100), (Cell::Lstm, 512, 16, 50), (Cell::Gru, 128, 32, 100)];
    let quick = !std::env::args().any(|argument| argument == "--bench");
    for (cell, hidden, batch, time) in shapes {
        let (batch, time, count) = if quick { (2, 2, 1) } else { (batch, time, STEPS) };
        println!("{} H {hidden} B {batch} T {time}: {:.1} ms", cell.name(), median(cell, hidden, [batch, time], count));
    }
}

fn median(cell: Cell, hidden: usize, [batch, time]: [usize; 2], count: usize) -> f64 {
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
    let mut trainer = Trainer::new(&Device::cpu(), &network, TrainOptions::new(Loss::CrossEntropy)).expect("a trainer");
    let mut random = fastrand::Rng::with_seed(1);
    let tokens: Vec<u32> = (0..batch * time).map(|_| random.u32(..VOCABULARY)).collect();
    let classes: Vec<u32> = (0..batch).map(|_| random.u32(..2)).collect();
    let input = Input::tokens(&tokens, [time, batch]);
    let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
    trainer.step(&batch).expect("a step");
    let mut times: Vec<f64> = (0..count)
        .map(|_| {
            let start = Instant::now();
            trainer.step(&batch).expect("a step");
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

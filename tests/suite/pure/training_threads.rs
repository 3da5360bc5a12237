//! Training on several threads: the same bits as on one.

use std::num::NonZeroUsize;

use fastrand::Rng;
use gatefold::network::{Activation, Cell, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{Batch, Clip, Convention, Dropout, Loss, Optimizer, Sgd, Targets, TrainOptions, Trainer};
use gatefold::{CpuOptions, Device, Input, Network};

use crate::common::spec;

const VOCABULARY: u32 = 3000;
const CLASSES: u32 = 70;

fn network(cell: Cell, last: bool, bidirectional: bool) -> Network {
    let embedding = EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: VOCABULARY as usize,
        embedding_dim: 37,
        mask_zero: false,
    };
    let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
    let layer = RecurrentSpec { output, bidirectional, num_layers: 2, ..RecurrentSpec::new("cell", 37, 45) };
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: layer.output_size(),
        out_features: CLASSES as usize,
        bias: true,
        activation: Activation::Tanh,
    };
    let layers = vec![LayerSpec::Embedding(embedding), LayerSpec::of_cell(cell, layer), LayerSpec::Dense(dense)];
    Network::initialized(spec(layers), Init::PyTorch, 1).unwrap()
}

/// The weights after three steps of `batch` rows on `threads` threads, and the losses.
fn trained(network: &Network, options: &TrainOptions, batch: usize, threads: usize, seed: u64) -> Vec<u64> {
    let steps = 33;
    let device = CpuOptions { threads: NonZeroUsize::new(threads), ..CpuOptions::default() };
    let mut trainer = Trainer::new(&Device::cpu_with(device).unwrap(), network, options.clone()).unwrap();
    let mut rng = Rng::with_seed(seed);
    let mut bits = Vec::new();
    for _ in 0..3 {
        let tokens: Vec<u32> = (0..steps * batch).map(|_| rng.u32(..VOCABULARY)).collect();
        let lengths: Vec<usize> = (0..batch).map(|_| rng.usize(1..=steps)).collect();
        let rows = if network.output_is_sequence() { steps * batch } else { batch };
        let classes: Vec<u32> = (0..rows).map(|_| rng.u32(..CLASSES)).collect();
        let input = Input::tokens(&tokens, [steps, batch]).with_lengths(&lengths);
        let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
        let measured = trainer.step(&batch).unwrap();
        bits.extend([measured.loss, measured.gradient_norm].map(f64::to_bits));
    }
    let network = trainer.network().unwrap();
    bits.extend(network.tensors().values().flat_map(|tensor| tensor.data()).map(|x| u64::from(x.to_bits())));
    bits
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut clipped = Optimizer::from(Sgd { learning_rate: 0.1, momentum: 0.9, ..Sgd::default() });
    clipped.clip = Some(Clip::Norm { max: 0.01, convention: Convention::PyTorch });
    let plain = TrainOptions::new(Loss::CrossEntropy).dropout(Dropout::elements("cell", 0.2)).seed(1);
    let clipped = TrainOptions::new(Loss::CrossEntropy).optimizer(clipped);
    for (index, cell) in [Cell::Lstm, Cell::Gru, Cell::Rnn].into_iter().enumerate() {
        for last in [true, false] {
            let network = network(cell, last, last);
            let options = if last { &plain } else { &clipped };
            // Rows that do not fill the threads' shares, and fewer rows than threads.
            for batch in [19, 2 + index] {
                let one = trained(&network, options, batch, 1, 1);
                for threads in [2, 3, 7] {
                    assert!(
                        one == trained(&network, options, batch, threads, 1),
                        "{cell:?}, B = {batch}, {threads} threads"
                    );
                }
                // Negative control: other examples give other bits.
                assert!(one != trained(&network, options, batch, 2, 2));
            }
        }
    }
}

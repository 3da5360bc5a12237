//! Training: Embedding -> LSTM or GRU -> Dense, cross-entropy, Adam.

use std::collections::BTreeMap;

use exchange::{Array, Case, Cell, Result};
use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentOutput, RecurrentSpec, Tensor};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::{Device, Input, Network, NetworkSpec};

pub fn measure(case: &Case, labels: &Array, device: &Device) -> Result<()> {
    let [vocabulary, width] = case.weight("embedding.weight").shape[..] else { return Err("no embedding".into()) };
    let hidden = case.hidden();
    let recurrent = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", width, hidden) };
    let layers = vec![
        LayerSpec::Embedding(EmbeddingSpec {
            name: "embedding".into(),
            num_embeddings: vocabulary,
            embedding_dim: width,
            mask_zero: false,
        }),
        match case.cell()? {
            Cell::Lstm => LayerSpec::Lstm(recurrent),
            _ => LayerSpec::Gru(recurrent),
        },
        LayerSpec::Dense(DenseSpec {
            name: "dense".into(),
            in_features: hidden,
            out_features: case.weight("dense.bias").shape[0],
            bias: true,
            activation: Activation::Linear,
        }),
    ];
    let tensor = |(name, array): (&String, &Array)| {
        let name = if name.ends_with("_l0") { format!("cell.{name}") } else { name.clone() };
        Ok((name, Tensor::new(array.shape.clone(), array.data.clone())?))
    };
    let tensors = case.weights.iter().map(tensor).collect::<Result<BTreeMap<_, _>>>()?;
    let network = Network::new(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, tensors)?;
    // PyTorch's Adam. The second bias of an LSTM stays.
    let options = TrainOptions::new(Loss::CrossEntropy).one_bias(case.cell()? == Cell::Lstm);
    let mut trainer = Trainer::new(device, &network, options)?;
    let tokens: Vec<u32> = case.input.data.iter().map(|&token| token as u32).collect();
    let classes: Vec<u32> = labels.data.iter().map(|&class| class as u32).collect();
    let input = Input::tokens(&tokens, [case.input.shape[0], case.input.shape[1]]);
    let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
    case.measure_steps(env!("CARGO_PKG_VERSION"), &super::name(device), || Ok(trainer.step(&batch)?.loss as f32))
}

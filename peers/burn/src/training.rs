//! Training: Embedding -> LSTM or GRU -> Linear, cross-entropy, Adam.

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, Gru, GruConfig, Linear, Lstm, LstmConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use exchange::{Array, Case, Cell, Result};

/// The layers; one of the recurrences is there.
#[derive(Module, Debug)]
struct Classifier {
    embedding: Embedding,
    lstm: Option<Lstm>,
    gru: Option<Gru>,
    dense: Linear,
}

impl Classifier {
    fn new(case: &Case, device: &Device) -> Result<Self> {
        let table = case.weight("embedding.weight");
        let (hidden, width) = (case.hidden(), table.shape[1]);
        let mut embedding = EmbeddingConfig::new(table.shape[0], width).init(device);
        let numbers = TensorData::new(table.data.clone(), table.shape.clone());
        embedding.weight = Param::from_tensor(Tensor::from_data(numbers, device));
        let dense = super::linear(case.weight("dense.weight"), case.weight("dense.bias"), 0, 1, device);
        let (mut lstm, mut gru) = (None, None);
        if case.cell()? == Cell::Lstm {
            let mut layer = LstmConfig::new(width, hidden, true).init(device);
            let mut gates = super::gates::<4>(case, "l0", device);
            // The second bias, which is 0, is not trained.
            gates.iter_mut().for_each(|gate| gate.hidden_transform.bias = None);
            super::fill_lstm(&mut layer, gates);
            lstm = Some(layer);
        } else {
            let mut layer = GruConfig::new(width, hidden, true).init(device);
            super::fill_gru(&mut layer, super::gates(case, "l0", device));
            gru = Some(layer);
        }
        Ok(Self { embedding, lstm, gru, dense })
    }

    /// Logits [B, C] of tokens [B, T].
    fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let x = self.embedding.forward(tokens);
        let h = match (&self.lstm, &self.gru) {
            (Some(lstm), _) => lstm.forward(x, None).0,
            (_, Some(gru)) => gru.forward(x, None),
            _ => x,
        };
        let [batch, steps, hidden] = h.dims();
        self.dense.forward(h.slice([0..batch, steps - 1..steps, 0..hidden]).reshape([batch, hidden]))
    }
}

pub fn measure(case: &Case, labels: &Array, device: Device) -> Result<()> {
    let name = format!("wgpu, {device:?}");
    let device = device.autodiff();
    let mut network = Classifier::new(case, &device)?;
    // PyTorch's constants.
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let [steps, batch] = [case.input.shape[0], case.input.shape[1]];
    let integers = |array: &Array| array.data.iter().map(|&number| number as i32).collect::<Vec<_>>();
    let (tokens, labels) = (integers(&case.input), integers(labels));
    case.measure_steps("0.22.0", &name, || {
        let x = Tensor::<2, Int>::from_data(TensorData::new(tokens.clone(), [steps, batch]), &device).swap_dims(0, 1);
        let y = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [batch]), &device);
        let loss = loss.forward(network.forward(x), y);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimizer.step(1e-3, network.clone(), gradients);
        Ok(loss.into_scalar::<f32>())
    })
}

//! Burn's recurrent layers on its wgpu backend; `PEER_DEVICE=software` asks for a software adapter.

mod training;

use burn::module::Param;
use burn::nn::{
    BiGru, BiGruConfig, BiLstm, BiLstmConfig, BiRnn, BiRnnConfig, GateController, Gru, GruConfig, LinearConfig,
};
use burn::nn::{Linear, Lstm, LstmConfig, Rnn, RnnConfig};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use exchange::{Array, Case, Cell, Result};

/// Gate `number` of `gates` of PyTorch's stacked weights.
fn linear(weight: &Array, bias: &Array, number: usize, gates: usize, device: &Device) -> Linear {
    let [rows, columns] = [weight.shape[0] / gates, weight.shape[1]];
    let weight = weight.data[number * rows * columns..][..rows * columns].to_vec();
    let bias = bias.data[number * rows..][..rows].to_vec();
    let mut linear = LinearConfig::new(columns, rows).init(device);
    // Burn's weight is [I, O].
    let weight = Tensor::<2>::from_data(TensorData::new(weight, [rows, columns]), device).transpose();
    // Laid out afresh: a transposed view would be slower in every product.
    let weight = weight.into_data();
    linear.weight = Param::from_tensor(Tensor::from_data(weight, device));
    linear.bias = Some(Param::from_tensor(Tensor::<1>::from_data(TensorData::new(bias, [rows]), device)));
    linear
}

/// The gates of the direction whose weights' names end in `end`, in PyTorch's order.
fn gates<const N: usize>(case: &Case, end: &str, device: &Device) -> [GateController; N] {
    let weight = |name| case.weight(&format!("{name}_{end}"));
    std::array::from_fn(|number| GateController {
        input_transform: linear(weight("weight_ih"), weight("bias_ih"), number, N, device),
        hidden_transform: linear(weight("weight_hh"), weight("bias_hh"), number, N, device),
    })
}

fn fill_lstm(lstm: &mut Lstm, [input, forget, cell, output]: [GateController; 4]) {
    (lstm.input_gate, lstm.forget_gate, lstm.cell_gate, lstm.output_gate) = (input, Some(forget), cell, output);
}

fn fill_gru(gru: &mut Gru, [reset, update, new]: [GateController; 3]) {
    (gru.reset_gate, gru.update_gate, gru.new_gate) = (reset, update, new);
}

fn fill_rnn(rnn: &mut Rnn, [gate]: [GateController; 1]) {
    rnn.gate = gate;
}

/// One layer, input and output [B, T, ...].
enum Layer {
    Lstm(Lstm),
    BiLstm(BiLstm),
    Gru(Gru),
    BiGru(BiGru),
    Rnn(Rnn),
    BiRnn(BiRnn),
}

impl Layer {
    fn new(case: &Case, number: usize, device: &Device) -> Result<Self> {
        let (forward, reverse) = (format!("l{number}"), format!("l{number}_reverse"));
        let (hidden, width) = (case.hidden(), case.weight(&format!("weight_ih_{forward}")).shape[1]);
        Ok(match (case.cell()?, case.bidirectional()) {
            (Cell::Lstm, false) => {
                let mut layer = LstmConfig::new(width, hidden, true).init(device);
                fill_lstm(&mut layer, gates(case, &forward, device));
                Self::Lstm(layer)
            }
            (Cell::Lstm, true) => {
                let mut layer = BiLstmConfig::new(width, hidden, true).init(device);
                fill_lstm(&mut layer.forward, gates(case, &forward, device));
                fill_lstm(&mut layer.reverse, gates(case, &reverse, device));
                Self::BiLstm(layer)
            }
            (Cell::Gru, false) => {
                let mut layer = GruConfig::new(width, hidden, true).init(device);
                fill_gru(&mut layer, gates(case, &forward, device));
                Self::Gru(layer)
            }
            (Cell::Gru, true) => {
                let mut layer = BiGruConfig::new(width, hidden, true).init(device);
                fill_gru(&mut layer.forward, gates(case, &forward, device));
                fill_gru(&mut layer.reverse, gates(case, &reverse, device));
                Self::BiGru(layer)
            }
            (Cell::Rnn, false) => {
                let mut layer = RnnConfig::new(width, hidden, true).init(device);
                fill_rnn(&mut layer, gates(case, &forward, device));
                Self::Rnn(layer)
            }
            (Cell::Rnn, true) => {
                let mut layer = BiRnnConfig::new(width, hidden, true).init(device);
                fill_rnn(&mut layer.forward, gates(case, &forward, device));
                fill_rnn(&mut layer.reverse, gates(case, &reverse, device));
                Self::BiRnn(layer)
            }
        })
    }

    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Lstm(layer) => layer.forward(input, None).0,
            Self::BiLstm(layer) => layer.forward(input, None).0,
            Self::Gru(layer) => layer.forward(input, None),
            Self::BiGru(layer) => layer.forward(input, None).0,
            Self::Rnn(layer) => layer.forward(input, None).0,
            Self::BiRnn(layer) => layer.forward(input, None).0,
        }
    }
}

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let software = std::env::var("PEER_DEVICE").is_ok_and(|device| device == "software");
    let kind = if software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice };
    let device = Device::wgpu(kind);
    if let Some(labels) = &case.labels {
        return training::measure(&case, labels, device);
    }
    let layers = (0..case.layers()).map(|number| Layer::new(&case, number, &device)).collect::<Result<Vec<_>>>()?;
    let run = |to: &mut Vec<f32>| {
        let input = TensorData::new(case.input.data.clone(), case.sizes());
        let input = Tensor::<3>::from_data(input, &device).swap_dims(0, 1);
        let output = layers.iter().fold(input, |input, layer| layer.forward(input)).swap_dims(0, 1);
        *to = output.into_data().try_into_vec::<f32>().map_err(|error| format!("{error:?}"))?;
        Ok(())
    };
    case.measure("0.22.0", &format!("wgpu, {device:?}"), run)
}

//! Burn's LSTM on its wgpu backend; `PEER_DEVICE=software` asks for a software adapter.

use burn::module::Param;
use burn::nn::{GateController, LinearConfig, LstmConfig};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use exchange::{Array, Case, Result};

/// Gate `number` (of i, f, g, o) of PyTorch's stacked weights.
fn gate(case: &Case, number: usize, device: &Device) -> GateController {
    let half = |weight: &Array, bias: &Array| {
        let [rows, columns] = [weight.shape[0] / 4, weight.shape[1]];
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
    };
    GateController {
        input_transform: half(case.weight("weight_ih_l0"), case.weight("bias_ih_l0")),
        hidden_transform: half(case.weight("weight_hh_l0"), case.weight("bias_hh_l0")),
    }
}

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    case.only_one_lstm()?;
    let [hidden, batch, steps] = case.sizes();
    let software = std::env::var("PEER_DEVICE").is_ok_and(|device| device == "software");
    let kind = if software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice };
    let device = Device::wgpu(kind);
    let mut lstm = LstmConfig::new(hidden, hidden, true).with_batch_first(false).init(&device);
    lstm.input_gate = gate(&case, 0, &device);
    lstm.forget_gate = Some(gate(&case, 1, &device));
    lstm.cell_gate = gate(&case, 2, &device);
    lstm.output_gate = gate(&case, 3, &device);
    let run = || {
        let input = TensorData::new(case.input.data.clone(), [steps, batch, hidden]);
        let (output, _) = lstm.forward(Tensor::<3>::from_data(input, &device), None);
        Ok(output.into_data().try_into_vec::<f32>().map_err(|error| format!("{error:?}"))?)
    };
    case.measure("0.22.0", &format!("wgpu, {device:?}"), run)
}

//! candle's LSTM on the CPU.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::{LSTMConfig, RNN, VarBuilder};
use exchange::{Case, Result};

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    case.only_one_lstm()?;
    let device = Device::Cpu;
    let [hidden, batch, steps] = case.sizes();
    let mut tensors = HashMap::new();
    for (name, array) in &case.weights {
        tensors.insert(name.clone(), Tensor::from_slice(&array.data, array.shape.as_slice(), &device)?);
    }
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &device);
    let lstm = candle_nn::lstm(hidden, hidden, LSTMConfig::default(), builder)?;
    let run = || {
        // candle wants [B, T, I].
        let input = Tensor::from_slice(&case.input.data, (steps, batch, hidden), &device)?.transpose(0, 1)?;
        let states = lstm.seq(&input.contiguous()?)?;
        let rows: Vec<_> = states.iter().map(|state| state.h().clone()).collect();
        Ok(Tensor::stack(&rows, 0)?.flatten_all()?.to_vec1::<f32>()?)
    };
    case.measure("0.11.1", &format!("CPU, {} threads", candle_core::utils::get_num_threads()), run)
}

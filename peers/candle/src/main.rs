//! candle's LSTM and GRU on the CPU, one layer forwards.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::{GRUConfig, LSTMConfig, RNN, VarBuilder};
use exchange::{Case, Cell, Result};

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    if case.layers() > 1 || case.bidirectional() {
        return Err("expected one layer in one direction, since candle has no stacked or bidirectional LSTM".into());
    }
    let device = Device::Cpu;
    let hidden = case.hidden();
    let [steps, batch, width] = case.sizes();
    let mut tensors = HashMap::new();
    for (name, array) in &case.weights {
        tensors.insert(name.clone(), Tensor::from_slice(&array.data, array.shape.as_slice(), &device)?);
    }
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &device);
    let outputs: Box<dyn Fn(&Tensor) -> candle_core::Result<Vec<Tensor>>> = match case.cell()? {
        Cell::Lstm => {
            let lstm = candle_nn::lstm(width, hidden, LSTMConfig::default(), builder)?;
            Box::new(move |input| Ok(lstm.seq(input)?.iter().map(|state| state.h().clone()).collect()))
        }
        Cell::Gru => {
            let gru = candle_nn::gru(width, hidden, GRUConfig::default(), builder)?;
            Box::new(move |input| Ok(gru.seq(input)?.iter().map(|state| state.h().clone()).collect()))
        }
        Cell::Rnn => return Err("candle has no plain RNN".into()),
    };
    let run = |to: &mut Vec<f32>| {
        // candle wants [B, T, I].
        let input = Tensor::from_slice(&case.input.data, (steps, batch, width), &device)?.transpose(0, 1)?;
        let rows = outputs(&input.contiguous()?)?;
        *to = Tensor::stack(&rows, 0)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(())
    };
    case.measure("0.11.1", &format!("CPU, {} threads", candle_core::utils::get_num_threads()), run)
}

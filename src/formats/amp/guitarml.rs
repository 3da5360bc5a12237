//! GuitarML's files, which Automated-GuitarAmpModelling writes: PyTorch's `state_dict` of a recurrent layer `rec` and a linear
//! layer `lin`. Without a word about it the input's sample is added to the output, as the plug-ins do.

use serde_json::Value;

use super::Amp;
use super::layers::{JsonPlace, Layers};
use crate::base::error::Result;
use crate::network::{Activation, Cell, INPUT, LayerSpec, RecurrentSpec};

const NAME: &str = "rec";

pub(super) fn read(file: &str, value: &Value) -> Result<Amp> {
    let file = JsonPlace::new(file, value);
    let state = file.field("state_dict")?;
    let model = file.get("model_data");
    let option = |key: &str| model.as_ref().and_then(|model| model.get(key));
    let size = |key: &str, absent: usize| option(key).map_or(Ok(absent), |value| value.size());
    let unit = option("unit_type");
    let cell = match unit.as_ref().map_or(Ok("LSTM"), JsonPlace::text)? {
        "LSTM" => Cell::Lstm,
        "GRU" => Cell::Gru,
        "RNN" => Cell::Rnn,
        other => return Err(state.unsupported(format!("unit_type `{other}` (LSTM, GRU and RNN are)"))),
    };
    let recurrent = state.field(&format!("{NAME}.weight_hh_l0"))?;
    let hidden = match option("hidden_size") {
        Some(hidden) => hidden.size()?,
        None => recurrent.item(0)?.count()?,
    };
    let (inputs, outputs, levels) = (size("input_size", 1)?, size("output_size", 1)?, size("num_layers", 1)?);
    let rows = cell.gates() * hidden;
    let mut layers = Layers::default();
    let bias = state.get(&format!("{NAME}.bias_ih_l0")).is_some();
    for level in 0..levels {
        let inputs = if level == 0 { inputs } else { hidden };
        let mut take = |tensor: &str, shape: &[usize]| {
            let name = format!("{NAME}.{tensor}_l{level}");
            let numbers = state.field(&name)?.numbers(shape)?;
            layers.tensor(name, shape, numbers)
        };
        take("weight_ih", &[rows, inputs])?;
        take("weight_hh", &[rows, hidden])?;
        if bias {
            take("bias_ih", &[rows])?;
            take("bias_hh", &[rows])?;
        }
    }
    let spec = RecurrentSpec { num_layers: levels, bias, ..RecurrentSpec::new(NAME, inputs, hidden) };
    layers.layers.push(LayerSpec::of_cell(cell, spec));
    let weight = state.field("lin.weight")?.numbers(&[outputs, hidden])?;
    let bias = state.get("lin.bias").map(|bias| bias.numbers(&[outputs])).transpose()?;
    layers.dense("lin", [hidden, outputs], (weight, bias), Activation::Linear)?;
    match option("skip").map_or(Ok(1.0), |skip| skip.number())? {
        0.0 => {}
        // The sample is the first of the features.
        1.0 if outputs == 1 => layers.add_feature(INPUT, inputs),
        other => {
            return Err(state.unsupported(format!("skip {other} with {outputs} outputs (0, or 1 with 1 output, is)")));
        }
    }
    let sample_rate = option("sample_rate").or_else(|| option("samplerate")).map(|rate| rate.rate()).transpose()?;
    Ok(Amp { network: layers.network(&file)?, sample_rate, name: None })
}

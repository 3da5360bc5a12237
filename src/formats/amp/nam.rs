//! Neural Amp Modeler, architecture `LSTM`. The weights are one list: of every level the matrix `[4H, I + H]` of W and U
//! side by side, the bias `[4H]`, the h and the c that it starts from; then the head, `[H]` and a bias. Gates are i, f, g, o.

use serde_json::Value;

use super::Amp;
use super::layers::{JsonPlace, Layers};
use crate::base::error::Result;
use crate::network::{Activation, LayerSpec, RecurrentSpec};

const NAME: &str = "lstm";

pub(super) fn read(file: &str, value: &Value) -> Result<Amp> {
    let file = JsonPlace::new(file, value);
    let architecture = file.field("architecture")?;
    let kind = architecture.text()?;
    if kind != "LSTM" {
        return Err(architecture.unsupported(format!("Neural Amp Modeler's architecture `{kind}` (`LSTM` is)")));
    }
    let config = file.field("config")?;
    let [inputs, hidden] = [config.field("input_size")?.size()?, config.field("hidden_size")?.size()?];
    let levels = config.get("num_layers").map_or(Ok(1), |levels| levels.size())?;
    let given = file.field("weights")?;
    let count = given.value.as_array().map_or(0, Vec::len);
    let level_count = |inputs: usize| (4 * hidden).saturating_mul(inputs + hidden + 1).saturating_add(2 * hidden);
    let needed =
        level_count(inputs).saturating_add(level_count(hidden).saturating_mul(levels - 1)).saturating_add(hidden + 1);
    if count != needed {
        let what = format!("{needed} numbers, for H {hidden}, {levels} levels and an input of {inputs}");
        return Err(given.wrong(&what, &count.to_string()));
    }
    let numbers = given.numbers(&[count])?;
    let mut rest = numbers.as_slice();
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at(count);
        rest = after;
        taken
    };
    let mut layers = Layers::default();
    let (mut initial_h, mut initial_c) = (Vec::new(), Vec::new());
    for level in 0..levels {
        let inputs = if level == 0 { inputs } else { hidden };
        let (mut w, mut u) = (Vec::new(), Vec::new());
        for row in take(4 * hidden * (inputs + hidden)).chunks_exact(inputs + hidden) {
            w.extend_from_slice(&row[..inputs]);
            u.extend_from_slice(&row[inputs..]);
        }
        layers.tensor(format!("{NAME}.weight_ih_l{level}"), &[4 * hidden, inputs], w)?;
        layers.tensor(format!("{NAME}.weight_hh_l{level}"), &[4 * hidden, hidden], u)?;
        layers.tensor(format!("{NAME}.bias_ih_l{level}"), &[4 * hidden], take(4 * hidden).to_vec())?;
        layers.tensor(format!("{NAME}.bias_hh_l{level}"), &[4 * hidden], vec![0.0; 4 * hidden])?;
        initial_h.extend_from_slice(take(hidden));
        initial_c.extend_from_slice(take(hidden));
    }
    layers.tensor(format!("{NAME}.initial_h"), &[levels, hidden], initial_h)?;
    layers.tensor(format!("{NAME}.initial_c"), &[levels, hidden], initial_c)?;
    let spec = RecurrentSpec {
        num_layers: levels,
        batch_first: true,
        initial_state: true,
        ..RecurrentSpec::new(NAME, inputs, hidden)
    };
    layers.layers.push(LayerSpec::Lstm(spec));
    let head = (take(hidden).to_vec(), Some(take(1).to_vec()));
    layers.dense("head", [hidden, 1], head, Activation::Linear)?;
    let sample_rate = file.get("sample_rate").map(|rate| rate.rate()).transpose()?;
    let name = file.get("metadata").and_then(|metadata| metadata.get("name")?.value.as_str()).map(str::to_owned);
    Ok(Amp { network: layers.network(&file)?, sample_rate, name })
}

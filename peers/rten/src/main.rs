//! rten's LSTM on the CPU, from the ONNX model.

use exchange::{Case, Result};
use rten::{Model, ValueOrView};
use rten_tensor::NdTensorView;
use rten_tensor::prelude::*;

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let model = Model::load_file(case.folder.join("model.onnx"))?;
    let [hidden, batch, steps] = case.sizes();
    let x = model.node_id("X")?;
    let y = model.node_id("Y")?;
    let run = || {
        let input = NdTensorView::from_data([steps, batch, hidden], case.input.data.as_slice());
        let [output] = model.run_n(vec![(x, ValueOrView::from(input.as_dyn()))], [y], None)?;
        Ok(rten_tensor::Tensor::<f32>::try_from(output)?.to_vec())
    };
    case.measure("0.27.0", "CPU, all threads", run)
}

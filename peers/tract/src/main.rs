//! tract's LSTM on the CPU, from the ONNX model.

use exchange::{Case, Result};
use tract_onnx::prelude::*;

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let model = tract_onnx::onnx().model_for_path(case.folder.join("model.onnx"))?.into_optimized()?.into_runnable()?;
    let run = |to: &mut Vec<f32>| {
        let input = Tensor::from_shape(&case.sizes(), &case.input.data)?;
        let outputs = model.run(tvec!(input.into()))?;
        *to = outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        Ok(())
    };
    case.measure("0.23.9", "CPU, one thread", run)
}

//! rten on the CPU, from the ONNX model.

use std::num::NonZeroUsize;
use std::sync::Arc;

use exchange::{Case, Result};
use rten::{Model, RunOptions, ThreadPool, ValueOrView};
use rten_tensor::NdTensorView;
use rten_tensor::prelude::*;

fn main() -> Result<()> {
    let case = Case::from_arguments()?;
    let model = Model::load_file(case.folder.join("model.onnx"))?;
    let x = model.node_id("X")?;
    let y = model.node_id("Y")?;
    let threads = exchange::threads()?;
    let pool = threads.map(NonZeroUsize::get).map(ThreadPool::with_num_threads).map(Arc::new);
    let options = RunOptions::default().with_thread_pool(pool);
    let run = |to: &mut Vec<f32>| {
        let input = NdTensorView::from_data(case.sizes(), case.input.data.as_slice());
        let [output] = model.run_n(vec![(x, ValueOrView::from(input.as_dyn()))], [y], Some(options.clone()))?;
        *to = rten_tensor::Tensor::<f32>::try_from(output)?.to_vec();
        Ok(())
    };
    case.measure("0.27.0", &exchange::cpu(threads), run)
}

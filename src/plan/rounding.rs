//! Which factors a plan has rounded to f16, so that the reference can do the same.

use super::{Cells, Kernel, Plan, ProductKernel, RecurrentKernel, Rung, Tiling};
use crate::network::{Rounding, StageRounding, WeightFormat};

impl Plan {
    /// The rounding of every stage. Where no product runs on matrix units it is the default throughout.
    #[must_use]
    pub fn roundings(&self) -> Vec<StageRounding> {
        let mut roundings = vec![StageRounding::default(); self.stages.len()];
        for dispatch in &self.dispatches {
            let Some(stage) = roundings.get_mut(dispatch.stage) else { continue };
            let (product, format) = match dispatch.kernel {
                Kernel::Linear(ProductKernel { format, tiling: Tiling::Matrix(_) })
                | Kernel::Conv1d(ProductKernel { format, tiling: Tiling::Matrix(_) }) => (&mut stage.input, format),
                Kernel::Recurrent(RecurrentKernel { cell, rung: Rung::TileMatrix(_), format, .. }) => match cell {
                    Cells::Projection => (&mut stage.projection, format),
                    _ => (&mut stage.state, format),
                },
                _ => continue,
            };
            *product = Rounding { numbers: true, weights: format == WeightFormat::F32 };
        }
        roundings
    }
}

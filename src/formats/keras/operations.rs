//! Keras 3's numeric operations where a model calls them between its layers: `x + y`, `2 * x`, `ops.mean(x, axis=1)`.

use super::join;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput};
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{Activation, ActivationSpec, GlobalPoolSpec, LayerSpec, Pool};

/// The operation `item` of some tensors and numbers.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, numbers): (&[NodeOutput], &[f64]),
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let pool = match item.class {
        "Mean" => Some(Pool::Average),
        "Sum" => Some(Pool::Sum),
        "Max" => Some(Pool::Max),
        _ => None,
    };
    let first = inputs[0];
    if inputs.iter().any(|input| input.masked) {
        // Keras drops the mask here.
        return Err(item.unsupported(&format!("operation {} on masked steps", item.class)));
    }
    let name = item.name.to_owned();
    if let (Some(pool), Shape::Sequence { width, .. }, [_]) = (pool, first.shape, inputs) {
        let over_time = options.get("axis").is_some_and(|axis| matches!(axis.as_i64(), Some(1 | -2)));
        if !over_time || options.flag("keepdims", false)? {
            return Err(options.unsupported("another axis than time, or kept dimensions"));
        }
        if options.get("initial").is_some() {
            return Err(options.unsupported("option `initial`"));
        }
        options.finish()?;
        let layer = LayerSpec::GlobalPool(GlobalPoolSpec { name, pool });
        return Ok(lowering.append(index, item, first, vec![layer], (Shape::Row(width), false)));
    }
    let joins = ["Add", "Subtract", "Multiply", "Maximum"].contains(&item.class);
    match (inputs, numbers) {
        ([_, _], []) if joins => join::lower(lowering, index, item, inputs),
        ([one], &[number]) => {
            #[expect(clippy::cast_possible_truncation, reason = "options are rounded to f32 on purpose")]
            let number = number as f32;
            let (alpha, beta) = match item.class {
                "Add" => (1.0, number),
                "Multiply" => (number, 0.0),
                "Divide" | "TrueDivide" => (number.recip(), 0.0),
                _ => return Err(item.unsupported(&format!("operation {}", item.class))),
            };
            options.finish()?;
            let activation = Activation::Affine { alpha, beta };
            let layer = LayerSpec::Activation(ActivationSpec { name, activation });
            Ok(lowering.append(index, item, *one, vec![layer], (one.shape, one.masked)))
        }
        _ => Err(item.unsupported(&format!("operation {}", item.class))),
    }
}

//! Keras 3's numeric operations where a model calls them between its layers: `x + y`, `2 * x`, `ops.mean(x, axis=1)`.

use super::join;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{Activation, ActivationSpec, GlobalPoolSpec, LayerSpec, Pool, ReshapeSpec};

/// Operations of two or more tensors.
const JOINS: [&str; 5] = ["Concatenate", "Add", "Subtract", "Multiply", "Maximum"];

/// Whether the operation is read, with some inputs.
pub(super) fn is_known(class: &str) -> bool {
    JOINS.contains(&class) || ["Mean", "Sum", "Max", "Divide", "TrueDivide", "ExpandDims", "Squeeze"].contains(&class)
}

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
    // Keras drops the mask here.
    let unmask = || inputs.iter().any(|input| input.masked).then(|| unmask(item));
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
        let layers = unmask().into_iter().chain([layer]).collect();
        return Ok(lowering.append(index, item, first, layers, (Shape::Row(width), false)));
    }
    if let ("ExpandDims" | "Squeeze", [_]) = (item.class, inputs) {
        let over_time = options.get("axis").is_some_and(|axis| matches!(axis.as_i64(), Some(1 | -2)));
        options.finish()?;
        let (in_steps, out_steps, shape) = match (item.class, first.shape) {
            ("ExpandDims", Shape::Row(width)) if over_time => {
                (None, Some(1), Shape::Sequence { steps: Some(1), width })
            }
            ("Squeeze", Shape::Sequence { steps: Some(1), width }) if over_time => (Some(1), None, Shape::Row(width)),
            (_, shape) => {
                let what = "supported: a row [B, N] as one timestep [B, 1, N], and back";
                return Err(item.unsupported(&format!("operation {} of {shape} ({what})", item.class)));
            }
        };
        let layer = LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps });
        return Ok(lowering.append(index, item, first, vec![layer], (shape, false)));
    }
    match (inputs, numbers) {
        ([_, _, ..], []) if JOINS.contains(&item.class) => join::lower(lowering, index, item, (inputs, true)),
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
            let layers = [layer].into_iter().chain(unmask()).collect();
            Ok(lowering.append(index, item, *one, layers, (one.shape, false)))
        }
        _ => Err(item.unsupported(&format!("operation {}", item.class))),
    }
}

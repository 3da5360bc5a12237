//! Keras 3's numeric operations where a model calls them between its layers: `x + y`, `2 * x`, `ops.mean(x, axis=1)`.

use super::join;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{Activation, ActivationSpec, GlobalPoolSpec, LayerSpec, NamedSpec, Pool, ReshapeSpec};

/// Operations of two or more tensors.
const JOINS: [&str; 5] = ["Concatenate", "Add", "Subtract", "Multiply", "Maximum"];

/// Functions of each number of one tensor, by Keras 3's names.
const FUNCTIONS: [(&str, Activation); 18] = [
    ("Relu", Activation::Relu),
    ("Relu6", Activation::Clip { alpha: 0.0, beta: 6.0 }),
    ("Sigmoid", Activation::Sigmoid),
    ("HardSigmoid", Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }),
    ("Tanh", Activation::Tanh),
    ("HardTanh", Activation::Clip { alpha: -1.0, beta: 1.0 }),
    ("Exp", Activation::Exp),
    ("Log", Activation::Log),
    ("Sqrt", Activation::Sqrt),
    ("Square", Activation::Square),
    ("Absolute", Activation::Abs),
    ("Abs", Activation::Abs),
    ("Negative", Activation::Affine { alpha: -1.0, beta: 0.0 }),
    ("Softplus", Activation::Softplus),
    ("Softsign", Activation::Softsign),
    ("Silu", Activation::Silu),
    ("HardSilu", Activation::HardSwish),
    ("Selu", Activation::Selu),
];

/// Whether the operation is read, with some inputs.
pub(super) fn is_known(class: &str) -> bool {
    let others = ["Power", "Clip", "LeakyRelu", "Softmax", "LogSoftmax"];
    JOINS.contains(&class)
        || others.contains(&class)
        || FUNCTIONS.iter().any(|(name, _)| *name == class)
        || ["Mean", "Sum", "Max", "Divide", "TrueDivide", "ExpandDims", "Squeeze"].contains(&class)
}

/// The operation `item` of some tensors and numbers.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, numbers, number_first): (&[NodeOutput], &[f64], bool),
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
    if let ([one], true) = (inputs, numbers.len() < 2)
        && let Some(layer) = of_one(item, &options, (one.shape, numbers.first().copied(), number_first))?
    {
        options.finish()?;
        let layers = unmask().into_iter().chain([layer]).collect();
        return Ok(lowering.append(index, item, *one, layers, (one.shape, false)));
    }
    match (inputs, numbers) {
        ([_, _, ..], []) if JOINS.contains(&item.class) => join::lower(lowering, index, item, (inputs, true)),
        _ => Err(item.unsupported(&format!("operation {}", item.class))),
    }
}

/// The layer of an operation on one tensor, and on a number where it has one.
fn of_one(
    item: &Item<'_>,
    options: &LayerOptions<'_>,
    (shape, number, number_first): (Shape, Option<f64>, bool),
) -> Result<Option<LayerSpec>> {
    let name = item.name.to_owned();
    #[expect(clippy::cast_possible_truncation, reason = "options are rounded to f32 on purpose")]
    let number = number.map(|number| number as f32);
    let affine = |alpha: f32, beta: f32| Some(Activation::Affine { alpha, beta });
    let activation = match (item.class, number) {
        (class, None) if FUNCTIONS.iter().any(|(name, _)| *name == class) => {
            FUNCTIONS.iter().find(|(name, _)| *name == class).map(|(_, activation)| *activation)
        }
        // A bound of None is no bound.
        ("Clip", None) if ["x_min", "x_max"].iter().any(|&bound| options.get(bound).is_none()) => None,
        ("Clip", None) => {
            Some(Activation::Clip { alpha: options.number("x_min", 0.0)?, beta: options.number("x_max", 0.0)? })
        }
        ("LeakyRelu", None) => Some(Activation::LeakyRelu { alpha: options.number("negative_slope", 0.2)? }),
        ("Softmax" | "LogSoftmax", None) => {
            let over_time = options.get("axis").is_some_and(|axis| matches!(axis.as_i64(), Some(1 | -2)));
            return Ok(Some(match (item.class, shape) {
                ("Softmax", Shape::Sequence { .. }) if over_time => LayerSpec::TimeSoftmax(NamedSpec { name }),
                (class, Shape::Sequence { .. } | Shape::Row(_)) => {
                    options.last_axis("axis", if matches!(shape, Shape::Row(_)) { 2 } else { 3 })?;
                    if class == "Softmax" { LayerSpec::Softmax } else { LayerSpec::LogSoftmax(NamedSpec { name }) }
                }
                (_, tokens) => return Err(item.unsupported(&format!("operation {} of {tokens}", item.class))),
            }));
        }
        ("Add", Some(number)) => affine(1.0, number),
        ("Subtract", Some(number)) => {
            if number_first {
                affine(-1.0, number)
            } else {
                affine(1.0, -number)
            }
        }
        ("Multiply", Some(number)) => affine(number, 0.0),
        ("Divide" | "TrueDivide", Some(number)) => affine(number.recip(), 0.0),
        ("Power", Some(2.0)) if !number_first => Some(Activation::Square),
        ("Power", Some(0.5)) if !number_first => Some(Activation::Sqrt),
        ("Maximum", Some(0.0)) => Some(Activation::Relu),
        _ => None,
    };
    if activation.is_some() && matches!(shape, Shape::Tokens(_)) {
        return Err(item.unsupported(&format!("operation {} of {shape}", item.class)));
    }
    Ok(activation.map(|activation| LayerSpec::Activation(ActivationSpec { name, activation })))
}

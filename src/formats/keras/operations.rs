//! Keras 3's numeric operations where a model calls them between its layers: `x + y`, `2 * x`, `ops.mean(x, axis=1)`.

use super::activation::Version;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::LayerOptions;
use super::{join, products, rearrange, reductions};
use crate::base::error::Result;
use crate::network::{Activation, ActivationSpec, LayerSpec, NamedSpec};

/// Operations of two or more tensors.
const JOINS: [&str; 6] = ["Concatenate", "Add", "Subtract", "Multiply", "Maximum", "Minimum"];

/// Functions of each number of one tensor, by Keras 3's names.
const FUNCTIONS: [(&str, Activation); 20] = [
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
    ("Mish", Activation::Mish),
    ("Reciprocal", Activation::Reciprocal),
];

/// Whether the operation is read, with some inputs.
pub(super) fn is_known(class: &str) -> bool {
    const OTHERS: [&str; 11] = [
        "Power",
        "Clip",
        "LeakyRelu",
        "Elu",
        "Gelu",
        "Rsqrt",
        "Softmax",
        "LogSoftmax",
        "Divide",
        "TrueDivide",
        "Matmul",
    ];
    JOINS.contains(&class)
        || OTHERS.contains(&class)
        || FUNCTIONS.iter().any(|(name, _)| *name == class)
        || reductions::is_reduction(class)
        || reductions::is_normalization(class)
        || rearrange::is_known(class)
}

/// The outputs of the operation `item` of some tensors and numbers.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, numbers, number_first): (&[NodeOutput], &[f64], bool),
) -> Result<Vec<NodeOutput>> {
    if matches!(inputs, [one] if one.shape == Shape::Scores) && numbers.len() < 2 {
        let number = numbers.first().copied().filter(|_| !(number_first && item.class != "Multiply"));
        return Ok(vec![products::of_scores(lowering, index, item, (inputs[0], number))?]);
    }
    if let ("Matmul", [first, second]) = (item.class, inputs) {
        return Ok(vec![products::matmul(lowering, index, item, [first, second])?]);
    }
    if rearrange::is_known(item.class) && numbers.is_empty() {
        return rearrange::lower(lowering, index, item, inputs);
    }
    one_output(lowering, index, item, (inputs, numbers, number_first)).map(|output| vec![output])
}

fn one_output(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, numbers, number_first): (&[NodeOutput], &[f64], bool),
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    if let ([one], []) = (inputs, numbers) {
        if reductions::is_reduction(item.class) {
            return reductions::lower(lowering, index, item, (&options, *one));
        }
        if reductions::is_normalization(item.class) {
            return reductions::normalization(lowering, index, item, *one);
        }
    }
    // Keras drops the mask here.
    let unmask = || inputs.iter().any(|input| input.masked).then(|| unmask(item));
    if let ([one], true) = (inputs, numbers.len() < 2)
        && let Some(made) = of_one(item, &options, (one.shape, numbers.first().copied(), number_first))?
    {
        options.finish()?;
        let layers = unmask().into_iter().chain(made).collect();
        return Ok(lowering.append(index, item, *one, layers, (one.shape, false)));
    }
    match (inputs, numbers) {
        ([dividend, divisor], []) if matches!(item.class, "Divide" | "TrueDivide") => {
            let inverse = ActivationSpec { name: format!("{}_inverse", item.name), activation: Activation::Reciprocal };
            lowering.read(divisor.source);
            lowering.layers.push(LayerSpec::Activation(inverse));
            let inverse = lowering.value(index, usize::MAX, item, (divisor.shape, divisor.masked));
            let inputs = [*dividend, NodeOutput { origin: divisor.origin, ..inverse }];
            join::lower(lowering, index, &Item { class: "Multiply", ..*item }, (&inputs, true))
        }
        ([_, _, ..], []) if JOINS.contains(&item.class) => {
            let steps = |input: &NodeOutput| match input.shape {
                Shape::Steps(steps) => NodeOutput { shape: Shape::Sequence { steps, width: 1 }, ..*input },
                _ => *input,
            };
            let whole: Vec<NodeOutput> = inputs.iter().map(steps).collect();
            if !inputs.iter().all(|input| matches!(input.shape, Shape::Steps(_))) || item.class == "Concatenate" {
                return join::lower(lowering, index, item, (inputs, true));
            }
            let joined = join::lower(lowering, index, item, (&whole, true))?;
            Ok(NodeOutput { shape: inputs[0].shape, ..joined })
        }
        _ if item.class == "TFOpLambda" => {
            let function = options.text("function", "")?;
            Err(item.unsupported(&format!("function tf.{function} (export the model to ONNX)")))
        }
        _ => Err(item.unsupported(&format!("operation {}", item.class))),
    }
}

/// The layers of an operation on one tensor, and on a number where it has one.
fn of_one(
    item: &Item<'_>,
    options: &LayerOptions<'_>,
    (shape, number, number_first): (Shape, Option<f64>, bool),
) -> Result<Option<Vec<LayerSpec>>> {
    let name = item.name.to_owned();
    #[expect(clippy::cast_possible_truncation, reason = "options are rounded to f32 on purpose")]
    let number = number.map(|number| number as f32);
    let affine = |alpha: f32, beta: f32| Some(Activation::Affine { alpha, beta });
    let activation = match (item.class, number) {
        (class, None) if FUNCTIONS.iter().any(|(name, _)| *name == class) => {
            FUNCTIONS.iter().find(|(name, _)| *name == class).map(|(_, activation)| *activation)
        }
        // A bound of None is no bound.
        ("Clip", None) => {
            let bound = |keys: [&'static str; 2]| keys.into_iter().find(|key| options.get(key).is_some());
            match (bound(["x_min", "clip_value_min"]), bound(["x_max", "clip_value_max"])) {
                (Some(low), Some(high)) => {
                    Some(Activation::Clip { alpha: options.number(low, 0.0)?, beta: options.number(high, 0.0)? })
                }
                _ => None,
            }
        }
        ("LeakyRelu", None) => {
            // TensorFlow calls it alpha.
            let alpha = options.number("alpha", 0.2)?;
            Some(Activation::LeakyRelu { alpha: options.number("negative_slope", alpha)? })
        }
        ("Elu", None) => Some(Activation::Elu { alpha: options.number("alpha", 1.0)? }),
        ("Gelu", None) => {
            // Keras' operation approximates unless told otherwise, TensorFlow's does not.
            let approximates = options.flag("approximate", item.version != Version::Two)?;
            Some(if approximates { Activation::GeluTanh } else { Activation::Gelu })
        }
        ("Rsqrt", None) => return Ok(Some(inverse_root(item))),
        ("Power", Some(-0.5)) if !number_first => return Ok(Some(inverse_root(item))),
        ("Power", Some(-1.0)) if !number_first => Some(Activation::Reciprocal),
        ("Softmax" | "LogSoftmax", None) => {
            let over_time = options.get("axis").is_some_and(|axis| matches!(axis.as_i64(), Some(1 | -2)));
            let last = matches!(shape, Shape::Steps(_))
                && options.get("axis").is_none_or(|axis| matches!(axis.as_i64(), Some(1 | -1)));
            return Ok(Some(vec![match (item.class, shape) {
                ("Softmax", Shape::Sequence { .. }) if over_time => LayerSpec::TimeSoftmax(NamedSpec { name }),
                ("Softmax", Shape::Steps(_)) if last => LayerSpec::TimeSoftmax(NamedSpec { name }),
                (class, Shape::Sequence { .. } | Shape::Row(_)) => {
                    options.last_axis("axis", if matches!(shape, Shape::Row(_)) { 2 } else { 3 })?;
                    if class == "Softmax" { LayerSpec::Softmax } else { LayerSpec::LogSoftmax(NamedSpec { name }) }
                }
                (_, tokens) => return Err(item.unsupported(&format!("operation {} of {tokens}", item.class))),
            }]));
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
        ("Divide" | "TrueDivide", Some(number)) if number_first => {
            let inverse = ActivationSpec { name: format!("{name}_inverse"), activation: Activation::Reciprocal };
            let scale = ActivationSpec { name, activation: Activation::Affine { alpha: number, beta: 0.0 } };
            return Ok(Some(vec![LayerSpec::Activation(inverse), LayerSpec::Activation(scale)]));
        }
        ("Divide" | "TrueDivide", Some(number)) => affine(number.recip(), 0.0),
        ("Power", Some(2.0)) if !number_first => Some(Activation::Square),
        ("Power", Some(0.5)) if !number_first => Some(Activation::Sqrt),
        ("Maximum", Some(0.0)) => Some(Activation::Relu),
        ("Maximum", Some(alpha)) => Some(Activation::Clip { alpha, beta: f32::MAX }),
        ("Minimum", Some(beta)) => Some(Activation::Clip { alpha: f32::MIN, beta }),
        _ => None,
    };
    if activation.is_some() && !matches!(shape, Shape::Sequence { .. } | Shape::Row(_) | Shape::Steps(_)) {
        return Err(item.unsupported(&format!("operation {} of {shape}", item.class)));
    }
    Ok(activation.map(|activation| vec![LayerSpec::Activation(ActivationSpec { name, activation })]))
}

/// `1 / sqrt(x)`
fn inverse_root(item: &Item<'_>) -> Vec<LayerSpec> {
    let layer = |name, activation| LayerSpec::Activation(ActivationSpec { name, activation });
    vec![layer(format!("{}_root", item.name), Activation::Sqrt), layer(item.name.to_owned(), Activation::Reciprocal)]
}

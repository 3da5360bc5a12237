//! Keras layers that read several tensors.

use super::activation::Version;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::LayerOptions;
use super::{products, rearrange};
use crate::base::error::Result;
use crate::network::{Activation, ActivationSpec, FromSpec, Join, JoinSpec, LayerSpec, ReshapeSpec};

const NEGATIVE: Activation = Activation::Affine { alpha: -1.0, beta: 0.0 };

/// Whether layers of this class are read.
pub(super) fn is_known(class: &str) -> bool {
    matches!(class, "Dot" | "Minimum") || join_of(class).is_some()
}

fn join_of(class: &str) -> Option<Join> {
    Some(match class {
        "Concatenate" => Join::Concat,
        "Add" => Join::Add,
        "Subtract" => Join::Sub,
        "Multiply" => Join::Mul,
        "Average" => Join::Average,
        "Maximum" => Join::Max,
        _ => return None,
    })
}

/// Whether it is a sequence that may have more timesteps than one.
fn is_longer(shape: Shape) -> bool {
    matches!(shape, Shape::Sequence { steps, .. } if steps != Some(1))
}

/// The layer `item` of several inputs; `drops_mask` says that Keras does not pass on their masks.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, drops_mask): (&[NodeOutput], bool),
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    if item.class == "Dot" {
        return products::dot(lowering, index, item, inputs);
    }
    if item.class == "Minimum" {
        options.finish()?;
        return smallest(lowering, index, item, (inputs, drops_mask));
    }
    let over_time = options.get("axis").is_some_and(|axis| matches!(axis.as_i64(), Some(1 | -2)));
    let sequences = inputs.iter().all(|input| matches!(input.shape, Shape::Sequence { .. }));
    if item.class == "Concatenate" && over_time && sequences {
        options.finish()?;
        return rearrange::concat_time(lowering, index, item, inputs);
    }
    let Some(join) = join_of(item.class) else {
        return Err(item.unsupported(&format!("layer class {} with {} inputs", item.class, inputs.len())));
    };
    let mut widths = Vec::with_capacity(inputs.len());
    for input in inputs {
        match input.shape {
            Shape::Sequence { width, .. } | Shape::Row(width) => widths.push(width),
            other => return Err(options.unsupported(&format!("{other} as an input"))),
        }
    }
    let shapes = || inputs.iter().map(|input| input.shape);
    let longest = shapes().find(|&shape| is_longer(shape));
    let longest = longest.or_else(|| shapes().find(|shape| matches!(shape, Shape::Sequence { .. })));
    let widest = widths.iter().copied().max().unwrap_or(0);
    if join == Join::Concat {
        if longest.is_some() && inputs.iter().any(|input| matches!(input.shape, Shape::Row(_))) {
            return Err(options.unsupported("inputs with and without a time dimension"));
        }
        options.last_axis("axis", if longest.is_none() { 2 } else { 3 })?;
    } else if widths.iter().any(|&width| width != widest && width != 1) {
        return Err(options.unsupported(&different_widths(&widths)));
    }
    options.finish()?;
    let masked = inputs.iter().any(|input| input.masked);
    // In Keras 2 the masks that there are count; in Keras 3 a join with what has no mask has none.
    let partly = item.version != Version::Two && inputs.iter().any(|input| input.masked != masked);
    if partly && !drops_mask && join == Join::Mul {
        // Masked numbers are 1 here.
        return Err(options.unsupported("inputs of which only some are masked"));
    }
    let unmasks = masked && (drops_mask || partly);
    // One mask cannot stand for those of several inputs of the model.
    let of_one_input = inputs.iter().all(|input| input.origin == inputs[0].origin);
    if masked && !unmasks && longest.is_some() && !of_one_input {
        return Err(options.unsupported("masks of several inputs of the model"));
    }
    let width = match join {
        Join::Concat => widths.iter().fold(0, |sum: usize, &width| sum.saturating_add(width)),
        _ => widest,
    };
    let mut named: Vec<String> = inputs.iter().map(|input| lowering.name(input.source)).collect();
    if join != Join::Concat && inputs.iter().any(|input| is_longer(input.shape)) {
        // One timestep counts at every timestep of the others, as a row does.
        for (number, input) in inputs.iter().enumerate() {
            if matches!(input.shape, Shape::Sequence { steps: Some(1), .. }) && !input.masked {
                let row = format!("{}_row{number}", item.name);
                let reshape = ReshapeSpec { name: row.clone(), in_steps: Some(1), out_steps: None };
                let layer = std::mem::replace(&mut named[number], row);
                lowering.layers.extend([LayerSpec::From(FromSpec { layer }), LayerSpec::Reshape(reshape)]);
            }
        }
    }
    lowering.layers.push(LayerSpec::Join(JoinSpec { name: item.name.to_owned(), inputs: named, join }));
    let shape = match longest {
        Some(Shape::Sequence { steps, .. }) => Shape::Sequence { steps, width },
        _ => Shape::Row(width),
    };
    if unmasks && longest.is_some() {
        lowering.layers.push(unmask(item));
    }
    Ok(lowering.value(index, 0, item, (shape, masked && !unmasks)))
}

/// What is said of inputs whose widths do not fit.
pub(super) fn different_widths(widths: &[usize]) -> String {
    format!("inputs of different widths {widths:?}")
}

/// The smaller one of each pair: the largest of the negatives, negative.
fn smallest(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (inputs, drops_mask): (&[NodeOutput], bool),
) -> Result<NodeOutput> {
    let negative = |name| LayerSpec::Activation(ActivationSpec { name, activation: NEGATIVE });
    let mut turned = Vec::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        lowering.read(input.source);
        lowering.layers.push(negative(format!("{}_negative{number}", item.name)));
        // Outputs that the graph does not know.
        let value = lowering.value(index, usize::MAX - number, item, (input.shape, input.masked));
        turned.push(NodeOutput { origin: input.origin, ..value });
    }
    let name = format!("{}_max", item.name);
    let largest = lower(lowering, index, &Item { class: "Maximum", name: &name, ..*item }, (&turned, drops_mask))?;
    Ok(lowering.append(index, item, largest, vec![negative(item.name.to_owned())], (largest.shape, largest.masked)))
}

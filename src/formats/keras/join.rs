//! Keras layers that read several tensors.

use super::activation::Version;
use super::layers::{Item, Shape};
use super::lower::{KerasLowering, NodeOutput, unmask};
use super::options::LayerOptions;
use crate::base::error::Result;
use crate::network::{FromSpec, GlobalPoolSpec, Join, JoinSpec, LayerSpec, Pool, ReshapeSpec};

/// Whether layers of this class are read.
pub(super) fn is_known(class: &str) -> bool {
    class == "Dot" || join_of(class).is_some()
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
        return dot(lowering, index, item, (&options, inputs));
    }
    let Some(join) = join_of(item.class) else {
        return Err(item.unsupported(&format!("layer class {} with {} inputs", item.class, inputs.len())));
    };
    let mut widths = Vec::with_capacity(inputs.len());
    for input in inputs {
        match input.shape {
            Shape::Sequence { width, .. } | Shape::Row(width) => widths.push(width),
            Shape::Tokens(_) => return Err(options.unsupported("token ids as an input")),
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
        return Err(options.unsupported(&format!("inputs of different widths {widths:?}")));
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

/// `Dot(axes=1)` of shares `[B, T, 1]` and a sequence `[B, T, N]`: their weighted sum, `[B, 1, N]`.
fn dot(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (options, inputs): (&LayerOptions<'_>, &[NodeOutput]),
) -> Result<NodeOutput> {
    options.none_of(&["normalize"])?;
    let over_time = options.get("axes").is_some_and(|axes| {
        axes.as_i64() == Some(1)
            || axes.as_array().is_some_and(|axes| axes.len() == 2 && axes.iter().all(|axis| axis.as_i64() == Some(1)))
    });
    options.finish()?;
    let [Shape::Sequence { width: 1, .. }, Shape::Sequence { width, .. }] = [inputs[0].shape, inputs[1].shape] else {
        return Err(options.unsupported("a product of other inputs than [B, T, 1] and [B, T, N]"));
    };
    if !over_time || inputs.len() != 2 || inputs.iter().any(|input| input.masked) {
        return Err(options.unsupported("a product over another axis than time, or of masked steps"));
    }
    let named = inputs.iter().map(|input| lowering.name(input.source)).collect();
    let of = |part: &str| format!("{}_{part}", item.name);
    lowering.layers.extend([
        LayerSpec::Join(JoinSpec { name: of("products"), inputs: named, join: Join::Mul }),
        LayerSpec::GlobalPool(GlobalPoolSpec { name: of("sum"), pool: Pool::Sum }),
        LayerSpec::Reshape(ReshapeSpec { name: item.name.to_owned(), in_steps: None, out_steps: Some(1) }),
    ]);
    Ok(lowering.value(index, 0, item, (Shape::Sequence { steps: Some(1), width }, false)))
}

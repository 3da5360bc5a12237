//! PReLU and UpSampling1D: layers of one tensor that read it more than once.

use serde_json::Value;

use super::layers::{Item, Shape, sequence, steps, width};
use super::lower::{KerasLowering, NodeOutput};
use super::options::LayerOptions;
use super::parts::{PartNumbers, Parts};
use super::shapes::OPEN_STEPS;
use crate::base::error::Result;
use crate::network::{Activation, FromSpec, Join, JoinSpec, LayerSpec, ReshapeSpec};

/// Whether layers of this class are read.
pub(super) fn is_known(class: &str) -> bool {
    matches!(class, "PReLU" | "UpSampling1D")
}

/// The layer `item` of one input.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    input: NodeOutput,
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let read = lowering.name(input.source);
    let (parts, shape, masked) = match item.class {
        "PReLU" => (prelu(item, &options, input.shape, read)?, input.shape, input.masked),
        _ => {
            let (parts, shape) = repeated(item, &options, input.shape, &read)?;
            (parts, shape, false)
        }
    };
    options.finish()?;
    Ok(lowering.append_parts(index, item, parts, (input, shape, masked)))
}

/// `max(x, 0) + alpha min(x, 0)`; alpha has a number for each feature of each timestep, unless axes share theirs.
fn prelu(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape, read: String) -> Result<Parts> {
    let width = width(options, shape)?;
    let shared = options.get("shared_axes").unwrap_or(&Value::Null);
    let axes = match shared {
        Value::Null => Some(Vec::new()),
        Value::Array(axes) => axes.iter().map(Value::as_i64).collect(),
        one => one.as_i64().map(|axis| vec![axis]),
    };
    let last = if matches!(shape, Shape::Row(_)) { 1 } else { 2 };
    let axes = axes.filter(|axes| axes.iter().all(|axis| (1..=last).contains(axis)));
    let Some(axes) = axes else {
        return Err(options.wrong("shared_axes", &format!("axes from 1 to {last}"), shared));
    };
    let features = if axes.contains(&last) { 1 } else { width };
    let sequence = matches!(shape, Shape::Sequence { .. });
    // The timesteps that have numbers of their own.
    let own_steps = match (sequence && !axes.contains(&1), steps(shape)) {
        (false, _) => None,
        (true, Some(steps)) => Some(steps),
        (true, None) => {
            let what = format!("an alpha for each timestep of {OPEN_STEPS} other than by `shared_axes=[1]`");
            return Err(options.unsupported(&what));
        }
    };
    let array = match (sequence, own_steps) {
        (false, _) => vec![features],
        (true, steps) => vec![steps.unwrap_or(1), features],
    };
    let of = |part: &str| format!("{}_{part}", item.name);
    let mut parts = Parts::default();
    parts.function(of("above"), Activation::Relu);
    parts.layers.push(LayerSpec::From(FromSpec { layer: read }));
    parts.function(of("below"), Activation::Clip { alpha: f32::MIN, beta: 0.0 });
    let reshape = |name, in_steps, out_steps| LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps });
    parts.layers.extend(own_steps.map(|steps| reshape(of("row"), Some(steps), None)));
    let numbers = if features == width { PartNumbers::Cycled(0) } else { PartNumbers::Stretched(0) };
    let numbers_wide = own_steps.unwrap_or(1).saturating_mul(width);
    parts.scale(item, (&of("alpha"), numbers_wide), &[("alpha", array)], numbers);
    parts.layers.extend(own_steps.map(|steps| reshape(of("steps"), None, Some(steps))));
    let inputs = vec![of("above"), of(if own_steps.is_some() { "steps" } else { "alpha" })];
    parts.layers.push(LayerSpec::Join(JoinSpec { name: item.name.to_owned(), inputs, join: Join::Add }));
    Ok(parts)
}

/// Each timestep `size` times: its features side by side so often, then as so many timesteps.
fn repeated(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape, read: &str) -> Result<(Parts, Shape)> {
    let width = sequence(options, shape)?;
    let size = options.size("size")?;
    let Some(in_steps) = steps(shape) else {
        return Err(options.unsupported(OPEN_STEPS));
    };
    if size < 2 {
        return if size == 1 {
            Ok((Parts::default(), shape))
        } else {
            Err(options.wrong("size", "at least 1", &Value::from(size)))
        };
    }
    const MOST: usize = 256;
    if size > MOST {
        return Err(options.unsupported(&format!("option `size` = {size} (supported: up to {MOST})")));
    }
    let out_steps = in_steps.saturating_mul(size);
    let name = format!("{}_features", item.name);
    let side_by_side = JoinSpec { name, inputs: vec![read.to_owned(); size], join: Join::Concat };
    let reshape = ReshapeSpec { name: item.name.to_owned(), in_steps: Some(in_steps), out_steps: Some(out_steps) };
    let layers = vec![LayerSpec::Join(side_by_side), LayerSpec::Reshape(reshape)];
    Ok((Parts { layers, weights: Vec::new() }, Shape::Sequence { steps: Some(out_steps), width }))
}

//! Operations between layers that change a tensor's shape.

use serde_json::Value;

use super::graph::MAX_LAYERS;
use super::join;
use super::layers::{Item, Lowered, Shape, steps};
use super::lower::{KerasLowering, NodeOutput};
use super::options::{LayerOptions, brief};
use super::shapes;
use crate::base::error::Result;
use crate::network::{
    ChannelsSpec, FromSpec, Join, JoinSpec, LayerSpec, NamedSpec, PadMode, PadSpec, ReshapeSpec, SliceSpec,
};

const OPERATIONS: [&str; 8] = ["ExpandDims", "Squeeze", "Reshape", "Transpose", "Flip", "Stack", "Split", "Pad"];

/// Whether operations of this class are read, with some inputs.
pub(super) fn is_known(class: &str) -> bool {
    OPERATIONS.contains(&class)
}

/// The outputs of the operation `item`.
pub(super) fn lower(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    inputs: &[NodeOutput],
) -> Result<Vec<NodeOutput>> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let first = inputs[0];
    if item.class == "Stack" {
        return stack(lowering, index, item, (&options, inputs)).map(|output| vec![output]);
    }
    if item.class == "Split" {
        return split(lowering, index, item, (&options, first));
    }
    let Lowered { layers, shape } = match item.class {
        "ExpandDims" => expand_dims(item, &options, first.shape)?,
        "Squeeze" => squeeze(item, &options, first.shape)?,
        "Reshape" => {
            let key = if options.get("newshape").is_some() { "newshape" } else { "shape" };
            shapes::reshape_to(item, &options, (first.shape, key), true)?
        }
        "Transpose" => transpose(&options, first.shape)?,
        "Flip" => {
            let axis = one_axis(&options, "axis");
            match (first.shape, axis) {
                (shape @ Shape::Sequence { .. }, Some(1 | -2)) => {
                    let layer = LayerSpec::Reverse(NamedSpec { name: item.name.to_owned() });
                    Lowered { layers: vec![layer], shape }
                }
                (shape, _) => return Err(options.unsupported(&format!("another axis than time, of {shape}"))),
            }
        }
        _ => pad(item, &options, first.shape)?,
    };
    options.finish()?;
    // Keras drops the mask here.
    let unmask = first.masked.then(|| super::lower::unmask(item));
    let layers = unmask.into_iter().chain(layers).collect();
    Ok(vec![lowering.append(index, item, first, layers, (shape, false))])
}

/// An axis, also as a list of one.
fn one_axis(options: &LayerOptions<'_>, key: &'static str) -> Option<i64> {
    match options.get(key)? {
        Value::Array(axes) if axes.len() == 1 => axes[0].as_i64(),
        axis => axis.as_i64(),
    }
}

fn expand_dims(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    match (shape, one_axis(options, "axis")) {
        (Shape::Row(width), Some(1 | -2)) => {
            let spec = ReshapeSpec { name: item.name.to_owned(), in_steps: None, out_steps: Some(1) };
            Ok(Lowered { layers: vec![LayerSpec::Reshape(spec)], shape: Shape::Sequence { steps: Some(1), width } })
        }
        // As many timesteps of one feature.
        (Shape::Row(width), Some(2 | -1)) => {
            let spec = ReshapeSpec { name: item.name.to_owned(), in_steps: None, out_steps: Some(width) };
            let shape = Shape::Sequence { steps: Some(width), width: 1 };
            Ok(Lowered { layers: vec![LayerSpec::Reshape(spec)], shape })
        }
        (Shape::Steps(steps), Some(2 | -1)) => {
            Ok(Lowered { layers: Vec::new(), shape: Shape::Sequence { steps, width: 1 } })
        }
        (shape, _) => Err(options.unsupported(&format!("this axis of {shape}"))),
    }
}

fn squeeze(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    match (shape, one_axis(options, "axis")) {
        (Shape::Sequence { steps: Some(1), width }, Some(1 | -2)) => {
            let spec = ReshapeSpec { name: item.name.to_owned(), in_steps: Some(1), out_steps: None };
            Ok(Lowered { layers: vec![LayerSpec::Reshape(spec)], shape: Shape::Row(width) })
        }
        (Shape::Sequence { steps, width: 1 }, Some(2 | -1)) => {
            Ok(Lowered { layers: Vec::new(), shape: Shape::Steps(steps) })
        }
        (Shape::Row(1), Some(1 | -1)) => Ok(Lowered { layers: Vec::new(), shape }),
        (shape, _) => Err(options.unsupported(&format!("this axis of {shape}"))),
    }
}

/// Time and features exchanged; nothing is moved until a layer reads it.
fn transpose(options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let key = if options.get("axes").is_some() { "axes" } else { "perm" };
    let order = options.get(key).unwrap_or(&Value::Null);
    let numbers: Vec<i64> = order.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_i64).collect();
    let shape = match (shape, &numbers[..]) {
        (shape, [0, 1, 2] | [0, 1]) => shape,
        (Shape::Sequence { steps, width }, [0, 2, 1]) => Shape::Turned { steps, width },
        (Shape::Turned { steps, width }, [0, 2, 1]) => Shape::Sequence { steps, width },
        _ => return Err(options.unsupported(&format!("option `{key}` = {} of {shape}", brief(order)))),
    };
    Ok(Lowered { layers: Vec::new(), shape })
}

/// Zeros before and after the timesteps.
fn pad(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let key = if options.get("pad_width").is_some() { "pad_width" } else { "paddings" };
    let widths = options.get(key).unwrap_or(&Value::Null);
    let pair = |at: usize| {
        let pair = widths.get(at)?.as_array()?;
        Some((pair.first()?.as_u64()?, pair.get(1)?.as_u64()?))
    };
    let mode = options.text("mode", "constant")?;
    options.none_of(&["constant_values"])?;
    let (Shape::Sequence { steps, width }, Some((0, 0)), Some((left, right)), Some((0, 0))) =
        (shape, pair(0), pair(1), pair(2))
    else {
        return Err(options.unsupported(&format!("option `{key}` = {} of {shape}", brief(widths))));
    };
    let mode = match mode {
        "constant" | "CONSTANT" => PadMode::Zeros,
        "reflect" | "REFLECT" => PadMode::Reflect,
        other => return Err(options.unsupported(&format!("option `mode` = {other}"))),
    };
    let wrong = || options.wrong(key, "numbers of timesteps", widths);
    let sides = [left, right].map(|side| i64::try_from(side).ok().filter(|side| *side < 1 << 24));
    let [Some(left), Some(right)] = sides else { return Err(wrong()) };
    let more = usize::try_from(left + right).map_err(|_| wrong())?;
    let layer = LayerSpec::Pad(PadSpec { name: item.name.to_owned(), left, right, mode });
    let steps = steps.and_then(|steps| steps.checked_add(more));
    Ok(Lowered { layers: vec![layer], shape: Shape::Sequence { steps, width } })
}

/// Rows as the timesteps of a sequence.
fn stack(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (options, inputs): (&LayerOptions<'_>, &[NodeOutput]),
) -> Result<NodeOutput> {
    let axis = options.get("axis").map_or(Some(0), Value::as_i64);
    options.finish()?;
    let first = inputs[0];
    let (Shape::Row(width), Some(1 | -2)) = (first.shape, axis) else {
        return Err(options.unsupported(&format!("this axis, of {}", first.shape)));
    };
    if inputs.iter().any(|input| input.shape != first.shape) {
        return Err(options.unsupported("inputs of different shapes"));
    }
    let named: Vec<String> = inputs.iter().map(|input| lowering.name(input.source)).collect();
    let name = format!("{}_features", item.name);
    let count = inputs.len();
    if count == 1 {
        lowering.layers.push(LayerSpec::From(FromSpec { layer: named.into_iter().next().unwrap_or_default() }));
    } else {
        lowering.layers.push(LayerSpec::Join(JoinSpec { name, inputs: named, join: Join::Concat }));
    }
    let spec = ReshapeSpec { name: item.name.to_owned(), in_steps: None, out_steps: Some(count) };
    lowering.layers.push(LayerSpec::Reshape(spec));
    Ok(lowering.value(index, 0, item, (Shape::Sequence { steps: Some(count), width }, false)))
}

/// Parts of the features, or of a fixed number of timesteps.
fn split(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    (options, input): (&LayerOptions<'_>, NodeOutput),
) -> Result<Vec<NodeOutput>> {
    let axis = options.get("axis").map_or(Some(0), Value::as_i64);
    let sections = options.get("indices_or_sections").unwrap_or(&Value::Null);
    options.finish()?;
    let over_time = match (input.shape, axis) {
        (Shape::Sequence { .. }, Some(2 | -1)) | (Shape::Row(_), Some(1 | -1)) => false,
        (Shape::Sequence { .. }, Some(1 | -2)) => true,
        _ => return Err(options.unsupported(&format!("this axis of {}", input.shape))),
    };
    let width = super::layers::width(options, input.shape)?;
    let size = if over_time { steps(input.shape) } else { Some(width) };
    let Some(size) = size else { return Err(options.unsupported(shapes::OPEN_STEPS)) };
    let wrong = || options.wrong("indices_or_sections", &format!("parts of {size}"), sections);
    let ends: Vec<usize> = match sections {
        Value::Array(places) => {
            let place = |place: &Value| place.as_u64().and_then(|place| usize::try_from(place).ok());
            let places: Option<Vec<usize>> = places.iter().map(place).collect();
            places.ok_or_else(wrong)?.into_iter().chain([size]).collect()
        }
        count => {
            let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
            let count = count.filter(|&count| count > 0 && size.is_multiple_of(count)).ok_or_else(wrong)?;
            if count > MAX_LAYERS {
                return Err(options.unsupported(&format!("{count} parts (supported: up to {MAX_LAYERS})")));
            }
            (1..=count).map(|part| part * (size / count)).collect()
        }
    };
    let read = lowering.unmasked_name(item, input, "parts");
    let mut made = Vec::with_capacity(ends.len());
    let mut start = 0;
    for (output, end) in ends.into_iter().enumerate() {
        let count = end.checked_sub(start).filter(|&count| count > 0 && end <= size).ok_or_else(wrong)?;
        let name = format!("{}_{output}", item.name);
        lowering.layers.push(LayerSpec::From(FromSpec { layer: read.clone() }));
        let (layer, shape) = match input.shape {
            Shape::Sequence { .. } if over_time => {
                let place = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
                let spec = SliceSpec { name, start: place(start), end: Some(place(end)), step: 1 };
                (LayerSpec::Slice(spec), Shape::Sequence { steps: Some(count), width })
            }
            shape => {
                let layer = LayerSpec::Channels(ChannelsSpec { name, start, count });
                let shape = match shape {
                    Shape::Sequence { steps, .. } => Shape::Sequence { steps, width: count },
                    _ => Shape::Row(count),
                };
                (layer, shape)
            }
        };
        lowering.layers.push(layer);
        made.push(lowering.value(index, output, item, (shape, false)));
        start = end;
    }
    Ok(made)
}

/// Sequences one after the other in time: each padded with zeros to the whole length, and their sum.
pub(super) fn concat_time(
    lowering: &mut KerasLowering,
    index: usize,
    item: &Item<'_>,
    inputs: &[NodeOutput],
) -> Result<NodeOutput> {
    let options = LayerOptions::new(item.name, item.class, item.config);
    let mut lengths = Vec::with_capacity(inputs.len());
    let mut widths = Vec::with_capacity(inputs.len());
    for input in inputs {
        match input.shape {
            Shape::Sequence { steps: Some(steps), width } if !input.masked => {
                lengths.push(steps);
                widths.push(width);
            }
            Shape::Sequence { steps: None, .. } => return Err(options.unsupported(shapes::OPEN_STEPS)),
            other => return Err(options.unsupported(&format!("{other} joined along time"))),
        }
    }
    let width = widths[0];
    if widths.iter().any(|&other| other != width) {
        return Err(options.unsupported(&join::different_widths(&widths)));
    }
    let whole: usize = lengths.iter().fold(0, |sum: usize, &steps| sum.saturating_add(steps));
    let place = |steps: usize| i64::try_from(steps).unwrap_or(i64::MAX);
    let mut before = 0;
    let mut names = Vec::with_capacity(inputs.len());
    for (number, (input, steps)) in inputs.iter().zip(lengths).enumerate() {
        let name = format!("{}_part{number}", item.name);
        let (left, right) = (place(before), place(whole - before - steps));
        let layer = lowering.name(input.source);
        let fixed = format!("{}_whole{number}", item.name);
        let (in_steps, out_steps) = (Some(steps), Some(steps));
        lowering.layers.extend([
            LayerSpec::From(FromSpec { layer }),
            // Sequences of another length are an error when they come.
            LayerSpec::Reshape(ReshapeSpec { name: fixed, in_steps, out_steps }),
            LayerSpec::Pad(PadSpec { name: name.clone(), left, right, mode: PadMode::Zeros }),
        ]);
        names.push(name);
        before += steps;
    }
    lowering.layers.push(LayerSpec::Join(JoinSpec { name: item.name.to_owned(), inputs: names, join: Join::Add }));
    Ok(lowering.value(index, 0, item, (Shape::Sequence { steps: Some(whole), width }, false)))
}

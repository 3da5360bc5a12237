//! Keras layers that only change a tensor's shape.

use serde_json::Value;

use super::layers::{Item, Lowered, Shape, sequence, steps};
use super::options::{LayerOptions, brief};
use crate::base::error::Result;
use crate::network::{LayerSpec, PadMode, PadSpec, RepeatSpec, ReshapeSpec, TransposeSpec};

/// What is refused where the number of timesteps must be fixed.
pub(super) const OPEN_STEPS: &str = "an open number of timesteps (give the model's input a fixed length)";

pub(super) fn lower(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    match item.class {
        "RepeatVector" => repeat(item, options, shape),
        "Flatten" => flatten(item, options, shape),
        "Reshape" => reshape(item, options, shape),
        "Permute" => permute(item, options, shape),
        "ZeroPadding1D" => pad(item, options, shape, ("padding", 1)),
        _ => pad(item, options, shape, ("cropping", -1)),
    }
}

fn repeat(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let Shape::Row(width) = shape else {
        return Err(options.unsupported(&format!("an input that is not one vector per row [B, N] but {shape}")));
    };
    let times = options.size("n")?;
    let layer = LayerSpec::Repeat(RepeatSpec { name: item.name.to_owned(), times });
    Ok(Lowered { layers: vec![layer], shape: Shape::Sequence { steps: Some(times), width } })
}

/// The numbers of a row, and T if there is a time dimension.
fn row(options: &LayerOptions<'_>, shape: Shape) -> Result<(usize, Option<usize>)> {
    match shape {
        Shape::Row(width) => Ok((width, None)),
        Shape::Sequence { steps: Some(steps), width } => Ok((steps.saturating_mul(width), Some(steps))),
        Shape::Sequence { .. } => Err(options.unsupported(OPEN_STEPS)),
        other => Err(options.unsupported(&format!("{other} as an input"))),
    }
}

fn flatten(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    options.only("data_format", &Value::from("channels_last"))?;
    let (numbers, in_steps) = row(options, shape)?;
    let spec = ReshapeSpec { name: item.name.to_owned(), in_steps, out_steps: None };
    let layers = in_steps.map(|_| LayerSpec::Reshape(spec)).into_iter().collect();
    Ok(Lowered { layers, shape: Shape::Row(numbers) })
}

fn reshape(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    reshape_to(item, options, (shape, "target_shape"), false)
}

/// The shape that option `key` says, with the rows first if `has_rows`.
pub(super) fn reshape_to(
    item: &Item<'_>,
    options: &LayerOptions<'_>,
    (shape, key): (Shape, &'static str),
    has_rows: bool,
) -> Result<Lowered> {
    let target = options.get(key).unwrap_or(&Value::Null);
    let sizes: Vec<i64> = target.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_i64).collect();
    let sizes = match sizes.split_first() {
        Some((-1, sizes)) if has_rows => sizes.to_vec(),
        _ if has_rows => return Err(options.unsupported(&format!("option `{key}` = {}", brief(target)))),
        _ => sizes,
    };
    // The number of timesteps may stay open where nothing changes.
    if let (Shape::Sequence { width, .. }, [-1, features]) = (shape, &sizes[..])
        && usize::try_from(*features) == Ok(width)
    {
        return Ok(Lowered { layers: Vec::new(), shape });
    }
    let (numbers, in_steps) = row(options, shape)?;
    let known = sizes.iter().filter(|&&size| size != -1).try_fold(1usize, |product, &size| {
        usize::try_from(size).ok().and_then(|size| product.checked_mul(size)).filter(|&product| product > 0)
    });
    let open = sizes.iter().filter(|&&size| size == -1).count();
    let wrong = || options.wrong(key, &format!("a shape of the {numbers} numbers of a row"), target);
    let known = known.filter(|known| if open == 1 { numbers.is_multiple_of(*known) } else { *known == numbers });
    let known = known.ok_or_else(wrong)?;
    let size = |size: i64| usize::try_from(size).unwrap_or(numbers / known);
    let (name, spec) = (item.name.to_owned(), |name, out_steps| ReshapeSpec { name, in_steps, out_steps });
    let (shape_out, out_steps) = match (&sizes[..], open) {
        (_, 2..) => return Err(wrong()),
        ([_], _) => (Shape::Row(numbers), None),
        (&[steps, width], _) => {
            let steps = size(steps);
            (Shape::Sequence { steps: Some(steps), width: size(width) }, Some(steps))
        }
        _ => return Err(options.unsupported(&format!("option `{key}` = {}", brief(target)))),
    };
    let layers = if shape_out == shape { Vec::new() } else { vec![LayerSpec::Reshape(spec(name, out_steps))] };
    Ok(Lowered { layers, shape: shape_out })
}

fn permute(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape) -> Result<Lowered> {
    let width = sequence(options, shape)?;
    let dims = options.get("dims").unwrap_or(&Value::Null);
    let order: Vec<i64> = dims.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_i64).collect();
    match (&order[..], steps(shape)) {
        ([1, 2], _) => Ok(Lowered { layers: Vec::new(), shape }),
        ([2, 1], Some(steps)) => {
            let layer = LayerSpec::Transpose(TransposeSpec { name: item.name.to_owned(), steps });
            Ok(Lowered { layers: vec![layer], shape: Shape::Sequence { steps: Some(width), width: steps } })
        }
        ([2, 1], None) => Err(options.unsupported(OPEN_STEPS)),
        _ => Err(options.unsupported(&format!("option `dims` = {}", brief(dims)))),
    }
}

/// Zeros around a sequence, or timesteps removed.
fn pad(item: &Item<'_>, options: &LayerOptions<'_>, shape: Shape, (key, sign): (&'static str, i64)) -> Result<Lowered> {
    let width = sequence(options, shape)?;
    options.only("data_format", &Value::from("channels_last"))?;
    let value = options.get(key).unwrap_or(&Value::Null);
    let sizes: Option<Vec<i64>> = match value {
        Value::Array(sides) => sides.iter().map(Value::as_i64).collect(),
        one => one.as_i64().map(|size| vec![size; 2]),
    };
    let sides = sizes.as_deref().filter(|sides| sides.iter().all(|&size| size >= 0));
    let Some(&[left, right]) = sides else {
        return Err(options.wrong(key, "one or two numbers of timesteps", value));
    };
    let steps = steps(shape).and_then(|steps| {
        let steps = i64::try_from(steps).ok()?.checked_add(left.checked_add(right)?.checked_mul(sign)?)?;
        usize::try_from(steps).ok()
    });
    let (name, mode) = (item.name.to_owned(), PadMode::Zeros);
    let layer = LayerSpec::Pad(PadSpec { name, left: sign * left, right: sign * right, mode });
    Ok(Lowered { layers: vec![layer], shape: Shape::Sequence { steps, width } })
}

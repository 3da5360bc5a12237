//! Parts of tensors as Keras models take them with `x[..]`.

use serde_json::Value;

use super::layers::{Item, Lowered, Shape};
use super::options::brief;
use crate::base::error::Result;
use crate::network::{ChannelsSpec, LayerSpec, ReshapeSpec, SelectSpec, SelectStep, SliceSpec};

/// Whether a class is a slice: Keras 3's operation, or the one that TensorFlow's layers record.
pub(super) fn is_slice(class: &str) -> bool {
    matches!(class, "GetItem" | "SlicingOpLambda")
}

/// The place that is kept of one axis.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// A new axis of size 1.
    New,
    /// `...`
    Rest,
    One(i64),
    Range {
        start: Option<i64>,
        stop: Option<i64>,
        step: Option<i64>,
    },
}

const ALL: Place = Place::Range { start: None, stop: None, step: None };

/// The layers of a slice of `shape`.
pub(super) fn lower(item: &Item<'_>, slices: Option<&Vec<Value>>, shape: Shape) -> Result<Lowered> {
    let Some(slices) = slices else {
        return Err(item.unsupported("a slice by a single index"));
    };
    let mut places: Vec<Place> = slices.iter().map(|slice| place(item, slice)).collect::<Result<_>>()?;
    let unsupported = || item.unsupported(&format!("slice {}", brief(&Value::from(slices.clone()))));
    let (rank, width): (usize, usize) = match shape {
        Shape::Sequence { width, .. } => (3, width),
        Shape::Row(width) => (2, width),
        other => return Err(item.unsupported(&format!("a slice of {other}"))),
    };
    // What is left out stands for whole axes.
    if let Some(at) = places.iter().position(|place| *place == Place::Rest) {
        let named = places.iter().filter(|place| !matches!(place, Place::Rest | Place::New)).count();
        let whole = rank.checked_sub(named).ok_or_else(unsupported)?;
        places.splice(at..=at, std::iter::repeat_n(ALL, whole));
    }
    if places.contains(&Place::New) {
        return new_axis(item, &places, shape).ok_or_else(unsupported);
    }
    if places.len() > rank || places.first().is_some_and(|batch| *batch != ALL) {
        return Err(unsupported());
    }
    let mut layers = Vec::new();
    let mut shape = shape;
    if let (Shape::Sequence { steps, width }, Some(time)) = (shape, places.get(1)) {
        let name = format!("{}_steps", item.name);
        shape = match *time {
            ALL => shape,
            Place::One(0) => {
                layers.push(LayerSpec::Select(SelectSpec { name, step: SelectStep::First }));
                Shape::Row(width)
            }
            Place::One(-1) => {
                layers.push(LayerSpec::Select(SelectSpec { name, step: SelectStep::Last }));
                Shape::Row(width)
            }
            Place::One(at) => {
                let end = if at == -1 { None } else { at.checked_add(1) };
                layers.push(LayerSpec::Slice(SliceSpec { name, start: at, end, step: 1 }));
                let (name, in_steps) = (format!("{}_row", item.name), Some(1));
                layers.push(LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps: None }));
                Shape::Row(width)
            }
            Place::Range { start, stop, step } => {
                let step = usize::try_from(step.unwrap_or(1)).ok().filter(|&step| step > 0).ok_or_else(unsupported)?;
                let (start, end) = (start.unwrap_or(0), stop);
                layers.push(LayerSpec::Slice(SliceSpec { name, start, end, step }));
                // The first or the last timestep is one of any number.
                let of_any = (matches!((start, end), (0, Some(1)) | (-1, None))).then_some(1);
                let kept = steps.map_or(of_any, |steps| {
                    let steps = i64::try_from(steps).ok()?;
                    let at = |place: i64| if place < 0 { (place + steps).max(0) } else { place.min(steps) };
                    usize::try_from(at(end.unwrap_or(steps)) - at(start)).ok().map(|kept| kept.div_ceil(step))
                });
                Shape::Sequence { steps: kept, width }
            }
            Place::New | Place::Rest => return Err(unsupported()),
        };
    }
    if let Some(features) = places.get(rank - 1).filter(|_| rank == places.len()) {
        let len = i64::try_from(width).unwrap_or(i64::MAX);
        let (start, stop, one) = match *features {
            Place::One(at) if (-len..len).contains(&at) => {
                let at = if at < 0 { at + len } else { at };
                (Some(at), Some(at + 1), true)
            }
            Place::Range { start, stop, step: None | Some(1) } => (start, stop, false),
            _ => return Err(unsupported()),
        };
        let at = |place: i64| if place < 0 { (place + len).max(0) } else { place.min(len) };
        let [start, stop] = [at(start.unwrap_or(0)), at(stop.unwrap_or(len))];
        let (Ok(start), Ok(count)) = (usize::try_from(start), usize::try_from(stop - start)) else {
            return Err(unsupported());
        };
        if count < width {
            let name = format!("{}_features", item.name);
            layers.push(LayerSpec::Channels(ChannelsSpec { name, start, count }));
            shape = match shape {
                Shape::Sequence { steps, .. } => Shape::Sequence { steps, width: count },
                _ => Shape::Row(count),
            };
        }
        if let (true, Shape::Sequence { steps, .. }) = (one, shape) {
            shape = Shape::Steps(steps);
        }
    }
    Ok(Lowered { layers, shape })
}

/// Rows with a new axis: `x[:, None, :]`, one timestep; `x[:, :, None]`, as many timesteps of one feature.
fn new_axis(item: &Item<'_>, places: &[Place], shape: Shape) -> Option<Lowered> {
    let Shape::Row(width) = shape else { return None };
    let (steps, width) = match places {
        [ALL, Place::New] | [ALL, Place::New, ALL] => (1, width),
        [ALL, ALL, Place::New] => (width, 1),
        _ => return None,
    };
    let spec = ReshapeSpec { name: format!("{}_row", item.name), in_steps: None, out_steps: Some(steps) };
    Some(Lowered { layers: vec![LayerSpec::Reshape(spec)], shape: Shape::Sequence { steps: Some(steps), width } })
}

/// A number, or a slice as Keras 3 (`{"class_name": "__slice__", "config": {..}}`) or Keras 2 (`{"start": .., ..}`) writes it.
fn place(item: &Item<'_>, value: &Value) -> Result<Place> {
    if let Some(at) = value.as_i64() {
        return Ok(Place::One(at));
    }
    if value.is_null() {
        return Ok(Place::New);
    }
    if value.get("class_name").is_some_and(|class| class == "__ellipsis__") {
        return Ok(Place::Rest);
    }
    if value.get("class_name").is_some_and(|class| class != "__slice__") {
        return Err(item.unsupported(&format!("slice by {}", brief(value))));
    }
    let fields = value.get("config").unwrap_or(value);
    let number = |key: &str| match fields.get(key) {
        Some(Value::Null) | None => Ok(None),
        Some(number) => number.as_i64().map(Some).ok_or(()),
    };
    let complete = ["start", "stop", "step"].iter().all(|key| fields.get(*key).is_some());
    match (complete, number("start"), number("stop"), number("step")) {
        (true, Ok(start), Ok(stop), Ok(step)) => Ok(Place::Range { start, stop, step }),
        _ => Err(item.unsupported(&format!("slice by {}", brief(value)))),
    }
}

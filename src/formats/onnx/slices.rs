//! Operators that take a part of a tensor.

use super::array::Array;
use super::constants::{resolve_axis, slice_range};
use super::expression::Expression;
use super::graph::OnnxNode;
use super::shapes::{constant, dim_to_int};
use super::unrolled::TakenStep;
use super::value::{AxisLabel, Dim, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::{Error, Result};
use crate::network::{LayerSpec, NamedSpec, SelectStep};

/// A gather may not grow a constant beyond this many elements more than it had.
const SMALL: usize = 4096;

impl Walk<'_> {
    /// Axis, start, end and step of every part of a Slice of `rank` axes.
    pub fn slices(&self, node: &OnnxNode, rank: usize) -> Result<Vec<(usize, i64, i64, i64)>> {
        node.allow(&["axes", "starts", "ends"])?;
        let need = |found: Option<Vec<i64>>, what: &str| found.ok_or_else(|| node.malformed(what, "none"));
        let starts = need(self.integers(node, "starts", 1)?, "starts")?;
        let ends = need(self.integers(node, "ends", 2)?, "ends")?;
        let axes = self.integers(node, "axes", 3)?.unwrap_or_else(|| (0..).take(starts.len()).collect());
        let steps = self.integers(node, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(node.malformed(
                "as many starts, ends, axes and steps",
                format!("{starts:?}, {ends:?}, {axes:?}, {steps:?}"),
            ));
        }
        let axes = axes.iter().map(|&axis| resolve_axis(node, axis, rank)).collect::<Result<Vec<_>>>()?;
        if (1..axes.len()).any(|at| axes[..at].contains(&axes[at])) {
            return Err(node.malformed("axes that differ", format!("{axes:?}")));
        }
        Ok(axes.into_iter().enumerate().map(|(at, axis)| (axis, starts[at], ends[at], steps[at])).collect())
    }

    pub fn slice(&mut self, node: &OnnxNode, mut value: Value, rank: usize) -> Result<Value> {
        for (axis, start, end, step) in self.slices(node, rank)? {
            value = self.slice_axis(node, value, axis, (start, end, step))?;
        }
        Ok(value)
    }

    fn slice_axis(
        &mut self,
        node: &OnnxNode,
        value: Value,
        axis: usize,
        (start, end, step): (i64, i64, i64),
    ) -> Result<Value> {
        let bad = || node.unsupported(format!("slice {start}:{end}:{step}"));
        let range = |size: usize| {
            let (first, count, step) = slice_range(size, start, end, step).ok_or_else(bad)?;
            let at = |i: usize| {
                let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
                let offset = i.saturating_mul(stride);
                if step > 0 { first + offset } else { first - offset }
            };
            Ok((0..count).map(at).collect::<Vec<usize>>())
        };
        match value {
            Value::Constant(array) => {
                let picked = range(array.shape[axis])?;
                Ok(constant(array.take(axis, &picked)))
            }
            Value::Dims { dims, scalar } => {
                let dims = range(dims.len())?.into_iter().map(|i| dims[i]).collect();
                Ok(Value::Dims { dims, scalar })
            }
            Value::Tensor(tensor) => self.slice_tensor(node, tensor, axis, (start, end, step), &range),
            _ => Err(bad()),
        }
    }

    fn slice_tensor(
        &mut self,
        node: &OnnxNode,
        mut tensor: LabelledTensor,
        axis: usize,
        (start, end, step): (i64, i64, i64),
        range: &dyn Fn(usize) -> Result<Vec<usize>>,
    ) -> Result<Value> {
        let size = tensor.dims(self.batch)[axis];
        let beyond = |size: Dim| end >= i64::from(i32::MAX) || dim_to_int(size).is_some_and(|n| n >= 0 && end >= n);
        if start == 0 && step == 1 && beyond(size) {
            return Ok(Value::Tensor(tensor));
        }
        match (tensor.axes[axis], size) {
            (AxisLabel::Direction, Dim::Known(count)) => {
                let picked = range(count)?;
                tensor.axes[axis] = if picked.len() == 1 { AxisLabel::Unit } else { AxisLabel::Direction };
                if let Of::Directions { rows, .. } = &mut tensor.of {
                    *rows = picked.iter().map(|&i| rows[i]).collect();
                }
                if tensor.directions() == 0 {
                    Err(node.unsupported("an empty slice"))
                } else {
                    Ok(Value::Tensor(tensor))
                }
            }
            (AxisLabel::Channel, Dim::Known(count)) => {
                let picked = range(count)?;
                let x = self.settle(node, &tensor)?;
                self.channels(node, &tensor, x, &picked)
            }
            (AxisLabel::Head, Dim::Known(count)) => match range(count)?[..] {
                [first, ..] if step == 1 => {
                    let parts = (axis, first, range(count)?.len());
                    Ok(Value::Tensor(self.some_parts(node, tensor, parts)?))
                }
                _ => Err(bad_parts(node)),
            },
            (AxisLabel::Time, Dim::Known(count)) if step == -1 && range(count)?.into_iter().eq((0..count).rev()) => {
                self.reversed(node, &tensor)
            }
            (AxisLabel::Time, size) if step == -1 && !matches!(size, Dim::Known(_)) && whole_reverse(start, end) => {
                self.reversed(node, &tensor)
            }
            (AxisLabel::Time, _) => {
                let one = match size {
                    Dim::Known(count) => match range(count)?[..] {
                        [0] => Some(0),
                        [at] if at + 1 == count => Some(-1),
                        _ => None,
                    },
                    _ if start == 0 && end == 1 => Some(0),
                    _ if start == -1 && end >= i64::from(i32::MAX) => Some(-1),
                    _ => None,
                };
                let Some(step) = one else {
                    let picked = if let Dim::Known(count) = size { range(count)? } else { Vec::new() };
                    let (&[at], Dim::Known(steps)) = (&picked[..], size) else {
                        return self.slice_of_time(node, &tensor, (start, end, step));
                    };
                    let x = self.settle(node, &tensor)?;
                    let id = self.single_step(node, x, at, steps)?;
                    tensor.axes[axis] = AxisLabel::Unit;
                    return Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), ..tensor }));
                };
                let mut taken = self.step_of(node, tensor, axis, step)?;
                taken.axes.insert(axis, AxisLabel::Unit);
                Ok(Value::Tensor(taken))
            }
            (AxisLabel::Unit, _) if range(1)? == [0] => Ok(Value::Tensor(tensor)),
            (other, _) => Err(node.unsupported(format!("a slice of the axis {other}"))),
        }
    }

    pub fn reversed(&mut self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<Value> {
        let id = self.settle(node, tensor)?;
        let read = self.build.emit(id)?;
        let width = self.build.expressions.facts(id).width;
        // Turned twice is as it was.
        if let Some(before) = self.build.reversal_of(&read) {
            let id = self.build.expressions.add(&node.name, Expression::Layer(before), width, true)?;
            return Ok(self.like(tensor, id));
        }
        let name = self.build.unique(&node.name);
        let layer = LayerSpec::Reverse(NamedSpec { name: name.clone() });
        let id = self.build.layer(&read, &name, layer, width, true)?;
        Ok(self.like(tensor, id))
    }

    /// Each row's first steps in reverse; here all of them.
    pub fn reverse_sequence(&mut self, node: &OnnxNode) -> Result<Value> {
        let tensor = self.tensor(node, 0)?;
        self.whole_reversal(node, &tensor)?;
        self.reversed(node, &tensor)
    }

    /// An error unless a ReverseSequence turns all timesteps of `tensor`.
    pub fn whole_reversal(&self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<()> {
        node.allow(&["batch_axis", "time_axis"])?;
        let rank = tensor.axes.len();
        let time = resolve_axis(node, node.int("time_axis", 0)?, rank)?;
        let batch = resolve_axis(node, node.int("batch_axis", 1)?, rank)?;
        if tensor.axes[time] != AxisLabel::Time || !matches!(tensor.axes[batch], AxisLabel::Batch | AxisLabel::Unit) {
            return Err(node.unsupported(format!("a reversal of the axes {}", words::shape(&tensor.axes))));
        }
        let whole = match self.value(node, 1)? {
            Value::Size(size) => size == tensor.steps && size != Dim::Any,
            Value::Constant(array) => array
                .as_ints()
                .is_some_and(|all| all.iter().all(|&n| usize::try_from(n).map(Dim::Known) == Ok(tensor.steps))),
            _ => false,
        };
        if !whole {
            return Err(node.unsupported("lengths other than T in every row"));
        }
        Ok(())
    }

    /// A timestep, 0 or -1, whose axis goes.
    fn step_of(
        &mut self,
        node: &OnnxNode,
        mut tensor: LabelledTensor,
        axis: usize,
        step: i64,
    ) -> Result<LabelledTensor> {
        let step_name = if step == 0 { SelectStep::First } else { SelectStep::Last };
        let id = self.settle(node, &tensor)?;
        let width = self.build.expressions.facts(id).width;
        let read = self.build.emit(id)?;
        let row = self.select(&read, width, step_name)?;
        if let Dim::Known(steps) = tensor.steps {
            let at = if step == 0 { 0 } else { steps.saturating_sub(1) };
            self.taken.insert(row, TakenStep { sequence: id, at, steps });
        }
        tensor.of = Of::Expression(row);
        tensor.axes.remove(axis);
        Ok(tensor)
    }

    /// Some channels of `x` that lie side by side.
    fn channels(&mut self, node: &OnnxNode, tensor: &LabelledTensor, x: usize, picked: &[usize]) -> Result<Value> {
        let Some(&start) = picked.first().filter(|&&first| picked.iter().copied().eq(first..first + picked.len()))
        else {
            return Err(node.unsupported("channels that do not lie side by side"));
        };
        let sequence = self.build.expressions.facts(x).sequence;
        let count = picked.len();
        let part = Expression::Channels { x, start, count };
        let id = self.build.expressions.add(&node.name, part, count, sequence)?;
        Ok(self.like(tensor, id))
    }

    pub fn split(&mut self, node: &OnnxNode, value: &Value, rank: usize) -> Result<Vec<Value>> {
        node.allow(&["axis", "split", "num_outputs"])?;
        let axis = resolve_axis(node, node.int("axis", 0)?, rank)?;
        let size = match value {
            Value::Constant(array) => Dim::Known(array.shape[axis]),
            Value::Tensor(tensor) => tensor.dims(self.batch)[axis],
            _ => return Err(node.unsupported("a split of sizes")),
        };
        let Dim::Known(size) = size else { return Err(node.unsupported("a split of an axis of unknown size")) };
        let mut start = 0;
        let mut parts = Vec::with_capacity(node.outputs.len());
        for n in self.parts(node, size)? {
            parts.push(self.slice_axis(node, value.clone(), axis, (start, start + n, 1))?);
            start += n;
        }
        Ok(parts)
    }

    /// The sizes of the parts of a Split of an axis of `size`.
    pub fn parts(&self, node: &OnnxNode, size: usize) -> Result<Vec<i64>> {
        let count = node.outputs.len();
        if node.has("num_outputs") && i64::try_from(count) != Ok(node.int("num_outputs", 0)?) {
            return Err(node.malformed(format!("num_outputs {count}"), node.int("num_outputs", 0)?.to_string()));
        }
        let sizes = match self.integers(node, "split", 1)? {
            Some(sizes) => sizes,
            None if size.is_multiple_of(count.max(1)) => vec![i64::try_from(size / count.max(1)).unwrap_or(0); count],
            None => return Err(node.unsupported(format!("{size} in {count} parts"))),
        };
        if sizes.len() != count
            || sizes.iter().try_fold(0i64, |sum, &n| sum.checked_add(n.max(0))) != i64::try_from(size).ok()
        {
            return Err(node.malformed(format!("{count} parts of {size}"), format!("{sizes:?}")));
        }
        Ok(sizes)
    }

    pub fn gather(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis"])?;
        if let Value::Tensor(LabelledTensor { of: Of::Tokens(_), .. }) = self.value(node, 1)? {
            return self.embedding(node);
        }
        let data = self.value(node, 0)?;
        let indices = self.constant(node, 1)?;
        let Some(ints) = indices.as_ints() else { return Err(node.malformed("integer indices", "floats")) };
        let single = indices.shape.is_empty().then(|| ints[0]);
        let rank = match &data {
            Value::Constant(array) => array.shape.len(),
            Value::Tensor(tensor) => tensor.axes.len(),
            Value::State { dims: Some(dims), .. }
            | Value::Fill { dims: Some(dims), .. }
            | Value::Spread { dims, .. } => dims.len(),
            Value::State { dims: None, .. } => return self.state(&node.outputs[0], None, None),
            Value::States(ids) => return Ok(Value::States(ids.clone())),
            Value::Fill { value, dims: None } => return Ok(Value::Fill { value: *value, dims: None }),
            Value::Lengths | Value::LastSteps { .. } | Value::Size(_) => {
                return Err(node.unsupported("one of the lengths"));
            }
            Value::RowNumbers { .. } | Value::LastPlaces(_) | Value::RowOrder { .. } => {
                return Err(node.unsupported("one of the rows' numbers"));
            }
            Value::Dims { .. } => 1,
        };
        let axis = resolve_axis(node, node.int("axis", 0)?, rank)?;
        match data {
            Value::Constant(array) => {
                let size = array.shape[axis];
                let picked = ints.iter().map(|&i| resolve_axis(node, i, size)).collect::<Result<Vec<_>>>()?;
                let grown = (array.len() / size.max(1)).saturating_mul(picked.len());
                if grown > array.len().max(SMALL) {
                    return Err(node.unsupported("a gather that makes a constant larger"));
                }
                let mut taken = array.take(axis, &picked);
                taken.shape.splice(axis..=axis, indices.shape.iter().copied());
                Ok(constant(taken))
            }
            Value::Dims { dims, .. } => {
                if indices.shape.len() > 1 {
                    return Err(node.malformed("indices of at most one axis", format!("{:?}", indices.shape)));
                }
                let picked =
                    ints.iter().map(|&i| Ok(dims[resolve_axis(node, i, dims.len())?])).collect::<Result<_>>()?;
                Ok(Value::Dims { dims: picked, scalar: single.is_some() })
            }
            Value::Tensor(mut tensor) => match (tensor.axes[axis], single) {
                (AxisLabel::Direction, Some(index)) => {
                    if let Of::Directions { rows, .. } = &mut tensor.of {
                        *rows = vec![rows[resolve_axis(node, index, rows.len())?]];
                    }
                    tensor.axes.remove(axis);
                    Ok(Value::Tensor(tensor))
                }
                (AxisLabel::Stack, Some(index)) => {
                    let stacked = tensor.stacked();
                    let at = resolve_axis(node, index, stacked)?;
                    if let Of::Directions { rows, .. } = &mut tensor.of {
                        let each = rows.len() / stacked.max(1);
                        *rows = rows[at * each..][..each].to_vec();
                    }
                    tensor.axes.remove(axis);
                    if tensor.directions() == 1 {
                        tensor
                            .axes
                            .iter_mut()
                            .filter(|a| **a == AxisLabel::Direction)
                            .for_each(|a| *a = AxisLabel::Unit);
                    }
                    Ok(Value::Tensor(tensor))
                }
                (AxisLabel::Head, Some(index)) => {
                    let at = resolve_axis(node, index, tensor.heads())?;
                    let mut part = self.some_parts(node, tensor, (axis, at, 1))?;
                    part.axes.remove(axis);
                    Ok(Value::Tensor(part))
                }
                (AxisLabel::Batch, Some(index)) => {
                    self.only_row(node, index)?;
                    tensor.axes.remove(axis);
                    Ok(Value::Tensor(tensor))
                }
                (AxisLabel::Unit, Some(0 | -1)) => {
                    tensor.axes.remove(axis);
                    Ok(Value::Tensor(tensor))
                }
                (AxisLabel::Time, Some(index)) => {
                    let last = |n: usize| i64::try_from(n) == Ok(index.saturating_add(1));
                    let step = match (index, tensor.steps) {
                        (0 | -1, _) => index,
                        (_, Dim::Known(n)) if last(n) => -1,
                        (index, Dim::Known(steps)) => {
                            let at = resolve_axis(node, index, steps)?;
                            let x = self.settle(node, &tensor)?;
                            let id = self.single_step(node, x, at, steps)?;
                            tensor.axes.remove(axis);
                            return Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), ..tensor }));
                        }
                        _ => return Err(node.unsupported(format!("timestep {index}"))),
                    };
                    Ok(Value::Tensor(self.step_of(node, tensor, axis, step)?))
                }
                (other, _) => Err(node.unsupported(format!("a gather along the axis {other}"))),
            },
            Value::Spread { array, dims } => {
                let size = array.shape[axis];
                let Some(index) = single.filter(|_| dims[axis] == Dim::Known(size)) else {
                    return Err(node.unsupported("a gather of a constant that is repeated"));
                };
                let mut taken = array.take(axis, &[resolve_axis(node, index, size)?]);
                taken.shape.remove(axis);
                let dims = gathered(node, dims, axis, &indices)?;
                Ok(Value::Spread { array: std::rc::Rc::new(taken), dims })
            }
            Value::Fill { value, dims: Some(dims) } => {
                Ok(Value::Fill { value, dims: Some(gathered(node, dims, axis, &indices)?) })
            }
            Value::State { id, dims: Some(dims) } => {
                let index = match (single, dims[axis]) {
                    (Some(index), Dim::Known(size)) => Some(resolve_axis(node, index, size)?),
                    _ => None,
                };
                let rows = self.gathered_row(id, axis, index);
                let dims = gathered(node, dims, axis, &indices)?;
                self.state(&node.outputs[0], Some(dims), rows)
            }
            _ => Err(node.unsupported("a gather of this value")),
        }
    }
}

fn bad_parts(node: &OnnxNode) -> Error {
    node.unsupported("parts of the channels that do not lie side by side")
}

/// The sizes of a gather along `axis`.
fn gathered(node: &OnnxNode, mut dims: Vec<Dim>, axis: usize, indices: &Array) -> Result<Vec<Dim>> {
    if let Dim::Known(size) = dims[axis] {
        for &index in indices.as_ints().unwrap_or_default() {
            resolve_axis(node, index, size)?;
        }
    }
    dims.splice(axis..=axis, indices.shape.iter().map(|&n| Dim::Known(n)));
    Ok(dims)
}

/// Whether a slice with a step of -1 goes through an axis of any size.
fn whole_reverse(start: i64, end: i64) -> bool {
    (start == -1 || start >= i64::from(i32::MAX)) && end <= -i64::from(i32::MAX)
}

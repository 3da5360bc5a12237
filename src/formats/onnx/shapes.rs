//! Operators that move axes and compute sizes.

use std::rc::Rc;

use super::array::{Array, Data};
use super::constants::{resolve_axis, slice_range};
use super::expression::Expression;
use super::graph::Node;
use super::value::{Axis, Dim, Of, Tensor, Value, product};
use super::walk::Walk;
use crate::error::Result;
use crate::network::{Join, LayerSpec, NamedSpec, SelectStep};

/// Copies of constants may not grow beyond this many elements more than they had.
const SMALL: usize = 4096;

impl Walk<'_> {
    /// The operators of this room; `None` for others.
    pub fn shape_operator(&mut self, node: &Node) -> Result<Option<Vec<Value>>> {
        let value = match node.op.as_str() {
            "Shape" => self.shape(node)?,
            "ConstantOfShape" => self.constant_of_shape(node)?,
            "Expand" => self.expand(node)?,
            "Concat" => self.concat(node)?,
            "Gather" => self.gather(node)?,
            "ReduceProd" => {
                node.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
                let dims = self.dims(node, 0)?;
                let all = dims.into_iter().fold(Dim::Known(1), product);
                Value::Dims { dims: vec![all], scalar: node.int("keepdims", 1) == 0 }
            }
            "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" | "Slice" | "Split" => {
                let value = self.value(node, 0)?;
                return self.move_axes(node, value).map(Some);
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![value]))
    }

    fn move_axes(&mut self, node: &Node, value: Value) -> Result<Vec<Value>> {
        let all = |value: Value| Ok(vec![value; node.outputs.len().max(1)]);
        match value {
            Value::Lengths => return all(Value::Lengths),
            Value::States(ids) => return all(Value::States(ids)),
            Value::State(_) => return node.outputs.iter().map(|output| self.state(output)).collect(),
            Value::Fill { value, .. } => return all(Value::Fill { value, dims: None }),
            _ => {}
        }
        let rank = match &value {
            Value::Constant(array) => array.shape.len(),
            Value::Tensor(tensor) => tensor.axes.len(),
            _ => 1,
        };
        let moved = match (node.op.as_str(), value) {
            ("Transpose", value) => {
                node.allow(&["perm"])?;
                let order = match node.ints("perm") {
                    Some(perm) => perm.iter().map(|&p| resolve_axis(node, p, rank)).collect::<Result<Vec<_>>>()?,
                    None => (0..rank).rev().collect(),
                };
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..rank) {
                    return Err(node.malformed(format!("an order of {rank} axes"), format!("{order:?}")));
                }
                match value {
                    Value::Constant(array) => constant(array.permuted(&order)),
                    Value::Tensor(mut tensor) => {
                        tensor.axes = order.iter().map(|&axis| tensor.axes[axis]).collect();
                        Value::Tensor(tensor)
                    }
                    other => other,
                }
            }
            ("Squeeze", value) => self.squeeze(node, value, rank)?,
            ("Unsqueeze", value) => self.unsqueeze(node, value, rank)?,
            ("Reshape", value) => {
                node.allow(&["allowzero"])?;
                let target = self.dims(node, 1)?;
                self.reshape(node, value, &target)?
            }
            ("Flatten", value) => {
                node.allow(&["axis"])?;
                let axis = node.int("axis", 1);
                if axis != 1 || rank != 2 {
                    return Err(node.unsupported(format!("axis {axis} of {rank} axes")));
                }
                value
            }
            ("Split", value) => return self.split(node, &value, rank),
            (_, value) => self.slice(node, value, rank)?,
        };
        Ok(vec![moved])
    }

    fn squeeze(&self, node: &Node, value: Value, rank: usize) -> Result<Value> {
        node.allow(&["axes"])?;
        let axes = self.integers(node, "axes", 1)?;
        let sizes = match &value {
            Value::Constant(array) => array.shape.iter().map(|&n| Dim::Known(n)).collect(),
            Value::Tensor(tensor) => tensor.dims(self.batch),
            _ => vec![Dim::Known(1)],
        };
        let gone: Vec<usize> = match axes {
            Some(axes) => axes.iter().map(|&a| resolve_axis(node, a, rank)).collect::<Result<_>>()?,
            None => (0..rank).filter(|&at| sizes[at] == Dim::Known(1)).collect(),
        };
        if let Some(&at) = gone.iter().find(|&&at| sizes[at] != Dim::Known(1)) {
            return Err(node.unsupported(format!("axis {at}, whose size is {:?} instead of 1", sizes[at])));
        }
        let keep: Vec<usize> = (0..rank).filter(|at| !gone.contains(at)).collect();
        Ok(match value {
            Value::Constant(array) => {
                let shape = keep.iter().map(|&at| array.shape[at]).collect();
                constant(Array { shape, data: array.data.clone() })
            }
            Value::Tensor(mut tensor) => {
                let old = std::mem::take(&mut tensor.axes);
                if gone.iter().any(|&at| old[at] == Axis::Channel) {
                    return Err(node.unsupported("squeezing the channels away"));
                }
                tensor.axes = keep.iter().map(|&at| old[at]).collect();
                Value::Tensor(tensor)
            }
            Value::Dims { dims, .. } => Value::Dims { dims, scalar: true },
            other => other,
        })
    }

    fn unsqueeze(&self, node: &Node, value: Value, rank: usize) -> Result<Value> {
        node.allow(&["axes"])?;
        let axes = self.integers(node, "axes", 1)?.ok_or_else(|| node.malformed("axes", "none"))?;
        let rank = if matches!(value, Value::Dims { scalar: true, .. }) { 0 } else { rank };
        let mut new = axes.iter().map(|&a| resolve_axis(node, a, rank + axes.len())).collect::<Result<Vec<_>>>()?;
        new.sort_unstable();
        Ok(match value {
            Value::Constant(array) => {
                let mut shape = array.shape.clone();
                new.iter().for_each(|&at| shape.insert(at.min(shape.len()), 1));
                constant(Array { shape, data: array.data.clone() })
            }
            Value::Tensor(mut tensor) => {
                new.iter().for_each(|&at| tensor.axes.insert(at.min(tensor.axes.len()), Axis::Unit));
                Value::Tensor(tensor)
            }
            Value::Dims { dims, scalar: true } if new.len() == 1 => Value::Dims { dims, scalar: false },
            _ => return Err(node.unsupported("sizes in several axes")),
        })
    }

    fn reshape(&self, node: &Node, value: Value, target: &[Dim]) -> Result<Value> {
        match value {
            Value::Constant(array) => {
                let sizes = target.iter().map(|d| dim_to_int(*d)).collect::<Option<Vec<_>>>();
                let sizes = sizes.ok_or_else(|| node.unsupported("a constant in a shape that depends on the input"))?;
                Ok(constant(array.reshaped(node, &sizes, node.int("allowzero", 0) != 0)?))
            }
            Value::Tensor(mut tensor) => {
                let axes = regrouped(&tensor, self.batch, target);
                let Some(axes) = axes else {
                    let from = (&tensor.axes, tensor.dims(self.batch));
                    return Err(node.unsupported(format!("a reshape of {from:?} to {target:?}")));
                };
                if tensor.position(Axis::Direction).is_some()
                    && !axes.contains(&Axis::Direction)
                    && tensor.directions() > 1
                {
                    tensor.width *= tensor.directions();
                }
                tensor.axes = axes;
                Ok(Value::Tensor(tensor))
            }
            other => match target {
                [_] => Ok(other),
                _ => Err(node.unsupported("a reshape of sizes")),
            },
        }
    }

    fn slice(&mut self, node: &Node, value: Value, rank: usize) -> Result<Value> {
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
        let mut value = value;
        for (at, axis) in axes.into_iter().enumerate() {
            let axis = resolve_axis(node, axis, rank)?;
            value = self.slice_axis(node, value, axis, (starts[at], ends[at], steps[at]))?;
        }
        Ok(value)
    }

    fn slice_axis(
        &mut self,
        node: &Node,
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
        node: &Node,
        mut tensor: Tensor,
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
            (Axis::Direction, Dim::Known(count)) => {
                let picked = range(count)?;
                tensor.axes[axis] = if picked.len() == 1 { Axis::Unit } else { Axis::Direction };
                if let Of::Directions { rows, .. } = &mut tensor.of {
                    *rows = picked.iter().map(|&i| rows[i]).collect();
                }
                if tensor.directions() == 0 {
                    Err(node.unsupported("an empty slice"))
                } else {
                    Ok(Value::Tensor(tensor))
                }
            }
            (Axis::Channel, Dim::Known(count)) => {
                let picked = range(count)?;
                let x = self.settle(node, &tensor)?;
                self.channels(node, &tensor, x, &picked)
            }
            (Axis::Time, _) if step == -1 && (start == -1 || Some(start) >= dim_to_int(size)) && end < -1 => {
                let id = self.settle(node, &tensor)?;
                let read = self.build.emit(id)?;
                let facts = self.build.expressions.facts(id).clone();
                let name = self.build.unique(&node.name);
                let layer = LayerSpec::Reverse(NamedSpec { name: name.clone() });
                let id = self.build.layer(&read, &name, layer, facts.width, true)?;
                Ok(self.like(&tensor, id))
            }
            (Axis::Time, _) => {
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
                    return Err(node.unsupported("a slice of time other than the first or last step"));
                };
                let mut taken = self.step_of(node, tensor, axis, step)?;
                taken.axes.insert(axis, Axis::Unit);
                Ok(Value::Tensor(taken))
            }
            (Axis::Unit, _) if range(1)? == [0] => Ok(Value::Tensor(tensor)),
            (other, _) => Err(node.unsupported(format!("a slice of the axis {other:?}"))),
        }
    }

    /// A timestep, 0 or -1, whose axis goes.
    fn step_of(&mut self, node: &Node, mut tensor: Tensor, axis: usize, step: i64) -> Result<Tensor> {
        let wish = if step == 0 { SelectStep::First } else { SelectStep::Last };
        let id = self.settle(node, &tensor)?;
        let width = self.build.expressions.facts(id).width;
        let read = self.build.emit(id)?;
        tensor.of = Of::Expression(self.select(&read, width, wish)?);
        tensor.axes.remove(axis);
        Ok(tensor)
    }

    /// Some channels of `x` that lie side by side.
    fn channels(&mut self, node: &Node, tensor: &Tensor, x: usize, picked: &[usize]) -> Result<Value> {
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

    fn split(&mut self, node: &Node, value: &Value, rank: usize) -> Result<Vec<Value>> {
        node.allow(&["axis", "split", "num_outputs"])?;
        let axis = resolve_axis(node, node.int("axis", 0), rank)?;
        let size = match value {
            Value::Constant(array) => Dim::Known(array.shape[axis]),
            Value::Tensor(tensor) => tensor.dims(self.batch)[axis],
            _ => return Err(node.unsupported("a split of sizes")),
        };
        let count = node.outputs.len();
        let Dim::Known(size) = size else { return Err(node.unsupported("a split of an axis of unknown size")) };
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
        let mut start = 0;
        let mut parts = Vec::with_capacity(count);
        for n in sizes {
            parts.push(self.slice_axis(node, value.clone(), axis, (start, start + n, 1))?);
            start += n;
        }
        Ok(parts)
    }

    fn shape(&self, node: &Node) -> Result<Value> {
        node.allow(&["start", "end"])?;
        let dims = match self.value(node, 0)? {
            Value::Constant(array) => array.shape.iter().map(|&n| Dim::Known(n)).collect(),
            Value::Tensor(tensor) => tensor.dims(self.batch),
            Value::Fill { dims: Some(dims), .. } => dims,
            Value::State(_) => vec![Dim::Any; 3],
            _ => return Err(node.unsupported("the shape of this value")),
        };
        let (first, count, _) = slice_range(dims.len(), node.int("start", 0), node.int("end", i64::MAX), 1)
            .ok_or_else(|| node.unsupported("these sizes"))?;
        Ok(Value::Dims { dims: dims[first..first + count].to_vec(), scalar: false })
    }

    /// Integers that may depend on sizes.
    pub fn dims(&self, node: &Node, index: usize) -> Result<Vec<Dim>> {
        match self.value(node, index)? {
            Value::Dims { dims, .. } => Ok(dims),
            Value::Constant(array) => {
                let dim = |&n: &i64| usize::try_from(n).map_or(Dim::Below(n), Dim::Known);
                let ints = array.as_ints().ok_or_else(|| node.unsupported("floats as sizes"))?;
                Ok(ints.iter().map(dim).collect())
            }
            _ => Err(node.unsupported(format!("input {index} as sizes"))),
        }
    }

    fn constant_of_shape(&self, node: &Node) -> Result<Value> {
        node.allow(&["value"])?;
        let value = node.tensor("value")?.map_or(Some(0.0), |array| array.scalar());
        let value = value.ok_or_else(|| node.malformed("one number", "several"))?;
        Ok(Value::Fill { value, dims: Some(self.dims(node, 0)?) })
    }

    fn expand(&self, node: &Node) -> Result<Value> {
        node.allow(&[])?;
        let dims = Some(self.dims(node, 1)?);
        match self.value(node, 0)? {
            Value::Fill { value, .. } => Ok(Value::Fill { value, dims }),
            Value::Constant(array) => match array.as_floats() {
                Some([value, rest @ ..]) if rest.iter().all(|x| x == value) => Ok(Value::Fill { value: *value, dims }),
                _ => Err(node.unsupported("an expansion of different numbers")),
            },
            _ => Err(node.unsupported("an expansion of what is no constant")),
        }
    }

    fn gather(&mut self, node: &Node) -> Result<Value> {
        node.allow(&["axis"])?;
        if let Value::Tensor(Tensor { of: Of::Tokens, .. }) = self.value(node, 1)? {
            return self.embedding(node);
        }
        let data = self.value(node, 0)?;
        let indices = self.constant(node, 1)?;
        let Some(ints) = indices.as_ints() else { return Err(node.malformed("integer indices", "floats")) };
        let single = indices.shape.is_empty().then(|| ints[0]);
        let rank = match &data {
            Value::Constant(array) => array.shape.len(),
            Value::Tensor(tensor) => tensor.axes.len(),
            Value::State(_) => return self.state(&node.outputs[0]),
            Value::States(ids) => return Ok(Value::States(ids.clone())),
            Value::Fill { value, .. } => return Ok(Value::Fill { value: *value, dims: None }),
            Value::Lengths => return Err(node.unsupported("one of the lengths")),
            Value::Dims { .. } => 1,
        };
        let axis = resolve_axis(node, node.int("axis", 0), rank)?;
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
                let picked =
                    ints.iter().map(|&i| Ok(dims[resolve_axis(node, i, dims.len())?])).collect::<Result<_>>()?;
                Ok(Value::Dims { dims: picked, scalar: single.is_some() })
            }
            Value::Tensor(mut tensor) => match (tensor.axes[axis], single) {
                (Axis::Direction, Some(index)) => {
                    if let Of::Directions { rows, .. } = &mut tensor.of {
                        *rows = vec![rows[resolve_axis(node, index, rows.len())?]];
                    }
                    tensor.axes.remove(axis);
                    Ok(Value::Tensor(tensor))
                }
                (Axis::Unit, Some(0 | -1)) => {
                    tensor.axes.remove(axis);
                    Ok(Value::Tensor(tensor))
                }
                (Axis::Time, Some(index)) => {
                    let last = |n: usize| i64::try_from(n) == Ok(index.saturating_add(1));
                    let step = match (index, tensor.steps) {
                        (0 | -1, _) => index,
                        (_, Dim::Known(n)) if last(n) => -1,
                        _ => return Err(node.unsupported(format!("timestep {index}"))),
                    };
                    Ok(Value::Tensor(self.step_of(node, tensor, axis, step)?))
                }
                (other, _) => Err(node.unsupported(format!("a gather along the axis {other:?}"))),
            },
            _ => Err(node.unsupported("a gather of this value")),
        }
    }

    fn concat(&mut self, node: &Node) -> Result<Value> {
        node.allow(&["axis"])?;
        let axis = node.int("axis", 0);
        let values = (0..node.inputs.len()).map(|i| self.value(node, i)).collect::<Result<Vec<_>>>()?;
        let constants: Vec<&Array> =
            values.iter().filter_map(|v| if let Value::Constant(array) = v { Some(&**array) } else { None }).collect();
        if values.is_empty() {
            return Err(node.malformed("an input", "none"));
        }
        if constants.len() == values.len() {
            return Ok(constant(Array::joined(node, &constants, axis)?));
        }
        if values.iter().all(|v| matches!(v, Value::Dims { .. } | Value::Constant(_))) {
            let lists = (0..values.len()).map(|i| self.dims(node, i)).collect::<Result<Vec<_>>>()?;
            return Ok(Value::Dims { dims: lists.concat(), scalar: false });
        }
        if let Some(Value::Fill { value, .. }) = values.first()
            && values.iter().all(|v| matches!(v, Value::Fill { value: other, .. } if other == value))
        {
            return Ok(Value::Fill { value: *value, dims: None });
        }
        if values.len() == 1
            && let Some(value) = values.first()
        {
            return Ok(value.clone());
        }
        let mut tensors = Vec::new();
        let mut states = Vec::new();
        for value in values {
            match value {
                Value::Tensor(tensor) => tensors.push(tensor),
                Value::States(ids) => states.extend(ids),
                _ => return Err(node.unsupported("joining tensors with constants or states that the caller gives")),
            }
        }
        if !states.is_empty() || tensors.is_empty() {
            return Ok(Value::States(self.as_states(states, &tensors)));
        }
        self.concat_tensors(node, &tensors, axis)
    }

    fn concat_tensors(&mut self, node: &Node, tensors: &[Tensor], axis: i64) -> Result<Value> {
        let first = &tensors[0];
        let axis = resolve_axis(node, axis, first.axes.len())?;
        let label = first.axes[axis];
        let alike = |t: &Tensor| {
            t.axes.len() == first.axes.len() && (0..t.axes.len()).all(|i| i == axis || t.axes[i] == first.axes[i])
        };
        if !tensors.iter().all(alike) {
            return Err(node.unsupported("joining tensors of different axes"));
        }
        let direction = |t: &Tensor| matches!(t.of, Of::Directions { .. });
        match label {
            Axis::Channel | Axis::Unit | Axis::Direction if tensors.iter().all(direction) && one_part(tensors) => {
                let mut joined = first.clone();
                let width: usize = tensors.iter().map(|t| t.width).sum();
                if let Of::Directions { rows, .. } = &mut joined.of {
                    for other in &tensors[1..] {
                        if let Of::Directions { rows: more, .. } = &other.of {
                            rows.extend(more);
                        }
                    }
                    let split =
                        rows.iter().enumerate().any(|(d, row)| row.layer != rows[0].layer || row.direction != d);
                    if label == Axis::Channel && split {
                        return self.join_channels(node, tensors);
                    }
                }
                if label == Axis::Channel {
                    joined.width = width;
                } else {
                    joined.axes[axis] = Axis::Direction;
                }
                Ok(Value::Tensor(joined))
            }
            Axis::Channel => self.join_channels(node, tensors),
            Axis::Unit | Axis::Direction => Ok(Value::States(self.as_states(Vec::new(), tensors))),
            other => Err(node.unsupported(format!("joining along the axis {other:?}"))),
        }
    }

    fn join_channels(&mut self, node: &Node, tensors: &[Tensor]) -> Result<Value> {
        let ids = tensors.iter().map(|t| self.settle(node, t)).collect::<Result<Vec<_>>>()?;
        let width = ids.iter().map(|&id| self.build.expressions.facts(id).width).sum();
        let sequence = self.build.expressions.facts(ids[0]).sequence;
        let id = self.build.expressions.add(&node.name, Expression::Join(Join::Concat, ids), width, sequence)?;
        Ok(self.like(&tensors[0], id))
    }

    #[expect(clippy::unused_self, reason = "a method among methods")]
    fn as_states(&self, mut ids: Vec<usize>, tensors: &[Tensor]) -> Vec<usize> {
        ids.extend(tensors.iter().filter_map(|t| if let Of::Expression(id) = t.of { Some(id) } else { None }));
        ids
    }
}

fn one_part(tensors: &[Tensor]) -> bool {
    let part = |t: &Tensor| if let Of::Directions { part, .. } = t.of { Some(part) } else { None };
    tensors.iter().all(|t| part(t) == part(&tensors[0]))
}

fn constant(array: Array) -> Value {
    debug_assert!(matches!(array.data, Data::Floats(_) | Data::Ints(_)));
    Value::Constant(Rc::new(array))
}

fn dim_to_int(dim: Dim) -> Option<i64> {
    match dim {
        Dim::Known(n) => i64::try_from(n).ok(),
        Dim::Below(n) => Some(n),
        _ => None,
    }
}

/// The labels of `tensor` in another shape: runs of its axes, each as long as a target says.
fn regrouped(tensor: &Tensor, batch: Dim, target: &[Dim]) -> Option<Vec<Axis>> {
    let mut axes = Vec::new();
    let dims = tensor.dims(batch);
    for (&axis, &size) in tensor.axes.iter().zip(&dims) {
        match axis {
            Axis::Unit => {}
            Axis::Rows => axes.extend([(Axis::Time, tensor.steps), (Axis::Batch, batch)]),
            Axis::RowsByBatch => axes.extend([(Axis::Batch, batch), (Axis::Time, tensor.steps)]),
            axis => axes.push((axis, size)),
        }
    }
    let target: Vec<Dim> = target
        .iter()
        .enumerate()
        .map(|(at, &d)| if d == Dim::Known(0) { dims.get(at).copied().unwrap_or(Dim::Known(0)) } else { d })
        .collect();
    group(&axes, &target)
}

fn group(axes: &[(Axis, Dim)], target: &[Dim]) -> Option<Vec<Axis>> {
    let Some((&wanted, rest)) = target.split_first() else { return axes.is_empty().then(Vec::new) };
    let open = matches!(wanted, Dim::Any | Dim::Below(-1));
    let fits = |size: Dim| open || (size == wanted && size != Dim::Any);
    let with = |label: Axis, taken: usize| {
        let mut labels = group(&axes[taken..], rest)?;
        labels.insert(0, label);
        Some(labels)
    };
    let one = || axes.first().filter(|(_, size)| fits(*size)).and_then(|(axis, _)| with(*axis, 1));
    let two = || {
        let [(a, m), (b, n), ..] = axes else { return None };
        let label = match (a, b) {
            (Axis::Direction, Axis::Channel) => Axis::Channel,
            (Axis::Time, Axis::Batch) => Axis::Rows,
            (Axis::Batch, Axis::Time) => Axis::RowsByBatch,
            // One of them has size 1 and goes.
            (_, Axis::Channel) if *m == Dim::Known(1) => Axis::Channel,
            _ => return None,
        };
        if fits(product(*m, *n)) { with(label, 2) } else { None }
    };
    let none = || if wanted == Dim::Known(1) || open { with(Axis::Unit, 0) } else { None };
    // An axis of size 1 that a shape leaves out has lost its label.
    let dropped = || {
        axes.first()
            .filter(|(axis, size)| *size == Dim::Known(1) && *axis != Axis::Channel)
            .and_then(|_| group(&axes[1..], target))
    };
    one().or_else(two).or_else(none).or_else(dropped)
}

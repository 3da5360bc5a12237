//! Operators that move axes and compute sizes.

use std::rc::Rc;

use super::array::{Array, Data};
use super::constants::{resolve_axis, slice_range};
use super::graph::OnnxNode;
use super::regroup::regrouped;
use super::value::{AxisLabel, Dim, LabelledTensor, Of, Value, product};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;

impl Walk<'_> {
    /// The operators of this file; `None` for others.
    pub fn shape_operator(&mut self, node: &OnnxNode) -> Result<Option<Vec<Value>>> {
        let value = match node.op.as_str() {
            "Shape" => self.shape(node)?,
            "Size" => {
                let all = self.sizes_of(node)?.into_iter().fold(Dim::Known(1), product);
                Value::Dims { dims: vec![all], scalar: true }
            }
            "ConstantOfShape" => self.constant_of_shape(node)?,
            "Expand" => self.expand(node)?,
            "Tile" => self.tile(node)?,
            "Range" => self.range(node)?,
            "Concat" => self.concat(node)?,
            "Gather" => self.gather(node)?,
            "ReduceProd" => {
                node.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
                let dims = self.dims(node, 0)?;
                if self.integers(node, "axes", 1)?.is_some_and(|axes| axes != [0] && axes != [-1]) {
                    return Err(node.malformed("axis 0", "other axes"));
                }
                let all = dims.into_iter().fold(Dim::Known(1), product);
                Value::Dims { dims: vec![all], scalar: !node.flag("keepdims", true)? }
            }
            "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" | "Slice" | "Split" => {
                let value = self.value(node, 0)?;
                return self.move_axes(node, value).map(Some);
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![value]))
    }

    fn move_axes(&mut self, node: &OnnxNode, value: Value) -> Result<Vec<Value>> {
        let all = |value: Value| Ok(vec![value; node.outputs.len().max(1)]);
        match value {
            Value::Lengths => return all(Value::Lengths),
            Value::LastSteps { .. } => return all(Value::LastSteps { rank: 3 }),
            Value::States(ids) => return all(Value::States(ids)),
            Value::State { id, dims } => {
                let rows = match &dims {
                    Some(dims) => self.moved_rows(node, id, dims)?,
                    None => vec![None; node.outputs.len().max(1)],
                };
                let moved = self.moved_dims(node, dims)?.into_iter().zip(rows);
                return node
                    .outputs
                    .iter()
                    .zip(moved)
                    .map(|(output, (dims, rows))| self.state(output, dims, rows))
                    .collect();
            }
            Value::Spread { array, dims } => return self.move_spread(node, &array, dims),
            Value::Fill { value, dims } => {
                let moved = self.moved_dims(node, dims)?;
                return Ok(moved.into_iter().map(|dims| Value::Fill { value, dims }).collect());
            }
            _ => {}
        }
        let rank = match &value {
            Value::Constant(array) => array.shape.len(),
            Value::Tensor(tensor) => tensor.axes.len(),
            _ => 1,
        };
        let moved = match (node.op.as_str(), value) {
            ("Transpose", value) => {
                let order = self.order(node, rank)?;
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
                if node.flag("allowzero", false)? && target.contains(&Dim::Known(0)) {
                    return Err(node.unsupported("a reshape to a size of 0"));
                }
                self.reshape(node, value, &target)?
            }
            ("Flatten", Value::Tensor(tensor)) => {
                let target = self.flattened(node, &tensor)?;
                self.reshape(node, Value::Tensor(tensor), &target)?
            }
            ("Flatten", _) => return Err(node.unsupported("a flattening of this value")),
            ("Split", value) => return self.split(node, &value, rank),
            (_, value) => self.slice(node, value, rank)?,
        };
        Ok(vec![moved])
    }

    /// As [`Walk::move_axes`], for a constant that is repeated along some of its axes.
    fn move_spread(&mut self, node: &OnnxNode, array: &Rc<Array>, dims: Vec<Dim>) -> Result<Vec<Value>> {
        let whole = |at: usize| known(dims[at]) == Some(array.shape[at]);
        // Only axes along which nothing is repeated are cut.
        let cut = match node.op.as_str() {
            "Slice" => {
                let whole =
                    |part: &&(usize, i64, i64, i64)| part.1 == 0 && part.2 >= i64::from(i32::MAX) && part.3 == 1;
                let parts = self.slices(node, dims.len())?;
                parts.iter().filter(|part| !whole(part)).map(|part| part.0).collect()
            }
            "Split" => vec![resolve_axis(node, node.int("axis", 0)?, dims.len())?],
            "Transpose" | "Squeeze" | "Unsqueeze" => Vec::new(),
            _ => return Err(node.unsupported("this operator on a constant that is repeated")),
        };
        if array.shape.len() != dims.len() || !cut.iter().all(|&at| whole(at)) {
            return Err(node.unsupported("a part of a constant along an axis in which it is repeated"));
        }
        let moved = self.moved_dims(node, Some(dims))?;
        let parts = self.move_axes(node, Value::Constant(array.clone()))?;
        let join = |(part, dims): (Value, Option<Vec<Dim>>)| match (part, dims) {
            (Value::Constant(array), Some(dims)) => Ok(spread(&array, dims)),
            _ => Err(node.unsupported("this operator on a constant that is repeated")),
        };
        parts.into_iter().zip(moved).map(join).collect()
    }

    /// The sizes of every output of an operator that moves axes, for a value of which nothing but sizes is known.
    fn moved_dims(&self, node: &OnnxNode, dims: Option<Vec<Dim>>) -> Result<Vec<Option<Vec<Dim>>>> {
        let outputs = node.outputs.len().max(1);
        let Some(mut dims) = dims else { return Ok(vec![None; outputs]) };
        let rank = dims.len();
        match node.op.as_str() {
            "Transpose" => {
                let order = self.order(node, rank)?;
                dims = order.iter().map(|&axis| dims[axis]).collect();
            }
            "Squeeze" => {
                let gone = self.squeezed(node, &dims)?;
                dims = (0..rank).filter(|at| !gone.contains(at)).map(|at| dims[at]).collect();
            }
            "Unsqueeze" => {
                for at in self.unsqueezed(node, rank)? {
                    dims.insert(at.min(dims.len()), Dim::Known(1));
                }
            }
            "Reshape" => {
                let target = self.dims(node, 1)?;
                let size = |(at, &size): (usize, &Dim)| match size {
                    Dim::Known(0) => dims.get(at).copied().unwrap_or(Dim::Any),
                    Dim::Below(_) => Dim::Any,
                    size => size,
                };
                dims = target.iter().enumerate().map(size).collect();
            }
            "Slice" => {
                for (axis, start, end, step) in self.slices(node, rank)? {
                    dims[axis] = match dims[axis] {
                        Dim::Known(size) => {
                            let (_, count, _) = slice_range(size, start, end, step)
                                .ok_or_else(|| node.unsupported(format!("slice {start}:{end}:{step}")))?;
                            Dim::Known(count)
                        }
                        size if start == 0 && end >= i64::from(i32::MAX) && step == 1 => size,
                        _ => Dim::Any,
                    };
                }
            }
            "Split" => {
                let axis = resolve_axis(node, node.int("axis", 0)?, rank)?;
                let Dim::Known(size) = dims[axis] else { return Ok(vec![None; outputs]) };
                let part = |part: i64| {
                    let mut dims = dims.clone();
                    dims[axis] = usize::try_from(part).map_or(Dim::Any, Dim::Known);
                    Some(dims)
                };
                return Ok(self.parts(node, size)?.into_iter().map(part).collect());
            }
            _ => return Ok(vec![None; outputs]),
        }
        Ok(vec![Some(dims); outputs])
    }

    /// The order that a Transpose of `rank` axes says.
    fn order(&self, node: &OnnxNode, rank: usize) -> Result<Vec<usize>> {
        node.allow(&["perm"])?;
        let order = match node.ints("perm")? {
            Some(perm) => perm.iter().map(|&p| resolve_axis(node, p, rank)).collect::<Result<Vec<_>>>()?,
            None => (0..rank).rev().collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted.into_iter().eq(0..rank) {
            Ok(order)
        } else {
            Err(node.malformed(format!("an order of {rank} axes"), format!("{order:?}")))
        }
    }

    /// The axes that a Squeeze takes away.
    pub fn squeezed(&self, node: &OnnxNode, sizes: &[Dim]) -> Result<Vec<usize>> {
        node.allow(&["axes"])?;
        let rank = sizes.len();
        let gone: Vec<usize> = match self.integers(node, "axes", 1)? {
            Some(axes) => axes.iter().map(|&a| resolve_axis(node, a, rank)).collect::<Result<_>>()?,
            None if sizes.iter().all(|size| matches!(size, Dim::Known(_))) => {
                (0..rank).filter(|&at| sizes[at] == Dim::Known(1)).collect()
            }
            None => return Err(node.unsupported("a squeeze without axes of a shape with open sizes")),
        };
        match gone.iter().find(|&&at| matches!(sizes[at], Dim::Known(n) if n != 1)) {
            Some(&at) => Err(node.malformed(format!("axis {at} of size 1"), sizes[at].to_string())),
            None => Ok(gone),
        }
    }

    /// Where an Unsqueeze of `rank` axes puts its new ones, in order.
    pub fn unsqueezed(&self, node: &OnnxNode, rank: usize) -> Result<Vec<usize>> {
        node.allow(&["axes"])?;
        let axes = self.integers(node, "axes", 1)?.ok_or_else(|| node.malformed("axes", "none"))?;
        let mut new = axes.iter().map(|&a| resolve_axis(node, a, rank + axes.len())).collect::<Result<Vec<_>>>()?;
        new.sort_unstable();
        if new.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(node.malformed("axes that differ", format!("{axes:?}")));
        }
        Ok(new)
    }

    fn squeeze(&mut self, node: &OnnxNode, value: Value, rank: usize) -> Result<Value> {
        let sizes: Vec<Dim> = match &value {
            Value::Constant(array) => array.shape.iter().map(|&n| Dim::Known(n)).collect(),
            Value::Tensor(tensor) => tensor.dims(self.batch),
            _ => vec![Dim::Known(1)],
        };
        let gone = self.squeezed(node, &sizes)?;
        if let Value::Tensor(tensor) = &value
            && let Some(&at) = gone.iter().find(|&&at| tensor.axes[at] == AxisLabel::Time)
            && self.one_window(tensor.steps)
        {
            let x = self.settle(node, tensor)?;
            if self.build.expressions.facts(x).sequence {
                let of = Of::Expression(self.only_step(node, x)?);
                let axes = (0..rank).filter(|at| !gone.contains(at)).map(|at| tensor.axes[at]).collect();
                let unit = |other: usize| other == at || sizes[other] == Dim::Known(1);
                if !gone.iter().copied().all(unit) {
                    return Err(node.unsupported("a squeeze of an axis whose size is not known"));
                }
                return Ok(Value::Tensor(LabelledTensor { of, axes, ..tensor.clone() }));
            }
        }
        if let Some(&at) = gone.iter().find(|&&at| sizes[at] != Dim::Known(1)) {
            return Err(node.unsupported(format!("axis {at}, whose size is {} instead of 1", sizes[at])));
        }
        let keep: Vec<usize> = (0..rank).filter(|at| !gone.contains(at)).collect();
        Ok(match value {
            Value::Constant(array) => {
                let shape = keep.iter().map(|&at| array.shape[at]).collect();
                constant(Array { shape, data: array.data.clone() })
            }
            Value::Tensor(mut tensor) => {
                let old = std::mem::take(&mut tensor.axes);
                tensor.axes = keep.iter().map(|&at| old[at]).collect();
                Value::Tensor(tensor)
            }
            Value::Dims { dims, .. } => Value::Dims { dims, scalar: true },
            other => other,
        })
    }

    fn unsqueeze(&self, node: &OnnxNode, value: Value, rank: usize) -> Result<Value> {
        let rank = if matches!(value, Value::Dims { scalar: true, .. }) { 0 } else { rank };
        let new = self.unsqueezed(node, rank)?;
        Ok(match value {
            Value::Constant(array) => {
                let mut shape = array.shape.clone();
                new.iter().for_each(|&at| shape.insert(at.min(shape.len()), 1));
                constant(Array { shape, data: array.data.clone() })
            }
            Value::Tensor(mut tensor) => {
                new.iter().for_each(|&at| tensor.axes.insert(at.min(tensor.axes.len()), AxisLabel::Unit));
                if let (None, Some(&last)) = (tensor.position(AxisLabel::Channel), new.last()) {
                    tensor = tensor.with_channels_at(last);
                }
                Value::Tensor(tensor)
            }
            Value::Dims { dims, scalar: true } if new.len() == 1 => Value::Dims { dims, scalar: false },
            _ => return Err(node.unsupported("sizes in several axes")),
        })
    }

    fn reshape(&mut self, node: &OnnxNode, value: Value, target: &[Dim]) -> Result<Value> {
        match value {
            Value::Constant(array) => {
                let sizes = target.iter().map(|d| dim_to_int(*d)).collect::<Option<Vec<_>>>();
                let sizes = sizes.ok_or_else(|| node.unsupported("a constant in a shape that depends on the input"))?;
                Ok(constant(array.reshaped(node, &sizes, node.int("allowzero", 0)? != 0)?))
            }
            Value::Tensor(mut tensor) => {
                let axes = regrouped(&tensor, self.batch, target);
                let Some(axes) = axes else {
                    let error = match self.reshaped_rows(node, &tensor, target) {
                        Ok(value) => return Ok(value),
                        Err(error) => error,
                    };
                    return self.reshaped_parts(node, &tensor, target)?.map(Value::Tensor).ok_or(error);
                };
                if tensor.position(AxisLabel::Direction).is_some()
                    && !axes.contains(&AxisLabel::Direction)
                    && tensor.directions() > 1
                {
                    tensor.width *= tensor.directions();
                }
                let turned = tensor.position(AxisLabel::Channel) < tensor.position(AxisLabel::Head);
                tensor.axes = axes;
                tensor = self.joined_parts(node, tensor, turned)?;
                if let (None, Some(last)) =
                    (tensor.position(AxisLabel::Channel), tensor.axes.iter().rposition(|&axis| axis == AxisLabel::Unit))
                {
                    tensor = tensor.with_channels_at(last);
                }
                Ok(Value::Tensor(tensor))
            }
            Value::Dims { dims, .. } if target.len() == 1 => Ok(Value::Dims { dims, scalar: false }),
            other => match target {
                [_] => Ok(other),
                _ => Err(node.unsupported("a reshape of sizes")),
            },
        }
    }

    /// The sizes of a node's input.
    fn sizes_of(&self, node: &OnnxNode) -> Result<Vec<Dim>> {
        Ok(match self.value(node, 0)? {
            Value::Constant(array) => array.shape.iter().map(|&n| Dim::Known(n)).collect(),
            Value::Tensor(tensor) => tensor.dims(self.batch),
            Value::Fill { dims: Some(dims), .. } => dims,
            Value::State { dims, .. } => dims.unwrap_or_else(|| vec![Dim::Any; 3]),
            Value::Dims { scalar: false, dims } => vec![Dim::Known(dims.len())],
            Value::Lengths
            | Value::LastSteps { rank: 1 }
            | Value::RowNumbers { rank: 1, .. }
            | Value::LastPlaces(Some(_))
            | Value::RowOrder { .. } => {
                vec![self.batch]
            }
            Value::Spread { dims, .. } => dims,
            _ => return Err(node.unsupported("the shape of this value")),
        })
    }

    fn shape(&self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["start", "end"])?;
        let dims = self.sizes_of(node)?;
        let (first, count, _) = slice_range(dims.len(), node.int("start", 0)?, node.int("end", i64::MAX)?, 1)
            .ok_or_else(|| node.unsupported("these sizes"))?;
        Ok(Value::Dims { dims: dims[first..first + count].to_vec(), scalar: false })
    }

    /// Integers that may depend on sizes.
    pub fn dims(&self, node: &OnnxNode, index: usize) -> Result<Vec<Dim>> {
        match self.value(node, index)? {
            Value::Dims { dims, scalar: false } => Ok(dims),
            Value::Dims { .. } => Err(node.malformed(format!("input {index} of one axis"), "a number without axes")),
            Value::Constant(array) => {
                let dim = |&n: &i64| usize::try_from(n).map_or(Dim::Below(n), Dim::Known);
                let ints = array.as_ints().ok_or_else(|| node.unsupported("floats as sizes"))?;
                if array.shape.len() != 1 {
                    return Err(node.malformed(format!("input {index} of one axis"), format!("{:?}", array.shape)));
                }
                Ok(ints.iter().map(dim).collect())
            }
            _ => Err(node.unsupported(format!("input {index} as sizes"))),
        }
    }

    fn constant_of_shape(&self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["value"])?;
        let array = node.tensor("value")?.unwrap_or_else(|| Array::floats(vec![1], vec![0.0]));
        if array.shape != [1] {
            return Err(node.malformed("a value of shape [1]", format!("{:?}", array.shape)));
        }
        let dims = self.dims(node, 0)?;
        let known: Option<Vec<usize>> = dims.iter().map(|&d| known(d)).collect();
        if let (Some(_), Some(array)) = (array.as_ints(), known.and_then(|shape| array.spread(&shape))) {
            return Ok(constant(array));
        }
        Ok(Value::Fill { value: array.scalar().unwrap_or(0.0), dims: Some(dims) })
    }

    fn expand(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&[])?;
        let dims = self.dims(node, 1)?;
        match self.value(node, 0)? {
            Value::Fill { value, .. } => Ok(Value::Fill { value, dims: Some(dims) }),
            Value::Dims { dims: sizes, .. } if sizes.len() == 1 => Ok(Value::Size(sizes[0])),
            Value::Constant(array) => {
                let own: Vec<Dim> = array.shape.iter().map(|&n| Dim::Known(n)).collect();
                let dims = spread_dims(&own, &dims).ok_or_else(|| {
                    node.malformed(format!("a shape that {} fits", words::shape(&own)), words::shape(&dims))
                })?;
                Ok(spread(&array, dims))
            }
            Value::Spread { array, dims: own } => {
                let dims = spread_dims(&own, &dims).ok_or_else(|| {
                    node.malformed(format!("a shape that {} fits", words::shape(&own)), words::shape(&dims))
                })?;
                Ok(spread(&array, dims))
            }
            Value::Tensor(tensor) => self.expanded(node, tensor, &dims),
            Value::Lengths => Ok(Value::Lengths),
            Value::LastSteps { .. } => Ok(Value::LastSteps { rank: 3 }),
            _ => Err(node.unsupported("an expansion of this value")),
        }
    }

    /// A constant repeated along its axes.
    fn tile(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&[])?;
        let repeats = self.dims(node, 1)?;
        let value = self.value(node, 0)?;
        if repeats.iter().all(|&n| n == Dim::Known(1)) {
            return Ok(value);
        }
        let rank = |rank: usize| {
            let got = || words::shape(&repeats);
            if rank == repeats.len() { Ok(()) } else { Err(node.malformed(format!("{rank} repeats"), got())) }
        };
        match value {
            Value::Fill { value, dims: Some(dims) } => {
                rank(dims.len())?;
                let dims = dims.iter().zip(&repeats).map(|(&a, &b)| product(a, b)).collect();
                Ok(Value::Fill { value, dims: Some(dims) })
            }
            Value::Constant(array) => {
                rank(array.shape.len())?;
                if array.shape.iter().zip(&repeats).any(|(&size, &n)| size != 1 && n != Dim::Known(1)) {
                    return Err(node.unsupported("a constant that repeats more than one number of an axis"));
                }
                let dims = array.shape.iter().zip(&repeats).map(|(&a, &b)| product(Dim::Known(a), b)).collect();
                Ok(spread(&array, dims))
            }
            Value::Tensor(tensor) => self.repeated_rows(node, tensor, &repeats),
            _ => Err(node.unsupported("a repetition of this value")),
        }
    }

    /// A list of numbers from start to limit.
    fn range(&self, node: &OnnxNode) -> Result<Value> {
        const MOST: i64 = 4096;
        node.allow(&[])?;
        let mut numbers = [0; 3];
        for (index, number) in numbers.iter_mut().enumerate() {
            let array = self.constant(node, index)?;
            let Some(&[n]) = array.as_ints() else { return Err(node.unsupported("a range of floats")) };
            *number = n;
        }
        let [start, limit, step] = numbers;
        let count = match limit.checked_sub(start).and_then(|span| Some((span, span.checked_div(step)?))) {
            Some((span, _)) if span == 0 || (span > 0) != (step > 0) => 0,
            Some((span, whole)) => whole + i64::from(whole * step != span),
            None => return Err(node.malformed("a step other than 0", step.to_string())),
        };
        if count > MOST {
            return Err(node.unsupported(format!("a range of {count} numbers")));
        }
        let data: Vec<i64> = (0..count).map(|i| start + i * step).collect();
        Ok(constant(Array::ints(vec![data.len()], data)))
    }
}

/// `array` in larger sizes: a constant where they are known and few.
fn spread(array: &Rc<Array>, dims: Vec<Dim>) -> Value {
    let known: Option<Vec<usize>> = dims.iter().map(|&d| known(d)).collect();
    if let Some(array) = known.and_then(|shape| array.spread(&shape)) {
        return constant(array);
    }
    match array.as_floats() {
        Some([value, rest @ ..]) if rest.iter().all(|x| x == value) => Value::Fill { value: *value, dims: Some(dims) },
        _ => Value::Spread { array: array.clone(), dims },
    }
}

/// The sizes of an Expand.
fn spread_dims(own: &[Dim], target: &[Dim]) -> Option<Vec<Dim>> {
    let rank = own.len().max(target.len());
    let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Dim::Known(1), |i| dims[i]);
    let size = |i: usize| match (at(own, i), at(target, i)) {
        (Dim::Known(1), size) | (size, Dim::Known(1)) => Some(size),
        (a, b) if a == b => Some(a),
        (Dim::Known(_), Dim::Known(_)) => None,
        (a, Dim::Any) => Some(a),
        _ => Some(Dim::Any),
    };
    (0..rank).map(size).collect()
}

fn known(dim: Dim) -> Option<usize> {
    if let Dim::Known(n) = dim { Some(n) } else { None }
}

pub fn constant(array: Array) -> Value {
    debug_assert!(matches!(array.data, Data::Floats(_) | Data::Ints(_)));
    Value::Constant(Rc::new(array))
}

pub fn dim_to_int(dim: Dim) -> Option<i64> {
    match dim {
        Dim::Known(n) => i64::try_from(n).ok(),
        Dim::Below(n) => Some(n),
        _ => None,
    }
}

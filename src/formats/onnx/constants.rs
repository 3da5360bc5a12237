//! Operators whose inputs are all constants.

use super::array::{Array, Data};
use super::graph::OnnxNode;
use crate::base::error::Result;

/// What a dimension of a new shape is.
pub fn resolve_axis(node: &OnnxNode, axis: i64, rank: usize) -> Result<usize> {
    let wide = i64::try_from(rank).unwrap_or(i64::MAX);
    let positive = if axis < 0 { axis.saturating_add(wide) } else { axis };
    match usize::try_from(positive) {
        Ok(at) if at < rank => Ok(at),
        _ => Err(node.malformed(format!("an axis of {rank}"), axis.to_string())),
    }
}

/// Start, count and step of a slice of an axis `size` long.
pub fn slice_range(size: usize, start: i64, end: i64, step: i64) -> Option<(usize, usize, i64)> {
    let size = i64::try_from(size).ok()?;
    let clamp = |at: i64, low: i64, high: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(low, high);
    let (start, count) = if step > 0 {
        let (start, end) = (clamp(start, 0, size), clamp(end, 0, size));
        (start, (end - start).max(0).checked_add(step - 1)? / step)
    } else {
        if step == 0 || size == 0 {
            return None;
        }
        let (start, end) = (clamp(start, 0, size - 1), clamp(end, -1, size - 1));
        (start, (start - end).max(0).checked_sub(step + 1)? / step.checked_neg()?)
    };
    Some((usize::try_from(start).ok()?, usize::try_from(count).ok()?, step))
}

impl Array {
    fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.shape.len()];
        for at in (1..self.shape.len()).rev() {
            strides[at - 1] = strides[at].saturating_mul(self.shape[at]);
        }
        strides
    }

    /// Elements along `axis` picked by `indices`, which are below its size.
    pub fn take(&self, axis: usize, indices: &[usize]) -> Self {
        let inner: usize = self.shape[axis + 1..].iter().product();
        let outer: usize = self.shape[..axis].iter().product();
        let mut flat = Vec::new();
        for o in 0..outer {
            for &index in indices {
                let start = (o * self.shape[axis] + index) * inner;
                flat.extend(start..start + inner);
            }
        }
        let mut shape = self.shape.clone();
        shape[axis] = indices.len();
        self.gather(shape, &flat)
    }

    /// The axes in another order.
    pub fn permuted(&self, order: &[usize]) -> Self {
        let strides = self.strides();
        let shape: Vec<usize> = order.iter().map(|&axis| self.shape[axis]).collect();
        let mut flat = vec![0; 1];
        for (&axis, &size) in order.iter().zip(&shape) {
            flat = flat
                .iter()
                .flat_map(|&base| (0..size).map(move |i| (base, i)))
                .map(|(b, i)| b + i * strides[axis])
                .collect();
        }
        self.gather(shape, &flat)
    }

    /// The same elements in another shape, in ONNX's terms (0 copies, -1 is what is left).
    pub fn reshaped(&self, node: &OnnxNode, target: &[i64], zero_is_size: bool) -> Result<Self> {
        let refuse = || node.malformed(format!("a shape for {} elements", self.len()), format!("{target:?}"));
        if self.len() == 0 {
            return Err(refuse());
        }
        let mut shape = Vec::with_capacity(target.len());
        let mut open = None;
        for (at, &size) in target.iter().enumerate() {
            shape.push(match size {
                -1 if open.is_none() => {
                    open = Some(at);
                    1
                }
                0 if !zero_is_size => *self.shape.get(at).ok_or_else(refuse)?,
                size => usize::try_from(size).map_err(|_| refuse())?,
            });
        }
        let product = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(refuse)?;
        if let Some(at) = open.filter(|_| product > 0) {
            shape[at] = self.len() / product;
        }
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(self.len()) {
            return Err(refuse());
        }
        Ok(Self { shape, data: self.data.clone() })
    }

    /// Arrays one after another along `axis`.
    pub fn joined(node: &OnnxNode, arrays: &[&Self], axis: i64) -> Result<Self> {
        let first = arrays[0];
        let axis = resolve_axis(node, axis, first.shape.len())?;
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        let outer: usize = first.shape[..axis].iter().product();
        let mut shape = first.shape.clone();
        shape[axis] = 0;
        for array in arrays {
            let same = |at: usize| at == axis || array.shape.get(at) == first.shape.get(at);
            if array.shape.len() != shape.len() || !(0..shape.len()).all(same) {
                return Err(node.malformed(format!("arrays like {:?}", first.shape), format!("{:?}", array.shape)));
            }
            shape[axis] += array.shape[axis];
        }
        for o in 0..outer {
            for array in arrays {
                let run: usize = array.shape[axis..].iter().product();
                match &array.data {
                    Data::Floats(data) => floats.extend_from_slice(&data[o * run..][..run]),
                    Data::Ints(data) => ints.extend_from_slice(&data[o * run..][..run]),
                }
            }
        }
        match (floats.is_empty(), ints.is_empty()) {
            (false, false) => Err(node.unsupported("integers and floats in one array")),
            (true, _) if first.as_ints().is_some() => Ok(Self::ints(shape, ints)),
            _ => Ok(Self::floats(shape, floats)),
        }
    }
}

/// A constant may not grow beyond this many elements more than it had.
const SMALL: usize = 4096;

impl Array {
    /// In a larger shape, its axes of size 1 repeated (ONNX's broadcasting); `None` if it does not fit or grows much.
    pub fn spread(&self, shape: &[usize]) -> Option<Self> {
        let offset = shape.len().checked_sub(self.shape.len())?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count == 0 || count > self.len().max(SMALL) {
            return None;
        }
        let strides = self.strides();
        let mut flat = vec![0usize];
        for (axis, &size) in shape.iter().enumerate() {
            let stride = match axis.checked_sub(offset).map(|at| (self.shape[at], strides[at])) {
                Some((own, stride)) if own == size => stride,
                Some((1, _)) | None => 0,
                _ => return None,
            };
            flat = flat.iter().flat_map(|&base| (0..size).map(move |i| base + i * stride)).collect();
        }
        Some(self.gather(shape.to_vec(), &flat))
    }

    /// `a` where `condition` is not 0, else `b`.
    pub fn chosen(node: &OnnxNode, condition: &Self, a: &Self, b: &Self) -> Result<Self> {
        let refuse = || node.unsupported("a choice among constants of these shapes");
        let shape = common_shape(&a.shape, &b.shape).and_then(|s| common_shape(&s, &condition.shape));
        let shape = shape.ok_or_else(refuse)?;
        let spread = |array: &Self| array.spread(&shape).ok_or_else(refuse);
        let (condition, a, b) = (spread(condition)?, spread(a)?, spread(b)?);
        let ints = condition.as_ints().ok_or_else(|| node.malformed("a condition of booleans", "floats"))?;
        match (&a.data, &b.data) {
            (Data::Floats(x), Data::Floats(y)) => {
                let data = (0..ints.len()).map(|i| if ints[i] != 0 { x[i] } else { y[i] }).collect();
                Ok(Self::floats(shape, data))
            }
            (Data::Ints(x), Data::Ints(y)) => {
                let data = (0..ints.len()).map(|i| if ints[i] != 0 { x[i] } else { y[i] }).collect();
                Ok(Self::ints(shape, data))
            }
            _ => Err(node.malformed("two constants of one type", "integers and floats")),
        }
    }
}

/// The shape of an elementwise operator on two shapes.
pub fn common_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let common = |at: usize| match (size(a, at), size(b, at)) {
        (x, 1) => Some(x),
        (1, y) => Some(y),
        (x, y) => (x == y).then_some(x),
    };
    (0..rank).map(common).collect()
}

/// Arithmetic and comparisons of constants.
pub fn arithmetic(node: &OnnxNode, a: &Array, b: &Array) -> Result<Array> {
    let refuse = || node.unsupported("this arithmetic on constants");
    let shape = common_shape(&a.shape, &b.shape).ok_or_else(refuse)?;
    let (a, b) = (a.spread(&shape).ok_or_else(refuse)?, b.spread(&shape).ok_or_else(refuse)?);
    let op = node.op.as_str();
    match (&a.data, &b.data) {
        (Data::Floats(x), Data::Floats(y)) => {
            let apply = |x: f32, y: f32| {
                Some(match op {
                    "Add" | "Sum" => x + y,
                    "Sub" => x - y,
                    "Mul" => x * y,
                    "Div" => x / y,
                    "Pow" => x.powf(y),
                    "Max" => x.max(y),
                    "Min" => x.min(y),
                    _ => return None,
                })
            };
            #[expect(clippy::float_cmp, reason = "what the operator does")]
            let compare = |x: f32, y: f32| {
                Some(match op {
                    "Equal" => x == y,
                    "Less" => x < y,
                    "LessOrEqual" => x <= y,
                    "Greater" => x > y,
                    "GreaterOrEqual" => x >= y,
                    _ => return None,
                })
            };
            let pairs = || x.iter().copied().zip(y.iter().copied());
            if let Some(data) = pairs().map(|(x, y)| compare(x, y).map(i64::from)).collect::<Option<Vec<_>>>()
                && !data.is_empty()
            {
                return Ok(Array::ints(shape, data));
            }
            let data = pairs().map(|(x, y)| apply(x, y)).collect::<Option<_>>();
            Ok(Array::floats(shape, data.ok_or_else(refuse)?))
        }
        (Data::Ints(x), Data::Ints(y)) => {
            let apply = |x: i64, y: i64| match op {
                "Add" | "Sum" => x.checked_add(y),
                "Sub" => x.checked_sub(y),
                "Mul" => x.checked_mul(y),
                "Div" => x.checked_div(y),
                "Mod" => x.checked_rem_euclid(y),
                "Max" => Some(x.max(y)),
                "Min" => Some(x.min(y)),
                "Equal" => Some(i64::from(x == y)),
                "Less" => Some(i64::from(x < y)),
                "LessOrEqual" => Some(i64::from(x <= y)),
                "Greater" => Some(i64::from(x > y)),
                "GreaterOrEqual" => Some(i64::from(x >= y)),
                "And" => Some(x & y),
                "Or" => Some(x | y),
                "Xor" => Some(x ^ y),
                _ => None,
            };
            let data = x.iter().zip(y).map(|(&x, &y)| apply(x, y)).collect::<Option<_>>();
            Ok(Array::ints(shape, data.ok_or_else(refuse)?))
        }
        _ => Err(refuse()),
    }
}

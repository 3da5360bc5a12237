//! Operators on 8-bit weights. Weights become floats; numbers that a graph would round to 8 bits on the way stay as they
//! are, so the answers differ from the file's own by that rounding.

use std::rc::Rc;

use super::array::{Array, Data};
use super::constants::resolve_axis;
use super::graph::OnnxNode;
use super::value::Value;
use super::walk::Walk;
use crate::base::error::Result;

impl Walk<'_> {
    /// `(x - zero_point) * scale` of a constant.
    pub fn dequantize(&self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis", "block_size", "output_dtype"])?;
        if node.int("block_size", 0)? != 0 {
            return Err(node.unsupported("scales of blocks"));
        }
        let Value::Constant(array) = self.value(node, 0)? else {
            return Err(node.unsupported("numbers that are rounded to 8 bits on the way"));
        };
        let axis = match array.shape.len() {
            0 => 0,
            rank => resolve_axis(node, node.int("axis", 1)?, rank.max(2)).map(|axis| axis.min(rank - 1))?,
        };
        let scale = self.constant(node, 1)?;
        let zero = if self.given(node, 2) { Some(self.constant(node, 2)?) } else { None };
        Ok(Value::Constant(Rc::new(dequantized(node, &array, &scale, zero.as_deref(), axis)?)))
    }

    /// Rounding to 8 bits: the numbers as they are, a scale of 1, a zero point of 0.
    pub fn dynamic_quantize(&self, node: &OnnxNode) -> Result<Vec<Value>> {
        node.allow(&[])?;
        let x = Value::Tensor(self.tensor(node, 0)?);
        let number = |value: f32| Value::Fill { value, dims: Some(Vec::new()) };
        Ok(vec![x, number(1.0), number(0.0)])
    }

    /// The matrix of a MatMulInteger, as floats.
    pub fn integer_matrix(&self, node: &OnnxNode) -> Result<Rc<Array>> {
        node.allow(&[])?;
        if !self.given(node, 2) || !matches!(self.value(node, 2)?, Value::Fill { value: 0.0, .. }) {
            return Err(node.unsupported("a zero point that no DynamicQuantizeLinear gave"));
        }
        let matrix = self.constant(node, 1)?;
        let zero = if self.given(node, 3) { Some(self.constant(node, 3)?) } else { None };
        let one = Array::floats(vec![], vec![1.0]);
        let axis = matrix.shape.len().saturating_sub(1);
        Ok(Rc::new(dequantized(node, &matrix, &one, zero.as_deref(), axis)?))
    }

    /// W or R `[D, 4H, I]` of a DynamicQuantizeLSTM, which stores it as `[D, I, 4H]`.
    pub fn dynamic_weight(&self, node: &OnnxNode, index: usize, scale: usize) -> Result<Rc<Array>> {
        let array = self.constant(node, index)?;
        let [directions, width, rows] = array.shape[..] else {
            return Err(node.malformed("weights of three axes", format!("{:?}", array.shape)));
        };
        let (scales, zero) = (self.constant(node, scale)?, self.constant(node, scale + 1)?);
        let all = directions.checked_mul(rows).filter(|&n| n > 0);
        let count = |array: &Array| array.len() == directions || Some(array.len()) == all;
        if !count(&scales) || !count(&zero) || array.len() == 0 {
            return Err(node
                .malformed(format!("scales [{directions}] or [{directions}, {rows}]"), format!("{:?}", scales.shape)));
        }
        let (Some(numbers), Some(scales), Some(zero)) = (array.as_ints(), scales.as_floats(), zero.as_ints()) else {
            return Err(node.malformed("weights of integers", "others"));
        };
        let of = |count: usize, direction: usize, row: usize| {
            if count == directions { direction } else { direction * rows + row }
        };
        let mut data = Vec::with_capacity(numbers.len());
        for direction in 0..directions {
            for row in 0..rows {
                let (s, z) = (scales[of(scales.len(), direction, row)], zero[of(zero.len(), direction, row)]);
                data.extend((0..width).map(|k| real(numbers[(direction * width + k) * rows + row], z) * s));
            }
        }
        Ok(Rc::new(Array::floats(vec![directions, rows, width], data)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "integers of 32 bits at most, biases among them")]
fn real(number: i64, zero: i64) -> f32 {
    number.saturating_sub(zero) as f32
}

/// Scales and zero points are one number, or one for each index of `axis`.
fn dequantized(node: &OnnxNode, array: &Array, scale: &Array, zero: Option<&Array>, axis: usize) -> Result<Array> {
    let size = array.shape.get(axis).copied().unwrap_or(1);
    let fits = |array: &Array| array.len() == 1 || (array.shape.len() == 1 && array.len() == size);
    let (Data::Ints(numbers), Some(scales)) = (&array.data, scale.as_floats()) else {
        return Err(node.malformed("integers and scales of floats", "others"));
    };
    let zeros = zero.map_or(Some(&[0][..]), Array::as_ints);
    let Some(zeros) = zeros.filter(|_| fits(scale) && zero.is_none_or(fits)) else {
        return Err(node.malformed(format!("a scale, or {size} of them"), format!("{:?}", scale.shape)));
    };
    let inner: usize = array.shape.iter().skip(axis + 1).product();
    let at = |i: usize| (i / inner.max(1)) % size.max(1);
    let data =
        numbers.iter().enumerate().map(|(i, &n)| real(n, zeros[at(i) % zeros.len()]) * scales[at(i) % scales.len()]);
    Ok(Array::floats(array.shape.clone(), data.collect()))
}

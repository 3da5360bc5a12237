//! Constant tensors and their decoding.

use std::path::Path;

use super::proto::TensorProto;
use super::{external, malformed, unsupported};
use crate::base::error::Result;
use crate::base::room::room;
use crate::formats::safetensors::elements as each;

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Floats(Vec<f32>),
    /// Integers and booleans.
    Ints(Vec<i64>),
}

impl Array {
    pub fn ints(shape: Vec<usize>, data: Vec<i64>) -> Self {
        Self { shape, data: Data::Ints(data) }
    }

    pub fn floats(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Self { shape, data: Data::Floats(data) }
    }

    pub fn len(&self) -> usize {
        match &self.data {
            Data::Floats(data) => data.len(),
            Data::Ints(data) => data.len(),
        }
    }

    pub fn as_floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Floats(data) => Some(data),
            Data::Ints(_) => None,
        }
    }

    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Ints(data) => Some(data),
            Data::Floats(_) => None,
        }
    }

    /// The only number, if there is one.
    pub fn scalar(&self) -> Option<f32> {
        #[expect(clippy::cast_precision_loss, reason = "a factor or a threshold")]
        match &self.data {
            Data::Floats(data) if data.len() == 1 => Some(data[0]),
            Data::Ints(data) if data.len() == 1 => Some(data[0] as f32),
            _ => None,
        }
    }

    /// The elements at `indices` (flat), in a new shape.
    pub fn gather(&self, shape: Vec<usize>, indices: &[usize]) -> Self {
        let data = match &self.data {
            Data::Floats(data) => Data::Floats(indices.iter().map(|&i| data[i]).collect()),
            Data::Ints(data) => Data::Ints(indices.iter().map(|&i| data[i]).collect()),
        };
        Self { shape, data }
    }
}

/// Elements of `dims`, if they are sizes and their product is one.
fn elements(place: &str, dims: &[i64]) -> Result<(Vec<usize>, usize)> {
    let shape = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
    let count = shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
    match (shape, count) {
        // With a dimension of 0 the product of the others could overflow unnoticed.
        (Some(shape), Some(count)) if count > 0 || shape.len() == 1 => Ok((shape, count)),
        _ => Err(malformed(place, "dimensions from 0 whose product fits the address space", format!("{dims:?}"))),
    }
}

/// Decodes `tensor`; `folder` is where external data may lie.
pub fn decode(tensor: &TensorProto, folder: Option<&Path>) -> Result<Array> {
    let place = format!("tensor `{}`", tensor.name.as_deref().unwrap_or_default());
    let (shape, count) = elements(&place, &tensor.dims)?;
    if tensor.segment.is_some() {
        return Err(unsupported(place, "a tensor in segments"));
    }
    room(|| place.clone(), count, size_of::<i64>())?;
    let kind = tensor.data_type.unwrap_or(0);
    let width = match kind {
        1 | 6 => 4,
        10 | 16 | 4 | 5 => 2,
        7 | 11 => 8,
        2 | 3 | 9 => 1,
        other => return Err(unsupported(place, format!("ONNX data type {other}"))),
    };
    let outside;
    let raw: Option<&[u8]> = if tensor.data_location == Some(1) {
        outside = external::read(&place, tensor, folder, count.checked_mul(width))?;
        Some(&outside)
    } else {
        tensor.raw_data.as_deref()
    };
    let data = match raw {
        Some(raw) => {
            if Some(raw.len()) != count.checked_mul(width) {
                return Err(malformed(
                    &place,
                    format!("{count} elements of {width} bytes"),
                    format!("{} bytes", raw.len()),
                ));
            }
            from_raw(kind, raw)
        }
        None => from_fields(kind, tensor),
    };
    let array = Array { shape, data };
    if array.len() != count {
        return Err(malformed(&place, format!("{count} elements"), format!("{}", array.len())));
    }
    Ok(array)
}

fn from_raw(kind: i32, raw: &[u8]) -> Data {
    match kind {
        1 => Data::Floats(each(raw, f32::from_le_bytes)),
        #[expect(clippy::cast_possible_truncation, reason = "f64 weights are rounded to f32 on purpose")]
        11 => Data::Floats(each(raw, |b| f64::from_le_bytes(b) as f32)),
        10 => Data::Floats(each(raw, |b| half::f16::from_le_bytes(b).to_f32())),
        16 => Data::Floats(each(raw, |b| half::bf16::from_le_bytes(b).to_f32())),
        7 => Data::Ints(each(raw, i64::from_le_bytes)),
        6 => Data::Ints(each(raw, |b| i32::from_le_bytes(b).into())),
        5 => Data::Ints(each(raw, |b| i16::from_le_bytes(b).into())),
        4 => Data::Ints(each(raw, |b| u16::from_le_bytes(b).into())),
        3 => Data::Ints(each(raw, |b| i8::from_le_bytes(b).into())),
        _ => Data::Ints(raw.iter().map(|&b| b.into()).collect()),
    }
}

fn from_fields(kind: i32, tensor: &TensorProto) -> Data {
    let halves = |read: fn(u16) -> f32| {
        Data::Floats(tensor.int32_data.iter().map(|&bits| read(u16::try_from(bits).unwrap_or(u16::MAX))).collect())
    };
    match kind {
        1 => Data::Floats(tensor.float_data.clone()),
        #[expect(clippy::cast_possible_truncation, reason = "f64 weights are rounded to f32 on purpose")]
        11 => Data::Floats(tensor.double_data.iter().map(|&x| x as f32).collect()),
        10 => halves(|bits| half::f16::from_bits(bits).to_f32()),
        16 => halves(|bits| half::bf16::from_bits(bits).to_f32()),
        7 => Data::Ints(tensor.int64_data.clone()),
        _ => Data::Ints(tensor.int32_data.iter().map(|&x| x.into()).collect()),
    }
}

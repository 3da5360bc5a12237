//! A weight tensor in row-major order.

use super::WeightFormat;
use crate::base::error::{Error, Result};

/// Row-major `f32` numbers with a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
    format: WeightFormat,
}

impl Tensor {
    /// A tensor of `shape` over `data`, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not have as many elements as `shape` says.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if elements != Some(data.len()) {
            return Err(Error::shape(
                "tensor",
                format!("as many elements as shape {shape:?} says"),
                format!("{} elements", data.len()),
            ));
        }
        Ok(Self { shape, data, format: WeightFormat::F32 })
    }

    /// The shape, outermost dimension first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The elements, to be changed.
    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// How it is stored; its numbers are exactly those that the format can hold.
    #[must_use]
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Bytes that it takes in its format, scales included.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        match self.format {
            WeightFormat::F32 => size_of_val(&self.data[..]),
            WeightFormat::F16 => 2 * self.data.len(),
            WeightFormat::Int8 => self.data.len() + 4 * self.shape.first().copied().unwrap_or(1),
        }
    }

    /// The same numbers, which `format` can hold, stored so.
    pub(crate) fn marked(mut self, format: WeightFormat) -> Self {
        self.format = format;
        self
    }
}

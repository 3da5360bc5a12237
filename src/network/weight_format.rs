//! How matrices of weights are stored: 32-bit, 16-bit, or 8-bit with a scale per row.
//!
//! A tensor carries its format, and its numbers are exactly those that the format can hold, so
//! that the reference, which does not depend on formats, says what a device must compute.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use half::f16;

use super::{Network, Role, Stage, Tensor};
use crate::base::error::{Error, Result};

/// How a matrix of weights is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WeightFormat {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// Integers in ±127 times a scale per row, the largest magnitude of the row / 127.
    Int8,
}

impl WeightFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

impl Display for WeightFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WeightFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| Error::Malformed {
            what: "weight format".into(),
            expected: Self::ALL.map(Self::name).join(", "),
            got: format!("{text:?}"),
        })
    }
}

/// Scale and integers of a row; a row of zeros has scale 0. For a row that
/// was dequantized from a result of this function, both are reproduced bit by bit.
#[must_use]
pub fn quantize_row(row: &[f32]) -> (f32, Vec<i8>) {
    let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    // A scale s with (127 s) / 127 = s: because of rounding this may take a step or two.
    // Below the normal numbers a scale would lose the digits that tell integers apart.
    let mut scale = if largest > 0.0 { (largest / 127.0).max(f32::MIN_POSITIVE) } else { 0.0 };
    for _ in 0..4 {
        let whole = 127.0 * scale;
        // Close to the largest f32 the product may overflow.
        scale = if whole.is_finite() { whole / 127.0 } else { scale * (1.0 - f32::EPSILON) };
    }
    #[expect(clippy::cast_possible_truncation, reason = "no ratio is beyond ±127")]
    let integer = |x: &f32| if scale > 0.0 { (x / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
    (scale, row.iter().map(integer).collect())
}

impl Tensor {
    /// The numbers that `format` can hold next to these. Rows are those of the first dimension.
    fn rounded(&self, name: &str, format: WeightFormat) -> Result<Self> {
        let mut data = self.data().to_vec();
        match format {
            WeightFormat::F32 => {}
            WeightFormat::F16 => {
                for (index, number) in data.iter_mut().enumerate() {
                    let rounded = f16::from_f32(*number).to_f32();
                    if !rounded.is_finite() {
                        return Err(Error::Malformed {
                            what: format!("tensor `{name}` as f16"),
                            expected: format!("numbers in ±{}", f16::MAX),
                            got: format!("{number} at {index}"),
                        });
                    }
                    *number = rounded;
                }
            }
            WeightFormat::Int8 => {
                let columns = data.len() / self.shape().first().copied().unwrap_or(1).max(1);
                for row in data.chunks_exact_mut(columns.max(1)) {
                    let (scale, integers) = quantize_row(row);
                    for (number, integer) in row.iter_mut().zip(integers) {
                        *number = f32::from(integer) * scale;
                    }
                }
            }
        }
        Ok(Self::new(self.shape().to_vec(), data)?.marked(format))
    }
}

impl Network {
    /// The network with every matrix that a product reads rounded to `format` and stored so:
    /// `weight_ih`, `weight_hh` and `weight_hr` of recurrences, the weights of dense layers and
    /// convolutions. Everything else stays f32. To `F32` nothing is rounded.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a number that is too large for f16.
    pub fn with_weights(&self, format: WeightFormat) -> Result<Self> {
        let mut network = self.clone();
        for name in self.matrices() {
            if let Some(tensor) = network.tensors.get_mut(name) {
                *tensor = tensor.rounded(name, format)?;
            }
        }
        Ok(network)
    }

    /// Resets the format of tensors that no product reads: they are stored as f32.
    pub(super) fn unmark_others(&mut self) {
        let matrices: BTreeSet<String> = self.matrices().map(str::to_owned).collect();
        for (name, tensor) in &mut self.tensors {
            if tensor.format() != WeightFormat::F32 && !matrices.contains(name) {
                *tensor = tensor.clone().marked(WeightFormat::F32);
            }
        }
    }

    /// Names of the matrices that products read.
    fn matrices(&self) -> impl Iterator<Item = &str> {
        let params = self.stages.iter().flat_map(|stage| &stage.params);
        params.filter(|param| param.is_matrix).map(|param| param.name.as_str())
    }

    /// How a parameter of `stage` is stored.
    pub(crate) fn param_format(&self, stage: &Stage, direction: usize, role: Role) -> WeightFormat {
        let tensor = stage.param(direction, role).and_then(|param| self.tensors.get(&param.name));
        tensor.map(Tensor::format).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizing_twice_is_quantizing_once() {
        let mut rng = fastrand::Rng::with_seed(1);
        for length in 1..200 {
            let row: Vec<f32> = (0..length).map(|_| (rng.f32() - 0.5) * 3.0).collect();
            let (scale, integers) = quantize_row(&row);
            let rounded: Vec<f32> = integers.iter().map(|&q| f32::from(q) * scale).collect();
            for (x, y) in row.iter().zip(&rounded) {
                assert!((x - y).abs() <= scale * 0.500_001, "{x} became {y} with scale {scale}");
            }
            let (again, same) = quantize_row(&rounded);
            assert_eq!(same, integers);
            assert_eq!(again.to_bits(), scale.to_bits());
        }
        assert_eq!(quantize_row(&[0.0; 3]), (0.0, vec![0; 3]));
        let (scale, integers) = quantize_row(&[190.0 * f32::from_bits(1), 60.0 * f32::from_bits(1)]);
        assert_eq!((scale, integers), (f32::MIN_POSITIVE, vec![0, 0]), "far below half a step");
        let (scale, integers) = quantize_row(&[f32::MAX, -f32::MAX]);
        assert!((127.0 * scale).is_finite() && integers == [127, -127], "{scale} {integers:?}");
    }

    #[test]
    fn too_large_for_f16_is_named() {
        let tensor = Tensor::new(vec![1, 2], vec![1.0, 70_000.0]).unwrap();
        let error = tensor.rounded("lstm.weight_hh_l0", WeightFormat::F16).unwrap_err().to_string();
        assert!(error.contains("lstm.weight_hh_l0") && error.contains("70000 at 1"), "{error}");
    }

    #[test]
    fn names_are_read_back() {
        for format in WeightFormat::ALL {
            assert_eq!(format.to_string().parse::<WeightFormat>().unwrap(), format);
        }
        assert!("int4".parse::<WeightFormat>().unwrap_err().to_string().contains("f32, f16, int8"));
    }
}

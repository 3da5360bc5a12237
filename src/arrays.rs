//! Arrays of the crate `ndarray` as inputs, outputs and tensors.
//!
//! ```
//! use gatefold::{Device, Input, Network, Session, network::NetworkSpec};
//! use ndarray::{Array3, ArrayD};
//!
//! let spec = r#"{"format":1,"layers":[{"type":"gru","name":"gru","input_size":3,"hidden_size":5}]}"#;
//! let network = Network::random(serde_json::from_str::<NetworkSpec>(spec)?, 1)?;
//! let session = Session::new(&Device::cpu(), &network)?;
//! let x = Array3::<f32>::zeros((7, 2, 3)); // [T, B, I]
//! let output = session.run(Input::try_from(x.view())?, None)?;
//! let y = ArrayD::try_from(output)?;
//! assert_eq!(y.shape(), [7, 2, 5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use ndarray::{ArrayD, ArrayView, ArrayView2, ArrayView3, ArrayViewD, Dimension, IxDyn};

use crate::base::error::{Error, Result};
use crate::data::input::Input;
use crate::network::Tensor;
use crate::session::Output;

/// The numbers of an array whose memory is in the order of its axes.
fn row_major<'a, T, D: Dimension>(array: &ArrayView<'a, T, D>) -> Result<&'a [T]> {
    let numbers = array.to_slice();
    numbers.ok_or_else(|| {
        let got = format!("an array {:?} with strides {:?}", array.shape(), array.strides());
        Error::shape("input", "an array in standard layout (see `as_standard_layout`)", got)
    })
}

/// Vectors `[T, B, I]`, or `[B, T, I]` with `batch_first`, as [`Input::features`].
///
/// # Errors
/// [`Error::Shape`] if the array is not in standard layout.
impl<'a> TryFrom<ArrayView3<'a, f32>> for Input<'a> {
    type Error = Error;

    fn try_from(array: ArrayView3<'a, f32>) -> Result<Self> {
        Ok(Self::features(row_major(&array)?, array.dim().into()))
    }
}

/// A vector for each batch row, `[B, I]`, as [`Input::rows`].
///
/// # Errors
/// [`Error::Shape`] if the array is not in standard layout.
impl<'a> TryFrom<ArrayView2<'a, f32>> for Input<'a> {
    type Error = Error;

    fn try_from(array: ArrayView2<'a, f32>) -> Result<Self> {
        Ok(Self::rows(row_major(&array)?, array.dim().into()))
    }
}

/// Token ids `[T, B]`, or `[B, T]` with `batch_first`, as [`Input::tokens`].
///
/// # Errors
/// [`Error::Shape`] if the array is not in standard layout.
impl<'a> TryFrom<ArrayView2<'a, u32>> for Input<'a> {
    type Error = Error;

    fn try_from(array: ArrayView2<'a, u32>) -> Result<Self> {
        Ok(Self::tokens(row_major(&array)?, array.dim().into()))
    }
}

fn array(shape: &[usize], numbers: Vec<f32>) -> Result<ArrayD<f32>> {
    let count = numbers.len();
    ArrayD::from_shape_vec(IxDyn(shape), numbers)
        .map_err(|error| Error::shape("output", format!("{shape:?}"), format!("{count} numbers ({error})")))
}

/// The values in the output's shape.
///
/// # Errors
/// [`Error::Shape`] if its public fields were changed so that they do not fit together.
impl TryFrom<Output> for ArrayD<f32> {
    type Error = Error;

    fn try_from(output: Output) -> Result<Self> {
        array(&output.shape, output.values)
    }
}

impl Output {
    /// Its values in its shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if its public fields were changed so that they do not fit together.
    pub fn view(&self) -> Result<ArrayViewD<'_, f32>> {
        ArrayViewD::from_shape(IxDyn(&self.shape), &self.values).map_err(|error| {
            Error::shape("output", format!("{:?}", self.shape), format!("{} numbers ({error})", self.values.len()))
        })
    }
}

/// A tensor with the array's numbers, whatever its layout.
///
/// # Errors
/// None that an array can cause.
impl TryFrom<ArrayViewD<'_, f32>> for Tensor {
    type Error = Error;

    fn try_from(array: ArrayViewD<'_, f32>) -> Result<Self> {
        Self::new(array.shape().to_vec(), array.iter().copied().collect())
    }
}

/// The tensor's numbers in its shape.
///
/// # Errors
/// None that a tensor can cause.
impl TryFrom<&Tensor> for ArrayD<f32> {
    type Error = Error;

    fn try_from(tensor: &Tensor) -> Result<Self> {
        array(tensor.shape(), tensor.data().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3, ShapeBuilder as _};

    use super::*;
    use crate::network::{LayerSpec, NetworkSpec, RecurrentSpec};
    use crate::{Device, Network, Session};

    #[test]
    fn arrays_go_in_and_out_in_their_own_shape() -> Result<()> {
        let layers = vec![LayerSpec::Gru(RecurrentSpec::new("gru", 3, 5))];
        let network = Network::random(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, 1)?;
        let session = Session::new(&Device::cpu(), &network)?;
        let number = |(t, b, i): (usize, usize, usize)| (t * 100 + b * 10 + i) as f32 / 300.0;
        let x = Array3::from_shape_fn((4, 2, 3), number);
        let plain: Vec<f32> = x.iter().copied().collect();
        let expected = session.run(Input::features(&plain, [4, 2, 3]), None)?;
        let output = session.run(Input::try_from(x.view())?, None)?;
        assert_eq!(output.values, expected.values);
        assert_eq!(output.view()?[[3, 1, 4]], expected.values[(3 * 2 + 1) * 5 + 4]);
        let y = ArrayD::try_from(output)?;
        assert_eq!(y.shape(), expected.shape);
        assert_eq!(y.as_slice(), Some(&expected.values[..]));
        // The same numbers in another order of memory would be read wrongly.
        let columns_first = Array3::from_shape_fn((4, 2, 3).f(), number);
        let refusal = Input::try_from(columns_first.view()).map(|_| ()).map_err(|error| error.to_string());
        assert!(refusal.is_err_and(|error| error.contains("standard layout")));
        assert!(Input::try_from(Array2::<u32>::zeros((4, 2)).view()).is_ok());
        assert!(Input::try_from(Array2::<f32>::zeros((4, 2)).view()).is_ok());
        Ok(())
    }

    #[test]
    fn tensors_are_arrays() -> Result<()> {
        let columns_first = ArrayD::from_shape_fn(IxDyn(&[2, 3]).f(), |at| (at[0] * 3 + at[1]) as f32);
        let tensor = Tensor::try_from(columns_first.view())?;
        assert_eq!((tensor.shape(), tensor.data()), (&[2, 3][..], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..]));
        assert_eq!(ArrayD::try_from(&tensor)?, columns_first);
        Ok(())
    }
}

//! Weights of Keras layers that become several of gatefold's layers, and of layers whose weights are constants.

use super::layers::Item;
use crate::base::error::{Error, Result};
use crate::network::{Activation, ActivationSpec, DenseSpec, LayerSpec, NormSpec, Tensor};

/// Numbers of a tensor of which the file has fewer: a small file must not take all memory.
const MOST_MADE: usize = 1 << 26;

/// Where the tensors of one of the layers come from that a Keras layer becomes.
pub(super) struct PartWeights {
    /// The Keras layer.
    pub layer: String,
    /// The layer within it whose arrays they are (MultiHeadAttention's `query`).
    pub inner: Option<&'static str>,
    /// The roles and the shapes of all arrays of that group, in Keras' order; none where no number is in the file.
    pub arrays: Vec<(&'static str, Vec<usize>)>,
    pub tensors: Vec<PartTensor>,
}

/// One tensor of such a layer.
pub(super) struct PartTensor {
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub numbers: PartNumbers,
}

/// The numbers of a tensor, row-major.
pub(super) enum PartNumbers {
    /// Known without the file, each by its place.
    Known(Box<dyn Fn(usize) -> f32>),
    /// An array's numbers in their order, from the start again where they are fewer.
    Cycled(usize),
    /// An array's numbers in their order, each so often in a row that they are enough.
    Stretched(usize),
    /// The numbers of an array, a matrix of so many rows, column by column.
    Transposed(usize, usize),
}

impl PartNumbers {
    /// One number everywhere.
    pub(super) fn same(number: f32) -> Self {
        Self::Known(Box::new(move |_| number))
    }

    /// The array that is read, if one is.
    pub(super) fn array(&self) -> Option<usize> {
        match self {
            Self::Known(_) => None,
            Self::Cycled(array) | Self::Stretched(array) | Self::Transposed(array, _) => Some(*array),
        }
    }

    /// The numbers of a tensor of `shape`, from those of the array that is read.
    pub(super) fn tensor(&self, shape: &[usize], data: &[f32]) -> Result<Tensor> {
        let count = shape.iter().fold(1, |product: usize, &size| product.saturating_mul(size));
        if count > data.len().max(MOST_MADE) {
            return Err(Error::TooLarge {
                what: format!("a matrix {shape:?} that a layer without it becomes"),
                needed: count as u64,
                limit: MOST_MADE as u64,
                limit_name: "2^26 numbers".into(),
            });
        }
        let numbers = match self {
            Self::Known(number) => (0..count).map(number).collect(),
            Self::Cycled(_) => data.iter().copied().cycle().take(count).collect(),
            Self::Stretched(_) => {
                let times = count.checked_div(data.len()).unwrap_or(0);
                data.iter().flat_map(|&number| std::iter::repeat_n(number, times)).collect()
            }
            Self::Transposed(_, rows) => {
                let columns = data.len().checked_div(*rows).unwrap_or(0);
                (0..columns).flat_map(|column| data.iter().skip(column).step_by(columns)).copied().collect()
            }
        };
        Tensor::new(shape.to_vec(), numbers)
    }
}

/// Layers that a Keras layer becomes, each with where its weights are if they are not a layer's of this kind.
#[derive(Default)]
pub(super) struct Parts {
    pub layers: Vec<LayerSpec>,
    pub weights: Vec<(String, PartWeights)>,
}

impl Parts {
    /// A layer whose tensors are made of `arrays` of the group of `item`, or of the layer `inner` in it.
    pub(super) fn push(
        &mut self,
        item: &Item<'_>,
        layer: LayerSpec,
        (inner, arrays): (Option<&'static str>, &[(&'static str, Vec<usize>)]),
        tensors: Vec<PartTensor>,
    ) {
        let name = layer.name().to_owned();
        let weights = PartWeights { layer: item.name.to_owned(), inner, arrays: arrays.to_vec(), tensors };
        self.weights.push((name, weights));
        self.layers.push(layer);
    }

    /// A dense layer without a bias that multiplies by a matrix `[outputs, inputs]`.
    pub(super) fn product(
        &mut self,
        item: &Item<'_>,
        (name, [outputs, inputs]): (&str, [usize; 2]),
        arrays: (Option<&'static str>, &[(&'static str, Vec<usize>)]),
        numbers: PartNumbers,
    ) {
        let (name, activation) = (name.to_owned(), Activation::Linear);
        let spec = DenseSpec { name, in_features: inputs, out_features: outputs, bias: false, activation };
        let tensors = vec![PartTensor { name: "weight", shape: vec![outputs, inputs], numbers }];
        self.push(item, LayerSpec::Dense(spec), arrays, tensors);
    }

    /// A layer that multiplies each of `width` channels by a number of its own.
    pub(super) fn scale(
        &mut self,
        item: &Item<'_>,
        (name, width): (&str, usize),
        arrays: &[(&'static str, Vec<usize>)],
        numbers: PartNumbers,
    ) {
        let spec = NormSpec { name: name.to_owned(), num_features: width, eps: 0.0, weight: true, bias: false };
        let tensor = |name, numbers| PartTensor { name, shape: vec![width], numbers };
        let tensors = vec![
            tensor("weight", numbers),
            tensor("running_mean", PartNumbers::same(0.0)),
            tensor("running_var", PartNumbers::same(1.0)),
        ];
        self.push(item, LayerSpec::BatchNorm(spec), (None, arrays), tensors);
    }

    pub(super) fn function(&mut self, name: String, activation: Activation) {
        self.layers.push(LayerSpec::Activation(ActivationSpec { name, activation }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_laid_out() {
        let made = |numbers: PartNumbers, shape: &[usize]| {
            let tensor = numbers.tensor(shape, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).ok()?;
            Some(tensor.data().to_vec())
        };
        assert_eq!(made(PartNumbers::Transposed(0, 2), &[3, 2]), Some(vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        assert_eq!(made(PartNumbers::Cycled(0), &[8]), Some(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0]));
        let stretched = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].into_iter().flat_map(|x: f32| [x; 2]).collect();
        assert_eq!(made(PartNumbers::Stretched(0), &[12]), Some(stretched));
        assert_eq!(made(PartNumbers::Stretched(0), &[13]), None, "the control");
        for numbers in [PartNumbers::same(1.0), PartNumbers::Cycled(0)] {
            assert_eq!(made(numbers, &[1 << 20, 1 << 20]), None, "more than the memory of a machine");
        }
    }
}

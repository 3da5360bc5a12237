//! Values of shader constants.

use crate::base::error::{Error, Result};
use crate::network::{Activation, Combine};

/// Highest number that `shaders/common/activate_few.wgsl` knows.
pub(super) const LAST_OF_FEW: u32 = 3;

/// Number, alpha and beta of an activation; the numbers stand in `shaders/common/activations.wgsl`.
pub(super) fn activation(activation: Activation) -> [u32; 3] {
    let number = match activation {
        Activation::Linear => 0,
        Activation::Relu => 1,
        Activation::Tanh => 2,
        Activation::Sigmoid => 3,
        Activation::Affine { .. } => 4,
        Activation::LeakyRelu { .. } => 5,
        Activation::ThresholdedRelu { .. } => 6,
        Activation::ScaledTanh { .. } => 7,
        Activation::HardSigmoid { .. } => 8,
        Activation::Elu { .. } => 9,
        Activation::Softsign => 10,
        Activation::Softplus => 11,
        Activation::Selu => 12,
        Activation::Gelu => 13,
        Activation::GeluTanh => 14,
        Activation::Silu => 15,
        Activation::Mish => 16,
        Activation::Clip { .. } => 17,
        Activation::Exp => 18,
        Activation::Square => 19,
        Activation::Sqrt => 20,
        Activation::Abs => 21,
    };
    let [alpha, beta] = activation.parameters().map(f32::to_bits);
    [number, alpha, beta]
}

/// Number of a combination; the numbers stand in `shaders/combine.wgsl`.
pub(super) fn combination(how: Combine) -> u32 {
    match how {
        Combine::Copy => 0,
        Combine::Add => 1,
        Combine::Mul => 2,
        Combine::Max => 3,
    }
}

/// A bound, 0 for none.
pub(super) fn bound(bound: Option<f32>) -> u32 {
    bound.unwrap_or(0.0).to_bits()
}

/// A size that the network's validation has bounded.
pub(super) fn size(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| Error::TooLarge {
        what: "a layer's size".into(),
        needed: size as u64,
        limit: u32::MAX.into(),
        limit_name: "32-bit constants".into(),
    })
}

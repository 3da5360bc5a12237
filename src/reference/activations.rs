//! Twin of `shaders/common/activations.wgsl`.

use super::Real;
use crate::network::Activation;

/// `1 / (1 + exp(-x))`, written so that no intermediate overflows.
pub fn sigmoid<F: Real>(x: F) -> F {
    let e = (-x.abs()).exp();
    let positive = F::ONE / (F::ONE + e);
    if x < F::default() { e * positive } else { positive }
}

/// The activation of a dense layer.
pub fn activate<F: Real>(activation: Activation, x: F) -> F {
    match activation {
        Activation::Linear => x,
        // NaN must stay NaN, so the comparison asks for "below", not for the maximum.
        Activation::Relu if x < F::default() => F::default(),
        Activation::Relu => x,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
    }
}

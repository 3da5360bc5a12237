//! Reference implementation of `shaders/common/activations.wgsl`.

use super::Real;
use crate::network::Activation;

/// Scale and depth of SELU (Klambauer et al. 2017).
pub(super) const SELU_GAMMA: f32 = 1.050_701;
pub(super) const SELU_ALPHA: f32 = 1.673_263_2;

/// Slope of the gate of `hard_swish`.
pub(super) const SIXTH: f32 = 1.0 / 6.0;

/// `1 / (1 + exp(-x))`, written so that no intermediate overflows.
pub fn sigmoid<F: Real>(x: F) -> F {
    let e = (-x.abs()).exp();
    let positive = F::ONE / (F::ONE + e);
    if x < F::default() { e * positive } else { positive }
}

/// `log(1 + exp(x))`, written so that no intermediate overflows.
pub(crate) fn softplus<F: Real>(x: F) -> F {
    let above = if x < F::default() { F::default() } else { x };
    above + (-x.abs()).exp().ln_1p()
}

/// `sqrt(2/π)`, and the factor of x³ relative to x.
pub(super) const GELU_SCALE: f32 = 0.797_884_6;
pub(super) const GELU_CUBE: f32 = 0.044_715;

/// What the approximate GELU takes the hyperbolic tangent of.
pub(super) fn gelu_argument<F: Real>(x: F) -> F {
    F::from_f32(GELU_SCALE) * (x + F::from_f32(GELU_CUBE) * x * x * x)
}

/// The elementwise functions.
pub fn activate<F: Real>(activation: Activation, x: F) -> F {
    let [alpha, beta] = activation.parameters().map(F::from_f32);
    let (zero, half) = (F::default(), F::from_f32(0.5));
    // NaN must stay NaN, so comparisons ask for "below" or "above", not for a maximum.
    match activation {
        Activation::Linear => x,
        Activation::Relu if x < zero => zero,
        Activation::Relu => x,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Affine { .. } => alpha * x + beta,
        Activation::LeakyRelu { .. } if x < zero => alpha * x,
        Activation::LeakyRelu { .. } => x,
        Activation::ThresholdedRelu { .. } if x <= alpha => zero,
        Activation::ThresholdedRelu { .. } => x,
        Activation::ScaledTanh { .. } => alpha * (beta * x).tanh(),
        Activation::HardSigmoid { .. } => clamp(alpha * x + beta, zero, F::ONE),
        Activation::Elu { .. } if x < zero => alpha * x.exp_m1(),
        Activation::Elu { .. } => x,
        Activation::Softsign => x / (F::ONE + x.abs()),
        Activation::Softplus => softplus(x),
        Activation::Selu if x < zero => F::from_f32(SELU_GAMMA * SELU_ALPHA) * x.exp_m1(),
        Activation::Selu => F::from_f32(SELU_GAMMA) * x,
        Activation::Gelu => half * x * (F::ONE + (x * F::from_f32(std::f32::consts::FRAC_1_SQRT_2)).erf()),
        Activation::GeluTanh => half * x * (F::ONE + gelu_argument(x).tanh()),
        Activation::Silu => x * sigmoid(x),
        Activation::Mish => x * softplus(x).tanh(),
        Activation::Clip { .. } => clamp(x, alpha, beta),
        Activation::Exp => x.exp(),
        Activation::Square => x * x,
        Activation::Sqrt => x.sqrt(),
        Activation::Abs => x.abs(),
        Activation::HardSwish => x * clamp(x * F::from_f32(SIXTH) + half, zero, F::ONE),
        Activation::Log => x.ln(),
        Activation::LinearSigmoid if x < zero => sigmoid(x),
        Activation::LinearSigmoid => x + half,
        Activation::Reciprocal => F::ONE / x,
    }
}

/// `x` within bounds; NaN stays NaN.
pub(super) fn clamp<F: Real>(x: F, low: F, high: F) -> F {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

//! The derivatives of the elementwise functions.

use super::activations::{GELU_CUBE, GELU_SCALE, SELU_ALPHA, SELU_GAMMA, SIXTH, gelu_argument, softplus};
use super::{Real, activate, sigmoid};
use crate::network::Activation;

/// φ'(x) of `activation` φ at the pre-activation `x`; at a kink it is what PyTorch takes there, but for `clip`.
///
/// At 0 that is 0 of `relu` and `abs`, and the slope from below of `leaky_relu`, `elu` and `selu`. The bounds of `clip`
/// belong to its inside, as once in PyTorch, whose `clamp` has 0 there in 2.15; those of `hard_sigmoid` and `hard_swish` and
/// the threshold of `thresholded_relu` do not.
pub fn derivative<F: Real>(activation: Activation, x: F) -> F {
    let [alpha, beta] = activation.parameters().map(F::from_f32);
    let (zero, one, half) = (F::default(), F::ONE, F::from_f32(0.5));
    let two = one + one;
    match activation {
        Activation::Linear => one,
        Activation::Relu => if_above(x, zero, one, zero),
        Activation::Tanh => slope_of_tanh(x),
        Activation::Sigmoid => sigmoid(x) * sigmoid(-x),
        Activation::Affine { .. } => alpha,
        Activation::LeakyRelu { .. } => if_above(x, zero, one, alpha),
        Activation::ThresholdedRelu { .. } => if_above(x, alpha, one, zero),
        Activation::ScaledTanh { .. } => alpha * beta * slope_of_tanh(beta * x),
        Activation::HardSigmoid { .. } => {
            let y = alpha * x + beta;
            if y <= zero || y >= one { zero } else { alpha }
        }
        Activation::Elu { .. } if x <= zero => alpha * x.exp(),
        Activation::Elu { .. } => one,
        Activation::Softsign => {
            let divisor = one + x.abs();
            one / (divisor * divisor)
        }
        Activation::Softplus => sigmoid(x),
        Activation::Selu if x <= zero => F::from_f32(SELU_GAMMA * SELU_ALPHA) * x.exp(),
        Activation::Selu => F::from_f32(SELU_GAMMA),
        Activation::Gelu => {
            let scaled = x * F::from_f32(std::f32::consts::FRAC_1_SQRT_2);
            // The normal distribution's density is exp(-x²/2) / sqrt(2π).
            let density = F::from_f64(0.398_942_280_401_432_7) * (-scaled * scaled).exp();
            half * (one + scaled.erf()) + x * density
        }
        Activation::GeluTanh => {
            let argument = gelu_argument(x);
            let slope = F::from_f32(GELU_SCALE) * (one + F::from_f32(3.0) * F::from_f32(GELU_CUBE) * x * x);
            half * (one + argument.tanh()) + half * x * slope_of_tanh(argument) * slope
        }
        Activation::Silu => sigmoid(x) * (one + x * sigmoid(-x)),
        Activation::Mish => {
            let above = softplus(x);
            above.tanh() + x * slope_of_tanh(above) * sigmoid(x)
        }
        Activation::Clip { .. } if x < alpha || x > beta => zero,
        Activation::Clip { .. } => one,
        Activation::Exp => x.exp(),
        Activation::Square => two * x,
        Activation::Sqrt => one / (two * x.sqrt()),
        Activation::Abs if x == zero => zero,
        Activation::Abs => if_above(x, zero, one, -one),
        Activation::HardSwish => {
            let gate = x * F::from_f32(SIXTH) + half;
            if gate <= zero {
                zero
            } else if gate >= one {
                one
            } else {
                gate + x * F::from_f32(SIXTH)
            }
        }
        Activation::Log => one / x,
        Activation::LinearSigmoid if x < zero => sigmoid(x) * sigmoid(-x),
        Activation::LinearSigmoid => one,
        Activation::Reciprocal => -one / (x * x),
    }
}

/// `above` if `x > bound`, else `below`; NaN counts as above.
fn if_above<F: Real>(x: F, bound: F, above: F, below: F) -> F {
    if x <= bound { below } else { above }
}

fn slope_of_tanh<F: Real>(x: F) -> F {
    let y = activate(Activation::Tanh, x);
    F::ONE - y * y
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where φ' jumps, and φ' there.
    fn kink(activation: Activation) -> Vec<(f64, f64)> {
        let wide = |activation: Activation| activation.parameters().map(f64::from);
        match activation {
            Activation::Relu | Activation::Abs => vec![(0.0, 0.0)],
            Activation::LeakyRelu { .. } | Activation::Elu { .. } => vec![(0.0, wide(activation)[0])],
            Activation::Selu => vec![(0.0, f64::from(SELU_GAMMA * SELU_ALPHA))],
            Activation::ThresholdedRelu { alpha } => vec![(alpha.into(), 0.0)],
            Activation::HardSigmoid { .. } => {
                let [alpha, beta] = wide(activation);
                vec![(-beta / alpha, 0.0), ((1.0 - beta) / alpha, 0.0)]
            }
            Activation::Clip { alpha, beta } => vec![(alpha.into(), 1.0), (beta.into(), 1.0)],
            Activation::Sqrt | Activation::Log => vec![(0.0, f64::INFINITY)],
            Activation::HardSwish => vec![(-3.0, 0.0), (3.0, 1.0)],
            Activation::LinearSigmoid => vec![(0.0, 1.0)],
            _ => Vec::new(),
        }
    }

    /// The largest difference of `slope` from the central differences of `activation`, relative to the largest slope.
    fn difference(activation: Activation, slope: impl Fn(f64) -> f64) -> f64 {
        let kinks = kink(activation);
        let (mut worst, mut largest) = (0.0f64, 0.0f64);
        for at in -800..=800 {
            let x = f64::from(at) / 100.0 + 0.0013;
            let h = 1e-6 * x.abs().max(1.0);
            if kinks.iter().any(|(kink, _)| (x - kink).abs() < 2.0 * h)
                || (matches!(activation, Activation::Sqrt | Activation::Log | Activation::Reciprocal) && x < 0.1)
            {
                continue;
            }
            let central = (activate(activation, x + h) - activate(activation, x - h)) / (2.0 * h);
            worst = worst.max((slope(x) - central).abs());
            largest = largest.max(central.abs());
        }
        worst / largest
    }

    #[test]
    fn central_differences_agree() {
        for activation in Activation::ALL {
            let worst = difference(activation, |x| derivative(activation, x));
            assert!(worst < 1e-8, "{activation:?}: {worst:e}");
            // Negative control: a slope one thousandth too steep.
            let wrong = difference(activation, |x| 1.001 * derivative(activation, x));
            assert!(wrong > 5e-4, "{activation:?}: {wrong:e}");
        }
    }

    #[test]
    fn kinks_are_as_told() {
        let mut seen = 0;
        for activation in Activation::ALL {
            for (x, expected) in kink(activation) {
                let got = derivative(activation, x);
                assert!(got == expected, "{activation:?} at {x}: {got}, expected {expected}");
                seen += 1;
            }
        }
        assert_eq!(seen, 15);
    }

    #[test]
    fn far_out_nothing_overflows() {
        let bounded = Activation::ALL.into_iter().filter(|activation| {
            !matches!(activation, Activation::Exp | Activation::Square | Activation::Sqrt | Activation::Log)
        });
        for activation in bounded {
            for x in [-1e4f32, -50.0, 50.0, 1e4] {
                let (got, wide) = (derivative(activation, x), derivative(activation, f64::from(x)));
                assert!((f64::from(got) - wide).abs() <= 1e-6 * wide.abs().max(1.0), "{activation:?} at {x}: {got}");
            }
        }
    }
}

//! Elementwise functions, as the field names them.

use serde::{Deserialize, Serialize};

/// Elementwise function of a layer or of a recurrent cell's gates.
///
/// Names and formulas are ONNX's where ONNX has them (`RNN` operator and its elementwise
/// operators), else PyTorch's. Those without parameters are stored as a word (`"relu"`), the
/// others as `{"leaky_relu": {"alpha": 0.01}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `alpha x + beta`
    Affine {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x` if `x >= 0`, else `alpha x`
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `x` if `x > alpha`, else `0`
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// `alpha tanh(beta x)`
    ScaledTanh {
        /// Height.
        alpha: f32,
        /// Slope.
        beta: f32,
    },
    /// `min(max(alpha x + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x` if `x >= 0`, else `alpha (exp(x) - 1)`
    Elu {
        /// Depth below 0.
        alpha: f32,
    },
    /// `x / (1 + |x|)`
    Softsign,
    /// `log(1 + exp(x))`
    Softplus,
    /// `gamma x` if `x > 0`, else `gamma alpha (exp(x) - 1)`, with the paper's constants
    /// (Klambauer et al. 2017)
    Selu,
    /// `x Φ(x)` with the normal distribution's Φ
    Gelu,
    /// `x/2 (1 + tanh(sqrt(2/π) (x + 0.044715 x³)))`
    GeluTanh,
    /// `x sigmoid(x)`
    Silu,
    /// `x tanh(softplus(x))`
    Mish,
    /// `min(max(x, alpha), beta)`
    Clip {
        /// Lowest value.
        alpha: f32,
        /// Highest value.
        beta: f32,
    },
    /// `exp(x)`
    Exp,
    /// `x²`
    Square,
    /// `sqrt(x)`
    Sqrt,
    /// `|x|`
    Abs,
    /// `x min(max(x/6 + 1/2, 0), 1)`
    HardSwish,
    /// `log(x)`
    Log,
    /// `x + 1/2` if `x >= 0`, else `sigmoid(x)`: positive everywhere, the g of minGRU and minLSTM (Feng et al. 2024)
    LinearSigmoid,
    /// `1 / x`
    Reciprocal,
}

impl Activation {
    /// All of them with typical parameters, for tests.
    pub const ALL: [Self; 26] = [
        Self::Linear,
        Self::Relu,
        Self::Tanh,
        Self::Sigmoid,
        Self::Affine { alpha: 0.7, beta: -0.2 },
        Self::LeakyRelu { alpha: 0.01 },
        Self::ThresholdedRelu { alpha: 0.3 },
        Self::ScaledTanh { alpha: 1.7159, beta: 0.6667 },
        Self::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Self::Elu { alpha: 1.3 },
        Self::Softsign,
        Self::Softplus,
        Self::Selu,
        Self::Gelu,
        Self::GeluTanh,
        Self::Silu,
        Self::Mish,
        Self::Clip { alpha: 0.0, beta: 6.0 },
        Self::Exp,
        Self::Square,
        Self::Sqrt,
        Self::Abs,
        Self::HardSwish,
        Self::Log,
        Self::LinearSigmoid,
        Self::Reciprocal,
    ];

    /// alpha and beta; 0 where the function has none.
    #[must_use]
    pub fn parameters(self) -> [f32; 2] {
        match self {
            Self::Affine { alpha, beta }
            | Self::ScaledTanh { alpha, beta }
            | Self::HardSigmoid { alpha, beta }
            | Self::Clip { alpha, beta } => [alpha, beta],
            Self::LeakyRelu { alpha } | Self::ThresholdedRelu { alpha } | Self::Elu { alpha } => [alpha, 0.0],
            _ => [0.0; 2],
        }
    }
}

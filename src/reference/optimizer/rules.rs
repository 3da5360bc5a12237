//! The rules by which optimizers move parameters, with PyTorch's and Keras' numbers.

use serde::{Deserialize, Serialize};

/// The framework whose formula is used where formulas differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// PyTorch's.
    #[default]
    PyTorch,
    /// Keras'.
    Keras,
}

/// `m = μ m + g`, then `p -= lr m`, or with Nesterov's momentum `p -= lr (g + μ m)`. Keras multiplies g by the learning
/// rate before it goes into m; the result differs if the rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// The learning rate.
    pub learning_rate: f64,
    /// μ, from 0 to below 1.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Where the rate is multiplied.
    pub convention: Convention,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 1e-3, momentum: 0.0, nesterov: false, convention: Convention::PyTorch }
    }
}

impl Sgd {
    /// Keras' numbers.
    #[must_use]
    pub fn keras() -> Self {
        Self { learning_rate: 0.01, convention: Convention::Keras, ..Self::default() }
    }
}

/// `m += (g - m)(1 - β1)`, `v = β2 v + (1 - β2) g²`, `p -= lr √c2 / c1 · m / (√v + ê)` with `c = 1 - βᵗ`. ê is eps for
/// Keras and `eps √c2` for PyTorch (Kingma & Ba 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// The learning rate.
    pub learning_rate: f64,
    /// β1, of the mean.
    pub beta1: f64,
    /// β2, of the mean square.
    pub beta2: f64,
    /// What keeps the divisor from 0.
    pub eps: f64,
    /// How eps is meant.
    pub convention: Convention,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, convention: Convention::PyTorch }
    }
}

impl Adam {
    /// Keras' numbers.
    #[must_use]
    pub fn keras() -> Self {
        Self { eps: 1e-7, convention: Convention::Keras, ..Self::default() }
    }
}

/// `p *= 1 - lr λ`, then [`Adam`] (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The rest of it.
    pub adam: Adam,
    /// λ
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { adam: Adam::default(), weight_decay: 0.01 }
    }
}

impl AdamW {
    /// Keras' numbers.
    #[must_use]
    pub fn keras() -> Self {
        Self { adam: Adam::keras(), weight_decay: 0.004 }
    }
}

/// `v = ρ v + (1 - ρ) g²`, then `p -= lr g / (√v + eps)`, for Keras `lr g / √(v + eps)`. Centred, v is made less by the
/// square of the mean of g. With momentum, `m = μ m + ` that quotient goes from p in its place; Keras' contains the rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsProp {
    /// The learning rate.
    pub learning_rate: f64,
    /// ρ
    pub rho: f64,
    /// What keeps the divisor from 0.
    pub eps: f64,
    /// μ, from 0 to below 1.
    pub momentum: f64,
    /// Whether v is a variance.
    pub centered: bool,
    /// How eps is meant, and where the rate is multiplied.
    pub convention: Convention,
}

impl Default for RmsProp {
    fn default() -> Self {
        let (learning_rate, convention) = (0.01, Convention::PyTorch);
        Self { learning_rate, rho: 0.99, eps: 1e-8, momentum: 0.0, centered: false, convention }
    }
}

impl RmsProp {
    /// Keras' numbers.
    #[must_use]
    pub fn keras() -> Self {
        Self { learning_rate: 1e-3, rho: 0.9, eps: 1e-7, convention: Convention::Keras, ..Self::default() }
    }
}

/// `a += g²`, then `p -= lr g / (√a + eps)`, for Keras `lr g / √(a + eps)` (Duchi et al. 2011).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adagrad {
    /// The learning rate.
    pub learning_rate: f64,
    /// What keeps the divisor from 0.
    pub eps: f64,
    /// What a starts from.
    pub initial: f64,
    /// How eps is meant.
    pub convention: Convention,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { learning_rate: 0.01, eps: 1e-10, initial: 0.0, convention: Convention::PyTorch }
    }
}

impl Adagrad {
    /// Keras' numbers.
    #[must_use]
    pub fn keras() -> Self {
        Self { learning_rate: 1e-3, eps: 1e-7, initial: 0.1, convention: Convention::Keras }
    }
}

/// How a step is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam; AdamW with [`Optimizer::weight_decay`](super::Optimizer::weight_decay).
    Adam(Adam),
    /// RMSprop.
    RmsProp(RmsProp),
    /// Adagrad.
    Adagrad(Adagrad),
}

impl Rule {
    /// Its learning rate, which a schedule may change.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd(Sgd { learning_rate, .. })
            | Self::Adam(Adam { learning_rate, .. })
            | Self::RmsProp(RmsProp { learning_rate, .. })
            | Self::Adagrad(Adagrad { learning_rate, .. }) => *learning_rate,
        }
    }

    /// Which of the three numbers of [`OptimizerState::moments`](super::OptimizerState::moments) are kept.
    #[must_use]
    pub fn keeps(&self) -> [bool; 3] {
        match self {
            Self::Sgd(sgd) => [sgd.momentum > 0.0, false, false],
            Self::Adam(_) => [true, true, false],
            Self::RmsProp(rms) => [rms.momentum > 0.0, true, rms.centered],
            Self::Adagrad(_) => [false, true, false],
        }
    }
}

//! Values of shader constants, by name.

use crate::base::error::{Error, Result};
use crate::network::{Activation, Combine, MaskedOutput, Pool};

/// Value of an override constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConstantValue {
    /// A `u32`.
    U32(u32),
    /// The bits of an `f32`.
    F32(u32),
}

impl ConstantValue {
    /// The value as a number.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::U32(value) => value.into(),
            Self::F32(bits) => f32::from_bits(bits).into(),
        }
    }

    /// The value as 32 bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::U32(bits) | Self::F32(bits) => bits,
        }
    }
}

impl From<u32> for ConstantValue {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<bool> for ConstantValue {
    fn from(value: bool) -> Self {
        Self::U32(value.into())
    }
}

impl From<f32> for ConstantValue {
    fn from(value: f32) -> Self {
        Self::F32(value.to_bits())
    }
}

/// Values of a kernel's override constants, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constants(Vec<(&'static str, ConstantValue)>);

impl Constants {
    /// Names with their values. [`KernelSpec::mismatch`](super::KernelSpec::mismatch) checks them.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (&'static str, ConstantValue)>) -> Self {
        Self(values.into_iter().collect())
    }

    /// Sizes by name.
    pub(super) fn sizes<const N: usize>(sizes: [(&'static str, usize); N]) -> Result<Self> {
        sizes.into_iter().map(|(name, value)| Ok((name, size(value)?.into()))).collect::<Result<_>>().map(Self)
    }

    /// Adds one value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<ConstantValue>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Adds the values of `more`.
    #[must_use]
    pub fn and(mut self, more: impl IntoIterator<Item = (&'static str, ConstantValue)>) -> Self {
        self.0.extend(more);
        self
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ConstantValue> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// Names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, ConstantValue)> + '_ {
        self.0.iter().copied()
    }
}

/// Names of the constants that describe an elementwise function: its number, alpha and beta.
pub(super) const ACTIVATION: [&str; 3] = ["ACTIVATION", "ALPHA", "BETA"];
/// The same of the gates of a cell.
pub(super) const GATE: [&str; 3] = ["GATE", "GATE_ALPHA", "GATE_BETA"];
/// The same of the candidate of a cell.
pub(super) const CANDIDATE: [&str; 3] = ["CANDIDATE", "CANDIDATE_ALPHA", "CANDIDATE_BETA"];
/// The same of the output of a cell.
pub(super) const OUTPUT: [&str; 3] = ["OUTPUT", "OUTPUT_ALPHA", "OUTPUT_BETA"];

/// Highest number that `shaders/common/activate_few.wgsl` handles.
pub(super) const LAST_OF_FEW: u32 = 3;

/// An elementwise function under `names`.
pub(super) fn function(names: [&'static str; 3], activation: Activation) -> [(&'static str, ConstantValue); 3] {
    let [alpha, beta] = activation.parameters();
    let [number_name, alpha_name, beta_name] = names;
    [(number_name, activation_number(activation).into()), (alpha_name, alpha.into()), (beta_name, beta.into())]
}

/// Number of an activation in `shaders/common/activations.wgsl`.
pub(super) fn activation_number(activation: Activation) -> u32 {
    match activation {
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
        Activation::HardSwish => 22,
        Activation::Log => 23,
        Activation::LinearSigmoid => 24,
        Activation::Reciprocal => 25,
    }
}

/// Number of a combination in `shaders/combine.wgsl`.
pub(super) fn combination(how: Combine) -> u32 {
    match how {
        Combine::Copy => 0,
        Combine::Add => 1,
        Combine::Mul => 2,
        Combine::Max => 3,
        Combine::Sub => 4,
    }
}

/// Number of a pooling in `shaders/pool.wgsl`.
pub(super) fn pool_number(pool: Pool) -> u32 {
    match pool {
        Pool::Max => 0,
        Pool::Average => 1,
        Pool::Sum => 2,
    }
}

/// Number of the last valid timestep, as [`pool_number`].
pub(super) const LAST_VALID: u32 = 3;

/// Number of the output of masked steps in `shaders/common/recurrent.wgsl`; `None` where no step is masked.
pub(super) fn masked_number(output: Option<MaskedOutput>) -> u32 {
    match output {
        None => 0,
        Some(MaskedOutput::Zero) => 1,
        Some(MaskedOutput::Previous) => 2,
    }
}

/// A size as a 32-bit constant.
pub(super) fn size(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| Error::TooLarge {
        what: "a layer's size".into(),
        needed: size as u64,
        limit: u32::MAX.into(),
        limit_name: "32-bit constants".into(),
    })
}

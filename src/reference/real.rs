//! The two number types of the reference.

use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// `f32` or `f64`.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// 1
    const ONE: Self;
    /// From a weight or an input, exact.
    fn from_f32(x: f32) -> Self;
    /// To a result, rounded.
    fn to_f32(self) -> f32;
    /// To the type that comparisons are made in, exact.
    fn to_f64(self) -> f64;
    /// e to the power of `self`
    fn exp(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
}

impl Real for f32 {
    const ONE: Self = 1.0;
    fn from_f32(x: f32) -> Self {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
    fn abs(self) -> Self {
        self.abs()
    }
}

impl Real for f64 {
    const ONE: Self = 1.0;
    fn from_f32(x: f32) -> Self {
        x.into()
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounding a result to f32 is this function's job")]
    fn to_f32(self) -> f32 {
        self as f32
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
    fn abs(self) -> Self {
        self.abs()
    }
}

//! The two number types of the reference.

use std::borrow::Cow;
use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use half::f16;

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
    /// From a constant or a scalar of a step, rounded.
    fn from_f64(x: f64) -> Self;
    /// As [`Real::from_f32`], of many.
    fn of_f32(numbers: &[f32]) -> Cow<'_, [Self]>;
    /// To a result, rounded.
    fn to_f32(self) -> f32;
    /// To the type that comparisons are made in, exact.
    fn to_f64(self) -> f64;
    /// e to the power of `self`
    fn exp(self) -> Self;
    /// `exp(self) - 1`, exact near 0
    fn exp_m1(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `log(1 + self)`, exact near 0
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Rounded to f16.
    #[must_use]
    fn to_half(self) -> Self;
    /// A number of elements.
    #[must_use]
    fn count(elements: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^24")]
        Self::from_f32(elements as f32)
    }
}

macro_rules! real {
    ($float:ident, $erf:path, $from_f32:expr, $from_f64:expr, $of_f32:expr, $to_f32:expr, $half:path) => {
        impl Real for $float {
            const ONE: Self = 1.0;
            fn from_f32(x: f32) -> Self {
                $from_f32(x)
            }
            fn from_f64(x: f64) -> Self {
                $from_f64(x)
            }
            fn of_f32(numbers: &[f32]) -> Cow<'_, [Self]> {
                $of_f32(numbers)
            }
            fn to_f32(self) -> f32 {
                $to_f32(self)
            }
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn to_half(self) -> Self {
                $half(self).into()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn abs(self) -> Self {
                self.abs()
            }
        }
    };
}

real!(f32, libm::erff, |x| x, rounded, Cow::Borrowed, |x| x, f16::from_f32);
real!(
    f64,
    libm::erf,
    f64::from,
    |x| x,
    |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x)).collect(),
    rounded,
    f16::from_f64
);

#[expect(clippy::cast_possible_truncation, reason = "rounding a result to f32 is this function's job")]
fn rounded(x: f64) -> f32 {
    x as f32
}

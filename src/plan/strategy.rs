//! How a recurrence is run, by name.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// How a recurrence is run: a rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch per timestep (two where a projection or a reset of the state asks for it).
    Step,
    /// As [`Strategy::Step`], tiled over batch rows.
    Tile,
    /// One dispatch for many timesteps, a workgroup for a few rows.
    Sequence,
    /// Stacked levels along the diagonal: T+L-1 dispatches.
    Wavefront,
    /// One dispatch for all timesteps, across workgroups that wait for each other.
    Resident,
    /// One dispatch for all timesteps of a cell whose units do not depend on each other, and the only strategy of these cells.
    Scan,
}

/// In which numbers products are taken; sums are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Arithmetic {
    /// 32-bit.
    #[default]
    F32,
    /// 16-bit, on adapters with `SHADER_F16`.
    F16,
    /// Of factors rounded to 16 bits, on [`MatrixUnits`], in the strategy [`Strategy::Tile`], hoisted projections,
    /// dense layers and convolutions; 32-bit elsewhere. The device must have been opened with them.
    Matrix,
}

/// Units of a GPU that multiply small matrices (wgpu's cooperative matrices, tensor cores, simdgroup matrices): factors
/// in f16, sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUnits {
    /// What they multiply.
    pub side: MatrixSide,
    /// Invocations of the largest subgroup.
    pub subgroup: u32,
}

/// Rows and columns of the matrices that a unit multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatrixSide {
    /// 8 x 8 (Apple, lavapipe).
    Eight,
    /// 16 x 16 (NVIDIA, AMD).
    Sixteen,
}

impl MatrixSide {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Eight, Self::Sixteen];

    /// As a number.
    #[must_use]
    pub fn length(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }
}

impl Display for MatrixUnits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let side = self.side.length();
        write!(f, "matrix units of {side} x {side}")
    }
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Step, Self::Tile, Self::Sequence, Self::Wavefront, Self::Resident, Self::Scan];

    fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Tile => "tile",
            Self::Sequence => "sequence",
            Self::Wavefront => "wavefront",
            Self::Resident => "resident",
            Self::Scan => "scan",
        }
    }
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Matrix];

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Matrix => "matrix",
        }
    }
}

impl Display for Strategy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Display for Arithmetic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named("strategy", &Self::ALL, Self::name, text)
    }
}

impl FromStr for Arithmetic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named("arithmetic", &Self::ALL, Self::name, text)
    }
}

fn named<T: Copy>(what: &str, all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T> {
    all.iter().copied().find(|&one| name(one) == text).ok_or_else(|| Error::Malformed {
        what: what.into(),
        expected: all.iter().map(|&one| name(one)).collect::<Vec<_>>().join(", "),
        got: format!("{text:?}"),
    })
}

//! Axes and sizes as errors write them: `[T, B, N]`, `[B, ?, 4]`.

use std::fmt;

use super::value::{AxisLabel, Dim};

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Steps => f.write_str("T"),
            Self::Batch => f.write_str("B"),
            Self::Windows(_) => f.write_str("T'"),
            Self::Any | Self::IsOne(_) => f.write_str("?"),
            Self::Below(n) => write!(f, "{n}"),
        }
    }
}

impl fmt::Display for AxisLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "1",
            Self::Time => "T",
            Self::Other => "S",
            Self::Batch => "B",
            Self::Direction => "D",
            Self::Stack => "L",
            Self::Channel => "N",
            Self::Head => "heads",
            Self::BatchHeads => "B*heads",
            Self::Rows { time_first: true } => "T*B",
            Self::Rows { time_first: false } => "B*T",
        })
    }
}

/// A shape of `parts`.
pub fn shape<T: fmt::Display>(parts: &[T]) -> String {
    format!("[{}]", parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// A shape whose sizes may be left open.
pub fn open_shape(sizes: &[Option<usize>]) -> String {
    shape(&sizes.iter().map(|size| size.map_or_else(|| "?".to_owned(), |n| n.to_string())).collect::<Vec<_>>())
}

/// The axes and the sizes of a tensor: `[T, B, N] of sizes [T, 2, 4]`.
pub fn sized(axes: &[AxisLabel], sizes: &[Dim]) -> String {
    format!("{} of sizes {}", shape(axes), shape(sizes))
}

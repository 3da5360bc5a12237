//! Layers that move numbers without computing: parts of the timesteps or channels, rows repeated over time, other shapes.

use serde::{Deserialize, Serialize};

/// Options of a layer that gives one row to several timesteps (Keras `RepeatVector`), `[B, N]` to `[T, B, N]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatSpec {
    /// Name of the layer.
    pub name: String,
    /// T, timesteps of the output.
    pub times: usize,
}

/// Options of a layer that reads a row's numbers in another shape (Keras `Reshape`, `Flatten`): `[T, B, N]` to
/// `[T', B, N']` or `[B, N']`, in the order of timesteps and then features. The number of timesteps is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReshapeSpec {
    /// Name of the layer.
    pub name: String,
    /// T, timesteps of the input; none where it has no time dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_steps: Option<usize>,
    /// T', timesteps of the output; none where it has no time dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_steps: Option<usize>,
}

/// Options of a layer that keeps some timesteps, those of Python's `x[start:end:step]`, `[T, B, N]` to `[T', B, N]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceSpec {
    /// Name of the layer.
    pub name: String,
    /// First timestep; below 0 it counts from the end.
    #[serde(default)]
    pub start: i64,
    /// The timestep after the last; below 0 it counts from the end. None for the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Timesteps from one kept to the next.
    #[serde(default = "super::spec::one")]
    pub step: usize,
}

/// What a layer that adds timesteps adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PadMode {
    /// Zeros.
    #[default]
    Zeros,
    /// The timesteps inside that are as far from the first or the last one, which is not repeated (`PyTorch`'s `reflect`).
    Reflect,
}

impl PadMode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_zeros(&self) -> bool {
        *self == Self::Zeros
    }
}

/// Options of a layer that adds timesteps, or removes timesteps (Keras `ZeroPadding1D`, `Cropping1D`),
/// `[T, B, N]` to `[T', B, N]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PadSpec {
    /// Name of the layer.
    pub name: String,
    /// Timesteps added before the first; below 0, timesteps removed there.
    pub left: i64,
    /// Timesteps added after the last; below 0, timesteps removed there.
    pub right: i64,
    /// What they are; [`PadMode::Reflect`] removes none.
    #[serde(default, skip_serializing_if = "PadMode::is_zeros")]
    pub mode: PadMode,
}

/// Options of a layer that keeps some features next to each other, `[T, B, N]` to `[T, B, N']`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelsSpec {
    /// Name of the layer.
    pub name: String,
    /// First feature.
    pub start: usize,
    /// N', how many.
    pub count: usize,
}

/// Options of a layer that exchanges timesteps and features (Keras `Permute`), `[T, B, N]` to `[N, B, T]`. The number of
/// timesteps is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransposeSpec {
    /// Name of the layer.
    pub name: String,
    /// T, timesteps of the input.
    pub steps: usize,
}

/// Which of its input's numbers a stage gives, in which shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rearrange {
    /// A row at each of so many timesteps, `[B, N]` to `[T, B, N]`.
    Repeat {
        /// T
        times: usize,
    },
    /// A row at every timestep of the stage's second input, `[B, N]` to `[T, B, N]`.
    Expand,
    /// The only channel as every channel, `[.., 1]` to `[.., N]`.
    Widen,
    /// The numbers of a row in another shape.
    Reshape {
        /// T; 1 where the input has no time dimension.
        in_steps: usize,
        /// T'; 1 where the output has no time dimension.
        out_steps: usize,
    },
    /// Timesteps and features exchanged.
    Transpose {
        /// T
        steps: usize,
        /// N
        features: usize,
    },
    /// Some of the timesteps.
    Slice {
        /// As [`SliceSpec::start`].
        start: i64,
        /// As [`SliceSpec::end`].
        end: Option<i64>,
        /// As [`SliceSpec::step`].
        step: usize,
    },
    /// Timesteps around it.
    Pad {
        /// As [`PadSpec::left`].
        left: i64,
        /// As [`PadSpec::right`].
        right: i64,
        /// As [`PadSpec::mode`].
        mode: PadMode,
    },
    /// Some of the channels.
    Channels {
        /// As [`ChannelsSpec::start`].
        start: usize,
    },
}

/// Where the numbers of a batch row come from: the number `(t, n)` of the output is that at
/// `offset + t * stride + n * column` of the input's `[T, N]`, or 0 where there is none. Where timesteps are reflected, one
/// outside is the one inside that is as far from the first or the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMap {
    /// Place of the first number.
    pub offset: i64,
    /// Places from a timestep of the output to the next; 0 where all timesteps have the same numbers.
    pub stride: i64,
    /// Places from a channel of the output to the next; 0 where all channels have the same number.
    pub column: i64,
    /// Whether timesteps are reflected; the stride is N then.
    pub reflected: bool,
}

impl Rearrange {
    /// Timesteps of the output for an input of `steps`, or what is expected instead.
    pub(super) fn output_steps(self, steps: usize) -> Result<usize, String> {
        let len = signed(steps);
        match self {
            Self::Repeat { times } => Ok(times),
            Self::Expand | Self::Widen | Self::Channels { .. } => Ok(steps),
            Self::Reshape { in_steps, .. } if in_steps != steps => Err(format!("{in_steps} timesteps")),
            Self::Reshape { out_steps, .. } => Ok(out_steps),
            Self::Transpose { steps: wanted, .. } if wanted != steps => Err(format!("{wanted} timesteps")),
            Self::Transpose { features, .. } => Ok(features),
            Self::Slice { start, end, step } => {
                let [first, end] = bounds(start, end, len);
                match usize::try_from(end - first) {
                    Ok(kept) if kept > 0 => Ok(kept.div_ceil(step)),
                    _ => Err(format!("enough timesteps for the slice {start}:{}", end_text(self))),
                }
            }
            Self::Pad { left, right, mode: PadMode::Reflect } if left.max(right) >= len => {
                Err(format!("more than {} timesteps, which are reflected", left.max(right)))
            }
            Self::Pad { left, right, .. } => match usize::try_from(len.saturating_add(left).saturating_add(right)) {
                Ok(padded) if padded > 0 => Ok(padded),
                _ => Err(format!("more than {} timesteps, which are removed", -(left + right))),
            },
        }
    }

    /// Where the numbers come from, for an input of `steps` and N = `in_features`.
    #[must_use]
    pub fn map(self, steps: usize, in_features: usize, out_features: usize) -> RowMap {
        let [len, n, width] = [steps, in_features, out_features].map(signed);
        let [offset, stride] = match self {
            Self::Repeat { .. } | Self::Expand => [0, 0],
            Self::Transpose { .. } if in_features == 1 => [0, width],
            Self::Widen | Self::Transpose { .. } => [0, 1],
            Self::Reshape { .. } => [0, width],
            Self::Slice { start, end, step } => [bounds(start, end, len)[0] * n, signed(step) * n],
            Self::Pad { left, .. } => [-left * n, n],
            Self::Channels { start } => [signed(start), n],
        };
        let column = match self {
            Self::Widen => 0,
            Self::Transpose { .. } => n,
            _ => 1,
        };
        let reflected = matches!(self, Self::Pad { mode: PadMode::Reflect, .. });
        RowMap { offset, stride, column, reflected }
    }
}

impl RowMap {
    /// The place in the input of the number `(t, n)` of the output, if it is one of its `numbers`.
    #[must_use]
    pub fn place(&self, t: usize, n: usize, numbers: usize) -> Option<usize> {
        let mut step = self.offset + signed(t) * self.stride;
        if self.reflected {
            let last = signed(numbers) - self.stride;
            step = step.abs();
            step = step.min(2 * last - step);
        }
        let place = step + signed(n) * self.column;
        usize::try_from(place).ok().filter(|&place| place < numbers)
    }
}

/// Sizes are bounded far below 2^63.
fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The first timestep and that after the last of a slice of `len`, as Python resolves them.
fn bounds(start: i64, end: Option<i64>, len: i64) -> [i64; 2] {
    [start, end.unwrap_or(len)].map(|at| if at < 0 { at.saturating_add(len).max(0) } else { at.min(len) })
}

fn end_text(rearrange: Rearrange) -> String {
    match rearrange {
        Rearrange::Slice { end: Some(end), .. } => end.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_pythons() {
        let kept = |start, end, step, len| {
            let slice = Rearrange::Slice { start, end, step };
            let steps = slice.output_steps(len).ok()?;
            let map = slice.map(len, 1, 1);
            (0..steps).map(|t| map.place(t, 0, len)).collect::<Option<Vec<_>>>()
        };
        assert_eq!(kept(0, None, 1, 4), Some(vec![0, 1, 2, 3]));
        assert_eq!(kept(-3, None, 1, 5), Some(vec![2, 3, 4]));
        assert_eq!(kept(-9, Some(-1), 2, 5), Some(vec![0, 2]));
        assert_eq!(kept(1, Some(9), 3, 8), Some(vec![1, 4, 7]));
        assert_eq!(kept(3, Some(3), 1, 5), None);
        assert_eq!(kept(7, None, 1, 5), None);
    }

    #[test]
    fn padding_and_cropping() {
        let mode = PadMode::Zeros;
        let pad = Rearrange::Pad { left: 2, right: -1, mode };
        assert_eq!(pad.output_steps(3), Ok(4));
        let map = pad.map(3, 2, 2);
        let places: Vec<_> = (0..4).flat_map(|t| [map.place(t, 0, 6), map.place(t, 1, 6)]).collect();
        assert_eq!(places, [None, None, None, None, Some(0), Some(1), Some(2), Some(3)]);
        assert!(Rearrange::Pad { left: -2, right: -1, mode }.output_steps(3).is_err());
    }

    #[test]
    fn reflected_timesteps_do_not_repeat_the_ends() {
        let pad = Rearrange::Pad { left: 2, right: 3, mode: PadMode::Reflect };
        assert_eq!(pad.output_steps(4), Ok(9));
        let map = pad.map(4, 1, 1);
        let places: Vec<_> = (0..9).map(|t| map.place(t, 0, 4)).collect();
        assert_eq!(places, [2, 1, 0, 1, 2, 3, 2, 1, 0].map(Some));
        assert_eq!(pad.map(4, 2, 2).place(7, 1, 8), Some(3));
        assert!(pad.output_steps(3).is_err());
    }
}

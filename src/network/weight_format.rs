//! Temporary stand-in until branch `weights` is merged.

/// How a matrix of weights is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    /// 32-bit.
    #[default]
    F32,
    /// 16-bit.
    F16,
    /// 8-bit.
    Int8,
}

impl WeightFormat {
    /// All.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];
}

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

/// Scale and integers of a row.
pub fn quantize_row(row: &[f32]) -> (f32, Vec<i8>) {
    let scale = row.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
    #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
    let integers = row.iter().map(|x| if scale == 0.0 { 0 } else { (x / scale).round() as i8 }).collect();
    (scale, integers)
}

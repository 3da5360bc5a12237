//! Which factors of a stage's products are rounded to f16.

/// What of a product is rounded to f16 before it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounding {
    /// The factor that is no weight.
    pub numbers: bool,
    /// The weights: those stored as f32. Numbers of 16 and 8 bits are multiplied as they are.
    pub weights: bool,
}

/// The rounding of each product of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageRounding {
    /// Of the stage's input.
    pub input: Rounding,
    /// Of h, or of r∘h.
    pub state: Rounding,
    /// Of the h that an LSTM projects.
    pub projection: Rounding,
}

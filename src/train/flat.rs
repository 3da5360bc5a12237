//! The gradients of a step in one array.

use std::ops::Range;

use crate::host::ParamGradients;
use crate::network::Param;

/// Gradients of all parameters, one after the other.
pub(super) struct FlatGradients<'a> {
    pub numbers: &'a mut [f32],
    /// Where each tensor's lie.
    pub places: &'a [(String, Range<usize>)],
}

impl FlatGradients<'_> {
    /// Those of a tensor.
    pub fn of(&mut self, name: &str) -> Option<&mut [f32]> {
        let (_, range) = self.places.iter().find(|(place, _)| place == name)?;
        self.numbers.get_mut(range.clone())
    }
}

impl ParamGradients<f32> for FlatGradients<'_> {
    fn place(&mut self, param: &Param) -> Option<&mut [f32]> {
        self.of(&param.name)
    }
}

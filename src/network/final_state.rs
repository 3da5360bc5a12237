//! Layers that keep a state or a timestep of what they read.

use serde::{Deserialize, Serialize};

use super::spec::is_default;

/// Which part of the final state of a recurrent layer is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalStateSpec {
    /// Name of the layer.
    pub name: String,
    /// Name of an earlier recurrent layer.
    pub layer: String,
    /// h or c.
    pub part: HiddenOrCell,
    /// Level in its stack, from 0; the last where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<usize>,
    /// Direction: 1 for the second of a bidirectional layer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direction: usize,
}

/// Which of a recurrent layer's two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenOrCell {
    /// The hidden state.
    H,
    /// An LSTM's cell state.
    C,
}

impl HiddenOrCell {
    /// Its name among the parts of a layer's state.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::H => "h",
            Self::C => "c",
        }
    }

    /// Its place among the parts of a layer's state.
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::H => 0,
            Self::C => 1,
        }
    }
}

/// Which timestep is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectSpec {
    /// Name of the layer.
    pub name: String,
    /// First or last.
    pub step: SelectStep,
}

/// A timestep by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectStep {
    /// Timestep 0.
    First,
    /// Timestep T-1, independent of a row's length.
    Last,
    /// The last timestep that counts: that before a row's length, or the last that no mask leaves out. Timestep T-1 where
    /// none counts.
    LastValid,
}

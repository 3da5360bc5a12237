//! What a network reads.

use serde::{Deserialize, Serialize};

use super::MaskRule;
use super::spec::is_default;

/// An input of a network.
///
/// The first is what the first layer reads. A network of several inputs has an `input` layer with a name for each of the
/// others, where the layers that read it begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Its name; none of the first input is `input`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: InputKind,
    /// I, width of its vectors; 0 for token ids.
    #[serde(default, skip_serializing_if = "is_default")]
    pub input_size: usize,
}

/// What an input is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputKind {
    /// A vector for each timestep, `[T, B, I]`.
    #[default]
    Sequence,
    /// A token id for each timestep, `[T, B]`.
    Tokens,
    /// A vector for each batch row, `[B, I]`.
    Row,
}

impl InputSpec {
    /// The first input: a sequence of vectors of this width.
    #[must_use]
    pub fn sequence(input_size: usize) -> Self {
        Self { name: String::new(), kind: InputKind::Sequence, input_size }
    }

    /// An input with a name.
    #[must_use]
    pub fn named(name: impl Into<String>, kind: InputKind, input_size: usize) -> Self {
        Self { name: name.into(), kind, input_size }
    }
}

/// An input as the layers of a network read it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkInput {
    /// Its name, `input` unless the network gives it another.
    pub name: String,
    /// What it is made of.
    pub kind: InputKind,
    /// I, width of its vectors; 1 for token ids.
    pub width: usize,
    /// V of token ids: all are below it.
    pub num_embeddings: Option<usize>,
    /// Which steps the network itself masks.
    pub masks: Option<MaskRule>,
}

/// An output that a network has beside that of its last layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkOutput {
    /// Its name.
    pub name: String,
    /// The stage that computes it.
    pub stage: usize,
}

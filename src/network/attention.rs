//! Attention: its description, and its place among the stages.

use serde::{Deserialize, Serialize};

use super::spec::{is_default, one};

/// Attention of the layer's input, the queries, to every timestep of another layer's output, the keys.
///
/// A query's scores become shares of the timesteps by a softmax; the output is the sum of the values with these shares. Steps
/// that a mask of the keys leaves out have no share; where none is left, the output is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionSpec {
    /// Name of the layer; prefix of its tensor.
    pub name: String,
    /// D, width of the queries `[T, B, D]` or `[B, D]` and of the keys `[S, B, D]`.
    pub embed_dim: usize,
    /// Name of the layer whose output is the keys.
    pub keys: String,
    /// Name of the layer whose output is the values `[S, B, V]`; the keys if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
    /// How a query and a key are compared.
    #[serde(default, skip_serializing_if = "is_default")]
    pub score: AttentionScore,
    /// Parts into which queries, keys and values are cut; each has shares of its own.
    #[serde(default = "one")]
    pub num_heads: usize,
    /// Multiplies the scores.
    #[serde(default = "unit", skip_serializing_if = "is_unit")]
    pub scale: f32,
}

/// How a query q and a key k are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionScore {
    /// q·k, Luong's. A `dense` layer before the queries makes it his `general` score.
    #[default]
    Dot,
    /// w·tanh(q + k) with the tensor `weight` `[D]`, Bahdanau's; `dense` layers before queries and keys are his projections.
    Additive,
}

/// What an attention stage computes. It reads keys, queries and values, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// How a query and a key are compared.
    pub score: AttentionScore,
    /// Parts into which all widths are cut.
    pub num_heads: usize,
    /// Multiplies the scores.
    pub scale: f32,
}

fn unit() -> f32 {
    1.0
}

#[expect(clippy::float_cmp, clippy::trivially_copy_pass_by_ref, reason = "as serde takes it; the default is exactly 1")]
fn is_unit(scale: &f32) -> bool {
    *scale == 1.0
}

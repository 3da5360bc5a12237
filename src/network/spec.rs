//! The description of a network as it is stored in a file: layers and their options, no numbers.
//!
//! Option names are PyTorch's. Unknown fields are errors, so that an option of a later
//! version is named instead of being dropped.

use serde::{Deserialize, Serialize};

/// Version of the description that this crate writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// A network: layers in order, and what its input and output mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Version of this description, [`FORMAT`].
    pub format: u32,
    /// The layers, input first.
    pub layers: Vec<LayerSpec>,
    /// How text becomes token ids, for networks that read text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextSpec>,
    /// Names of the classes, for networks that classify.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerSpec {
    /// Token ids `[T, B]` to vectors `[T, B, E]`.
    Embedding(EmbeddingSpec),
    /// A stack of LSTM layers, `[T, B, I]` to `[T, B, D*H]` or, with `output: last`, `[B, D*H]`.
    Lstm(LstmSpec),
    /// `activation(x W^T + b)` over the last dimension.
    Dense(DenseSpec),
    /// Softmax over the last dimension.
    Softmax,
}

/// Options of an embedding layer (`torch.nn.Embedding`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// V, rows of the table.
    pub num_embeddings: usize,
    /// E, width of a row.
    pub embedding_dim: usize,
}

/// Options of an LSTM (`torch.nn.LSTM`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// I, width of the input.
    pub input_size: usize,
    /// H, width of the hidden and the cell state.
    pub hidden_size: usize,
    /// L, LSTM layers stacked on each other.
    #[serde(default = "one")]
    pub num_layers: usize,
    /// Whether a second direction reads the sequence backwards (D = 2).
    #[serde(default)]
    pub bidirectional: bool,
    /// Whether there are bias tensors.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether the caller's arrays are `[B, T, ..]` instead of `[T, B, ..]`.
    #[serde(default)]
    pub batch_first: bool,
    /// What the layer hands on.
    #[serde(default)]
    pub output: LstmOutput,
}

impl LstmSpec {
    /// An LSTM with PyTorch's defaults for everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, input_size: usize, hidden_size: usize) -> Self {
        Self {
            name: name.into(),
            input_size,
            hidden_size,
            num_layers: 1,
            bidirectional: false,
            bias: true,
            batch_first: false,
            output: LstmOutput::Sequence,
        }
    }

    /// D: 2 when bidirectional, else 1.
    #[must_use]
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }
}

/// What an LSTM hands to the next layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LstmOutput {
    /// h of every timestep, `[T, B, D*H]` (Keras' `return_sequences=True`).
    #[default]
    Sequence,
    /// h after the last step each direction takes, `[B, D*H]`: forward at T-1, reverse at 0.
    Last,
}

/// Options of a dense layer (`torch.nn.Linear` with an activation behind it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// Whether there is a bias tensor.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Applied to every output element.
    #[serde(default)]
    pub activation: Activation,
}

/// Elementwise function behind a dense layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

impl Activation {
    /// All of them, for batteries.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Relu, Self::Tanh, Self::Sigmoid];
}

/// How text becomes token ids: Keras `TextVectorization` with its defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// What happens to the characters first.
    pub standardize: Standardize,
    /// Where words end.
    pub split: Split,
    /// Token of each id; id 0 is padding, id 1 stands for every unknown word.
    pub vocabulary: Vec<String>,
}

/// What happens to the characters of a text before it is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standardize {
    /// Keras' default: lower-case, drop ASCII punctuation.
    LowerAndStripPunctuation,
}

/// Where a text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Split {
    /// Keras' default: at runs of white space.
    Whitespace,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_pytorchs() {
        let text = r#"{"type":"lstm","name":"a","input_size":3,"hidden_size":5}"#;
        let LayerSpec::Lstm(lstm) = serde_json::from_str(text).expect("valid") else { panic!("not an LSTM") };
        assert_eq!((lstm.num_layers, lstm.bidirectional, lstm.bias, lstm.batch_first), (1, false, true, false));
        assert_eq!(lstm.output, LstmOutput::Sequence);
    }

    #[test]
    fn an_unknown_option_is_named() {
        let text = r#"{"type":"lstm","name":"a","input_size":3,"hidden_size":5,"proj_size":2}"#;
        let error = serde_json::from_str::<LayerSpec>(text).expect_err("proj_size is not read yet");
        assert!(error.to_string().contains("proj_size"), "{error}");
    }
}

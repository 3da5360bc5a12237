//! The description of a network as it is stored in a file: layers and their options, no numbers.
//!
//! Option names are PyTorch's. Unknown fields are errors, so that an option of a later
//! version is named instead of being dropped.

use serde::{Deserialize, Serialize};

use super::{
    Activation, AttentionSpec, Cell, ChannelsSpec, FeedbackSpec, FinalStateSpec, InputSpec, NtmSpec, PadSpec, Param,
    RecurrentSpec, RepeatSpec, ReshapeSpec, SelectSpec, SliceSpec, TransposeSpec,
};

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
///
/// T, B and the widths are the layer's own; a layer reads the output of the one before it,
/// unless a [`LayerSpec::From`] stands between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerSpec {
    /// An input of the network: of the first, its width where no layer says it; of the others, where their layers begin.
    Input(InputSpec),
    /// Names what flows here as an output of the network, beside that of the last layer.
    Output(NamedSpec),
    /// Token ids `[T, B]` to vectors `[T, B, E]`.
    Embedding(EmbeddingSpec),
    /// Steps whose vector is one value throughout are masked and read as 0 (Keras). First layer only.
    Masking(MaskingSpec),
    /// A stack of LSTM layers, `[T, B, I]` to `[T, B, D*H]` or, with `output: last`, `[B, D*H]`.
    Lstm(RecurrentSpec),
    /// A stack of GRU layers; shapes as of an LSTM.
    Gru(RecurrentSpec),
    /// A stack of plain RNN layers; shapes as of an LSTM.
    Rnn(RecurrentSpec),
    /// A stack of LSTM layers that normalize their sums; shapes as of an LSTM.
    LayerNormLstm(RecurrentSpec),
    /// A stack of GRU layers that normalize their sums; shapes as of an LSTM.
    LayerNormGru(RecurrentSpec),
    /// A stack of sLSTM layers; shapes as of an LSTM.
    Slstm(RecurrentSpec),
    /// minGRU layer.
    MinGru(RecurrentSpec),
    /// minLSTM layer.
    MinLstm(RecurrentSpec),
    /// SRU layer.
    Sru(RecurrentSpec),
    /// QRNN layer.
    Qrnn(RecurrentSpec),
    /// IndRNN layer.
    IndRnn(RecurrentSpec),
    /// A cell with a memory that it reads and writes, `[T, B, I]` to `[T, B, H + R*M]` or, with `output: last`, `[B, H + R*M]`.
    Ntm(NtmSpec),
    /// `activation(x W^T + b)` over the last dimension.
    Dense(DenseSpec),
    /// Convolution over time, `[T, B, I]` to `[T', B, N]`.
    Conv1d(Conv1dSpec),
    /// Largest or mean value over windows of time, `[T, B, N]` to `[T', B, N]`.
    Pool1d(Pool1dSpec),
    /// Largest or mean value over all time, `[T, B, N]` to `[B, N]`.
    GlobalPool(GlobalPoolSpec),
    /// Normalization over the last dimension.
    LayerNorm(NormSpec),
    /// Normalization of each channel by stored statistics.
    BatchNorm(NormSpec),
    /// An elementwise function.
    Activation(ActivationSpec),
    /// Softmax over the last dimension.
    Softmax,
    /// Logarithm of a softmax over the last dimension.
    LogSoftmax(NamedSpec),
    /// Softmax over time, `[T, B, N]`; masked steps have no share.
    TimeSoftmax(NamedSpec),
    /// The place of the largest feature, the first of equal ones, `[T, B, N]` to `[T, B, 1]`.
    ArgMax(NamedSpec),
    /// One timestep, `[T, B, N]` to `[B, N]`.
    Select(SelectSpec),
    /// The sequence backwards, `[T, B, N]`.
    Reverse(NamedSpec),
    /// h or c after the last step of a recurrent layer, `[B, H]`.
    FinalState(FinalStateSpec),
    /// One row at several timesteps, `[B, N]` to `[T, B, N]`.
    Repeat(RepeatSpec),
    /// A row's numbers in another shape, `[T, B, N]` to `[T', B, N']` or `[B, N']`.
    Reshape(ReshapeSpec),
    /// Timesteps and features exchanged, `[T, B, N]` to `[N, B, T]`.
    Transpose(TransposeSpec),
    /// Some of the timesteps, `[T, B, N]` to `[T', B, N]`.
    Slice(SliceSpec),
    /// Timesteps of zeros added, or timesteps removed, `[T, B, N]` to `[T', B, N]`.
    Pad(PadSpec),
    /// Some of the features, `[T, B, N]` to `[T, B, N']`.
    Channels(ChannelsSpec),
    /// The input as it is; for the layers that read it, all timesteps count.
    Unmask(NamedSpec),
    /// Goes back to an earlier layer: the next layer reads its output.
    From(FromSpec),
    /// Attention of the input `[T, B, D]` to all timesteps of another layer, to `[T, B, V]`; of `[B, D]` to `[B, V]`.
    Attention(AttentionSpec),
    /// What a later layer was at the timestep before, `[T, B, N]`.
    Feedback(FeedbackSpec),
    /// Joins the outputs of several layers.
    Join(JoinSpec),
}

impl LayerSpec {
    /// The recurrent layer of `cell`.
    #[must_use]
    pub fn of_cell(cell: Cell, spec: RecurrentSpec) -> Self {
        match cell {
            Cell::Lstm => Self::Lstm(spec),
            Cell::Gru => Self::Gru(spec),
            Cell::Rnn => Self::Rnn(spec),
            Cell::LayerNormLstm => Self::LayerNormLstm(spec),
            Cell::LayerNormGru => Self::LayerNormGru(spec),
            Cell::Slstm => Self::Slstm(spec),
            Cell::MinGru => Self::MinGru(spec),
            Cell::MinLstm => Self::MinLstm(spec),
            Cell::Sru => Self::Sru(spec),
            Cell::Qrnn => Self::Qrnn(spec),
            Cell::IndRnn => Self::IndRnn(spec),
        }
    }

    /// Its parameters, in file order.
    #[must_use]
    pub fn params(&self) -> Vec<Param> {
        super::params::of_layer(self).into_iter().flatten().collect()
    }

    /// The layer's name; empty for those that have none.
    #[must_use]
    pub fn name(&self) -> &str {
        if let Some((_, spec)) = self.recurrent() {
            return &spec.name;
        }
        match self {
            Self::Input(l) => &l.name,
            Self::FinalState(l) => &l.name,
            Self::Embedding(l) => &l.name,
            Self::Masking(l) => &l.name,
            Self::Dense(l) => &l.name,
            Self::Conv1d(l) => &l.name,
            Self::Pool1d(l) => &l.name,
            Self::GlobalPool(l) => &l.name,
            Self::LayerNorm(l) | Self::BatchNorm(l) => &l.name,
            Self::Activation(l) => &l.name,
            Self::Select(l) => &l.name,
            Self::Reverse(l)
            | Self::LogSoftmax(l)
            | Self::TimeSoftmax(l)
            | Self::Unmask(l)
            | Self::ArgMax(l)
            | Self::Output(l) => &l.name,
            Self::Repeat(l) => &l.name,
            Self::Reshape(l) => &l.name,
            Self::Transpose(l) => &l.name,
            Self::Slice(l) => &l.name,
            Self::Pad(l) => &l.name,
            Self::Channels(l) => &l.name,
            Self::Attention(l) => &l.name,
            Self::Feedback(l) => &l.name,
            Self::Ntm(l) => &l.name,
            Self::Join(l) => &l.name,
            _ => "",
        }
    }

    /// Cell and options, if the layer is recurrent.
    #[must_use]
    pub fn recurrent(&self) -> Option<(Cell, &RecurrentSpec)> {
        match self {
            Self::Lstm(l) => Some((Cell::Lstm, l)),
            Self::Gru(l) => Some((Cell::Gru, l)),
            Self::Rnn(l) => Some((Cell::Rnn, l)),
            Self::LayerNormLstm(l) => Some((Cell::LayerNormLstm, l)),
            Self::LayerNormGru(l) => Some((Cell::LayerNormGru, l)),
            Self::Slstm(l) => Some((Cell::Slstm, l)),
            Self::MinGru(l) => Some((Cell::MinGru, l)),
            Self::MinLstm(l) => Some((Cell::MinLstm, l)),
            Self::Sru(l) => Some((Cell::Sru, l)),
            Self::Qrnn(l) => Some((Cell::Qrnn, l)),
            Self::IndRnn(l) => Some((Cell::IndRnn, l)),
            _ => None,
        }
    }

    /// The same, to change its options.
    pub fn recurrent_mut(&mut self) -> Option<(Cell, &mut RecurrentSpec)> {
        match self {
            Self::Lstm(l) => Some((Cell::Lstm, l)),
            Self::Gru(l) => Some((Cell::Gru, l)),
            Self::Rnn(l) => Some((Cell::Rnn, l)),
            Self::LayerNormLstm(l) => Some((Cell::LayerNormLstm, l)),
            Self::LayerNormGru(l) => Some((Cell::LayerNormGru, l)),
            Self::Slstm(l) => Some((Cell::Slstm, l)),
            Self::MinGru(l) => Some((Cell::MinGru, l)),
            Self::MinLstm(l) => Some((Cell::MinLstm, l)),
            Self::Sru(l) => Some((Cell::Sru, l)),
            Self::Qrnn(l) => Some((Cell::Qrnn, l)),
            Self::IndRnn(l) => Some((Cell::IndRnn, l)),
            _ => None,
        }
    }
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
    /// Whether id 0 masks its step for the layers after (Keras).
    #[serde(default, skip_serializing_if = "is_default")]
    pub mask_zero: bool,
}

/// Options of a masking layer (Keras `Masking`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskingSpec {
    /// Name of the layer.
    pub name: String,
    /// A step is masked if all its features equal this; an infinity is the text `inf` or `-inf`.
    #[serde(with = "infinite")]
    pub mask_value: f32,
}

/// Options of a dense layer (`torch.nn.Linear` with an activation after it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Options of a convolution over time (`torch.nn.Conv1d` with an activation after it).
///
/// `out[t] = activation(Σ_k W[:, :, k] x[t*stride + k*dilation - left] + b)`; tensors `weight`
/// `[N, I/groups, K]` and `bias` `[N]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv1dSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// I, width of the input.
    pub in_channels: usize,
    /// N, width of the output.
    pub out_channels: usize,
    /// K, timesteps that one output sees.
    pub kernel_size: usize,
    /// Timesteps between two outputs.
    #[serde(default = "one")]
    pub stride: usize,
    /// What is read before the first and after the last timestep.
    #[serde(default)]
    pub padding: Padding,
    /// Timesteps between two that one output sees.
    #[serde(default = "one")]
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether there is a bias tensor.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Applied to every output element.
    #[serde(default)]
    pub activation: Activation,
}

/// Timesteps added around a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Padding {
    /// So many zeros before and after.
    Zeros {
        /// Before the first timestep.
        left: usize,
        /// Behind the last timestep.
        right: usize,
    },
    /// As many zeros as give `ceil(T / stride)` outputs, the odd one after (TensorFlow `same`).
    Same,
}

impl Default for Padding {
    fn default() -> Self {
        Self::Zeros { left: 0, right: 0 }
    }
}

/// Options of pooling over windows of time (`torch.nn.MaxPool1d`, `AvgPool1d`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool1dSpec {
    /// Name of the layer.
    pub name: String,
    /// What is taken from a window.
    pub pool: Pool,
    /// Timesteps of a window.
    pub kernel_size: usize,
    /// Timesteps between two windows.
    pub stride: usize,
    /// What is read before the first and after the last timestep; a maximum never sees it.
    #[serde(default)]
    pub padding: Padding,
    /// Whether a mean counts the padding (PyTorch) or not (Keras, ONNX).
    #[serde(default, skip_serializing_if = "is_default")]
    pub count_include_pad: bool,
}

/// Options of pooling over all time; masked steps do not count in a mean (Keras).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalPoolSpec {
    /// Name of the layer.
    pub name: String,
    /// What is taken.
    pub pool: Pool,
}

/// What pooling takes from the values it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The largest.
    Max,
    /// The mean.
    Average,
    /// The sum.
    Sum,
}

/// Options of a normalization: `(x - mean) / sqrt(var + eps) * weight + bias`.
///
/// A layer norm takes mean and variance from the row; a batch norm from its tensors
/// `running_mean` and `running_var`. Tensors `weight` and `bias` are 1 and 0 where left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// N, width of the input.
    pub num_features: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether there is a tensor `weight` `[N]`.
    #[serde(default = "yes")]
    pub weight: bool,
    /// Whether there is a tensor `bias` `[N]`.
    #[serde(default = "yes")]
    pub bias: bool,
}

/// An elementwise function as a layer of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationSpec {
    /// Name of the layer.
    pub name: String,
    /// The function.
    pub activation: Activation,
}

/// A layer with nothing but a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSpec {
    /// Name of the layer.
    pub name: String,
}

/// Where the next layer's input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromSpec {
    /// Name of an earlier layer, or [`INPUT`] for the network's input.
    pub layer: String,
}

/// Name under which [`FromSpec`] and [`JoinSpec`] mean the network's first input, unless it has another.
pub const INPUT: &str = "input";

/// Which layers' outputs are joined, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinSpec {
    /// Name of the layer.
    pub name: String,
    /// Names of earlier layers ([`INPUT`] for the network's input), at least two.
    pub inputs: Vec<String>,
    /// How.
    pub join: Join,
}

/// How outputs are joined.
///
/// One without a time dimension counts at every timestep of the others, and, unless they are joined side by side, one of
/// width 1 for every feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Side by side in the last dimension.
    Concat,
    /// Elementwise sum.
    Add,
    /// Elementwise product.
    Mul,
    /// Elementwise mean.
    Average,
    /// Elementwise maximum.
    Max,
    /// The first minus the others, elementwise.
    Sub,
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
    /// Ids of every text, if it is fixed: longer texts are cut, shorter ones end with padding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub output_sequence_length: Option<usize>,
}

/// What happens to the characters of a text before it is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standardize {
    /// Keras' default: lower-case, drop ASCII punctuation.
    LowerAndStripPunctuation,
    /// ASCII letters become lower-case.
    Lower,
    /// ASCII punctuation is dropped.
    StripPunctuation,
    /// Nothing.
    None,
}

/// Where a text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Split {
    /// Keras' default: at runs of white space.
    Whitespace,
    /// Behind every character (Unicode scalar value).
    Character,
}

pub(super) fn one() -> usize {
    1
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number that may be infinite, for which JSON has no number: then it is a text.
mod infinite {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(f32),
        Text(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde gives it")]
    pub fn serialize<S: Serializer>(x: &f32, to: S) -> Result<S::Ok, S::Error> {
        if x.is_infinite() { to.serialize_str(&x.to_string()) } else { to.serialize_f32(*x) }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
        match NumberOrText::deserialize(from)? {
            NumberOrText::Number(x) => Ok(x),
            NumberOrText::Text(text) if text == "inf" => Ok(f32::INFINITY),
            NumberOrText::Text(text) if text == "-inf" => Ok(f32::NEG_INFINITY),
            NumberOrText::Text(text) => {
                Err(D::Error::custom(format!("expected a number, `inf` or `-inf`, got {text:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::RecurrentOutput;

    #[test]
    fn defaults_are_pytorchs() {
        let text = r#"{"type":"lstm","name":"a","input_size":3,"hidden_size":5}"#;
        let LayerSpec::Lstm(lstm) = serde_json::from_str(text).expect("valid") else { panic!("not an LSTM") };
        assert_eq!((lstm.num_layers, lstm.bidirectional, lstm.bias, lstm.batch_first), (1, false, true, false));
        assert_eq!(lstm.output, RecurrentOutput::Sequence);
    }

    #[test]
    fn an_infinite_mask_is_written_and_read() {
        for mask_value in [-1.5, f32::INFINITY, f32::NEG_INFINITY] {
            let layer = LayerSpec::Masking(MaskingSpec { name: "m".into(), mask_value });
            let text = serde_json::to_string(&layer).expect("JSON");
            assert_eq!(serde_json::from_str::<LayerSpec>(&text).expect("the layer"), layer, "{text}");
        }
        let text = r#"{"type":"masking","name":"m","mask_value":"none"}"#;
        assert!(serde_json::from_str::<LayerSpec>(text).expect_err("no number").to_string().contains("none"));
    }

    #[test]
    fn an_unknown_option_is_named() {
        let text = r#"{"type":"lstm","name":"a","input_size":3,"hidden_size":5,"hidden_sise":2}"#;
        let error = serde_json::from_str::<LayerSpec>(text).expect_err("hidden_sise is not read yet");
        assert!(error.to_string().contains("hidden_sise"), "{error}");
    }
}

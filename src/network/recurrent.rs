//! Options of recurrent layers. All cells share them, as PyTorch's `RNNBase`.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::spec::{is_default, one, yes};

/// Options of a recurrent layer (`torch.nn.LSTM`, `GRU`, `RNN`; and options of ONNX and Keras).
///
/// An option that its cell does not have is an error, not ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// I, width of the input.
    pub input_size: usize,
    /// H, width of the hidden (unless projected) and the cell state.
    pub hidden_size: usize,
    /// L, layers stacked on each other.
    #[serde(default = "one")]
    pub num_layers: usize,
    /// Whether a second direction reads the sequence backwards (D = 2).
    #[serde(default)]
    pub bidirectional: bool,
    /// Whether the only direction reads the sequence backwards (ONNX `direction: reverse`). The
    /// output stays in the input's order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reverse: bool,
    /// How a bidirectional layer joins its directions (Keras), after the last of its levels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub merge_mode: MergeMode,
    /// Whether there are bias tensors.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether the caller's arrays are `[B, T, ..]` instead of `[T, B, ..]`.
    #[serde(default)]
    pub batch_first: bool,
    /// What the next layer reads.
    #[serde(default)]
    pub output: RecurrentOutput,
    /// What its output is where a row's mask is off or its length is over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub masked_output: MaskedOutput,
    /// P, width of the projected hidden state of an LSTM; 0 for none (Sak, Senior & Beaufays 2014).
    #[serde(default, skip_serializing_if = "is_default")]
    pub proj_size: usize,
    /// Whether the gates see the cell state: an LSTM's through `weight_p_l{k}` `[3H]`, in the order
    /// i, f, o (Gers 2002), an SRU's through `[2H]`, f, r.
    #[serde(default, skip_serializing_if = "is_default")]
    pub peephole: bool,
    /// Whether an LSTM's forget gate is `1 - i` (ONNX `input_forget`). Its rows of the weights
    /// are there and not read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub coupled: bool,
    /// Whether a GRU's reset gate acts on the recurrent product (PyTorch, cuDNN, Keras
    /// `reset_after=True`, ONNX `linear_before_reset=1`) instead of on the hidden state.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub reset_after: bool,
    /// Whether the state that a run starts from, when the caller gives none, is stored in
    /// `initial_h` `[L*D, H]` (`[L*D, P]` with a projection) and, for an LSTM, `initial_c`
    /// `[L*D, H]`; else it is 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial_state: bool,
    /// Name of an earlier layer whose output `[B, D*H]` is the h that every run starts from, whatever the caller gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_h: Option<String>,
    /// As `initial_h`, of an LSTM's c.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_c: Option<String>,
    /// Functions of the gates, in ONNX's order: an LSTM's f, g, h (gates, candidate, output), a
    /// GRU's f, g (gates, candidate), an RNN's f. One set for all directions, or one after the
    /// other for each; empty means the cell's own ([`Cell::default_activations`](super::Cell::default_activations)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<Activation>,
    /// Bound of the gates' pre-activations (ONNX `clip`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f32>,
    /// Bound of an LSTM's cell state (TensorFlow and Burn `cell_clip`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell_clip: Option<f32>,
    /// Zoneout of h, from 0 to below 1 (Krueger et al. 2017): the share of units that keep the h of the step before while the
    /// layer is trained. A run takes the mean of that, `zoneout_h * before + (1 - zoneout_h) * after`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub zoneout_h: f32,
    /// The same of an LSTM's c. The h of a step is made from the c that every unit would have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub zoneout_c: f32,
    /// Which sums a layer-normalized cell normalizes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gate_norm: GateNorm,
    /// What becomes of the normalized c of a layer-normalized LSTM.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cell_norm: CellNorm,
    /// Heads of an sLSTM: H / `num_heads` units each, which see h of their own head alone. U is `[4H, H / num_heads]`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub num_heads: usize,
    /// Added to the variances of a layer-normalized cell.
    #[serde(default = "layer_norm_eps", skip_serializing_if = "is_layer_norm_eps")]
    pub layer_norm_eps: f32,
}

impl RecurrentSpec {
    /// A layer with PyTorch's defaults for everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, input_size: usize, hidden_size: usize) -> Self {
        Self {
            name: name.into(),
            input_size,
            hidden_size,
            num_layers: 1,
            bidirectional: false,
            reverse: false,
            merge_mode: MergeMode::Concat,
            bias: true,
            batch_first: false,
            output: RecurrentOutput::Sequence,
            masked_output: MaskedOutput::Zero,
            proj_size: 0,
            peephole: false,
            coupled: false,
            reset_after: true,
            initial_state: false,
            initial_h: None,
            initial_c: None,
            activations: Vec::new(),
            clip: None,
            cell_clip: None,
            zoneout_h: 0.0,
            zoneout_c: 0.0,
            gate_norm: GateNorm::Sum,
            cell_norm: CellNorm::State,
            num_heads: 1,
            layer_norm_eps: LAYER_NORM_EPS,
        }
    }

    /// D: 2 when bidirectional, else 1.
    #[must_use]
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// The options that not all cells have, and whether each is set.
    pub(super) fn cell_options(&self) -> [(&'static str, bool); 12] {
        [
            ("proj_size", self.proj_size > 0),
            ("peephole", self.peephole),
            ("coupled", self.coupled),
            ("cell_clip", self.cell_clip.is_some()),
            ("reset_after", !self.reset_after),
            ("clip", self.clip.is_some()),
            ("zoneout_h", self.zoneout_h != 0.0),
            ("zoneout_c", self.zoneout_c != 0.0),
            ("gate_norm", self.gate_norm != GateNorm::default()),
            ("cell_norm", self.cell_norm != CellNorm::default()),
            ("num_heads", self.num_heads != 1),
            ("layer_norm_eps", !is_layer_norm_eps(&self.layer_norm_eps)),
        ]
    }

    /// Width of h: P with a projection, else H.
    #[must_use]
    pub fn state_size(&self) -> usize {
        if self.proj_size == 0 { self.hidden_size } else { self.proj_size }
    }

    /// Width of a level's directions side by side.
    #[must_use]
    pub fn level_size(&self) -> usize {
        self.directions() * self.state_size()
    }

    /// Width of the layer's output.
    #[must_use]
    pub fn output_size(&self) -> usize {
        match self.merge_mode {
            MergeMode::Concat => self.level_size(),
            _ => self.state_size(),
        }
    }
}

/// Shares of units that keep h and c of the step before, of one recurrent layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Zoneout {
    /// Of h.
    pub h: f32,
    /// Of an LSTM's c.
    pub c: f32,
}

impl Zoneout {
    /// Whether no unit keeps anything.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What a recurrent layer hands to the next layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecurrentOutput {
    /// h of every timestep, `[T, B, D*H]` (Keras' `return_sequences=True`).
    #[default]
    Sequence,
    /// h after the last step each direction takes, `[B, D*H]`: forward at T-1, reverse at 0.
    Last,
}

/// How a bidirectional layer joins its two directions (Keras' `merge_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeMode {
    /// Side by side, D*H wide.
    #[default]
    Concat,
    /// Their sum, H wide.
    Sum,
    /// Their mean, H wide.
    Ave,
    /// Their product, H wide.
    Mul,
}

/// What a recurrent layer's output is at a masked step, at which its state does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskedOutput {
    /// 0 in a sequence (ONNX, PyTorch's packed sequences); with `output: last` the last state.
    #[default]
    Zero,
    /// The output of the last step that was not masked, 0 before the first (Keras).
    Previous,
}

/// Which sums of a layer-normalized cell are normalized, over all G*H of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateNorm {
    /// `LN(W x + U h)` (torchaudio's RNN-T, the GRU of Dreamer).
    #[default]
    Sum,
    /// `LN(W x) + LN(U h)` (Ba, Kiros & Hinton 2016; haste, `TensorFlow` Addons, PyTorch's `custom_lstms`).
    Parts,
}

/// What becomes of the normalized c of a layer-normalized LSTM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellNorm {
    /// It is the new c: `c' = LN(f∘c + i∘g)`, `h' = o∘tanh(c')` (PyTorch's `custom_lstms`, torchaudio, `TensorFlow` Addons).
    #[default]
    State,
    /// The output alone sees it: `c' = f∘c + i∘g`, `h' = o∘tanh(LN(c'))` (Ba, Kiros & Hinton 2016; haste).
    Output,
    /// c is not normalized.
    None,
}

/// PyTorch's default.
const LAYER_NORM_EPS: f32 = 1e-5;

fn layer_norm_eps() -> f32 {
    LAYER_NORM_EPS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_layer_norm_eps(value: &f32) -> bool {
    value.to_bits() == LAYER_NORM_EPS.to_bits()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_yes(value: &bool) -> bool {
    *value
}

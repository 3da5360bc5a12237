//! Layers broken down into the steps of work that a device does one after the other.

use super::{Activation, LayerSpec, LstmOutput, NetworkSpec};
use crate::error::{Error, Result};

/// One step of work: a layer, or one level of a stacked LSTM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The layer's name; an LSTM adds its level (`lstm.l0`).
    pub label: String,
    /// What is computed.
    pub kind: StageKind,
    /// Width of the input's last dimension (1 for token ids).
    pub in_features: usize,
    /// Width of the output's last dimension.
    pub out_features: usize,
    /// Whether the input has a time dimension.
    pub sequence_in: bool,
    /// Whether the output has a time dimension.
    pub sequence_out: bool,
}

/// What a [`Stage`] computes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageKind {
    /// Row gather, `[T, B]` to `[T, B, E]`.
    Embedding {
        /// V, rows of the table.
        num_embeddings: usize,
        /// Name of the table.
        weight: String,
    },
    /// One level of an LSTM, `[T, B, I]` to `[T, B, D*H]` or `[B, D*H]`.
    Lstm {
        /// Position of the layer among the network's LSTMs.
        lstm: usize,
        /// Level in the stack, from 0.
        level: usize,
        /// H.
        hidden_size: usize,
        /// Tensor names per direction, D of them.
        directions: Vec<DirectionNames>,
    },
    /// `activation(x W^T + b)`.
    Dense {
        /// Applied to every output element.
        activation: Activation,
        /// Name of the matrix `[N, K]`.
        weight: String,
        /// Name of the bias `[N]`; without a bias no such tensor exists.
        bias: String,
    },
    /// Softmax over the last dimension.
    Softmax,
}

/// PyTorch's names of the tensors of one direction of one LSTM level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionNames {
    /// `[4H, I]`
    pub weight_ih: String,
    /// `[4H, H]`
    pub weight_hh: String,
    /// `[4H]`, absent without bias
    pub bias_ih: String,
    /// `[4H]`, absent without bias
    pub bias_hh: String,
}

impl DirectionNames {
    pub(super) fn new(layer: &str, level: usize, direction: usize) -> Self {
        let suffix = if direction == 1 { "_reverse" } else { "" };
        let name = |tensor: &str| format!("{layer}.{tensor}_l{level}{suffix}");
        Self {
            weight_ih: name("weight_ih"),
            weight_hh: name("weight_hh"),
            bias_ih: name("bias_ih"),
            bias_hh: name("bias_hh"),
        }
    }
}

/// What flows between two layers.
#[derive(Clone, Copy)]
enum Flow {
    Start,
    Tokens,
    Vectors { width: usize, sequence: bool },
}

/// Breaks `spec` down and checks that neighbours fit.
pub(super) fn stages(spec: &NetworkSpec) -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    let mut flow = match spec.layers.first() {
        Some(LayerSpec::Embedding(_)) => Flow::Tokens,
        _ => Flow::Start,
    };
    let mut lstms = 0;
    for layer in &spec.layers {
        match layer {
            LayerSpec::Embedding(e) => {
                if !matches!(flow, Flow::Tokens) {
                    return Err(Error::network(&e.name, "position", "the first layer", &"a later one"));
                }
                stages.push(Stage {
                    label: e.name.clone(),
                    kind: StageKind::Embedding {
                        num_embeddings: e.num_embeddings,
                        weight: format!("{}.weight", e.name),
                    },
                    in_features: 1,
                    out_features: e.embedding_dim,
                    sequence_in: true,
                    sequence_out: true,
                });
                flow = Flow::Vectors { width: e.embedding_dim, sequence: true };
            }
            LayerSpec::Lstm(l) => {
                if !fits(flow, l.input_size, &l.name, "input_size")? {
                    return Err(Error::network(&l.name, "input", "a sequence [T, B, I]", &"one vector per row [B, I]"));
                }
                let out_features = l.directions() * l.hidden_size;
                for level in 0..l.num_layers {
                    stages.push(Stage {
                        label: format!("{}.l{level}", l.name),
                        kind: StageKind::Lstm {
                            lstm: lstms,
                            level,
                            hidden_size: l.hidden_size,
                            directions: (0..l.directions()).map(|d| DirectionNames::new(&l.name, level, d)).collect(),
                        },
                        in_features: if level == 0 { l.input_size } else { out_features },
                        out_features,
                        sequence_in: true,
                        sequence_out: level + 1 < l.num_layers || l.output == LstmOutput::Sequence,
                    });
                }
                lstms += 1;
                flow = Flow::Vectors { width: out_features, sequence: l.output == LstmOutput::Sequence };
            }
            LayerSpec::Dense(d) => {
                let sequence = fits(flow, d.in_features, &d.name, "in_features")?;
                stages.push(Stage {
                    label: d.name.clone(),
                    kind: StageKind::Dense {
                        activation: d.activation,
                        weight: format!("{}.weight", d.name),
                        bias: format!("{}.bias", d.name),
                    },
                    in_features: d.in_features,
                    out_features: d.out_features,
                    sequence_in: sequence,
                    sequence_out: sequence,
                });
                flow = Flow::Vectors { width: d.out_features, sequence };
            }
            LayerSpec::Softmax => {
                let Flow::Vectors { width, sequence } = flow else {
                    return Err(Error::network(
                        "softmax",
                        "position",
                        "behind a layer with vectors",
                        &"the first layer",
                    ));
                };
                stages.push(Stage {
                    label: "softmax".into(),
                    kind: StageKind::Softmax,
                    in_features: width,
                    out_features: width,
                    sequence_in: sequence,
                    sequence_out: sequence,
                });
            }
        }
    }
    Ok(stages)
}

/// Whether what flows into a layer of `width` is a sequence; an error if the widths differ.
fn fits(flow: Flow, width: usize, layer: &str, option: &str) -> Result<bool> {
    match flow {
        Flow::Start => Ok(true),
        Flow::Vectors { width: got, sequence } if got == width => Ok(sequence),
        Flow::Vectors { width: got, .. } => {
            Err(Error::network(layer, option, format!("{got}, the width of the layer before it"), &width))
        }
        Flow::Tokens => Err(Error::network(layer, "input", "vectors", &"token ids")),
    }
}

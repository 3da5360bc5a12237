//! The cells: a row for each with what all code but the cell's own step needs to know, and the options of each.

use super::{Activation, CellNorm, GateNorm, RecurrentSpec};

/// The recurrence of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cell {
    /// Gates i, f, g, o (Hochreiter & Schmidhuber 1997).
    Lstm,
    /// Gates r, z, n (Cho et al. 2014).
    Gru,
    /// One gate (Elman 1990).
    Rnn,
    /// An LSTM whose sums are normalized over each row (Ba, Kiros & Hinton 2016).
    LayerNormLstm,
    /// A GRU whose sums are normalized over each row (Ba, Kiros & Hinton 2016).
    LayerNormGru,
}

/// What is known of a cell outside its step.
struct CellFacts {
    /// Its layer's `type` in a description.
    name: &'static str,
    /// Its name in a sentence, with an article.
    title: &'static str,
    /// Blocks of H rows in its weights.
    gates: usize,
    /// Functions of one direction where none are given.
    activations: &'static [Activation],
    /// Whether it has a cell state c in addition to h.
    keeps_c: bool,
    /// The options of [`RecurrentSpec`] that not all cells have and this one has.
    options: &'static [&'static str],
}

impl Cell {
    /// Every cell.
    pub const ALL: [Self; 5] = [Self::Lstm, Self::Gru, Self::Rnn, Self::LayerNormLstm, Self::LayerNormGru];

    const fn row(self) -> CellFacts {
        match self {
            Self::Lstm => CellFacts {
                name: "lstm",
                title: "an LSTM",
                gates: 4,
                activations: &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
                keeps_c: true,
                options: &["proj_size", "peephole", "coupled", "cell_clip", "clip", "zoneout_h", "zoneout_c"],
            },
            Self::Gru => CellFacts {
                name: "gru",
                title: "a GRU",
                gates: 3,
                activations: &[Activation::Sigmoid, Activation::Tanh],
                keeps_c: false,
                options: &["reset_after", "clip", "zoneout_h"],
            },
            Self::Rnn => CellFacts {
                name: "rnn",
                title: "an RNN",
                gates: 1,
                activations: &[Activation::Tanh],
                keeps_c: false,
                options: &["clip", "zoneout_h"],
            },
            Self::LayerNormLstm => CellFacts {
                name: "layer_norm_lstm",
                title: "a layer-normalized LSTM",
                options: &["gate_norm", "cell_norm", "layer_norm_eps"],
                ..Self::Lstm.row()
            },
            Self::LayerNormGru => CellFacts {
                name: "layer_norm_gru",
                title: "a layer-normalized GRU",
                options: &["gate_norm", "layer_norm_eps"],
                ..Self::Gru.row()
            },
        }
    }

    /// G, number of gates: blocks of H rows in its weights.
    #[must_use]
    pub fn gates(self) -> usize {
        self.row().gates
    }

    /// The functions of one direction when [`RecurrentSpec::activations`] is empty.
    #[must_use]
    pub fn default_activations(self) -> &'static [Activation] {
        self.row().activations
    }

    /// The `type` of its layer in a description: `lstm`, `layer_norm_lstm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether its state has a cell state c `[H]` in addition to h.
    #[must_use]
    pub fn keeps_c(self) -> bool {
        self.row().keeps_c
    }

    /// Whether it has the option `option`.
    pub(super) fn has_option(self, option: &str) -> bool {
        self.row().options.contains(&option)
    }

    /// The cells that have `option`, as a sentence names them.
    pub(super) fn with_option(option: &str) -> String {
        let titles = Self::ALL.into_iter().filter(|cell| cell.has_option(option)).map(|cell| cell.row().title);
        titles.collect::<Vec<_>>().join(" or ")
    }
}

/// A cell with the options that it alone has.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Recurrence {
    /// [`Cell::Lstm`]
    Lstm {
        /// P, width of the projected h, or 0 without a projection.
        proj_size: usize,
        /// Whether the gates see the cell state.
        peephole: bool,
        /// Whether the forget gate is `1 - i`.
        coupled: bool,
        /// Bound of the cell state.
        cell_clip: Option<f32>,
    },
    /// [`Cell::Gru`]
    Gru {
        /// Whether the reset gate acts on the recurrent product instead of on h.
        reset_after: bool,
    },
    /// [`Cell::Rnn`]
    Rnn,
    /// [`Cell::LayerNormLstm`]
    LayerNormLstm(Normalization),
    /// [`Cell::LayerNormGru`]
    LayerNormGru(Normalization),
}

/// What a layer-normalized cell normalizes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Normalization {
    /// The sums.
    pub gate_norm: GateNorm,
    /// The cell state; [`CellNorm::None`] for a cell that keeps none.
    pub cell_norm: CellNorm,
    /// Added to the variances.
    pub eps: f32,
}

impl Recurrence {
    /// The cell with its options of `spec`.
    pub(super) fn new(cell: Cell, spec: &RecurrentSpec) -> Self {
        let (gate_norm, eps) = (spec.gate_norm, spec.layer_norm_eps);
        match cell {
            Cell::Lstm => Self::Lstm {
                proj_size: spec.proj_size,
                peephole: spec.peephole,
                coupled: spec.coupled,
                cell_clip: spec.cell_clip,
            },
            Cell::Gru => Self::Gru { reset_after: spec.reset_after },
            Cell::Rnn => Self::Rnn,
            Cell::LayerNormLstm => Self::LayerNormLstm(Normalization { gate_norm, cell_norm: spec.cell_norm, eps }),
            Cell::LayerNormGru => Self::LayerNormGru(Normalization { gate_norm, cell_norm: CellNorm::None, eps }),
        }
    }

    /// Its cell.
    #[must_use]
    pub fn cell(self) -> Cell {
        match self {
            Self::Lstm { .. } => Cell::Lstm,
            Self::Gru { .. } => Cell::Gru,
            Self::Rnn => Cell::Rnn,
            Self::LayerNormLstm(_) => Cell::LayerNormLstm,
            Self::LayerNormGru(_) => Cell::LayerNormGru,
        }
    }

    /// What it normalizes, if it is a layer-normalized cell.
    #[must_use]
    pub fn normalization(self) -> Option<Normalization> {
        match self {
            Self::LayerNormLstm(normalization) | Self::LayerNormGru(normalization) => Some(normalization),
            _ => None,
        }
    }

    /// P, or 0 without a projection.
    #[must_use]
    pub fn proj_size(self) -> usize {
        match self {
            Self::Lstm { proj_size, .. } => proj_size,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_options_cells_are_named() {
        assert_eq!(Cell::with_option("peephole"), "an LSTM");
        assert_eq!(Cell::with_option("clip"), "an LSTM or a GRU or an RNN");
    }
}

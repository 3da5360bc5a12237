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
    /// An LSTM with exponential gates and a normalizer (Beck et al. 2024, xLSTM).
    Slstm,
    /// [`ScanCell::MinGru`]
    MinGru,
    /// [`ScanCell::MinLstm`]
    MinLstm,
    /// [`ScanCell::Sru`]
    Sru,
    /// [`ScanCell::Qrnn`]
    Qrnn,
    /// [`ScanCell::IndRnn`]
    IndRnn,
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
    /// What it keeps in addition to h, `[H]` each; the first is the cell state c.
    cells: &'static [&'static str],
    /// The options of [`RecurrentSpec`] that not all cells have and this one has.
    options: &'static [&'static str],
}

impl Cell {
    /// Every cell.
    pub const ALL: [Self; 11] = [
        Self::Lstm,
        Self::Gru,
        Self::Rnn,
        Self::LayerNormLstm,
        Self::LayerNormGru,
        Self::Slstm,
        Self::MinGru,
        Self::MinLstm,
        Self::Sru,
        Self::Qrnn,
        Self::IndRnn,
    ];

    const fn row(self) -> CellFacts {
        match self {
            Self::Lstm => CellFacts {
                name: "lstm",
                title: "an LSTM",
                gates: 4,
                activations: &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
                cells: &["c"],
                options: &["proj_size", "peephole", "coupled", "cell_clip", "clip", "zoneout_h", "zoneout_c"],
            },
            Self::Gru => CellFacts {
                name: "gru",
                title: "a GRU",
                gates: 3,
                activations: &[Activation::Sigmoid, Activation::Tanh],
                cells: &[],
                options: &["reset_after", "clip", "zoneout_h"],
            },
            Self::Rnn => CellFacts {
                name: "rnn",
                title: "an RNN",
                gates: 1,
                activations: &[Activation::Tanh],
                cells: &[],
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
            Self::Slstm => CellFacts {
                name: "slstm",
                title: "an sLSTM",
                gates: 4,
                activations: &[Activation::Sigmoid, Activation::Tanh],
                cells: &["c", "n", "m"],
                options: &["num_heads"],
            },
            Self::MinGru => CellFacts {
                name: "min_gru",
                title: "a minGRU",
                gates: 2,
                activations: &[Activation::Sigmoid, Activation::LinearSigmoid],
                cells: &[],
                options: &[],
            },
            Self::MinLstm => CellFacts {
                name: "min_lstm",
                title: "a minLSTM",
                gates: 3,
                activations: &[Activation::LinearSigmoid],
                cells: &[],
                options: &[],
            },
            Self::Sru => CellFacts {
                name: "sru",
                title: "an SRU",
                gates: 4,
                activations: &[Activation::Sigmoid, Activation::Linear],
                cells: &["c"],
                options: &["peephole"],
            },
            Self::Qrnn => CellFacts {
                name: "qrnn",
                title: "a QRNN",
                gates: 3,
                activations: &[Activation::Sigmoid, Activation::Tanh],
                cells: &["c"],
                options: &[],
            },
            Self::IndRnn => CellFacts {
                name: "ind_rnn",
                title: "an IndRNN",
                gates: 1,
                activations: &[Activation::Relu],
                cells: &[],
                options: &[],
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
        !self.row().cells.is_empty()
    }

    /// The parts of its state in addition to h, `[H]` each: c, and of an sLSTM its normalizer n and its stabilizer m.
    #[must_use]
    pub fn cells(self) -> &'static [&'static str] {
        self.row().cells
    }

    /// Whether its units do not depend on each other, so that a step has no product with h.
    #[must_use]
    pub fn scans(self) -> bool {
        matches!(self, Self::MinGru | Self::MinLstm | Self::Sru | Self::Qrnn | Self::IndRnn)
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
    /// [`Cell::Slstm`]
    Slstm {
        /// Heads, whose units see h of their own head alone.
        num_heads: usize,
    },
    /// A cell with [`Cell::scans`].
    Scan(ScanCell),
}

/// A cell whose units do not depend on each other. W x + b of all timesteps is computed first; what is left is elementwise.
///
/// In the equations x₀, x₁, .. are the G blocks of H rows of W x + b, φ the first function and ψ the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanCell {
    /// `z = φ(x₁)`, `h' = (1-z)∘h + z∘ψ(x₀)` (Feng et al. 2024, "Were RNNs All We Needed?").
    MinGru,
    /// `f = σ(x₁) / (σ(x₁) + σ(x₂))`, `h' = f∘h + (1-f)∘φ(x₀)` (Feng et al. 2024).
    MinLstm,
    /// `f = φ(x₁ + v∘c)`, `r = φ(x₂ + w∘c)`, `c' = f∘c + (1-f)∘x₀`, `h' = r∘ψ(c') + (1-r)∘x₃` (Lei et al. 2018).
    Sru {
        /// Whether the gates see the c before the step: v and w, else 0.
        peephole: bool,
    },
    /// `f = φ(x₁)`, `c' = f∘c + (1-f)∘ψ(x₀)`, `h' = φ(x₂)∘c'` (Bradbury et al. 2017, fo-pooling).
    Qrnn,
    /// `h' = φ(x₀ + u∘h)` (Li et al. 2018).
    IndRnn,
}

impl ScanCell {
    /// Whether a step is `c' = f∘c + b` with f and b that do not depend on c.
    #[must_use]
    pub fn is_linear(self) -> bool {
        !matches!(self, Self::Sru { peephole: true } | Self::IndRnn)
    }

    /// Its cell.
    #[must_use]
    pub fn cell(self) -> Cell {
        match self {
            Self::MinGru => Cell::MinGru,
            Self::MinLstm => Cell::MinLstm,
            Self::Sru { .. } => Cell::Sru,
            Self::Qrnn => Cell::Qrnn,
            Self::IndRnn => Cell::IndRnn,
        }
    }
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
            Cell::Slstm => Self::Slstm { num_heads: spec.num_heads },
            Cell::MinGru => Self::Scan(ScanCell::MinGru),
            Cell::MinLstm => Self::Scan(ScanCell::MinLstm),
            Cell::Sru => Self::Scan(ScanCell::Sru { peephole: spec.peephole }),
            Cell::Qrnn => Self::Scan(ScanCell::Qrnn),
            Cell::IndRnn => Self::Scan(ScanCell::IndRnn),
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
            Self::Slstm { .. } => Cell::Slstm,
            Self::Scan(cell) => cell.cell(),
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

    /// The cell, if its units do not depend on each other.
    #[must_use]
    pub fn scan(self) -> Option<ScanCell> {
        match self {
            Self::Scan(cell) => Some(cell),
            _ => None,
        }
    }

    /// Heads between which U is 0.
    #[must_use]
    pub fn num_heads(self) -> usize {
        match self {
            Self::Slstm { num_heads } => num_heads,
            _ => 1,
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
        assert_eq!(Cell::with_option("peephole"), "an LSTM or an SRU");
        assert_eq!(Cell::with_option("clip"), "an LSTM or a GRU or an RNN");
    }
}

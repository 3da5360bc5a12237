//! What a timestep computes, as parts of kernels.

use super::recurrent::Rung;
use super::{Constant, f, u};
use crate::network::WeightFormat;
use crate::plan::Arithmetic;

/// A unit of an sLSTM.
pub(super) const SLSTM_UNIT: &str = include_str!("../../../shaders/common/slstm_unit.wgsl");

/// What a step computes; a file under `shaders/cells/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cells {
    /// An LSTM, or its part before a projection.
    Lstm,
    /// A GRU that resets the product.
    Gru,
    /// A plain RNN.
    Rnn,
    /// First half of a GRU that resets the state.
    GruGates,
    /// Its second half.
    GruCandidate,
    /// The projection after an LSTM.
    Projection,
    /// A layer-normalized LSTM.
    LayerNormLstm,
    /// A layer-normalized GRU.
    LayerNormGru,
    /// An sLSTM.
    Slstm,
    /// A minGRU.
    MinGru,
    /// A minLSTM.
    MinLstm,
    /// An SRU.
    Sru,
    /// A QRNN.
    Qrnn,
    /// An IndRNN.
    IndRnn,
}

impl Cells {
    /// Every one.
    pub(super) const ALL: [Self; 14] = [
        Self::Lstm,
        Self::Gru,
        Self::Rnn,
        Self::GruGates,
        Self::GruCandidate,
        Self::Projection,
        Self::LayerNormLstm,
        Self::LayerNormGru,
        Self::Slstm,
        Self::MinGru,
        Self::MinLstm,
        Self::Sru,
        Self::Qrnn,
        Self::IndRnn,
    ];

    /// Whether a step needs a second kernel, which only a dispatch per step allows.
    #[must_use]
    pub fn is_half(self) -> bool {
        matches!(self, Self::GruGates | Self::GruCandidate | Self::Projection)
    }

    /// Whether it normalizes its sums, so that its steps end in [`Rung::Normalize`] or in a sequence of their own.
    #[must_use]
    pub fn normalizes(self) -> bool {
        matches!(self, Self::LayerNormLstm | Self::LayerNormGru)
    }

    /// Whether its units do not depend on each other, so that it takes no product with h.
    #[must_use]
    pub fn scans(self) -> bool {
        matches!(self, Self::MinGru | Self::MinLstm | Self::Sru | Self::Qrnn | Self::IndRnn)
    }

    /// Whether `rung` runs it.
    pub(super) fn runs_on(self, rung: Rung) -> bool {
        match rung {
            Rung::Scan => self.scans(),
            Rung::ScanShared => self.scans() && self != Self::IndRnn,
            _ if self.scans() => false,
            Rung::Normalize => self.normalizes(),
            Rung::StepDropped => self != Self::Projection,
            Rung::Sequence => !self.is_half(),
            Rung::SequenceRows | Rung::Resident => !self.is_half() && !self.normalizes(),
            Rung::Step | Rung::Tile | Rung::Direct | Rung::TileMatrix(_) => true,
        }
    }

    /// Gates whose products it takes.
    #[must_use]
    pub fn gates(self) -> u64 {
        match self {
            Self::Lstm | Self::LayerNormLstm | Self::Slstm | Self::Sru => 4,
            Self::Gru | Self::LayerNormGru | Self::MinLstm | Self::Qrnn => 3,
            Self::GruGates | Self::MinGru => 2,
            Self::Rnn | Self::GruCandidate | Self::Projection | Self::IndRnn => 1,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Gru => "gru",
            Self::Rnn => "rnn",
            Self::GruGates => "gru_gates",
            Self::GruCandidate => "gru_candidate",
            Self::Projection => "projection",
            Self::LayerNormLstm => "layer_norm_lstm",
            Self::LayerNormGru => "layer_norm_gru",
            Self::Slstm => "slstm",
            Self::MinGru => "min_gru",
            Self::MinLstm => "min_lstm",
            Self::Sru => "sru",
            Self::Qrnn => "qrnn",
            Self::IndRnn => "ind_rnn",
        }
    }

    /// How the gates of a unit lie, where several cells have it alike.
    pub(super) fn gates_sources(self, keeps_sums: bool) -> Vec<&'static str> {
        let projected = match keeps_sums {
            true => include_str!("../../../shaders/common/projected_4_kept.wgsl"),
            false => include_str!("../../../shaders/common/projected_4.wgsl"),
        };
        match self {
            Self::Lstm | Self::LayerNormLstm | Self::Sru => {
                vec![include_str!("../../../shaders/common/gates_4.wgsl"), projected]
            }
            Self::Slstm => vec![include_str!("../../../shaders/common/gates_4.wgsl"), projected, SLSTM_UNIT],
            Self::Gru | Self::LayerNormGru | Self::MinLstm | Self::Qrnn => {
                vec![include_str!("../../../shaders/common/gates_3.wgsl")]
            }
            Self::Rnn | Self::GruGates | Self::GruCandidate | Self::Projection | Self::MinGru | Self::IndRnn => {
                Vec::new()
            }
        }
    }

    /// Whether a kernel of it may leave the sums of its gates: with weights in f32, as they are trained.
    pub(super) fn keeps_sums(self, format: WeightFormat, arithmetic: Arithmetic) -> &'static [bool] {
        match (self, format, arithmetic) {
            (Self::Lstm, WeightFormat::F32, Arithmetic::F32) => &[false, true],
            _ => &[false],
        }
    }

    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Lstm => include_str!("../../../shaders/cells/lstm.wgsl"),
            Self::Gru => include_str!("../../../shaders/cells/gru.wgsl"),
            Self::Rnn => include_str!("../../../shaders/cells/rnn.wgsl"),
            Self::GruGates => include_str!("../../../shaders/cells/gru_gates.wgsl"),
            Self::GruCandidate => include_str!("../../../shaders/cells/gru_candidate.wgsl"),
            Self::Projection => include_str!("../../../shaders/cells/projection.wgsl"),
            Self::LayerNormLstm => include_str!("../../../shaders/cells/layer_norm_lstm.wgsl"),
            Self::LayerNormGru => include_str!("../../../shaders/cells/layer_norm_gru.wgsl"),
            Self::Slstm => include_str!("../../../shaders/cells/slstm.wgsl"),
            Self::MinGru => include_str!("../../../shaders/cells/min_gru.wgsl"),
            Self::MinLstm => include_str!("../../../shaders/cells/min_lstm.wgsl"),
            Self::Sru => include_str!("../../../shaders/cells/sru.wgsl"),
            Self::Qrnn => include_str!("../../../shaders/cells/qrnn.wgsl"),
            Self::IndRnn => include_str!("../../../shaders/cells/ind_rnn.wgsl"),
        }
    }

    pub(super) fn constants(self) -> &'static [Constant] {
        // Those of a cell stand together.
        const ALL: [Constant; 15] = [
            u("PEEPHOLE"),
            u("COUPLED"),
            f("CLIP_GATES"),
            f("CLIP_CELL"),
            u("GATE"),
            f("GATE_ALPHA"),
            f("GATE_BETA"),
            u("CANDIDATE"),
            f("CANDIDATE_ALPHA"),
            f("CANDIDATE_BETA"),
            u("OUTPUT"),
            f("OUTPUT_ALPHA"),
            f("OUTPUT_BETA"),
            f("ZONEOUT_H"),
            f("ZONEOUT_C"),
        ];
        const GATES: [Constant; 4] = [ALL[2], ALL[4], ALL[5], ALL[6]];
        const GRU: [Constant; 8] = [ALL[2], ALL[4], ALL[5], ALL[6], ALL[7], ALL[8], ALL[9], ALL[13]];
        const RNN: [Constant; 5] = [ALL[2], ALL[4], ALL[5], ALL[6], ALL[13]];
        const CANDIDATE: [Constant; 5] = [ALL[2], ALL[7], ALL[8], ALL[9], ALL[13]];
        const TWO: [Constant; 6] = [ALL[4], ALL[5], ALL[6], ALL[7], ALL[8], ALL[9]];
        const SLSTM: [Constant; 4] = [u("EXPONENTIAL"), ALL[7], ALL[8], ALL[9]];
        const SRU: [Constant; 7] = [ALL[0], ALL[4], ALL[5], ALL[6], ALL[10], ALL[11], ALL[12]];
        const NORMALIZED: [Constant; 12] = [
            u("NORM_PARTS"),
            u("NORM_CELL"),
            f("EPS"),
            ALL[4],
            ALL[5],
            ALL[6],
            ALL[7],
            ALL[8],
            ALL[9],
            ALL[10],
            ALL[11],
            ALL[12],
        ];
        match self {
            Self::Lstm => &ALL,
            Self::Gru => &GRU,
            Self::Rnn => &RNN,
            Self::GruGates => &GATES,
            Self::GruCandidate => &CANDIDATE,
            Self::Projection => &ALL[13..14],
            Self::LayerNormLstm => &NORMALIZED,
            Self::LayerNormGru => &NORMALIZED[..9],
            Self::Slstm => &SLSTM,
            Self::MinGru | Self::Qrnn => &TWO,
            Self::MinLstm | Self::IndRnn => &TWO[..3],
            Self::Sru => &SRU,
        }
    }
}

//! Kernels of the backward pass of recurrences: a cell, and how its timesteps are run.

use super::cells::SLSTM_UNIT;
use super::training::{BLOCK, PARAMS, RANDOM, SEED, STATE_DROPOUT};
use super::training::{CANDIDATE, CLIP, GATE, KernelRow, LSTM, LSTM_OPTIONS, OF_STATE_DROPOUT, OF_ZONEOUT, ZONEOUT};
use super::{Binding, Cells, Constant, f, read, read_write, u, uniform};

const BACKWARD: &str = include_str!("../../../shaders/common/backward.wgsl");
const GRADIENTS: &str = include_str!("../../../shaders/common/gradients.wgsl");
const PRODUCTS: &str = include_str!("../../../shaders/common/products_backward.wgsl");
const SLOPE: &str = include_str!("../../../shaders/common/slope.wgsl");
const STEP_BEHIND: &str = include_str!("../../../shaders/common/step_behind.wgsl");

/// Constants of every backward pass of a recurrence.
const SHARED: &[Constant] = &[
    u("WIDTH"),
    u("DEPTH"),
    u("SUMS"),
    u("CARRY"),
    u("LANES"),
    u("REVERSE"),
    u("LAST"),
    u("MASKED"),
    u("OUTPUT_STRIDE"),
    u("OUTPUT_FIRST"),
    u("WEIGHTS_FIRST"),
    u("WEIGHTS_LANE"),
    u("STARTED"),
    u("FROM"),
    u("UNITS"),
    u("SPLIT"),
    u("WHOLE"),
];

/// The backward pass of a cell whose units do not depend on each other.
pub(super) fn scan_backward(cell: Cells) -> KernelRow {
    const OF_UNITS: &[Constant] = &[u("PEEPHOLE_FIRST"), u("PEEPHOLE_LANE")];
    const OUTPUT: &[Constant] = &[u("PEEPHOLE"), u("OUTPUT"), f("OUTPUT_ALPHA"), f("OUTPUT_BETA")];
    let (source, more): (&str, &[&[Constant]]) = match cell {
        Cells::MinGru => (include_str!("../../../shaders/cells/min_gru_backward.wgsl"), &[CANDIDATE]),
        Cells::MinLstm => (include_str!("../../../shaders/cells/min_lstm_backward.wgsl"), &[]),
        Cells::Sru => (include_str!("../../../shaders/cells/sru_backward.wgsl"), &[OF_UNITS, OUTPUT]),
        Cells::Qrnn => (include_str!("../../../shaders/cells/qrnn_backward.wgsl"), &[CANDIDATE]),
        _ => (include_str!("../../../shaders/cells/ind_rnn_backward.wgsl"), &[OF_UNITS]),
    };
    let bindings = vec![
        uniform("params"),
        read_write("sums"),
        read("parameters"),
        read_write("carry"),
        read("d_output"),
        read("mask"),
        read("kept"),
        read_write("before"),
    ];
    let sources = vec![PARAMS, BACKWARD, source, include_str!("../../../shaders/rungs/scan_backward.wgsl")];
    let constants = [&[SHARED, GATE], more].concat().concat();
    ("recurrent_scan_backward", sources, bindings, &[], constants)
}

/// A kernel of the backward pass of a recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackwardKernel {
    /// What a timestep computes.
    pub cell: BackwardCell,
    /// How timesteps are run.
    pub rung: BackwardRung,
}

/// How timesteps of a backward pass are run; a file under `shaders/rungs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BackwardRung {
    /// A dispatch per step.
    Step,
    /// The same, four units of four rows in an invocation.
    Tile,
    /// The same for software adapters, eight units of eight rows in an invocation, which shares nothing with others; it drops
    /// no numbers of the state.
    Direct,
    /// Many steps in one dispatch, the gradients of a workgroup's rows in its memory.
    Sequence,
}

/// What a timestep of a backward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BackwardCell {
    /// An LSTM.
    Lstm,
    /// The gradient of an LSTM's h where it is projected, the first half of a step.
    State,
    /// A GRU whose reset gate acts on the recurrent product.
    Gru,
    /// Update gate and candidate of a GRU whose reset gate acts on the state, the first half of a step.
    GruGates,
    /// Its reset gate, the second half.
    GruReset,
    /// A plain RNN.
    Rnn,
    /// An sLSTM.
    Slstm,
}

impl BackwardCell {
    /// Every one.
    const ALL: [Self; 7] = [Self::Lstm, Self::State, Self::Gru, Self::GruGates, Self::GruReset, Self::Rnn, Self::Slstm];

    fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::State => "lstm state",
            Self::Gru => "gru",
            Self::GruGates => "gru_gates",
            Self::GruReset => "gru_reset",
            Self::Rnn => "rnn",
            Self::Slstm => "slstm",
        }
    }

    /// Whether it is a half of a step, which only a dispatch per step allows.
    fn is_half(self) -> bool {
        matches!(self, Self::State | Self::GruGates | Self::GruReset)
    }

    fn source(self) -> &'static str {
        match self {
            Self::Lstm => include_str!("../../../shaders/cells/lstm_backward.wgsl"),
            Self::State => include_str!("../../../shaders/cells/state_backward.wgsl"),
            Self::Gru => include_str!("../../../shaders/cells/gru_backward.wgsl"),
            Self::GruGates => include_str!("../../../shaders/cells/gru_gates_backward.wgsl"),
            Self::GruReset => include_str!("../../../shaders/cells/gru_reset_backward.wgsl"),
            Self::Rnn => include_str!("../../../shaders/cells/rnn_backward.wgsl"),
            Self::Slstm => include_str!("../../../shaders/cells/slstm_backward.wgsl"),
        }
    }

    /// Its last binding, if it has one more than all have.
    fn binding(self) -> Option<Binding> {
        match self {
            Self::Lstm => Some(read("d_state")),
            Self::State => Some(read_write("d_state")),
            Self::Gru => Some(read_write("of_state")),
            _ => None,
        }
    }

    fn constants(self) -> Vec<Constant> {
        match self {
            Self::Lstm => [LSTM, &[u("PROJECTED")]].concat(),
            Self::Gru | Self::GruGates => [CLIP, GATE, CANDIDATE].concat(),
            Self::GruReset | Self::Rnn => [CLIP, GATE].concat(),
            Self::Slstm => [&[u("EXPONENTIAL")], CANDIDATE].concat(),
            Self::State => Vec::new(),
        }
    }
}

impl BackwardRung {
    const ALL: [Self; 4] = [Self::Step, Self::Tile, Self::Direct, Self::Sequence];

    fn runs(self, cell: BackwardCell) -> bool {
        match self {
            Self::Step | Self::Tile | Self::Direct => true,
            Self::Sequence => !cell.is_half(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Step => "backward",
            Self::Tile => "backward tile",
            Self::Direct => "backward direct",
            Self::Sequence => "backward sequence",
        }
    }

    fn entry_point(self) -> &'static str {
        match self {
            Self::Step => "recurrent_step_backward",
            Self::Tile => "recurrent_tile_backward",
            Self::Direct => "recurrent_direct_backward",
            Self::Sequence => "recurrent_sequence_backward",
        }
    }

    fn sources(self) -> Vec<&'static str> {
        match self {
            Self::Step => vec![STATE_DROPOUT, PRODUCTS, include_str!("../../../shaders/rungs/step_backward.wgsl")],
            Self::Tile => vec![STATE_DROPOUT, include_str!("../../../shaders/rungs/tile_backward.wgsl")],
            Self::Direct => vec![BLOCK, include_str!("../../../shaders/rungs/direct_backward.wgsl")],
            Self::Sequence => vec![PRODUCTS, include_str!("../../../shaders/rungs/sequence_backward.wgsl")],
        }
    }

    /// Constants beside those that all have.
    fn constants(self) -> Vec<Constant> {
        match self {
            Self::Step => [&[u("ROW_QUADS"), u("PRODUCTS")], OF_STATE_DROPOUT].concat(),
            Self::Tile => [&[u("TILE_QUADS"), u("PRODUCTS")], OF_STATE_DROPOUT].concat(),
            Self::Direct => Vec::new(),
            Self::Sequence => vec![u("ROW_QUADS")],
        }
    }
}

impl BackwardKernel {
    /// All that a plan may ask for.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        BackwardRung::ALL.into_iter().flat_map(|rung| {
            let cells = BackwardCell::ALL.into_iter().filter(move |&cell| rung.runs(cell));
            cells.map(move |cell| Self { cell, rung })
        })
    }

    pub(super) fn name(self) -> String {
        format!("{} {}", self.cell.name(), self.rung.name())
    }

    pub(super) fn row(self) -> KernelRow {
        let Self { cell, rung } = self;
        let mut bindings = vec![
            uniform("params"),
            read_write("sums"),
            read("parameters"),
            read_write("carry"),
            read("d_output"),
            read("mask"),
            read("kept"),
            read("settings"),
        ];
        bindings.extend(cell.binding());
        let mut sources = vec![PARAMS, BACKWARD, GRADIENTS, RANDOM, SEED, ZONEOUT, cell.source()];
        sources.extend(rung.sources());
        if !matches!(cell, BackwardCell::State | BackwardCell::Rnn) {
            sources.push(SLOPE);
        }
        match cell {
            BackwardCell::Lstm => sources.push(LSTM_OPTIONS),
            BackwardCell::State | BackwardCell::GruGates | BackwardCell::Rnn => sources.push(STEP_BEHIND),
            BackwardCell::Slstm => sources.extend([STEP_BEHIND, SLSTM_UNIT]),
            BackwardCell::Gru | BackwardCell::GruReset => {}
        }
        let constants = [SHARED, OF_ZONEOUT, &rung.constants(), &cell.constants()].concat();
        (rung.entry_point(), sources, bindings, &[], constants)
    }
}

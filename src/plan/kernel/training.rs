//! Kernels that only training needs.

use super::{Binding, Constant, KernelSpec, f, read, read_write, u, uniform};

pub(super) const PARAMS: &str = include_str!("../../../shaders/common/params.wgsl");
pub(super) const RANDOM: &str = include_str!("../../../shaders/common/random.wgsl");
const BACKWARD: &str = include_str!("../../../shaders/common/backward.wgsl");
const LSTM_OPTIONS: &str = include_str!("../../../shaders/common/lstm_options.wgsl");
const ZONEOUT: &str = include_str!("../../../shaders/common/zoneout.wgsl");
pub(super) const SEED: &str = include_str!("../../../shaders/common/seed.wgsl");
pub(super) const STATE_DROPOUT: &str = include_str!("../../../shaders/common/state_dropout.wgsl");
const STEP_BEHIND: &str = include_str!("../../../shaders/common/step_behind.wgsl");
const SLOPE: &str = include_str!("../../../shaders/common/slope.wgsl");
const STEP_BACKWARD: &str = include_str!("../../../shaders/rungs/step_backward.wgsl");

/// A kernel that only training needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TrainKernel {
    /// A product of two matrices, either of which may lie transposed.
    Matmul,
    /// The same, 16 rows in an invocation.
    MatmulRows,
    /// The sum of slices of a sum.
    AddSlices,
    /// Sums of columns.
    ColumnSums,
    /// The gradient of an embedding, summed over pieces of the steps that read a row.
    EmbeddingPieces,
    /// The same, summed over the pieces.
    EmbeddingRows,
    /// h before every timestep.
    StateBefore,
    /// The output of a recurrence from its states.
    Emit,
    /// c between the timesteps of an LSTM.
    LstmStates,
    /// The end of a timestep with zoneout.
    Zoneout,
    /// A GRU's state times its reset gate.
    ResetState,
    /// A timestep of a backward pass.
    StepBackward(BackwardCell),
    /// Dropout of a layer's output, or of its gradient.
    Dropout,
    /// Dropout of a matrix whose timesteps share a mask.
    RowDropout,
    /// Projected inputs, the gates of a unit together.
    GatesTogether,
    /// The gradient before an elementwise function.
    ActivationBackward,
    /// The gradient of a softmax's input.
    SoftmaxBackward,
    /// The gradient of the input of a softmax over time.
    TimeSoftmaxBackward,
    /// The gradient of what only moved.
    RearrangeBackward,
    /// The gradient of a branch of a maximum.
    MaxBackward,
    /// The gradient of a layer normalization's input.
    LayerNormBackward,
    /// The gradient of a pooling's input.
    PoolBackward,
    /// What the outputs of a convolution see.
    ConvWindows,
    /// The gradient of a convolution's input.
    ConvGather,
    /// The gradient of filters from that of their matrix.
    Filters,
    /// A stored initial state for every row.
    InitialState,
    /// Sums of columns over the rows that count.
    BatchNormSums,
    /// Statistics of a batch.
    BatchNormMoments,
    /// Mean, scale and offset from statistics and parameters.
    BatchNormChannels,
    /// The gradient of a batch normalization's input.
    BatchNormBackward,
    /// Stored statistics that follow those of the batches.
    RunningStatistics,
    /// A bound of the norms of rows.
    MaxNorm,
    /// An average of the parameters.
    Average,
    /// Rows less their mean, divided by their deviation.
    NormalizeRows,
    /// c between the timesteps of a layer-normalized LSTM.
    NormalizedStates,
    /// A timestep of the backward pass of a layer-normalized LSTM.
    LayerNormLstmBackward,
    /// The same of a layer-normalized GRU.
    LayerNormGruBackward,
    /// Categorical cross-entropy and its gradient.
    CrossEntropy,
    /// The probabilities of every step for CTC.
    CtcRows,
    /// CTC from the first step to the last, and its loss.
    CtcForward,
    /// CTC from the last step to the first, and its gradient.
    CtcBackward,
    /// The other losses and their gradients.
    ElementwiseLoss,
    /// The loss of a batch.
    LossSum,
    /// Metrics of classes.
    ClassMetrics,
    /// Absolute errors of every row.
    AbsoluteErrors,
    /// Sums of squares of pieces of the gradients.
    SquareSums,
    /// Norms of the gradients.
    Norms,
    /// One step of an optimizer.
    Optimizer,
    /// Weights as the kernels of a run read them.
    Repack,
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
}

impl BackwardCell {
    /// Every one.
    const ALL: [Self; 6] = [Self::Lstm, Self::State, Self::Gru, Self::GruGates, Self::GruReset, Self::Rnn];

    fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm backward",
            Self::State => "lstm state backward",
            Self::Gru => "gru backward",
            Self::GruGates => "gru_gates backward",
            Self::GruReset => "gru_reset backward",
            Self::Rnn => "rnn backward",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Lstm => include_str!("../../../shaders/cells/lstm_backward.wgsl"),
            Self::State => include_str!("../../../shaders/cells/state_backward.wgsl"),
            Self::Gru => include_str!("../../../shaders/cells/gru_backward.wgsl"),
            Self::GruGates => include_str!("../../../shaders/cells/gru_gates_backward.wgsl"),
            Self::GruReset => include_str!("../../../shaders/cells/gru_reset_backward.wgsl"),
            Self::Rnn => include_str!("../../../shaders/cells/rnn_backward.wgsl"),
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
            Self::State => Vec::new(),
        }
    }
}

const LANES_OF_STATES: &[Constant] =
    &[u("WIDTH"), u("LANES"), u("REVERSE"), u("MASKED"), u("KEEP_H"), u("KEEP_NEW"), u("KEPT_LANE")];
const OF_ZONEOUT: &[Constant] = &[
    f("ZONEOUT_H"),
    f("ZONEOUT_C"),
    u("ZONEOUT_H_LEAST"),
    u("ZONEOUT_C_LEAST"),
    u("ZONEOUT_DRAWN"),
    u("ZONEOUT_SITE"),
    u("SEED"),
];
/// Of dropout of h.
pub(super) const OF_STATE_DROPOUT: &[Constant] =
    &[u("DROP_GATES"), u("DROP_GATE"), u("DROP_WIDTH"), u("DROP_LEAST"), f("DROP_SCALE"), u("DROP_SITE")];
const CLIP: &[Constant] = &[f("CLIP_GATES")];
pub(super) const GATE: &[Constant] = &[u("GATE"), f("GATE_ALPHA"), f("GATE_BETA")];
pub(super) const CANDIDATE: &[Constant] = &[u("CANDIDATE"), f("CANDIDATE_ALPHA"), f("CANDIDATE_BETA")];
const LSTM: &[Constant] = &[
    u("PEEPHOLE"),
    u("PEEPHOLE_FIRST"),
    u("PEEPHOLE_LANE"),
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
];
const OF_MATMUL: &[Binding] = &[uniform("params"), read("a"), read("b"), read("bias"), read_write("c")];
const MATMUL: &[&str] = &[
    "m",
    "n",
    "k",
    "a_first",
    "a_stride",
    "b_first",
    "b_stride",
    "c_first",
    "c_stride",
    "bias_first",
    "slice",
    "flags",
];
const OF_HISTORY: &[Binding] =
    &[uniform("params"), read("history"), read("initial"), read("mask"), read_write("output")];

/// Entry point, parts, bindings, fields of a uniform of its own, constants.
pub(super) type KernelRow = (&'static str, Vec<&'static str>, Vec<Binding>, &'static [&'static str], Vec<Constant>);

impl TrainKernel {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Matmul,
            Self::MatmulRows,
            Self::AddSlices,
            Self::ColumnSums,
            Self::EmbeddingPieces,
            Self::EmbeddingRows,
            Self::StateBefore,
            Self::Emit,
            Self::LstmStates,
            Self::Zoneout,
            Self::ResetState,
            Self::Dropout,
            Self::RowDropout,
            Self::GatesTogether,
            Self::ActivationBackward,
            Self::SoftmaxBackward,
            Self::MaxBackward,
            Self::LayerNormBackward,
            Self::TimeSoftmaxBackward,
            Self::RearrangeBackward,
            Self::PoolBackward,
            Self::ConvWindows,
            Self::ConvGather,
            Self::Filters,
            Self::InitialState,
            Self::BatchNormSums,
            Self::BatchNormMoments,
            Self::BatchNormChannels,
            Self::BatchNormBackward,
            Self::RunningStatistics,
            Self::MaxNorm,
            Self::Average,
            Self::NormalizeRows,
            Self::NormalizedStates,
            Self::LayerNormLstmBackward,
            Self::LayerNormGruBackward,
            Self::CrossEntropy,
            Self::CtcRows,
            Self::CtcForward,
            Self::CtcBackward,
            Self::ElementwiseLoss,
            Self::LossSum,
            Self::ClassMetrics,
            Self::AbsoluteErrors,
            Self::SquareSums,
            Self::Norms,
            Self::Optimizer,
            Self::Repack,
        ];
        others.into_iter().chain(BackwardCell::ALL.map(Self::StepBackward))
    }

    /// Whether it takes derivatives of elementwise functions.
    pub(super) fn derives(self) -> bool {
        matches!(self, Self::ActivationBackward | Self::LayerNormLstmBackward | Self::LayerNormGruBackward)
            || matches!(self, Self::StepBackward(cell) if cell != BackwardCell::State)
    }

    /// Whether it runs several times in a row and learns which time it is.
    pub(super) fn repeats(self) -> bool {
        matches!(self, Self::LayerNormLstmBackward | Self::LayerNormGruBackward | Self::CtcForward | Self::CtcBackward)
            || matches!(self, Self::Zoneout | Self::StepBackward(_))
    }

    pub(super) fn spec(self) -> KernelSpec {
        let (entry_point, sources, bindings, sizes, constants) = self.row();
        let name = match self {
            Self::StepBackward(cell) => cell.name(),
            Self::MatmulRows => "matmul rows",
            Self::LayerNormLstmBackward => "layer_norm_lstm backward",
            Self::LayerNormGruBackward => "layer_norm_gru backward",
            _ => entry_point,
        };
        KernelSpec { name: name.into(), entry_point, sources, bindings, sizes, constants }
    }

    fn row(self) -> KernelRow {
        /// The file of a kernel's own under `shaders/training/`.
        macro_rules! part {
            ($name:literal) => {
                include_str!(concat!("../../../shaders/training/", $name, ".wgsl"))
            };
        }
        let workgroup = || vec![u("WORKGROUP")];
        match self {
            Self::Matmul => {
                ("matmul", vec![part!("matmul_sizes"), part!("matmul")], OF_MATMUL.to_vec(), MATMUL, Vec::new())
            }
            Self::MatmulRows => (
                "matmul",
                vec![part!("matmul_sizes"), part!("matmul_rows")],
                OF_MATMUL.to_vec(),
                MATMUL,
                vec![u("GROUP")],
            ),
            Self::AddSlices => (
                "add_slices",
                vec![part!("add_slices")],
                vec![uniform("params"), read("x"), read_write("output")],
                &["count", "slices", "output_first", "accumulate", "descending"],
                workgroup(),
            ),
            Self::ColumnSums => (
                "column_sums",
                vec![part!("column_sums")],
                vec![uniform("params"), read("x"), read("y"), read_write("output")],
                &["rows", "columns", "x_first", "x_stride", "y_first", "y_stride", "slice", "product"],
                workgroup(),
            ),
            Self::EmbeddingPieces => (
                "embedding_pieces",
                vec![part!("embedding_pieces")],
                vec![uniform("params"), read("lookup"), read("d_output"), read_write("pieces")],
                &["width", "steps"],
                workgroup(),
            ),
            Self::EmbeddingRows => (
                "embedding_rows",
                vec![part!("embedding_rows")],
                vec![uniform("params"), read("lookup"), read("pieces"), read_write("output")],
                &["width", "steps"],
                workgroup(),
            ),
            Self::StateBefore => (
                "state_before",
                vec![PARAMS, part!("state_before")],
                OF_HISTORY.to_vec(),
                &[],
                vec![u("STATE"), u("OUTPUT_STRIDE"), u("OUTPUT_FIRST"), u("REVERSE"), u("MASKED"), u("WORKGROUP")],
            ),
            Self::Emit => (
                "emit",
                vec![PARAMS, part!("emit")],
                OF_HISTORY.to_vec(),
                &[],
                vec![
                    u("STATE"),
                    u("LANES"),
                    u("OUTPUT_STRIDE"),
                    u("OUTPUT_FIRST"),
                    u("REVERSE"),
                    u("LAST"),
                    u("MASKED"),
                    u("WORKGROUP"),
                ],
            ),
            Self::LstmStates => (
                "lstm_states",
                vec![PARAMS, LSTM_OPTIONS, RANDOM, SEED, ZONEOUT, part!("lstm_states")],
                vec![
                    uniform("params"),
                    read("kept"),
                    read("parameters"),
                    read("initial"),
                    read("mask"),
                    read_write("c"),
                    read_write("h"),
                    read_write("sums"),
                    read("settings"),
                ],
                &[],
                [LANES_OF_STATES, LSTM, OF_ZONEOUT, &[u("WORKGROUP")]].concat(),
            ),
            Self::Zoneout => (
                "zoneout",
                vec![PARAMS, RANDOM, SEED, ZONEOUT, part!("zoneout")],
                vec![
                    uniform("params"),
                    read("mask"),
                    read_write("h"),
                    read_write("history"),
                    read_write("c"),
                    read_write("c_before"),
                    read("settings"),
                ],
                &[],
                [
                    &[
                        u("WIDTH"),
                        u("STATE"),
                        u("LANES"),
                        u("REVERSE"),
                        u("MASKED"),
                        u("OUTPUT_STRIDE"),
                        u("OUTPUT_FIRST"),
                    ][..],
                    OF_ZONEOUT,
                    &[u("WORKGROUP")],
                ]
                .concat(),
            ),
            Self::ResetState => (
                "reset_state",
                vec![PARAMS, part!("reset_state")],
                vec![uniform("params"), read("sums"), read("h"), read_write("output")],
                &[],
                [&[u("WIDTH")][..], CLIP, GATE, &[u("WORKGROUP")]].concat(),
            ),
            Self::StepBackward(cell) => {
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
                let shared = [
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
                    u("ROW_QUADS"),
                    u("PRODUCTS"),
                ];
                let mut sources =
                    vec![PARAMS, BACKWARD, RANDOM, SEED, ZONEOUT, STATE_DROPOUT, cell.source(), STEP_BACKWARD];
                if !matches!(cell, BackwardCell::State | BackwardCell::Rnn) {
                    sources.push(SLOPE);
                }
                match cell {
                    BackwardCell::Lstm => sources.push(LSTM_OPTIONS),
                    BackwardCell::State | BackwardCell::GruGates | BackwardCell::Rnn => sources.push(STEP_BEHIND),
                    BackwardCell::Gru | BackwardCell::GruReset => {}
                }
                (
                    "recurrent_step_backward",
                    sources,
                    bindings,
                    &[],
                    [&shared[..], OF_ZONEOUT, OF_STATE_DROPOUT, &cell.constants()].concat(),
                )
            }
            Self::Dropout => (
                "dropout",
                vec![RANDOM, part!("dropout")],
                vec![uniform("params"), read("settings"), read_write("x")],
                &["count", "row", "site", "least", "scale", "seed"],
                workgroup(),
            ),
            Self::ActivationBackward => (
                "activation_backward",
                vec![PARAMS, part!("activation_backward")],
                vec![uniform("params"), read("x"), read_write("d")],
                &[],
                vec![u("ACTIVATION"), f("ALPHA"), f("BETA"), u("WORKGROUP")],
            ),
            Self::SquareSums => (
                "square_sums",
                vec![PARAMS, part!("square_sums")],
                vec![uniform("params"), read("gradients"), read("pieces"), read_write("output")],
                &[],
                workgroup(),
            ),
            Self::Norms => (
                "norms_of",
                vec![part!("norms")],
                vec![
                    uniform("params"),
                    read("squares"),
                    read("first"),
                    read("settings"),
                    read_write("norms"),
                    read_write("results"),
                ],
                &["tensors", "pieces"],
                workgroup(),
            ),
            Self::Optimizer => (
                "optimizer_step",
                vec![PARAMS, part!("optimizer")],
                vec![
                    uniform("params"),
                    read("settings"),
                    read("corrections"),
                    read("segments"),
                    read("gradients"),
                    read("norms"),
                    read_write("parameters"),
                    read_write("moments"),
                ],
                &[],
                vec![
                    u("RULE"),
                    u("KERAS"),
                    f("BETA1"),
                    f("NEW1"),
                    f("BETA2"),
                    f("NEW2"),
                    f("OPTIMIZER_EPS"),
                    u("NESTEROV"),
                    u("CENTERED"),
                    f("WEIGHT_DECAY"),
                    f("L2"),
                    u("CLIP"),
                    u("CLIP_KERAS"),
                    f("CLIP_MAX"),
                    u("COUNT"),
                    u("V_FIRST"),
                    u("MEAN_FIRST"),
                    u("CORRECTIONS"),
                    u("WORKGROUP"),
                ],
            ),
            Self::Repack => (
                "repack",
                vec![part!("repack")],
                vec![uniform("params"), read("parameters"), read("map"), read_write("output")],
                &["count", "sources"],
                workgroup(),
            ),
            Self::CrossEntropy
            | Self::CtcRows
            | Self::CtcForward
            | Self::CtcBackward
            | Self::ElementwiseLoss
            | Self::LossSum
            | Self::ClassMetrics
            | Self::AbsoluteErrors => self.row_of_loss(),
            _ => self.row_of_layer(),
        }
    }
}

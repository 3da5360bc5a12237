//! Kernels that only training needs.

use super::cells::SLSTM_UNIT;
use super::training_recurrent::{BackwardCell, BackwardKernel, scan_backward};
use super::{Binding, Cells, Constant, KernelSpec, f, ntm, read, read_write, u, uniform};

pub(super) const BLOCK: &str = include_str!("../../../shaders/common/block.wgsl");
pub(super) const PARAMS: &str = include_str!("../../../shaders/common/params.wgsl");
pub(super) const RANDOM: &str = include_str!("../../../shaders/common/random.wgsl");
pub(super) const LSTM_OPTIONS: &str = include_str!("../../../shaders/common/lstm_options.wgsl");
pub(super) const ZONEOUT: &str = include_str!("../../../shaders/common/zoneout.wgsl");
pub(super) const SEED: &str = include_str!("../../../shaders/common/seed.wgsl");
pub(super) const STATE_DROPOUT: &str = include_str!("../../../shaders/common/state_dropout.wgsl");

/// A kernel that only training needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TrainKernel {
    /// A product of two matrices, either of which may lie transposed.
    Matmul,
    /// The same, 16 rows in an invocation.
    MatmulBlock,
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
    /// c, n and m of an sLSTM before every timestep.
    SlstmStates,
    /// The end of a timestep with zoneout.
    Zoneout,
    /// A GRU's state times its reset gate.
    ResetState,
    /// Timesteps of a backward pass.
    RecurrentBackward(BackwardKernel),
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
    /// The gradients of the scores of attention.
    AttentionScoresBackward,
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
    /// The backward pass of a level of one of the cells with [`Cells::scans`].
    ScanBackward(Cells),
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
    /// Timesteps of a cell with a memory, kept for a backward pass.
    NtmKept,
    /// The timesteps of its backward pass.
    NtmBackward,
    /// Sums of squares of pieces of the gradients.
    SquareSums,
    /// Norms of the gradients.
    Norms,
    /// One step of an optimizer.
    Optimizer,
    /// Weights as the kernels of a run read them.
    Repack,
}

const LANES_OF_STATES: &[Constant] =
    &[u("WIDTH"), u("LANES"), u("REVERSE"), u("MASKED"), u("KEEP_H"), u("KEEP_NEW"), u("KEPT_LANE")];
pub(super) const OF_ZONEOUT: &[Constant] = &[
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
pub(super) const CLIP: &[Constant] = &[f("CLIP_GATES")];
pub(super) const GATE: &[Constant] = &[u("GATE"), f("GATE_ALPHA"), f("GATE_BETA")];
pub(super) const CANDIDATE: &[Constant] = &[u("CANDIDATE"), f("CANDIDATE_ALPHA"), f("CANDIDATE_BETA")];
pub(super) const LSTM: &[Constant] = &[
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
            Self::MatmulBlock,
            Self::AddSlices,
            Self::ColumnSums,
            Self::EmbeddingPieces,
            Self::EmbeddingRows,
            Self::StateBefore,
            Self::Emit,
            Self::LstmStates,
            Self::SlstmStates,
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
            Self::AttentionScoresBackward,
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
            Self::NtmKept,
            Self::NtmBackward,
            Self::SquareSums,
            Self::Norms,
            Self::Optimizer,
            Self::Repack,
        ];
        let scans = Cells::ALL.into_iter().filter(|cell| cell.scans()).map(Self::ScanBackward);
        others.into_iter().chain(scans).chain(BackwardKernel::all().map(Self::RecurrentBackward))
    }

    /// Whether it takes derivatives of elementwise functions.
    pub(super) fn derives(self) -> bool {
        matches!(self, Self::ActivationBackward | Self::LayerNormLstmBackward | Self::LayerNormGruBackward)
            || matches!(self, Self::ScanBackward(_))
            || matches!(self, Self::RecurrentBackward(kernel) if kernel.cell != BackwardCell::State)
    }

    /// Whether it runs several times in a row and learns which time it is.
    pub(super) fn repeats(self) -> bool {
        matches!(self, Self::LayerNormLstmBackward | Self::LayerNormGruBackward | Self::CtcForward | Self::CtcBackward)
            || matches!(self, Self::Zoneout | Self::RecurrentBackward(_) | Self::ScanBackward(_))
    }

    pub(super) fn spec(self) -> KernelSpec {
        let (entry_point, sources, bindings, sizes, constants) = self.row();
        let name = match self {
            Self::RecurrentBackward(kernel) => kernel.name(),
            Self::ScanBackward(cell) => format!("{} backward scan", cell.name()),
            Self::MatmulBlock => "matmul block".into(),
            Self::NtmKept => "ntm kept".into(),
            Self::LayerNormLstmBackward => "layer_norm_lstm backward".into(),
            Self::LayerNormGruBackward => "layer_norm_gru backward".into(),
            _ => entry_point.into(),
        };
        KernelSpec { name, entry_point, sources, bindings, sizes, constants }
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
            Self::MatmulBlock => (
                "matmul",
                vec![part!("matmul_sizes"), BLOCK, part!("matmul_block")],
                OF_MATMUL.to_vec(),
                MATMUL,
                Vec::new(),
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
            Self::SlstmStates => (
                "slstm_states",
                vec![PARAMS, SLSTM_UNIT, part!("slstm_states")],
                vec![uniform("params"), read("sums"), read("initial"), read("mask"), read_write("kept")],
                &[],
                [&[u("WIDTH"), u("LANES"), u("REVERSE"), u("MASKED"), u("WORKGROUP"), u("EXPONENTIAL")][..], CANDIDATE]
                    .concat(),
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
            Self::RecurrentBackward(kernel) => kernel.row(),
            Self::ScanBackward(cell) => scan_backward(cell),
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
            Self::NtmKept => ntm::kept(),
            Self::NtmBackward => ntm::backward(),
            _ => self.row_of_layer(),
        }
    }
}

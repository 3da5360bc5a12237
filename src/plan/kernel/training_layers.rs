//! Kernels of the training of layers without a recurrence and of layer-normalized cells, and of what is done with parameters
//! beside an optimizer.

use super::layers::OF_HEADS;
use super::training::{CANDIDATE, GATE, KernelRow, PARAMS, RANDOM, SEED};
use super::{Constant, TrainKernel, f, read, read_write, u, uniform};

const NORM_OPTIONS: &str = include_str!("../../../shaders/common/norm_options.wgsl");
const NORMALIZED_SUMS: &str = include_str!("../../../shaders/common/normalized_sums.wgsl");
const NORMALIZED_BACKWARD: &str = include_str!("../../../shaders/rungs/normalized_backward.wgsl");

const CONVOLUTION: &[Constant] = &[u("CHANNELS"), u("TAPS"), u("STRIDE"), u("DILATION"), u("LEFT"), u("WORKGROUP")];
/// Of the functions in `common/norm_options.wgsl` and `common/normalized_sums.wgsl`.
const NORMALIZED: &[Constant] = &[
    u("WIDTH"),
    u("LANES"),
    u("REVERSE"),
    u("MASKED"),
    u("PART"),
    u("VECTOR"),
    u("VECTORS_LANE"),
    u("NORM_PARTS"),
    u("NORM_CELL"),
    f("EPS"),
    u("WORKGROUP"),
];
const OUTPUT: &[Constant] = &[u("OUTPUT"), f("OUTPUT_ALPHA"), f("OUTPUT_BETA")];

impl TrainKernel {
    /// As [`TrainKernel::row`](super::TrainKernel) of what has no row there.
    pub(super) fn row_of_layer(self) -> KernelRow {
        /// The file of a kernel's own under `shaders/training/`.
        macro_rules! part {
            ($name:literal) => {
                include_str!(concat!("../../../shaders/training/", $name, ".wgsl"))
            };
        }
        let workgroup = || vec![u("WORKGROUP")];
        match self {
            Self::SoftmaxBackward => (
                "softmax_backward",
                vec![PARAMS, part!("softmax_backward")],
                vec![uniform("params"), read("y"), read("d_output"), read_write("d_x")],
                &[],
                vec![u("FEATURES"), u("ADD"), u("LOG"), u("WORKGROUP")],
            ),
            Self::RowDropout => (
                "row_dropout",
                vec![RANDOM, SEED, part!("row_dropout")],
                vec![uniform("params"), read("settings"), read("x"), read_write("output")],
                &[
                    "count",
                    "width",
                    "batch",
                    "gates",
                    "gate",
                    "x_first",
                    "x_stride",
                    "output_first",
                    "output_stride",
                    "site",
                    "least",
                    "scale",
                ],
                vec![u("SEED"), u("ADD"), u("WORKGROUP")],
            ),
            Self::GatesTogether => (
                "gates_together",
                vec![part!("gates_together")],
                vec![uniform("params"), read("x"), read("bias"), read_write("output")],
                &["count", "gates", "hidden"],
                workgroup(),
            ),
            Self::TimeSoftmaxBackward => (
                "time_softmax_backward",
                vec![PARAMS, part!("time_softmax_backward")],
                vec![uniform("params"), read("y"), read("d_output"), read_write("d_x")],
                &[],
                vec![u("ADD"), u("WORKGROUP")],
            ),
            Self::AttentionScoresBackward => (
                "attention_scores_backward",
                vec![part!("attention_scores_backward")],
                vec![uniform("params"), read("y"), read("values"), read("d_output"), read_write("d_scores")],
                OF_HEADS,
                vec![u("FEATURES"), u("HEADS"), u("WORKGROUP")],
            ),
            Self::RearrangeBackward => (
                "rearrange_backward",
                vec![part!("rearrange_backward")],
                vec![uniform("params"), read("d_output"), read_write("d_x")],
                &["rows", "batch", "offset", "stride", "first", "end"],
                vec![u("FEATURES"), u("OUT_FEATURES"), u("COLUMN"), u("REFLECTED"), u("WORKGROUP")],
            ),
            Self::MaxBackward => (
                "max_backward",
                vec![PARAMS, part!("max_backward")],
                vec![uniform("params"), read("x"), read("highest"), read_write("d_output"), read_write("d_x")],
                &[],
                workgroup(),
            ),
            Self::LayerNormBackward => (
                "layer_norm_backward",
                vec![PARAMS, part!("layer_norm_backward")],
                vec![
                    uniform("params"),
                    read("x"),
                    read("weight"),
                    read("d_output"),
                    read_write("normal"),
                    read_write("d_x"),
                ],
                &[],
                vec![u("FEATURES"), f("EPS"), u("AFFINE"), u("ADD"), u("WORKGROUP")],
            ),
            Self::PoolBackward => (
                "pool_backward",
                vec![part!("pool_backward")],
                vec![uniform("params"), read("x"), read("mask"), read("d_output"), read_write("d_x")],
                &["batch", "steps", "first", "end"],
                vec![
                    u("FEATURES"),
                    u("KERNEL"),
                    u("STRIDE"),
                    u("LEFT"),
                    u("RIGHT"),
                    u("HOW"),
                    u("COUNT_PAD"),
                    u("MASKED"),
                    u("WORKGROUP"),
                ],
            ),
            Self::ConvWindows => (
                "conv_windows",
                vec![PARAMS, part!("conv_windows")],
                vec![uniform("params"), read("x"), read_write("output")],
                &[],
                CONVOLUTION.to_vec(),
            ),
            Self::ConvGather => (
                "conv_gather",
                vec![part!("conv_gather")],
                vec![uniform("params"), read("d_seen"), read_write("d_x")],
                &["input_row", "rows", "batch", "first", "end"],
                CONVOLUTION.to_vec(),
            ),
            Self::Filters => (
                "filters",
                vec![PARAMS, part!("filters")],
                vec![uniform("params"), read("matrix"), read_write("output")],
                &[],
                vec![u("OUT_FEATURES"), u("CHANNELS"), u("TAPS"), u("GROUPS"), u("WORKGROUP")],
            ),
            Self::InitialState => (
                "initial_state",
                vec![part!("initial_state")],
                vec![uniform("params"), read("parameters"), read_write("output")],
                &["first", "output_first", "width", "count"],
                workgroup(),
            ),
            Self::BatchNormSums => (
                "batch_norm_sums",
                vec![part!("batch_norm_sums")],
                vec![uniform("params"), read("x"), read("mask"), read("moments"), read_write("output")],
                &["rows", "slice"],
                vec![u("FEATURES"), u("SQUARES"), u("MASKED"), u("WORKGROUP")],
            ),
            Self::BatchNormMoments => (
                "batch_norm_moments",
                vec![part!("batch_norm_moments")],
                vec![uniform("params"), read("sums"), read_write("moments")],
                &["slices", "variance_first"],
                vec![u("FEATURES"), u("SQUARES"), u("WORKGROUP")],
            ),
            Self::BatchNormChannels => (
                "batch_norm_channels",
                vec![PARAMS, part!("batch_norm_channels")],
                vec![uniform("params"), read("moments"), read("weight"), read("bias"), read_write("channels")],
                &[],
                vec![u("FEATURES"), u("VARIANCE_FIRST"), f("EPS"), u("AFFINE"), u("BIASED"), u("WORKGROUP")],
            ),
            Self::BatchNormBackward => (
                "batch_norm_backward",
                vec![PARAMS, part!("batch_norm_backward")],
                vec![
                    uniform("params"),
                    read("normal"),
                    read("d_output"),
                    read("channels"),
                    read("sums"),
                    read("moments"),
                    read("mask"),
                    read_write("d_x"),
                ],
                &[],
                vec![u("FEATURES"), u("VARIANCE_FIRST"), u("TRAINED"), u("MASKED"), u("ADD"), u("WORKGROUP")],
            ),
            Self::RunningStatistics => (
                "running_statistics",
                vec![PARAMS, part!("running_statistics")],
                vec![uniform("params"), read("moments"), read("norms"), read_write("stored")],
                &[],
                vec![u("FEATURES"), u("VARIANCE_FIRST"), f("MOMENTUM"), u("UNBIASED"), u("WORKGROUP")],
            ),
            Self::MaxNorm => (
                "max_norm",
                vec![PARAMS, part!("max_norm")],
                vec![uniform("params"), read("norms"), read_write("x")],
                &[],
                vec![u("FEATURES"), f("CLIP_MAX"), u("WORKGROUP")],
            ),
            Self::Average => (
                "average",
                vec![part!("average")],
                vec![uniform("params"), read("norms"), read("parameters"), read_write("output")],
                &["count", "start", "share"],
                workgroup(),
            ),
            Self::NormalizeRows => (
                "normalize_rows",
                vec![PARAMS, part!("normalize_rows")],
                vec![uniform("params"), read_write("x"), read_write("scales")],
                &[],
                vec![u("FEATURES"), f("EPS"), u("WORKGROUP")],
            ),
            Self::NormalizedStates => (
                "normalized_states",
                vec![NORM_OPTIONS, NORMALIZED_SUMS, part!("normalized_states")],
                vec![
                    uniform("params"),
                    read("normal"),
                    read("vectors"),
                    read("initial"),
                    read("mask"),
                    read_write("c"),
                ],
                &["batch", "steps", "first", "end", "origin"],
                [NORMALIZED, GATE, CANDIDATE].concat(),
            ),
            Self::LayerNormLstmBackward => {
                let cell = include_str!("../../../shaders/cells/layer_norm_lstm_backward.wgsl");
                normalized_backward(cell, OUTPUT)
            }
            Self::LayerNormGruBackward => {
                normalized_backward(include_str!("../../../shaders/cells/layer_norm_gru_backward.wgsl"), &[])
            }
            // Has a row in training.rs.
            _ => ("", Vec::new(), Vec::new(), &[], Vec::new()),
        }
    }
}

fn normalized_backward(cell: &'static str, more: &[Constant]) -> KernelRow {
    let bindings = vec![
        uniform("params"),
        read("normal"),
        read("scales"),
        read("vectors"),
        read("kept"),
        read("d_state"),
        read("mask"),
        read_write("carry"),
        read_write("gradients"),
    ];
    let constants = [NORMALIZED, &[u("SCALES"), u("CELLS"), u("STARTED")], GATE, CANDIDATE, more].concat();
    let sources = vec![PARAMS, NORM_OPTIONS, NORMALIZED_SUMS, cell, NORMALIZED_BACKWARD];
    ("normalized_backward", sources, bindings, &[], constants)
}

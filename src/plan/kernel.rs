//! The table of kernels: sources, bindings, constants. The GPU side builds its pipelines from
//! it, and a test reflects the WGSL and compares.

use super::constants::LAST_OF_FEW;

/// A WGSL kernel under `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kernel {
    /// Row gather.
    Embedding,
    /// Tiled matrix product with bias and activation.
    Linear,
    /// The same over windows of time.
    Conv1d,
    /// One timestep of an LSTM.
    LstmStep,
    /// One timestep of the projection behind it.
    ProjectStep,
    /// One timestep of a GRU that resets the product.
    GruStep,
    /// First half of a timestep of a GRU that resets the state.
    GruGates,
    /// Its second half.
    GruCandidate,
    /// One timestep of a plain RNN.
    RnnStep,
    /// Softmax over rows.
    Softmax,
    /// Normalization over rows.
    LayerNorm,
    /// Scale, offset and activation by channel.
    Channelwise,
    /// Columns of one matrix joined with those of another.
    Combine,
    /// Pooling over time.
    Pool,
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Uniform buffer with a dynamic offset.
    Uniform,
    /// Storage buffer, read only.
    Read,
    /// Storage buffer, read and written.
    ReadWrite,
}

/// One binding of a kernel; its number is its position in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The variable's name in WGSL.
    pub name: &'static str,
    /// How it is used.
    pub access: Access,
}

/// An override constant of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The constant's name in WGSL.
    pub name: &'static str,
    /// Whether it is an `f32`, given by its bits, instead of a `u32`.
    pub float: bool,
}

impl Constant {
    /// The number behind a value of a [`Dispatch`](super::Dispatch).
    #[must_use]
    pub fn value(self, bits: u32) -> f64 {
        if self.float { f32::from_bits(bits).into() } else { bits.into() }
    }
}

/// Everything the host must know about a kernel.
#[derive(Debug)]
pub struct KernelSpec {
    /// Stem of the file under `shaders/`.
    pub name: &'static str,
    /// Entry point; the name but for kernels that share one.
    pub entry_point: &'static str,
    /// WGSL parts, joined in this order behind those for activations.
    pub sources: &'static [&'static str],
    /// Bindings of group 0.
    pub bindings: &'static [Binding],
    /// Override constants; the plan gives a value to each.
    pub constants: &'static [Constant],
}

/// Side of the output tile of [`Kernel::Linear`].
pub const LINEAR_TILE: u32 = 32;
/// Slice of K that [`Kernel::Linear`] keeps in workgroup memory.
pub const LINEAR_DEPTH: u32 = 16;
/// Invocations of one workgroup of the row-wise kernels.
pub const ROW_WORKGROUP: u32 = 64;

const PARAMS: &str = include_str!("../../shaders/common/params.wgsl");
const ACTIVATIONS: &str = include_str!("../../shaders/common/activations.wgsl");
const ACTIVATE_FEW: &str = include_str!("../../shaders/common/activate_few.wgsl");
const ACTIVATE_ANY: &str = include_str!("../../shaders/common/activate_any.wgsl");
/// Constants that hold the number of an activation.
const FUNCTIONS: [&str; 4] = ["ACTIVATION", "GATE", "CANDIDATE", "OUTPUT"];
const STEP_SUM: &str = include_str!("../../shaders/common/step_sum.wgsl");
const STEP_OUTPUT: &str = include_str!("../../shaders/common/step_output.wgsl");
const ROWS: &str = include_str!("../../shaders/common/rows.wgsl");
const TILE: &str = include_str!("../../shaders/linear.wgsl");

const fn uniform(name: &'static str) -> Binding {
    Binding { name, access: Access::Uniform }
}

const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read }
}

const fn read_write(name: &'static str) -> Binding {
    Binding { name, access: Access::ReadWrite }
}

const fn u(name: &'static str) -> Constant {
    Constant { name, float: false }
}

const fn f(name: &'static str) -> Constant {
    Constant { name, float: true }
}

const LINEAR_BINDINGS: &[Binding] = &[uniform("params"), read("x"), read("w"), read("bias"), read_write("output")];

static EMBEDDING: KernelSpec = KernelSpec {
    name: "embedding",
    entry_point: "embedding",
    sources: &[PARAMS, include_str!("../../shaders/embedding.wgsl")],
    bindings: &[uniform("params"), read("tokens"), read("table"), read_write("output")],
    constants: &[u("NUM_EMBEDDINGS"), u("EMBEDDING_DIM"), u("WORKGROUP")],
};

static LINEAR: KernelSpec = KernelSpec {
    name: "linear",
    entry_point: "linear",
    sources: &[PARAMS, ROWS, TILE],
    bindings: LINEAR_BINDINGS,
    constants: &[u("IN_FEATURES"), u("OUT_FEATURES"), u("ACTIVATION"), f("ALPHA"), f("BETA")],
};

static CONV1D: KernelSpec = KernelSpec {
    name: "conv1d",
    entry_point: "linear",
    sources: &[PARAMS, include_str!("../../shaders/conv1d.wgsl"), TILE],
    bindings: LINEAR_BINDINGS,
    constants: &[
        u("IN_FEATURES"),
        u("OUT_FEATURES"),
        u("ACTIVATION"),
        f("ALPHA"),
        f("BETA"),
        u("CHANNELS"),
        u("STRIDE"),
        u("DILATION"),
        u("LEFT"),
    ],
};

static LSTM_STEP: KernelSpec = KernelSpec {
    name: "lstm_step",
    entry_point: "lstm_step",
    sources: &[PARAMS, STEP_SUM, STEP_OUTPUT, include_str!("../../shaders/lstm_step.wgsl")],
    bindings: &[
        uniform("params"),
        read("projected"),
        read("recurrent"),
        read("h_in"),
        read_write("h_out"),
        read_write("cell"),
        read_write("output"),
        read("mask"),
        read("peephole"),
    ],
    constants: &[
        u("WIDTH"),
        u("DEPTH"),
        u("UNITS"),
        u("SPLIT"),
        u("OUTPUT_STRIDE"),
        u("OUTPUT_OFFSET"),
        u("MASKED"),
        u("SEEN"),
        u("PROJECTED"),
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
    ],
};

static PROJECT_STEP: KernelSpec = KernelSpec {
    name: "project_step",
    entry_point: "project_step",
    sources: &[PARAMS, STEP_SUM, STEP_OUTPUT, include_str!("../../shaders/project_step.wgsl")],
    bindings: &[
        uniform("params"),
        read("raw"),
        read("projection"),
        read("h_in"),
        read_write("h_out"),
        read_write("output"),
        read("mask"),
    ],
    constants: &[
        u("WIDTH"),
        u("DEPTH"),
        u("UNITS"),
        u("SPLIT"),
        u("OUTPUT_STRIDE"),
        u("OUTPUT_OFFSET"),
        u("MASKED"),
        u("SEEN"),
    ],
};

static GRU_STEP: KernelSpec = KernelSpec {
    name: "gru_step",
    entry_point: "gru_step",
    sources: &[PARAMS, STEP_SUM, STEP_OUTPUT, include_str!("../../shaders/gru_step.wgsl")],
    bindings: &[
        uniform("params"),
        read("projected"),
        read("recurrent"),
        read("h_in"),
        read_write("h_out"),
        read_write("output"),
        read("mask"),
        read("new_bias"),
    ],
    constants: &[
        u("WIDTH"),
        u("DEPTH"),
        u("UNITS"),
        u("SPLIT"),
        u("OUTPUT_STRIDE"),
        u("OUTPUT_OFFSET"),
        u("MASKED"),
        u("SEEN"),
        f("CLIP_GATES"),
        u("GATE"),
        f("GATE_ALPHA"),
        f("GATE_BETA"),
        u("CANDIDATE"),
        f("CANDIDATE_ALPHA"),
        f("CANDIDATE_BETA"),
    ],
};

static GRU_GATES: KernelSpec = KernelSpec {
    name: "gru_gates",
    entry_point: "gru_gates",
    sources: &[PARAMS, STEP_SUM, include_str!("../../shaders/gru_gates.wgsl")],
    bindings: &[
        uniform("params"),
        read("projected"),
        read("recurrent"),
        read("h_in"),
        read_write("reset"),
        read_write("update"),
    ],
    constants: &[
        u("WIDTH"),
        u("DEPTH"),
        u("UNITS"),
        u("SPLIT"),
        f("CLIP_GATES"),
        u("GATE"),
        f("GATE_ALPHA"),
        f("GATE_BETA"),
    ],
};

static GRU_CANDIDATE: KernelSpec = KernelSpec {
    name: "gru_candidate",
    entry_point: "gru_candidate",
    sources: &[PARAMS, STEP_SUM, STEP_OUTPUT, include_str!("../../shaders/gru_candidate.wgsl")],
    bindings: &[
        uniform("params"),
        read("projected"),
        read("recurrent"),
        read("h_in"),
        read_write("h_out"),
        read_write("output"),
        read("mask"),
        read("reset"),
        read("update"),
    ],
    constants: &[
        u("WIDTH"),
        u("DEPTH"),
        u("UNITS"),
        u("SPLIT"),
        u("OUTPUT_STRIDE"),
        u("OUTPUT_OFFSET"),
        u("MASKED"),
        u("SEEN"),
        f("CLIP_GATES"),
        u("CANDIDATE"),
        f("CANDIDATE_ALPHA"),
        f("CANDIDATE_BETA"),
    ],
};

static RNN_STEP: KernelSpec = KernelSpec {
    name: "rnn_step",
    entry_point: "rnn_step",
    sources: &[PARAMS, STEP_SUM, STEP_OUTPUT, include_str!("../../shaders/rnn_step.wgsl")],
    bindings: &[
        uniform("params"),
        read("projected"),
        read("recurrent"),
        read("h_in"),
        read_write("h_out"),
        read_write("output"),
        read("mask"),
    ],
    constants: &[
        u("WIDTH"),
        u("DEPTH"),
        u("UNITS"),
        u("SPLIT"),
        u("OUTPUT_STRIDE"),
        u("OUTPUT_OFFSET"),
        u("MASKED"),
        u("SEEN"),
        f("CLIP_GATES"),
        u("GATE"),
        f("GATE_ALPHA"),
        f("GATE_BETA"),
    ],
};

static SOFTMAX: KernelSpec = KernelSpec {
    name: "softmax",
    entry_point: "softmax",
    sources: &[PARAMS, include_str!("../../shaders/softmax.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[u("FEATURES"), u("WORKGROUP")],
};

static LAYER_NORM: KernelSpec = KernelSpec {
    name: "layer_norm",
    entry_point: "layer_norm",
    sources: &[PARAMS, include_str!("../../shaders/layer_norm.wgsl")],
    bindings: &[uniform("params"), read("x"), read("weight"), read("bias"), read_write("output")],
    constants: &[u("FEATURES"), f("EPS"), u("WORKGROUP")],
};

static CHANNELWISE: KernelSpec = KernelSpec {
    name: "channelwise",
    entry_point: "channelwise",
    sources: &[PARAMS, include_str!("../../shaders/channelwise.wgsl")],
    bindings: &[uniform("params"), read("x"), read("channels"), read_write("output")],
    constants: &[u("FEATURES"), u("ACTIVATION"), f("ALPHA"), f("BETA"), u("WORKGROUP")],
};

static COMBINE: KernelSpec = KernelSpec {
    name: "combine",
    entry_point: "combine",
    sources: &[PARAMS, include_str!("../../shaders/combine.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &[
        u("COLUMNS"),
        u("IN_STRIDE"),
        u("IN_OFFSET"),
        u("OUT_STRIDE"),
        u("OUT_OFFSET"),
        u("HOW"),
        f("SCALE"),
        u("WORKGROUP"),
    ],
};

static POOL: KernelSpec = KernelSpec {
    name: "pool",
    entry_point: "pool",
    sources: &[PARAMS, include_str!("../../shaders/pool.wgsl")],
    bindings: &[uniform("params"), read("x"), read("mask"), read_write("output")],
    constants: &[
        u("FEATURES"),
        u("KERNEL"),
        u("STRIDE"),
        u("LEFT"),
        u("RIGHT"),
        u("AVERAGE"),
        u("COUNT_PAD"),
        u("MASKED"),
        u("WORKGROUP"),
    ],
};

impl Kernel {
    /// All kernels.
    pub const ALL: [Self; 14] = [
        Self::Embedding,
        Self::Linear,
        Self::Conv1d,
        Self::LstmStep,
        Self::ProjectStep,
        Self::GruStep,
        Self::GruGates,
        Self::GruCandidate,
        Self::RnnStep,
        Self::Softmax,
        Self::LayerNorm,
        Self::Channelwise,
        Self::Combine,
        Self::Pool,
    ];

    /// Its row of the table.
    #[must_use]
    pub fn spec(self) -> &'static KernelSpec {
        match self {
            Self::Embedding => &EMBEDDING,
            Self::Linear => &LINEAR,
            Self::Conv1d => &CONV1D,
            Self::LstmStep => &LSTM_STEP,
            Self::ProjectStep => &PROJECT_STEP,
            Self::GruStep => &GRU_STEP,
            Self::GruGates => &GRU_GATES,
            Self::GruCandidate => &GRU_CANDIDATE,
            Self::RnnStep => &RNN_STEP,
            Self::Softmax => &SOFTMAX,
            Self::LayerNorm => &LAYER_NORM,
            Self::Channelwise => &CHANNELWISE,
            Self::Combine => &COMBINE,
            Self::Pool => &POOL,
        }
    }

    /// Whether it does a step of a recurrence.
    #[must_use]
    pub fn is_step(self) -> bool {
        self.spec().constants.iter().any(|constant| constant.name == "SPLIT")
    }

    /// The whole WGSL source, with as few functions as `constants` (a value for each) ask for.
    #[must_use]
    pub fn source(self, constants: &[u32]) -> String {
        let spec = self.spec();
        let functions = spec.constants.iter().zip(constants).filter(|(constant, _)| FUNCTIONS.contains(&constant.name));
        let parts = match functions.map(|(_, &number)| number).max() {
            None => Vec::new(),
            Some(highest) if highest <= LAST_OF_FEW => vec![ACTIVATIONS, ACTIVATE_FEW],
            Some(_) => vec![ACTIVATIONS, ACTIVATE_ANY],
        };
        parts.iter().chain(spec.sources).copied().collect()
    }
}

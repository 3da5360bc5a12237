//! The table of kernels: sources, bindings, constants. The GPU side builds its pipelines from
//! it, and a test reflects the WGSL and compares.

/// A WGSL kernel under `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kernel {
    /// Row gather.
    Embedding,
    /// Tiled matrix product with bias and activation.
    Linear,
    /// One timestep of an LSTM.
    LstmStep,
    /// Softmax over rows.
    Softmax,
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

/// Everything the host must know about a kernel.
#[derive(Debug)]
pub struct KernelSpec {
    /// Entry point, and stem of the file under `shaders/`.
    pub name: &'static str,
    /// WGSL parts, joined in this order.
    pub sources: &'static [&'static str],
    /// Bindings of group 0.
    pub bindings: &'static [Binding],
    /// Override constants; the plan gives a value to each.
    pub constants: &'static [&'static str],
}

/// Side of the output tile of [`Kernel::Linear`].
pub const LINEAR_TILE: u32 = 32;
/// Slice of K that [`Kernel::Linear`] keeps in workgroup memory.
pub const LINEAR_DEPTH: u32 = 16;
/// Invocations of one workgroup of the row-wise kernels.
pub const ROW_WORKGROUP: u32 = 64;

const PARAMS: &str = include_str!("../../shaders/common/params.wgsl");
const ACTIVATIONS: &str = include_str!("../../shaders/common/activations.wgsl");

const fn uniform(name: &'static str) -> Binding {
    Binding { name, access: Access::Uniform }
}

const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read }
}

const fn read_write(name: &'static str) -> Binding {
    Binding { name, access: Access::ReadWrite }
}

static EMBEDDING: KernelSpec = KernelSpec {
    name: "embedding",
    sources: &[PARAMS, include_str!("../../shaders/embedding.wgsl")],
    bindings: &[uniform("params"), read("tokens"), read("table"), read_write("output")],
    constants: &["NUM_EMBEDDINGS", "EMBEDDING_DIM", "WORKGROUP"],
};

static LINEAR: KernelSpec = KernelSpec {
    name: "linear",
    sources: &[PARAMS, ACTIVATIONS, include_str!("../../shaders/linear.wgsl")],
    bindings: &[uniform("params"), read("x"), read("w"), read("bias"), read_write("output")],
    constants: &["IN_FEATURES", "OUT_FEATURES", "ACTIVATION"],
};

static LSTM_STEP: KernelSpec = KernelSpec {
    name: "lstm_step",
    sources: &[PARAMS, ACTIVATIONS, include_str!("../../shaders/lstm_step.wgsl")],
    bindings: &[
        uniform("params"),
        read("projected"),
        read("recurrent"),
        read("h_in"),
        read_write("h_out"),
        read_write("cell"),
        read_write("output"),
    ],
    constants: &["HIDDEN_SIZE", "OUTPUT_STRIDE", "OUTPUT_OFFSET", "UNITS", "SPLIT"],
};

static SOFTMAX: KernelSpec = KernelSpec {
    name: "softmax",
    sources: &[PARAMS, include_str!("../../shaders/softmax.wgsl")],
    bindings: &[uniform("params"), read("x"), read_write("output")],
    constants: &["FEATURES", "WORKGROUP"],
};

impl Kernel {
    /// All kernels.
    pub const ALL: [Self; 4] = [Self::Embedding, Self::Linear, Self::LstmStep, Self::Softmax];

    /// Its row of the table.
    #[must_use]
    pub fn spec(self) -> &'static KernelSpec {
        match self {
            Self::Embedding => &EMBEDDING,
            Self::Linear => &LINEAR,
            Self::LstmStep => &LSTM_STEP,
            Self::Softmax => &SOFTMAX,
        }
    }

    /// The whole WGSL source.
    #[must_use]
    pub fn source(self) -> String {
        self.spec().sources.concat()
    }
}

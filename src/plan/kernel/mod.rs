//! The table of kernels: sources, bindings, constants. The GPU side builds its pipelines from
//! it, and a test reflects the WGSL and compares.

mod cells;
mod layers;
#[cfg(test)]
mod mirrored;
mod ntm;
mod recurrent;
mod sizes;
mod training;
mod training_layers;
mod training_losses;
mod training_recurrent;

use std::collections::BTreeSet;

pub use cells::Cells;
use recurrent::matrix_sources;
pub use recurrent::{Blocks, Held, RecurrentKernel, Rung};
use sizes::ROWS_COLUMNS;
pub(super) use sizes::{BLOCK_SIDE, BLOCK_WORKGROUP, DIRECT_ROWS, DIRECT_UNITS};
pub(super) use sizes::{HELD_WORDS, STEP_SLICE, TILE_SLICE};
pub use sizes::{LINEAR_DEPTH, LINEAR_TILE, MATRIX_BLOCKS, MATRIX_SLICE, MATRIX_STRIPS, ROW_WORKGROUP};
pub(super) use sizes::{ROWS_DEPTH, ROWS_TILE};
pub use training::TrainKernel;
pub use training_recurrent::{BackwardCell, BackwardKernel, BackwardRung};

use super::constants::{self, LAST_OF_FEW};
use super::{Arithmetic, ConstantValue, Constants, MatrixSide};
use crate::network::WeightFormat;

/// A WGSL kernel under `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kernel {
    /// Row gather.
    Embedding,
    /// Matrix product with bias and activation.
    Linear(ProductKernel),
    /// The same over windows of time.
    Conv1d(ProductKernel),
    /// Timesteps of a recurrence.
    Recurrent(RecurrentKernel),
    /// Softmax over rows.
    Softmax,
    /// Softmax over time.
    TimeSoftmax,
    /// The shares that queries give the timesteps of keys.
    AttentionShares,
    /// Sums of rows with such shares.
    AttentionSum,
    /// A cell with a memory.
    Ntm,
    /// Place of the largest number of rows.
    ArgMax,
    /// Numbers in another place.
    Rearrange,
    /// Normalization over rows.
    LayerNorm,
    /// Scale, offset and activation by channel.
    Channelwise,
    /// Columns of one matrix joined with those of another.
    Combine,
    /// Past inputs of a window over time.
    Past,
    /// Rows between the steps of a loop.
    Carry,
    /// Pooling over time.
    Pool,
    /// States to and from the slots of a pool of streams.
    Slots,
    /// The next token of every row.
    Choose,
    /// The most probable tokens of every row.
    Candidates,
    /// What only training needs.
    Train(TrainKernel),
}

/// How a matrix product is cut up, and its weights stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductKernel {
    /// How the weights are stored.
    pub format: WeightFormat,
    /// How the output is cut up.
    pub tiling: Tiling,
}

/// Which part of a product's output a workgroup makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tiling {
    /// 32 rows and columns, 4 of each in an invocation.
    Square,
    /// 16 rows of 256 columns, all rows of 4 columns in an invocation.
    Rows,
    /// Blocks and strips of the side of matrix units, a strip in a subgroup.
    Matrix(MatrixSide),
}

impl Tiling {
    /// Rows and columns of a workgroup.
    #[must_use]
    pub fn size(self) -> [usize; 2] {
        match self {
            Self::Square => [LINEAR_TILE as usize; 2],
            Self::Rows => [ROWS_TILE as usize, ROWS_COLUMNS as usize],
            Self::Matrix(side) => [MATRIX_BLOCKS, MATRIX_STRIPS].map(|n| (n * side.length()) as usize),
        }
    }

    /// Loop iterations of an invocation over K `inputs`, as the shaders are written, with `subgroup` invocations of
    /// the largest subgroup.
    #[must_use]
    pub fn iterations(self, inputs: u64, subgroup: u32) -> u64 {
        match self {
            // Per slice 2 loads of 4 lanes and the depth, and 16 results at the end.
            Self::Square => inputs.div_ceil(LINEAR_DEPTH.into()) * (1 + 2 * (1 + 4) + u64::from(LINEAR_DEPTH)) + 16,
            // Per slice of 64 4 loads of 4 lanes; then K, and 64 results.
            Self::Rows => inputs.div_ceil(ROWS_DEPTH.into()) * (1 + 4 * (1 + 4)) + inputs + 64,
            // Per slice both factors and the strip; then the results of each block.
            Self::Matrix(side) => {
                let [rows, columns] = self.size().map(|n| n as u64);
                let [side, slice] = [side.length(), MATRIX_SLICE].map(u64::from);
                let turns = |numbers: u64| numbers.div_ceil(u64::from(MATRIX_STRIPS * subgroup));
                inputs.div_ceil(slice) * (1 + turns(rows * slice) + turns(slice * columns) + slice / side)
                    + u64::from(MATRIX_BLOCKS) * (1 + turns(side * columns))
            }
        }
    }
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Uniform buffer.
    Uniform,
    /// Storage buffer, read only.
    Read,
    /// Storage buffer, read and written.
    ReadWrite,
}

/// One binding of a kernel in group 0; its number is its position in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// The variable's name in WGSL.
    pub name: &'static str,
    /// How it is used.
    pub access: Access,
}

/// An override constant of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Constant {
    /// The constant's name in WGSL.
    pub name: &'static str,
    /// Whether it is an `f32` instead of a `u32`.
    pub float: bool,
}

/// Everything the host needs in order to run a kernel.
#[derive(Debug)]
#[non_exhaustive]
pub struct KernelSpec {
    /// What it is called in plans.
    pub name: String,
    /// Entry point.
    pub entry_point: &'static str,
    /// WGSL parts, joined in this order after those for activations.
    pub sources: Vec<&'static str>,
    /// Bindings of group 0.
    pub bindings: Vec<Binding>,
    /// Fields of its uniform, all `u32`; none where that is `Params`.
    pub sizes: &'static [&'static str],
    /// Override constants; the plan gives a value to each.
    pub constants: Vec<Constant>,
}

impl KernelSpec {
    /// What is wrong with `values`: a constant without a value, an unknown or doubled name, a value of another type.
    #[must_use]
    pub fn mismatch(&self, values: &Constants) -> Option<String> {
        let mut seen = BTreeSet::new();
        for (name, value) in values.iter() {
            let Some(declared) = self.constants.iter().find(|constant| constant.name == name) else {
                return Some(format!("{}: no constant {name}", self.name));
            };
            if declared.float != matches!(value, ConstantValue::F32(_)) {
                let expected = if declared.float { "an f32" } else { "a u32" };
                return Some(format!("{}: expected {expected} for {name}, got {value:?}", self.name));
            }
            if !seen.insert(name) {
                return Some(format!("{}: two values for {name}", self.name));
            }
        }
        let missing = self.constants.iter().find(|constant| !seen.contains(constant.name))?;
        Some(format!("{}: no value for {}", self.name, missing.name))
    }
}

/// How a kernel learns which repetition of its dispatch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repetition {
    /// Four bytes of immediates.
    Immediate,
    /// A uniform with a dynamic offset in group 1, where there are no immediates.
    Uniform,
}

const ACTIVATIONS: &str = include_str!("../../../shaders/common/activations.wgsl");
const ACTIVATE_FEW: &str = include_str!("../../../shaders/common/activate_few.wgsl");
const ACTIVATE_ANY: &str = include_str!("../../../shaders/common/activate_any.wgsl");
const DERIVATIVES_FEW: &str = include_str!("../../../shaders/common/derivatives_few.wgsl");
const DERIVATIVES_ANY: &str = include_str!("../../../shaders/common/derivatives_any.wgsl");
const IMMEDIATE: &str = include_str!("../../../shaders/common/repetition_immediate.wgsl");
const UNIFORM: &str = include_str!("../../../shaders/common/repetition_uniform.wgsl");
/// Constants that hold the number of an activation.
const FUNCTIONS: [&str; 4] =
    [constants::ACTIVATION[0], constants::GATE[0], constants::CANDIDATE[0], constants::OUTPUT[0]];

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

impl Kernel {
    /// All kernels.
    pub fn all() -> impl Iterator<Item = Self> {
        let products = WeightFormat::ALL.into_iter().flat_map(|format| {
            let matrix = MatrixSide::ALL.map(Tiling::Matrix);
            [Tiling::Square, Tiling::Rows].into_iter().chain(matrix).flat_map(move |tiling| {
                let product = ProductKernel { format, tiling };
                [Self::Linear(product), Self::Conv1d(product)]
            })
        });
        let others = [
            Self::Embedding,
            Self::Softmax,
            Self::TimeSoftmax,
            Self::AttentionShares,
            Self::AttentionSum,
            Self::Ntm,
            Self::ArgMax,
            Self::Rearrange,
            Self::LayerNorm,
            Self::Channelwise,
            Self::Combine,
            Self::Past,
            Self::Carry,
            Self::Pool,
            Self::Slots,
            Self::Choose,
            Self::Candidates,
        ];
        let recurrent = RecurrentKernel::all().map(Self::Recurrent);
        others.into_iter().chain(products).chain(recurrent).chain(TrainKernel::all().map(Self::Train))
    }

    /// Its row of the table.
    #[must_use]
    pub fn spec(self) -> KernelSpec {
        match self {
            Self::Embedding => layers::EMBEDDING.spec("embedding"),
            Self::Linear(product) => layers::LINEAR.product(product),
            Self::Conv1d(product) => layers::CONV1D.product(product),
            Self::Recurrent(kernel) => kernel.spec(),
            Self::Softmax => layers::SOFTMAX.spec("softmax"),
            Self::ArgMax => layers::ARG_MAX.spec("arg_max"),
            Self::TimeSoftmax => layers::TIME_SOFTMAX.spec("time_softmax"),
            Self::AttentionShares => layers::attention_shares(),
            Self::AttentionSum => layers::attention_sum(),
            Self::Ntm => ntm::forward(),
            Self::Rearrange => KernelSpec { sizes: layers::REARRANGE_SIZES, ..layers::REARRANGE.spec("rearrange") },
            Self::LayerNorm => layers::LAYER_NORM.spec("layer_norm"),
            Self::Channelwise => layers::CHANNELWISE.spec("channelwise"),
            Self::Combine => layers::COMBINE.spec("combine"),
            Self::Past => layers::PAST.spec("past_inputs"),
            Self::Carry => layers::CARRY.spec("carry"),
            Self::Pool => layers::POOL.spec("pool"),
            Self::Slots => layers::SLOTS.spec("slots_move"),
            Self::Choose => layers::CHOOSE.spec("choose"),
            Self::Candidates => layers::CANDIDATES.spec("candidates"),
            Self::Train(kernel) => kernel.spec(),
        }
    }

    /// What it does of a recurrence, if it does.
    #[must_use]
    pub fn recurrent(self) -> Option<RecurrentKernel> {
        match self {
            Self::Recurrent(kernel) => Some(kernel),
            _ => None,
        }
    }

    /// Whether it runs several times in a row and learns which time it is.
    #[must_use]
    pub fn repeats(self) -> bool {
        match self {
            Self::Recurrent(_) => true,
            Self::Train(kernel) => kernel.repeats(),
            _ => false,
        }
    }

    /// In which numbers it takes products.
    #[must_use]
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Self::Recurrent(kernel) => kernel.arithmetic,
            Self::Linear(ProductKernel { tiling: Tiling::Matrix(_), .. })
            | Self::Conv1d(ProductKernel { tiling: Tiling::Matrix(_), .. }) => Arithmetic::Matrix,
            _ => Arithmetic::F32,
        }
    }

    /// The whole WGSL source, with as few functions as `constants` (a value for each) ask for.
    #[must_use]
    pub fn source(self, constants: &Constants, repetition: Repetition) -> String {
        let spec = self.spec();
        let functions = FUNCTIONS.iter().filter_map(|name| constants.get(name));
        let highest = functions.map(ConstantValue::bits).max();
        let few = highest.is_some_and(|highest| highest <= LAST_OF_FEW);
        let mut parts = match highest {
            None => Vec::new(),
            Some(_) if few => vec![ACTIVATIONS, ACTIVATE_FEW],
            Some(_) => vec![ACTIVATIONS, ACTIVATE_ANY],
        };
        if matches!(self, Self::Train(kernel) if kernel.derives()) {
            parts.push(if few { DERIVATIVES_FEW } else { DERIVATIVES_ANY });
        }
        if self.recurrent().is_some() || self.arithmetic() != Arithmetic::F32 {
            // It may enable a feature of the language, which must be said before all else.
            parts.insert(0, self.arithmetic().source());
        }
        if self.repeats() {
            parts.push(match repetition {
                Repetition::Immediate => IMMEDIATE,
                Repetition::Uniform => UNIFORM,
            });
        }
        parts.extend(spec.sources);
        parts.concat()
    }
}

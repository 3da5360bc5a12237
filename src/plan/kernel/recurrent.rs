//! Kernels of recurrences: a cell, a rung of the ladder, a format of the weights.

use super::cells::Cells;
use super::training::{OF_STATE_DROPOUT, RANDOM, SEED, STATE_DROPOUT};
use super::{Binding, Constant, DIRECT_ROWS, KernelSpec, read, read_write, u, uniform};
use crate::network::WeightFormat;
use crate::plan::{Arithmetic, MatrixSide};

/// A kernel that runs timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecurrentKernel {
    /// What a step computes.
    pub cell: Cells,
    /// How steps are run.
    pub rung: Rung,
    /// How the weights are stored.
    pub format: WeightFormat,
    /// How products are taken.
    pub arithmetic: Arithmetic,
    /// Where the weights stay between steps.
    pub held: Held,
    /// Whether an LSTM leaves the sums of its gates in the place of the projected inputs, for a backward pass.
    pub keeps_sums: bool,
}

/// Where the weights of a dispatch that runs many steps stay between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Held {
    /// In the buffer that they are read from at every step.
    Not,
    /// In registers.
    Registers,
    /// In the private memory of a software adapter's invocations, the products unrolled, h handed on in subgroups of
    /// [`Blocks::QUADS`] invocations.
    Unrolled(Blocks),
}

/// Blocks of [`Blocks::QUADS`] quads of k that [`Held::Unrolled`] has room for; a file under `shaders/rungs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Blocks {
    /// K up to 32.
    One,
    /// K up to 64.
    Two,
    /// K up to 128.
    Four,
    /// K up to 256.
    Eight,
    /// K up to 512.
    Sixteen,
}

/// How steps are run; a file under `shaders/rungs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rung {
    /// A dispatch per step.
    Step,
    /// The same with dropout of h, for training.
    StepDropped,
    /// The same, four rows in an invocation.
    Tile,
    /// The same for software adapters, four units of eight rows in an invocation, which shares nothing with others.
    Direct,
    /// The same on matrix units.
    TileMatrix(MatrixSide),
    /// Many steps in one dispatch, a row in a workgroup.
    Sequence,
    /// The same, four rows in a workgroup.
    SequenceRows,
    /// All steps in one dispatch, across workgroups.
    Resident,
    /// The rest of a step of a layer-normalized cell after its sums, a row in a workgroup.
    Normalize,
    /// Many steps in one dispatch of a cell whose units do not depend on each other, a unit in an invocation.
    Scan,
    /// The same, the timesteps of a unit shared by several invocations.
    ScanShared,
}

const PARAMS: &str = include_str!("../../../shaders/common/params.wgsl");
const RECURRENT: &str = include_str!("../../../shaders/common/recurrent.wgsl");
const STATE: &str = include_str!("../../../shaders/common/state.wgsl");
const SPLIT: &str = include_str!("../../../shaders/common/split.wgsl");
const NORM_OPTIONS: &str = include_str!("../../../shaders/common/norm_options.wgsl");
const NORMS: &str = include_str!("../../../shaders/common/norms.wgsl");
const NORMALIZED: &str = include_str!("../../../shaders/common/normalized.wgsl");
const SEQUENCE_STATE: &str = include_str!("../../../shaders/rungs/sequence_state.wgsl");
const FINISH: &str = include_str!("../../../shaders/common/finish.wgsl");

impl Arithmetic {
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::F32 => include_str!("../../../shaders/common/arithmetic_f32.wgsl"),
            Self::F16 => include_str!("../../../shaders/common/arithmetic_f16.wgsl"),
            Self::Matrix => include_str!("../../../shaders/common/arithmetic_matrix.wgsl"),
        }
    }
}

/// What all kernels on matrix units share.
pub(super) fn matrix_sources(side: MatrixSide) -> [&'static str; 2] {
    let squares = match side {
        MatrixSide::Eight => include_str!("../../../shaders/common/matrix_8.wgsl"),
        MatrixSide::Sixteen => include_str!("../../../shaders/common/matrix_16.wgsl"),
    };
    [squares, include_str!("../../../shaders/common/matrix.wgsl")]
}

impl Blocks {
    /// Quads of k in a block.
    pub const QUADS: u64 = 8;
    const ALL: [Self; 5] = [Self::One, Self::Two, Self::Four, Self::Eight, Self::Sixteen];

    /// The fewest that hold `quads` quads of k.
    #[must_use]
    pub fn for_quads(quads: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|blocks| blocks.count() * Self::QUADS >= quads)
    }

    /// How many they are.
    #[must_use]
    pub fn count(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::One => include_str!("../../../shaders/rungs/blocks_1.wgsl"),
            Self::Two => include_str!("../../../shaders/rungs/blocks_2.wgsl"),
            Self::Four => include_str!("../../../shaders/rungs/blocks_4.wgsl"),
            Self::Eight => include_str!("../../../shaders/rungs/blocks_8.wgsl"),
            Self::Sixteen => include_str!("../../../shaders/rungs/blocks_16.wgsl"),
        }
    }
}

impl Held {
    /// All that a rung may have.
    fn all(rung: Rung, arithmetic: Arithmetic) -> impl Iterator<Item = Self> {
        let registers = rung.holds_weights().then_some(Self::Registers);
        let blocks: &[Blocks] =
            if rung == Rung::Sequence && arithmetic == Arithmetic::F32 { &Blocks::ALL } else { &[] };
        let unrolled = blocks.iter().map(|&blocks| Self::Unrolled(blocks));
        std::iter::once(Self::Not).chain(registers).chain(unrolled)
    }

    fn sources(self) -> Vec<&'static str> {
        match self {
            Self::Not => vec![include_str!("../../../shaders/rungs/streamed.wgsl")],
            Self::Registers => vec![include_str!("../../../shaders/rungs/held.wgsl")],
            Self::Unrolled(blocks) => vec![blocks.source(), include_str!("../../../shaders/rungs/unrolled.wgsl")],
        }
    }
}

impl Rung {
    /// Whether one dispatch runs many steps with the same weights.
    fn holds_weights(self) -> bool {
        self.is_long() && !self.scans()
    }

    /// Whether a workgroup takes one or four rows through many steps.
    fn is_sequence(self) -> bool {
        matches!(self, Self::Sequence | Self::SequenceRows)
    }

    /// Whether one dispatch runs many steps.
    #[must_use]
    pub fn is_long(self) -> bool {
        matches!(self, Self::Sequence | Self::SequenceRows | Self::Resident) || self.scans()
    }

    /// Whether it runs the units of a row apart from each other.
    #[must_use]
    pub fn scans(self) -> bool {
        matches!(self, Self::Scan | Self::ScanShared)
    }

    /// Rows that one workgroup takes, `split` being the size of its second dimension, or its number of blocks.
    #[must_use]
    pub fn rows(self, split: u32) -> u32 {
        match self {
            Self::Step | Self::StepDropped | Self::Sequence | Self::Normalize | Self::Scan | Self::ScanShared => 1,
            Self::Tile => 4 * split,
            Self::Direct => DIRECT_ROWS,
            Self::TileMatrix(side) => side.length() * split,
            Self::SequenceRows => 4,
            // All of them.
            Self::Resident => u32::MAX,
        }
    }

    /// The formats of weights that its kernels differ in.
    fn formats(self) -> &'static [WeightFormat] {
        match self {
            // It reads no weights, or those that are trained.
            Self::Normalize | Self::StepDropped | Self::Scan | Self::ScanShared => &[WeightFormat::F32],
            _ => &WeightFormat::ALL,
        }
    }

    /// In which numbers it can take products.
    fn arithmetics(self) -> &'static [Arithmetic] {
        match self {
            Self::TileMatrix(_) => &[Arithmetic::Matrix],
            Self::Normalize | Self::StepDropped | Self::Scan | Self::ScanShared => &[Arithmetic::F32],
            _ => &[Arithmetic::F32, Arithmetic::F16],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::StepDropped => "step with dropout",
            Self::Tile => "tile",
            Self::Direct => "direct",
            Self::TileMatrix(MatrixSide::Eight) => "tile matrix 8",
            Self::TileMatrix(MatrixSide::Sixteen) => "tile matrix 16",
            Self::Sequence => "sequence",
            Self::SequenceRows => "sequence x4",
            Self::Resident => "resident",
            Self::Normalize => "normalize",
            Self::Scan => "scan",
            Self::ScanShared => "scan shared",
        }
    }

    fn entry_point(self) -> &'static str {
        match self {
            Self::Step => "recurrent_step",
            Self::StepDropped => "recurrent_step_dropped",
            Self::Tile => "recurrent_tile",
            Self::Direct => "recurrent_direct",
            Self::TileMatrix(_) => "recurrent_tile_matrix",
            Self::Sequence => "recurrent_sequence",
            Self::SequenceRows => "recurrent_sequence_rows",
            Self::Resident => "recurrent_resident",
            Self::Normalize => "recurrent_normalize",
            Self::Scan => "recurrent_scan",
            Self::ScanShared => "recurrent_scan_shared",
        }
    }

    /// Its parts, for a cell that normalizes or for one that does not.
    fn sources(self, held: Held, normalizes: bool) -> Vec<&'static str> {
        let mut sources = match self {
            Self::Sequence if normalizes => {
                let rung = include_str!("../../../shaders/rungs/sequence_normalized.wgsl");
                vec![SPLIT, NORMALIZED, SEQUENCE_STATE, rung]
            }
            Self::Normalize => vec![SPLIT, NORMALIZED, include_str!("../../../shaders/rungs/normalize.wgsl")],
            Self::Step => vec![SPLIT, FINISH, include_str!("../../../shaders/rungs/step.wgsl")],
            Self::StepDropped => {
                let rung = include_str!("../../../shaders/rungs/step_dropped.wgsl");
                vec![SPLIT, FINISH, RANDOM, SEED, STATE_DROPOUT, rung]
            }
            Self::Tile => vec![FINISH, include_str!("../../../shaders/rungs/tile.wgsl")],
            Self::Direct => vec![FINISH, include_str!("../../../shaders/rungs/direct.wgsl")],
            Self::TileMatrix(side) => {
                let [squares, matrix] = matrix_sources(side);
                vec![FINISH, squares, matrix, include_str!("../../../shaders/rungs/tile_matrix.wgsl")]
            }
            Self::Sequence => vec![SPLIT, SEQUENCE_STATE, include_str!("../../../shaders/rungs/sequence.wgsl")],
            Self::SequenceRows => vec![SPLIT, include_str!("../../../shaders/rungs/sequence_rows.wgsl")],
            Self::Resident => vec![SPLIT, include_str!("../../../shaders/rungs/resident.wgsl")],
            Self::Scan => vec![include_str!("../../../shaders/rungs/scan.wgsl")],
            Self::ScanShared => vec![include_str!("../../../shaders/rungs/scan_shared.wgsl")],
        };
        if self.holds_weights() {
            sources.extend(held.sources());
        }
        if self == Self::Sequence && !matches!(held, Held::Unrolled(_)) {
            sources.push(include_str!("../../../shaders/rungs/turns.wgsl"));
        }
        sources
    }

    /// Constants after those that all have; the first is the second dimension of a workgroup.
    fn constants(self) -> &'static [Constant] {
        const QUADS: [Constant; 1] = [u("QUADS")];
        const MATRIX: [Constant; 3] = [u("BLOCKS"), u("STRIPS"), u("SUBGROUP")];
        const SPLIT: [Constant; 3] = [u("SPLIT"), u("ROWS"), u("SPINS")];
        match self {
            Self::Tile => &QUADS,
            Self::TileMatrix(_) => &MATRIX,
            Self::Resident => &SPLIT,
            Self::Direct | Self::Scan => &[],
            _ => &SPLIT[..1],
        }
    }
}

/// Constants of every recurrent kernel, in front of those of its rung and its cell.
const SHARED: [Constant; 18] = [
    u("WIDTH"),
    u("STATE"),
    u("DEPTH"),
    u("BELOW"),
    u("UNITS"),
    u("LANES"),
    u("STACKED"),
    u("REVERSE"),
    u("LAST"),
    u("WEIGHTS_FIRST"),
    u("WEIGHTS_NEXT"),
    u("WEIGHTS_LANE"),
    u("WEIGHTS_BELOW"),
    u("VECTOR"),
    u("VECTORS_LANE"),
    u("OUTPUT_STRIDE"),
    u("OUTPUT_FIRST"),
    u("MASKED"),
];

const BINDINGS: [Binding; 8] = [
    uniform("params"),
    read("projected"),
    read("weights"),
    read("vectors"),
    read_write("h"),
    read_write("output"),
    read("mask"),
    read_write("cell"),
];

impl RecurrentKernel {
    /// All that a plan may ask for.
    pub fn all() -> impl Iterator<Item = Self> {
        const RUNGS: [Rung; 12] = [
            Rung::Step,
            Rung::StepDropped,
            Rung::Tile,
            Rung::Direct,
            Rung::TileMatrix(MatrixSide::Eight),
            Rung::TileMatrix(MatrixSide::Sixteen),
            Rung::Sequence,
            Rung::SequenceRows,
            Rung::Resident,
            Rung::Normalize,
            Rung::Scan,
            Rung::ScanShared,
        ];
        Cells::ALL.into_iter().flat_map(|cell| {
            let rungs = RUNGS.into_iter().filter(move |&rung| cell.runs_on(rung));
            rungs.flat_map(move |rung| {
                rung.formats().iter().flat_map(move |&format| {
                    rung.arithmetics().iter().flat_map(move |&arithmetic| {
                        Held::all(rung, arithmetic).flat_map(move |held| {
                            let kept = cell.keeps_sums(format, arithmetic).iter();
                            kept.map(move |&keeps_sums| Self { cell, rung, format, arithmetic, held, keeps_sums })
                        })
                    })
                })
            })
        })
    }

    /// How the words of weights become numbers, and products with them.
    fn decoding(self) -> Vec<&'static str> {
        const WHOLE: &str = include_str!("../../../shaders/weights/whole.wgsl");
        const CHAINED: &str = include_str!("../../../shaders/weights/chained.wgsl");
        const GROUPED: &str = include_str!("../../../shaders/weights/grouped.wgsl");
        const BYTES: &str = include_str!("../../../shaders/weights/int8_bytes.wgsl");
        const INTEGERS: &str = include_str!("../../../shaders/weights/int8_integers.wgsl");
        // f16 has no room for what a byte is too much, and weights that are unrolled are 0 past their end.
        let as_bytes = self.arithmetic == Arithmetic::F32 && !matches!(self.held, Held::Unrolled(_));
        let decoded = match self.format {
            WeightFormat::Int8 if as_bytes => vec![BYTES],
            WeightFormat::Int8 => vec![INTEGERS, WHOLE],
            _ => vec![WHOLE],
        };
        let splits = matches!(self.rung, Rung::Step | Rung::Resident) || self.rung.is_sequence();
        let sum = if splits && self.arithmetic == Arithmetic::F32 { CHAINED } else { GROUPED };
        [decoded, vec![sum]].concat()
    }

    /// Where an LSTM has c between the timesteps of a dispatch, and the same of the cells that have none.
    fn place_of_c(self) -> Option<&'static str> {
        let many = matches!(self.rung, Rung::Sequence | Rung::Resident) && !self.cell.normalizes();
        match (self.cell, many) {
            (Cells::Lstm, true) => Some(include_str!("../../../shaders/rungs/c_private.wgsl")),
            (Cells::Lstm, false) => Some(include_str!("../../../shaders/rungs/c_stored.wgsl")),
            (_, true) => Some(include_str!("../../../shaders/rungs/c_none.wgsl")),
            (_, false) => None,
        }
    }

    pub(super) fn spec(self) -> KernelSpec {
        let format = match self.format {
            WeightFormat::F32 => include_str!("../../../shaders/weights/f32.wgsl"),
            WeightFormat::F16 => include_str!("../../../shaders/weights/f16.wgsl"),
            WeightFormat::Int8 => include_str!("../../../shaders/weights/int8.wgsl"),
        };
        let scans = self.cell.scans();
        let mut sources = vec![PARAMS, RECURRENT];
        if !scans {
            sources.push(format);
            sources.extend(self.decoding());
        }
        sources.extend(self.cell.gates_sources(self.keeps_sums));
        sources.push(self.cell.source());
        if self.format == WeightFormat::F16 {
            sources.push(match self.cell.gates() {
                4 => include_str!("../../../shaders/weights/halves_4.wgsl"),
                3 => include_str!("../../../shaders/weights/halves_3.wgsl"),
                2 => include_str!("../../../shaders/weights/halves_2.wgsl"),
                _ => include_str!("../../../shaders/weights/halves_1.wgsl"),
            });
        }
        if !scans && !matches!(self.cell, Cells::GruCandidate | Cells::Projection) {
            sources.push(STATE);
        }
        if let Rung::TileMatrix(_) = self.rung {
            sources.push(match self.cell.gates() {
                4 => include_str!("../../../shaders/common/columns_4.wgsl"),
                3 => include_str!("../../../shaders/common/columns_3.wgsl"),
                2 => include_str!("../../../shaders/common/columns_2.wgsl"),
                _ => include_str!("../../../shaders/common/columns_1.wgsl"),
            });
        }
        if self.rung == Rung::StepDropped {
            sources.push(match self.cell.gates() {
                4 => include_str!("../../../shaders/common/factors_4.wgsl"),
                3 => include_str!("../../../shaders/common/factors_3.wgsl"),
                2 => include_str!("../../../shaders/common/factors_2.wgsl"),
                _ => include_str!("../../../shaders/common/factors_1.wgsl"),
            });
        }
        if self.cell.normalizes() {
            sources.extend([NORM_OPTIONS, NORMS]);
        }
        sources.extend(self.rung.sources(self.held, self.cell.normalizes()));
        sources.extend(self.place_of_c());
        let mut bindings = BINDINGS.to_vec();
        if self.keeps_sums {
            bindings[1] = read_write("projected");
        }
        if self.rung == Rung::Resident {
            bindings.push(read_write("exchange"));
        }
        let partial = [u("PARTIAL")];
        let mut constants = [&SHARED[..], &partial, self.rung.constants(), self.cell.constants()].concat();
        if self.rung == Rung::StepDropped {
            bindings.push(read("settings"));
            constants.extend([OF_STATE_DROPOUT, &[u("SEED")]].concat());
        }
        let mut name = format!("{} {}", self.cell.name(), self.rung.name());
        if self.format != WeightFormat::F32 {
            name += &format!(" {}", self.format);
        }
        if self.arithmetic == Arithmetic::F16 {
            name += " in f16";
        }
        match self.held {
            Held::Not => {}
            Held::Registers => name += " held",
            Held::Unrolled(_) => name += " unrolled",
        }
        if self.keeps_sums {
            name += " for training";
        }
        KernelSpec { name, entry_point: self.rung.entry_point(), sources, bindings, sizes: &[], constants }
    }
}

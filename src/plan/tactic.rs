//! How one recurrence is run, with what each way of running it needs, and the size of its workgroups and loops.

use super::kernel::{BLOCK_WORKGROUP, DIRECT_ROWS, DIRECT_UNITS, HELD_WORDS, STEP_SLICE, TILE_SLICE};
use super::{Blocks, Constants, Held, MATRIX_SLICE, MATRIX_STRIPS, MatrixUnits, Rung};
use crate::base::error::Result;

/// How the steps of a recurrence are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tactic {
    /// A dispatch per step; `split` invocations share the sum of a unit.
    Step { units: u32, split: u32 },
    /// A dispatch per step; a workgroup takes `quads` quads of rows.
    Tile { units: u32, quads: u32 },
    /// The same on a software adapter, where an invocation takes [`DIRECT_UNITS`] of [`DIRECT_ROWS`] rows.
    Direct,
    /// A dispatch per step on matrix units; a workgroup takes `blocks` blocks of rows.
    TileMatrix { units: u32, blocks: u32, matrix: MatrixUnits },
    /// `steps` steps per dispatch; a workgroup takes one row, or four.
    Sequence { units: u32, split: u32, four_rows: bool, held: Held, steps: u32 },
    /// All steps in one dispatch across workgroups; an invocation that waits gives up after `spins` looks.
    Resident { units: u32, split: u32, held: Held, steps: u32, spins: u32 },
    /// `steps` steps per dispatch of units that do not depend on each other; `split` invocations share the steps of one.
    Scan { units: u32, split: u32, steps: u32 },
    /// What follows the sums of a step of a layer-normalized cell, a dispatch per step; a workgroup takes one row.
    Normalize { units: u32 },
}

/// The size of the kernel of a step, or of a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelSize {
    /// Units that it computes.
    pub width: usize,
    /// K of the sum over the state.
    pub depth: usize,
    /// K of the sum over the level below.
    pub below: usize,
    pub gates: u64,
    /// Whether its sums are normalized.
    pub normalizes: bool,
}

impl KernelSize {
    /// Loop iterations of an invocation that normalizes a row with `invocations` others.
    fn normalizing(&self, invocations: u64) -> u64 {
        let halvings = u64::from(invocations.next_power_of_two().ilog2());
        // Mean, variance, c, its variance, h; four sums over the workgroup.
        5 * (self.width as u64).div_ceil(invocations) + 4 * (1 + halvings)
    }
}

/// The workgroup of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workgroup {
    /// Units, its first dimension.
    pub units: u32,
    /// Its second dimension: invocations that share a sum, quads of rows, or blocks of rows.
    pub second: u32,
}

impl Tactic {
    pub fn rung(self) -> Rung {
        match self {
            Self::Step { .. } => Rung::Step,
            Self::Tile { .. } => Rung::Tile,
            Self::Direct => Rung::Direct,
            Self::TileMatrix { matrix, .. } => Rung::TileMatrix(matrix.side),
            Self::Sequence { four_rows: false, .. } => Rung::Sequence,
            Self::Sequence { four_rows: true, .. } => Rung::SequenceRows,
            Self::Resident { .. } => Rung::Resident,
            Self::Normalize { .. } => Rung::Normalize,
            Self::Scan { split: 1, .. } => Rung::Scan,
            Self::Scan { .. } => Rung::ScanShared,
        }
    }

    /// Where the weights stay between steps.
    pub fn held(self) -> Held {
        match self {
            Self::Sequence { held, .. } | Self::Resident { held, .. } => held,
            _ => Held::Not,
        }
    }

    /// Steps of one repetition.
    pub fn stride(self) -> u32 {
        match self {
            Self::Sequence { steps, .. } | Self::Resident { steps, .. } | Self::Scan { steps, .. } => steps,
            _ => 1,
        }
    }

    /// The workgroup of a kernel with `width` units of `gates` gates, of at most `most` invocations.
    pub fn workgroup(self, width: usize, gates: u64, most: u32) -> Workgroup {
        let (units, second) = match self {
            Self::TileMatrix { units, blocks, matrix } => {
                // Whole strips, of as many units as their gates leave room for.
                let side = matrix.side.length();
                let most = side * (MATRIX_STRIPS / narrow(gates)).max(1);
                let units = units.min(narrow(width as u64)).next_multiple_of(side).min(most);
                return Workgroup { units, second: blocks };
            }
            Self::Direct => return Workgroup { units: DIRECT_UNITS * BLOCK_WORKGROUP, second: 1 },
            Self::Tile { units, quads } => (units, quads),
            Self::Normalize { units } => (units, 1),
            Self::Step { units, split }
            | Self::Sequence { units, split, .. }
            | Self::Resident { units, split, .. }
            | Self::Scan { units, split, .. } => (units, split),
        };
        let second = second.min(most);
        let widest = narrow(width.next_power_of_two() as u64).max(8);
        Workgroup { units: units.min(widest).min(most / second).max(1), second }
    }

    /// The constants of its workgroups and loops, for `batch` rows.
    pub fn constants(self, group: Workgroup, gates: u64, batch: usize) -> Result<Constants> {
        let Workgroup { units, second } = group;
        let constants = Constants::default().with("UNITS", units);
        Ok(match self {
            Self::Scan { split: 1, .. } => constants,
            Self::Direct => Constants::default().with("UNITS", BLOCK_WORKGROUP),
            Self::Step { .. } | Self::Sequence { .. } | Self::Normalize { .. } | Self::Scan { .. } => {
                constants.with("SPLIT", second)
            }
            Self::Tile { .. } => constants.with("QUADS", second),
            Self::TileMatrix { matrix, .. } => constants
                .with("BLOCKS", second)
                .with("STRIPS", strips(matrix, units, gates))
                .with("SUBGROUP", matrix.subgroup),
            Self::Resident { spins, .. } => {
                let rows = Constants::sizes([("ROWS", batch)])?;
                constants.and(rows.iter()).with("SPLIT", second).with("SPINS", spins)
            }
        })
    }

    /// Loop iterations of one invocation of one repetition, as the shaders are written.
    pub fn iterations(self, batch: usize, size: KernelSize, group: Workgroup) -> u64 {
        let (units, second) = (u64::from(group.units), u64::from(group.second));
        let (width, depth, below, batch) = (size.width as u64, size.depth as u64, size.below as u64, batch as u64);
        // Of `reduced` in shaders/common/split.wgsl.
        let (invocations, additions) = (units * second, second - 1);
        let quads = depth.div_ceil(4);
        let turns = quads.div_ceil(second);
        let blocks = width.div_ceil(units);
        let holding = |held: Held| match held {
            Held::Not => 0,
            Held::Registers => HELD_WORDS,
            Held::Unrolled(_) => quads,
        };
        match self {
            Self::Step { .. } => [depth, below]
                .iter()
                .map(|k| {
                    let quads = k.div_ceil(4);
                    let slices = quads.div_ceil(STEP_SLICE);
                    slices + 5 * (quads.div_ceil(invocations) + slices) + quads.div_ceil(second) + slices + additions
                })
                .sum(),
            Self::Tile { .. } => {
                let slices = |k: u64| k.div_ceil(TILE_SLICE) * (1 + 5 * TILE_SLICE.div_ceil(units) + TILE_SLICE / 4);
                slices(depth) + slices(below) + 4
            }
            // Of each sum, and of all units of all rows at the end.
            Self::Direct => quads + below.div_ceil(4) + u64::from(DIRECT_UNITS * DIRECT_ROWS),
            Self::TileMatrix { matrix, .. } => {
                let strips = strips(matrix, group.units, size.gates);
                let [side, slice] = [matrix.side.length(), MATRIX_SLICE].map(u64::from);
                let turns = |numbers: u64| numbers.div_ceil(u64::from(strips * matrix.subgroup));
                let loads = turns(second * side * slice) + turns(slice / 4 * units);
                depth.div_ceil(slice) * (1 + loads + slice / side) + second * (1 + turns(side * units))
            }
            Self::Sequence { four_rows: false, held, steps, .. } => {
                let sum = match held {
                    Held::Unrolled(_) => quads.div_ceil(Blocks::QUADS),
                    _ => turns,
                };
                let rest = if size.normalizes { size.normalizing(invocations) } else { 0 };
                let step = 1 + blocks * (1 + sum + additions) + rest;
                let around = (4 * quads).div_ceil(invocations) + depth.div_ceil(invocations);
                holding(held) + around + u64::from(steps) * step
            }
            Self::Sequence { four_rows: true, held, steps, .. } => {
                let reduction = if second > 1 { 4 * (1 + additions) } else { 0 };
                let step = 1 + blocks * (1 + turns + reduction + 4);
                let around = 5 * (4 * quads).div_ceil(invocations) + 5 * depth.div_ceil(invocations);
                holding(held) + around + u64::from(steps) * step
            }
            Self::Resident { held, steps, spins, .. } => {
                // Each quad of the state takes at least one look.
                let step = 1 + 2 * (batch * quads).div_ceil(invocations) + batch * (1 + turns + additions);
                holding(held) + u64::from(steps) * step + u64::from(spins)
            }
            Self::Normalize { .. } => size.normalizing(invocations),
            Self::Scan { split: 1, steps, .. } => steps.into(),
            // Of each round the steps of the state, and twice a look back.
            Self::Scan { steps, .. } => u64::from(steps).div_ceil(second) * (1 + 3 * second),
        }
    }

    /// Its workgroup in words: units, and what its second dimension is.
    pub fn describe(self, group: Workgroup) -> String {
        let Workgroup { units, second } = group;
        if self == Self::Direct {
            return format!(
                "{units} units of {DIRECT_ROWS} rows in a workgroup, {DIRECT_UNITS} of them in an invocation"
            );
        }
        let shared = match (self, second) {
            (Self::TileMatrix { .. }, 1) => "block of rows",
            (Self::TileMatrix { .. }, _) => "blocks of rows",
            (Self::Tile { .. }, 1) => "quad of rows",
            (Self::Tile { .. }, _) => "quads of rows",
            (_, 1) => "invocation for each",
            _ => "invocations for each",
        };
        let held = match self.held() {
            Held::Not => "",
            Held::Registers => ", weights in registers",
            Held::Unrolled(_) => ", weights in private memory",
        };
        format!("{units} units in a workgroup, {second} {shared}{held}")
    }
}

/// Strips of columns that `units` of `gates` gates take on matrix units.
fn strips(matrix: MatrixUnits, units: u32, gates: u64) -> u32 {
    units * narrow(gates) / matrix.side.length()
}

/// A number that a check has bounded by a `u32`.
pub(super) fn narrow(x: u64) -> u32 {
    u32::try_from(x).unwrap_or(u32::MAX)
}

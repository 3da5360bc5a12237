//! Decides how the backward pass of a recurrence is run: a pure function of the problem, the adapter's limits and the options.

use super::decide::{STREAMED, TILE_ROWS};
use super::kernel::{BLOCK_SIDE, BLOCK_WORKGROUP};
use super::tactic::narrow;
use super::{BackwardRung, MAX_SUBMISSION_WORK, PlanLimits, PlanOptions, SOFTWARE_LOOP_LIMIT, Strategy, print};

/// Units of a workgroup of a step.
const STEP_UNITS: u32 = 64;
/// K of the gradients that a workgroup of a step keeps (`shaders/rungs/step_backward.wgsl`).
pub(super) const STEP_SLICE: u64 = 128;
/// The same of a tile (`shaders/rungs/tile_backward.wgsl`).
pub(super) const TILE_SLICE: u64 = 64;
/// Units, quads of rows and parts of a sum of a workgroup of a tile; an invocation takes four units.
const TILE: [u32; 3] = [8, 8, 4];
/// Workgroups that keep an adapter busy.
const ENOUGH: usize = 128;
/// Most invocations that share the sum of a unit.
const MOST_SPLIT: u32 = 4;
/// Most gates of a cell: what a cell writes of a unit in a loop.
const MOST_GATES: u64 = 4;

/// The backward pass of some directions of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardProblem {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// Directions of the level. However many of them go together, the sums are the same.
    pub directions: usize,
    /// H
    pub hidden: usize,
    /// Numbers of a row of gradients, G*H.
    pub gate_rows: usize,
    /// Whether a step takes two kernels, because h is projected or reset before the product.
    pub in_halves: bool,
    /// Whether a step's sums are normalized over each row.
    pub normalizes: bool,
    /// Whether every gate reads h through a mask of its own.
    pub drops_state: bool,
}

/// How the timesteps of a backward pass are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackwardTactic {
    /// A dispatch per step.
    Step,
    /// A dispatch per step; an invocation takes four units of four rows.
    Tile,
    /// The same on a software adapter, where an invocation takes [`BLOCK_SIDE`] units of as many rows.
    Direct,
    /// `steps` steps in a dispatch.
    Sequence { group: BackwardGroup, steps: u32 },
}

/// The workgroup of a kernel of a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BackwardGroup {
    /// Its first dimension.
    pub units: u32,
    /// Quads of rows, of an invocation or of the second dimension.
    pub quads: u32,
    /// Invocations that share a sum.
    pub split: u32,
}

/// A product of a timestep.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardProduct {
    /// Units that it computes.
    pub units: usize,
    /// Its K.
    pub depth: usize,
    /// Parts of K that are dropped apart.
    pub parts: usize,
}

/// What was decided, and why.
#[derive(Clone, Debug)]
pub(super) struct BackwardDecision {
    pub strategy: Strategy,
    pub tactic: BackwardTactic,
    pub reason: String,
}

/// How the backward pass of a level runs. A strategy that is asked for and does not run it is replaced by
/// [`Strategy::Step`], and the reason says so.
pub(super) fn decide_backward(
    problem: &BackwardProblem,
    limits: &PlanLimits,
    options: &PlanOptions,
) -> BackwardDecision {
    let found = |strategy, tactic, reason: String| BackwardDecision { strategy, tactic, reason };
    let fallback = |why: String| found(Strategy::Step, BackwardTactic::Step, why);
    match options.strategy {
        Some(Strategy::Step) => fallback("asked for".into()),
        Some(Strategy::Tile) => found(Strategy::Tile, tile(problem, limits, options), "asked for".into()),
        Some(Strategy::Sequence) => match sequence(problem, limits, options) {
            Ok(tactic) => found(Strategy::Sequence, tactic, format!("asked for ({})", tactic.describe())),
            Err(why) => fallback(format!("not sequence: {why}")),
        },
        Some(other) => fallback(format!("not {other}: no backward pass runs so")),
        None => {
            let many = problem.batch >= TILE_ROWS;
            if limits.software {
                let why = "it reads the fewest numbers, and reads are what takes a software adapter's time";
                return found(Strategy::Tile, tile(problem, limits, options), why.into());
            }
            let bytes = (problem.hidden as u64 * problem.gate_rows as u64).saturating_mul(super::builder::F32);
            if let Some(tactic) = sequence(problem, limits, options).ok().filter(|_| bytes <= STREAMED) {
                let most = print::bytes(STREAMED);
                let few = format!("U has at most {most} to be read at each");
                let why = format!("no launch per step, and {few} ({})", tactic.describe());
                return found(Strategy::Sequence, tactic, why);
            }
            let tiles = |size: usize, each: u32| size.div_ceil(4 * each as usize);
            let workgroups = tiles(problem.hidden, TILE[0]) * tiles(problem.batch, TILE[1]) * problem.directions;
            if many && workgroups >= ENOUGH {
                let why = format!("{} rows share the weights that are read, in {workgroups} workgroups", problem.batch);
                return found(Strategy::Tile, BackwardTactic::Tile, why);
            }
            fallback("the strategy that works for every size".into())
        }
    }
}

/// Where invocations are to share sums, and where numbers of the state are dropped, software adapters too run the kernel of GPUs.
fn tile(problem: &BackwardProblem, limits: &PlanLimits, options: &PlanOptions) -> BackwardTactic {
    let direct = limits.software && options.split.is_none() && !problem.drops_state;
    if direct { BackwardTactic::Direct } else { BackwardTactic::Tile }
}

/// Refused where a step is more than one product, where a workgroup's memory is too small, or a step too long for the adapter.
fn sequence(problem: &BackwardProblem, limits: &PlanLimits, options: &PlanOptions) -> Result<BackwardTactic, String> {
    if problem.normalizes {
        return Err("a layer-normalized cell takes two dispatches per step".into());
    }
    if problem.in_halves {
        return Err("a projection, or a reset of the state, takes two dispatches per step".into());
    }
    if problem.drops_state {
        return Err("numbers of the state are dropped gate by gate".into());
    }
    let most = limits.max_invocations;
    let units = narrow(problem.hidden.next_power_of_two() as u64).max(8).min(most / options.split.unwrap_or(1));
    // A software adapter runs the invocations of a workgroup one after the other.
    let split = if limits.software { 1 } else { (most / units).clamp(1, MOST_SPLIT) };
    let split = options.split.unwrap_or(split);
    let quads: &[u32] = if limits.software { &[4, 2, 1] } else { &[1] };
    let groups = quads.iter().filter(|&&quads| quads == 1 || problem.batch > 2 * quads as usize);
    let mut groups = groups.flat_map(|&quads| [split, 1].map(|split| BackwardGroup { units, quads, split }));
    let memory = |group: &BackwardGroup| {
        let shared = if group.split > 1 { group.units * group.split * group.quads } else { 0 };
        16 * (problem.gate_rows as u64 * u64::from(group.quads) + u64::from(shared))
    };
    let room = u64::from(limits.max_workgroup_memory);
    let Some(group) = groups.find(|group| memory(group) <= room) else {
        let needed = memory(&BackwardGroup { units, quads: 1, split: 1 });
        return Err(format!("{needed} bytes of workgroup memory, the adapter has {room}"));
    };
    let product = BackwardProduct { units: problem.hidden, depth: problem.gate_rows, parts: 1 };
    let of_steps = |steps| BackwardTactic::Sequence { group, steps };
    let iterations = |steps| of_steps(steps).iterations(product, group);
    let work = (problem.hidden as u64 * problem.gate_rows as u64)
        .saturating_mul(problem.batch as u64 * problem.directions as u64);
    let all = narrow(problem.steps as u64).max(1);
    let bounded = narrow(MAX_SUBMISSION_WORK / 4 / work.max(1)).clamp(1, all);
    if !limits.software {
        return Ok(of_steps(bounded));
    }
    let each = iterations(2) - iterations(1);
    match narrow(SOFTWARE_LOOP_LIMIT.saturating_sub(iterations(1) - each) / each).min(bounded) {
        0 => {
            Err(format!("{each} loop iterations of a step, a software adapter stops a shader at {SOFTWARE_LOOP_LIMIT}"))
        }
        steps => Ok(of_steps(steps)),
    }
}

impl BackwardTactic {
    pub fn rung(self) -> BackwardRung {
        match self {
            Self::Step => BackwardRung::Step,
            Self::Tile => BackwardRung::Tile,
            Self::Direct => BackwardRung::Direct,
            Self::Sequence { .. } => BackwardRung::Sequence,
        }
    }

    /// Steps of one repetition.
    pub fn stride(self) -> u32 {
        match self {
            Self::Sequence { steps, .. } => steps,
            _ => 1,
        }
    }

    /// The workgroup of a product.
    pub fn group(
        self,
        product: BackwardProduct,
        problem: &BackwardProblem,
        (limits, options): (&PlanLimits, &PlanOptions),
    ) -> BackwardGroup {
        match self {
            Self::Step => {
                let quads = row_quads(product.units, problem, limits);
                // A software adapter runs the invocations of a workgroup one after the other.
                let most = if limits.software { 1 } else { MOST_SPLIT / quads };
                let split = narrow(product.depth.div_ceil(STEP_UNITS as usize).next_power_of_two() as u64).min(most);
                let split = options.split.map_or(split, |split| split.min(limits.max_invocations / STEP_UNITS));
                BackwardGroup { units: STEP_UNITS, quads, split }
            }
            Self::Tile => {
                let [units, quads, split] = TILE;
                let needed = narrow(problem.batch.div_ceil(4).next_power_of_two() as u64);
                // There the compiler is to know that all read the same rows.
                let (quads, split) = match options.split {
                    None if limits.software => (1, 1),
                    None => (quads.min(needed), split),
                    Some(asked) => (quads.min(needed), split.min(asked)),
                };
                BackwardGroup { units, quads, split }
            }
            Self::Direct => BackwardGroup { units: BLOCK_WORKGROUP, quads: BLOCK_SIDE / 4, split: 1 },
            Self::Sequence { group, .. } => group,
        }
    }

    /// Units and rows of a workgroup.
    pub fn size(self, group: BackwardGroup) -> [usize; 2] {
        let each = match self {
            Self::Tile => 4,
            Self::Direct => BLOCK_SIDE,
            _ => 1,
        };
        [each * group.units, 4 * group.quads].map(|size| size as usize)
    }

    /// Loop iterations of one invocation of one repetition, as the shaders are written.
    pub fn iterations(self, product: BackwardProduct, group: BackwardGroup) -> u64 {
        let BackwardGroup { units, quads, split } = group;
        let [units, quads, split] = [units, quads, split].map(u64::from);
        let [width, depth, parts] = [product.units, product.depth, product.parts].map(|size| size as u64);
        let invocations = units * split;
        // A cell takes as many as it has gates at most.
        let finished = 4 * quads * (1 + MOST_GATES);
        let shared = if split > 1 { quads + quads * split } else { 0 };
        match self {
            Self::Step => {
                let slice = 1 + (STEP_SLICE * quads).div_ceil(invocations) + STEP_SLICE.div_ceil(4 * split);
                let part = 1 + (depth / parts).div_ceil(STEP_SLICE) * slice + 4 * quads;
                parts * part + shared + finished
            }
            Self::Tile => {
                let slice = 1 + (TILE_SLICE * quads).div_ceil(invocations * quads) + TILE_SLICE.div_ceil(split);
                let part = 1 + (depth / parts).div_ceil(TILE_SLICE) * slice + 16;
                parts * part + 4 * (1 + split) + 16 * (1 + MOST_GATES)
            }
            Self::Direct => {
                let each = u64::from(BLOCK_SIDE * BLOCK_SIDE);
                depth + each * (1 + MOST_GATES)
            }
            Self::Sequence { steps, .. } => {
                let blocks = width.div_ceil(units);
                let handed_on = 1 + depth.div_ceil(width) * (1 + quads);
                let step = 1 + blocks * (1 + depth.div_ceil(4 * split) + shared + finished + handed_on);
                (depth * quads).div_ceil(invocations) + u64::from(steps) * step
            }
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Sequence { group: BackwardGroup { units, quads, split }, steps } => {
                let each = if split == 1 { "invocation" } else { "invocations" };
                let rows = 4 * quads;
                format!(
                    "{units} units of {rows} rows in a workgroup, {split} {each} for each, {steps} steps in a dispatch"
                )
            }
            _ => String::new(),
        }
    }
}

/// Quads of rows that an invocation of a step takes: as many as leave enough workgroups.
fn row_quads(units: usize, problem: &BackwardProblem, limits: &PlanLimits) -> u32 {
    let enough = if limits.software { 1 } else { ENOUGH };
    let columns = units.div_ceil(STEP_UNITS as usize) * problem.directions;
    let groups = |quads: usize| columns * problem.batch.div_ceil(4 * quads);
    let fitting = [4u32, 2].into_iter().find(|&quads| {
        let quads = quads as usize;
        problem.batch > 2 * quads && groups(quads) >= enough
    });
    fitting.unwrap_or(1)
}

//! Decides how a recurrence is run: a pure function of the problem, the adapter's limits and the options.

use super::kernel::HELD_WORDS;
use super::tactic::{KernelSize, Tactic, Workgroup, narrow};
use super::{
    Arithmetic, Blocks, Exchange, Held, MATRIX_BLOCKS, MATRIX_STRIPS, MAX_SUBMISSION_WORK, MatrixUnits, PlanLimits,
    PlanOptions, SOFTWARE_LOOP_LIMIT, Strategy, print,
};
use crate::base::error::{Error, Result};
use crate::network::{ScanCell, WeightFormat};

/// Invocations that keep a GPU busy; below it, several share one unit's sum.
const BUSY: u64 = 16_384;
/// Most invocations that share one unit's sum, where no registers ask for more.
const MAX_SPLIT: u32 = 16;
/// Most invocations of a workgroup of a step, WebGPU's guaranteed limit.
const STEP_WORKGROUP: u32 = 256;
/// Rows from which a tiled product is faster than a row at a time.
pub(super) const TILE_ROWS: usize = 16;
/// The same on a software adapter (`shaders/rungs/direct.wgsl`), measured on lavapipe.
const TILE_ROWS_SOFTWARE: usize = 2;
/// Bytes of U that a workgroup reads in about the time that launching a dispatch takes: 3 µs, an estimate, at 64 bytes a clock from
/// the L2 cache and 1.7 GHz.
pub(super) const STREAMED: u64 = 320 << 10;
/// The same on a software adapter, measured on lavapipe.
const STREAMED_SOFTWARE: u64 = 96 << 10;
/// Steps from which copying U to private memory pays on a software adapter, measured on lavapipe.
const UNROLLED_STEPS: usize = 16;
/// Most invocations of a workgroup of [`Strategy::Resident`]: 128 registers each where a workgroup has 64 Ki, as on NVIDIA and on
/// AMD's GCN.
pub const HELD_WORKGROUP: u32 = 512;
/// Registers that an invocation needs beside the weights that it holds, and of a kernel that takes four rows: as compilers for
/// RDNA, GCN and NVIDIA allocate them (`benches/record/static-gpu/`).
const OTHER_REGISTERS: u64 = 50;
const OTHER_REGISTERS_ROWS: u64 = 96;
/// Most registers of an invocation that holds weights: of the 255 that NVIDIA and AMD have, compilers use some to have loads under
/// way.
const MOST_REGISTERS: u64 = 192;
/// Multiply-adds of a step that one workgroup takes in about the time in which several hand h to each other. An RDNA workgroup
/// processor and an NVIDIA multiprocessor start 128 a clock, so these take 1,024 clocks, about 0.5 µs; a number that goes through
/// the L2 cache from one to another takes as long, an estimate.
const ALONE_WORK: u64 = 128 << 10;
/// Bytes of U that one workgroup reads in the same time where registers do not hold them: 64 a clock from the L2 cache.
const ALONE_BYTES: u64 = 64 << 10;
/// Most rows of [`Strategy::Resident`].
const RESIDENT_ROWS: usize = 8;
/// Most bytes of an [`Exchange`]; it is cleared before each run.
const EXCHANGE_BYTES: u64 = 256 << 20;
/// Steps from which invocations share those of a unit.
const SHARED_STEPS: usize = 32;
/// What one step of one gate of a scan takes, as many multiplications and additions.
pub(super) const SCAN_WORK: u64 = 16;
/// Looks after which an invocation of [`Strategy::Resident`] gives up on a software adapter.
const SPINS_SOFTWARE: u32 = 20_000;

/// A recurrence: lanes that advance together, directions of a level or stacked levels.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// Name for errors.
    pub label: String,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    pub lanes: usize,
    /// Whether the lanes are stacked levels.
    pub stacked: bool,
    /// H
    pub hidden: usize,
    /// Width of h.
    pub state: usize,
    pub gates: u64,
    /// Whether a step takes two kernels.
    pub in_halves: bool,
    /// Whether a step's sums are normalized over each row.
    pub normalizes: bool,
    /// The cell, if its units do not depend on each other.
    pub scan: Option<ScanCell>,
    /// Whether every gate reads h through a mask of its own.
    pub drops_state: bool,
    /// Words of one lane's U as the plan stores it.
    pub state_words: usize,
    pub format: WeightFormat,
}

/// What was decided, and why.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub strategy: Strategy,
    pub tactic: Tactic,
    pub reason: String,
}

/// Why a strategy does not run a problem.
enum Refusal {
    /// An option is out of its range.
    Option(Error),
    /// The adapter or the network does not allow it.
    Unfit(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Option(error)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Unfit(reason.into())
    }
}

/// How one level runs.
///
/// # Errors
/// [`Error::Option`] for an option out of its range, [`Error::Unsupported`] for a strategy that is asked for and does not
/// run this problem here.
pub(super) fn decide(problem: &Problem, limits: &PlanLimits, options: &PlanOptions) -> Result<Decision> {
    Decider { problem, limits, options }.decide()
}

/// How stacked levels run along the diagonal, `None` where one after the other is better.
///
/// # Errors
/// As [`decide`].
pub(super) fn decide_diagonal(
    problem: &Problem,
    limits: &PlanLimits,
    options: &PlanOptions,
) -> Result<Option<Decision>> {
    Decider { problem, limits, options }.diagonal()
}

/// The units that products are to be taken on.
pub(super) fn matrix_units(limits: &PlanLimits, options: &PlanOptions) -> Option<MatrixUnits> {
    limits.matrix_units.filter(|_| options.arithmetic == Arithmetic::Matrix)
}

struct Decider<'a> {
    problem: &'a Problem,
    limits: &'a PlanLimits,
    options: &'a PlanOptions,
}

impl Decider<'_> {
    fn diagonal(&self) -> Result<Option<Decision>> {
        match self.options.strategy {
            Some(Strategy::Wavefront) => self.fit(Strategy::Wavefront, self.requested()).map(Some),
            Some(_) => Ok(None),
            None if self.limits.software => Ok(None),
            // A single level that needs no launch per step is faster still.
            None if self.streams() => Ok(None),
            None if self.problem.batch >= self.tile_rows() || self.limits.resident_workgroups > 0 => Ok(None),
            None => {
                let levels = self.problem.lanes;
                let why = format!("{levels} levels, each a step behind the one below: T+{} dispatches", levels - 1);
                self.fit(Strategy::Wavefront, &why).map(Some)
            }
        }
    }

    fn decide(&self) -> Result<Decision> {
        if self.problem.scan.is_some() && self.options.strategy.is_none() {
            return self.fit(Strategy::Scan, "no unit needs another's h");
        }
        if self.problem.drops_state {
            return self.fit(Strategy::Step, "the strategy that drops numbers of the state");
        }
        if let Some(strategy) = self.options.strategy {
            return self.fit(strategy, self.requested());
        }
        let mut candidates = Vec::new();
        let of_u = print::bytes(self.bytes_of_u());
        let work = self.work_of_row();
        if self.unrolled().is_some() {
            candidates.push((Strategy::Sequence, "no launch per step, and U is read once for many".to_owned()));
        } else if self.streams() {
            let most = print::bytes(self.streamed());
            let why = format!(
                "no launch per step, which takes as long as reading {most}; {work} multiply-adds and {of_u} of U for a workgroup"
            );
            candidates.push((Strategy::Sequence, why));
        }
        if self.limits.resident_workgroups > 0 && self.problem.batch <= RESIDENT_ROWS {
            let most = self.limits.resident_workgroups;
            let why = format!("no launch per step, {most} workgroups run at once, and share {of_u} of U");
            // Where one workgroup would take longer than several that hand h on.
            let at = if self.is_long_alone() { 0 } else { candidates.len() };
            candidates.insert(at, (Strategy::Resident, why));
        }
        if self.problem.batch >= self.tile_rows() {
            let rows = self.problem.batch;
            candidates
                .push((Strategy::Tile, format!("{rows} rows share the {of_u} of U that a launch per step reads")));
        }
        for (strategy, why) in candidates {
            if let Ok(decision) = self.fit(strategy, &why) {
                return Ok(decision);
            }
        }
        self.fit(
            Strategy::Step,
            &format!("the strategy that works for every size, a launch per step that reads {of_u} of U"),
        )
    }

    fn bytes_of_u(&self) -> u64 {
        self.problem.state_words as u64 * super::builder::F32
    }

    /// Multiply-adds of a step of one row.
    fn work_of_row(&self) -> u64 {
        self.problem.hidden as u64 * self.problem.state as u64 * self.problem.gates
    }

    /// Whether a step of one row takes one workgroup longer than handing h from workgroup to workgroup takes.
    fn is_long_alone(&self) -> bool {
        let holds = self.sequence().is_ok_and(|tactic| tactic.held() != Held::Not);
        self.work_of_row() > ALONE_WORK || (!holds && self.bytes_of_u() > ALONE_BYTES)
    }

    /// The reason for a strategy that an option names.
    fn requested(&self) -> &'static str {
        if self.options.measured { "measured to be the fastest on this adapter" } else { "asked for" }
    }

    /// Rows from which a step is a tiled product.
    fn tile_rows(&self) -> usize {
        match matrix_units(self.limits, self.options) {
            Some(units) => units.side.length() as usize,
            None if self.limits.software => TILE_ROWS_SOFTWARE,
            None => TILE_ROWS,
        }
    }

    fn streamed(&self) -> u64 {
        if self.limits.software { STREAMED_SOFTWARE } else { STREAMED }
    }

    /// Whether one workgroup can read all of U at every step.
    fn streams(&self) -> bool {
        self.bytes_of_u() <= self.streamed()
    }

    /// `strategy` for this problem, or an error that says why not.
    fn fit(&self, strategy: Strategy, why: &str) -> Result<Decision> {
        let problem = self.problem;
        let tactic = match strategy {
            Strategy::Scan => match problem.scan {
                Some(cell) => self.scan(cell),
                None => Err("the gates of a unit need the h of all others".into()),
            },
            _ if problem.scan.is_some() => Err("it takes products with h, of which this cell has none".into()),
            Strategy::Wavefront if !problem.stacked && problem.lanes < 2 => {
                Err("expected several stacked levels of one direction, or two directions".into())
            }
            Strategy::Step | Strategy::Wavefront => self.step(),
            Strategy::Tile => self.tile(),
            Strategy::Sequence | Strategy::Resident if problem.in_halves => {
                Err("a projection, or a reset of the state, takes two dispatches per step".into())
            }
            Strategy::Resident if problem.normalizes => {
                Err("a layer-normalized cell needs all sums of a row in one workgroup".into())
            }
            Strategy::Sequence => self.sequence(),
            Strategy::Resident => self.resident(),
        };
        let tactic = tactic.map_err(|refusal| match refusal {
            Refusal::Option(error) => error,
            Refusal::Unfit(reason) => Error::Unsupported {
                place: format!("layer `{}`", problem.label),
                what: format!("strategy {strategy}: {reason}"),
            },
        })?;
        let matrix = match (self.options.arithmetic, tactic) {
            (Arithmetic::Matrix, Tactic::TileMatrix { .. }) => ", on matrix units",
            (Arithmetic::Matrix, _) => ", not on matrix units, which only tile can use",
            _ => "",
        };
        let group = tactic.workgroup(problem.hidden, problem.gates, self.limits.max_invocations);
        let reason = format!("{why} ({}{matrix})", tactic.describe(group));
        Ok(Decision { strategy, tactic, reason })
    }

    /// An invocation for each unit, or several where too few keep the adapter busy. The results are the same.
    fn scan(&self, cell: ScanCell) -> std::result::Result<Tactic, Refusal> {
        let Problem { steps, batch, lanes, hidden, .. } = *self.problem;
        let invocations = (batch as u64 * lanes as u64).saturating_mul(hidden as u64);
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        let split = match self.split()? {
            // Its steps cannot be prepared before c is known.
            _ if !cell.is_linear() => 1,
            Some(split) => split,
            None if self.limits.software || invocations >= BUSY || steps < SHARED_STEPS => 1,
            None => narrow(BUSY.div_ceil(invocations).next_power_of_two()).min(MAX_SPLIT),
        };
        let units = self.units(64).min(most / split).max(1);
        let of_steps = |steps| Tactic::Scan { units, split, steps };
        self.longest(of_steps, Workgroup { units, second: split }).map(of_steps)
    }

    fn step(&self) -> std::result::Result<Tactic, Refusal> {
        let Problem { batch, lanes, hidden, .. } = *self.problem;
        let invocations = (batch as u64 * lanes as u64).saturating_mul(hidden as u64);
        let split = match self.split()? {
            Some(split) => split,
            // A software adapter gains nothing from sharing a sum.
            None if self.limits.software || invocations >= BUSY => 1,
            None => narrow(BUSY.div_ceil(invocations).next_power_of_two()).min(MAX_SPLIT),
        };
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        Ok(Tactic::Step { units: self.units(64).min(most / split).max(1), split })
    }

    fn tile(&self) -> std::result::Result<Tactic, Refusal> {
        if let Some(matrix) = matrix_units(self.limits, self.options) {
            return self.tile_on_matrix_units(matrix);
        }
        if self.limits.software && self.options.split.is_none() && self.options.units.is_none() {
            return Ok(Tactic::Direct);
        }
        let quads = self.split()?.unwrap_or(4);
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        Ok(Tactic::Tile { units: self.units(16).min(most / quads).max(1), quads })
    }

    fn tile_on_matrix_units(&self, matrix: MatrixUnits) -> std::result::Result<Tactic, Refusal> {
        let side = matrix.side.length();
        let needed = narrow(self.problem.batch.div_ceil(side as usize) as u64);
        let blocks = match self.split()? {
            Some(blocks) if blocks > MATRIX_BLOCKS => {
                let expected = format!("at most {MATRIX_BLOCKS} blocks of rows on matrix units");
                return Err(Error::option("split", &expected, &blocks).into());
            }
            Some(blocks) => blocks,
            None => needed.next_power_of_two().min(MATRIX_BLOCKS),
        };
        let units = self.options.units.unwrap_or(MATRIX_STRIPS * side);
        Ok(Tactic::TileMatrix { units, blocks, matrix })
    }

    /// Refused where a workgroup's memory is too small, or one step too long for the adapter.
    fn sequence(&self) -> std::result::Result<Tactic, Refusal> {
        let problem = self.problem;
        let unrolled = self.unrolled();
        let four_rows = self.options.four_rows.unwrap_or(match unrolled {
            _ if problem.normalizes => false,
            Some(_) => false,
            None if self.limits.software => problem.batch >= 4,
            None => problem.batch > 64,
        });
        if four_rows && problem.normalizes {
            return Err("a layer-normalized cell runs one row in a workgroup, not four".into());
        }
        let most = self.limits.max_invocations;
        let units = self.units(narrow(problem.hidden.next_power_of_two() as u64).max(32)).min(most);
        let split = match self.split()? {
            Some(split) => split,
            None if self.limits.software => 1,
            None => {
                // The most invocations whose registers hold the weights, else the most.
                let widest = (most / units).clamp(1, MAX_SPLIT);
                let mut narrower = std::iter::successors(Some(widest), |split| (*split > 1).then_some(split / 2));
                let holding = narrower.find(|&split| self.has_room(units, split, four_rows));
                // What normalizes takes more than the 64 registers that 1,024 invocations have.
                let most = if problem.normalizes { most.min(HELD_WORKGROUP) } else { most };
                holding.unwrap_or((most / units).clamp(1, MAX_SPLIT))
            }
        };
        let units = units.min(most / split).max(1);
        let held = match unrolled {
            Some(blocks) => Held::Unrolled(blocks),
            None => self.in_registers(units, split, four_rows)?,
        };
        let rows = if four_rows { 4 } else { 1 };
        // Two states of four bytes a number, and partial sums.
        // The sums of all units of a row, and two numbers of each invocation.
        let normalizing =
            if problem.normalizes { 16 * problem.hidden as u64 + 8 * u64::from(units * split) } else { 0 };
        self.check_workgroup_memory(rows * 32 * self.quads() + self.partial_sums(units * split) + normalizing)?;
        let of_steps = |steps| Tactic::Sequence { units, split, four_rows, held, steps };
        self.longest(of_steps, Workgroup { units, second: split }).map(of_steps)
    }

    /// As many steps in a dispatch as the adapter allows: by submissions' length, on a software adapter by iterations.
    fn longest(&self, of_steps: impl Fn(u32) -> Tactic, group: Workgroup) -> std::result::Result<u32, Refusal> {
        let problem = self.problem;
        let iterations = |steps: u32| of_steps(steps).iterations(problem.batch, self.size(), group);
        // Without products, the functions of a unit.
        let depth = if problem.scan.is_some() { SCAN_WORK } else { problem.state as u64 };
        let work =
            (problem.hidden as u64 * depth * problem.gates).saturating_mul(problem.batch as u64 * problem.lanes as u64);
        let steps = narrow(problem.steps as u64);
        let bounded = narrow(MAX_SUBMISSION_WORK / 4 / work.max(1)).clamp(1, steps);
        if !self.limits.software {
            return Ok(bounded);
        }
        let split = if problem.scan.is_some() { u64::from(group.second) } else { 1 };
        // Steps that are shared are taken together.
        let each = iterations(narrow(2 * split)) - iterations(narrow(split));
        let room = SOFTWARE_LOOP_LIMIT.saturating_sub(iterations(narrow(split)) - each);
        match narrow(room / each * split).min(bounded) {
            0 => Err(Refusal::Unfit(format!(
                "one step takes {each} loop iterations, a software adapter stops a shader at {SOFTWARE_LOOP_LIMIT}"
            ))),
            steps => Ok(steps),
        }
    }

    fn resident(&self) -> std::result::Result<Tactic, Refusal> {
        let problem = self.problem;
        let lanes = problem.lanes as u64;
        let most = self.limits.max_invocations.min(HELD_WORKGROUP);
        // Enough invocations for each unit that their registers hold its weights.
        let mut powers = (0..=9).map(|power| 1u32 << power);
        let holding = powers.find(|&split| self.is_short(split) && self.leaves_room(1, split, false));
        let holding = holding.unwrap_or(most).min(most);
        let split = match self.split()? {
            Some(split) => split,
            None if self.limits.software => 1,
            None => holding.max(8).min(most),
        };
        let requested = self.options.strategy == Some(Strategy::Resident);
        let at_once = match self.limits.resident_workgroups {
            0 if requested => u64::from(u32::MAX),
            at_once => at_once.into(),
        };
        let enough = |units: &u32| (problem.hidden as u64).div_ceil((*units).into()) * lanes <= at_once;
        let units = match self.options.units {
            Some(units) => units,
            None if self.limits.software => narrow(problem.hidden.next_power_of_two() as u64).min(most / split).max(1),
            None => {
                let mut powers = (0..=10).map(|power| 1u32 << power).filter(|units| units * split <= most);
                let Some(units) = powers.find(enough) else {
                    let reason = format!("needs more than the {at_once} workgroups that are known to run at once");
                    return Err(Refusal::Unfit(reason));
                };
                units.max((64 / split).max(1)).min(most / split)
            }
        };
        if units * split > self.limits.max_invocations || !enough(&units) {
            let reason = format!("{units} x {split} invocations in more than {at_once} workgroups at once");
            return Err(Refusal::Unfit(reason));
        }
        let held = self.hold(self.is_short(split), self.leaves_room(units, split, false))?;
        self.check_workgroup_memory(16 * self.quads() * problem.batch as u64 + self.partial_sums(units * split))?;
        let numbers = (problem.steps as u64).saturating_mul(lanes * problem.batch as u64 * problem.state as u64);
        let bytes = numbers.saturating_add(Exchange::HEAD.into()).saturating_mul(super::builder::F32);
        if bytes > self.limits.max_binding.min(EXCHANGE_BYTES) {
            return Err("what workgroups hand each other over all steps does not fit a binding".into());
        }
        let steps = narrow(problem.steps as u64);
        // A wait takes a few looks; a workgroup that does not run takes all of them.
        let spins = match self.options.spins {
            Some(spins) => spins,
            None if self.limits.software => SPINS_SOFTWARE,
            None => narrow((1 << 18) + 64 * problem.steps as u64),
        };
        let tactic = Tactic::Resident { units, split, held, steps, spins };
        let iterations = tactic.iterations(problem.batch, self.size(), Workgroup { units, second: split });
        if self.limits.software && iterations > SOFTWARE_LOOP_LIMIT {
            return Err(Refusal::Unfit(format!(
                "{iterations} loop iterations, a software adapter stops a shader at {SOFTWARE_LOOP_LIMIT}"
            )));
        }
        Ok(tactic)
    }

    /// The option `split`, if it is set; `split` and `units` are checked.
    fn split(&self) -> Result<Option<u32>> {
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        if let Some(split) = self.options.split.filter(|split| !split.is_power_of_two() || *split > most) {
            return Err(Error::option("split", &format!("a power of two up to {most}"), &split));
        }
        let most = self.limits.max_invocations;
        if let Some(units) = self.options.units.filter(|&units| units == 0 || units > most) {
            return Err(Error::option("units", &format!("1 to {most} units in a workgroup"), &units));
        }
        Ok(self.options.split)
    }

    /// Units of a workgroup: the option, else no more than `most` and than there are.
    fn units(&self, most: u32) -> u32 {
        let widest = narrow(self.problem.hidden.next_power_of_two() as u64);
        self.options.units.unwrap_or(widest.clamp(8, most.max(8)))
    }

    /// Quads of a state.
    fn quads(&self) -> u64 {
        (self.problem.state as u64).div_ceil(4)
    }

    /// The kernel of a whole step.
    fn size(&self) -> KernelSize {
        let Problem { hidden, state, gates, normalizes, .. } = *self.problem;
        KernelSize { width: hidden, depth: state, below: 0, gates, normalizes }
    }

    fn words_per_quad(&self) -> u64 {
        match self.problem.format {
            WeightFormat::F16 => 2,
            WeightFormat::Int8 => 1,
            _ => 4,
        }
    }

    /// Words of the weights of one unit, of one gate, that each of `split` invocations has.
    fn words_each(&self, split: u32) -> u64 {
        self.quads().div_ceil(split.into()) * self.words_per_quad()
    }

    /// Whether the kernels that hold weights take as many.
    fn is_short(&self, split: u32) -> bool {
        self.words_each(split) <= HELD_WORDS
    }

    /// Whether the registers of a workgroup have room for the weights of all its units.
    fn leaves_room(&self, units: u32, split: u32, four_rows: bool) -> bool {
        let others = if four_rows { OTHER_REGISTERS_ROWS } else { OTHER_REGISTERS };
        let each = self.registers_each(split) + others;
        each <= MOST_REGISTERS && each * u64::from(units) * u64::from(split) <= u64::from(self.limits.registers)
    }

    /// Registers that the weights of a unit take of each of `split` invocations. Compilers for NVIDIA decode 8-bit weights once,
    /// before the loop over timesteps (clang 14 does); RADV, at each step.
    fn registers_each(&self, split: u32) -> u64 {
        let once =
            self.problem.format == WeightFormat::Int8 && self.limits.registers <= PlanLimits::default().registers;
        let each = if once { 4 * self.quads().div_ceil(split.into()) } else { self.words_each(split) };
        each * self.problem.gates
    }

    /// Whether a workgroup that takes all units of a row holds its weights.
    fn has_room(&self, units: u32, split: u32, four_rows: bool) -> bool {
        let one_block = u64::from(units) >= self.problem.hidden as u64;
        one_block && self.is_short(split) && self.leaves_room(units, split, four_rows)
    }

    /// Whether registers hold the weights of one unit for each invocation of a workgroup that takes all units of a row.
    fn in_registers(&self, units: u32, split: u32, four_rows: bool) -> std::result::Result<Held, Refusal> {
        let one_block = u64::from(units) >= self.problem.hidden as u64;
        self.hold(one_block && self.is_short(split), self.leaves_room(units, split, four_rows))
    }

    /// Refused where an option asks for weights in registers and no kernel holds as many. One that does hold them may be asked
    /// for where the registers have no room: the compiler then keeps some in memory.
    fn hold(&self, fits: bool, has_room: bool) -> std::result::Result<Held, Refusal> {
        match self.options.held {
            Some(true) if !fits => Err("the weights of a unit do not fit the registers".into()),
            Some(true) => Ok(Held::Registers),
            Some(false) => Ok(Held::Not),
            None if self.limits.software => Ok(Held::Not),
            None => Ok(if fits && has_room { Held::Registers } else { Held::Not }),
        }
    }

    /// The blocks of private memory for the weights of one unit for each invocation of [`Strategy::Sequence`], where a
    /// software adapter gains from it and no option forbids it.
    fn unrolled(&self) -> Option<Blocks> {
        let options = self.options;
        let most = self.limits.max_invocations;
        let fits = self.problem.hidden as u64 <= u64::from(options.units.unwrap_or(most).min(most));
        // Requires full subgroups: a partial one would read from invocations that do not exist.
        let full = options.units.is_none_or(|units| u64::from(units).is_multiple_of(Blocks::QUADS));
        let subgroups = full && u64::from(self.limits.subgroup) == Blocks::QUADS && self.limits.software;
        let unsplit = options.split.is_none_or(|split| split == 1) && options.four_rows != Some(true);
        let enough = options.held.unwrap_or(self.limits.unrolls && self.problem.steps >= UNROLLED_STEPS);
        let chosen = subgroups && options.arithmetic == Arithmetic::F32 && fits && unsplit && enough;
        chosen.then(|| Blocks::for_quads(self.quads())).flatten()
    }

    /// Bytes of workgroup memory for the partial sums of `invocations`.
    fn partial_sums(&self, invocations: u32) -> u64 {
        // Three gates take the room of four.
        let each = if self.problem.gates == 1 { 4 } else { 16 };
        each * u64::from(invocations)
    }

    fn check_workgroup_memory(&self, needed: u64) -> std::result::Result<(), Refusal> {
        let most = self.limits.max_workgroup_memory;
        if needed <= most.into() {
            return Ok(());
        }
        Err(Refusal::Unfit(format!("{needed} bytes of workgroup memory, the adapter has {most}")))
    }
}

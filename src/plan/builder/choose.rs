//! Which rung of the ladder, and how its workgroups are cut: by shape, adapter and limits.

use super::lanes::LaneSet;
use super::{Builder, narrow};
use crate::base::error::{Error, Result};
use crate::network::{Cell, WeightFormat};
use crate::plan::{
    Arithmetic, Blocks, Held, MATRIX_BLOCKS, MATRIX_SLICE, MATRIX_STRIPS, MAX_SUBMISSION_WORK, MatrixUnits, Rung,
    SOFTWARE_LOOP_LIMIT, Strategy, head_of_exchange,
};

/// Invocations that keep a GPU busy; below it, several share one unit's sum.
const BUSY: u64 = 16_384;
/// Most invocations that share one unit's sum, where no registers ask for more.
const MAX_SPLIT: u32 = 16;
/// Most invocations of a workgroup of a step, WebGPU's guaranteed limit.
const STEP_WORKGROUP: u32 = 256;
/// Rows from which a tiled product beats a row at a time.
const TILE_ROWS: usize = 16;
/// Bytes of U that a workgroup reads in about the time that a dispatch takes to be launched.
const STREAMED: u64 = 320 << 10;
/// The same on a software adapter, by time measured on lavapipe.
const STREAMED_SOFTWARE: u64 = 96 << 10;
/// Steps from which it pays on a software adapter to bring U to private memory first, by time measured on lavapipe.
const UNROLLED_STEPS: usize = 16;
/// Words of weights that an invocation keeps in registers, as `shaders/rungs/held.wgsl` says.
const HELD_WORDS: u64 = 16;
/// Invocations of a workgroup whose registers hold weights: 128 registers each on a usual GPU.
const HELD_WORKGROUP: u32 = 512;
/// Most rows of [`Strategy::Resident`].
const RESIDENT_ROWS: usize = 8;
/// Quads of K, and K, that a workgroup brings to its memory at a time (`step.wgsl`, `tile.wgsl`).
const STEP_SLICE: u64 = 256;
const TILE_SLICE: u64 = 64;

/// How a recurrence is run.
#[derive(Clone, Debug)]
pub(super) struct How {
    pub strategy: Strategy,
    pub rung: Rung,
    /// Units of a workgroup; of the narrower second half of a step fewer.
    units: u32,
    /// Second dimension of a workgroup: invocations of one sum, or quads of rows; on matrix units blocks of rows.
    second: u32,
    /// Invocations of the largest subgroup, on matrix units.
    pub subgroup: u32,
    pub held: Held,
    /// Steps of one repetition.
    pub stride: u32,
    pub patience: u32,
    pub reason: String,
}

impl How {
    /// Units and second dimension of the workgroup of a kernel with `width` units of `gates` gates.
    pub fn group(&self, width: usize, gates: u64, most: u32) -> (u32, u32) {
        if let Rung::TileMatrix(side) = self.rung {
            // Whole strips, of as many units as their gates leave room for.
            let side = side.length();
            let most = side * (MATRIX_STRIPS / narrow(gates)).max(1);
            return (self.units.min(narrow(width as u64)).next_multiple_of(side).min(most), self.second);
        }
        let second = self.second.min(most);
        (self.units.min(narrow(width.next_power_of_two() as u64).max(8)).min(most / second).max(1), second)
    }

    /// Strips of columns that `units` of `gates` gates take on matrix units.
    pub fn strips(&self, units: u32, gates: u64) -> u32 {
        match self.rung {
            Rung::TileMatrix(side) => units * narrow(gates) / side.length(),
            _ => 1,
        }
    }

    /// Loop iterations of one invocation of one repetition, as the shaders are written.
    pub fn iterations(
        &self,
        batch: usize,
        [width, depth, below]: [usize; 3],
        gates: u64,
        units: u32,
        second: u32,
    ) -> u64 {
        let strips = self.strips(units, gates);
        let (units, second) = (u64::from(units), u64::from(second));
        let (width, depth, below, batch) = (width as u64, depth as u64, below as u64, batch as u64);
        let (group, halvings) = (units * second, u64::from(second.ilog2()));
        let quads = depth.div_ceil(4);
        let turns = quads.div_ceil(second);
        let blocks = width.div_ceil(units);
        let steps = u64::from(self.stride);
        let holding = match self.held {
            Held::Not => 0,
            Held::Registers => HELD_WORDS,
            Held::Unrolled(_) => quads,
        };
        match self.rung {
            Rung::Step => [depth, below]
                .iter()
                .map(|k| {
                    let quads = k.div_ceil(4);
                    let slices = quads.div_ceil(STEP_SLICE);
                    slices + 5 * (quads.div_ceil(group) + slices) + quads.div_ceil(second) + slices + halvings
                })
                .sum(),
            Rung::Tile => {
                let slices = |k: u64| k.div_ceil(TILE_SLICE) * (1 + 5 * TILE_SLICE.div_ceil(units) + TILE_SLICE / 4);
                slices(depth) + slices(below) + 4
            }
            Rung::TileMatrix(side) => {
                let [side, slice] = [side.length(), MATRIX_SLICE].map(u64::from);
                let turns = |numbers: u64| numbers.div_ceil(u64::from(strips * self.subgroup));
                let brought = turns(second * side * slice) + turns(slice / 4 * units);
                depth.div_ceil(slice) * (1 + brought + slice / side) + second * (1 + turns(side * units))
            }
            Rung::Sequence => {
                let over = quads.div_ceil(group);
                let sum = match self.held {
                    Held::Unrolled(_) => quads.div_ceil(Blocks::QUADS),
                    _ => turns,
                };
                let step = 1 + blocks * (1 + sum + halvings) + over;
                holding + (4 * quads).div_ceil(group) + over + steps * step + depth.div_ceil(group)
            }
            Rung::SequenceRows => {
                let reduction = if second > 1 { 4 * (1 + halvings) } else { 0 };
                let step = 1 + blocks * (1 + turns + reduction + 4);
                holding + 5 * (4 * quads).div_ceil(group) + steps * step + 5 * depth.div_ceil(group)
            }
            Rung::Resident => {
                // Each quad of the state takes at least one look.
                let step = 1 + 2 * (batch * quads).div_ceil(group) + batch * (1 + turns + halvings);
                holding + steps * step + u64::from(self.patience)
            }
        }
    }
}

impl Builder {
    /// How stacked levels run, if they run along the diagonal.
    pub(super) fn along_the_diagonal(&self, set: &LaneSet<'_>) -> Result<Option<How>> {
        match self.options.strategy {
            Some(Strategy::Wavefront) => self.fit(Strategy::Wavefront, set, self.asked()).map(Some),
            Some(_) => Ok(None),
            None if self.limits.software => Ok(None),
            None => {
                // A level alone that costs no launch per step is better still.
                let alone = set.works[..1].len() == 1 && self.streams(set);
                if alone || self.batch >= self.tile_rows() || self.limits.resident_workgroups > 0 {
                    return Ok(None);
                }
                let levels = set.lanes();
                let why = format!("{levels} levels, each a step behind the one below: T+{} dispatches", levels - 1);
                self.fit(Strategy::Wavefront, set, &why).map(Some)
            }
        }
    }

    /// How one level runs.
    pub(super) fn choose(&self, set: &LaneSet<'_>) -> Result<How> {
        if let Some(strategy) = self.options.strategy {
            return self.fit(strategy, set, self.asked());
        }
        let mut wishes = Vec::new();
        let streamed = if self.limits.software { STREAMED_SOFTWARE } else { STREAMED };
        if self.unrolled(set).is_some() {
            wishes.push((Strategy::Sequence, "no launch per step, and U is read once for many".to_owned()));
        } else if self.streams(set) {
            wishes.push((
                Strategy::Sequence,
                format!(
                    "no launch per step, and U has at most {} to be read at each",
                    crate::plan::print::bytes(streamed)
                ),
            ));
        }
        if self.limits.resident_workgroups > 0 && self.batch <= RESIDENT_ROWS {
            let most = self.limits.resident_workgroups;
            wishes.push((Strategy::Resident, format!("no launch per step, and {most} workgroups run at once")));
        }
        if self.batch >= self.tile_rows() {
            wishes.push((Strategy::Tile, format!("{} rows share the weights that are read", self.batch)));
        }
        for (strategy, why) in wishes {
            if let Ok(how) = self.fit(strategy, set, &why) {
                return Ok(how);
            }
        }
        self.fit(Strategy::Step, set, "the rung that works for every size")
    }

    /// Why a strategy was not chosen here.
    fn asked(&self) -> &'static str {
        if self.options.measured { "measured to be the fastest on this adapter" } else { "asked for" }
    }

    /// Rows from which a step is a tiled product.
    fn tile_rows(&self) -> usize {
        self.matrix_units().map_or(TILE_ROWS, |units| units.side.length() as usize)
    }

    /// Whether a workgroup alone can read U at every step.
    fn streams(&self, set: &LaneSet<'_>) -> bool {
        let bytes: u64 = set.layout.lanes[set.first_lane].state.len() as u64 * super::F32;
        bytes <= if self.limits.software { STREAMED_SOFTWARE } else { STREAMED }
    }

    /// `strategy` on `set`, or why not.
    fn fit(&self, strategy: Strategy, set: &LaneSet<'_>, why: &str) -> Result<How> {
        let refuse = |reason: &str| {
            let what = format!("strategy {strategy}: {reason}");
            Err(Error::Unsupported { place: format!("layer `{}`", set.label()), what })
        };
        let mut how = match strategy {
            Strategy::Step => self.step(set)?,
            Strategy::Wavefront if !set.stacked && set.lanes() < 2 => {
                return refuse("expected several stacked levels of one direction, or two directions");
            }
            Strategy::Wavefront => self.step(set)?,
            Strategy::Tile => self.tile(set)?,
            Strategy::Sequence | Strategy::Resident if set.in_halves() => {
                return refuse("a projection, or a reset of the state, takes two dispatches per step");
            }
            Strategy::Sequence => match self.sequence(set)? {
                Ok(how) => how,
                Err(reason) => return refuse(&reason),
            },
            Strategy::Resident => match self.resident(set)? {
                Ok(how) => how,
                Err(reason) => return refuse(&reason),
            },
        };
        how.strategy = strategy;
        let (units, second) = how.group(set.level.hidden_size, set.gates(), self.limits.max_invocations);
        let shared = match (how.rung, second) {
            (Rung::TileMatrix(_), 1) => "block of rows",
            (Rung::TileMatrix(_), _) => "blocks of rows",
            (Rung::Tile, 1) => "quad of rows",
            (Rung::Tile, _) => "quads of rows",
            (_, 1) => "invocation for each",
            _ => "invocations for each",
        };
        let held = match how.held {
            Held::Not => "",
            Held::Registers => ", weights in registers",
            Held::Unrolled(_) => ", weights in private memory",
        };
        let matrix = match (self.options.arithmetic, how.rung) {
            (Arithmetic::Matrix, Rung::TileMatrix(_)) => ", on matrix units",
            (Arithmetic::Matrix, _) => ", not on matrix units, which only tile can use",
            _ => "",
        };
        how.reason = format!("{why} ({units} units in a workgroup, {second} {shared}{held}{matrix})");
        Ok(how)
    }

    fn step(&self, set: &LaneSet<'_>) -> Result<How> {
        let invocations = (self.batch as u64 * set.lanes() as u64).saturating_mul(set.level.hidden_size as u64);
        let split = match self.split()? {
            Some(split) => split,
            // A software adapter gains nothing from sharing a sum.
            None if self.limits.software || invocations >= BUSY => 1,
            None => narrow(BUSY.div_ceil(invocations).next_power_of_two()).min(MAX_SPLIT),
        };
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        let units = self.units(set, 64).min(most / split).max(1);
        Ok(self.how(Rung::Step, units, split, Held::Not))
    }

    fn tile(&self, set: &LaneSet<'_>) -> Result<How> {
        if let Some(matrix) = self.matrix_units() {
            return self.tile_on_matrix_units(matrix);
        }
        let quads = self.split()?.unwrap_or(4);
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        let units = self.units(set, 16).min(most / quads).max(1);
        Ok(self.how(Rung::Tile, units, quads, Held::Not))
    }

    fn tile_on_matrix_units(&self, MatrixUnits { side, subgroup }: MatrixUnits) -> Result<How> {
        let needed = narrow(self.batch.div_ceil(side.length() as usize) as u64);
        let blocks = match self.split()? {
            Some(blocks) if blocks > MATRIX_BLOCKS => {
                let what = format!("split {blocks} (on matrix units up to {MATRIX_BLOCKS} are)");
                return Err(Error::Unsupported { place: "plan".into(), what });
            }
            Some(blocks) => blocks,
            None => needed.next_power_of_two().min(MATRIX_BLOCKS),
        };
        let units = self.options.units.unwrap_or(MATRIX_STRIPS * side.length());
        Ok(How { subgroup, ..self.how(Rung::TileMatrix(side), units, blocks, Held::Not) })
    }

    /// The reason where a workgroup's memory is too small, or one step too long for the adapter.
    fn sequence(&self, set: &LaneSet<'_>) -> Result<std::result::Result<How, String>> {
        let width = set.level.hidden_size;
        let unrolled = self.unrolled(set);
        let four = self.options.four_rows.unwrap_or(match unrolled {
            Some(_) => false,
            None if self.limits.software => self.batch >= 4,
            None => self.batch > 64,
        });
        let rung = if four { Rung::SequenceRows } else { Rung::Sequence };
        let most = self.limits.max_invocations;
        let units = self.units(set, narrow(width.next_power_of_two() as u64).max(32)).min(most);
        let split = match self.split()? {
            Some(split) => split,
            None if self.limits.software => 1,
            None => (most / units).clamp(1, MAX_SPLIT),
        };
        let units = units.min(most / split).max(1);
        let quads = (set.level.state_size() as u64).div_ceil(4);
        let held = match (unrolled, self.in_registers(set, units, split)) {
            (Some(blocks), _) => Held::Unrolled(blocks),
            (None, Ok(held)) => held,
            (None, Err(reason)) => return Ok(Err(reason)),
        };
        let state = if four { 128 * quads } else { 32 * quads };
        let needed = state + self.partial_sums(set, units * split);
        if needed > self.limits.max_workgroup_memory.into() {
            return Ok(Err(format!(
                "{needed} bytes of workgroup memory, the adapter has {}",
                self.limits.max_workgroup_memory
            )));
        }
        let mut how = self.how(rung, units, split, held);
        Ok(self.stretch(set, &mut how).map(|()| how))
    }

    /// As many steps in a dispatch as the adapter's patience allows.
    fn stretch(&self, set: &LaneSet<'_>, how: &mut How) -> std::result::Result<(), String> {
        let (width, state) = (set.level.hidden_size, set.level.state_size());
        let iterations = |stride: u32| {
            let how = How { stride, ..how.clone() };
            how.iterations(self.batch, [width, state, 0], set.gates(), how.units, how.second)
        };
        let steps = narrow(set.works[0].steps_in as u64);
        let work = (width as u64 * state as u64 * set.level.cell.gates() as u64)
            .saturating_mul(self.batch as u64 * set.lanes() as u64);
        let bounded = narrow(MAX_SUBMISSION_WORK / 4 / work.max(1)).clamp(1, steps);
        let each = iterations(2) - iterations(1);
        let room = SOFTWARE_LOOP_LIMIT.saturating_sub(iterations(1) - each);
        let stride = if self.limits.software { narrow(room / each).min(bounded) } else { bounded };
        if stride == 0 {
            return Err(format!(
                "one step takes {each} loop iterations, a software adapter stops a shader at {SOFTWARE_LOOP_LIMIT}"
            ));
        }
        how.stride = stride;
        Ok(())
    }

    fn resident(&self, set: &LaneSet<'_>) -> Result<std::result::Result<How, String>> {
        let forced = self.options.strategy == Some(Strategy::Resident);
        let (width, quads) = (set.level.hidden_size, (set.level.state_size() as u64).div_ceil(4));
        let lanes = set.lanes() as u64;
        let words = self.words_per_quad(set);
        let most = self.limits.max_invocations.min(HELD_WORKGROUP);
        // Enough invocations for each unit that their registers hold its weights.
        let holding = narrow((quads * words).div_ceil(HELD_WORDS).next_power_of_two()).min(most);
        let split = match self.split()? {
            Some(split) => split,
            None if self.limits.software => 1,
            None => holding.max(8).min(most),
        };
        let at_once = u64::from(if forced && self.limits.resident_workgroups == 0 {
            u32::MAX
        } else {
            self.limits.resident_workgroups
        });
        let enough = |units: &u32| (width as u64).div_ceil((*units).into()) * lanes <= at_once;
        let units = match self.options.units {
            Some(units) => units,
            None if self.limits.software => narrow(width.next_power_of_two() as u64).min(most / split).max(1),
            None => {
                let fitting = (0..=10).map(|power| 1u32 << power).filter(|units| units * split <= most).find(enough);
                match fitting {
                    Some(units) => units.max((64 / split).max(1)).min(most / split),
                    None => return Ok(Err(format!("more than {at_once} workgroups, which surely run at once"))),
                }
            }
        };
        if units * split > self.limits.max_invocations || !enough(&units) {
            return Ok(Err(format!("{units} x {split} invocations in more than {at_once} workgroups at once")));
        }
        let held = match self.in_registers(set, units.max(narrow(width as u64)), split) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(reason)),
        };
        let needed = 16 * quads * self.batch as u64 + self.partial_sums(set, units * split);
        if needed > self.limits.max_workgroup_memory.into() {
            return Ok(Err(format!(
                "{needed} bytes of workgroup memory, the adapter has {}",
                self.limits.max_workgroup_memory
            )));
        }
        let steps = set.works[0].steps_in as u64;
        let exchanged = steps.saturating_mul(lanes * self.batch as u64 * set.level.state_size() as u64);
        if exchanged.saturating_add(head_of_exchange()).saturating_mul(super::F32)
            > self.limits.max_binding.min(256 << 20)
        {
            return Ok(Err("what workgroups hand each other over all steps does not fit a binding".into()));
        }
        let mut how = self.how(Rung::Resident, units, split, held);
        how.stride = narrow(steps);
        // A wait takes a few looks; a workgroup that does not run takes them all.
        let enough = narrow((1 << 18) + 64 * steps);
        how.patience = self.options.patience.unwrap_or(if self.limits.software { 20_000 } else { enough });
        let shape = [width, set.level.state_size(), 0];
        let iterations = how.iterations(self.batch, shape, set.gates(), units, split);
        if self.limits.software && iterations > SOFTWARE_LOOP_LIMIT {
            return Ok(Err(format!(
                "{iterations} loop iterations, a software adapter stops a shader at {SOFTWARE_LOOP_LIMIT}"
            )));
        }
        Ok(Ok(how))
    }

    fn how(&self, rung: Rung, units: u32, second: u32, held: Held) -> How {
        let (strategy, reason) = (Strategy::Step, String::new());
        How { strategy, rung, units, second, subgroup: 1, held, stride: 1, patience: 0, reason }
    }

    /// The wish for a split.
    fn split(&self) -> Result<Option<u32>> {
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        let refuse = |what: String| Err(Error::Unsupported { place: "plan".into(), what });
        match (self.options.split, self.options.units) {
            (Some(split), _) if !split.is_power_of_two() || split > most => {
                refuse(format!("split {split} (powers of two up to {most} are)"))
            }
            (_, Some(units)) if units == 0 || units > self.limits.max_invocations => {
                refuse(format!("{units} units in a workgroup (1 to {} are)", self.limits.max_invocations))
            }
            (wish, _) => Ok(wish),
        }
    }

    /// Units of a workgroup: as wished, else no more than `most` and than there are.
    fn units(&self, set: &LaneSet<'_>, most: u32) -> u32 {
        let widest = narrow(set.level.hidden_size.next_power_of_two() as u64);
        self.options.units.unwrap_or(widest.clamp(8, most.max(8)))
    }

    fn words_per_quad(&self, set: &LaneSet<'_>) -> u64 {
        match set.layout.format {
            WeightFormat::F16 => 2,
            WeightFormat::Int8 => 1,
            _ => 4,
        }
    }

    /// Whether registers hold the weights of one unit for each invocation; the reason where they cannot and should.
    fn in_registers(&self, set: &LaneSet<'_>, units: u32, split: u32) -> std::result::Result<Held, String> {
        let quads = (set.level.state_size() as u64).div_ceil(4);
        let one_block = u64::from(units) >= set.level.hidden_size as u64;
        let fit = one_block && quads.div_ceil(split.into()) * self.words_per_quad(set) <= HELD_WORDS;
        match self.options.held {
            Some(true) if !fit => Err("the weights of a unit do not fit the registers".into()),
            Some(false) => Ok(Held::Not),
            None if self.limits.software => Ok(Held::Not),
            _ => Ok(if fit { Held::Registers } else { Held::Not }),
        }
    }

    /// The room in private memory for the weights of one unit for each invocation of [`Strategy::Sequence`], where a
    /// software adapter gains from it and nothing else is wished.
    fn unrolled(&self, set: &LaneSet<'_>) -> Option<Blocks> {
        let options = &self.options;
        let most = self.limits.max_invocations;
        let fits = set.level.hidden_size as u64 <= u64::from(options.units.unwrap_or(most).min(most));
        // All subgroups are full, so that none waits for what nobody brings.
        let full = options.units.is_none_or(|units| u64::from(units).is_multiple_of(Blocks::QUADS));
        let subgroups = full && u64::from(self.limits.subgroup) == Blocks::QUADS && self.limits.software;
        let alone = options.split.is_none_or(|split| split == 1) && options.four_rows != Some(true);
        let enough = options.held.unwrap_or(self.limits.unrolls && set.works[0].steps_in >= UNROLLED_STEPS);
        let chosen = subgroups && options.arithmetic == Arithmetic::F32 && fits && alone && enough;
        chosen.then(|| Blocks::for_quads((set.level.state_size() as u64).div_ceil(4))).flatten()
    }

    /// Bytes of workgroup memory for the partial sums of `invocations`.
    fn partial_sums(&self, set: &LaneSet<'_>, invocations: u32) -> u64 {
        // Three gates take the room of four.
        let each = if set.level.cell == Cell::Rnn { 4 } else { 16 };
        each * u64::from(invocations)
    }
}

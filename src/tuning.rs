//! Choices that were measured: which strategy is fastest for a network on this very adapter.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::device::{Device, DeviceInfo};
use crate::error::{Error, Result};
use crate::files::{self, Turn};
use crate::network::Network;
#[cfg(feature = "gpu")]
use crate::plan::RunShape;
use crate::plan::{Arithmetic, Plan, PlanOptions, Strategy};
use crate::session::Session;
use crate::verify::RandomInput;

/// The layout of a tuning file.
const FORMAT: u32 = 2;
/// Candidates this many times slower than the best after one run are not timed again.
const HOPELESS: f64 = 3.0;

/// What was measured on one adapter, by one version of gatefold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    format: u32,
    gatefold: String,
    adapter: String,
    backend: String,
    driver: String,
    entries: Vec<Tuned>,
}

/// The fastest way to run one network at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// The recurrences of the network, with all sizes that matter.
    pub recurrences: String,
    /// T that was timed; it stands for all T with the same next power of two.
    pub steps: usize,
    /// B
    pub batch: usize,
    /// In which numbers products are taken.
    #[serde(default)]
    pub arithmetic: Arithmetic,
    /// How every recurrence is run.
    pub strategy: Strategy,
    /// [`PlanOptions::split`]
    pub split: Option<u32>,
    /// [`PlanOptions::units`]
    pub units: Option<u32>,
    /// [`PlanOptions::four_rows`]
    pub four_rows: Option<bool>,
    /// [`PlanOptions::held`]
    pub held: Option<bool>,
    /// Median time of a run, microseconds.
    pub microseconds: f64,
    /// The same for what the plan would have chosen.
    pub untuned_microseconds: f64,
    /// The same on the CPU device, timed in turns with the others.
    pub cpu_microseconds: f64,
}

impl Tuned {
    /// Why this is better run on the CPU; `None` if it is not.
    #[must_use]
    pub fn prefers_cpu(&self) -> Option<String> {
        let Self { microseconds, cpu_microseconds, .. } = *self;
        (cpu_microseconds < microseconds)
            .then(|| format!("measured to take {cpu_microseconds:.0} µs on the CPU, {microseconds:.0} µs on the GPU"))
    }
}

impl Tuning {
    /// Nothing measured yet on this device.
    #[must_use]
    pub fn new(info: &DeviceInfo) -> Self {
        Self {
            format: FORMAT,
            gatefold: env!("CARGO_PKG_VERSION").into(),
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            entries: Vec::new(),
        }
    }

    /// Reads a file that [`Tuning::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Malformed`] if it is no tuning file or another
    /// version's.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let malformed = |expected: &str, got: String| Error::Malformed {
            what: format!("tuning file {}", path.display()),
            expected: expected.into(),
            got,
        };
        let tuning: Self =
            serde_json::from_str(&text).map_err(|error| malformed("what `gatefold tune` writes", error.to_string()))?;
        let version = env!("CARGO_PKG_VERSION");
        if tuning.format != FORMAT || tuning.gatefold != version {
            let got = format!("format {} of gatefold {}", tuning.format, tuning.gatefold);
            return Err(malformed(&format!("format {FORMAT} of gatefold {version}"), got));
        }
        Ok(tuning)
    }

    /// Writes it to `path`, whole or not at all, in place of what is there. [`Tuning::update`] adds to it.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Io { path: path.into(), source: error.into() })?;
        files::write(path, (text + "\n").as_bytes())
    }

    /// Changes the file at `path` and gives its new content: `change` gets what [`Tuning::load`] finds there. Other
    /// processes and threads that update it wait meanwhile, so that each keeps what the others have added.
    ///
    /// # Errors
    /// That of `change`, and then the file is as it was; [`Error::Io`] if it cannot be written.
    pub fn update<E: From<Error>>(
        path: &Path,
        change: impl FnOnce(Result<Self>) -> Result<Self, E>,
    ) -> Result<Self, E> {
        let _turn = Turn::wait(path)?;
        let tuning = change(Self::load(path))?;
        tuning.save(path)?;
        Ok(tuning)
    }

    /// An error if it was measured on another adapter or with another driver.
    ///
    /// # Errors
    /// [`Error::Malformed`], with both adapters.
    pub fn check(&self, info: &DeviceInfo) -> Result<()> {
        let describe = |name: &str, backend: &str, driver: &str| format!("{name} ({backend}, {driver})");
        let (here, there) =
            (describe(&info.name, &info.backend, &info.driver), describe(&self.adapter, &self.backend, &self.driver));
        if here == there {
            return Ok(());
        }
        Err(Error::Malformed {
            what: "tuning".into(),
            expected: format!("one of {here}"),
            got: format!("one of {there}"),
        })
    }

    /// Adds a result in place of an older one for the same.
    pub fn keep(&mut self, tuned: Tuned) {
        let same = |old: &Tuned| {
            let key = |one: &Tuned| (one.batch, bucket(one.steps), one.arithmetic);
            old.recurrences == tuned.recurrences && key(old) == key(&tuned)
        };
        self.entries.retain(|old| !same(old));
        self.entries.push(tuned);
    }

    /// What was measured, in the order of measuring.
    #[must_use]
    pub fn entries(&self) -> &[Tuned] {
        &self.entries
    }

    /// What was measured for this network with so many steps and rows, products taken in `arithmetic`.
    #[must_use]
    pub fn find(&self, network: &Network, arithmetic: Arithmetic, steps: usize, batch: usize) -> Option<&Tuned> {
        let recurrences = recurrences(network);
        self.entries.iter().find(|tuned| {
            (tuned.batch, bucket(tuned.steps), tuned.arithmetic) == (batch, bucket(steps), arithmetic)
                && tuned.recurrences == recurrences
        })
    }

    /// `options` with the measured choice for this run; a wish of the caller goes before it.
    #[cfg(feature = "gpu")]
    pub(crate) fn apply(&self, network: &Network, shape: RunShape, options: PlanOptions) -> Option<PlanOptions> {
        let wished = options.strategy.is_some()
            || options.split.is_some()
            || options.units.is_some()
            || options.four_rows.is_some()
            || options.held.is_some();
        let tuned = self.find(network, options.arithmetic, shape.steps, shape.batch).filter(|_| !wished)?;
        Some(tuned.options(options))
    }
}

#[cfg(feature = "gpu")]
impl Tuned {
    fn options(&self, base: PlanOptions) -> PlanOptions {
        PlanOptions {
            strategy: Some(self.strategy),
            split: self.split,
            units: self.units,
            four_rows: self.four_rows,
            held: self.held,
            measured: true,
            ..base
        }
    }
}

/// T by which results are told apart.
fn bucket(steps: usize) -> usize {
    steps.checked_next_power_of_two().unwrap_or(usize::MAX)
}

/// Everything about a network's recurrences that their speed depends on.
fn recurrences(network: &Network) -> String {
    let levels = network.stages().iter().filter_map(|stage| {
        let level = stage.recurrent()?;
        let names = &level.directions.first()?.names;
        let format = network.weight_format(&names.weight_hh);
        let reset = if level.reset_after { "" } else { " reset before" };
        Some(format!(
            "{}{reset} I{} H{} P{} D{} {format}",
            level.cell.name(),
            stage.in_features,
            level.hidden_size,
            level.proj_size,
            level.directions.len()
        ))
    });
    levels.collect::<Vec<_>>().join(", ")
}

/// What is worth trying.
fn candidates(base: PlanOptions) -> Vec<PlanOptions> {
    let mut all = vec![base];
    let splits = [None, Some(1), Some(4), Some(16)];
    for split in splits {
        for units in [None, Some(32), Some(64)] {
            all.push(PlanOptions { strategy: Some(Strategy::Step), split, units, ..base });
        }
    }
    for split in [Some(1), Some(4)] {
        for units in [Some(16), Some(64)] {
            all.push(PlanOptions { strategy: Some(Strategy::Tile), split, units, ..base });
        }
    }
    for four_rows in [Some(false), Some(true)] {
        for units in [None, Some(64), Some(256)] {
            for held in [Some(false), Some(true)] {
                all.push(PlanOptions { strategy: Some(Strategy::Sequence), units, four_rows, held, ..base });
            }
        }
    }
    all.push(PlanOptions { strategy: Some(Strategy::Wavefront), ..base });
    all.push(PlanOptions { strategy: Some(Strategy::Resident), ..base });
    all
}

struct Candidate {
    options: PlanOptions,
    plan: Plan,
    session: Session,
    microseconds: Vec<f64>,
}

impl Candidate {
    fn run(&mut self, input: &RandomInput) -> Result<()> {
        self.microseconds.push(timed(&self.session, input)?);
        Ok(())
    }

    fn median(&self) -> f64 {
        median(&self.microseconds)
    }
}

/// Microseconds of a run.
fn timed(session: &Session, input: &RandomInput) -> Result<f64> {
    let start = Instant::now();
    session.run(input.as_input().with_axes(session.network().input_axes()), None)?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Times every way to run `network` with T `steps` and B `batch` on `device`, products taken in `arithmetic`, `runs` times
/// each in turns with each other and with the CPU device, and says which is fastest. `None` for a network without a
/// recurrence, and on the CPU.
///
/// # Errors
/// As [`Session::run`]; [`Error::Unsupported`] for an arithmetic that the device does not have.
pub fn tune(
    device: &Device,
    network: &Network,
    arithmetic: Arithmetic,
    steps: usize,
    batch: usize,
    runs: usize,
) -> Result<Option<Tuned>> {
    if network.recurrent_layers().next().is_none() {
        return Ok(None);
    }
    let input = RandomInput::new(network, steps, batch, 1)?;
    let mut field: Vec<Candidate> = Vec::new();
    // What no candidate can do is an error, and not a lack of candidates.
    Session::with_options(&device.untuned(), network, PlanOptions::default().arithmetic(arithmetic))?;
    for options in candidates(PlanOptions::default().arithmetic(arithmetic)) {
        let session = match Session::with_options(&device.untuned(), network, options) {
            Ok(session) => session,
            // What cannot run here is no candidate.
            Err(Error::Unsupported { .. }) => continue,
            Err(error) => return Err(error),
        };
        let plan = match session.plan(steps, batch) {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(None),
            Err(Error::Unsupported { .. } | Error::TooLarge { .. }) => continue,
            Err(error) => return Err(error),
        };
        let waits = plan.choices.iter().any(|choice| choice.strategy == Strategy::Resident);
        if field.iter().any(|other| other.plan.dispatches == plan.dispatches) || (waits && !device.workgroups_meet()) {
            continue;
        }
        let mut candidate = Candidate { options, plan, session, microseconds: Vec::new() };
        candidate.run(&input)?;
        candidate.microseconds.clear();
        candidate.run(&input)?;
        field.push(candidate);
    }
    let best = field.iter().map(Candidate::median).fold(f64::INFINITY, f64::min);
    let untuned = field.first().map(|candidate| candidate.plan.clone());
    field.retain(|candidate| Some(&candidate.plan) == untuned.as_ref() || candidate.median() < HOPELESS * best);
    let cpu = Session::new(&Device::cpu(), network)?;
    let mut cpu_microseconds = Vec::new();
    timed(&cpu, &input)?;
    for run in 0..runs.max(1) {
        cpu_microseconds.push(timed(&cpu, &input)?);
        for candidate in field.iter_mut().filter(|_| run > 0) {
            candidate.run(&input)?;
        }
    }
    let untuned_microseconds = field.first().map_or(f64::NAN, Candidate::median);
    let Some(best) = field.iter().min_by(|a, b| a.median().total_cmp(&b.median())) else { return Ok(None) };
    let strategy = best.plan.choices.first().map_or(Strategy::Step, |choice| choice.strategy);
    let PlanOptions { split, units, four_rows, held, .. } = best.options;
    Ok(Some(Tuned {
        recurrences: recurrences(network),
        steps,
        batch,
        arithmetic,
        strategy: best.options.strategy.unwrap_or(strategy),
        split,
        units,
        four_rows,
        held,
        microseconds: best.median(),
        untuned_microseconds,
        cpu_microseconds: median(&cpu_microseconds),
    }))
}

//! The table of what was measured: which strategy is fastest for a network on one adapter.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::adapter::DeviceInfo;
use crate::base::error::{Error, Result};
use crate::base::files::{self, Turn};
use crate::network::{Network, Recurrence, Role};
use crate::plan::{Arithmetic, PlanOptions, RunShape, Strategy};

/// The layout of a tuning file.
const FORMAT: u32 = 2;

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
    /// The arithmetic of products.
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
    /// The same for the plan's own choice.
    pub untuned_microseconds: f64,
    /// The same on the CPU device, timed in alternation with the others.
    pub cpu_microseconds: f64,
}

impl Tuned {
    /// Why this is run on the CPU; `None` if the CPU is not faster.
    #[must_use]
    pub fn prefers_cpu(&self) -> Option<String> {
        let Self { microseconds, cpu_microseconds, .. } = *self;
        (cpu_microseconds < microseconds)
            .then(|| format!("measured to take {cpu_microseconds:.0} µs on the CPU, {microseconds:.0} µs on the GPU"))
    }
}

impl Tuning {
    /// A table without results for this device.
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

    /// Writes it to `path`, completely or not at all. An existing file is replaced. [`Tuning::update`] adds to it.
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

    /// `options` with the measured choice for this run; an option of the caller takes precedence.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU has no plan"))]
    pub(crate) fn apply(&self, network: &Network, shape: RunShape, options: PlanOptions) -> Option<PlanOptions> {
        let overridden = options.strategy.is_some()
            || options.split.is_some()
            || options.units.is_some()
            || options.four_rows.is_some()
            || options.held.is_some();
        let tuned = self.find(network, options.arithmetic, shape.steps, shape.batch).filter(|_| !overridden)?;
        Some(tuned.options(options))
    }
}

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

/// T that distinguishes results.
fn bucket(steps: usize) -> usize {
    steps.checked_next_power_of_two().unwrap_or(usize::MAX)
}

/// Everything about a network's recurrences that their speed depends on.
pub(crate) fn recurrences(network: &Network) -> String {
    let levels = network.stages().iter().filter_map(|stage| {
        let level = stage.recurrent()?;
        let format = network.param_format(stage, 0, if level.cell().scans() { Role::WeightIh } else { Role::WeightHh });
        let reset = if level.recurrence == (Recurrence::Gru { reset_after: false }) { " reset before" } else { "" };
        Some(format!(
            "{}{reset} I{} H{} P{} D{} {format}",
            level.cell().name(),
            stage.in_features,
            level.hidden_size,
            level.recurrence.proj_size(),
            level.directions.len()
        ))
    });
    levels.collect::<Vec<_>>().join(", ")
}

//! Measures which strategy is fastest for a network on a device.

use crate::base::clock::Instant;
use crate::base::error::{Error, Result};
use crate::device::Device;
use crate::measured::{Tuned, recurrences};
use crate::network::Network;
use crate::plan::{Arithmetic, Plan, PlanOptions, Strategy};
use crate::session::Session;
use crate::verify::RandomInput;

/// Candidates this many times slower than the best after one run are not timed again.
const HOPELESS: f64 = 3.0;

/// The candidates to measure.
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

/// Times every way to run `network` with T `steps` and B `batch` on `device`, with products in `arithmetic`, `runs`
/// times each in alternation with each other and with the CPU device, and returns the fastest. `None` for a network without a
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
    // If no candidate can run, the reason is an error.
    Session::with_options(&device.untuned(), network, PlanOptions::default().arithmetic(arithmetic))?;
    for options in candidates(PlanOptions::default().arithmetic(arithmetic)) {
        let session = match Session::with_options(&device.untuned(), network, options) {
            Ok(session) => session,
            // A way that cannot run here is not a candidate.
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

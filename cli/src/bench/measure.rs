//! Measurement. Every time includes reading back the output, and every output is checked.

use std::time::{Duration, Instant};

use gatefold::compare::{Comparison, Tolerance, compare};
use gatefold::unstable::reference::{Forward, Reference};
use gatefold::{
    Arithmetic, DeviceInfo, DeviceKind, Input, Network, Output, Plan, PlanLimits, PlanOptions, RandomInput, RunShape,
    Session, Strategy, Traffic, WeightFormat,
};

use super::Shape;
use crate::progress::Progress;
use crate::{Result, source};

/// Numbers of runs.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Untimed runs.
    pub warmup: u32,
    /// Timed runs.
    pub runs: u32,
    /// Time limit for one shape on all devices. At least one timed round is run; none is started after the limit.
    pub budget: Duration,
}

/// Options of the plan with which a shape is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variant {
    pub strategy: Option<Strategy>,
    pub weights: WeightFormat,
    pub arithmetic: Arithmetic,
}

impl Variant {
    fn options(self) -> PlanOptions {
        let options = PlanOptions::default().arithmetic(self.arithmetic);
        self.strategy.map_or(options, |strategy| options.strategy(strategy))
    }

    /// Tolerance against the reference with unrounded factors.
    fn tolerance(session: &Session, checked: usize) -> Tolerance {
        match session.arithmetic() {
            Arithmetic::F32 => Tolerance::f32(checked),
            _ => Tolerance::f16(checked),
        }
    }
}

/// A device with its measured bandwidth.
#[derive(Clone)]
pub struct Place {
    pub info: DeviceInfo,
    /// Bytes copied per second, read and written; `None` if the measurement failed.
    pub bandwidth: Option<f64>,
}

impl Place {
    /// Whether it computes on the CPU.
    pub fn slow(&self) -> bool {
        matches!(self.info.kind, DeviceKind::Cpu | DeviceKind::Software)
    }
}

/// Most multiply-adds of the f64 reference; of longer sequences only the first steps are checked.
pub const REFERENCE_WORK: u64 = 1 << 29;

/// One shape on one device.
pub struct Measurement {
    pub shape: Shape,
    pub place: Place,
    /// How the recurrence was run.
    pub strategy: String,
    /// The plan's reason.
    pub reason: String,
    /// Dispatches of a run; 0 on the CPU.
    pub dispatches: u64,
    /// Multiply-adds of a run.
    pub work: u64,
    /// Bytes moved by a run, as the plan estimates.
    pub traffic: Traffic,
    /// Timesteps that were checked, from the first.
    pub checked: usize,
    /// Loading the network onto an open device and the first run, shaders compiled.
    pub cold: Duration,
    /// From the call to the answer in memory, of every timed run.
    pub wall: Vec<Duration>,
    /// On the GPU alone, of further runs; empty where there are no timestamps.
    pub gpu: Vec<Duration>,
    /// Recording and submitting on the host, of the runs of `wall`.
    pub encode: Vec<Duration>,
    /// The worst of all runs, the untimed ones too: output and final cell state.
    pub comparison: Comparison,
    pub tolerance: Tolerance,
}

impl Measurement {
    /// Whether every answer was within tolerance.
    pub fn right(&self) -> bool {
        self.comparison.passed
    }

    fn check(&mut self, output: &Output, exact: &Forward<f64>) {
        let expected = exact.stages.last().map_or(&[][..], Vec::as_slice);
        let values = output.values.get(..expected.len()).unwrap_or(&output.values);
        self.keep(compare(values, expected, self.tolerance));
        if self.checked < self.shape.steps {
            return; // The reference stopped at an earlier step, so the states differ.
        }
        for (got, exact) in output.state.layers.iter().zip(&exact.state.layers) {
            for (got, exact) in got.parts.iter().zip(&exact.parts) {
                self.keep(compare(&got.data, &exact.data, self.tolerance));
            }
        }
    }

    /// The worse of two; NaN is the worst.
    fn keep(&mut self, other: Comparison) {
        let passed = self.comparison.passed && other.passed;
        if other.max_error.is_nan() || other.max_error > self.comparison.max_error {
            self.comparison = other;
        }
        self.comparison.passed = passed;
    }
}

/// A device on which the shape has run once.
struct Runner {
    session: Session,
    measurement: Measurement,
}

/// Multiply-adds of a run and the bytes it moves at one dispatch per timestep, for any device.
pub fn ideal(network: &Network, shape: &Shape) -> Result<Plan> {
    let limits = PlanLimits { max_binding: u64::MAX, max_buffer: u64::MAX, ..PlanLimits::default() };
    Ok(Plan::new(network, RunShape::new(shape.steps, shape.batch), &limits, &PlanOptions::default())?)
}

/// Data shared by all runners of a shape.
struct Problem<'a> {
    shape: &'a Shape,
    network: &'a Network,
    input: Input<'a>,
    ideal: &'a Plan,
    exact: &'a Forward<f64>,
    checked: usize,
}

/// Device, options and result.
pub type Measured = (DeviceInfo, Variant, Result<Measurement>);

/// Times `shape` on all `places` in alternation, so that a slowdown of the machine affects all of them.
pub fn shape(
    shape: &Shape,
    places: &[Place],
    variants: &[Variant],
    counts: Counts,
    seed: u64,
    progress: &mut Progress,
) -> Result<Vec<Measured>> {
    let start = Instant::now();
    // All variants have the same weight format and share the expected output.
    let weights = variants.first().map(|variant| variant.weights).unwrap_or_default();
    let network = Network::random(shape.spec(), seed)?.with_weights(weights)?;
    let input = RandomInput::new(&network, shape.steps, shape.batch, seed)?;
    let ideal = ideal(&network, shape)?;
    let (exact, checked) = exact(shape, &network, &input, ideal.work())?;
    let problem = Problem { shape, network: &network, input: input.as_input(), ideal: &ideal, exact: &exact, checked };
    let mut runners: Vec<(DeviceInfo, Variant, Result<Runner>)> = Vec::new();
    for place in places {
        // The CPU device has only one strategy.
        let variants =
            if place.info.kind == DeviceKind::Cpu { &[Variant { weights, ..Variant::default() }] } else { variants };
        for &variant in variants {
            runners.push((place.info.clone(), variant, cold(&problem, place, variant)));
        }
    }
    let mut timed = 0;
    for round in 0..counts.warmup.saturating_add(counts.runs) {
        let late = start.elapsed() > counts.budget;
        if late && timed > 0 {
            break;
        }
        let now = late || round >= counts.warmup;
        for (info, _, runner) in &mut runners {
            if let Ok(ready) = runner
                && let Err(error) = warm(ready, input.as_input(), &exact, now)
            {
                *runner = Err(error);
            }
            progress.advance(1, &format!("{shape} on {}", info.name));
        }
        timed += u32::from(now);
    }
    let measured = |runner: Result<Runner>| runner.map(|runner| runner.measurement);
    Ok(runners.into_iter().map(|(info, variant, runner)| (info, variant, measured(runner))).collect())
}

/// The expected output; only of the first steps if the reference would take too long for all. Layers that run backwards
/// need all steps.
fn exact(shape: &Shape, network: &Network, input: &RandomInput, work: u64) -> Result<(Forward<f64>, usize)> {
    let reference = Reference::<f64>::new(network);
    let per_step = work / shape.steps as u64;
    let checked = shape.steps.min(usize::try_from(REFERENCE_WORK / per_step.max(1))?.max(1));
    match input {
        RandomInput::Features(values, [_, batch, width]) if checked < shape.steps && !shape.bidirectional => {
            let first = &values[..checked * batch * width];
            Ok((reference.forward(Input::features(first, [checked, *batch, *width]), None)?, checked))
        }
        input => Ok((reference.forward(input.as_input(), None)?, shape.steps)),
    }
}

/// A new device, so that no kernel compiled for another shape is reused.
fn cold(problem: &Problem<'_>, place: &Place, variant: Variant) -> Result<Runner> {
    let &Problem { shape, network, input, ideal, exact, checked } = problem;
    let device = source::untuned(&source::exactly(&place.info))?;
    let start = Instant::now();
    let session = Session::with_options(&device, network, variant.options())?;
    let output = session.run(input, None)?;
    let cold = start.elapsed();
    let plan = session.plan(shape.steps, shape.batch)?;
    let (strategy, reason) = match &plan {
        Some(plan) => chosen(plan),
        None => ("vectors".to_owned(), session.device().info().driver.clone()),
    };
    let strategy = match variant.weights {
        WeightFormat::F32 => strategy,
        format => format!("{strategy} {format}"),
    };
    let strategy = match session.arithmetic() {
        Arithmetic::F32 => strategy,
        arithmetic => format!("{strategy} in {arithmetic}"),
    };
    let comparison = Comparison { max_error: 0.0, mean_error: 0.0, worst: 0, used: 0.0, passed: true };
    let mut measurement = Measurement {
        shape: shape.clone(),
        place: place.clone(),
        strategy,
        reason,
        dispatches: plan.as_ref().map_or(0, Plan::dispatch_count),
        work: plan.as_ref().unwrap_or(ideal).work(),
        traffic: Traffic::of(plan.as_ref().unwrap_or(ideal)),
        checked,
        cold,
        wall: Vec::new(),
        gpu: Vec::new(),
        encode: Vec::new(),
        comparison,
        tolerance: Variant::tolerance(&session, checked),
    };
    measurement.check(&output, exact);
    Ok(Runner { session, measurement })
}

/// The strategies of a plan, each once, and the reasons.
fn chosen(plan: &Plan) -> (String, String) {
    let mut strategies: Vec<String> = plan.choices.iter().map(|choice| choice.strategy.to_string()).collect();
    strategies.dedup();
    let reasons =
        plan.choices.iter().map(|choice| choice.reason.as_str()).chain(plan.reasons.iter().map(String::as_str));
    let mut reasons: Vec<&str> = reasons.collect();
    reasons.dedup();
    (strategies.join("+"), reasons.join("; "))
}

/// One more run. GPU time is measured in a separate run, because reading timestamps back takes time.
fn warm(runner: &mut Runner, input: Input<'_>, exact: &Forward<f64>, timed: bool) -> Result<()> {
    let Runner { session, measurement } = runner;
    let output = session.run(input, None)?;
    measurement.check(&output, exact);
    if !timed {
        return Ok(());
    }
    let first = measurement.wall.is_empty();
    measurement.wall.push(output.timing.wall);
    measurement.encode.extend(output.timing.encoding);
    if session.device().info().kind != DeviceKind::Cpu && (first || !measurement.gpu.is_empty()) {
        let output = session.run_timed(input, None)?;
        measurement.check(&output, exact);
        measurement.gpu.extend(output.timing.gpu);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The negative control: a wrong output must be detected, even if a correct one follows.
    #[test]
    fn one_wrong_answer_stays_wrong() {
        let shape: Shape = "hidden=3,steps=2".parse().expect("a shape");
        let network = Network::random(shape.spec(), 1).expect("a network");
        let input = RandomInput::new(&network, shape.steps, shape.batch, 1).expect("an input");
        let exact = Reference::<f64>::new(&network).forward(input.as_input(), None).expect("an answer");
        let ideal = ideal(&network, &shape).expect("a plan");
        let (network, input_, checked) = (&network, input.as_input(), shape.steps);
        let problem = Problem { shape: &shape, network, input: input_, ideal: &ideal, exact: &exact, checked };
        let place = Place { info: DeviceInfo::cpu(), bandwidth: None };
        let Runner { session, mut measurement } = cold(&problem, &place, Variant::default()).expect("a runner");
        assert!(measurement.right());
        let right = session.run(input.as_input(), None).expect("an answer");
        for wrong in [1e-3, f32::NAN] {
            let mut output = right.clone();
            output.values[1] += wrong;
            measurement.check(&output, &exact);
            measurement.check(&right, &exact);
            assert!(!measurement.right());
        }
        assert!(measurement.comparison.max_error.is_nan());
    }
}

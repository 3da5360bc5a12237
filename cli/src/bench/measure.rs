//! The clock. Every time is that of a run whose answer is in memory, and every answer is checked.

use std::time::{Duration, Instant};

use gatefold::compare::{Comparison, Tolerance, compare};
use gatefold::reference::{Forward, Reference};
use gatefold::{Device, DeviceInfo, Input, Network, Output, RandomInput, Session};

use super::Shape;
use crate::progress::Progress;
use crate::{Result, source};

/// How often.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Untimed runs.
    pub warmup: u32,
    /// Timed runs.
    pub runs: u32,
}

/// One shape on one device.
pub struct Measurement {
    pub shape: Shape,
    pub device: DeviceInfo,
    /// Loading the network onto an open device and the first run, shaders compiled.
    pub cold: Duration,
    /// From the call to the answer in memory, of every timed run.
    pub wall: Vec<Duration>,
    /// On the GPU alone, of further runs; empty where there are no timestamps.
    pub gpu: Vec<Duration>,
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
        self.keep(compare(&output.values, expected, self.tolerance));
        for (got, exact) in output.state.layers.iter().zip(&exact.state.layers) {
            self.keep(compare(&got.c, &exact.c, self.tolerance));
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

/// Times `shape` on all `devices` in turns, so that a machine that slows down slows all of them.
pub fn shape(
    shape: &Shape,
    devices: &[DeviceInfo],
    counts: Counts,
    seed: u64,
    progress: &mut Progress,
) -> Result<Vec<(DeviceInfo, Result<Measurement>)>> {
    let network = Network::random(shape.spec(), seed)?;
    let input = RandomInput::new(&network, shape.steps, shape.batch, seed);
    let exact = Reference::<f64>::new(&network).forward(input.as_input(), None)?;
    let mut runners: Vec<(DeviceInfo, Result<Runner>)> = Vec::new();
    for info in devices {
        runners.push((info.clone(), cold(shape, info, &network, input.as_input(), &exact)));
    }
    for round in 0..counts.warmup.saturating_add(counts.runs) {
        for (info, runner) in &mut runners {
            if let Ok(ready) = runner
                && let Err(error) = warm(ready, input.as_input(), &exact, round >= counts.warmup)
            {
                *runner = Err(error);
            }
            progress.advance(1, &format!("{shape} on {}", info.name));
        }
    }
    Ok(runners.into_iter().map(|(info, runner)| (info, runner.map(|runner| runner.measurement))).collect())
}

/// A fresh device, so that nothing compiled for another shape helps this one.
fn cold(shape: &Shape, info: &DeviceInfo, network: &Network, input: Input<'_>, exact: &Forward<f64>) -> Result<Runner> {
    let device = Device::open(&source::exactly(info))?;
    let start = Instant::now();
    let session = Session::new(&device, network)?;
    let output = session.run(input, None)?;
    let cold = start.elapsed();
    let comparison = Comparison { max_error: 0.0, mean_error: 0.0, worst: 0, used: 0.0, passed: true };
    let mut measurement = Measurement {
        shape: shape.clone(),
        device: info.clone(),
        cold,
        wall: Vec::new(),
        gpu: Vec::new(),
        comparison,
        tolerance: Tolerance::f32(shape.steps),
    };
    measurement.check(&output, exact);
    Ok(Runner { session, measurement })
}

/// One more run. The GPU's own time comes from a run of its own: reading timestamps back takes time too.
fn warm(runner: &mut Runner, input: Input<'_>, exact: &Forward<f64>, timed: bool) -> Result<()> {
    let Runner { session, measurement } = runner;
    let output = session.run(input, None)?;
    measurement.check(&output, exact);
    if !timed {
        return Ok(());
    }
    let first = measurement.wall.is_empty();
    measurement.wall.push(output.timing.wall);
    if session.device().info().kind != gatefold::DeviceKind::Cpu && (first || !measurement.gpu.is_empty()) {
        let output = session.run_timed(input, None)?;
        measurement.check(&output, exact);
        measurement.gpu.extend(output.timing.gpu);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The negative control: a wrong answer must be seen, even when a right one follows.
    #[test]
    fn one_wrong_answer_stays_wrong() {
        let shape: Shape = "hidden=3,steps=2".parse().expect("a shape");
        let network = Network::random(shape.spec(), 1).expect("a network");
        let input = RandomInput::new(&network, shape.steps, shape.batch, 1);
        let exact = Reference::<f64>::new(&network).forward(input.as_input(), None).expect("an answer");
        let Runner { session, mut measurement } =
            cold(&shape, &DeviceInfo::cpu(), &network, input.as_input(), &exact).expect("a runner");
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

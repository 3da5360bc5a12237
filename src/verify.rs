//! Compares a device with the f64 reference, stage by stage.

use std::sync::Arc;

use crate::adapter::DeviceInfo;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::base::wait::wait;
use crate::compare::{
    Comparison, REFERENCE_SHARE, REFERENCE_TIMES, REFERENCE_TIMES_MEAN, Tolerance, compare, compare_with_nan,
};
use crate::data::input::{Checked, Input};
use crate::data::named_input::NamedInput;
use crate::data::run::Wait;
use crate::data::state::State;
use crate::host::Reference;
use crate::network::{InputKind, Network, NetworkInput, Source, Stage, StageKind, StageRounding};
use crate::plan::Arithmetic;
use crate::session::Session;

/// The result of [`verify`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verification {
    /// The device that was checked.
    pub device: Arc<DeviceInfo>,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// One row per stage output, then h_n and, of an LSTM, c_n of every recurrent layer.
    pub checks: Vec<Check>,
}

/// One compared tensor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// The stage, or the recurrent layer with `h_n` or `c_n`.
    pub label: String,
    /// Its shape, time-major.
    pub shape: Vec<usize>,
    /// The difference from the f64 reference.
    pub comparison: Comparison,
    /// The allowed difference.
    pub tolerance: Tolerance,
    /// The difference of the f32 reference from the f64 reference: the error of f32 arithmetic there.
    pub reference: Comparison,
    /// Largest number of the f64 reference.
    pub largest: f64,
    /// Whether the f64 reference has NaN there: the network has no number for this input.
    pub undefined: bool,
    /// The verdict.
    pub verdict: Verdict,
}

/// The verdict of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every number is within tolerance.
    WithinTolerance,
    /// Some are not, but no further off than f32 arithmetic is there: at most [`REFERENCE_TIMES`] the largest and
    /// [`REFERENCE_TIMES_MEAN`] the mean error of the f32 reference. This happens where weights or sums are large.
    AsF32,
    /// The numbers are wrong.
    Failed,
}

/// How a device's numbers are judged.
#[derive(Clone, Copy)]
struct Judged {
    /// They were summed in f32, so that they may be judged by the f32 reference.
    by_reference: bool,
    /// The input is not finite, so that NaN may be right.
    with_nan: bool,
}

impl Check {
    /// Compares `got` and the f32 reference's `single` with the f64 reference's `exact`.
    fn new(
        label: String,
        shape: Vec<usize>,
        [got, single]: [&[f32]; 2],
        exact: &[f64],
        tolerance: Tolerance,
        judged: Judged,
    ) -> Self {
        let compare = if judged.with_nan { compare_with_nan } else { compare };
        let (comparison, reference) = (compare(got, exact, tolerance), compare(single, exact, tolerance));
        let largest = exact.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let undefined = exact.iter().any(|x| x.is_nan());
        let verdict = Verdict::Failed;
        let mut check = Self { label, shape, comparison, tolerance, reference, largest, undefined, verdict };
        // NaN and infinity fail every one of these.
        let as_f32 = judged.by_reference
            && got.len() == exact.len()
            && check.f32_can()
            && comparison.max_error <= REFERENCE_TIMES * reference.max_error
            && comparison.mean_error <= REFERENCE_TIMES_MEAN * reference.mean_error;
        check.verdict = match (comparison.passed, as_f32) {
            (true, _) => Verdict::WithinTolerance,
            (false, true) => Verdict::AsF32,
            (false, false) => Verdict::Failed,
        };
        check
    }

    /// Whether the f32 reference is close enough to the f64 reference to judge a device by it.
    #[must_use]
    pub fn f32_can(&self) -> bool {
        self.largest.is_finite() && self.reference.max_error <= REFERENCE_SHARE * self.largest
    }

    /// Whether the numbers are right.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict != Verdict::Failed
    }

    /// Position of the worst element in [`Check::shape`].
    #[must_use]
    pub fn position(&self) -> Vec<usize> {
        let mut rest = self.comparison.worst;
        let mut position: Vec<usize> = self
            .shape
            .iter()
            .rev()
            .map(|&n| {
                let index = rest % n.max(1);
                rest /= n.max(1);
                index
            })
            .collect();
        position.reverse();
        position
    }
}

impl Verification {
    /// Whether every tensor is right.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(Check::passed)
    }
}

/// Runs `session` on `input` and compares every stage's output and the final state with the
/// f64 reference of `reference`, which is the session's network unless a test plants a fault.
///
/// # Errors
/// As [`Session::run`].
pub fn verify(session: &Session, reference: &Network, input: Input<'_>, state: Option<&State>) -> Result<Verification> {
    wait("verify_async", verify_with(session, reference, input, state, Wait::Block))
}

/// As [`verify`], without blocking while the GPU works. The references are computed at once.
///
/// # Errors
/// As [`Session::run`].
pub async fn verify_async(
    session: &Session,
    reference: &Network,
    input: Input<'_>,
    state: Option<&State>,
) -> Result<Verification> {
    verify_with(session, reference, input, state, Wait::Await).await
}

async fn verify_with(
    session: &Session,
    reference: &Network,
    input: Input<'_>,
    state: Option<&State>,
    wait: Wait,
) -> Result<Verification> {
    let checked = Checked::new(reference, input, state)?;
    let (steps, batch) = (checked.steps, checked.batch);
    // What a device rounds on purpose is rounded in the reference too, so that it does not count as an error.
    let roundings = session.plan(steps, batch)?.map(|plan| plan.roundings()).unwrap_or_default();
    // Weights in f64 and in f32.
    room(|| "weights of the reference".into(), reference.parameters(), size_of::<f64>() + size_of::<f32>())?;
    let exact = Reference::<f64>::rounding(reference, &roundings).forward(input, state)?;
    let single = Reference::<f32>::rounding(reference, &roundings).forward(input, state)?;
    let got = session.trace_with(input, state, wait).await?;
    let tolerance = match session.arithmetic() {
        Arithmetic::F32 => Tolerance::f32(steps),
        Arithmetic::F16 => Tolerance::f16(steps),
        Arithmetic::Matrix if roundings.iter().all(|stage| *stage == StageRounding::default()) => Tolerance::f32(steps),
        Arithmetic::Matrix => Tolerance::matrix(steps),
    };
    // Matrix units sum in f32, of factors that the reference rounds as they do.
    let by_reference = session.arithmetic() != Arithmetic::F16;
    let judged = Judged { by_reference, with_nan: !checked.is_finite() };
    let check = |label: String, shape: Vec<usize>, got: &[f32], exact: &[f64], single: &[f32]| {
        Check::new(label, shape, [got, single], exact, tolerance, judged)
    };
    let mut checks = Vec::new();
    let mut stage_steps = Vec::new();
    reference.stage_steps_into(|number| checked.steps_of(number), &mut stage_steps)?;
    for (index, stage) in reference.stages().iter().enumerate() {
        let part = |stages: &[Vec<f32>]| stages.get(index).cloned().unwrap_or_default();
        let mut numbers = part(&got.stages);
        if let (StageKind::ArgMax, Source::Stage(scores)) = (&stage.kind, stage.inputs[0]) {
            settle_ties(&mut numbers, &exact.stages[index], &exact.stages[scores], &checks[scores]);
        }
        let exact = &exact.stages[index];
        checks.push(check(
            stage.label.clone(),
            shape(stage, stage_steps[index], batch),
            &numbers,
            exact,
            &part(&single.stages),
        ));
    }
    for (index, exact) in exact.state.layers.iter().enumerate() {
        let (got, single) = (&got.state.layers[index], &single.state.layers[index]);
        for ((exact_part, got), single) in exact.parts.iter().zip(&got.parts).zip(&single.parts) {
            let label = format!("{} {}_n", exact.name, exact_part.name);
            checks.push(check(label, exact_part.shape.to_vec(), &got.data, &exact_part.data, &single.data));
        }
    }
    Ok(Verification { device: session.device().info().clone(), steps, batch, checks })
}

/// Places of largest numbers: one that is not the reference's is as right if the two numbers are as near to each other as the
/// error that the numbers may have.
fn settle_ties(places: &mut [f32], exact: &[f64], numbers: &[f64], check: &Check) {
    let features = numbers.len().checked_div(exact.len()).unwrap_or(0);
    if features == 0 || !check.passed() || places.len() != exact.len() {
        return;
    }
    for ((got, &right), row) in places.iter_mut().zip(exact).zip(numbers.chunks_exact(features)) {
        let at = |place: f64| (0..features).zip(row).find(|(at, _)| *at as f64 == place).map(|(_, &number)| number);
        let (Some(largest), Some(other)) = (at(right), at(f64::from(*got))) else { continue };
        let allowed = check.tolerance.atol + check.tolerance.rtol * largest.abs();
        let error = if check.comparison.passed { allowed } else { check.comparison.max_error };
        if largest - other <= 2.0 * error {
            #[expect(clippy::cast_possible_truncation, reason = "a place, at most 2^24")]
            let right = right as f32;
            *got = right;
        }
    }
}

fn shape(stage: &Stage, steps: usize, batch: usize) -> Vec<usize> {
    if stage.sequence_out { vec![steps, batch, stage.out_features] } else { vec![batch, stage.out_features] }
}

/// A random input for `network`, row-major; the same seed gives the same input.
#[derive(Clone, Debug)]
pub enum RandomInput {
    /// For networks that begin with an embedding.
    Tokens(Vec<u32>, [usize; 2]),
    /// For networks that read a sequence of vectors, uniform in ±1.
    Features(Vec<f32>, [usize; 3]),
    /// For networks that read a vector for each batch row, uniform in ±1.
    Rows(Vec<f32>, [usize; 2]),
    /// For networks of several inputs: the first, which is one of the above, and the others.
    Several(Box<Self>, Vec<NamedInput<'static>>),
}

impl RandomInput {
    /// Most numbers of one.
    pub const MOST: usize = 1 << 28;

    /// T `steps` and B `batch` rows, in the network's own order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than [`RandomInput::MOST`] numbers, or more than this machine has memory for.
    pub fn new(network: &Network, steps: usize, batch: usize, seed: u64) -> Result<Self> {
        Self::drawn(network, [steps, batch], seed, |x| x * 2.0 - 1.0)
    }

    /// As [`RandomInput::new`], uniform in 0 to 1: for networks that have no number for negative inputs, as a square
    /// root does not.
    ///
    /// # Errors
    /// As [`RandomInput::new`].
    pub fn non_negative(network: &Network, steps: usize, batch: usize, seed: u64) -> Result<Self> {
        Self::drawn(network, [steps, batch], seed, |x| x)
    }

    /// With numbers that `number` makes of those from 0 to 1.
    fn drawn(network: &Network, [steps, batch]: [usize; 2], seed: u64, number: impl Fn(f32) -> f32) -> Result<Self> {
        let widths = network.inputs().iter().map(|input| input.width).sum();
        let numbers = [steps, batch, widths].into_iter().fold(1, usize::saturating_mul);
        let what = || format!("random input of T = {steps}, B = {batch}");
        if numbers > Self::MOST {
            return Err(Error::TooLarge {
                what: what(),
                needed: numbers as u64,
                limit: Self::MOST as u64,
                limit_name: "2^28 numbers".into(),
            });
        }
        room(what, numbers, size_of::<f32>())?;
        let mut generator = fastrand::Rng::with_seed(seed);
        let mut one = |(index, input): (usize, &NetworkInput)| {
            let NetworkInput { kind, width, num_embeddings, .. } = *input;
            let steps = network.steps_of_input(index, steps);
            let [outer, inner] = if network.batch_first() { [batch, steps] } else { [steps, batch] };
            match kind {
                InputKind::Tokens => {
                    let most = num_embeddings.map_or(1, |most| u32::try_from(most).unwrap_or(u32::MAX));
                    Self::Tokens((0..steps * batch).map(|_| generator.u32(0..most)).collect(), [outer, inner])
                }
                InputKind::Row => {
                    Self::Rows((0..batch * width).map(|_| number(generator.f32())).collect(), [batch, width])
                }
                _ => {
                    let values = (0..steps * batch * width).map(|_| number(generator.f32())).collect();
                    Self::Features(values, [outer, inner, width])
                }
            }
        };
        let mut inputs = network.inputs().iter().enumerate();
        let first = inputs.next().map_or(Self::Rows(Vec::new(), [batch, 0]), &mut one);
        let others: Vec<NamedInput<'static>> = inputs
            .filter_map(|(index, input)| match one((index, input)) {
                Self::Tokens(ids, shape) => Some(NamedInput::tokens(input.name.clone(), ids, shape)),
                Self::Features(values, shape) => Some(NamedInput::features(input.name.clone(), values, shape)),
                Self::Rows(values, shape) => Some(NamedInput::rows(input.name.clone(), values, shape)),
                Self::Several(..) => None,
            })
            .collect();
        Ok(if others.is_empty() { first } else { Self::Several(Box::new(first), others) })
    }

    /// As the argument of a run.
    #[must_use]
    pub fn as_input(&self) -> Input<'_> {
        match self {
            Self::Tokens(ids, shape) => Input::tokens(ids, *shape),
            Self::Features(values, shape) => Input::features(values, *shape),
            Self::Rows(values, shape) => Input::rows(values, *shape),
            Self::Several(first, others) => first.as_input().with_others(others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F32: Judged = Judged { by_reference: true, with_nan: false };

    fn exact() -> Vec<f64> {
        (0u8..48).map(|at| f64::from(at).sin()).collect()
    }

    /// A tensor of 6 steps, 2 rows and 4 features on which f32 is off by about 1e-5, more than the tolerance.
    fn tensor(got: impl Fn(usize, f64) -> f64) -> Check {
        let exact = exact();
        let rounded = |at: usize, x: f64| if at.is_multiple_of(3) { x + 1e-5 } else { x - 1e-5 };
        #[expect(clippy::cast_possible_truncation, reason = "a device's f32")]
        let single: Vec<f32> = exact.iter().enumerate().map(|(at, &x)| rounded(at, x) as f32).collect();
        #[expect(clippy::cast_possible_truncation, reason = "a device's f32")]
        let got: Vec<f32> = exact.iter().enumerate().map(|(at, &x)| got(at, x) as f32).collect();
        Check::new("x".into(), vec![6, 2, 4], [&got, &single], &exact, Tolerance::f32(6), F32)
    }

    #[test]
    fn errors_as_large_as_those_of_f32_pass() {
        assert_eq!(tensor(|_, x| x).verdict, Verdict::WithinTolerance);
        assert_eq!(tensor(|at, x| x + if at % 2 == 0 { 4e-5 } else { -2e-5 }).verdict, Verdict::AsF32);
        assert_eq!(tensor(|at, x| x + if at == 5 { 7e-5 } else { 1e-5 }).verdict, Verdict::AsF32);
    }

    #[test]
    fn larger_errors_and_no_numbers_fail() {
        assert_eq!(tensor(|at, x| x + if at == 5 { 1e-4 } else { 0.0 }).verdict, Verdict::Failed, "one number");
        assert_eq!(tensor(|_, x| x + 6e-5).verdict, Verdict::Failed, "the mean");
        assert_eq!(tensor(|at, x| if at == 7 { f64::NAN } else { x }).verdict, Verdict::Failed);
        assert_eq!(tensor(|at, x| if at == 7 { f64::INFINITY } else { x }).verdict, Verdict::Failed);
        // One row of one step is that of the step before.
        let before = exact();
        let wrong = tensor(|at, x| if (24..28).contains(&at) { before[at - 8] } else { x });
        assert_eq!(wrong.verdict, Verdict::Failed);
    }

    /// If the f32 reference itself is inaccurate, a device is not judged by it.
    #[test]
    fn a_reference_that_is_far_off_excuses_nothing() {
        let exact = [1.0, -0.5];
        let check = |single: [f32; 2]| {
            Check::new("x".into(), vec![2], [&[1.001, -0.5], &single], &exact, Tolerance::f32(1), F32).verdict
        };
        assert_eq!(check([1.0009, -0.5]), Verdict::AsF32);
        assert_eq!(check([1.1, -0.5]), Verdict::Failed);
        assert_eq!(check([f32::NAN, -0.5]), Verdict::Failed);
    }

    /// NaN where the network has none is a failure, but one that another input avoids.
    #[test]
    fn nan_of_the_reference_is_told_apart() {
        let check =
            |exact: [f64; 2]| Check::new("x".into(), vec![2], [&[f32::NAN, 1.0]; 2], &exact, Tolerance::f32(1), F32);
        assert!(check([f64::NAN, 1.0]).undefined && !check([0.5, 1.0]).undefined);
        assert_eq!(check([f64::NAN, 1.0]).verdict, Verdict::Failed);
    }

    /// Of two numbers within the error of each other, the place of either is the place of the largest.
    #[test]
    fn a_near_tie_has_two_places() {
        let numbers = [1.0, 1.000_001, 0.5, 2.0, 1.0, 1.0];
        let check = |first: f32| {
            let got = [first, 1.000_001, 0.5, 2.0, 1.0, 1.0];
            Check::new("x".into(), vec![2, 3], [&got, &got], &numbers, Tolerance::f32(1), F32)
        };
        let settled = |mut places: [f32; 2], check: &Check| {
            settle_ties(&mut places, &[1.0, 0.0], &numbers, check);
            places
        };
        assert_eq!(settled([0.0, 0.0], &check(1.0)), [1.0, 0.0]);
        assert_eq!(settled([2.0, 1.0], &check(1.0)), [2.0, 1.0], "the control: no ties");
        assert_eq!(settled([0.5, 7.0], &check(1.0)), [0.5, 7.0], "no places");
        assert_eq!(settled([0.0, 0.0], &check(1.5)), [0.0, 0.0], "numbers that are wrong");
    }

    #[test]
    fn arithmetic_of_fewer_bits_is_judged_by_its_tolerance_alone() {
        let check = Check::new(
            "x".into(),
            vec![1],
            [&[1.00005], &[1.00002]],
            &[1.0],
            Tolerance::f32(1),
            Judged { by_reference: false, with_nan: false },
        );
        assert_eq!(check.verdict, Verdict::Failed);
    }
}

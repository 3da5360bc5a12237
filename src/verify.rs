//! A device's numbers against the f64 reference, stage by stage.

use std::sync::Arc;

use crate::compare::{Comparison, Tolerance, compare};
use crate::device::DeviceInfo;
use crate::error::{Error, Result};
use crate::input::{Checked, Input};
use crate::network::{Network, Stage};
use crate::plan::{Arithmetic, StageRounding};
use crate::reference::Reference;
use crate::room::room;
use crate::session::Session;
use crate::state::State;

/// The result of [`verify`].
#[derive(Clone, Debug)]
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
pub struct Check {
    /// The stage, or the recurrent layer with `h_n` or `c_n`.
    pub label: String,
    /// Its shape, time-major.
    pub shape: Vec<usize>,
    /// The difference from the f64 reference.
    pub comparison: Comparison,
    /// What was allowed.
    pub tolerance: Tolerance,
    /// Largest difference of the f32 reference from the f64 reference: a yardstick.
    pub reference_error: f64,
}

impl Check {
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
    /// Whether every tensor is within tolerance.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.comparison.passed)
    }
}

/// Runs `session` on `input` and compares every stage's output and the final state with the
/// f64 reference of `reference`, which is the session's network unless a test plants a fault.
///
/// # Errors
/// As [`Session::run`].
pub fn verify(session: &Session, reference: &Network, input: Input<'_>, state: Option<&State>) -> Result<Verification> {
    let checked = Checked::new(reference, input, state)?;
    let (steps, batch) = (checked.steps, checked.batch);
    // What a device rounds on purpose is rounded in the reference too, and not taken for an error.
    let roundings = session.plan(steps, batch)?.map(|plan| plan.roundings()).unwrap_or_default();
    // Weights in f64 and in f32.
    room(|| "weights of the reference".into(), reference.parameters(), size_of::<f64>() + size_of::<f32>())?;
    let exact = Reference::<f64>::rounding(reference, &roundings).forward(input, state)?;
    let single = Reference::<f32>::rounding(reference, &roundings).forward(input, state)?;
    let got = session.trace(input, state)?;
    let tolerance = match session.arithmetic() {
        Arithmetic::F32 => Tolerance::f32(steps),
        Arithmetic::F16 => Tolerance::f16(steps),
        Arithmetic::Matrix if roundings.iter().all(|stage| *stage == StageRounding::default()) => Tolerance::f32(steps),
        Arithmetic::Matrix => Tolerance::matrix(steps),
    };
    let check = |label: String, shape: Vec<usize>, got: &[f32], exact: &[f64], single: &[f32]| Check {
        label,
        shape,
        comparison: compare(got, exact, tolerance),
        tolerance,
        reference_error: compare(single, exact, tolerance).max_error,
    };
    let mut checks = Vec::new();
    let stage_steps = reference.stage_steps(steps)?;
    for (index, stage) in reference.stages().iter().enumerate() {
        let part = |stages: &[Vec<f32>]| stages.get(index).cloned().unwrap_or_default();
        let exact = &exact.stages[index];
        checks.push(check(
            stage.label.clone(),
            shape(stage, stage_steps[index], batch),
            &part(&got.stages),
            exact,
            &part(&single.stages),
        ));
    }
    for (index, exact) in exact.state.layers.iter().enumerate() {
        let (got, single) = (&got.state.layers[index], &single.state.layers[index]);
        let label = |part: &str| format!("{} {part}", exact.name);
        checks.push(check(label("h_n"), exact.h_shape.to_vec(), &got.h, &exact.h, &single.h));
        if !exact.c.is_empty() {
            checks.push(check(label("c_n"), exact.c_shape.to_vec(), &got.c, &exact.c, &single.c));
        }
    }
    Ok(Verification { device: session.device().info().clone(), steps, batch, checks })
}

fn shape(stage: &Stage, steps: usize, batch: usize) -> Vec<usize> {
    if stage.sequence_out { vec![steps, batch, stage.out_features] } else { vec![batch, stage.out_features] }
}

/// A random input for `network`, row-major; the same seed gives the same input.
#[derive(Clone, Debug)]
pub enum RandomInput {
    /// For networks that begin with an embedding.
    Tokens(Vec<u32>, [usize; 2]),
    /// For all others, uniform in ±1.
    Features(Vec<f32>, [usize; 3]),
}

impl RandomInput {
    /// Most numbers of one.
    pub const MOST: usize = 1 << 28;

    /// T `steps` and B `batch` rows, in the network's own order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than [`RandomInput::MOST`] numbers, or more than this machine has memory for.
    pub fn new(network: &Network, steps: usize, batch: usize, seed: u64) -> Result<Self> {
        let width = if network.num_embeddings().is_some() { 1 } else { network.input_size() };
        let numbers = [steps, batch, width].into_iter().fold(1, usize::saturating_mul);
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
        let [outer, inner] = if network.batch_first() { [batch, steps] } else { [steps, batch] };
        Ok(match network.num_embeddings() {
            Some(num_embeddings) => {
                let most = u32::try_from(num_embeddings).unwrap_or(u32::MAX);
                Self::Tokens((0..numbers).map(|_| generator.u32(0..most)).collect(), [outer, inner])
            }
            None => {
                let values = (0..numbers).map(|_| generator.f32() * 2.0 - 1.0).collect();
                Self::Features(values, [outer, inner, width])
            }
        })
    }

    /// As the argument of a run.
    #[must_use]
    pub fn as_input(&self) -> Input<'_> {
        match self {
            Self::Tokens(ids, shape) => Input::tokens(ids, *shape),
            Self::Features(values, shape) => Input::features(values, *shape),
        }
    }
}

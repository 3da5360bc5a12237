//! A whole network by the reference: the reference implementations of its stages, one after the other.

use std::sync::Arc;

use super::{BatchNorms, Forward, Memory, begin, product, walk};
use crate::base::Real;
use crate::base::error::Result;
use crate::base::room::room;
use crate::data::input::{Checked, Input};
use crate::data::state::{LayerState, State};
use crate::network::{Network, RecurrentStage, Stage, StageKind, StageRounding};
use crate::reference::{LevelGradients, LevelShape, StageInput, StageWeights, factors, level, stateless};

/// Runs recurrent levels instead of the reference; `None` for a level that the reference runs.
pub(crate) trait LevelRunner<F> {
    /// Whether it runs a level.
    fn runs(&self, level: &RecurrentStage) -> bool;

    /// The output of the level at position `index`; its layer's state is updated.
    fn forward(
        &self,
        index: usize,
        stage: &Stage,
        level: &RecurrentStage,
        flow: &StageInput<'_, F>,
        state: &mut LayerState<F>,
    ) -> Option<Vec<F>>;

    /// The gradients of a level that [`LevelRunner::forward`] has run. The gradient of its layer's final state becomes that
    /// of the initial one.
    fn backward(
        &self,
        index: usize,
        stage: &Stage,
        level: &RecurrentStage,
        flow: &StageInput<'_, F>,
        d_output: &[F],
        d_state: &mut LayerState<F>,
    ) -> Option<LevelGradients<F>>;
}

/// Changes that training makes to a run.
#[derive(Clone, Copy)]
pub(crate) struct Hooks<'a, F> {
    /// Multiplies the output of the stage at a position by constants, or its gradient by the same.
    pub change: &'a dyn Fn(usize, &mut [F]),
    pub levels: Option<&'a dyn LevelRunner<F>>,
    /// Batch normalizations that take the statistics of the batch.
    pub norms: Option<&'a BatchNorms<'a, F>>,
}

impl<F> Default for Hooks<'_, F> {
    fn default() -> Self {
        Self { change: &|_, _| {}, levels: None, norms: None }
    }
}

/// A network prepared for the CPU in `F`.
#[derive(Clone, Debug)]
pub struct Reference<F> {
    pub(super) network: Arc<Network>,
    pub(super) weights: Vec<StageWeights<F>>,
    pub(super) roundings: Vec<StageRounding>,
}

impl<F: Real> Reference<F> {
    /// Converts the weights of `network` once.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        Self::rounding(network, &[])
    }

    /// As [`Reference::new`], with factors of products rounded to f16 as in the
    /// [plan](crate::Plan::roundings) of a run; a stage without a rounding is left as it is.
    #[must_use]
    pub fn rounding(network: &Network, roundings: &[StageRounding]) -> Self {
        let mut roundings = roundings.to_vec();
        roundings.resize_with(network.stages().len(), StageRounding::default);
        let weights = network
            .stages()
            .iter()
            .zip(&roundings)
            .map(|(stage, &rounding)| StageWeights::new(network, stage).rounded(rounding))
            .collect();
        Self { network: Arc::new(network.clone()), weights, roundings }
    }

    /// As [`Reference::new`], without the weights of the levels that `levels` runs.
    pub(crate) fn beside(network: &Arc<Network>, levels: &dyn LevelRunner<F>) -> Self {
        let stages = network.stages();
        let own = |stage: &Stage| stage.recurrent().is_none_or(|level| !levels.runs(level));
        let weights = |stage| if own(stage) { StageWeights::new(network, stage) } else { StageWeights::None };
        let roundings = vec![StageRounding::default(); stages.len()];
        Self { weights: stages.iter().map(weights).collect(), network: network.clone(), roundings }
    }

    /// The network this was made from.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs the network and keeps the output of every stage.
    ///
    /// # Errors
    /// Input or state of the wrong shape, a token outside the table.
    pub fn forward(&self, input: Input<'_>, state: Option<&State>) -> Result<Forward<F>> {
        self.forward_with(&Checked::new(&self.network, input, state)?, state, Hooks::default())
    }

    /// As [`Reference::forward`] with `hooks`.
    pub(crate) fn forward_with(
        &self,
        checked: &Checked<'_>,
        state: Option<&State>,
        hooks: Hooks<'_, F>,
    ) -> Result<Forward<F>> {
        let mut memory = Memory::default();
        let Memory { forward: Forward { stages, state: to }, steps } = &mut memory;
        begin(&self.network, checked.batch, state, to);
        walk(&self.network, checked, to, (stages, steps), |index, stage, flow, state, output| {
            let rounding = self.roundings[index];
            let normalized = hooks.norms.and_then(|norms| norms.forward(index, stage, flow));
            match (&stage.kind, &self.weights[index]) {
                (StageKind::Recurrent(recurrent), weights) => {
                    let &StageInput { steps, batch, mask, .. } = flow;
                    let projected = product([steps, batch, recurrent.gate_rows()]);
                    room(|| format!("{} projected inputs [T, B, G*H]", stage.label), projected, size_of::<F>())?;
                    let shape = LevelShape {
                        label: &stage.label,
                        steps,
                        batch,
                        sequence_out: stage.sequence_out,
                        mask,
                        rounding,
                    };
                    let state = &mut state.layers[recurrent.layer];
                    let levels = hooks.levels;
                    let run = levels.and_then(|levels| levels.forward(index, stage, recurrent, flow, state));
                    *output = match (run, weights.recurrent()) {
                        (Some(output), _) => output,
                        (None, directions) => level(
                            shape,
                            recurrent,
                            directions.unwrap_or_default(),
                            flow.inputs[0],
                            (&mut state.h, &mut state.c),
                        )?,
                    };
                }
                (_, weights @ StageWeights::Matrix { .. }) => {
                    // Padding is 0, rounded or not: a convolution may be rounded before its windows are cut.
                    let x = factors(flow.inputs[0], rounding.input);
                    stateless(stage, weights, &StageInput { inputs: &[&x], ..*flow }, output)?;
                }
                (_, weights) => match normalized {
                    Some(normalized) => *output = normalized,
                    None => stateless(stage, weights, flow, output)?,
                },
            }
            (hooks.change)(index, output);
            Ok(())
        })?;
        Ok(memory.forward)
    }
}

//! A whole network by the reference: the reference implementations of its stages, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BatchNorms, Forward, Memory, RunStart, begin, product, walk};
use crate::base::Real;
use crate::base::error::Result;
use crate::base::room::room;
use crate::data::input::{Checked, Input};
use crate::data::state::State;
use crate::network::{Network, Param, Stage, StageKind, StageRounding};
use crate::reference::{LevelShape, StageInput, StageWeights, ZoneoutMode, factors, level, run_ntm, stateless};

/// Where the gradients of parameters go.
pub(crate) trait ParamGradients<F> {
    /// The numbers that become the gradient of `param`, in its tensor's order; `None` where it is not wanted.
    fn place(&mut self, param: &Param) -> Option<&mut [F]>;
}

impl<F: Real> ParamGradients<F> for BTreeMap<String, Vec<F>> {
    fn place(&mut self, param: &Param) -> Option<&mut [F]> {
        let zeros = || vec![F::default(); param.shape.iter().product()];
        Some(self.entry(param.name.clone()).or_insert_with(zeros))
    }
}

/// What the backward pass of one stage reads and adds to.
pub(crate) struct StageBackward<'a, F> {
    /// Gradient of the output.
    pub d_output: &'a [F],
    /// Gradient of the only input, to be added to; `None` where it is not wanted.
    pub d_input: Option<&'a mut [F]>,
    /// Gradients of the final states; of a layer that was run, it becomes that of the initial state.
    pub d_state: &'a mut State<F>,
    pub params: &'a mut dyn ParamGradients<F>,
}

/// Runs stages instead of the reference.
pub(crate) trait StageRunner<F> {
    /// Whether it runs a stage; such a stage has one input and is no part of a loop.
    fn runs(&self, stage: &Stage) -> bool;

    /// Computes the output of the stage at position `index`; its layer's state is updated. False if the reference runs it.
    fn forward(
        &self,
        index: usize,
        stage: &Stage,
        flow: &StageInput<'_, F>,
        state: &mut State<F>,
        output: &mut Vec<F>,
    ) -> bool;

    /// Computes the gradients of a stage that [`StageRunner::forward`] has run. False if the reference does.
    fn backward(&self, index: usize, stage: &Stage, flow: &StageInput<'_, F>, pass: &mut StageBackward<'_, F>) -> bool;
}

/// Changes that training makes to a run.
#[derive(Clone, Copy)]
pub(crate) struct Hooks<'a, F> {
    /// Multiplies the output of the stage at a position by constants, or its gradient by the same.
    pub change: &'a dyn Fn(usize, &mut [F]),
    pub stages: Option<&'a dyn StageRunner<F>>,
    /// Batch normalizations that take the statistics of the batch.
    pub norms: Option<&'a BatchNorms<'a, F>>,
}

impl<F> Default for Hooks<'_, F> {
    fn default() -> Self {
        Self { change: &|_, _| {}, stages: None, norms: None }
    }
}

/// A network with the weights of the stages that the reference runs.
#[derive(Clone, Copy)]
pub(crate) struct ReferenceRun<'a, F> {
    pub network: &'a Network,
    /// Of each stage; [`StageWeights::None`] where a [`StageRunner`] runs it.
    pub weights: &'a [StageWeights<F>],
    /// Of each stage; none where there are fewer.
    pub roundings: &'a [StageRounding],
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
        self.run().forward(checked, state, hooks, &mut memory)?;
        Ok(memory.forward)
    }

    pub(super) fn run(&self) -> ReferenceRun<'_, F> {
        ReferenceRun { network: &self.network, weights: &self.weights, roundings: &self.roundings }
    }
}

impl<F: Real> ReferenceRun<'_, F> {
    /// Runs the network from `state`, or from its own initial one; `memory` is that of an earlier run, or new.
    pub fn forward(
        &self,
        checked: &Checked<'_>,
        state: Option<&State>,
        hooks: Hooks<'_, F>,
        memory: &mut Memory<F>,
    ) -> Result<()> {
        let Memory { forward: Forward { stages, state: to }, steps, behind } = memory;
        begin(self.network, checked.batch, state, to);
        let start = RunStart { continues: state.is_some(), ..RunStart::default() };
        walk(self.network, checked, (to, start), (stages, steps, behind), |index, stage, flow, state, output| {
            let runner = hooks.stages.filter(|_| !self.network.is_stepwise(index));
            if !runner.is_some_and(|stages| stages.forward(index, stage, flow, state, output)) {
                match hooks.norms.and_then(|norms| norms.forward(index, stage, flow)) {
                    Some(normalized) => *output = normalized,
                    None => self.stage(index, stage, flow, state, output)?,
                }
            }
            (hooks.change)(index, output);
            Ok(())
        })
    }

    /// The reference implementation of one stage.
    pub(super) fn stage(
        &self,
        index: usize,
        stage: &Stage,
        flow: &StageInput<'_, F>,
        state: &mut State<F>,
        output: &mut Vec<F>,
    ) -> Result<()> {
        let rounding = self.rounding(index);
        match (&stage.kind, &self.weights[index]) {
            (StageKind::Recurrent(recurrent), weights) => {
                let &StageInput { steps, batch, mask, .. } = flow;
                let projected = product([steps, batch, recurrent.gate_rows()]);
                room(|| format!("{} projected inputs [T, B, G*H]", stage.label), projected, size_of::<F>())?;
                let sequence_out = stage.sequence_out;
                let shape = LevelShape {
                    label: &stage.label,
                    steps,
                    batch,
                    sequence_out,
                    mask,
                    rounding,
                    zoneout: ZoneoutMode::Mean,
                };
                let layer = &mut state.layers[recurrent.layer];
                let mut cells = layer.cells();
                let directions = weights.recurrent().unwrap_or_default();
                let [h, _] = layer.h_and_c();
                *output = level(shape, recurrent, directions, flow.inputs[0], (h, &mut cells))?;
                layer.set_cells(&cells);
                Ok(())
            }
            (StageKind::Ntm(ntm), StageWeights::Ntm(weights)) => {
                let state = state.layers[ntm.layer].of_memory();
                *output = run_ntm((stage, ntm), weights, flow, rounding, state)?;
                Ok(())
            }
            (_, weights @ StageWeights::Matrix { .. }) => {
                // Padding is 0, rounded or not: a convolution may be rounded before its windows are cut.
                let x = factors(flow.inputs[0], rounding.input);
                stateless(stage, weights, &StageInput { inputs: &[&x], ..*flow }, output)
            }
            (_, weights) => stateless(stage, weights, flow, output),
        }
    }

    pub(super) fn rounding(&self, index: usize) -> StageRounding {
        self.roundings.get(index).copied().unwrap_or_default()
    }
}

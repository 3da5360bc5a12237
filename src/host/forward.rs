//! A whole network by the reference: the twins of its stages, one after the other.

use super::{Forward, Memory, begin, product, walk};
use crate::base::Real;
use crate::base::error::Result;
use crate::base::room::room;
use crate::data::input::{Checked, Input};
use crate::data::state::State;
use crate::network::{Network, StageKind, StageRounding};
use crate::reference::{LevelShape, StageInput, StageWeights, factors, level, stateless};

/// A network prepared for the CPU in `F`.
#[derive(Clone, Debug)]
pub struct Reference<F> {
    network: Network,
    weights: Vec<StageWeights<F>>,
    roundings: Vec<StageRounding>,
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
        Self { network: network.clone(), weights, roundings }
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
        self.forward_checked(&Checked::new(&self.network, input, state)?, state)
    }

    fn forward_checked(&self, checked: &Checked<'_>, state: Option<&State>) -> Result<Forward<F>> {
        let mut memory = Memory::default();
        let Memory { forward: Forward { stages, state: to }, steps } = &mut memory;
        begin(&self.network, checked.batch, state, to);
        walk(&self.network, checked, to, (stages, steps), |index, stage, flow, state, output| {
            let rounding = self.roundings[index];
            match (&stage.kind, &self.weights[index]) {
                (StageKind::Recurrent(recurrent), StageWeights::Recurrent(directions)) => {
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
                    *output = level(shape, recurrent, directions, flow.inputs[0], (&mut state.h, &mut state.c))?;
                    Ok(())
                }
                (_, weights @ StageWeights::Matrix { .. }) => {
                    // Padding is 0, rounded or not: a convolution may be rounded before its windows are cut.
                    let x = factors(flow.inputs[0], rounding.input);
                    stateless(stage, weights, &StageInput { inputs: &[&x], ..*flow }, output)
                }
                (_, weights) => stateless(stage, weights, flow, output),
            }
        })?;
        Ok(memory.forward)
    }
}

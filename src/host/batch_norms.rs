//! Batch normalizations that are trained: they take the statistics of the batch.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::base::{Real, bits};
use crate::network::{Activation, Network, Role, Stage, StageKind, fold};
use crate::reference::{BatchMoments, StageGradients, StageInput, channelwise};

/// Which stages of a network normalize by the statistics of the batch, and what they were in the last run forward.
pub(crate) struct BatchNorms<'a, F> {
    network: &'a Network,
    /// Positions of stages, in order.
    trained: &'a [usize],
    moments: RefCell<BTreeMap<usize, BatchMoments<F>>>,
}

impl<'a, F: Real> BatchNorms<'a, F> {
    pub fn new(network: &'a Network, trained: &'a [usize]) -> Self {
        Self { network, trained, moments: RefCell::default() }
    }

    /// The statistics of the last run, by the position of the stage.
    pub fn into_moments(self) -> BTreeMap<usize, BatchMoments<F>> {
        self.moments.into_inner()
    }

    /// ε, scale and offset `[N]` of a stage that is trained.
    fn parts(&self, index: usize, stage: &Stage) -> Option<(f32, [Vec<F>; 2])> {
        match stage.kind {
            StageKind::Channelwise { eps: Some(eps), .. } if self.trained.contains(&index) => {
                Some((eps, fold::scale_and_offset(self.network, stage)))
            }
            _ => None,
        }
    }

    /// The output of a stage that is trained.
    pub fn forward(&self, index: usize, stage: &Stage, flow: &StageInput<'_, F>) -> Option<Vec<F>> {
        let (eps, [weight, bias]) = self.parts(index, stage)?;
        let moments = BatchMoments::new(flow.inputs[0], stage.out_features, counting(stage, flow));
        let channels = moments.channels(eps, [&weight, &bias]);
        self.moments.borrow_mut().insert(index, moments);
        let mut output = Vec::new();
        channelwise(flow.inputs[0], &channels, Activation::Linear, &mut output);
        Some(output)
    }

    /// The gradients of a stage that [`BatchNorms::forward`] has run.
    pub fn backward(
        &self,
        index: usize,
        stage: &Stage,
        flow: &StageInput<'_, F>,
        d_output: &[F],
    ) -> Option<StageGradients<F>> {
        let (eps, [weight, _]) = self.parts(index, stage)?;
        let moments = self.moments.borrow();
        let moments = moments.get(&index)?;
        let [x, weight, bias] = moments.backward(eps, &weight, flow.inputs[0], d_output, counting(stage, flow));
        let params = [(Role::Weight, weight), (Role::Bias, bias)];
        Some(StageGradients { inputs: vec![x], params: params.into() })
    }
}

/// Whether a row of a stage's input counts: masked steps do not.
fn counting<F>(stage: &Stage, flow: &StageInput<'_, F>) -> impl Fn(usize) -> bool {
    let mask = flow.mask.filter(|_| stage.sequence_in);
    move |row| mask.is_none_or(|mask| mask[row] & bits::VALID != 0)
}

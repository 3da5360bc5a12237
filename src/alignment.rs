//! What the layers of attention of a network looked at.

use crate::base::error::Result;
use crate::base::room::room;
use crate::data::input::{Checked, Input, Values};
use crate::data::run::RunRequest;
use crate::data::state::State;
use crate::network::{Source, StageKind};
use crate::reference::{StageInput, StageWeights, attention_run, attention_shares};
use crate::session::Session;

/// The shares that a layer of attention gave the timesteps of its keys.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alignment {
    /// The layer's name.
    pub layer: String,
    /// `[T, B, heads, S]`; T is 1 of queries without a time dimension.
    pub shape: [usize; 4],
    /// Row-major; those of a query and head sum to 1, or are 0 where no timestep counts.
    pub shares: Vec<f32>,
}

impl Alignment {
    /// The shares `[S]` of one query of one batch row and head; empty if there is none.
    #[must_use]
    pub fn row(&self, step: usize, batch_row: usize, head: usize) -> &[f32] {
        let [steps, batch, heads, keys] = self.shape;
        if step >= steps || batch_row >= batch || head >= heads {
            return &[];
        }
        &self.shares[((step * batch + batch_row) * heads + head) * keys..][..keys]
    }
}

impl Session {
    /// Runs the network and returns the shares of every layer of attention, computed on the host from the queries and keys that
    /// the device computed. Of a decoder's streams they are those of a run of the whole network on what its streams have read
    /// and written.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn alignments(&self, input: Input<'_>, state: Option<&State>) -> Result<Vec<Alignment>> {
        let checked = Checked::new(self.network(), input, state)?;
        let stages = self.execute(&checked, state, RunRequest { trace: true, ..RunRequest::default() })?.stages;
        let mut alignments = Vec::new();
        for stage in self.network().stages() {
            let StageKind::Attention(attention) = stage.kind else { continue };
            let read = |source: &Source| match *source {
                Source::Stage(index) => &stages[index][..],
                Source::Input(number) => match checked.values_of(number) {
                    Values::Features(values) => &values[..],
                    Values::Tokens(_) => &[],
                },
            };
            let inputs: Vec<&[f32]> = stage.inputs.iter().map(read).collect();
            let StageWeights::Attention(weight) = StageWeights::new(self.network(), stage) else { continue };
            let flow = StageInput {
                inputs: &inputs,
                tokens: &[],
                steps: 0,
                past: 0,
                steps_out: 0,
                batch: checked.batch,
                mask: checked.mask_at(self.network(), stage),
                banks: None,
            };
            let (run, numbers) = attention_run((stage, attention), &weight, &flow);
            let steps = numbers.queries.len() / stage.in_features / checked.batch;
            let shape =
                [steps, checked.batch, attention.num_heads, numbers.keys.len() / stage.in_features / checked.batch];
            let count = shape.iter().fold(1usize, |all, &n| all.saturating_mul(n));
            room(|| format!("{} shares [T, B, heads, S]", stage.label), count, size_of::<f32>())?;
            alignments.push(Alignment { layer: stage.label.clone(), shape, shares: attention_shares(&run, &numbers) });
        }
        Ok(alignments)
    }
}

//! Which networks generate, and how a decoder takes over an encoder's state.

use crate::error::{Error, Result};
use crate::network::{Network, StageKind};
use crate::state::{self, State};
use crate::streams::{StreamId, StreamPool};

/// V of a network that reads tokens and whose outputs are logits of the next; else an error.
pub(super) fn check(network: &Network) -> Result<usize> {
    let refused = |place: String, what: &str| Err(Error::Unsupported { place, what: what.into() });
    let Some(vocabulary) = network.num_embeddings() else {
        return refused("network".into(), "generation by a decoder that reads vectors instead of tokens");
    };
    if network.output_size() != vocabulary {
        let expected = format!("a number for each of the {vocabulary} tokens that it reads");
        return Err(Error::shape("output of the decoder", expected, format!("{}", network.output_size())));
    }
    if network.masks().is_some() {
        return refused("network".into(), "generation by a decoder that masks token 0");
    }
    match network.stages().last() {
        Some(stage) if matches!(stage.kind, StageKind::Softmax) => refused(
            format!("layer `{}`", stage.label),
            "generation from probabilities; logits are needed, so a softmax",
        ),
        _ => Ok(vocabulary),
    }
}

impl State {
    /// The same numbers as a state of `network`, whose recurrent layers are as many and of the same sizes in the same
    /// order, whatever their names: an encoder's final state as a decoder's first (Sutskever, Vinyals & Le 2014).
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit.
    pub fn handed_to(&self, network: &Network) -> Result<Self> {
        let mut state = self.clone();
        for (layer, (_, spec)) in state.layers.iter_mut().zip(network.recurrent_layers()) {
            layer.name.clone_from(&spec.name);
        }
        let batch = state.layers.first().map_or(1, |layer| layer.h_shape[1]);
        state::check(network, batch, &state)?;
        Ok(state)
    }
}

impl StreamPool {
    /// New streams, one for each batch row of an encoder's final state, which they start from as
    /// [`State::handed_to`] says.
    ///
    /// # Errors
    /// [`Error::Shape`] for a state that does not fit; as [`StreamPool::open`].
    pub fn open_from(&self, state: &State) -> Result<Vec<StreamId>> {
        let state = state.handed_to(self.session().network())?;
        let rows = state.layers.first().map_or(0, |layer| layer.h_shape[1]);
        let mut streams = Vec::with_capacity(rows);
        for row in 0..rows {
            let opened = self.open().and_then(|id| {
                streams.push(id);
                self.restore(id, &state.row(row))
            });
            if let Err(error) = opened {
                streams.into_iter().try_for_each(|id| self.close(id))?;
                return Err(error);
            }
        }
        Ok(streams)
    }
}

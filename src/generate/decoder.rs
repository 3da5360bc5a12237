//! Checks whether a network can generate, and hands an encoder's state to a decoder.

use crate::base::error::{Error, Result};
use crate::data::state::{self, LayerState, State};
use crate::network::{Cuts, HiddenOrCell, Network, StageKind};
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
    if network.cuts().map_or(1, Cuts::whole) > 1 {
        return refused("network".into(), "generation by a decoder with strides, which reads several tokens at once");
    }
    match network.stages().last() {
        Some(stage) if stage.kind == (StageKind::Softmax { log: false }) => refused(
            format!("layer `{}`", stage.label),
            "generation from probabilities; logits are needed, so a softmax",
        ),
        _ => Ok(vocabulary),
    }
}

impl State {
    /// The same numbers as a state of `network`, whose recurrent layers are as many and of the same sizes in the same
    /// order, under any names: an encoder's final state as a decoder's first (Sutskever, Vinyals & Le 2014).
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit.
    pub fn handed_to(&self, network: &Network) -> Result<Self> {
        let recurrent = |layer: &&LayerState| layer.part(HiddenOrCell::H.name()).is_some();
        let mut layers: Vec<LayerState> = self.layers.iter().filter(recurrent).cloned().collect();
        for (layer, spec) in layers.iter_mut().zip(network.kept()) {
            layer.name.clone_from(&spec.name);
        }
        let batch = self.batch().unwrap_or(1);
        // The decoder's windows begin with their padding.
        let windows = Self::initial(network, batch)?.layers.into_iter().skip(network.stepping_layers());
        layers.extend(windows);
        let state = Self { layers };
        state::check(network, batch, &state)?;
        Ok(state)
    }
}

impl StreamPool {
    /// New streams that continue from the states of an encoder's streams, layer by layer in order as for [`State::handed_to`]. On one
    /// GPU the states are copied there; between devices they go through the host.
    ///
    /// # Errors
    /// [`Error::Shape`] for states that do not fit, [`Error::Stream`] for a stream of the encoder that is not open;
    /// as [`StreamPool::open`]. After an error no new stream stays open.
    pub fn open_after(&self, encoder: &Self, streams: &[StreamId]) -> Result<Vec<StreamId>> {
        let network = self.session().network();
        State::zeros(encoder.session().network(), 1)?.handed_to(network)?;
        let opened = self.open_all(streams.len())?;
        let filled = self.take_over(encoder, streams, &opened);
        if let Err(error) = filled {
            opened.into_iter().try_for_each(|id| self.close(id))?;
            return Err(error);
        }
        Ok(opened)
    }

    fn take_over(&self, encoder: &Self, from: &[StreamId], to: &[StreamId]) -> Result<()> {
        if self.copy_between(encoder, from, to)? {
            return Ok(());
        }
        for (&from, &to) in from.iter().zip(to) {
            self.restore(to, &encoder.snapshot(from)?.handed_to(self.session().network())?)?;
        }
        Ok(())
    }

    pub(crate) fn open_all(&self, count: usize) -> Result<Vec<StreamId>> {
        let mut streams = Vec::new();
        for _ in 0..count {
            match self.open() {
                Ok(id) => streams.push(id),
                Err(error) => {
                    streams.into_iter().try_for_each(|id| self.close(id))?;
                    return Err(error);
                }
            }
        }
        Ok(streams)
    }

    /// New streams, one for each batch row of an encoder's final state, from which they start as for
    /// [`State::handed_to`].
    ///
    /// # Errors
    /// [`Error::Shape`] for a state that does not fit; as [`StreamPool::open`].
    pub fn open_from(&self, state: &State) -> Result<Vec<StreamId>> {
        let state = state.handed_to(self.session().network())?;
        let rows = state.batch().unwrap_or(0);
        let streams = self.open_all(rows)?;
        let filled = (0..rows).zip(&streams).try_for_each(|(row, &id)| self.restore(id, &state.row(row)));
        if let Err(error) = filled {
            streams.into_iter().try_for_each(|id| self.close(id))?;
            return Err(error);
        }
        Ok(streams)
    }
}

//! States in safetensors files: a tensor `LAYER.h` `[L*D, B, H]` for every recurrent layer, `LAYER.c` for
//! an LSTM, and in the metadata the format and the fingerprint of the network.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::safetensors::{Contents, StoredTensor, to_file};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::data::state::{self, LayerState, State};
use crate::network::Network;

/// Version of the file that this crate writes and reads.
const FORMAT: &str = "1";
/// Metadata key of the version.
const FORMAT_KEY: &str = "gatefold_state";
/// Metadata key of the network's fingerprint.
const NETWORK_KEY: &str = "network";

impl State {
    /// Writes the state to `path`, with the fingerprint of the network it is of. The file is
    /// written completely or not at all.
    ///
    /// # Errors
    /// [`Error::Shape`] if the state is not one of `network`, [`Error::NonFinite`] for NaN and infinities,
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, network: &Network) -> Result<()> {
        files::write(path.as_ref(), &self.to_bytes(network)?)
    }

    /// Reads a state that [`State::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Malformed`] for what is no state file, a
    /// truncated one, one of another format or of another network; [`Error::NonFinite`].
    pub fn load(path: impl AsRef<Path>, network: &Network) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read(path)?;
        Self::parse(&path.display().to_string(), &bytes, network)
    }

    /// The bytes of the file that [`State::save`] writes.
    ///
    /// # Errors
    /// As [`State::save`].
    pub fn to_bytes(&self, network: &Network) -> Result<Vec<u8>> {
        let metadata =
            HashMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned()), (NETWORK_KEY.to_owned(), fingerprint(network))]);
        to_file("state", self.stored("", network)?, metadata)
    }

    /// Its tensors as a file has them, their names behind `prefix`.
    pub(crate) fn stored(&self, prefix: &str, network: &Network) -> Result<Vec<(String, StoredTensor)>> {
        let batch = self.layers.first().map_or(1, |layer| layer.h_shape[1]);
        state::check(network, batch, self)?;
        let mut tensors = Vec::new();
        for LayerState { name, h_shape, h, c_shape, c } in &self.layers {
            for (part, shape, numbers) in [("h", h_shape, h), ("c", c_shape, c)] {
                let name = tensor_name(prefix, name, part);
                finite(&name, numbers)?;
                if !numbers.is_empty() {
                    tensors.push((name, StoredTensor::f32(shape, numbers)));
                }
            }
        }
        Ok(tensors)
    }

    /// As [`State::load`], from bytes.
    ///
    /// # Errors
    /// As [`State::load`].
    pub fn from_bytes(bytes: &[u8], network: &Network) -> Result<Self> {
        Self::parse("state", bytes, network)
    }

    fn parse(what: &str, bytes: &[u8], network: &Network) -> Result<Self> {
        let contents = Contents::parse(what, bytes)?;
        let malformed = |expected: String, got: String| Error::Malformed { what: what.to_owned(), expected, got };
        let stored = |key: &str| contents.metadata(key).unwrap_or("none");
        if stored(FORMAT_KEY) != FORMAT {
            let got = format!("{FORMAT_KEY} {}", stored(FORMAT_KEY));
            return Err(malformed(format!("a state of gatefold, {FORMAT_KEY} {FORMAT}"), got));
        }
        let own = fingerprint(network);
        if stored(NETWORK_KEY) != own {
            let got = format!("one of network {}", stored(NETWORK_KEY));
            return Err(malformed(format!("a state of network {own}"), got));
        }
        let (state, read) = Self::read(what, &contents, "", network)?;
        match contents.shapes().keys().find(|name| !read.contains(*name)) {
            Some(other) => Err(malformed("the states of the network's layers alone".into(), format!("also `{other}`"))),
            None => Ok(state),
        }
    }

    /// The state of `network` whose tensors a file has behind `prefix`, and their names.
    pub(crate) fn read(
        what: &str,
        contents: &Contents<'_>,
        prefix: &str,
        network: &Network,
    ) -> Result<(Self, BTreeSet<String>)> {
        let malformed = |expected: String, got: String| Error::Malformed { what: what.to_owned(), expected, got };
        let mut read = BTreeSet::new();
        let mut state = Self::zeros(network, 1)?;
        for LayerState { name, h_shape, h, c_shape, c } in &mut state.layers {
            let mut batch = 1;
            for (part, shape, numbers) in [("h", h_shape, h), ("c", c_shape, c)] {
                if shape[2] == 0 {
                    shape[1] = batch;
                    continue;
                }
                let tensor_name = tensor_name(prefix, name, part);
                let tensor = contents.tensor(&tensor_name)?;
                let got = tensor.shape();
                if got.len() != 3 || got[0] != shape[0] || got[1] == 0 || got[2] != shape[2] {
                    let expected = format!("`{tensor_name}` [{}, B, {}]", shape[0], shape[2]);
                    return Err(malformed(expected, format!("{got:?}")));
                }
                finite(&tensor_name, tensor.data())?;
                batch = got[1];
                shape[1] = batch;
                *numbers = tensor.data().to_vec();
                read.insert(tensor_name);
            }
        }
        let batch = state.layers.first().map_or(1, |layer| layer.h_shape[1]);
        state::check(network, batch, &state)?;
        Ok((state, read))
    }
}

fn tensor_name(prefix: &str, layer: &str, part: &str) -> String {
    format!("{prefix}{layer}.{part}")
}

/// As files and messages show it.
fn fingerprint(network: &Network) -> String {
    format!("{:016x}", network.fingerprint())
}

fn finite(name: &str, numbers: &[f32]) -> Result<()> {
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::NonFinite { name: name.to_owned(), index, value: numbers[index] }),
        None => Ok(()),
    }
}

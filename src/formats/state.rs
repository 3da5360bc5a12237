//! States in safetensors files: a tensor `LAYER.PART` `[R, B, ..]` for every part of every layer's state (`lstm.h` and `lstm.c`
//! `[L*D, B, H]`), and in the metadata the format and the fingerprint of the network.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::safetensors::{Contents, StoredTensor, to_file};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::data::state::{self, State, StatePart};
use crate::network::{HiddenOrCell, Network};

/// Version of the file that this crate writes.
const FORMAT: &str = "2";
/// The one before, which has the parts of recurrent layers alone; it is read too.
const BEFORE: &str = "1";
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
        state::check(network, self.batch().unwrap_or(1), self)?;
        let mut tensors = Vec::new();
        for layer in &self.layers {
            for StatePart { name, shape, data } in &layer.parts {
                let name = tensor_name(prefix, &layer.name, name);
                finite(&name, data)?;
                tensors.push((name, StoredTensor::f32(shape, data)));
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
        let format = stored(FORMAT_KEY);
        if format != FORMAT && format != BEFORE {
            let got = format!("{FORMAT_KEY} {format}");
            return Err(malformed(format!("a state of gatefold, {FORMAT_KEY} {BEFORE} or {FORMAT}"), got));
        }
        let own = fingerprint(network);
        if stored(NETWORK_KEY) != own {
            let got = format!("one of network {}", stored(NETWORK_KEY));
            return Err(malformed(format!("a state of network {own}"), got));
        }
        let (state, read) = Self::read(what, (&contents, ""), network, format == FORMAT)?;
        match contents.shapes().keys().find(|name| !read.contains(*name)) {
            Some(other) => Err(malformed("the states of the network's layers alone".into(), format!("also `{other}`"))),
            None => Ok(state),
        }
    }

    /// The state of `network` whose tensors a file has behind a prefix, and their names. Parts that only layers without a
    /// recurrence have may be missing where not `all` parts must be there: they are what they are before the first timestep.
    pub(crate) fn read(
        what: &str,
        (contents, prefix): (&Contents<'_>, &str),
        network: &Network,
        all: bool,
    ) -> Result<(Self, BTreeSet<String>)> {
        let malformed = |expected: String, got: String| Error::Malformed { what: what.to_owned(), expected, got };
        let recurrent = [HiddenOrCell::H, HiddenOrCell::C].map(HiddenOrCell::name);
        let mut tensors = Vec::new();
        for layer in network.kept() {
            for part in &layer.parts {
                let name = tensor_name(prefix, &layer.name, part.name);
                if !all && !recurrent.contains(&part.name) && !contents.shapes().contains_key(&name) {
                    tensors.push(None);
                    continue;
                }
                let tensor = contents.tensor(&name)?;
                let got = tensor.shape();
                let batch = got.get(1).copied().unwrap_or(0);
                if batch == 0 || !part.shape(batch).eq(got.iter().copied()) {
                    let dimensions: String = part.dimensions.iter().map(|number| format!(", {number}")).collect();
                    return Err(malformed(format!("`{name}` [{}, B{dimensions}]", part.rows), format!("{got:?}")));
                }
                finite(&name, tensor.data())?;
                tensors.push(Some((name, tensor)));
            }
        }
        let batch = tensors.iter().flatten().next().map_or(1, |(_, tensor)| tensor.shape()[1]);
        let mut state = Self::initial(network, batch)?;
        let mut read = BTreeSet::new();
        for (part, tensor) in state.parts_mut().zip(tensors) {
            let Some((name, tensor)) = tensor else { continue };
            part.shape = tensor.shape().into();
            part.data = tensor.data().to_vec();
            read.insert(name);
        }
        state::check(network, batch, &state)?;
        Ok((state, read))
    }
}

fn tensor_name(prefix: &str, layer: &str, part: &str) -> String {
    format!("{prefix}{layer}.{part}")
}

/// As files and messages show it.
pub(super) fn fingerprint(network: &Network) -> String {
    format!("{:016x}", network.fingerprint())
}

fn finite(name: &str, numbers: &[f32]) -> Result<()> {
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::NonFinite { name: name.to_owned(), index, value: numbers[index] }),
        None => Ok(()),
    }
}

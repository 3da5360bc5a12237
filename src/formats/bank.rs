//! Banks in safetensors files: for every input that is attended to a tensor of its name, `[S, N]`, and which timesteps count,
//! `NAME.counts` `[S]`, 1 or 0; the parts of the state that a stream begins with as in a state file, behind `start.`; in the
//! metadata the format and the fingerprint of the decoder.

use std::collections::HashMap;
use std::path::Path;

use super::safetensors::{Contents, StoredTensor, to_file};
use super::state::fingerprint;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::data::banks::{Bank, BankPart};
use crate::data::state::State;
use crate::network::Network;

/// Metadata key of the version, and the version.
const FORMAT: (&str, &str) = ("gatefold_bank", "1");
/// Metadata key of the decoder's fingerprint.
const NETWORK_KEY: &str = "network";
/// What stands before the names of the parts of a state.
const START: &str = "start.";

impl Bank {
    /// Writes the bank to `path`, with the fingerprint of the decoder it is of ([`StreamPool::session`](crate::StreamPool::session)).
    /// The file is written completely or not at all.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no bank of `decoder`, [`Error::NonFinite`] for NaN and infinities, [`Error::Io`] if the file
    /// cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, decoder: &Network) -> Result<()> {
        files::write(path.as_ref(), &self.to_bytes(decoder)?)
    }

    /// Reads a bank that [`Bank::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Malformed`] for what is no file of a bank, a truncated one, one of
    /// another format or of another network; [`Error::NonFinite`].
    pub fn load(path: impl AsRef<Path>, decoder: &Network) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&path.display().to_string(), &files::read(path)?, decoder)
    }

    /// The bytes of the file that [`Bank::save`] writes.
    ///
    /// # Errors
    /// As [`Bank::save`].
    pub fn to_bytes(&self, decoder: &Network) -> Result<Vec<u8>> {
        self.check(decoder)?;
        let mut tensors = Vec::new();
        for BankPart { name, width, values, counts } in &self.parts {
            let steps = counts.len();
            let counts: Vec<f32> = counts.iter().map(|&counts| if counts { 1.0 } else { 0.0 }).collect();
            tensors.push((name.clone(), StoredTensor::f32(&[steps, *width], values)));
            tensors.push((counts_of(name), StoredTensor::f32(&[steps], &counts)));
        }
        if let Some(start) = &self.start {
            tensors.extend(start.stored(START, decoder)?);
        }
        let metadata =
            [FORMAT, (NETWORK_KEY, &fingerprint(decoder))].map(|(key, value)| (key.to_owned(), value.to_owned()));
        to_file("bank", tensors, HashMap::from(metadata))
    }

    /// As [`Bank::load`], from bytes.
    ///
    /// # Errors
    /// As [`Bank::load`].
    pub fn from_bytes(bytes: &[u8], decoder: &Network) -> Result<Self> {
        Self::parse("bank", bytes, decoder)
    }

    fn parse(what: &str, bytes: &[u8], decoder: &Network) -> Result<Self> {
        let contents = Contents::parse(what, bytes)?;
        let malformed = |expected: String, got: String| Error::Malformed { what: what.to_owned(), expected, got };
        for (key, own) in [(FORMAT.0, FORMAT.1), (NETWORK_KEY, &fingerprint(decoder))] {
            let stored = contents.metadata(key).unwrap_or("none");
            if stored != own {
                return Err(malformed(format!("a bank of gatefold, {key} {own}"), format!("{key} {stored}")));
            }
        }
        let mut parts = Vec::new();
        for input in decoder.inputs().iter().skip(1) {
            let (values, counts) = (contents.tensor(&input.name)?, contents.tensor(&counts_of(&input.name))?);
            if values.shape() != [counts.data().len(), input.width] {
                let expected = format!("`{}` [{}, {}]", input.name, counts.data().len(), input.width);
                return Err(malformed(expected, format!("{:?}", values.shape())));
            }
            let counts = counts.data().iter().map(|&counts| counts > 0.0).collect();
            let (name, values) = (input.name.clone(), values.data().to_vec());
            parts.push(BankPart { name, width: input.width, values, counts });
        }
        let has_start = contents.shapes().keys().any(|name| name.starts_with(START));
        let (start, of_start) = match has_start {
            true => State::read(what, (&contents, START), decoder, true).map(|(start, read)| (Some(start), read))?,
            false => Default::default(),
        };
        let known = |name: &str| {
            let of_part = parts.iter().any(|part| part.name == name || counts_of(&part.name) == name);
            of_part || of_start.contains(name)
        };
        if let Some(other) = contents.shapes().keys().find(|name| !known(name)) {
            return Err(malformed("the inputs that the decoder attends to alone".into(), format!("also `{other}`")));
        }
        let bank = Self { parts, start };
        bank.check(decoder)?;
        Ok(bank)
    }
}

fn counts_of(input: &str) -> String {
    format!("{input}.counts")
}

//! Networks of amplifiers and effects, as the plug-ins of three projects read them: JSON files with the weights in them.
//!
//! | file | project | what is read |
//! | --- | --- | --- |
//! | `.nam` | Neural Amp Modeler | architecture `LSTM`, with the state that it starts from |
//! | `.json`, `.aidax` | RTNeural; AIDA-X, with its gains and its skip connection | layers `lstm`, `gru`, `dense`, `conv1d`, `batchnorm`, `prelu`, `activation` |
//! | `.json` | GuitarML (Proteus, NeuralPi, Automated-GuitarAmpModelling) | one LSTM, GRU or plain RNN and a linear layer, with the skip connection |
//!
//! All read one sample a timestep, `[T, B, I]` or `[B, T, I]` with I = 1 and, where a network was trained with knobs,
//! their positions as further features. The output is the sample that is heard, `[T, B, 1]` or `[B, T, 1]`.

mod guitarml;
mod layers;
mod nam;
mod rtneural;

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::network::Network;

/// A network of an amplifier or an effect.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Amp {
    /// The network.
    pub network: Network,
    /// Samples per second of the recordings that it was trained on, if the file says it.
    pub sample_rate: Option<f64>,
    /// The name that the file gives it, if it does.
    pub name: Option<String>,
}

/// The files of these formats that are read; those of published networks have at most some megabytes.
const LARGEST: usize = 64 << 20;

/// Reads a file of one of these formats.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; otherwise as [`from_bytes`].
pub fn load(path: impl AsRef<Path>) -> Result<Amp> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    // One byte more shows that a file is too large.
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::Io { path: path.into(), source })?;
    from_bytes(&path.display().to_string(), &bytes)
}

/// Reads the bytes of such a file; `name` is used in errors.
///
/// # Errors
/// [`Error::Malformed`] for bytes that are not JSON of one of these formats, or whose weights do not have the sizes that
/// the file says; [`Error::Unsupported`] for other architectures, layers and options.
pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Amp> {
    let malformed =
        |expected: &str, got: String| Error::Malformed { what: name.into(), expected: expected.into(), got };
    if bytes.len() > LARGEST {
        return Err(malformed(&format!("a JSON file of at most {LARGEST} bytes"), "a larger one".into()));
    }
    let file: Value = serde_json::from_slice(bytes).map_err(|error| malformed("JSON", error.to_string()))?;
    let has = |key: &str| file.get(key).is_some();
    if has("architecture") && has("weights") {
        nam::read(name, &file)
    } else if has("in_shape") && has("layers") {
        rtneural::read(name, &file)
    } else if has("state_dict") {
        guitarml::read(name, &file)
    } else {
        Err(malformed(
            "a model: JSON of Neural Amp Modeler (architecture, weights), RTNeural or AIDA-X (in_shape, layers) or GuitarML \
             (state_dict)",
            words(&file),
        ))
    }
}

/// Whether a file that starts with these bytes is JSON.
pub(super) fn is_json(start: &[u8]) -> bool {
    // A safetensors file has the length of its header first, which is below 2^32.
    start.trim_ascii_start().first() == Some(&b'{') && start.get(4..8).is_none_or(|length| length != [0; 4])
}

/// What is known of a file of none of these formats, for an error.
fn words(file: &Value) -> String {
    if file.get("class_name").is_some() {
        return "the description of a Keras model; give the file of its weights, beside which it is found".into();
    }
    if file.get("format").is_some() && file.get("layers").is_some() {
        return "the description of a gatefold network; give the safetensors file beside it".into();
    }
    let names: Vec<&str> = file.as_object().into_iter().flat_map(|fields| fields.keys()).map(String::as_str).collect();
    const MOST: usize = 6;
    match names.len() {
        0 => "no fields".into(),
        1..=MOST => format!("fields {}", names.join(", ")),
        more => format!("fields {} and {} more", names[..MOST].join(", "), more - MOST),
    }
}

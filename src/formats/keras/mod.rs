//! Files that Keras writes: `.keras`, whole models in `.h5`, and weights alone.
//!
//! | file | what it is | read by |
//! | --- | --- | --- |
//! | `.keras` | zip archive of Keras 2.12 and later: `config.json`, `metadata.json`, `model.weights.h5` | [`load`] |
//! | `.h5` from `model.save` | HDF5 with the attribute `model_config`, Keras 2 and 3 | [`load`] |
//! | `.weights.h5` | HDF5 without a configuration | [`load_weights`], or [`load`] with a description beside it |
//! | `.h5` from Keras 2's `save_weights` | as above | as above |
//!
//! # Weights alone
//!
//! The description says which layers are read, by their names; arrays of other layers are
//! ignored. In a `.weights.h5` the names are those of the groups below `layers/`, which Keras
//! derives from the classes, not from the layers' own names: the first LSTM is `lstm`, the second
//! `lstm_1`, a `SimpleRNN` is `simple_rnn`, a `TimeDistributed` is `time_distributed`. In legacy
//! files they are the layers' own names. Gates and axes are turned into PyTorch's order, so the
//! options of the description mean what they mean everywhere. [`load`] reads the description from
//! the `.json` file beside the weights; it may also be what Keras' `to_json` wrote.
//!
//! # What is read
//!
//! Sequential and functional models of one or several inputs and outputs, also as layers of each other: InputLayer, Embedding, Masking,
//! LSTM, GRU, SimpleRNN, RNN of their cells and StackedRNNCells, Bidirectional, TimeDistributed, Dense, Activation, ReLU, LeakyReLU, ELU,
//! Softmax, PReLU, LayerNormalization, BatchNormalization, Normalization, Conv1D, DepthwiseConv1D, SeparableConv1D, UpSampling1D,
//! MaxPooling1D, AveragePooling1D, Attention, AdditiveAttention and MultiHeadAttention of one query,
//! GlobalMaxPooling1D, GlobalAveragePooling1D, RepeatVector, Flatten, Reshape, Permute, ZeroPadding1D, Cropping1D,
//! Rescaling, CuDNNLSTM, CuDNNGRU, TextVectorization, StringLookup, Concatenate, Add, Subtract, Multiply, Average, Maximum, Dot; slices and sums of
//! tensors; and layers that only act in training. Whatever a model asks for beyond that is
//! [`Error::Unsupported`], which names the layer and the option. Computation is in f32, whatever
//! the dtype policy (float32, float64, float16, bfloat16 and the mixed ones); quantized weights
//! are not read.

mod activation;
mod archive;
mod attention;
mod branched;
mod call;
mod convolution;
mod dropout;
mod graph;
mod hdf5;
mod join;
mod layers;
mod lower;
mod masks;
mod operations;
mod options;
mod parts;
mod products;
mod rearrange;
mod recurrent;
mod reductions;
mod shapes;
mod slices;
mod survey;
mod tensorflow;
mod text;
mod weights;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use self::activation::Version;
use self::graph::KerasGraph;
use self::hdf5::Hdf5;
use self::lower::LoweredGraph;
use self::weights::{WeightNames, Weights};
use super::{Survey, foreign};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::network::{Axis, FileAxes, FileTensor, InputKind, Network, NetworkOutput, NetworkSpec};

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Reads a model that Keras saved, or weights with a description in a `.json` file beside them: gatefold's, or what Keras'
/// `to_json` wrote.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read; [`Error::Malformed`], [`Error::MissingTensor`] and
/// [`Error::TensorShape`] for files that are broken, [`Error::TooLarge`] for files that would
/// unpack to far more than their size, [`Error::Unsupported`] for what gatefold does not do;
/// everything [`Network::new`] refuses.
pub fn load(path: impl AsRef<Path>) -> Result<Network> {
    let path = path.as_ref();
    let (name, file) = open(path)?;
    if file.model.is_some() {
        return file.network(&name);
    }
    let beside = path.with_extension("json");
    let description = std::fs::read_to_string(&beside).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => no_description(&name, &format!("weights alone and no {}", beside.display())),
        _ => Error::Io { path: beside.clone(), source },
    })?;
    let beside = beside.display().to_string();
    let value = json(&beside, "description", &description)?;
    if value.get("class_name").is_some() {
        let version = Version::new(value.get("keras_version").and_then(Value::as_str));
        return file.of_configuration(&value, version);
    }
    let spec = serde_json::from_value(value).map_err(|error| malformed(&beside, "gatefold's JSON", &error))?;
    file.described(spec)
}

/// Reads a whole model from the bytes of a `.keras` or `.h5` file; `name` is used in errors.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Network> {
    File::parse(name, bytes.to_vec())?.network(name)
}

/// What of a whole model is read and everything in it that is refused.
///
/// # Errors
/// As [`load`], where the file cannot be read so far that its layers are known.
pub fn survey(path: impl AsRef<Path>) -> Result<Survey> {
    let (name, file) = open(path.as_ref())?;
    let (config, version) = file.configuration(&name)?;
    survey::of_configuration(&config, version)
}

/// Reads the layers that `spec` names from a file with weights, ignoring others.
///
/// # Errors
/// As [`load`].
pub fn load_weights(path: impl AsRef<Path>, spec: NetworkSpec) -> Result<Network> {
    open(path.as_ref())?.1.described(spec)
}

struct File {
    weights: Weights,
    model: Option<Model>,
}

struct Model {
    config: String,
    version: Version,
    /// The files `vocabulary.txt` of layers that turn texts into token ids, by the layers' groups.
    vocabularies: BTreeMap<String, String>,
}

fn open(path: &Path) -> Result<(String, File)> {
    let bytes = files::read(path)?;
    let name = path.display().to_string();
    let file = File::parse(&name, bytes)?;
    Ok((name, file))
}

impl File {
    fn parse(name: &str, bytes: Vec<u8>) -> Result<Self> {
        if bytes.starts_with(hdf5::MAGIC) {
            let weights = Weights::new(Hdf5::open(name.to_owned(), bytes)?)?;
            let config = weights.hdf5().text("", "model_config")?;
            let version = Version::new(weights.hdf5().text("", "keras_version")?.as_deref());
            return Ok(Self {
                weights,
                model: config.map(|config| Model { config, version, vocabularies: BTreeMap::new() }),
            });
        }
        foreign::refuse(name, &bytes)?;
        if !bytes.starts_with(ZIP_MAGIC) {
            let start: Vec<u8> = bytes.iter().take(4).copied().collect();
            return Err(malformed(name, "a .keras (zip) or .h5 (HDF5) file", &format!("bytes {start:02x?}…")));
        }
        let entry = |entry: &str| {
            archive::read(name, &bytes, entry)?.ok_or_else(|| {
                // TorchScript's archives do not begin with their pickle.
                let pickle = bytes.windows(9).any(|part| part == b"/data.pkl");
                let got = if pickle { foreign::PICKLE } else { "a zip archive without it" };
                malformed(name, &format!("a Keras archive with an entry {entry}"), &got)
            })
        };
        let text = |name: &str| {
            String::from_utf8(entry(name)?)
                .map_err(|error| malformed(&format!("{name} of the archive"), "UTF-8", &error))
        };
        let metadata: Value = json(name, "metadata.json", &text("metadata.json")?)?;
        let version = Version::new(metadata.get("keras_version").and_then(Value::as_str));
        let config = text("config.json")?;
        let weights = Hdf5::open(format!("{name}: model.weights.h5"), entry("model.weights.h5")?)?;
        let mut vocabularies = BTreeMap::new();
        for entry in archive::names(name, &bytes)? {
            let group = entry.strip_prefix("assets/layers/").and_then(|rest| rest.strip_suffix("/vocabulary.txt"));
            if let Some(group) = group {
                vocabularies.insert(group.to_owned(), text(&entry)?);
            }
        }
        let model = Model { config, version, vocabularies };
        Ok(Self { weights: Weights::new(weights)?, model: Some(model) })
    }

    /// The network that the file itself describes.
    fn network(&self, name: &str) -> Result<Network> {
        let (config, version) = self.configuration(name)?;
        self.of_configuration(&config, version)
    }

    /// What the file says of its model.
    fn configuration(&self, name: &str) -> Result<(Value, Version)> {
        let model = self.model.as_ref().ok_or_else(|| no_description(name, "weights alone"))?;
        Ok((json(name, "model configuration", &model.config)?, model.version))
    }

    /// The network of a model's configuration.
    fn of_configuration(&self, config: &Value, version: Version) -> Result<Network> {
        let graph = KerasGraph::new(config, version)?;
        let LoweredGraph { mut spec, copies, stacked, parts, dropout } = lower::network(&graph)?;
        let vocabularies = self.model.as_ref().map(|model| &model.vocabularies);
        spec.text = text::of_model(&graph, |group| vocabularies?.get(group).map(String::as_str))?;
        let cudnn =
            graph.nodes.iter().filter(|node| recurrent::is_cudnn(&node.item)).map(|node| node.item.name.to_owned());
        let cudnn = cudnn.collect();
        let normalizations = graph.nodes.iter().filter(|node| node.item.class == "Normalization");
        let normalizations =
            normalizations.map(|node| Ok((node.item.name.to_owned(), layers::statistics(&node.item)?)));
        let normalizations = normalizations.collect::<Result<_>>()?;
        let output_names = graph.output_names;
        let names =
            WeightNames { groups: graph.groups, owners: graph.owners, copies, stacked, parts, cudnn, normalizations };
        let tensors = self.weights.tensors(&spec, &names)?;
        let network = Network::new(spec, tensors)?.with_file_dropout(dropout);
        if network.recurrent_layers().next().is_some() && output_names.len() < 2 {
            return Ok(network);
        }
        // The first output has no name in the network, and without a recurrent layer none says that Keras' arrays are
        // `[B, T, ..]`.
        let of = |name: &str, axes: &[Axis]| FileTensor { name: name.into(), axes: axes.to_vec(), row: None };
        let input = match network.inputs()[0].kind {
            InputKind::Row => &[Axis::Batch, Axis::Feature][..],
            InputKind::Tokens => &[Axis::Batch, Axis::Time],
            _ => &[Axis::Batch, Axis::Time, Axis::Feature],
        };
        let output = |is_sequence: bool| match is_sequence {
            true => &[Axis::Batch, Axis::Time, Axis::Feature][..],
            false => &[Axis::Batch, Axis::Feature],
        };
        let other = |other: &NetworkOutput| of(&other.name, output(network.output_of(other).0.contains(&Axis::Time)));
        let first = if output_names.len() > 1 { output_names[0].as_str() } else { "output" };
        let axes = FileAxes {
            input: of(&network.inputs()[0].name, input),
            output: of(first, output(network.output_is_sequence())),
            others: network.outputs().iter().map(other).collect(),
            fixed: Vec::new(),
            states: Vec::new(),
            final_states: Vec::new(),
            lengths: None,
        };
        Ok(network.with_file_axes(Some(axes)))
    }

    fn described(&self, spec: NetworkSpec) -> Result<Network> {
        let tensors = self.weights.tensors(&spec, &WeightNames::default())?;
        Network::new(spec, tensors)
    }
}

/// Limit of the decompressed size of `compressed` bytes: far more than weights need, far less than a decompression bomb.
fn limit(compressed: usize) -> u64 {
    const RATIO: u64 = 128;
    const ALWAYS: u64 = 1 << 20;
    (compressed as u64).saturating_mul(RATIO).saturating_add(ALWAYS)
}

/// JSON, in which Python also writes NaN and infinities: they become texts.
fn json(name: &str, what: &str, text: &str) -> Result<Value> {
    serde_json::from_str(&without_infinities(text))
        .map_err(|error| malformed(&format!("{name}: {what}"), "JSON", &error))
}

/// `NaN`, `Infinity` and `-Infinity` outside of texts in quotation marks.
fn without_infinities(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = [options::MINUS_INFINITY, options::INFINITY, options::NAN];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    let (mut rest, mut inside) = (text, false);
    while let Some(letter) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !inside && rest.starts_with(**word));
        let len = match (word, letter) {
            (Some(word), _) => {
                quoted.extend(["\"", word, "\""]);
                word.len()
            }
            // What an escape stands for is no quotation mark.
            (None, '\\') => {
                let len = letter.len_utf8() + rest.chars().nth(1).map_or(0, char::len_utf8);
                quoted.push_str(&rest[..len]);
                len
            }
            (None, letter) => {
                inside ^= letter == '"';
                quoted.push(letter);
                letter.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    Cow::Owned(quoted)
}

fn no_description(name: &str, got: &str) -> Error {
    malformed(
        name,
        "a model configuration, or a description in a .json file beside it (gatefold's, or of Keras' to_json)",
        &got,
    )
}

fn malformed(what: &str, expected: &str, got: &dyn std::fmt::Display) -> Error {
    Error::Malformed { what: what.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}

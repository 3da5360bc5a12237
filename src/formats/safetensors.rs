//! safetensors with PyTorch's state-dict names; the network's description stands in the
//! file's metadata under [`METADATA_KEY`], or in a `.json` file beside it.
//!
//! Matrices stored as F16 are kept so ([`WeightFormat::F16`]); those stored as I8 come with a tensor
//! `NAME.scale` `[rows]` in F32 ([`WeightFormat::Int8`]).
//!
//! Format: <https://huggingface.co/docs/safetensors>.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, View};

use super::pytorch::{self, Shapes};
use super::{foreign, scan_packages, scores, weight_norm, xlstm};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::base::room::room;
use crate::network::{FileDropout, LayerSpec, Network, NetworkSpec, Tensor, WeightFormat, quantize_row};

/// What the name of a tensor of scales adds to that of the tensor.
const SCALE: &str = ".scale";

/// Metadata key under which the description stands.
pub const METADATA_KEY: &str = "gatefold";

/// Metadata key under which [`Network::file_axes`] stand, for a network that came from a file with axes of its own.
const AXES_KEY: &str = "gatefold.file_axes";
/// The same for [`Network::file_dropout`].
const DROPOUT_KEY: &str = "gatefold.file_dropout";

/// Reads a network from a safetensors file: with gatefold's description in its metadata or in a
/// `.json` file beside it, or without one as [`pytorch`] does.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; otherwise as [`from_bytes`], with the path
/// in front.
pub fn load(path: impl AsRef<Path>) -> Result<Network> {
    let path = path.as_ref();
    let bytes = files::read(path)?;
    let name = path.display().to_string();
    let contents = Contents::parse(&name, &bytes)?;
    if let Some(description) = contents.description() {
        return contents.described(&name, description);
    }
    let beside = path.with_extension("json");
    match std::fs::read_to_string(&beside) {
        Ok(description) => contents.described(&beside.display().to_string(), &description),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            contents.undescribed(&name, &format!("and no {}", beside.display()))
        }
        Err(source) => Err(Error::Io { path: beside, source }),
    }
}

/// Reads a network from the bytes of a safetensors file with the description in its metadata; `name` is used in errors.
///
/// # Errors
/// [`Error::Malformed`] for bytes that are no safetensors file or a description that is
/// not understood, and everything [`Network::new`] refuses.
pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Network> {
    let contents = Contents::parse(name, bytes)?;
    match contents.description() {
        Some(description) => contents.described(name, description),
        None => contents.undescribed(name, ""),
    }
}

impl Network {
    /// The bytes of a safetensors file that [`Network::from_bytes`] reads back.
    ///
    /// # Errors
    /// [`Error::Malformed`] if safetensors refuses a tensor, which no valid network holds.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let failed = |error: &dyn std::fmt::Display| Error::Malformed {
            what: "network".into(),
            expected: "tensors that safetensors can hold".into(),
            got: error.to_string(),
        };
        let description = serde_json::to_string(self.spec()).map_err(|e| failed(&e))?;
        // The tensors' bytes, and the file's.
        room(|| "network as a file".into(), self.parameters().saturating_mul(2), size_of::<f32>())?;
        let mut metadata = HashMap::from([(METADATA_KEY.to_owned(), description)]);
        if let Some(axes) = self.file_axes() {
            metadata.insert(AXES_KEY.to_owned(), serde_json::to_string(axes).map_err(|e| failed(&e))?);
        }
        if !self.file_dropout().is_empty() {
            metadata
                .insert(DROPOUT_KEY.to_owned(), serde_json::to_string(self.file_dropout()).map_err(|e| failed(&e))?);
        }
        let stored = self.tensors().iter().flat_map(|(name, tensor)| StoredTensor::all(name, tensor));
        to_file("network", stored, metadata)
    }

    /// Writes the network to `path`, whole or not at all, as [`files::write`] does.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write(path.as_ref(), &self.to_bytes()?)
    }
}

/// Metadata key of a checkpoint, whose tensors are no network's alone.
pub(crate) const CHECKPOINT_KEY: &str = "gatefold.checkpoint";

/// The parts of a file.
pub(crate) struct Contents<'a> {
    metadata: Option<HashMap<String, String>>,
    tensors: SafeTensors<'a>,
    /// Lengths and directions of matrices, by the matrices' names.
    pairs: BTreeMap<String, weight_norm::Pair>,
}

impl<'a> Contents<'a> {
    pub fn parse(name: &str, bytes: &'a [u8]) -> Result<Self> {
        foreign::refuse(name, bytes)?;
        let malformed = |error: safetensors::SafeTensorError| Error::Malformed {
            what: name.to_owned(),
            expected: "a safetensors file".into(),
            got: format!("{} bytes: {error}", bytes.len()),
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let pairs = weight_norm::pairs(&tensors.names());
        Ok(Self { metadata: header.metadata().clone(), tensors, pairs })
    }

    pub fn shapes(&self) -> Shapes {
        let shape = |name: &str| {
            let stored = self.pairs.get(name).map_or(name, |[_, v]| v);
            self.tensors.tensor(stored).map_or_else(|_| Vec::new(), |view| view.shape().to_vec())
        };
        self.names().map(|name| (name.to_owned(), shape(name))).collect()
    }

    /// The tensor `name`, which must be there.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        if let Some([g, v]) = self.pairs.get(name) {
            return weight_norm::folded(name, &self.tensor(g)?, &self.tensor(v)?);
        }
        let view = self.tensors.tensor(name).map_err(|error| Error::Malformed {
            what: format!("tensor `{name}`"),
            expected: "a tensor of the file".into(),
            got: error.to_string(),
        })?;
        let numbers = view.shape().iter().product();
        room(|| format!("tensor `{name}`"), numbers, size_of::<f32>())?;
        if view.dtype() == Dtype::I8 {
            return self.quantized(name, &view);
        }
        let format = if view.dtype() == Dtype::F16 { WeightFormat::F16 } else { WeightFormat::F32 };
        Ok(Tensor::new(view.shape().to_vec(), decode(name, &view)?)?.marked(format))
    }

    /// 8-bit integers and their scales.
    fn quantized(&self, name: &str, view: &TensorView<'_>) -> Result<Tensor> {
        let scale_name = format!("{name}{SCALE}");
        let malformed = |expected: String, got: String| Error::Malformed {
            what: format!("tensor `{name}` of I8 with its scales `{scale_name}`"),
            expected,
            got,
        };
        let rows = view.shape().first().copied().unwrap_or(1);
        let scales = match self.tensors.tensor(&scale_name) {
            Ok(scales) if scales.dtype() == Dtype::F32 && scales.shape() == [rows] => {
                elements(scales.data(), f32::from_le_bytes)
            }
            Ok(other) => {
                let got = format!("{:?} {:?}", other.dtype(), other.shape());
                return Err(malformed(format!("F32 [{rows}]"), got));
            }
            Err(_) => return Err(malformed(format!("F32 [{rows}]"), "no such tensor".into())),
        };
        if let Some(row) = scales.iter().position(|scale| !scale.is_finite() || *scale < 0.0) {
            return Err(malformed("scales of 0 and more".into(), format!("{} in row {row}", scales[row])));
        }
        let integers: Vec<i8> = elements(view.data(), i8::from_le_bytes);
        let columns = integers.len() / rows.max(1);
        let mut data = Vec::with_capacity(integers.len());
        // Other integers and scales than gatefold's own would not come back when they are packed again.
        let mut own = true;
        for (row, &scale) in integers.chunks_exact(columns.max(1)).zip(&scales) {
            let start = data.len();
            data.extend(row.iter().map(|&integer| f32::from(integer) * scale));
            let (again, integers) = quantize_row(&data[start..]);
            let same = |(&integer, &number): (&i8, &f32)| (f32::from(integer) * again).to_bits() == number.to_bits();
            own &= integers == row && row.iter().zip(&data[start..]).all(same);
        }
        let format = if own { WeightFormat::Int8 } else { WeightFormat::F32 };
        Ok(Tensor::new(view.shape().to_vec(), data)?.marked(format))
    }

    /// Names of tensors, without those that are another's scales, and with matrices in the place of their pairs.
    fn names(&self) -> impl Iterator<Item = &str> {
        let parts: BTreeSet<&str> = self.pairs.values().flatten().map(String::as_str).collect();
        let own = self.tensors.names().into_iter().filter(move |name| {
            let of = name.strip_suffix(SCALE).and_then(|of| self.tensors.tensor(of).ok());
            of.is_none_or(|of| of.dtype() != Dtype::I8) && !parts.contains(name)
        });
        own.chain(self.pairs.keys().map(String::as_str))
    }

    /// What the metadata say under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key).map(String::as_str)
    }

    fn description(&self) -> Option<&str> {
        self.metadata(METADATA_KEY)
    }

    fn described(&self, name: &str, description: &str) -> Result<Network> {
        let spec: NetworkSpec = serde_json::from_str(description).map_err(|error| Error::Malformed {
            what: format!("{name}: network description"),
            expected: "gatefold's JSON".into(),
            got: error.to_string(),
        })?;
        let renamed = pytorch::renamed(&spec, &self.shapes());
        // PyTorch counts the batches that a normalization has seen; nothing depends on it.
        let counters: BTreeSet<String> = spec
            .layers
            .iter()
            .filter(|layer| matches!(layer, LayerSpec::BatchNorm(_)))
            .map(|layer| format!("{}.num_batches_tracked", layer.name()))
            .collect();
        let mut tensors = BTreeMap::new();
        for name in self.names().filter(|name| !counters.contains(*name)) {
            tensors.insert(renamed.get(name).map_or(name, String::as_str).to_owned(), self.tensor(name)?);
        }
        scan_packages::convert(&spec, &mut tensors)?;
        scores::convert(&spec, &mut tensors)?;
        xlstm::convert(&spec, &mut tensors)?;
        let axes = self.metadata(AXES_KEY).map(serde_json::from_str).transpose().map_err(|error| Error::Malformed {
            what: format!("{name}: metadata `{AXES_KEY}`"),
            expected: "the axes of an input and an output as JSON".into(),
            got: error.to_string(),
        })?;
        let dropout = self.metadata(DROPOUT_KEY).map(serde_json::from_str).transpose();
        let dropout: Option<Vec<FileDropout>> = dropout.map_err(|error| Error::Malformed {
            what: format!("{name}: metadata `{DROPOUT_KEY}`"),
            expected: "the dropout of layers as JSON".into(),
            got: error.to_string(),
        })?;
        Ok(Network::new(spec, tensors)?.with_file_axes(axes).with_file_dropout(dropout.unwrap_or_default()))
    }

    fn undescribed(&self, name: &str, also: &str) -> Result<Network> {
        if self.metadata(CHECKPOINT_KEY).is_some() {
            return Err(Error::Malformed {
                what: name.to_owned(),
                expected: "a model file".into(),
                got: "a checkpoint of training, which `Trainer::resume` and `gatefold train --resume` read".into(),
            });
        }
        if let Some(network) = scan_packages::undescribed(self) {
            return network;
        }
        pytorch::undescribed(self).unwrap_or_else(|found| {
            let expected = format!(
                "a network description under the metadata key `{METADATA_KEY}` or in a .json file beside it, \
                 {{\"format\": 1, \"layers\": [..]}}, or one recurrent module alone"
            );
            let got = [format!("no such key {also}").trim_end(), &found].join("; ");
            Err(Error::Malformed { what: name.to_owned(), expected, got })
        })
    }
}

/// Numbers of any float type as `f32`.
fn decode(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>> {
    let bytes = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => elements(bytes, f32::from_le_bytes),
        Dtype::F16 => elements(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => elements(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
        #[expect(clippy::cast_possible_truncation, reason = "f64 weights are rounded to f32 on purpose")]
        Dtype::F64 => elements(bytes, |b| f64::from_le_bytes(b) as f32),
        other => {
            return Err(Error::Unsupported {
                place: format!("tensor `{name}`"),
                what: format!("dtype {other:?} (supported: F32, F16, BF16, F64, I8 with scales)"),
            });
        }
    })
}

/// The numbers in `bytes`, N bytes each.
pub(super) fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .chunks_exact(N)
        .map(|chunk| {
            let mut number = [0; N];
            number.copy_from_slice(chunk);
            read(number)
        })
        .collect()
}

/// The bytes of a file of `tensors`; `what` it is stands in an error.
pub(crate) fn to_file(
    what: &str,
    tensors: impl IntoIterator<Item = (String, StoredTensor)>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| Error::Malformed {
        what: what.into(),
        expected: "tensors that safetensors can hold".into(),
        got: error.to_string(),
    })
}

/// A tensor as it lies in a file.
pub(crate) struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl StoredTensor {
    /// Numbers as they are.
    pub fn f32(shape: &[usize], numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// The tensor in its format, and its scales if it has any.
    fn all(name: &str, tensor: &Tensor) -> Vec<(String, Self)> {
        let stored = |dtype, bytes| Self { dtype, shape: tensor.shape().to_vec(), bytes };
        match tensor.format() {
            WeightFormat::F32 => vec![(name.to_owned(), Self::f32(tensor.shape(), tensor.data()))],
            WeightFormat::F16 => {
                let halves = tensor.data().iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
                vec![(name.to_owned(), stored(Dtype::F16, halves))]
            }
            WeightFormat::Int8 => {
                let rows = tensor.shape().first().copied().unwrap_or(1);
                let columns = (tensor.data().len() / rows.max(1)).max(1);
                let (scales, integers): (Vec<f32>, Vec<Vec<i8>>) =
                    tensor.data().chunks_exact(columns).map(quantize_row).unzip();
                let integers = integers.concat().into_iter().flat_map(i8::to_le_bytes).collect();
                let scales = Self::f32(&[rows], &scales);
                vec![(name.to_owned(), stored(Dtype::I8, integers)), (format!("{name}{SCALE}"), scales)]
            }
        }
    }
}

impl View for StoredTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

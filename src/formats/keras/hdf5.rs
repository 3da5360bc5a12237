//! The parts of HDF5 that the reader needs; what is read is bounded by the size of the file.

use std::borrow::Cow;
use std::cell::Cell;

use hdf5_reader::attribute_api::Attribute;
use hdf5_reader::error::Error as Hdf5Error;
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions, SliceInfo, SliceInfoElem};

use super::{limit, malformed};
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::formats::safetensors::elements;
use crate::formats::transpose::transpose_rows;
use crate::network::Tensor;

/// First bytes of an HDF5 file.
pub(super) const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

pub(super) struct Hdf5 {
    name: String,
    file: Hdf5File,
    /// Whether Keras wrote the file on Windows: the parts of a group's name are then separated by backslashes.
    on_windows: bool,
    /// Bytes of datasets that may still be read, so that small files cannot cause large allocations.
    budget: Cell<u64>,
}

impl Hdf5 {
    pub(super) fn open(name: String, bytes: Vec<u8>) -> Result<Self> {
        let budget = limit(bytes.len());
        let most = usize::try_from(budget).unwrap_or(usize::MAX);
        let options = OpenOptions::default().with_max_read_bytes(most).with_max_chunk_bytes(most);
        let file = Hdf5File::from_vec_with_options(bytes, options).map_err(|e| malformed(&name, "an HDF5 file", &e))?;
        let on_windows = roots(&file).iter().any(|group| group.contains('\\'));
        Ok(Self { name, file, on_windows, budget: Cell::new(budget) })
    }

    /// A path as it is spelled in the file: for `layers/lstm/cell/vars/0` a file of Windows has a group `layers\lstm\cell`.
    fn spelled<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if !self.on_windows {
            return path.into();
        }
        match path.rsplit_once("/vars") {
            Some((group, array)) => format!("{}/vars{array}", group.replace('/', "\\")).into(),
            None => path.replace('/', "\\").into(),
        }
    }

    /// Whether a layer's arrays lie below the group `path`.
    pub(super) fn has_layers(&self, path: &str) -> Result<bool> {
        if !self.on_windows {
            return self.has_group(path);
        }
        Ok(roots(&self.file).iter().any(|group| group.split('\\').next() == Some(path)))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn has_group(&self, path: &str) -> Result<bool> {
        Ok(self.group(path)?.is_some())
    }

    /// The text in an attribute of the group at `path`; `None` if there is no such attribute.
    pub(super) fn text(&self, path: &str, attribute: &str) -> Result<Option<String>> {
        Ok(self.texts(path, attribute)?.and_then(|texts| texts.into_iter().next()))
    }

    /// The texts in an attribute of the group at `path`; `None` if there is no such attribute.
    /// h5py writes an empty list as numbers: no texts.
    pub(super) fn texts(&self, path: &str, attribute: &str) -> Result<Option<Vec<String>>> {
        let Some(group) = self.group(path)? else { return Ok(None) };
        let Some(attribute) = self.found(path, group.attribute(attribute))? else { return Ok(None) };
        if attribute.num_elements().is_ok_and(|count| count == 0) {
            return Ok(Some(Vec::new()));
        }
        match attribute.read_strings() {
            Ok(texts) => Ok(Some(texts)),
            Err(error) => Err(self.broken(path, &error)),
        }
    }

    /// The dataset at `path`, if its shape is `expected`; `None` if there is none.
    pub(super) fn tensor(&self, path: &str, expected: &[usize]) -> Result<Option<Tensor>> {
        let Some((dataset, decode)) = self.dataset(path, expected)? else { return Ok(None) };
        let numbers = self.numbers(path, &dataset, decode)?;
        Tensor::new(expected.to_vec(), numbers).map(Some)
    }

    /// As [`Hdf5::tensor`], a matrix `[K, N]` as `[N, K]`.
    pub(super) fn transposed(&self, path: &str, expected: [usize; 2]) -> Result<Option<Tensor>> {
        // So many numbers of a large matrix are read at a time, or so many rows, which fill a cache line of the result.
        const PART: usize = 1 << 14;
        const ROWS: usize = 16;
        let Some((dataset, decode)) = self.dataset(path, &expected)? else { return Ok(None) };
        let [rows, columns] = expected;
        let mut transposed = vec![0.0; rows * columns];
        if is_f32(&dataset) && dataset.chunks().is_none() {
            let at_once = (PART / columns.max(1)).max(ROWS);
            for first in (0..rows).step_by(at_once) {
                let end = rows.min(first + at_once) as u64;
                let range = |start, end| SliceInfoElem::Slice { start, end, step: 1 };
                let selections = vec![range(first as u64, end), range(0, columns as u64)];
                let part = dataset.read_slice::<f32>(&SliceInfo { selections });
                let (part, _) = part.map_err(|error| self.broken(path, &error))?.into_raw_vec_and_offset();
                transpose_rows(&part, first, expected, &mut transposed);
            }
        } else {
            transpose_rows(&self.numbers(path, &dataset, decode)?, 0, expected, &mut transposed);
        }
        Tensor::new(vec![columns, rows], transposed).map(Some)
    }

    /// The dataset at `path`, if its shape is `expected` and the file may hold so much, and how it is decoded.
    fn dataset(&self, path: &str, expected: &[usize]) -> Result<Option<(Dataset, Decoder)>> {
        let Some(dataset) = self.found(path, self.file.dataset(&self.spelled(path)))? else { return Ok(None) };
        let shape: Vec<usize> = dataset.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
        if shape != expected {
            return Err(Error::TensorShape { name: path.to_owned(), expected: expected.to_vec(), got: shape });
        }
        let decode = self.decoder(path, &dataset)?;
        let needed = dataset.raw_byte_len().map_err(|error| self.broken(path, &error))?;
        let what = || format!("dataset {path}");
        self.charge(what, needed as u64)?;
        // The bytes, and the numbers that they become.
        let numbers: usize = shape.iter().product();
        room(|| format!("{}: {}", self.name, what()), numbers.saturating_mul(2), size_of::<f64>())?;
        Ok(Some((dataset, decode)))
    }

    /// An error if the file may not hold so many bytes, with all that was read before.
    fn charge(&self, what: impl Fn() -> String, needed: u64) -> Result<()> {
        let limit = self.budget.get();
        let Some(left) = limit.checked_sub(needed) else {
            let what = format!("{}: {}", self.name, what());
            return Err(Error::TooLarge {
                what,
                needed,
                limit,
                limit_name: "what a file of this size may hold".into(),
            });
        };
        self.budget.set(left);
        Ok(())
    }

    /// As if so many numbers were read: for tensors that are larger than the arrays that they are made of.
    pub(super) fn spend(&self, what: impl Fn() -> String, numbers: usize) -> Result<()> {
        self.charge(&what, (numbers as u64).saturating_mul(size_of::<f32>() as u64))?;
        room(what, numbers, size_of::<f32>())
    }

    fn numbers(&self, path: &str, dataset: &Dataset, decode: Decoder) -> Result<Vec<f32>> {
        if is_f32(dataset) {
            let count = dataset.num_elements().map_err(|error| self.broken(path, &error))?;
            let mut numbers = vec![0.0; usize::try_from(count).unwrap_or(usize::MAX)];
            dataset.read_into(&mut numbers).map_err(|error| self.broken(path, &error))?;
            return Ok(numbers);
        }
        let bytes = dataset.read_native_bytes().map_err(|error| self.broken(path, &error))?;
        Ok(decode(&bytes))
    }

    /// How the dataset's bytes become numbers.
    fn decoder(&self, path: &str, dataset: &Dataset) -> Result<Decoder> {
        let brain_float = || dataset.attribute("dtype").is_ok_and(|dtype| is_text(&dtype, "bfloat16"));
        Ok(match dataset.dtype() {
            Datatype::FloatingPoint { size: 2, .. } => {
                |bytes| elements(bytes, |b| half::f16::from_ne_bytes(b).to_f32())
            }
            Datatype::FloatingPoint { size: 4, .. } => |bytes| elements(bytes, f32::from_ne_bytes),
            #[expect(clippy::cast_possible_truncation, reason = "f64 weights are rounded to f32 on purpose")]
            Datatype::FloatingPoint { size: 8, .. } => |bytes| elements(bytes, |b| f64::from_ne_bytes(b) as f32),
            // h5py stores a type that it does not support as it lies in memory, on little-endian machines.
            Datatype::Opaque { size: 2, .. } if brain_float() => {
                |bytes| elements(bytes, |b| half::bf16::from_le_bytes(b).to_f32())
            }
            other => {
                return Err(Error::Unsupported {
                    place: format!("{}: dataset {path}", self.name),
                    what: format!("dtype {other:?} (supported: floats of 16, 32 and 64 bits)"),
                });
            }
        })
    }

    /// Whether there is a dataset at `path`.
    pub(super) fn has_dataset(&self, path: &str) -> Result<bool> {
        Ok(self.found(path, self.file.dataset(&self.spelled(path)))?.is_some())
    }

    fn group(&self, path: &str) -> Result<Option<Group>> {
        self.found(path, self.file.group(&self.spelled(path)))
    }

    /// `None` for an object that does not exist; other errors mean that the file is malformed.
    fn found<T>(&self, path: &str, result: Result<T, Hdf5Error>) -> Result<Option<T>> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(self.broken(path, &error)),
        }
    }

    fn broken(&self, path: &str, error: &Hdf5Error) -> Error {
        malformed(&format!("{}: {path}", self.name), "an intact HDF5 object", error)
    }
}

/// Names of the groups that lie in no other; none where they cannot be listed.
fn roots(file: &Hdf5File) -> Vec<String> {
    file.root_group().and_then(|root| root.member_names()).map(|(groups, _)| groups).unwrap_or_default()
}

fn is_f32(dataset: &Dataset) -> bool {
    matches!(dataset.dtype(), Datatype::FloatingPoint { size: 4, .. })
}

/// Bytes as numbers.
type Decoder = fn(&[u8]) -> Vec<f32>;

fn is_text(attribute: &Attribute, text: &str) -> bool {
    attribute.read_strings().is_ok_and(|texts| texts == [text])
}

fn is_absence(error: &Hdf5Error) -> bool {
    match error {
        Hdf5Error::GroupNotFound(_) | Hdf5Error::DatasetNotFound(_) | Hdf5Error::AttributeNotFound(_) => true,
        Hdf5Error::Context { source, .. } => is_absence(source),
        _ => false,
    }
}

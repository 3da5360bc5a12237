//! Files to [`Network`] and back.

pub mod amp;
mod bank;
mod foreign;
#[cfg(feature = "keras")]
pub mod keras;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod pytorch;
pub mod safetensors;
mod scan_packages;
mod scores;
mod state;
mod survey;
mod transpose;
mod weight_norm;
mod xlstm;

pub use self::survey::Survey;

use std::io::Read as _;
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::base::span::span;
use crate::network::Network;

/// Bytes at a file's start by which its format is recognized.
const START: u64 = 256;

const ZIP: &[u8] = b"PK\x03\x04";
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
/// The tag of `ir_version`, the first field of ONNX's model.
const ONNX_VERSION: u8 = 0x08;

impl Network {
    /// Reads a network from a safetensors, Keras or ONNX file or from one of an [amplifier](amp), whose format is
    /// recognized by its content and, for ONNX, its name.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Unsupported`] if the feature for its
    /// format is off; otherwise as the `load` of its format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        span!("load", path = %path.display());
        let start = start_of(path)?;
        if amp::is_json(&start) {
            return Ok(amp::load(path)?.network);
        }
        foreign::refuse(&path.display().to_string(), &start)?;
        if is_keras(&start) {
            #[cfg(feature = "keras")]
            return keras::load(path);
            #[cfg(not(feature = "keras"))]
            return Err(left_out(path, "keras"));
        }
        if is_onnx(path) {
            #[cfg(feature = "onnx")]
            return onnx::load(path);
            #[cfg(not(feature = "onnx"))]
            return Err(left_out(path, "onnx"));
        }
        safetensors::load(path)
    }

    /// Reads a network from the bytes of a file as [`Network::load`], whose format is recognized by its content, for
    /// where there is no file system. `name` is used in errors; descriptions and data in other files are not found.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        if amp::is_json(bytes) {
            return Ok(amp::from_bytes(name, bytes)?.network);
        }
        foreign::refuse(name, bytes)?;
        if is_keras(bytes) {
            #[cfg(feature = "keras")]
            return keras::from_bytes(name, bytes);
            #[cfg(not(feature = "keras"))]
            return Err(left_out(Path::new(name), "keras"));
        }
        // ONNX begins with the number of its version; safetensors with a length below 100 MB and then a brace.
        if bytes.first() == Some(&ONNX_VERSION) && bytes.get(8) != Some(&b'{') {
            #[cfg(feature = "onnx")]
            return onnx::from_bytes(name, bytes);
            #[cfg(not(feature = "onnx"))]
            return Err(left_out(Path::new(name), "onnx"));
        }
        safetensors::from_bytes(name, bytes)
    }
}

/// A file's first bytes.
fn start_of(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        return Err(foreign::folder(path));
    }
    let mut start = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(START).read_to_end(&mut start))
        .map_err(|source| Error::Io { path: path.into(), source })?;
    Ok(start)
}

fn is_keras(start: &[u8]) -> bool {
    start.starts_with(ZIP) || start.starts_with(HDF5)
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// What of a refused Keras or ONNX file is read, and everything in it that is not. None for files of other formats.
///
/// # Errors
/// As [`Network::load`], where the file cannot be read so far that its parts are known.
pub fn survey(path: impl AsRef<Path>) -> Result<Option<Survey>> {
    let path = path.as_ref();
    match (is_onnx(path), is_keras(&start_of(path)?)) {
        #[cfg(feature = "onnx")]
        (true, _) => onnx::survey(path).map(Some),
        #[cfg(feature = "keras")]
        (false, true) => keras::survey(path).map(Some),
        _ => Ok(None),
    }
}

/// The error of a format that this build does not read.
#[cfg(not(all(feature = "keras", feature = "onnx")))]
fn left_out(path: &Path, feature: &str) -> Error {
    Error::Unsupported {
        place: path.display().to_string(),
        what: format!("its format, since gatefold was built without the feature `{feature}`,"),
    }
}

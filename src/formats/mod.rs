//! Files to [`Network`] and back.

mod foreign;
#[cfg(feature = "keras")]
pub mod keras;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod pytorch;
pub mod safetensors;
mod state;

use std::io::Read as _;
use std::path::Path;

use crate::base::error::{Error, Result};
use crate::network::Network;

/// Bytes at a file's start by which its format is recognized.
const START: u64 = 256;

impl Network {
    /// Reads a network from a safetensors, Keras or ONNX file, whose format is recognized by
    /// its content and, for ONNX, its name.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Unsupported`] if the feature for its
    /// format is off; otherwise as the `load` of its format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut start = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(START).read_to_end(&mut start))
            .map_err(|source| Error::Io { path: path.into(), source })?;
        foreign::refuse(&path.display().to_string(), &start)?;
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x89HDF\r\n\x1a\n") {
            #[cfg(feature = "keras")]
            return keras::load(path);
            #[cfg(not(feature = "keras"))]
            return Err(left_out(path, "keras"));
        }
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
            #[cfg(feature = "onnx")]
            return onnx::load(path);
            #[cfg(not(feature = "onnx"))]
            return Err(left_out(path, "onnx"));
        }
        safetensors::load(path)
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

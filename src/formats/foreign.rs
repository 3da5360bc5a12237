//! Files that are given as models but are of another kind: the error names the kind and what to do about it.

use std::path::Path;

use crate::base::error::{Error, Result};

/// An error if `bytes` begin as a file of a known other kind.
pub(super) fn refuse(name: &str, bytes: &[u8]) -> Result<()> {
    match kind(bytes) {
        None => Ok(()),
        Some(kind) => Err(Error::Malformed {
            what: name.to_owned(),
            expected: "a model in safetensors, Keras or ONNX format".into(),
            got: kind.into(),
        }),
    }
}

fn kind(bytes: &[u8]) -> Option<&'static str> {
    // The length of a safetensors header may be any 8 bytes; the header after it is JSON.
    if bytes.get(8) == Some(&b'{') {
        return None;
    }
    let start = &bytes[..bytes.len().min(256)];
    let has = |part: &[u8]| start.windows(part.len()).any(|window| window == part);
    let text = start.trim_ascii_start();
    let text_starts = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    Some(match start {
        _ if start.starts_with(b"version https://git-lfs.github.com/spec/") => {
            "a Git LFS pointer, which stands for the model; `git lfs pull` fetches the file itself"
        }
        _ if text_starts(b"<!doctype") || text_starts(b"<html") => {
            "a web page, which a server sent in the place of the model"
        }
        _ if text_starts(b"<?xml") => "an XML document, which a server may have sent in the place of the model",
        // The first entry of PyTorch's archives.
        _ if start.starts_with(b"PK\x03\x04") && has(b"data.pkl") => PICKLE,
        // The number with which older versions of torch.save begin.
        [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, ..] => PICKLE,
        [0x80, 2..=5, ..] => {
            "a Python pickle, which can run code when it is read; save the weights with safetensors, or export the model to \
             ONNX"
        }
        // Version 1 of the format, and its first graph.
        [0x08, 1, 0x12, ..] => SAVED_MODEL,
        _ if start.starts_with(b"\x93NUMPY") => "a NumPy array",
        [0x1f, 0x8b, ..] => "a gzip archive; unpack it first",
        _ if start.starts_with(b"GGUF") => "a GGUF file",
        _ if start.get(4..8) == Some(b"TFL3") => "a TensorFlow Lite model",
        _ if !start.is_empty() && start.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            "a text file"
        }
        _ => return None,
    })
}

/// What is said of a folder.
pub(super) fn folder(path: &Path) -> Error {
    let got = if path.join("saved_model.pb").is_file() { SAVED_MODEL } else { "a folder" };
    let expected = "a file in safetensors, Keras or ONNX format".into();
    Error::Malformed { what: path.display().to_string(), expected, got: got.into() }
}

/// A model of TensorFlow.
const SAVED_MODEL: &str = "a TensorFlow SavedModel; save the model as `.keras`, or convert its folder to ONNX with \
                           `python -m tf2onnx.convert --saved-model`";

/// A PyTorch file.
pub(super) const PICKLE: &str = "a PyTorch file (torch.save, pickle), which can run code when it is read; in Python, save its \
                      state_dict with safetensors.torch.save_file, or export the module to ONNX";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_told_by_their_start() {
        for (bytes, word) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"[..], "git lfs pull"),
            (b"\n  <!DOCTYPE html>\n<html>", "web page"),
            (b"<HTML><body>404", "web page"),
            (b"<?xml version=\"1.0\"?><Error>", "XML"),
            (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0weights/data.pklFB", "state_dict"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "state_dict"),
            (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}\x94", "Python pickle"),
            (b"\x08\x01\x12\x87\xcf\xef\x01\x0a\xba#", "SavedModel"),
            (b"\x93NUMPY\x01\0", "NumPy"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"Entry not found", "a text file"),
        ] {
            let error = refuse("file", bytes).unwrap_err().to_string();
            assert!(error.starts_with("file: expected a model") && error.contains(word), "{error}");
        }
    }

    #[test]
    fn models_and_noise_pass() {
        let safetensors = b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}";
        // A header of 640 bytes, whose length reads as the start of a pickle.
        let long = b"\x80\x02\0\0\0\0\0\0{\"__metadata__\":{}}";
        let keras = b"PK\x03\x04 config.json";
        for bytes in [&safetensors[..], long, keras, b"\x89HDF\r\n\x1a\n", b"\x08\x07\x12", b"", b"\0text"] {
            assert!(refuse("file", bytes).is_ok(), "{bytes:?}");
        }
    }
}

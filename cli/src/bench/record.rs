//! Record files.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gatefold::{Error, files};

use super::measure::Place;
use crate::Result;

/// A file that was found to be writable before the measurement.
pub enum Target {
    /// This file; an existing one is replaced.
    File(PathBuf),
    /// A new file in this folder, named after the time.
    New(PathBuf),
}

impl Target {
    /// `path` itself.
    pub fn file(path: &Path) -> Result<Self> {
        check(path, "a file")?;
        Ok(Self::File(path.to_owned()))
    }

    /// `folder/<adapter>/<date>.json`, after the first GPU of the run, else the CPU.
    pub fn record(folder: &Path, places: &[Place]) -> Result<Self> {
        let adapter = places.iter().find(|place| place.info.backend != "cpu").or(places.first());
        let name =
            adapter.map_or_else(|| "none".to_owned(), |place| format!("{} {}", place.info.name, place.info.backend));
        let folder = folder.join(slug(&name));
        fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: expected a folder that can be written, got: {error}", folder.display()))?;
        check(&folder.join("record.json"), "a folder")?;
        Ok(Self::New(folder))
    }

    /// Writes the record and prints its path.
    pub fn write(&self, text: &str) -> Result<PathBuf> {
        let folder = match self {
            Self::File(path) => {
                files::write(path, text.as_bytes())?;
                return Ok(path.clone());
            }
            Self::New(folder) => folder,
        };
        loop {
            let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%S%.3fZ").to_string();
            let path = folder.join(format!("{date}.json"));
            match files::write_new(&path, text.as_bytes()) {
                Ok(()) => return Ok(path),
                // Another run ended in the same millisecond.
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn check(path: &Path, what: &str) -> Result<()> {
    files::check(path).map_err(|error| format!("expected {what} that can be written, got: {error}").into())
}

/// `name` in lower case, letters and digits of ASCII joined by `-`.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_adapters_are_names_of_folders() {
        assert_eq!(slug("llvmpipe (LLVM 15.0.6, 256 bits) vulkan"), "llvmpipe-llvm-15-0-6-256-bits-vulkan");
        assert_eq!(slug("../a/b"), "a-b");
    }
}

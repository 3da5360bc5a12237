//! Files that keep a run.

use std::fs;
use std::path::{Path, PathBuf};

use super::measure::Place;
use crate::Result;

/// A file that can be written, found out before anything is measured.
pub struct Target(PathBuf);

impl Target {
    /// `path` itself.
    pub fn file(path: &Path) -> Result<Self> {
        let there = path.exists();
        let trial = fs::OpenOptions::new().append(true).create(true).open(path);
        trial.map_err(|error| format!("{}: expected a file that can be written, got: {error}", path.display()))?;
        if !there {
            // A run that is broken off leaves no empty record. What cannot be removed is written over later.
            let _ = fs::remove_file(path);
        }
        Ok(Self(path.to_owned()))
    }

    /// `folder/<adapter>/<date>.json`, after the first GPU of the run, else the CPU.
    pub fn record(folder: &Path, places: &[Place]) -> Result<Self> {
        let adapter = places.iter().find(|place| place.info.backend != "cpu").or(places.first());
        let name =
            adapter.map_or_else(|| "none".to_owned(), |place| format!("{} {}", place.info.name, place.info.backend));
        let folder = folder.join(slug(&name));
        fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: expected a folder that can be written, got: {error}", folder.display()))?;
        let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%S%.3fZ").to_string();
        Self::file(&folder.join(format!("{date}.json")))
    }

    /// Writes it.
    pub fn write(&self, text: &str) -> Result<()> {
        Ok(fs::write(&self.0, text).map_err(|error| format!("{}: {error}", self.0.display()))?)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
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

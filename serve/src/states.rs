//! Sequences that outlive the server: a file for each model, `MODEL.sequences`, with a line of JSON that names the sequences,
//! and behind it a state file with a batch row for each.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gatefold::{Error, Result, State, files};
use serde::{Deserialize, Serialize};

use crate::model::Loaded;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    gatefold_sequences: u32,
    fingerprint: String,
    sequences: Vec<Stored>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    sequence_id: String,
    steps: u64,
}

fn file(folder: &Path, model: &Loaded, ending: &str) -> PathBuf {
    folder.join(format!("{}.sequences{ending}", model.name))
}

/// Writes the sequences of a model, and says how many; without one there is no file.
pub fn save(folder: &Path, model: &Loaded) -> Result<usize> {
    let Ok(streams) = &model.streams else { return Ok(0) };
    let pool = streams.sequences.pool();
    let mut all = streams.sequences.all();
    // A state file has finite numbers alone; a state that is not is left out, and the others are kept.
    let stored = |all: &[(String, std::sync::Arc<crate::sequences::Sequence>)]| {
        let ids: Vec<_> = all.iter().map(|(_, sequence)| sequence.stream).collect();
        pool.states(&ids)?.to_bytes(model.network())
    };
    if all.is_empty() {
        return Ok(0);
    }
    let bytes = match stored(&all) {
        Err(Error::NonFinite { .. }) => {
            all.retain(|(name, sequence)| match stored(&[(name.clone(), sequence.clone())]) {
                Ok(_) => true,
                Err(error) => {
                    log::warn!("model `{}`: sequence `{name}` is not stored: {error}", model.name);
                    false
                }
            });
            if all.is_empty() {
                return Ok(0);
            }
            stored(&all)?
        }
        other => other?,
    };
    let sequences =
        all.iter().map(|(name, sequence)| Stored { sequence_id: name.clone(), steps: sequence.steps() }).collect();
    let head = Head { gatefold_sequences: FORMAT, fingerprint: model.fingerprint(), sequences };
    // Texts and numbers are all that it has, so that there is no error.
    let mut content = serde_json::to_vec(&head).unwrap_or_default();
    content.push(b'\n');
    content.extend(bytes);
    files::write(&file(folder, model, ""), &content)?;
    Ok(all.len())
}

/// A file of sequences that has been read and gets another name before a request is answered, so that no later server
/// continues from states that are older than what the clients have been told.
pub struct Read {
    from: PathBuf,
    to: PathBuf,
}

/// Renames the files, all or none of them, and waits until their names are on the disk.
pub fn rename_read(folder: &Path, files: &[Read]) -> Result<()> {
    for (done, file) in files.iter().enumerate() {
        if let Err(source) = std::fs::rename(&file.from, &file.to) {
            for file in &files[..done] {
                if let Err(error) = std::fs::rename(&file.to, &file.from) {
                    log::error!("{}: its sequences are in {}: {error}", file.from.display(), file.to.display());
                }
            }
            return Err(Error::Io { path: file.from.clone(), source });
        }
    }
    #[cfg(unix)]
    if !files.is_empty() {
        // Some file systems cannot sync a folder.
        if let Err(error) = std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
            log::warn!("{}: its new names may not be on the disk yet: {error}", folder.display());
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The first of `path`, `path.2`, `path.3` ... that does not exist.
fn free(path: &Path) -> Result<PathBuf> {
    let mut name = path.to_owned();
    for number in 2u32.. {
        if !name.try_exists().map_err(|source| Error::Io { path: name.clone(), source })? {
            break;
        }
        let mut numbered = path.as_os_str().to_owned();
        numbered.push(format!(".{number}"));
        name = numbered.into();
    }
    Ok(name)
}

/// Opens the sequences of a model that an earlier server stored, and says how many. The file stays until [`rename_read`].
pub fn restore(folder: &Path, model: &Loaded) -> Result<(usize, Option<Read>)> {
    let path = file(folder, model, "");
    let failed = |source| Error::Io { path: path.clone(), source };
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((0, None)),
        Err(error) => return Err(failed(error)),
    };
    let malformed = |expected: &str, got: String| Error::Malformed {
        what: path.display().to_string(),
        expected: expected.into(),
        got,
    };
    let end = content.iter().position(|&byte| byte == b'\n').unwrap_or(content.len());
    let head: Head = serde_json::from_slice(&content[..end])
        .map_err(|error| malformed("sequences that a server stored", error.to_string()))?;
    if head.gatefold_sequences != FORMAT {
        return Err(malformed(&format!("gatefold_sequences {FORMAT}"), head.gatefold_sequences.to_string()));
    }
    if head.fingerprint != model.fingerprint() {
        let kept = free(&file(folder, model, &format!(".of-{}", plain(&head.fingerprint))))?;
        log::warn!(
            "model `{}`: {} stored sequences are of another network, {}; they will be kept in {}",
            model.name,
            head.sequences.len(),
            head.fingerprint,
            kept.display()
        );
        return Ok((0, Some(Read { from: path, to: kept })));
    }
    let state = State::from_bytes(&content[(end + 1).min(content.len())..], model.network())
        .map_err(|error| malformed("the states of the sequences", error.to_string()))?;
    let Ok(streams) = &model.streams else { return Ok((0, None)) };
    let rows = state.layers.iter().flat_map(|layer| &layer.parts).map(|part| part.batch()).next();
    if rows.is_some_and(|rows| rows != head.sequences.len()) {
        let expected = format!("{} states, one for each sequence", head.sequences.len());
        return Err(malformed(&expected, rows.unwrap_or(0).to_string()));
    }
    let sequences = &streams.sequences;
    let mut opened = Vec::with_capacity(head.sequences.len());
    for stored in &head.sequences {
        opened.push(
            sequences.open_after(stored.steps).map_err(|error| malformed("as many sequences as fit", error.message))?,
        );
    }
    let ids: Vec<_> = opened.iter().map(|sequence| sequence.stream).collect();
    sequences.pool().set_states(&ids, &state)?;
    for (stored, sequence) in head.sequences.iter().zip(opened) {
        sequences.insert(&stored.sequence_id, sequence);
    }
    let to = file(folder, model, ".restored");
    Ok((head.sequences.len(), Some(Read { from: path, to })))
}

/// For a name of a file.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

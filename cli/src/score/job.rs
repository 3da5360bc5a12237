//! The folder of finished parts, from which an interrupted run goes on.
//!
//! `job.json` says what the parts are of. Each part is two files, which are written under another name and renamed: its
//! rows, and then its record, so that a part with a record is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use gatefold::files;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::input::{Bad, Position};
use crate::Result;

const LOCK: &str = "lock";
const JOB: &str = "job.json";
/// Files before they get their names.
const JOINED: &str = "joined";
const BAD: &str = "bad";

/// What is known of a finished part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Rows in it.
    pub rows: u64,
    /// Where the next part begins in the input.
    pub next: Position,
    /// Hash of its file.
    hash: String,
    /// Rows that were left out.
    pub bad: Vec<Bad>,
}

/// The parts of one output file. No other process writes them.
pub struct Job {
    folder: PathBuf,
    /// Held until the end.
    _lock: File,
}

/// What a job depends on, by name.
pub type Facts = BTreeMap<String, String>;

pub fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}

impl Job {
    /// Begins a job, or goes on with one of the same facts.
    pub fn new(folder: PathBuf, facts: &Facts, resume: bool, force: bool) -> Result<Self> {
        let shown = folder.display().to_string();
        let failed = |error: std::io::Error| format!("{shown}: {error}");
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::options().write(true).create(true).truncate(false).open(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(format!("{shown}: expected no other process to write these parts, got one").into());
            }
            Err(fs::TryLockError::Error(error)) => log::info!("{shown}: not locked: {error}"),
        }
        let job = Self { folder, _lock: lock };
        let begun = job.folder.join(JOB);
        if !begun.exists() {
            job.expect_no_others()?;
        }
        if !begun.exists() || force {
            job.clear()?;
            files::write(&begun, serde_json::to_string_pretty(facts)?.as_bytes())?;
            return Ok(job);
        }
        if !resume {
            return Err(format!(
                "{shown}: expected no parts of an interrupted run, got some; --resume goes on, --force begins again"
            )
            .into());
        }
        let stored = fs::read(&begun).map_err(failed)?;
        let stored: Facts = serde_json::from_slice(&stored).unwrap_or_default();
        for (name, now) in facts {
            let before = stored.get(name).map_or("nothing", String::as_str);
            if before != now {
                return Err(format!(
                    "{shown}: cannot go on: expected the {name} of the interrupted run ({before}), got {now}; --force \
                     begins again"
                )
                .into());
            }
        }
        Ok(job)
    }

    /// An error if a folder that no run began has files of another origin, which would be removed with the parts.
    fn expect_no_others(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            // A run that was killed before it began may leave the file that was to be its first.
            let is_own = name == LOCK || name.to_string_lossy().starts_with(".gatefold-");
            if !is_own {
                let shown = self.folder.display();
                return Err(
                    format!("{shown}: expected a folder of gatefold's own, got one with {}", name.display()).into()
                );
            }
        }
        Ok(())
    }

    /// Removes everything but the lock.
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != LOCK) {
                fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }

    fn record(&self, number: usize) -> PathBuf {
        self.folder.join(format!("part-{number:06}.json"))
    }

    /// The file of a part's rows.
    pub fn rows(&self, number: usize) -> PathBuf {
        self.folder.join(format!("part-{number:06}.rows"))
    }

    /// The finished parts from the first on, up to one that is not there or not whole; for the latter a line says why.
    pub fn finished(&self) -> (Vec<Record>, Option<String>) {
        let mut records = Vec::new();
        loop {
            let number = records.len();
            let path = self.record(number);
            let Ok(stored) = fs::read(&path) else { return (records, None) };
            let again = |why: &str| {
                Some(format!("{}: {why}; this part and those behind it are done again", self.rows(number).display()))
            };
            let Ok(record) = serde_json::from_slice::<Record>(&stored) else {
                return (records, again("its record cannot be read"));
            };
            match fs::read(self.rows(number)) {
                Ok(rows) if hash(&rows) == record.hash => records.push(record),
                Ok(_) => return (records, again("it is not what was written")),
                Err(_) => return (records, again("it cannot be read")),
            }
        }
    }

    /// Stores a part for good.
    pub fn store(&self, number: usize, rows: &[u8], (count, next, bad): (u64, Position, Vec<Bad>)) -> Result<Record> {
        files::write(&self.rows(number), rows)?;
        let record = Record { rows: count, next, hash: hash(rows), bad };
        files::write(&self.record(number), serde_json::to_string(&record)?.as_bytes())?;
        Ok(record)
    }

    /// Makes the whole file and gives it its name.
    pub fn join(&self, output: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
        self.place(JOINED, output, write)
    }

    /// Writes the list of rows that were left out, or removes an old one if there are none. Says whether there is one.
    pub fn list_bad(&self, path: &Path, records: &[Record]) -> Result<bool> {
        if records.iter().all(|record| record.bad.is_empty()) {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{}: {error}", path.display()).into()),
                _ => Ok(false),
            };
        }
        self.place(BAD, path, |file| {
            let mut file = BufWriter::new(file);
            for bad in records.iter().flat_map(|record| &record.bad) {
                writeln!(file, "{}", serde_json::to_string(bad)?)?;
            }
            Ok(file.flush()?)
        })?;
        Ok(true)
    }

    /// Writes a file in the folder, where a killed run leaves nothing that is not removed, and then renames it.
    fn place(&self, name: &str, target: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
        let unfinished = self.folder.join(name);
        let failed = |error: std::io::Error| format!("{}: {error}", unfinished.display());
        let file = File::create(&unfinished).map_err(failed)?;
        write(&file).map_err(|error| format!("{}: {error}", unfinished.display()))?;
        file.sync_all().map_err(failed)?;
        if let Ok(before) = fs::metadata(target) {
            fs::set_permissions(&unfinished, before.permissions()).map_err(failed)?;
        }
        fs::rename(&unfinished, target).map_err(|error| format!("{}: {error}", target.display()))?;
        // The name is on the disk before the parts are gone.
        #[cfg(unix)]
        if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Removes the folder.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()).into())
    }
}

//! Formats of files of rows.

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    Parquet,
    /// With a header
    Csv,
    /// JSON lines: one object in each line
    Jsonl,
}

impl FileFormat {
    /// The chosen one, else that of the file's ending.
    pub fn of(path: &Path, chosen: Option<Self>, option: &str) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let by_ending = match ending.as_deref() {
            Some("parquet" | "pq") => Some(Self::Parquet),
            Some("csv") => Some(Self::Csv),
            Some("jsonl" | "ndjson") => Some(Self::Jsonl),
            _ => None,
        };
        chosen.or(by_ending).ok_or_else(|| {
            format!("{}: expected a name that ends with .parquet, .csv or .jsonl, or {option}", path.display()).into()
        })
    }
}

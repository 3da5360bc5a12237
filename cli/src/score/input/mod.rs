//! Rows of a file, read in windows: as much as one worker takes at once.

mod csv;
mod jsonl;
mod parquet;
mod values;

use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Field;
use serde::{Deserialize, Serialize};

use super::encoder::Encoder;
use super::format::FileFormat;
use crate::Result;
use crate::units::shortened;

/// Most rows of a window.
const WINDOW_ROWS: usize = 4096;
/// Most bytes of a window.
const WINDOW_BYTES: usize = 1 << 20;
/// Fewest bytes that a window is limited to.
const LEAST_WINDOW_BYTES: usize = 1 << 14;
/// Most bytes of a row of text: a quote that is not closed must not fill the memory.
const MOST_ROW_BYTES: u64 = 1 << 26;

/// What the scored column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    Text,
    Tokens,
    Features,
}

/// The scored column.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    pub column: String,
    pub reads: Reads,
}

/// A place in a file, between two rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Rows before it.
    pub row: u64,
    /// Bytes before it; 0 in Parquet.
    pub offset: u64,
    /// Lines before it; 0 in Parquet.
    pub line: u64,
}

/// Rows as they stand in the file.
enum Raw {
    Batch(RecordBatch),
    /// With the line of each.
    Records(Vec<(u64, ::csv::ByteRecord)>),
    /// With the number of each.
    Lines(Vec<(u64, Vec<u8>)>),
}

/// Most rows and bytes of a window, unless one row alone is longer.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    rows: usize,
    bytes: usize,
}

/// Consecutive rows. The bounds of windows depend on the file and the network alone.
pub struct Window {
    /// Rows before the first.
    before: u64,
    raw: Raw,
    /// The place behind the last row.
    pub end: Position,
}

/// A row that cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Number of the row, from 1.
    pub row: u64,
    /// Its line in a file of text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    pub reason: String,
}

/// The rows of a window that can be scored, and the others.
pub struct Parsed {
    /// The kept columns.
    pub columns: Vec<ArrayRef>,
    pub bad: Vec<Bad>,
}

/// A column of the input that the output has too.
#[derive(Clone, Debug)]
pub struct Kept {
    pub field: Field,
    /// Whether its values are JSON as text.
    pub json: bool,
}

/// How a file's rows are laid out.
enum Layout {
    Parquet(parquet::Layout),
    Csv(csv::Layout),
    Jsonl(jsonl::Layout),
}

/// A file of rows.
pub struct Input {
    path: PathBuf,
    layout: Layout,
    kept: Vec<Kept>,
    scored: Scored,
    bounds: Bounds,
}

/// What the caller wants of a file.
pub struct Wanted<'a> {
    pub path: &'a Path,
    pub format: FileFormat,
    pub scored: Scored,
    /// The kept columns; all but the scored one if they are not named.
    pub keep: Option<&'a [String]>,
    /// Whether JSON values become columns of types, as Parquet has them.
    pub typed: bool,
    /// Most rows of a window.
    pub rows: u64,
    /// Numbers of the answer to one timestep; 0 where the answer has no time axis.
    pub answers: usize,
}

/// Windows of a file, one after the other.
pub type Windows = Box<dyn Iterator<Item = Result<Window>> + Send>;

impl Input {
    /// Looks at the columns of a file.
    pub fn open(wanted: Wanted<'_>) -> Result<Self> {
        let Wanted { path, format, scored, keep, typed, rows, answers } = wanted;
        let bytes = WINDOW_BYTES.checked_div(answers).map_or(WINDOW_BYTES, |bytes| bytes.max(LEAST_WINDOW_BYTES));
        let bounds = Bounds { rows: usize::try_from(rows).map_or(WINDOW_ROWS, |rows| rows.min(WINDOW_ROWS)), bytes };
        let (layout, kept) = match format {
            FileFormat::Parquet => {
                let (layout, kept) = parquet::Layout::new(path, &scored, keep, bounds)?;
                (Layout::Parquet(layout), kept)
            }
            FileFormat::Csv => {
                let (layout, kept) = csv::Layout::new(path, &scored, keep)?;
                (Layout::Csv(layout), kept)
            }
            FileFormat::Jsonl => {
                let (layout, kept) = jsonl::Layout::new(path, &scored, keep, typed)?;
                (Layout::Jsonl(layout), kept)
            }
        };
        Ok(Self { path: path.to_owned(), layout, kept, scored, bounds })
    }

    /// The columns that the output has too.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Rows of the file, if it says them.
    pub fn rows(&self) -> Option<u64> {
        match &self.layout {
            Layout::Parquet(layout) => Some(layout.rows),
            _ => None,
        }
    }

    /// The rows behind `from`.
    pub fn windows(&self, from: Position) -> Result<Windows> {
        match &self.layout {
            Layout::Parquet(layout) => layout.windows(&self.path, from),
            Layout::Csv(_) => csv::windows(&self.path, from, self.bounds),
            Layout::Jsonl(_) => jsonl::windows(&self.path, from, self.bounds),
        }
    }

    /// Adds the sequences of the rows that can be scored to `encoder`.
    pub fn parse(&self, window: &Window, encoder: &mut Encoder<'_>) -> Result<Parsed> {
        match (&self.layout, &window.raw) {
            (Layout::Parquet(layout), Raw::Batch(batch)) => {
                layout.parse(batch, self.scored.reads, window.before, encoder)
            }
            (Layout::Csv(layout), Raw::Records(records)) => {
                Ok(layout.parse(records, &self.scored, &self.kept, window.before, encoder))
            }
            (Layout::Jsonl(layout), Raw::Lines(lines)) => {
                Ok(layout.parse(lines, &self.scored, &self.kept, window.before, encoder))
            }
            _ => Err("a window of another file".into()),
        }
    }

    /// The error of a row.
    pub fn error(&self, bad: &Bad) -> String {
        let line = bad.line.map_or_else(String::new, |line| format!(" (line {line})"));
        format!("{}, row {}{line}: {}; --skip-bad leaves out such rows", self.path.display(), bad.row, bad.reason)
    }
}

/// The places of the columns that the output has, and of the scored one.
fn chosen(path: &Path, titles: &[&str], scored: &str, keep: Option<&[String]>) -> Result<(usize, Vec<usize>)> {
    let place = |wanted: &str| {
        titles.iter().position(|title| *title == wanted).ok_or_else(|| {
            let titles = shortened(&titles.join(", "), 80);
            format!("{}: expected a column `{wanted}`, got {titles}", path.display())
        })
    };
    if let Some((_, twice)) = titles.iter().enumerate().find(|(at, title)| titles[..*at].contains(title)) {
        return Err(format!("{}: expected every column once, got `{twice}` twice", path.display()).into());
    }
    let scored = place(scored)?;
    let kept = match keep {
        Some(keep) => keep.iter().map(|name| place(name)).collect::<std::result::Result<_, _>>()?,
        None => (0..titles.len()).filter(|&at| at != scored).collect(),
    };
    Ok((scored, kept))
}

/// An error with the name of the file.
fn failed(path: &Path, error: impl std::fmt::Display) -> Box<dyn std::error::Error> {
    format!("{}: {error}", path.display()).into()
}

//! Rows of JSON lines: one object in each line. The columns are the keys of the first window.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use arrow_schema::Field;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::encoder::{Encoder, Fault, wrong};
use super::super::json_column::{JsonColumn, JsonKind};
use super::values::{from_json, utf8};
use super::{
    Bad, Bounds, Kept, MOST_ROW_BYTES, Parsed, Position, Raw, Scored, WINDOW_BYTES, WINDOW_ROWS, Window, Windows,
    chosen, failed,
};
use crate::Result;

/// The rows that say what the columns are.
const FIRST: Bounds = Bounds { rows: WINDOW_ROWS, bytes: WINDOW_BYTES };

pub struct Layout {
    /// All keys of the first rows; of others a row is refused, unless the caller chose the columns.
    known: Option<Vec<String>>,
    kinds: Vec<JsonKind>,
}

/// The keys and values of an object in their order.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'a> Object<'a> {
    fn new(line: &'a [u8]) -> std::result::Result<Self, Fault> {
        let text = utf8(line)?;
        serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => wrong("a JSON object", text),
            _ => format!("expected a JSON object, got malformed JSON: {error}"),
        })
    }

    /// The last value of a key, as every reader of JSON takes it.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.get())
    }
}

impl Layout {
    pub fn new(path: &Path, scored: &Scored, keep: Option<&[String]>, typed: bool) -> Result<(Self, Vec<Kept>)> {
        let first = windows(path, Position::default(), FIRST)?.next().transpose()?;
        let lines = match &first {
            Some(Window { raw: Raw::Lines(lines), .. }) => &lines[..],
            _ => &[],
        };
        let rows: Vec<Object<'_>> = lines.iter().filter_map(|(_, line)| Object::new(line).ok()).collect();
        let mut keys: Vec<&str> = Vec::new();
        for (key, _) in rows.iter().flat_map(|row| &row.0) {
            if !keys.contains(&&key[..]) {
                keys.push(key);
            }
        }
        // A file without a row has no keys.
        let kept = if keys.is_empty() { Vec::new() } else { chosen(path, &keys, &scored.column, keep)?.1 };
        let kind = |&at: &usize| match typed {
            true => JsonKind::of(rows.iter().filter_map(|row| row.get(keys[at]))),
            false => JsonKind::Json,
        };
        let kinds: Vec<JsonKind> = kept.iter().map(kind).collect();
        let column = |(&at, kind): (&usize, &JsonKind)| Kept {
            field: Field::new(keys[at], kind.data_type(), true),
            json: *kind == JsonKind::Json,
        };
        let columns = kept.iter().zip(&kinds).map(column).collect();
        let known = keep.is_none().then(|| keys.iter().map(|&key| key.to_owned()).collect());
        Ok((Self { known, kinds }, columns))
    }

    pub fn parse(
        &self,
        lines: &[(u64, Vec<u8>)],
        scored: &Scored,
        columns: &[Kept],
        before: u64,
        encoder: &mut Encoder<'_>,
    ) -> Parsed {
        let mut kept: Vec<JsonColumn> = self.kinds.iter().map(|&kind| JsonColumn::new(kind)).collect();
        let mut bad = Vec::new();
        for (row, (line, bytes)) in (before + 1..).zip(lines) {
            if let Err(reason) = self.row(bytes, scored, columns, &mut kept, encoder) {
                bad.push(Bad { row, line: Some(*line), reason });
            }
        }
        Parsed { columns: kept.into_iter().map(JsonColumn::finish).collect(), bad }
    }

    fn row(
        &self,
        line: &[u8],
        scored: &Scored,
        columns: &[Kept],
        kept: &mut [JsonColumn],
        encoder: &mut Encoder<'_>,
    ) -> std::result::Result<(), Fault> {
        let object = Object::new(line)?;
        if let Some(known) = &self.known
            && let Some((key, _)) = object.0.iter().find(|(key, _)| !known.contains(key))
        {
            return Err(wrong(&format!("the keys of the first rows ({})", known.join(", ")), &format!("`{key}` too")));
        }
        for (column, kept) in columns.iter().zip(&*kept) {
            let name = column.field.name();
            kept.check(object.get(name)).map_err(|fault| format!("key `{name}`: {fault}"))?;
        }
        let value = object.get(&scored.column).unwrap_or("nothing");
        from_json(value, scored.reads, encoder).map_err(|fault| format!("key `{}`: {fault}", scored.column))?;
        for (column, kept) in columns.iter().zip(kept) {
            kept.push(object.get(column.field.name()));
        }
        Ok(())
    }
}

/// Reads lines in windows of at most so many bytes.
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    bounds: Bounds,
    at: Position,
}

pub fn windows(path: &Path, from: Position, bounds: Bounds) -> Result<Windows> {
    let open = || {
        let mut file = BufReader::new(File::open(path)?);
        file.seek(SeekFrom::Start(from.offset))?;
        Ok(file)
    };
    let file = open().map_err(|error: std::io::Error| failed(path, error))?;
    Ok(Box::new(Lines { path: path.to_owned(), file, bounds, at: from }))
}

impl Iterator for Lines {
    type Item = Result<Window>;

    fn next(&mut self) -> Option<Self::Item> {
        let (before, mut lines, mut bytes) = (self.at.row, Vec::new(), 0);
        while lines.len() < self.bounds.rows && bytes < self.bounds.bytes {
            let mut line = Vec::new();
            match (&mut self.file).take(MOST_ROW_BYTES).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(count) if count as u64 == MOST_ROW_BYTES => {
                    let (line, limit) = (self.at.line + 1, MOST_ROW_BYTES >> 20);
                    let error = format!("line {line}: expected at most {limit} MiB, got a longer one");
                    return Some(Err(failed(&self.path, error)));
                }
                Ok(count) => {
                    self.at.offset += count as u64;
                    self.at.line += 1;
                    if self.at.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
                        line.drain(..3);
                    }
                    if !line.trim_ascii().is_empty() {
                        bytes += count;
                        self.at.row += 1;
                        lines.push((self.at.line, line));
                    }
                }
                Err(error) => return Some(Err(failed(&self.path, error))),
            }
        }
        (!lines.is_empty()).then_some(Ok(Window { before, raw: Raw::Lines(lines), end: self.at }))
    }
}

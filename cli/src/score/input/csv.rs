//! Rows of a CSV file with a header. Every column is text.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use arrow_schema::{DataType, Field};
use csv::{ByteRecord, Reader, ReaderBuilder};

use super::super::encoder::{Encoder, Fault, wrong};
use super::values::{from_field, utf8};
use super::{Bad, Bounds, Kept, MOST_ROW_BYTES, Parsed, Position, Raw, Scored, Window, Windows, chosen, failed};
use crate::Result;

pub struct Layout {
    fields: usize,
    scored: usize,
    kept: Vec<usize>,
}

/// A file that refuses to be read further after so many bytes without the end of a row.
struct Limited {
    file: BufReader<File>,
    /// Bytes read since the end of the last row.
    read: Arc<AtomicU64>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if self.read.fetch_add(count as u64, Ordering::Relaxed) > MOST_ROW_BYTES {
            let limit = MOST_ROW_BYTES >> 20;
            return Err(io::Error::other(format!(
                "expected rows of at most {limit} MiB, got a longer one: is a quote not closed?"
            )));
        }
        Ok(count)
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn reader(path: &Path) -> Result<(Reader<Limited>, Arc<AtomicU64>)> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    let read = Arc::<AtomicU64>::default();
    let limited = Limited { file: BufReader::new(file), read: read.clone() };
    // The number of fields is checked row by row.
    Ok((ReaderBuilder::new().flexible(true).from_reader(limited), read))
}

impl Layout {
    pub fn new(path: &Path, scored: &Scored, keep: Option<&[String]>) -> Result<(Self, Vec<Kept>)> {
        let (mut reader, _) = reader(path)?;
        let header = reader.headers().map_err(|error| failed(path, error))?;
        let titles: Vec<&str> = header.iter().map(|title| title.trim_start_matches('\u{feff}')).collect();
        let (scored, kept) = chosen(path, &titles, &scored.column, keep)?;
        let columns =
            kept.iter().map(|&at| Kept { field: Field::new(titles[at], DataType::Utf8, true), json: false }).collect();
        Ok((Self { fields: titles.len(), scored, kept }, columns))
    }

    pub fn parse(
        &self,
        records: &[(u64, ByteRecord)],
        scored: &Scored,
        columns: &[Kept],
        before: u64,
        encoder: &mut Encoder<'_>,
    ) -> Parsed {
        let mut builders: Vec<StringBuilder> = self.kept.iter().map(|_| StringBuilder::new()).collect();
        let mut bad = Vec::new();
        for (row, (line, record)) in (before + 1..).zip(records) {
            match self.row(record, scored, columns, encoder) {
                Ok(kept) => builders.iter_mut().zip(kept).for_each(|(builder, text)| builder.append_value(text)),
                Err(reason) => bad.push(Bad { row, line: Some(*line), reason }),
            }
        }
        let columns = builders.into_iter().map(|mut builder| Arc::new(builder.finish()) as ArrayRef).collect();
        Parsed { columns, bad }
    }

    /// The kept fields of a row whose sequence went to `encoder`.
    fn row<'a>(
        &self,
        record: &'a ByteRecord,
        scored: &Scored,
        columns: &[Kept],
        encoder: &mut Encoder<'_>,
    ) -> std::result::Result<Vec<&'a str>, Fault> {
        if record.len() != self.fields {
            return Err(wrong(&format!("{} fields", self.fields), &record.len().to_string()));
        }
        let of = |name: &str, fault: Fault| format!("column `{name}`: {fault}");
        let kept = self
            .kept
            .iter()
            .zip(columns)
            .map(|(&at, column)| utf8(&record[at]).map_err(|fault| of(column.field.name(), fault)));
        let kept = kept.collect::<std::result::Result<Vec<_>, _>>()?;
        let field = utf8(&record[self.scored]);
        field.and_then(|field| from_field(field, scored.reads, encoder)).map_err(|fault| of(&scored.column, fault))?;
        Ok(kept)
    }
}

/// Reads records in windows of at most so many bytes.
struct Records {
    path: PathBuf,
    reader: Reader<Limited>,
    read: Arc<AtomicU64>,
    bounds: Bounds,
    at: Position,
}

pub fn windows(path: &Path, from: Position, bounds: Bounds) -> Result<Windows> {
    let (mut reader, read) = reader(path)?;
    if from != Position::default() {
        let mut place = csv::Position::new();
        place.set_byte(from.offset).set_line(from.line + 1).set_record(from.row);
        reader.seek(place).map_err(|error| failed(path, error))?;
    }
    Ok(Box::new(Records { path: path.to_owned(), reader, read, bounds, at: from }))
}

impl Iterator for Records {
    type Item = Result<Window>;

    fn next(&mut self) -> Option<Self::Item> {
        let (before, mut records, mut bytes) = (self.at.row, Vec::new(), 0);
        while records.len() < self.bounds.rows && bytes < self.bounds.bytes {
            let mut record = ByteRecord::new();
            self.read.store(0, Ordering::Relaxed);
            match self.reader.read_byte_record(&mut record) {
                Ok(true) => {
                    bytes += record.as_slice().len();
                    let line = record.position().map_or(0, csv::Position::line);
                    records.push((line, record));
                    self.at.row += 1;
                }
                Ok(false) => break,
                Err(error) => return Some(Err(failed(&self.path, error))),
            }
        }
        let place = self.reader.position();
        (self.at.offset, self.at.line) = (place.byte(), place.line() - 1);
        (!records.is_empty()).then_some(Ok(Window { before, raw: Raw::Records(records), end: self.at }))
    }
}

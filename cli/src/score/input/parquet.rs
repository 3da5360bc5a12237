//! Rows of a Parquet file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, BooleanArray, ListArray, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, Field};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

use super::super::encoder::{Encoder, Fault, wrong};
use super::{Bad, Bounds, Kept, Parsed, Position, Raw, Reads, Scored, Window, Windows, chosen, failed};
use crate::Result;

pub struct Layout {
    pub rows: u64,
    /// Rows of a window.
    batch: usize,
    /// Columns of the file that are read.
    read: Vec<usize>,
    /// Places of the scored and of the kept columns among them.
    scored: usize,
    kept: Vec<usize>,
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(path, error))
}

impl Layout {
    pub fn new(path: &Path, scored: &Scored, keep: Option<&[String]>, bounds: Bounds) -> Result<(Self, Vec<Kept>)> {
        let builder = builder(path)?;
        let schema = builder.schema().clone();
        let titles: Vec<&str> = schema.fields().iter().map(|field| &field.name()[..]).collect();
        let (place, kept) = chosen(path, &titles, &scored.column, keep)?;
        let data_type = schema.field(place).data_type();
        if !fits(data_type, scored.reads) {
            let expected = match scored.reads {
                Reads::Text => "text",
                Reads::Tokens => "lists of integers",
                Reads::Features => "lists of numbers, or of lists of numbers",
            };
            let column = &scored.column;
            return Err(failed(path, format!("column `{column}`: expected {expected}, got {data_type}")));
        }
        let mut read: Vec<usize> = kept.iter().copied().chain([place]).collect();
        read.sort_unstable();
        read.dedup();
        let place_in = |column: &usize| read.binary_search(column).unwrap_or_default();
        let rows = builder.metadata().file_metadata().num_rows();
        let layout = Self {
            rows: u64::try_from(rows).map_err(|_| failed(path, format!("expected rows, got {rows}")))?,
            batch: batch_rows(builder.metadata(), &read, bounds),
            scored: place_in(&place),
            kept: kept.iter().map(place_in).collect(),
            read,
        };
        let field = |&column: &usize| Kept { field: schema.field(column).clone(), json: false };
        Ok((layout, kept.iter().map(field).collect()))
    }

    pub fn windows(&self, path: &Path, from: Position) -> Result<Windows> {
        let builder = builder(path)?;
        // Row groups before the place are not read at all.
        let (mut groups, mut before, mut skipped) = (Vec::new(), 0, 0);
        for (number, group) in builder.metadata().row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).unwrap_or_default();
            if before + rows <= from.row {
                skipped += rows;
            } else {
                groups.push(number);
            }
            before += rows;
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), self.read.iter().copied());
        let offset = usize::try_from(from.row - skipped.min(from.row))?;
        let reader = builder.with_projection(mask).with_batch_size(self.batch).with_row_groups(groups);
        let reader = if offset > 0 { reader.with_offset(offset) } else { reader };
        let reader = reader.build().map_err(|error| failed(path, error))?;
        Ok(Box::new(Batches { path: path.to_owned(), reader, at: from }))
    }

    pub fn parse(&self, batch: &RecordBatch, reads: Reads, before: u64, encoder: &mut Encoder<'_>) -> Result<Parsed> {
        let column = batch.column(self.scored);
        let mut add: Box<dyn FnMut(usize) -> std::result::Result<(), Fault> + '_> = match reads {
            Reads::Text => {
                let texts = cast(column, &DataType::Utf8)?;
                Box::new(move |row| encoder.text(texts.as_string::<i32>().value(row)))
            }
            Reads::Tokens => {
                let lists = cast(column, &list_of(DataType::Int64))?.as_list::<i32>().clone();
                Box::new(move |row| add_tokens(&lists, row, encoder))
            }
            Reads::Features if is_list(&element(column.data_type())) => {
                let lists = cast(column, &list_of(list_of(DataType::Float32)))?.as_list::<i32>().clone();
                Box::new(move |row| add_vectors(&lists, row, encoder))
            }
            Reads::Features => {
                let lists = cast(column, &list_of(DataType::Float32))?.as_list::<i32>().clone();
                Box::new(move |row| encoder.features(numbers(&lists, row)?, None))
            }
        };
        let mut bad = Vec::new();
        let mut good = Vec::with_capacity(batch.num_rows());
        for (number, row) in (before + 1..).zip(0..batch.num_rows()) {
            let added = if column.is_null(row) { Err("expected a value, got null".to_owned()) } else { add(row) };
            good.push(added.is_ok());
            bad.extend(added.err().map(|reason| Bad { row: number, line: None, reason }));
        }
        let mut columns: Vec<ArrayRef> = self.kept.iter().map(|&kept| batch.column(kept).clone()).collect();
        if !bad.is_empty() {
            let good = BooleanArray::from(good);
            for column in &mut columns {
                *column = arrow_select::filter::filter(column, &good)?;
            }
        }
        Ok(Parsed { columns, bad })
    }
}

/// Rows of a window, whose columns take at most so many bytes on average.
fn batch_rows(metadata: &ParquetMetaData, read: &[usize], bounds: Bounds) -> usize {
    let schema = metadata.file_metadata().schema_descr();
    let mut bytes = 0;
    for group in metadata.row_groups() {
        for (leaf, column) in group.columns().iter().enumerate() {
            if read.contains(&schema.get_column_root_idx(leaf)) {
                // A dictionary may be smaller than the values that it stands for.
                let decoded = column.unencoded_byte_array_data_bytes().unwrap_or(0);
                bytes += column.uncompressed_size().max(decoded).max(column.num_values().saturating_mul(4));
            }
        }
    }
    let rows = metadata.file_metadata().num_rows().max(1);
    let each = usize::try_from(bytes / rows).unwrap_or(usize::MAX).max(1);
    (bounds.bytes / each).clamp(1, bounds.rows)
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", element, true)))
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// The type of a list's elements; of no list its own type.
fn element(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().clone()
        }
        other => other.clone(),
    }
}

fn fits(data_type: &DataType, reads: Reads) -> bool {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let inner = element(data_type);
    match (reads, data_type) {
        (Reads::Text, DataType::Dictionary(_, values)) => is_text(values),
        (Reads::Text, _) => is_text(data_type),
        (Reads::Tokens, _) => is_list(data_type) && inner.is_integer(),
        (Reads::Features, _) => {
            is_list(data_type) && (inner.is_numeric() || is_list(&inner) && element(&inner).is_numeric())
        }
    }
}

fn add_tokens(lists: &ListArray, row: usize, encoder: &mut Encoder<'_>) -> std::result::Result<(), Fault> {
    let list = lists.value(row);
    let list = list.as_primitive::<Int64Type>();
    if list.null_count() > 0 {
        return Err(wrong("token ids", "null among them"));
    }
    if let Some(&id) = list.values().iter().find(|&&id| u32::try_from(id).is_err()) {
        return Err(wrong("token ids from 0", &id.to_string()));
    }
    encoder.tokens(list.values().iter().filter_map(|&id| u32::try_from(id).ok()))
}

/// The numbers of one list.
fn numbers(lists: &ListArray, row: usize) -> std::result::Result<Vec<f32>, Fault> {
    let list = lists.value(row);
    let list = list.as_primitive::<Float32Type>();
    match list.null_count() {
        0 => Ok(list.values().to_vec()),
        _ => Err(wrong("numbers", "null among them")),
    }
}

fn add_vectors(lists: &ListArray, row: usize, encoder: &mut Encoder<'_>) -> std::result::Result<(), Fault> {
    let steps = lists.value(row);
    let steps = steps.as_list::<i32>();
    if steps.null_count() > 0 {
        return Err(wrong("lists of numbers", "null among them"));
    }
    let width = if steps.is_empty() { 0 } else { steps.value_length(0) };
    if let Some(step) = (0..steps.len()).find(|&step| steps.value_length(step) != width) {
        let got = format!("{} at step {step}", steps.value_length(step));
        return Err(wrong(&format!("lists of {width} numbers as at step 0"), &got));
    }
    let all = (0..steps.len()).map(|step| numbers(steps, step)).collect::<std::result::Result<Vec<_>, _>>()?;
    let width = if steps.is_empty() { None } else { usize::try_from(width).ok() };
    match width {
        Some(width) => encoder.features(all.into_iter().flatten(), Some(width)),
        None => Err(wrong("at least one timestep", "none")),
    }
}

struct Batches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    at: Position,
}

impl Iterator for Batches {
    type Item = Result<Window>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.at.row;
        Some(match self.reader.next()? {
            Ok(batch) => {
                self.at.row += batch.num_rows() as u64;
                Ok(Window { before, raw: Raw::Batch(batch), end: self.at })
            }
            Err(error) => Err(failed(&self.path, error)),
        })
    }
}

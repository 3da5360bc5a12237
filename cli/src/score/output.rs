//! The file that is written: its columns, its parts, and the parts joined.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use gatefold::{ScoreOutput, Scorer};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::cells::Cells;
use super::format::FileFormat;
use super::input::Kept;
use crate::Result;

/// Columns of an answer with labels.
const PREDICTION: &str = "prediction";
const PROBABILITY: &str = "probability";
const PROBABILITIES: &str = "probabilities";
/// The column of an answer without labels.
const OUTPUT: &str = "output";

/// The rows of a file of one format.
pub struct Output {
    pub format: FileFormat,
    schema: SchemaRef,
    /// Which columns hold JSON as text.
    json: Vec<bool>,
}

fn list_of(element: DataType) -> DataType {
    // Parquet's own name for the elements.
    DataType::List(Arc::new(Field::new("element", element, false)))
}

impl Output {
    pub fn new(format: FileFormat, kept: &[Kept], scorer: &Scorer) -> Result<Self> {
        let network = scorer.session().network();
        let answers = match (scorer.labels().is_empty(), network.output_is_sequence()) {
            (false, _) => vec![
                Field::new(PREDICTION, DataType::Utf8, false),
                Field::new(PROBABILITY, DataType::Float32, false),
                Field::new(PROBABILITIES, list_of(DataType::Float32), false),
            ],
            (true, false) => vec![Field::new(OUTPUT, list_of(DataType::Float32), false)],
            (true, true) => vec![Field::new(OUTPUT, list_of(list_of(DataType::Float32)), false)],
        };
        for (at, column) in kept.iter().enumerate() {
            let name = column.field.name();
            if answers.iter().any(|answer| answer.name() == name) {
                return Err(
                    format!("column `{name}`: the output has one of this name; choose others with --keep").into()
                );
            }
            if kept[..at].iter().any(|before| before.field.name() == name) {
                return Err(format!("--keep: expected every column once, got `{name}` twice").into());
            }
        }
        let mut json: Vec<bool> = kept.iter().map(|column| column.json).collect();
        json.resize(kept.len() + answers.len(), false);
        let fields: Vec<Field> = kept.iter().map(|column| column.field.clone()).chain(answers).collect();
        Ok(Self { format, schema: Arc::new(Schema::new(fields)), json })
    }

    /// The rows of kept columns with their answers.
    pub fn batch(&self, mut columns: Vec<ArrayRef>, scorer: &Scorer, scores: &ScoreOutput) -> Result<RecordBatch> {
        let network = scorer.session().network();
        let mut start = 0;
        let answers = scores.ends.iter().map(|&end| &scores.values[std::mem::replace(&mut start, end)..end]);
        let floats = || Float32Builder::with_capacity(scores.values.len());
        let element = |data_type| Arc::new(Field::new("element", data_type, false));
        if !scorer.labels().is_empty() {
            let mut labels = StringBuilder::new();
            let (mut best, mut all) = (floats(), ListBuilder::new(floats()).with_field(element(DataType::Float32)));
            for answer in answers {
                let (class, probabilities) = scorer.classed(answer);
                labels.append_value(&scorer.labels()[class]);
                best.append_value(probabilities[class]);
                all.values().append_slice(&probabilities);
                all.append(true);
            }
            columns.extend([Arc::new(labels.finish()) as ArrayRef, Arc::new(best.finish()), Arc::new(all.finish())]);
        } else if network.output_is_sequence() {
            let steps = ListBuilder::new(floats()).with_field(element(DataType::Float32));
            let mut all = ListBuilder::new(steps).with_field(element(list_of(DataType::Float32)));
            for answer in answers {
                for step in answer.chunks_exact(network.output_size().max(1)) {
                    all.values().values().append_slice(step);
                    all.values().append(true);
                }
                all.append(true);
            }
            columns.push(Arc::new(all.finish()));
        } else {
            let mut all = ListBuilder::new(floats()).with_field(element(DataType::Float32));
            for answer in answers {
                all.values().append_slice(answer);
                all.append(true);
            }
            columns.push(Arc::new(all.finish()));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Rows as text; nothing for Parquet.
    pub fn text(&self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let cells = || batch.columns().iter().zip(&self.json).map(|(array, &json)| Cells::new(array, json));
        match self.format {
            FileFormat::Parquet => Ok(Vec::new()),
            FileFormat::Csv => {
                let cells = cells().collect::<Result<Vec<_>>>()?;
                let mut writer = csv::Writer::from_writer(Vec::new());
                for row in 0..batch.num_rows() {
                    for cell in &cells {
                        writer.write_field(cell.field(row)?)?;
                    }
                    writer.write_record(None::<&[u8]>)?;
                }
                Ok(writer.into_inner()?)
            }
            FileFormat::Jsonl => {
                let cells = cells().collect::<Result<Vec<_>>>()?;
                let keys: Vec<String> = self
                    .schema
                    .fields()
                    .iter()
                    .enumerate()
                    .map(|(at, field)| {
                        let before = if at == 0 { '{' } else { ',' };
                        Ok(format!("{before}{}:", serde_json::to_string(field.name())?))
                    })
                    .collect::<Result<_>>()?;
                let mut text = String::new();
                for row in 0..batch.num_rows() {
                    for (key, cell) in keys.iter().zip(&cells) {
                        text.push_str(key);
                        cell.json(row, &mut text)?;
                    }
                    text.push_str("}\n");
                }
                Ok(text.into_bytes())
            }
        }
    }

    /// What stands before the first row.
    fn header(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        if self.format == FileFormat::Csv {
            writer.write_record(self.schema.fields().iter().map(|field| field.name()))?;
        }
        Ok(writer.into_inner()?)
    }

    pub fn part(&self) -> Result<Part> {
        Ok(match self.format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(properties))?;
                Part::Parquet(Box::new(writer))
            }
            _ => Part::Text(Vec::new()),
        })
    }

    /// Writes the parts one after the other as one file.
    pub fn join(&self, parts: &[PathBuf], file: &File) -> Result<()> {
        if self.format == FileFormat::Parquet {
            return join_parquet(parts, file);
        }
        let mut file = BufWriter::new(file);
        file.write_all(&self.header()?)?;
        for part in parts {
            io::copy(&mut open(part)?, &mut file)?;
        }
        Ok(file.flush()?)
    }
}

/// A part that is being written, in memory.
pub enum Part {
    Parquet(Box<ArrowWriter<Vec<u8>>>),
    Text(Vec<u8>),
}

impl Part {
    pub fn add(&mut self, batch: &RecordBatch, text: &[u8]) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch)?,
            Self::Text(all) => all.extend_from_slice(text),
        }
        Ok(())
    }

    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Parquet(writer) => writer.bytes_written() + writer.in_progress_size(),
            Self::Text(all) => all.len(),
        }
    }

    pub fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Parquet(writer) => Ok(writer.into_inner()?),
            Self::Text(all) => Ok(all),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Copies the row groups of all parts as they are.
fn join_parquet(parts: &[PathBuf], file: &File) -> Result<()> {
    let metadata = |path: &PathBuf| -> Result<_> {
        let part = open(path)?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader.parse_and_finish(&part)?;
        Ok((part, metadata))
    };
    let Some(first) = parts.first() else { return Err("expected at least one part, got none".into()) };
    let (_, of_first) = metadata(first)?;
    let of_first = of_first.file_metadata();
    let properties = WriterProperties::builder().set_key_value_metadata(of_first.key_value_metadata().cloned());
    let schema = of_first.schema_descr().root_schema_ptr();
    let mut writer = SerializedFileWriter::new(BufWriter::new(file), schema, Arc::new(properties.build()))?;
    for path in parts {
        let (part, metadata) = metadata(path)?;
        let indexes = metadata.page_index();
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let mut joined = writer.next_row_group()?;
            for (column, chunk) in group.columns().iter().enumerate() {
                let copied = ColumnCloseResult {
                    bytes_written: u64::try_from(chunk.compressed_size())?,
                    rows_written: u64::try_from(group.num_rows())?,
                    metadata: chunk.clone(),
                    bloom_filter: None,
                    column_index: indexes.and_then(|all| all.column_index(number, column)).cloned(),
                    offset_index: indexes.and_then(|all| all.offset_index(number, column)).cloned(),
                };
                joined.append_column(&part, copied)?;
            }
            joined.close()?;
        }
    }
    writer.into_inner()?.flush()?;
    Ok(())
}

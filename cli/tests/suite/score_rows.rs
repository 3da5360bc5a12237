//! Files of rows for `gatefold score`, and what it wrote.

use std::fs::File;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::support::{Folder, repository};

/// A row of an output with labels: id, label, probabilities.
pub type Row = (i64, String, Vec<f32>);

pub const FORMATS: [&str; 3] = ["parquet", "csv", "jsonl"];

/// So many texts of 1 to 40 words of the model's vocabulary, some of them with quotes, commas and line feeds.
pub fn texts(count: usize) -> Vec<String> {
    let words =
        ["a", "warm", "funny", "film", "bored", "never", "the", "plot,", "\"so", "good\"", "cast\n", "é", "zzz"];
    let mut random = fastrand::Rng::with_seed(7);
    let word = |random: &mut fastrand::Rng| words[random.usize(..words.len())];
    (0..count)
        .map(|_| {
            // The first word is in the vocabulary and has no line feed.
            let more = random.usize(..40);
            let rest: Vec<&str> = (0..more).map(|_| word(&mut random)).collect();
            format!("film {}", rest.join(" ")).trim_end().to_owned()
        })
        .collect()
}

/// The texts with ids from 0 in a file of each format.
pub fn write_texts(folder: &Folder, name: &str, texts: &[String]) -> [String; 3] {
    let ids: Vec<i64> = (0..).take(texts.len()).collect();
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(Int64Array::from(ids))), ("text", Arc::new(StringArray::from(texts.to_vec())))];
    let parquet = write_parquet(folder, &format!("{name}.parquet"), &columns, 1000);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["id", "text"]).unwrap();
    let mut lines = String::new();
    for (id, text) in texts.iter().enumerate() {
        writer.write_record([&id.to_string(), text]).unwrap();
        lines += &format!("{}\n", serde_json::json!({ "id": id, "text": text }));
    }
    let csv = folder.file(&format!("{name}.csv"), writer.into_inner().unwrap());
    [parquet, csv, folder.file(&format!("{name}.jsonl"), lines)]
}

/// Columns as a Parquet file with row groups of so many rows.
pub fn write_parquet(folder: &Folder, name: &str, columns: &[(&str, ArrayRef)], group: usize) -> String {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (*name, column.clone()))).unwrap();
    let path = folder.path(name);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path
}

/// All batches of a Parquet file.
pub fn batches(path: &str) -> Vec<RecordBatch> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

/// The rows of an output with labels, of any format.
pub fn rows(path: &str) -> Vec<Row> {
    if path.ends_with(".parquet") {
        return batches(path).iter().flat_map(of_batch).collect();
    }
    let floats = |text: &str| text.split(' ').map(|number| number.parse().unwrap()).collect();
    if path.ends_with(".csv") {
        let mut reader = csv::Reader::from_path(path).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["id", "prediction", "probability", "probabilities"]);
        let row = |record: csv::StringRecord| (record[0].parse().unwrap(), record[1].to_owned(), floats(&record[3]));
        return reader.records().map(|record| row(record.unwrap())).collect();
    }
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        // Columns of a CSV file are text.
        let id = row["id"].as_i64().unwrap_or_else(|| row["id"].as_str().unwrap().parse().unwrap());
        // Read as f32, since their text is that of f32.
        let numbers = row["probabilities"].as_array().unwrap().iter().map(|number| number.to_string().parse().unwrap());
        (id, row["prediction"].as_str().unwrap().to_owned(), numbers.collect())
    };
    std::fs::read_to_string(path).unwrap().lines().map(row).collect()
}

fn of_batch(batch: &RecordBatch) -> Vec<Row> {
    let id = |row: usize| match batch["id"].as_primitive_opt::<Int64Type>() {
        Some(ids) => ids.value(row),
        None => batch["id"].as_string::<i32>().value(row).parse().unwrap(),
    };
    let (labels, lists) = (batch["prediction"].as_string::<i32>(), batch["probabilities"].as_list::<i32>());
    let best = batch["probability"].as_primitive::<Float32Type>();
    let row = |row: usize| {
        let all = lists.value(row).as_primitive::<Float32Type>().values().to_vec();
        assert!(all.contains(&best.value(row)), "the probability is one of all");
        (id(row), labels.value(row).to_owned(), all)
    };
    (0..batch.num_rows()).map(row).collect()
}

/// The lists of numbers of the column `output`, those of timesteps one after the other.
pub fn outputs(path: &str) -> Vec<Vec<f32>> {
    let flat = |list: &ArrayRef| match list.as_list_opt::<i32>() {
        Some(steps) => steps.values().as_primitive::<Float32Type>().clone(),
        None => list.as_primitive::<Float32Type>().clone(),
    };
    let of = |batch: &RecordBatch| -> Vec<Vec<f32>> {
        let lists = batch["output"].as_list::<i32>();
        (0..lists.len())
            .map(|row| {
                let list = lists.value(row);
                match list.as_list_opt::<i32>() {
                    Some(steps) => {
                        (0..steps.len()).flat_map(|step| flat(&steps.value(step)).values().to_vec()).collect()
                    }
                    None => flat(&list).values().to_vec(),
                }
            })
            .collect()
    };
    batches(path).iter().flat_map(of).collect()
}

/// What the library says of the texts.
pub fn expected(texts: &[String]) -> Vec<Row> {
    let network = gatefold::Network::load(repository("models/sentiment/sentiment.safetensors")).unwrap();
    let classifier = gatefold::Classifier::new(&gatefold::Device::cpu(), &network).unwrap();
    let answers = classifier.classify(texts).unwrap();
    (0..).zip(answers).map(|(id, answer)| (id, answer.label, answer.probabilities)).collect()
}

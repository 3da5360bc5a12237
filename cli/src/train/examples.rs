//! Texts with labels from a CSV file with a header, or from JSON lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use gatefold::TextVectorizer;
use gatefold::network::{Split, Standardize, TextSpec};
use gatefold::train::{Answers, Dataset};

use crate::Result;
use crate::units::shortened;

/// A text, its label, and the split that the file puts it in.
pub struct Example {
    pub text: String,
    pub label: String,
    pub split: Option<String>,
    /// Line of the file, from 1.
    line: u64,
}

impl Example {
    /// An error that says what was expected in its row of `path`.
    pub fn error(&self, path: &Path, expected: &str, got: Option<&str>) -> String {
        let got = shortened(got.unwrap_or_default(), 40);
        format!("{}, line {}: expected {expected}, got {got:?}", path.display(), self.line)
    }
}

/// The names of the columns, or of the keys.
pub struct Columns<'a> {
    pub text: &'a str,
    pub label: &'a str,
    pub split: Option<&'a str>,
}

/// Reads `path`: JSON lines if its name ends in `.jsonl`, else CSV.
pub fn read(path: &Path, columns: &Columns<'_>) -> Result<Vec<Example>> {
    let name = path.display();
    let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let examples = if is_json { json_lines(path, file, columns)? } else { csv(path, file, columns)? };
    if examples.is_empty() {
        return Err(format!("{name}: expected at least one example, got none").into());
    }
    Ok(examples)
}

fn csv(path: &Path, file: File, columns: &Columns<'_>) -> Result<Vec<Example>> {
    let name = path.display();
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let header = reader.headers().map_err(|error| format!("{name}: {error}"))?.clone();
    let column = |wanted: &str| {
        header.iter().position(|title| title.trim_start_matches('\u{feff}') == wanted).ok_or_else(|| {
            let titles: Vec<&str> = header.iter().collect();
            format!("{name}: expected a column `{wanted}`, got {}", shortened(&titles.join(", "), 80))
        })
    };
    let (text, label) = (column(columns.text)?, column(columns.label)?);
    let split = columns.split.map(column).transpose()?;
    let mut examples = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{name}: {error}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |at: usize| record.get(at).unwrap_or_default().to_owned();
        examples.push(Example { text: field(text), label: field(label), split: split.map(field), line });
    }
    Ok(examples)
}

fn json_lines(path: &Path, file: File, columns: &Columns<'_>) -> Result<Vec<Example>> {
    let name = path.display();
    let mut examples = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(|error| format!("{name}, line {line}: {error}"))?;
        if text.trim().is_empty() {
            continue;
        }
        let place =
            |expected: &str| format!("{name}, line {line}: expected {expected}, got {:?}", shortened(&text, 60));
        let value: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&text).map_err(|_| place("a JSON object"))?;
        let field = |key: &str| match value.get(key) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(number @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => Ok(number.to_string()),
            _ => Err(place(&format!("a text under `{key}`"))),
        };
        let split = columns.split.map(field).transpose()?;
        examples.push(Example { text: field(columns.text)?, label: field(columns.label)?, split, line });
    }
    Ok(examples)
}

/// The commonest words of the texts, at most `size` with the two reserved ones; of equally common ones the first in order.
pub fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>, size: usize) -> Result<TextSpec> {
    let mut counts = HashMap::<String, u64>::new();
    for text in texts {
        for word in TextVectorizer::words(text) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let reserved = [String::new(), "[UNK]".to_owned()];
    let vocabulary: Vec<String> =
        reserved.into_iter().chain(words.into_iter().map(|(word, _)| word)).take(size).collect();
    if vocabulary.len() < 3 {
        return Err("expected words in the texts of the train split, got none".into());
    }
    let (standardize, split) = (Standardize::LowerAndStripPunctuation, Split::Whitespace);
    Ok(TextSpec { standardize, split, vocabulary })
}

/// The labels that occur, in order.
pub fn labels(examples: &[Example]) -> Vec<String> {
    examples.iter().map(|example| example.label.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Token ids and classes. Every label must be one of `labels`.
pub fn dataset(path: &Path, examples: &[Example], vectorizer: &TextVectorizer, labels: &[String]) -> Result<Dataset> {
    let (mut rows, mut classes) = (Vec::with_capacity(examples.len()), Vec::with_capacity(examples.len()));
    for example in examples {
        let class = labels.iter().position(|label| *label == example.label).ok_or_else(|| {
            let known = shortened(&labels.join(", "), 60);
            let expected = format!("one of the labels of the train split ({known})");
            example.error(path, &expected, Some(&example.label))
        })?;
        rows.push(vectorizer.encode(&example.text));
        classes.push(u32::try_from(class)?);
    }
    Ok(Dataset::tokens(rows, Answers::Classes(classes))?)
}

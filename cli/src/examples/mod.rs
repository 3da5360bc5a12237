//! Examples from a CSV file with a header, from JSON lines or from arrays: texts, token ids or vectors with labels or
//! numbers.

mod arrays;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use gatefold::TextVectorizer;
use gatefold::network::TextSpec;
use gatefold::train::{Answers, Dataset};
use serde_json::{Map, Value};

use crate::Result;
use crate::args::{DataArgs, LossKind};
use crate::units::shortened;

/// What a network reads.
pub enum Sequence {
    Text(String),
    Tokens(Vec<u32>),
    /// Numbers of all timesteps `[T, I]`, and I.
    Features(Vec<f32>, usize),
}

/// What it should answer.
pub enum Answer {
    Label(String),
    /// A class for each timestep.
    Steps(Vec<u32>),
    Numbers(Vec<f32>),
}

/// A sequence, what the network should answer, and the split that the file puts it in.
pub struct Example {
    pub sequence: Sequence,
    pub answer: Answer,
    pub split: Option<String>,
    /// Line of the file, or row of its arrays, from 1.
    line: u64,
}

impl Example {
    /// That something else was expected in its row of `path`.
    pub fn error(&self, path: &Path, expected: &str, got: &str) -> String {
        place(path, self.line, expected, got)
    }

    /// The label; empty where it has none.
    pub fn label(&self) -> &str {
        if let Answer::Label(label) = &self.answer { label } else { "" }
    }
}

fn place(path: &Path, line: u64, expected: &str, got: &str) -> String {
    let unit = if has_ending(path, "safetensors") { "row" } else { "line" };
    format!("{}, {unit} {line}: expected {expected}, got {:?}", path.display(), shortened(got, 60))
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}

/// Reads the examples of `args`: JSON lines if the file's name ends in `.jsonl`, arrays if in `.safetensors`, else CSV.
pub fn read(args: &DataArgs) -> Result<Vec<Example>> {
    let path = args.path();
    let name = path.display();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    if args.labels.is_some() && args.loss != LossKind::CrossEntropy {
        return Err("--labels: expected --loss cross-entropy, since they are classes, got another".into());
    }
    let examples = if has_ending(path, "safetensors") {
        arrays::read(args, &std::fs::read(path).map_err(failed)?)?
    } else {
        let file = File::open(path).map_err(failed)?;
        let rows = if has_ending(path, "jsonl") { json_lines(path, file)? } else { csv(args, file)? };
        rows.iter().map(|(line, row)| example(args, *line, row)).collect::<Result<Vec<_>>>()?
    };
    if examples.is_empty() {
        return Err(format!("{name}: expected at least one example, got none").into());
    }
    Ok(examples)
}

/// A row's line in the file, and what stands under each column or key.
type Row = (u64, Map<String, Value>);

fn csv(args: &DataArgs, file: File) -> Result<Vec<Row>> {
    let name = args.path().display();
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let header = reader.headers().map_err(|error| format!("{name}: {error}"))?.clone();
    let titles: Vec<&str> = header.iter().map(|title| title.trim_start_matches('\u{feff}')).collect();
    let sequence = args.tokens.as_ref().or(args.features.as_ref()).unwrap_or(&args.text);
    for wanted in [Some(sequence), Some(args.labels.as_ref().unwrap_or(&args.label)), args.split.as_ref()] {
        if let Some(wanted) = wanted.filter(|wanted| !titles.contains(&wanted.as_str())) {
            let titles = shortened(&titles.join(", "), 80);
            return Err(format!("{name}: expected a column `{wanted}`, got {titles}").into());
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{name}: {error}"))?;
        let fields = titles.iter().zip(&record).map(|(title, field)| ((*title).to_owned(), field.into()));
        rows.push((record.position().map_or(0, csv::Position::line), fields.collect()));
    }
    Ok(rows)
}

fn json_lines(path: &Path, file: File) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.map_err(|error| format!("{}, line {line}: {error}", path.display()))?;
        if !text.trim().is_empty() {
            let row = serde_json::from_str(&text).map_err(|_| place(path, line, "a JSON object", &text))?;
            rows.push((line, row));
        }
    }
    Ok(rows)
}

fn example(args: &DataArgs, line: u64, row: &Map<String, Value>) -> Result<Example> {
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    // A field of the kind that `read` takes.
    fn field<T>(
        row: &Map<String, Value>,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> std::result::Result<T, String> {
        row.get(key).and_then(read).ok_or_else(|| key.to_owned())
    }
    let wrong = |kind: &'static str| {
        move |key: String| place(args.path(), line, &format!("{kind} under `{key}`"), &shown(row.get(&key)))
    };
    let sequence = match (&args.tokens, &args.features) {
        (Some(key), _) => Sequence::Tokens(field(row, key, integers).map_err(wrong("an array of token ids"))?),
        (_, Some(key)) => {
            let (numbers, width) =
                field(row, key, vectors).map_err(wrong("numbers, or arrays of numbers of one length"))?;
            Sequence::Features(numbers, width)
        }
        _ => Sequence::Text(field(row, &args.text, word).map_err(wrong("a text"))?),
    };
    let answer = match (&args.labels, args.loss) {
        (Some(key), _) => Answer::Steps(field(row, key, integers).map_err(wrong("an array of classes"))?),
        (None, LossKind::CrossEntropy) => Answer::Label(field(row, &args.label, word).map_err(wrong("a label"))?),
        (None, _) => Answer::Numbers(field(row, &args.label, numbers).map_err(wrong("a number, or an array of them"))?),
    };
    let split = args.split.as_ref().map(|key| field(row, key, word).map_err(wrong("a split"))).transpose()?;
    Ok(Example { sequence, answer, split, line })
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f32> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "a network reads f32")]
    let number = number as f32;
    number.is_finite().then_some(number)
}

/// An array; the words of a text, where a CSV file has one.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values.clone()),
        Value::String(text) => Some(text.split_whitespace().map(Value::from).collect()),
        _ => None,
    }
}

fn integers(value: &Value) -> Option<Vec<u32>> {
    let integer = |value: Value| match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    list(value)?.into_iter().map(integer).collect()
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    match value {
        Value::Number(_) => Some(vec![number(value)?]),
        _ => list(value)?.iter().map(number).collect::<Option<Vec<_>>>().filter(|numbers| !numbers.is_empty()),
    }
}

/// Numbers `[T, I]`, and I.
fn vectors(value: &Value) -> Option<(Vec<f32>, usize)> {
    match value {
        Value::Array(steps) if matches!(steps.first(), Some(Value::Array(_))) => {
            let steps = steps.iter().map(numbers).collect::<Option<Vec<_>>>()?;
            let width = steps.first()?.len();
            steps.iter().all(|step| step.len() == width).then(|| (steps.concat(), width))
        }
        _ => Some((numbers(value)?, 1)),
    }
}

/// The vocabulary of the texts among the examples.
pub fn vocabulary<'a>(examples: impl IntoIterator<Item = &'a Example>, size: usize) -> Result<TextSpec> {
    let texts = examples.into_iter().filter_map(|example| match &example.sequence {
        Sequence::Text(text) => Some(&text[..]),
        _ => None,
    });
    TextVectorizer::vocabulary(texts, size)
        .map_err(|_| "expected words in the texts of the train split, got none".into())
}

/// Takes the examples of the split `name` out of `all`.
pub fn take(all: &mut Vec<Example>, name: &str) -> Vec<Example> {
    let (part, rest) = std::mem::take(all).into_iter().partition(|example| example.split.as_deref() == Some(name));
    *all = rest;
    part
}

/// The labels that occur, in order: of their numbers if all are whole numbers.
pub fn labels(examples: &[Example]) -> Vec<String> {
    let names = examples.iter().map(|example| example.label().to_owned()).collect::<BTreeSet<_>>();
    let mut names: Vec<String> = names.into_iter().collect();
    let number = |name: &String| name.parse::<i64>().ok();
    if names.iter().all(|name| number(name).is_some()) {
        names.sort_by_key(number);
    }
    names
}

/// How examples become the numbers of a network.
pub struct Encoding<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// Of texts.
    pub vectorizer: Option<TextVectorizer>,
    /// I, where the network reads vectors.
    pub width: usize,
    /// Numbers of an answer; 0 where their number is not checked.
    pub numbers: usize,
    /// What the classes are called; without names a label is the number of a class.
    pub labels: Vec<String>,
    /// Where the labels come from.
    pub labels_of: &'static str,
}

impl Encoding<'_> {
    /// Sequences and answers, of which there is at least one.
    pub fn dataset(&self, examples: &[Example]) -> Result<Dataset> {
        let (mut tokens, mut features) = (Vec::new(), Vec::new());
        let (mut classes, mut steps, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for example in examples {
            let vectors = |width: &usize| format!("vectors of {width} numbers");
            match (&example.sequence, &self.vectorizer) {
                (Sequence::Text(text), Some(vectorizer)) => tokens.push(vectorizer.encode(text)),
                (Sequence::Text(_), None) => {
                    return Err(
                        "--text: expected --tokens or --features, since the model has no vocabulary, got texts".into(),
                    );
                }
                (Sequence::Tokens(ids), _) => tokens.push(ids.clone()),
                (Sequence::Features(numbers, width), _) if *width == self.width => features.push(numbers.clone()),
                (Sequence::Features(_, width), _) => {
                    return Err(example.error(self.path, &vectors(&self.width), &vectors(width)).into());
                }
            }
            match &example.answer {
                Answer::Label(label) => classes.push(self.class(example, label)?),
                Answer::Steps(classes) => steps.push(classes.clone()),
                Answer::Numbers(numbers) if [0, numbers.len()].contains(&self.numbers) => values.push(numbers.clone()),
                Answer::Numbers(numbers) => {
                    let count = |count: usize| format!("an answer of {}", crate::units::count(count, "number"));
                    return Err(example.error(self.path, &count(self.numbers), &count(numbers.len())).into());
                }
            }
        }
        let answers = match examples.first().map(|example| &example.answer) {
            Some(Answer::Steps(_)) => Answers::StepClasses(steps),
            Some(Answer::Numbers(_)) => Answers::Values(values),
            _ => Answers::Classes(classes),
        };
        let set = if features.is_empty() {
            Dataset::tokens(tokens, answers)
        } else {
            Dataset::features(features, self.width, answers)
        };
        set.map_err(|error| format!("{}: {error}", self.path.display()).into())
    }

    fn class(&self, example: &Example, label: &str) -> Result<u32> {
        if self.labels.is_empty() {
            let wrong = |_| example.error(self.path, "the number of a class, since the model has no labels", label);
            return Ok(label.parse().map_err(wrong)?);
        }
        let class = self.labels.iter().position(|known| known == label).ok_or_else(|| {
            let known = shortened(&self.labels.join(", "), 60);
            example.error(self.path, &format!("one of the labels of {} ({known})", self.labels_of), label)
        })?;
        Ok(u32::try_from(class)?)
    }
}

//! `gatefold classify`: texts in, labels out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gatefold::{Classifier, DeviceChoice, DeviceInfo, Error, Prediction};
use serde::Serialize;

use crate::args::{ClassifyArgs, Format};
use crate::confusion::Confusion;
use crate::progress::Progress;
use crate::report::Report;
use crate::source::{self, DeviceJson};
use crate::table::{Table, bold, dim, left, right};
use crate::units::{count, duration, shortened};
use crate::{Result, reviews};

/// Texts with their predictions.
struct Answers {
    texts: Vec<String>,
    predictions: Vec<Prediction>,
    /// The correct labels, if they are known.
    expected: Option<Vec<usize>>,
    confusion: Option<Confusion>,
    labels: Vec<String>,
    device: std::sync::Arc<DeviceInfo>,
    fell_back: bool,
    place: String,
    time: Duration,
}

/// Classifies texts.
pub fn run(args: &ClassifyArgs, choice: &DeviceChoice) -> Result<Report> {
    let both = [&args.file, &args.labels].into_iter().flatten().filter(|path| reviews::is_stdin(path)).count();
    if both > 1 {
        return Err("--file and --labels: expected at most one of them to be standard input, got both".into());
    }
    let texts = match &args.file {
        Some(path) => reviews::lines(path)?,
        None => args.texts.clone(),
    };
    let network = source::network(args.model.as_deref())?;
    let labels = if args.classes.is_empty() { &network.spec().labels } else { &args.classes };
    if labels.is_empty() && network.spec().text.is_some() {
        return Err("the model names no classes: give their names with --classes".into());
    }
    let expected = match &args.labels {
        Some(path) => Some(reviews::labels(path, labels, texts.len())?),
        None => None,
    };
    let device = source::open(choice)?;
    let classifier = Classifier::with_labels(&device, &network, labels)?;
    let start = Instant::now();
    let mut progress = Progress::new(texts.len());
    let predictions = classifier
        .classify_with_progress(&texts, |done| progress.advance(done, &device.info().name))
        .map_err(|error| located(args, error))?;
    let time = start.elapsed();
    drop(progress);
    source::keep_pipelines(&device);
    let labels = classifier.labels().to_vec();
    let confusion = expected.as_ref().map(|expected| {
        Confusion::new(&labels, expected.iter().copied().zip(predictions.iter().map(|prediction| prediction.class)))
    });
    let info = device.info().clone();
    let fell_back = source::fell_back(choice, &info);
    let mut place = source::place(choice, &info);
    let counted = classifier.session().counters();
    if counted.runs_on_cpu > 0 {
        place += &format!("; {} of {} runs on the CPU, measured faster there", counted.runs_on_cpu, counted.runs);
    }
    let answers = Answers { texts, predictions, expected, confusion, labels, device: info, fell_back, place, time };
    match args.format {
        Format::Table => Ok(answers.table()),
        Format::Json => answers.json(),
        Format::Csv => answers.csv(),
    }
}

/// Adds file and line to the error of a text without words.
fn located(args: &ClassifyArgs, error: Error) -> Box<dyn std::error::Error> {
    let Error::EmptyText { index, got } = error else { return error.into() };
    let place = match &args.file {
        Some(path) => format!("{}, line {index}", reviews::name(path)),
        None => format!("text {index}"),
    };
    format!("{place}: expected at least one word, got {}", shortened(&got, 40)).into()
}

impl Answers {
    fn table(&self) -> Report {
        let mut columns = vec![left("label"), right("probability")];
        if self.expected.is_some() {
            columns.push(left("expected"));
        }
        columns.push(left("text"));
        let fill = |room: Option<usize>| {
            let mut table = Table::new(columns.clone());
            for (index, (text, prediction)) in self.texts.iter().zip(&self.predictions).enumerate() {
                let mut row = vec![bold(&prediction.label), format!("{:.4}", prediction.probability())];
                row.extend(self.expected.as_ref().map(|expected| self.labels[expected[index]].clone()));
                row.push(room.map_or_else(String::new, |room| shortened(text, room)));
                table.row(row);
            }
            table
        };
        let room = fill(None).room_for_last();
        let footer = format!("{} in {} on {}", count(self.texts.len(), "text"), duration(self.time), self.place);
        let mut text = format!("{}\n", fill(Some(room)));
        if let Some(confusion) = &self.confusion {
            text += &format!("{confusion}\n");
        }
        Report::new(text + &dim(&footer) + "\n")
    }

    fn json(&self) -> Result<Report> {
        #[derive(Serialize)]
        struct Line<'a> {
            text: &'a str,
            label: &'a str,
            probability: f32,
            probabilities: BTreeMap<&'a str, f32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expected: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct All<'a> {
            device: DeviceJson,
            /// Whether `auto` took the CPU because it found no GPU.
            no_gpu_found: bool,
            milliseconds: f64,
            predictions: Vec<Line<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            evaluation: Option<&'a Confusion>,
        }
        let lines = self.texts.iter().zip(&self.predictions).enumerate().map(|(index, (text, prediction))| Line {
            text,
            label: &prediction.label,
            probability: prediction.probability(),
            probabilities: self
                .labels
                .iter()
                .map(String::as_str)
                .zip(prediction.probabilities.iter().copied())
                .collect(),
            expected: self.expected.as_ref().map(|expected| self.labels[expected[index]].as_str()),
        });
        Report::json(&All {
            device: DeviceJson::from(&*self.device),
            no_gpu_found: self.fell_back,
            milliseconds: self.time.as_secs_f64() * 1e3,
            predictions: lines.collect(),
            evaluation: self.confusion.as_ref(),
        })
    }

    /// Only CSV goes to stdout; everything else goes to stderr.
    fn csv(&self) -> Result<Report> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut header = vec!["label", "probability", "device", "text"];
        if self.expected.is_some() {
            header.push("expected");
        }
        writer.write_record(header)?;
        let device = self.device.to_string();
        for (index, (text, prediction)) in self.texts.iter().zip(&self.predictions).enumerate() {
            let mut record =
                vec![prediction.label.clone(), prediction.probability().to_string(), device.clone(), text.clone()];
            record.extend(self.expected.as_ref().map(|expected| self.labels[expected[index]].clone()));
            writer.write_record(record)?;
        }
        let mut report = Report::data(String::from_utf8(writer.into_inner()?)?);
        if let Some(confusion) = &self.confusion {
            report.notes += &console::strip_ansi_codes(&confusion.to_string());
        }
        if self.fell_back {
            report.notes += "gatefold: no GPU found, computed on the CPU\n";
        }
        Ok(report)
    }
}

//! What the networks remember, as tables and as JSON.

use gatefold::DeviceInfo;
use serde::Serialize;

use super::super::json::document;
use super::super::measure::{Counts, Place};
use super::super::record::Target;
use super::super::{BenchArgs, BenchFormat, conclude};
use super::learn::{Learned, Score, Training};
use super::models::Model;
use super::plot;
use super::task::Task;
use crate::Result;
use crate::report::{FAILED, Report};
use crate::source::DeviceJson;
use crate::table::{Table, bad, bold, dim, good, left, right};
use crate::units::{count, grouped};

/// Identifies the file type.
const KIND: &str = "gatefold bench --set memory";

/// Why a network has its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// So many bytes of state.
    Bytes(usize),
    /// So many microseconds a step.
    Step(f64),
}

/// A network that was trained and tested.
pub struct Outcome {
    pub task: Task,
    pub model: Model,
    pub cause: Cause,
    pub size: String,
    pub weights: usize,
    /// Numbers of state.
    pub kept: usize,
    pub step_us: f64,
    pub learned: Learned,
    pub max_error: f64,
    pub right: bool,
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "a size of a state")]
    pub fn bytes(&self) -> f64 {
        4.0 * self.kept as f64
    }

    /// What was learned: 0 is chance, 100 is everything.
    pub fn points(&self) -> f64 {
        let chance = self.task.chance();
        100.0 * (self.learned.score.share() - chance) / (1.0 - chance)
    }

    fn per_kilobyte(&self) -> f64 {
        self.points() / (self.bytes() / 1000.0)
    }

    fn per_microsecond(&self) -> f64 {
        self.points() / self.step_us
    }
}

/// An outcome for programs.
#[derive(Serialize)]
struct One<'a> {
    device: DeviceJson,
    task: String,
    model: String,
    /// Bytes of state that were asked for, in the first table.
    asked_bytes: Option<usize>,
    /// The time of a step that was asked for, in the second.
    asked_step_us: Option<f64>,
    size: &'a str,
    weights: usize,
    state_bytes: usize,
    step_us: f64,
    trained_sequences: usize,
    trained_s: f64,
    chance: f64,
    untrained_accuracy: f64,
    /// Whether the untrained network was no better than chance.
    control: bool,
    accuracy: f64,
    points: f64,
    points_per_kilobyte: f64,
    points_per_us: f64,
    right_answers: u64,
    answers: u64,
    max_error: f64,
    right: bool,
}

impl<'a> One<'a> {
    fn of(one: &'a Outcome, device: &DeviceInfo) -> Self {
        let Learned { untrained, control, score, sequences, seconds, .. } = &one.learned;
        let (asked_bytes, asked_step_us) = match one.cause {
            Cause::Bytes(bytes) => (Some(bytes), None),
            Cause::Step(step) => (None, Some(step)),
        };
        Self {
            device: DeviceJson::from(device),
            task: one.task.to_string(),
            model: one.model.to_string(),
            asked_bytes,
            asked_step_us,
            size: &one.size,
            weights: one.weights,
            state_bytes: 4 * one.kept,
            step_us: one.step_us,
            trained_sequences: *sequences,
            trained_s: *seconds,
            chance: one.task.chance(),
            untrained_accuracy: untrained.share(),
            control: *control,
            accuracy: score.share(),
            points: one.points(),
            points_per_kilobyte: one.per_kilobyte(),
            points_per_us: one.per_microsecond(),
            right_answers: score.right,
            answers: score.counted,
            max_error: one.max_error,
            right: one.right,
        }
    }
}

/// Prints and keeps the outcomes.
pub fn report(
    args: &BenchArgs,
    (outcomes, place): (&[Outcome], &Place),
    (counts, training): (Counts, Training),
    (record, plot): (Option<Target>, Option<Target>),
    notes: &[String],
) -> Result<Report> {
    let results = outcomes.iter().map(|one| One::of(one, &place.info)).collect();
    let kept = Report::json(&document(KIND, (std::slice::from_ref(place), counts, args.seed), results, (notes, &[])))?;
    let legend = legend(counts, training, &place.info);
    let [bytes, times] = [true, false].map(|bytes| table(outcomes, bytes));
    let mut report = match args.format() {
        BenchFormat::Json => Report::data(kept.text.clone()),
        BenchFormat::Markdown => {
            let legend: Vec<String> = legend.lines().map(|line| format!("- {line}\n")).collect();
            Report::new(format!("{}\n{}\n{}", bytes.markdown(), times.markdown(), legend.concat()))
        }
        // CSV was refused.
        BenchFormat::Table | BenchFormat::Csv => Report::new(format!(
            "{}\n{bytes}\n{}\n{times}\n{}",
            bold("equal state"),
            bold("equal time a step"),
            dim(&legend)
        )),
    };
    if let Some(target) = record {
        report.notes += &format!("recorded: {}\n", target.write(&kept.text)?.display());
    }
    if let Some(target) = plot {
        report.notes += &format!("drawn: {}\n", target.write(&plot::svg(outcomes, training))?.display());
    }
    let wrong = outcomes.iter().any(|one| !one.right).then_some("answers: at least one run");
    conclude(&mut report, wrong, notes, &[]);
    for one in outcomes.iter().filter(|one| !one.learned.control) {
        let (share, chance) = (100.0 * one.learned.untrained.share(), 100.0 * one.task.chance());
        report.notes += &format!(
            "gatefold: WRONG control: {} {} untrained gives {share:.1} % right answers, expected about {chance:.1}\n",
            one.task, one.model
        );
        report.code = FAILED;
    }
    Ok(report)
}

/// The outcomes of one table.
fn table(outcomes: &[Outcome], of_bytes: bool) -> Table {
    let titles = ["weights", "state bytes", "µs a step", "sequences", "untrained", "right", "points"];
    let rates = ["points/kB", "points/µs", "max error"].map(right);
    let columns = titles.map(right).into_iter().chain(rates).chain([left("answer")]);
    let mut table = Table::new(["task", "model", "size"].map(left).into_iter().chain(columns));
    let percent = |score: Score| format!("{:.1} %", 100.0 * score.share());
    for one in outcomes.iter().filter(|one| matches!(one.cause, Cause::Bytes(_)) == of_bytes) {
        let untrained = percent(one.learned.untrained);
        table.row([
            one.task.to_string(),
            one.model.to_string(),
            one.size.clone(),
            grouped(one.weights),
            grouped(4 * one.kept),
            format!("{:.2}", one.step_us),
            grouped(one.learned.sequences),
            if one.learned.control { untrained } else { bad(&untrained) },
            bold(&percent(one.learned.score)),
            format!("{:.1}", one.points()),
            format!("{:.1}", one.per_kilobyte()),
            format!("{:.1}", one.per_microsecond()),
            format!("{:.1e}", one.max_error),
            if one.right { good("right") } else { bad("WRONG") },
        ]);
    }
    table
}

fn legend(counts: Counts, training: Training, device: &DeviceInfo) -> String {
    format!(
        "each network is trained for {training} on {device} with Adam (3e-3, 16 sequences a step, norm at most 1); the best of ten \
         validations is tested\n\
         state bytes: what a stream keeps at the end of the longest sequence; of attention also all outputs of its LSTM\n\
         µs a step: a run of the longest sequence, one row, / its timesteps; median of {} after {}; equal time is that of the \
         largest LSTM of the first table\n\
         untrained: the control, which must be at chance: 50 % of bits, 17 % of questions\n\
         right: bits of copy (5, 10, 15 and 20 vectors) and of recall (2, 4 and 6 items), answers to questions, of new sequences\n\
         points: 0 is chance, 100 is all; kB: 1,000 bytes of state; µs: of a step\n\
         max error: of a run of the trained network from the f64 reference\n",
        count(counts.runs as usize, "run"),
        count(counts.warmup as usize, "run"),
    )
}

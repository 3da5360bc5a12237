//! What is shown and written while a network learns a task.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gatefold::files;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::progress::Progress;
use crate::svg::{COLOURS, head};
use crate::table::{Table, right};
use crate::units::grouped;

/// The numbers of an interval, as files have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskRow {
    /// Sequences since the start.
    pub sequences: usize,
    /// Cost of a sequence.
    pub bits: f64,
    /// Wrong bits of a sequence.
    pub wrong: f64,
    /// The largest of the interval, before it was clipped.
    pub gradient_norm: f64,
    /// Gradients far above the median.
    pub spikes: usize,
    /// Steps left out since the start, since their gradients were not finite.
    pub skipped: usize,
    /// Whether the cost is the lowest so far.
    pub best: bool,
    pub seconds: f64,
}

/// `log.csv` and `curves.svg` in a folder, and a table.
pub struct TaskLog {
    title: &'static str,
    folder: Option<PathBuf>,
    rows: Vec<TaskRow>,
    progress: Progress,
    start: Instant,
    sequences: usize,
}

impl TaskLog {
    /// For a run of which `steps` are done; it goes on in the log of a folder.
    pub fn new(title: &'static str, folder: Option<&Path>, steps: u64, sequences: usize) -> Result<Self> {
        let mut rows = Vec::new();
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let path = folder.join("log.csv");
            if steps > 0 && path.exists() {
                let mut reader = csv::Reader::from_path(&path)?;
                for row in reader.deserialize() {
                    rows.push(row.map_err(|error| format!("{}: {error}", path.display()))?);
                }
            }
        }
        let (folder, start) = (folder.map(Path::to_owned), Instant::now());
        Ok(Self { title, folder, rows, progress: Progress::new(sequences), start, sequences: 0 })
    }

    pub fn step(&mut self, batch: usize, sequences: usize, bits: f64) {
        self.sequences += batch;
        self.progress.advance(batch, &format!("{} sequences: {bits:.2} bits", grouped(sequences)));
    }

    pub fn row(&mut self, row: TaskRow) -> Result<()> {
        self.rows.push(row);
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut table = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            table.serialize(row)?;
        }
        files::write(&folder.join("log.csv"), &table.into_inner()?)?;
        Ok(files::write(&folder.join("curves.svg"), curve(self.title, &self.rows).as_bytes())?)
    }

    /// The lowest cost so far.
    pub fn best(&self) -> Option<f64> {
        self.rows.iter().map(|row| row.bits).reduce(f64::min)
    }

    /// Seconds for 1,000 sequences.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let thousands = self.sequences.max(1) as f64 / 1000.0;
        self.start.elapsed().as_secs_f64() / thousands
    }

    /// When the cost was first below some bounds.
    pub fn solved(&self) -> String {
        let first = |bound: f64| match self.rows.iter().find(|row| row.bits < bound) {
            Some(row) => format!("below {bound} bits at {} sequences", grouped(row.sequences)),
            None => format!("never below {bound} bits"),
        };
        format!("{}, {}", first(1.0), first(0.01))
    }

    /// About twenty rows.
    pub fn table(&self) -> String {
        let columns = ["sequences", "bits", "wrong", "gradient norm", "spikes", "skipped"].map(right);
        let mut table = Table::new(columns);
        let every = self.rows.len().div_ceil(20).max(1);
        let last = self.rows.len().saturating_sub(1);
        for (index, row) in self.rows.iter().enumerate() {
            if index % every + 1 == every || index == last {
                table.row([
                    grouped(row.sequences),
                    format!("{:.4}", row.bits),
                    format!("{:.3}", row.wrong),
                    format!("{:.1}", row.gradient_norm),
                    row.spikes.to_string(),
                    row.skipped.to_string(),
                ]);
            }
        }
        table.to_string()
    }
}

const SIZE: [f64; 2] = [960.0, 480.0];
const LEFT: f64 = 84.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 420.0;
const END: f64 = 928.0;
/// Powers of ten of the axis of bits.
const POWERS: [i32; 2] = [-4, 3];

/// Bits of a sequence over the sequences, both axes as they are printed: bits by their logarithm.
#[expect(clippy::cast_precision_loss, reason = "places on paper")]
fn curve(title: &str, rows: &[TaskRow]) -> String {
    let mut text = head(SIZE, LEFT, title, "bits of a sequence, and wrong ones, over the sequences");
    let most = rows.last().map_or(1, |row| row.sequences).max(1) as f64;
    let across = |sequences: f64| LEFT + sequences / most * (END - LEFT);
    let [low, high] = POWERS.map(f64::from);
    let up = |bits: f64| {
        let power = bits.max(1e-9).log10().clamp(low, high);
        BOTTOM - (power - low) / (high - low) * (BOTTOM - TOP)
    };
    for power in POWERS[0]..=POWERS[1] {
        let at = up(10f64.powi(power));
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{END}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">1e{power}</text>",
            LEFT - 10.0,
            at + 5.0
        );
    }
    for part in 0..=4 {
        let sequences = most * f64::from(part) / 4.0;
        let at = across(sequences);
        let _ =
            writeln!(text, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{sequences:.0}</text>", BOTTOM + 20.0);
    }
    for (index, (name, colour)) in ["bits", "wrong bits"].into_iter().zip(COLOURS).enumerate() {
        let number = |row: &TaskRow| if index == 0 { row.bits } else { row.wrong };
        let places: Vec<String> =
            rows.iter().map(|row| format!("{:.1},{:.1}", across(row.sequences as f64), up(number(row)))).collect();
        let x = END - 220.0 + 110.0 * index as f64;
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{x}\" y=\"68\" fill=\"{colour}\">{name}</text>",
            places.join(" ")
        );
    }
    text + "</svg>\n"
}

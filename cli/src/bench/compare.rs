//! `gatefold bench compare`: two records, ratio by ratio.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Shape;
use super::json::{KIND, VERSION};
use crate::Result;
use crate::args::CompareArgs;
use crate::report::{FAILED, Report};
use crate::stats::Summary;
use crate::table::{Table, bad, bold, dim, good, left, right};

/// The parts of a record that a comparison reads.
#[derive(Deserialize)]
struct Record {
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    shape: Shape,
    device: Device,
    strategy: String,
    wall_us: Option<Summary>,
    gpu_us: Option<Summary>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    backend: String,
}

impl Entry {
    fn name(&self) -> [String; 3] {
        let Device { name, backend } = &self.device;
        let device = if backend == "cpu" { name.clone() } else { format!("{name} ({backend})") };
        [self.shape.to_string(), device, self.strategy.clone()]
    }
}

/// Two times, and whether they differ.
#[derive(Debug, PartialEq)]
enum Verdict {
    Same,
    Faster,
    Slower,
}

/// Times whose quartiles overlap are the same.
fn verdict(before: Summary, after: Summary) -> Verdict {
    match () {
        () if after.lower > before.upper => Verdict::Slower,
        () if after.upper < before.lower => Verdict::Faster,
        () => Verdict::Same,
    }
}

/// The table.
pub fn run(args: &CompareArgs) -> Result<Report> {
    if let Some(limit) = args.fail_above.filter(|limit| !(limit.is_finite() && *limit > 0.0)) {
        return Err(format!("--fail-above: expected a ratio above 0, got {limit}").into());
    }
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let mut table = Table::new([
        left("shape"),
        left("device"),
        left("strategy"),
        left("clock"),
        right("A"),
        right("B"),
        right("B / A"),
        left("verdict"),
    ]);
    let time = |one: Option<Summary>| one.map_or_else(|| "-".to_owned(), |one| format!("{:.1} µs", one.median));
    let row = |name: [String; 3], clock: &str, a, b, ratio: String, verdict: String| {
        name.into_iter().chain([clock.to_owned(), time(a), time(b), bold(&ratio), verdict]).collect::<Vec<_>>()
    };
    let mut exceeded = 0;
    for old in &before.results {
        let Some(new) = after.results.iter().find(|new| new.name() == old.name()) else {
            table.row(row(old.name(), "wall", old.wall_us, None, "-".into(), "only in A".into()));
            continue;
        };
        for (clock, a, b) in [("wall", old.wall_us, new.wall_us), ("GPU", old.gpu_us, new.gpu_us)] {
            let (Some(old_time), Some(new_time)) = (a, b) else {
                match (a, b) {
                    (None, None) => {}
                    (Some(_), _) => table.row(row(old.name(), clock, a, b, "-".into(), "only in A".into())),
                    _ => table.row(row(old.name(), clock, a, b, "-".into(), "only in B".into())),
                }
                continue;
            };
            let ratio = new_time.median / old_time.median.max(1e-9);
            let verdict = verdict(old_time, new_time);
            let over = verdict == Verdict::Slower && args.fail_above.is_some_and(|limit| ratio > limit);
            exceeded += usize::from(over);
            let words = match verdict {
                Verdict::Same => dim("same"),
                Verdict::Faster => good("faster"),
                Verdict::Slower if over => bad("SLOWER, above the limit"),
                Verdict::Slower => bad("SLOWER"),
            };
            table.row(row(old.name(), clock, a, b, format!("{ratio:.2}"), words));
        }
    }
    for new in after.results.iter().filter(|new| !before.results.iter().any(|old| old.name() == new.name())) {
        table.row(row(new.name(), "wall", None, new.wall_us, "-".into(), "only in B".into()));
    }
    let mut report = Report::new(format!(
        "{table}\n{}",
        dim("A, B: medians; same: the quartiles of A and B overlap, so the difference may be noise\n")
    ));
    if exceeded > 0 {
        report.notes = format!("gatefold: {exceeded} times above the limit\n");
        report.code = FAILED;
    }
    Ok(report)
}

fn read(path: &Path) -> Result<Record> {
    let wrong =
        |got: &dyn std::fmt::Display| format!("{}: expected a record of gatefold bench, got {got}", path.display());
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(&format!("damaged JSON: {error}")))?;
    if value["kind"] != KIND {
        return Err(wrong(&"another file: it has no such kind").into());
    }
    if value["record"] != VERSION {
        return Err(wrong(&format!("version {}, and only {VERSION} is read", value["record"])).into());
    }
    let record: Record = serde_json::from_value(value).map_err(|error| wrong(&format!("a damaged one: {error}")))?;
    for entry in &record.results {
        for time in [entry.wall_us, entry.gpu_us].into_iter().flatten() {
            let numbers = [time.min, time.lower, time.median, time.upper];
            if !(numbers.iter().all(|number| number.is_finite() && *number >= 0.0) && numbers.is_sorted()) {
                return Err(wrong(&format!("times out of order: {numbers:?}")).into());
            }
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_apart_differs() {
        let time = |lower, upper| Summary { count: 5, min: lower, lower, median: (lower + upper) / 2.0, upper };
        assert_eq!(verdict(time(1.0, 2.0), time(1.9, 3.0)), Verdict::Same);
        assert_eq!(verdict(time(1.0, 2.0), time(2.1, 3.0)), Verdict::Slower);
        assert_eq!(verdict(time(2.1, 3.0), time(1.0, 2.0)), Verdict::Faster);
    }
}

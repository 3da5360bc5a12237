//! `gatefold tune`: measures which strategy is fastest, and stores it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use gatefold::tuning::{Tuned, Tuning, tune};
use gatefold::{DeviceChoice, DeviceInfo, DeviceKind, Error};

use crate::Result;
use crate::args::TuneArgs;
use crate::progress::Progress;
use crate::report::Report;
use crate::source;
use crate::table::{Table, bold, left, right};
use crate::units::duration;

/// T where none is asked for.
const STEPS: usize = 100;

/// Times every candidate for each batch and writes the winners.
pub fn run(args: &TuneArgs, choice: &DeviceChoice) -> Result<Report> {
    let network = source::network(args.model.as_deref())?;
    let device = source::untuned(choice)?;
    let info = device.info();
    let nothing = || format!("nothing to tune on {info}: expected a GPU and a recurrent layer");
    if info.kind == DeviceKind::Cpu || network.recurrent_layers().next().is_none() {
        return Err(nothing().into());
    }
    let named = args.out.clone().or_else(source::named_tuning);
    let path = named
        .clone()
        .or_else(|| source::tuning_path(info))
        .ok_or("no cache folder: expected XDG_CACHE_HOME or HOME, or --out FILE")?;
    let keep = |tuned: Option<Tuned>| {
        Tuning::update(&path, |found| {
            let mut tuning = begin(found, info, named.is_some().then_some(&path))?;
            tuned.into_iter().for_each(|tuned| tuning.keep(tuned));
            Ok::<_, Box<dyn std::error::Error>>(tuning)
        })
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    // Check that the result can be stored before spending minutes on the measurement.
    keep(None)?;
    let mut notes = String::new();
    let mut progress = Progress::new(args.batch.len());
    let mut table = Table::new([
        right("B"),
        right("T"),
        left("fastest"),
        right("run"),
        right("untuned"),
        right("gain"),
        right("CPU"),
    ]);
    let steps = source::steps(&network, args.steps, STEPS);
    for &batch in &args.batch {
        progress.advance(0, &format!("B{batch} on {}", info.name));
        let tuned = tune(&device, &network, args.arithmetic, steps, batch, args.runs)?;
        let tuned = tuned.ok_or_else(nothing)?;
        progress.advance(1, &format!("B{batch} on {}", info.name));
        if let Some(why) = tuned.prefers_cpu() {
            notes += &format!("B{batch}: {why}; `auto` takes the CPU\n");
        }
        table.row(row(&tuned));
        keep(Some(tuned))?;
    }
    drop(progress);
    let title = bold(&source::name(args.model.as_deref()));
    Ok(Report::new(format!("{title} on {info}\n\n{table}\n{notes}kept in {}\n", path.display())))
}

/// The results to which new ones are added: those in the file, or none. A file named by the user is not replaced.
fn begin(found: gatefold::Result<Tuning>, info: &DeviceInfo, named: Option<&PathBuf>) -> Result<Tuning> {
    match (found, named) {
        (Ok(tuning), Some(path)) => match tuning.check(info) {
            Ok(()) => Ok(tuning),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        },
        (Ok(tuning), None) if tuning.check(info).is_ok() => Ok(tuning),
        (Err(Error::Io { source, .. }), _) if source.kind() == ErrorKind::NotFound => Ok(Tuning::new(info)),
        (Err(error), Some(_)) => Err(error.into()),
        _ => Ok(Tuning::new(info)),
    }
}

fn row(tuned: &Tuned) -> [String; 7] {
    let time = |microseconds: f64| duration(Duration::from_secs_f64(microseconds / 1e6));
    let mut how = tuned.strategy.to_string();
    let parts = [("units", tuned.units), ("split", tuned.split)];
    for (name, number) in parts.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        how += &format!(", {name} {number}");
    }
    if tuned.four_rows == Some(true) {
        how += ", four rows";
    }
    if tuned.held == Some(true) {
        how += ", weights held";
    }
    let gain = format!("{:.2}x", tuned.untuned_microseconds / tuned.microseconds);
    let [run, untuned, cpu] = [tuned.microseconds, tuned.untuned_microseconds, tuned.cpu_microseconds].map(time);
    [tuned.batch.to_string(), tuned.steps.to_string(), how, run, untuned, gain, cpu]
}

//! Sequence to sequence: dates as people write them to ISO 8601.
//!
//! `cargo run --release --example translate -- "the 3rd of march 1998" "sat 1 may 99"`; without a date those that
//! training has not seen are translated, greedily and by beam search, and compared. `--alignment` shows what each letter of
//! the best answer looked at, in tenths.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;
mod dates;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Result, finish};
use dates::{BATCH, Translator};
use gatefold::{Device, DeviceChoice, Sequence};

fn main() -> ExitCode {
    finish("translate", Arguments::read(&["--device", "--models", "--beams", "--count", "--alignment?"]).and_then(run))
}

fn run((args, texts): (Arguments, Vec<String>)) -> Result<()> {
    let folder: PathBuf = args.get("--models", "models/dates".into())?;
    let beams = args.get("--beams", 4usize)?;
    let translator = Translator::load(&folder, &Device::open(&args.get("--device", DeviceChoice::Auto)?)?)?;
    println!("on {}", translator.device().info());
    if !texts.is_empty() {
        for (text, found) in texts.iter().zip(translator.search(&texts, beams)?) {
            println!("{text}");
            for sequence in &found {
                println!("  {:5.1} %  {}", 100.0 * sequence.log_probability.exp(), translator.written(sequence));
            }
            if let Some(best) = found.first().filter(|_| args.get("--alignment", false).unwrap_or(false)) {
                print!("{}", table(text, &translator.written(best), &translator.alignment(text, best)?));
            }
        }
        return Ok(());
    }
    let path = folder.join("held_out.tsv");
    let file = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut texts, mut dates) = (Vec::new(), Vec::new());
    for line in file.lines().take(args.get("--count", 1000usize)?) {
        let mut columns = line.split('\t');
        let (Some(text), Some(date)) = (columns.next(), columns.next()) else {
            return Err(format!("{}: expected text and date in every line, got {line:?}", path.display()).into());
        };
        texts.push(text.to_owned());
        dates.push(date);
    }
    let greedy = timed(&texts, |texts| translator.greedy(texts))?;
    report(&translator, "greedy", &texts, &dates, greedy);
    let best = |texts: &[String]| -> Result<Vec<Sequence>> {
        Ok(translator.search(texts, beams)?.into_iter().filter_map(|found| found.into_iter().next()).collect())
    };
    report(&translator, &format!("{beams} beams"), &texts, &dates, timed(&texts, best)?);
    Ok(())
}

/// A row for each letter of an answer, a column for each of the text: tenths of its attention, none below a half.
fn table(text: &str, answer: &str, shares: &[Vec<f32>]) -> String {
    let mut table = format!("    {text}\n");
    for (letter, shares) in answer.chars().zip(shares) {
        // From a half tenth on; `#` are nine and a half or more.
        let tenth = |&share: &f32| {
            let marks = "123456789#".chars().zip(1u8..);
            marks
                .take_while(|&(_, tenths)| 10.0 * share + 0.5 >= f32::from(tenths))
                .last()
                .map_or(' ', |(mark, _)| mark)
        };
        let row: String = shares.iter().map(tenth).collect();
        table += &format!("  {letter} {}\n", row.trim_end());
    }
    table
}

/// Answers, and the seconds they took.
fn timed(texts: &[String], translate: impl Fn(&[String]) -> Result<Vec<Sequence>>) -> Result<(Vec<Sequence>, f64)> {
    // The first call makes the plans ready.
    translate(&texts[..texts.len().min(BATCH)])?;
    let start = Instant::now();
    let found = translate(texts)?;
    Ok((found, start.elapsed().as_secs_f64()))
}

fn report(translator: &Translator, how: &str, texts: &[String], dates: &[&str], answers: (Vec<Sequence>, f64)) {
    let (found, seconds) = answers;
    let mut right = 0;
    for ((sequence, date), text) in found.iter().zip(dates).zip(texts) {
        let written = translator.written(sequence);
        right += usize::from(written == *date);
        if written != *date {
            println!("  {how}: {text}: {written}, expected {date}");
        }
    }
    let each = 1e3 * seconds / texts.len().max(1) as f64;
    println!("{how}: {right} of {} dates exact, {seconds:.2} s, {each:.2} ms each", texts.len());
}

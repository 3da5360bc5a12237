//! `gatefold score`: a network over the rows of a file of any size.

mod args;
mod cells;
mod encoder;
mod format;
mod input;
mod job;
mod json_column;
mod output;
mod pipeline;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use gatefold::{CpuOptions, DeviceChoice, DeviceInfo, DeviceKind, Network, Scorer, TextVectorizer};

pub use self::args::ScoreArgs;
use self::format::FileFormat;
use self::input::{Bad, Input, Position, Reads, Scored, Wanted};
use self::job::{Facts, Job, Record, hash};
use self::output::{Output, Part};
use self::pipeline::{Answered, Work};
use crate::progress::Progress;
use crate::report::{ERROR, Report};
use crate::table::dim;
use crate::units::{count, duration, grouped};
use crate::{Result, signals, source};

/// Bytes after which a part ends before it has all its rows.
const PART_BYTES: usize = 1 << 24;

/// What a run came to.
struct Finished {
    rows: u64,
    bad: u64,
    /// Of these rows, those that this run scored.
    scored: u64,
}

/// Scores a file.
pub fn run(args: &ScoreArgs, choice: &DeviceChoice, threads: Option<NonZeroUsize>) -> Result<Report> {
    let from = FileFormat::of(&args.input, args.from, "--from")?;
    let to = FileFormat::of(&args.output, args.to, "--to")?;
    let output_path = check_places(args)?;
    let scored = scored(args);
    let network = source::network(args.model.as_deref())?;
    let vectorizer = vectorizer(&network, scored.reads)?;
    let device = source::open(choice)?;
    let scorer = if args.classes.is_empty() {
        Scorer::new(&device, &network)?
    } else {
        Scorer::with_labels(&device, &network, &args.classes)?
    };
    let answers = if network.output_is_sequence() { network.output_size() } else { 0 };
    let (path, keep, typed) = (&*args.input, args.keep.as_deref(), to == FileFormat::Parquet);
    let facts = facts(args, &scored, (from, to), &network, device.info())?;
    let input = Input::open(Wanted {
        path,
        format: from,
        scored: scored.clone(),
        keep,
        typed,
        rows: args.part.get(),
        answers,
    })?;
    let output = Output::new(to, input.kept(), &scorer)?;
    let job = Job::new(with_ending(&output_path, ".parts"), &facts, args.resume, args.force)?;
    signals::finish_first();

    let start = Instant::now();
    // The threads that score are those of the CPU device. A GPU takes one run at a time.
    let workers = match device.info().kind {
        DeviceKind::Cpu => threads.map_or_else(CpuOptions::default_threads, NonZeroUsize::get),
        _ => 1,
    };
    let work =
        Work { input: &input, scorer: &scorer, vectorizer: vectorizer.as_ref(), reads: scored.reads, output: &output };
    let mut writing = Writing::new(args, &job, &input, &output)?;
    let windows = input.windows(writing.at);
    let done = windows
        .and_then(|windows| work.run(windows, workers, |answered| writing.add(answered)))
        .and_then(|()| writing.end());
    let finished = match done {
        Ok(finished) => finished,
        Err(error) => {
            let (error, nothing) = (writing.kept(&*error), writing.records.is_empty());
            drop(writing);
            if nothing {
                job.remove()?;
            }
            return Err(error.into());
        }
    };
    if let Some(signal) = writing.stopped {
        return Ok(interrupted(&finished, args, signal));
    }
    let records = std::mem::take(&mut writing.records);
    drop(writing);
    let parts: Vec<PathBuf> = (0..records.len()).map(|number| job.rows(number)).collect();
    let list = with_ending(&output_path, BAD_ROWS);
    let bad = job.list_bad(&list, &records)?.then_some(list);
    job.join(&output_path, |file| output.join(&parts, file))?;
    job.remove()?;
    source::keep_pipelines(&device);
    Ok(report(args, &finished, bad.as_deref(), (start.elapsed(), &source::place(choice, device.info()))))
}

/// The file to write. What could not be written at the end, or would replace something, is refused.
fn check_places(args: &ScoreArgs) -> Result<PathBuf> {
    let (input, output) = (&args.input, &args.output);
    let shown = output.display();
    let read = std::fs::canonicalize(input).map_err(|error| format!("{}: {error}", input.display()))?;
    // A pipe cannot be read twice.
    if !read.is_file() {
        let got = if read.is_dir() { "a folder" } else { "a pipe or a device" };
        return Err(format!("{}: expected a file, got {got}", input.display()).into());
    }
    // A link is followed: the file that it points at is written.
    let target = std::fs::canonicalize(output).unwrap_or_else(|_| output.clone());
    let list = with_ending(&target, BAD_ROWS);
    for written in [&target, &list] {
        if std::fs::canonicalize(written).is_ok_and(|written| written == read) {
            return Err(format!("{}: expected another file than the input, got the same", written.display()).into());
        }
    }
    // A run that was killed between its last two steps left both.
    let goes_on = args.resume && with_ending(&target, ".parts").is_dir();
    if list.exists() && !args.force && !goes_on {
        return Err(format!("{}: exists already; --force overwrites it", list.display()).into());
    }
    let Ok(there) = std::fs::metadata(&target) else {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(format!("{}: expected a folder that exists, got none", folder.display()).into());
        }
        return Ok(target);
    };
    if !there.is_file() {
        return Err(format!("{shown}: expected a file, got something else").into());
    }
    if !args.force && !goes_on {
        return Err(format!("{shown}: exists already; --force overwrites it").into());
    }
    Ok(target)
}

/// What the name of the list of rows that are left out has behind that of the output.
const BAD_ROWS: &str = ".bad.jsonl";

/// A name with something behind it.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn scored(args: &ScoreArgs) -> Scored {
    let (column, reads) = match (&args.tokens, &args.features) {
        (Some(column), _) => (column, Reads::Tokens),
        (_, Some(column)) => (column, Reads::Features),
        _ => (&args.text, Reads::Text),
    };
    Scored { column: column.clone(), reads }
}

/// What makes token ids of texts. An error if the network does not read such rows.
fn vectorizer(network: &Network, reads: Reads) -> Result<Option<TextVectorizer>> {
    let reads_tokens = network.num_embeddings().is_some();
    match (reads, &network.spec().text) {
        (Reads::Text, Some(text)) => Ok(Some(TextVectorizer::new(text)?)),
        (Reads::Text, None) => {
            let option = if reads_tokens { "--tokens" } else { "--features" };
            Err(format!("--text: expected {option}, since the model has no vocabulary").into())
        }
        (Reads::Tokens, _) if !reads_tokens => {
            Err("--tokens: expected --features, since the model reads vectors".into())
        }
        (Reads::Features, _) if reads_tokens => {
            Err("--features: expected --tokens, since the model reads token ids".into())
        }
        _ => Ok(None),
    }
}

/// What the bytes of the output depend on.
fn facts(
    args: &ScoreArgs,
    scored: &Scored,
    formats: (FileFormat, FileFormat),
    network: &Network,
    device: &DeviceInfo,
) -> Result<Facts> {
    let there = std::fs::metadata(&args.input)?;
    let modified = there.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let path = std::fs::canonicalize(&args.input)?;
    let seconds = format!("{}.{:09}", modified.as_secs(), modified.subsec_nanos());
    let spec = hash(serde_json::to_string(network.spec())?.as_bytes());
    let options = serde_json::json!({
        "from": formats.0, "to": formats.1, "scored": scored, "keep": args.keep, "classes": args.classes,
        "skip-bad": args.skip_bad, "part": args.part,
    });
    Ok(Facts::from([
        ("input".into(), format!("{}, {} bytes, changed at {seconds}", path.display(), there.len())),
        ("model".into(), format!("{:016x}-{spec}", network.fingerprint())),
        ("options".into(), options.to_string()),
        // The driver of the CPU is its instruction set.
        ("device".into(), format!("{device}, {}", device.driver)),
        ("version of gatefold".into(), env!("CARGO_PKG_VERSION").to_owned()),
    ]))
}

/// The parts that are written, one after the other.
struct Writing<'a> {
    args: &'a ScoreArgs,
    job: &'a Job,
    input: &'a Input,
    output: &'a Output,
    records: Vec<Record>,
    part: Part,
    rows: u64,
    bad: Vec<Bad>,
    /// Where the next window begins.
    at: Position,
    resumed: u64,
    stopped: Option<i32>,
    start: Instant,
    progress: Progress,
}

impl<'a> Writing<'a> {
    fn new(args: &'a ScoreArgs, job: &'a Job, input: &'a Input, output: &'a Output) -> Result<Self> {
        let (records, note) = job.finished();
        let at = records.last().map_or_else(Position::default, |record| record.next);
        let mut progress = match input.rows() {
            Some(rows) => Progress::new(usize::try_from(rows)?),
            None => Progress::of_bytes(std::fs::metadata(&args.input)?.len()),
        };
        progress.advance(usize::try_from(if input.rows().is_some() { at.row } else { at.offset })?, "");
        let note = note.map_or_else(String::new, |note| format!("gatefold: {note}\n"));
        let resumed = match args.resume {
            true => {
                format!("gatefold: {} of finished parts are not scored again\n", count(usize::try_from(at.row)?, "row"))
            }
            false => String::new(),
        };
        progress.show(&(note + &resumed));
        let (rows, bad) = (0, Vec::new());
        let (part, start, resumed) = (output.part()?, Instant::now(), at.row);
        Ok(Self { args, job, input, output, records, part, rows, bad, at, resumed, stopped: None, start, progress })
    }

    /// Adds the answers of the next window; false if the run was asked to end.
    fn add(&mut self, answered: Answered) -> Result<bool> {
        let Answered { batch, text, bad, end } = answered;
        if let Some(first) = bad.first().filter(|_| !self.args.skip_bad) {
            return Err(self.input.error(first).into());
        }
        self.part.add(&batch, &text)?;
        self.rows += batch.num_rows() as u64;
        self.bad.extend(bad);
        let before = std::mem::replace(&mut self.at, end);
        let begun = self.records.last().map_or(0, |record| record.next.row);
        if end.row - begun >= self.args.part.get() || self.part.bytes() >= PART_BYTES {
            self.store()?;
        }
        let pieces = if self.input.rows().is_some() { end.row - before.row } else { end.offset - before.offset };
        let scored = end.row - self.resumed;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = scored as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
        self.progress.advance(
            usize::try_from(pieces)?,
            &format!("{} rows, {rate:.0} rows/s", grouped(usize::try_from(end.row)?)),
        );
        self.stopped = signals::asked();
        Ok(self.stopped.is_none())
    }

    fn store(&mut self) -> Result<()> {
        let part = std::mem::replace(&mut self.part, self.output.part()?).finish()?;
        let (rows, bad) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.bad));
        self.records.push(self.job.store(self.records.len(), &part, (rows, self.at, bad))?);
        Ok(())
    }

    /// Stores the last part, unless the run was asked to end.
    fn end(&mut self) -> Result<Finished> {
        let begun = self.records.last().map_or_else(Position::default, |record| record.next);
        // There is at least one part, which says what the columns are.
        if self.stopped.is_none() && (self.at != begun || self.records.is_empty()) {
            self.store()?;
        }
        let (rows, bad) =
            self.records.iter().fold((0, 0), |(rows, bad), record| (rows + record.rows, bad + record.bad.len() as u64));
        Ok(Finished { rows, bad, scored: (rows + bad).saturating_sub(self.resumed) })
    }

    /// An error of this run, with what is left of it.
    fn kept(&self, error: &dyn std::error::Error) -> String {
        match self.records.last() {
            Some(last) => {
                let rows = count(usize::try_from(last.next.row).unwrap_or(usize::MAX), "row");
                format!("{error}; the parts of {rows} are kept, --resume goes on from them")
            }
            None => error.to_string(),
        }
    }
}

/// What is shown where a signal ended the run.
fn interrupted(finished: &Finished, args: &ScoreArgs, signal: i32) -> Report {
    let rows = count(usize::try_from(finished.rows + finished.bad).unwrap_or(usize::MAX), "row");
    let parts = format!("{}.parts", args.output.display());
    let mut report = Report::new("");
    report.notes =
        format!("gatefold: interrupted; {rows} are kept in {parts}, the same command with --resume goes on\n");
    report.code = u8::try_from(128 + signal).unwrap_or(ERROR);
    report
}

fn report(args: &ScoreArgs, finished: &Finished, bad: Option<&Path>, (time, place): (Duration, &str)) -> Report {
    let number = |rows: u64, thing: &str| count(usize::try_from(rows).unwrap_or(usize::MAX), thing);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = finished.scored as f64 / time.as_secs_f64().max(1e-9);
    let left_out = bad.map_or_else(String::new, |path| {
        format!("{} left out, listed in {}\n", number(finished.bad, "row"), path.display())
    });
    let resumed = finished.rows + finished.bad - finished.scored;
    let resumed = if resumed > 0 { format!(", {} of them before", number(resumed, "row")) } else { String::new() };
    let footer =
        format!("{} in {} on {place} ({rate:.0} rows/s){resumed}", number(finished.rows, "row"), duration(time));
    Report::new(format!("{}: {}\n{left_out}", args.output.display(), dim(&footer)))
}

//! Sequence to sequence: dates as people write them to ISO 8601, by an encoder and a decoder of 40 units each
//! that `models/dates/train.py` trained.
//!
//! `cargo run --release --example translate -- "the 3rd of march 1998" "sat 1 may 99"`; without a date those that
//! training has not seen are translated, greedily and by beam search, and compared.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Result, finish};
use gatefold::{
    BeamOptions, Device, DeviceChoice, GenerateOptions, Input, Network, Sequence, Session, StreamId, StreamPool,
};

/// The token that begins and ends a date.
const END: u32 = 0;
/// An ISO date and the token that ends it, and one to spare.
const MOST: usize = 12;
/// Dates translated side by side.
const BATCH: usize = 100;

fn main() -> ExitCode {
    finish("translate", Arguments::read(&["--device", "--models", "--beams", "--count"]).and_then(run))
}

fn run((args, texts): (Arguments, Vec<String>)) -> Result<()> {
    let folder: PathBuf = args.get("--models", "models/dates".into())?;
    let beams = args.get("--beams", 4usize)?;
    let translator = Translator::load(&folder, &Device::open(&args.get("--device", DeviceChoice::Auto)?)?)?;
    println!("on {}", translator.pool.session().device().info());
    if !texts.is_empty() {
        for (text, found) in texts.iter().zip(translator.search(&texts, beams)?) {
            println!("{text}");
            for sequence in found {
                println!("  {:5.1} %  {}", 100.0 * sequence.log_probability.exp(), translator.written(&sequence)?);
            }
        }
        return Ok(());
    }
    let path = folder.join("held_out.tsv");
    let file = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let pairs: Option<Vec<(&str, &str)>> = file.lines().map(|line| line.split_once('\t')).collect();
    let mut pairs = pairs.ok_or_else(|| format!("{}: expected a tab in every line", path.display()))?;
    pairs.truncate(args.get("--count", 1000usize)?);
    let (texts, dates): (Vec<String>, Vec<&str>) =
        pairs.into_iter().map(|(text, date)| (text.to_owned(), date)).unzip();
    translator.report("greedy", &texts, &dates, |texts| translator.greedy(texts))?;
    translator.report(&format!("{beams} beams"), &texts, &dates, |texts| {
        let best = translator.search(texts, beams)?.into_iter().filter_map(|found| found.into_iter().next());
        Ok(best.collect())
    })
}

/// An encoder that reads letters, and a pool of decoders that write them.
struct Translator {
    encoder: Session,
    pool: StreamPool,
    source: Vec<char>,
    target: Vec<char>,
}

impl Translator {
    fn load(folder: &std::path::Path, device: &Device) -> Result<Self> {
        let [encoder, decoder] =
            ["encoder", "decoder"].map(|name| Network::load(folder.join(name).with_extension("safetensors")));
        let path = folder.join("vocabulary.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let vocabulary: serde_json::Value = serde_json::from_str(&text)?;
        let letters = |side: &str| vocabulary[side].as_str().unwrap_or_default().chars().collect();
        let encoder = Session::new(device, &encoder?)?;
        let pool = StreamPool::new(Session::new(device, &decoder?)?, BATCH)?;
        Ok(Self { encoder, pool, source: letters("source"), target: letters("target") })
    }

    /// Reads the texts, all in one batch, and opens a decoder's stream behind each.
    fn read(&self, texts: &[String]) -> Result<Vec<StreamId>> {
        let id = |letter: char| {
            let id = self.source.iter().position(|&known| known == letter.to_ascii_lowercase()).unwrap_or(0);
            u32::try_from(id).unwrap_or(0)
        };
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| text.chars().map(id).collect()).collect();
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let (steps, batch) = (lengths.iter().copied().max().unwrap_or(0), rows.len());
        // Time-major, filled up behind each text's end.
        let tokens: Vec<u32> =
            (0..steps).flat_map(|step| rows.iter().map(move |row| row.get(step).copied().unwrap_or(0))).collect();
        let read = self.encoder.run(Input::tokens(&tokens, [steps, batch]).with_lengths(&lengths), None)?;
        Ok(self.pool.open_from(&read.state)?)
    }

    fn greedy(&self, texts: &[String]) -> Result<Vec<Sequence>> {
        let options = GenerateOptions { max_new_tokens: MOST, eos: vec![END], ..GenerateOptions::default() };
        self.from_streams(texts, |prompts| self.pool.generate(prompts, &options))
    }

    fn search(&self, texts: &[String], num_beams: usize) -> Result<Vec<Vec<Sequence>>> {
        let options = BeamOptions { num_beams, max_new_tokens: MOST, eos: vec![END], ..BeamOptions::default() };
        self.from_streams(texts, |prompts| self.pool.beam_search(prompts, &options))
    }

    fn from_streams<T>(
        &self,
        texts: &[String],
        write: impl Fn(&[(StreamId, &[u32])]) -> gatefold::Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(BATCH) {
            let streams = self.read(texts)?;
            let prompts: Vec<_> = streams.iter().map(|&id| (id, &[END][..])).collect();
            all.extend(write(&prompts)?);
            streams.into_iter().try_for_each(|id| self.pool.close(id))?;
        }
        Ok(all)
    }

    fn written(&self, sequence: &Sequence) -> Result<String> {
        let letter = |&token: &u32| self.target.get(token as usize).copied();
        let text: Option<String> = sequence.text().iter().map(letter).collect();
        text.ok_or_else(|| "vocabulary.json: expected as many target letters as the decoder writes".into())
    }

    fn report(
        &self,
        how: &str,
        texts: &[String],
        dates: &[&str],
        translate: impl Fn(&[String]) -> Result<Vec<Sequence>>,
    ) -> Result<()> {
        // The first call makes the plans ready.
        translate(&texts[..texts.len().min(BATCH)])?;
        let start = Instant::now();
        let found = translate(texts)?;
        let elapsed = start.elapsed();
        let mut right = 0;
        for ((sequence, date), text) in found.iter().zip(dates).zip(texts) {
            let written = self.written(sequence)?;
            right += usize::from(written == *date);
            if written != *date {
                eprintln!("  {how}: {text:40} {written}, expected {date}");
            }
        }
        let each = elapsed / u32::try_from(texts.len().max(1))?;
        println!("{how}: {right} of {} dates exact, {elapsed:.2?}, {each:.2?} each", texts.len());
        Ok(())
    }
}

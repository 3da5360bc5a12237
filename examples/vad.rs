//! Finds the speech in a recording: Silero VAD on any GPU.

mod silero;
mod support;

use std::io::Write as _;
use std::process::ExitCode;

use gatefold::Network;
use silero::{CHUNK, Silero, chunk_by_chunk};
use support::{Args, RATE, Result, finish, read_wav};

const USAGE: &str = "usage: vad RECORDING.wav --model silero_vad.onnx|silero_vad_16k.safetensors [--json] [--device D]
16 kHz, mono, 16 bit or float. A chunk of 32 ms is speech from probability 0.5; neighbours are one segment.";

/// Probability from which a chunk is speech.
const THRESHOLD: f32 = 0.5;
const COLUMNS: usize = 64;
const LINES: usize = 8;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

fn main() -> ExitCode {
    finish("vad", USAGE, Args::parse(std::env::args_os().skip(1), 1, true), run)
}

fn run(args: &Args) -> Result<()> {
    let [path] = args.files.as_slice() else { return Err("expected one recording".into()) };
    let (samples, _) = read_wav(path)?;
    let device = args.device()?;
    let probabilities = if args.model.extension().is_some_and(|extension| extension == "onnx") {
        chunk_by_chunk(&Network::load(&args.model)?, &device, &samples)?
    } else {
        Silero::load(&args.model)?.probabilities(&device, &samples)?
    };
    let seconds = samples.len() as f64 / f64::from(RATE);
    let segments = segments(&probabilities, seconds);
    let mut out = std::io::stdout().lock();
    if args.json {
        let segments: Vec<_> =
            segments.iter().map(|[start, end]| serde_json::json!({ "start": start, "end": end })).collect();
        let answer = serde_json::json!({
            "device": device.info().to_string(),
            "seconds": seconds,
            "threshold": THRESHOLD,
            "chunk_seconds": time(1),
            "segments": segments,
            "probabilities": probabilities,
        });
        return Ok(writeln!(out, "{answer:#}")?);
    }
    curve(&mut out, &probabilities)?;
    for [start, end] in &segments {
        writeln!(out, "speech {start:8.3} s to {end:8.3} s")?;
    }
    let speech: f64 = segments.iter().map(|[start, end]| end - start).sum();
    writeln!(out, "{} segments, {speech:.1} s of {seconds:.1} s, on {}", segments.len(), device.info())?;
    Ok(())
}

/// Seconds at which `chunk` begins.
fn time(chunk: usize) -> f64 {
    (chunk * CHUNK) as f64 / f64::from(RATE)
}

/// Start and end in seconds of every run of chunks that are speech.
fn segments(probabilities: &[f32], seconds: f64) -> Vec<[f64; 2]> {
    let mut segments: Vec<[f64; 2]> = Vec::new();
    let mut speaking = false;
    for (chunk, &probability) in probabilities.iter().enumerate() {
        let (speech, end) = (probability >= THRESHOLD, time(chunk + 1).min(seconds));
        match segments.last_mut() {
            Some(segment) if speech && speaking => segment[1] = end,
            _ if speech => segments.push([time(chunk), end]),
            _ => {}
        }
        speaking = speech;
    }
    segments
}

/// The probability over time, the highest of the chunks that share a column.
fn curve(out: &mut impl std::io::Write, probabilities: &[f32]) -> Result<()> {
    let per_column = probabilities.len().div_ceil(COLUMNS * LINES).max(1);
    for (line, chunks) in probabilities.chunks(per_column * COLUMNS).enumerate() {
        let bars: String = chunks
            .chunks(per_column)
            .map(|column| {
                let highest = column.iter().copied().fold(0.0, f32::max);
                // The bar whose share of 0 to 1 the probability lies in.
                (1..BARS.len()).rev().find(|&k| highest * 8.0 >= k as f32).map_or(BARS[0], |k| BARS[k])
            })
            .collect();
        writeln!(out, "{:8.2} s {bars}", time(line * per_column * COLUMNS))?;
    }
    Ok(())
}

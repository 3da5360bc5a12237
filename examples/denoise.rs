//! Removes noise from a recording: DTLN on any GPU.

mod dtln;
mod support;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use dtln::{FRAME, SHIFT, Stream, cores};
use hound::{SampleFormat, WavWriter};
use support::{Args, RATE, Result, finish, read_wav};

const USAGE: &str = "usage: denoise IN.wav OUT.wav --model model.h5|FOLDER [--device D]
16 kHz, mono, 16 bit or float. The model is DTLN's model.h5, or the folder of its model_1.onnx and model_2.onnx.";

/// Frames that go through the networks at once, which bounds the memory.
const PORTION: usize = 512;

fn main() -> ExitCode {
    finish("denoise", USAGE, Args::parse(std::env::args_os().skip(1), 2, false), run)
}

fn run(args: &Args) -> Result<()> {
    let [input, output] = args.files.as_slice() else { return Err("expected two recordings".into()) };
    let (samples, spec) = read_wav(input)?;
    let networks = cores(&args.model)?;
    let device = args.device()?;
    let mut stream = Stream::new(&device, &networks)?;
    // The output is delayed by the length of a frame minus its shift.
    let late = FRAME - SHIFT;
    let mut padded = samples.clone();
    padded.resize((samples.len() + late).next_multiple_of(SHIFT), 0.0);
    let start = Instant::now();
    let mut cleaned = Vec::with_capacity(padded.len());
    for portion in padded.chunks(PORTION * SHIFT) {
        cleaned.extend(stream.denoise(portion)?);
    }
    let took = start.elapsed().as_secs_f64();
    let named = |error: hound::Error| format!("{}: {error}", output.display());
    let mut writer = WavWriter::create(output, spec).map_err(named)?;
    for &sample in &cleaned[late..late + samples.len()] {
        match spec.sample_format {
            SampleFormat::Float => writer.write_sample(sample),
            #[expect(clippy::cast_possible_truncation, reason = "bounded just here")]
            SampleFormat::Int => writer.write_sample((sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16),
        }
        .map_err(named)?;
    }
    writer.finalize().map_err(named)?;
    let seconds = samples.len() as f64 / f64::from(RATE);
    writeln!(
        std::io::stdout(),
        "{seconds:.1} s in {took:.2} s, {:.0} times as fast as it sounds, on {}",
        seconds / took,
        device.info()
    )?;
    Ok(())
}

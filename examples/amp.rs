//! Plays a recording through the network of a guitar amplifier, frame by frame as a plug-in does.

#[allow(dead_code, reason = "the other examples read 16 kHz and write JSON")]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gatefold::formats::amp;
use gatefold::{DeviceChoice, Input, Output, Session, State};
use hound::{SampleFormat, WavSpec, WavWriter};
use support::{Args, Result, finish, read_wav_at};

const USAGE: &str = "usage: amp IN.wav OUT.wav --model AMP.nam|AMP.json|AMP.aidax [--device D]
Mono, 16 bit or float, at the sample rate of the model. The CPU is the default: a frame is too small for a GPU.";

/// Samples of a frame, as audio drivers ask for.
const FRAME: usize = 64;

/// Counts what the thread of the audio allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator unchanged.
#[allow(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    finish("amp", USAGE, Args::parse_on(DeviceChoice::Cpu, std::env::args_os().skip(1), 2, false), run)
}

fn run(args: &Args) -> Result<()> {
    let [from, to] = args.files.as_slice() else { return Err("expected two recordings".into()) };
    let amp = amp::load(&args.model)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates; no recording has such a rate"
    )]
    let (samples, spec) = read_wav_at(from, amp.sample_rate.map(|rate| rate.round() as u32))?;
    let model = args.model.display();
    let (inputs, outputs) = (amp.network.inputs()[0].width, amp.network.output_size());
    if [inputs, outputs] != [1, 1] {
        let got = format!("{inputs} and {outputs} (knobs are further inputs)");
        return Err(format!("{model}: expected a model of 1 input and 1 output, got {got}").into());
    }
    let device = args.device()?;
    let session = Session::new(&device, &amp.network)?;
    let mut player = Player::new(&session)?;
    let mut heard = vec![0.0; samples.len()];
    let mut times = Vec::with_capacity(samples.len().div_ceil(FRAME));
    let before = ALLOCATIONS.get();
    for (input, output) in samples.chunks(FRAME).zip(heard.chunks_mut(FRAME)) {
        let start = Instant::now();
        player.play(input, output)?;
        times.push(start.elapsed());
    }
    let allocations = ALLOCATIONS.get() - before;
    let peak = heard.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    write_wav(to, &heard, spec)?;
    let rate = f64::from(spec.sample_rate);
    times.sort_unstable();
    let of_times = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    let whole: Duration = times.iter().sum();
    let seconds = samples.len() as f64 / rate;
    let mut out = std::io::stdout().lock();
    let name = amp.name.unwrap_or_else(|| model.to_string());
    writeln!(out, "{}, {} weights, on {}", gatefold::printable(&name, 60), amp.network.parameters(), device.info())?;
    writeln!(
        out,
        "{seconds:.1} s in frames of {FRAME} samples ({:.2} ms): {:.1} µs a frame (median), {:.1} µs (99 of 100), {:.0} x real time",
        FRAME as f64 / rate * 1e3,
        of_times(50),
        of_times(99),
        seconds / whole.as_secs_f64(),
    )?;
    writeln!(out, "{allocations} allocations in {} frames; peak {peak:.3}", times.len())?;
    if spec.sample_format == SampleFormat::Int && peak > 1.0 {
        writeln!(out, "the output is clipped to 1; a recording of floats is not")?;
    }
    Ok(())
}

/// A network with its state, and memory for the next frame.
struct Player<'a> {
    session: &'a Session,
    /// The last frame's output with the state after it, and memory for the next.
    outputs: [Output; 2],
    /// The samples of a frame.
    frame: Vec<f32>,
}

impl<'a> Player<'a> {
    fn new(session: &'a Session) -> Result<Self> {
        let frame = vec![0.0; FRAME];
        let first = session.run(Input::features(&frame, shape(session)), None)?;
        let mut player = Self { session, outputs: [first.clone(), first], frame };
        // The first frames take the memory that later ones have.
        for _ in 0..4 {
            player.play(&[0.0; FRAME], &mut [0.0; FRAME])?;
        }
        // The recording begins with the state that the model begins with.
        player.outputs[0].state = State::initial(session.network(), 1)?;
        Ok(player)
    }

    /// A frame, which is shorter at the end of a recording.
    fn play(&mut self, input: &[f32], output: &mut [f32]) -> Result<()> {
        let [last, next] = &mut self.outputs;
        self.frame.fill(0.0);
        self.frame[..input.len()].copy_from_slice(input);
        let frame = Input::features(&self.frame, shape(self.session));
        self.session.run_into(frame, Some(&last.state), next)?;
        output.copy_from_slice(&next.values[..output.len()]);
        self.outputs.swap(0, 1);
        Ok(())
    }
}

/// The shape of a frame, `[B, T, 1]` or `[T, B, 1]`.
fn shape(session: &Session) -> [usize; 3] {
    if session.network().batch_first() { [1, FRAME, 1] } else { [FRAME, 1, 1] }
}

/// Writes samples in the format of the recording that was read.
fn write_wav(path: &Path, samples: &[f32], spec: WavSpec) -> Result<()> {
    let named = |error: hound::Error| format!("{}: {error}", path.display());
    let mut writer = WavWriter::create(path, spec).map_err(named)?;
    for &sample in samples {
        #[expect(clippy::cast_possible_truncation, reason = "clamped before")]
        match spec.sample_format {
            SampleFormat::Float => writer.write_sample(sample),
            SampleFormat::Int => writer.write_sample((sample.clamp(-1.0, 1.0) * 32767.0).round() as i16),
        }
        .map_err(named)?;
    }
    Ok(writer.finalize().map_err(named)?)
}

//! Code that the examples share: arguments, recordings, and exit codes.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gatefold::{Device, DeviceChoice};
use hound::{SampleFormat, WavReader, WavSpec};

/// Any error: its text is one line that says what was expected and what was found.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Samples per second that both models are trained on.
pub const RATE: u32 = 16_000;

/// Command-line arguments of an example.
#[derive(Default)]
pub struct Args {
    /// Arguments without a dash, in order.
    pub files: Vec<PathBuf>,
    /// `--model`.
    pub model: PathBuf,
    /// `--json`.
    pub json: bool,
    /// `--device`.
    device: DeviceChoice,
}

impl Args {
    /// Reads `arguments`, of which `files` stand without a dash; `None` if help is wanted.
    pub fn parse(arguments: impl Iterator<Item = OsString>, files: usize, json: bool) -> Result<Option<Self>> {
        Self::parse_on(DeviceChoice::default(), arguments, files, json)
    }

    /// As [`Args::parse`], on `device` where the arguments name no other.
    pub fn parse_on(
        device: DeviceChoice,
        arguments: impl Iterator<Item = OsString>,
        files: usize,
        json: bool,
    ) -> Result<Option<Self>> {
        let mut args = Self { device, ..Self::default() };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            let mut value = || arguments.next().ok_or_else(|| format!("expected a value behind {text}, got none"));
            match text.as_str() {
                "--help" | "-h" => return Ok(None),
                "--model" => args.model = value()?.into(),
                "--device" => args.device = value()?.to_string_lossy().parse()?,
                "--json" if json => args.json = true,
                other if other.starts_with("--") => return Err(format!("unknown option {other}; see --help").into()),
                _ => args.files.push(argument.into()),
            }
        }
        if args.files.len() != files {
            return Err(format!("expected {files} file name(s), got {}; see --help", args.files.len()).into());
        }
        if args.model.as_os_str().is_empty() {
            return Err("expected --model PATH, got none; see --help".into());
        }
        Ok(Some(args))
    }

    /// The device asked for.
    pub fn device(&self) -> Result<Device> {
        Ok(Device::open(&self.device)?)
    }
}

/// Runs an example; an error is one line on stderr and exit code 2.
pub fn finish(name: &str, usage: &str, args: Result<Option<Args>>, run: impl Fn(&Args) -> Result<()>) -> ExitCode {
    let result = args.and_then(|args| match args {
        Some(args) => run(&args),
        None => Ok(writeln!(std::io::stdout(), "{usage}")?),
    });
    let Err(error) = result else { return ExitCode::SUCCESS };
    let line: Vec<String> = error.to_string().split_whitespace().map(Into::into).collect();
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(std::io::stderr(), "{name}: {}", line.join(" "));
    ExitCode::from(2)
}

/// Samples in ±1 of a recording with 16 kHz, one channel, 16 bit or float.
pub fn read_wav(path: &Path) -> Result<(Vec<f32>, WavSpec)> {
    read_wav_at(path, Some(RATE))
}

/// As [`read_wav`], with another number of samples per second, or any.
pub fn read_wav_at(path: &Path, rate: Option<u32>) -> Result<(Vec<f32>, WavSpec)> {
    let named = |error: hound::Error| format!("{}: {error}", path.display());
    let reader = WavReader::open(path).map_err(named)?;
    let spec = reader.spec();
    let WavSpec { channels, sample_rate, bits_per_sample: bits, sample_format } = spec;
    let right_rate = rate.is_none_or(|rate| rate == sample_rate);
    let samples: std::result::Result<Vec<f32>, _> = match (channels, right_rate, bits, sample_format) {
        (1, true, 16, SampleFormat::Int) => {
            reader.into_samples::<i16>().map(|sample| sample.map(|x| f32::from(x) / 32768.0)).collect()
        }
        (1, true, 32, SampleFormat::Float) => reader.into_samples::<f32>().collect(),
        _ => {
            let kind = if sample_format == SampleFormat::Int { "integers" } else { "floats" };
            let rate = rate.map_or_else(String::new, |rate| format!("{rate} Hz, "));
            return Err(format!(
                "{}: expected {rate}1 channel, 16 bit integers or 32 bit floats, \
                 got {sample_rate} Hz, {channels} channel(s), {bits} bit {kind}",
                path.display()
            )
            .into());
        }
    };
    let samples = samples.map_err(named)?;
    if samples.is_empty() {
        return Err(format!("{}: expected samples, got an empty recording", path.display()).into());
    }
    match samples.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(format!("{}: expected finite samples, got {} at {at}", path.display(), samples[at]).into()),
        None => Ok((samples, spec)),
    }
}

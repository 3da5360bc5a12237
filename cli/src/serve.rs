//! `gatefold serve`: models behind HTTP, with the state of every sequence kept.

use std::env::VarError;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use gatefold::DeviceChoice;
use gatefold::streams::QueueOptions;
use gatefold_serve::{Limits, Model, Options, Server};

use crate::report::Report;
use crate::units::count;
use crate::{Result, signals, source, terminal};

/// Environment variable with the token.
const TOKEN: &str = "GATEFOLD_TOKEN";

#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// Models, each with a name in paths: MODEL, or NAME=MODEL [default: the built-in sentiment model]
    #[arg(value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Address and port to listen on; port 0 lets the system choose one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// File with a token that clients must send (Authorization: Bearer TOKEN); GATEFOLD_TOKEN may hold it instead
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Folder in which sequences are stored when the server ends, and from which they continue when it starts
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A sequence that no request uses for longer than this ends
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub max_sequence_idle: Duration,
    /// Maximum number of open sequences of a model
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_sequences: usize,
    /// Maximum number of timesteps of a sequence in one request
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub max_steps: usize,
    /// Maximum number of requests of a model that wait; more are answered with status 429
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_queue: usize,
    /// Maximum number of sequences in a batch
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_batch: usize,
    /// How long a request of a sequence waits for others to share its batch, in milliseconds
    #[arg(long, value_name = "MS", default_value = "1", value_parser = milliseconds)]
    pub batch_wait: Duration,
    /// Maximum size of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    pub max_body: usize,
    /// Maximum number of open connections; more wait
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_connections: usize,
    /// Time that a client has to send headers, to send a body and to take an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// Time in which requests must be done when the server ends
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub drain: Duration,
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| format!("expected seconds above 0, got {text:?}"))
}

fn milliseconds(text: &str) -> std::result::Result<Duration, String> {
    let time = text.parse::<f64>().ok().and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
    time.ok_or_else(|| format!("expected milliseconds, got {text:?}"))
}

impl ServeArgs {
    fn limits(&self) -> Limits {
        let body = self.max_body.saturating_mul(1 << 20);
        Limits {
            body,
            bodies: body.saturating_mul(16),
            elements: body,
            steps: self.max_steps,
            sequences: self.max_sequences,
            idle: self.max_sequence_idle,
            queue: QueueOptions { deadline: self.batch_wait, max_batch: self.max_batch, capacity: self.max_queue },
            connections: self.max_connections,
            header_time: self.timeout,
            body_time: self.timeout,
            write_time: self.timeout,
            drain: self.drain,
        }
    }
}

/// Serves models until a signal ends it.
pub fn run(args: &ServeArgs, choice: &DeviceChoice) -> Result<Report> {
    let token = token(args.token_file.as_deref())?;
    let open = token.is_none() && !args.listen.ip().is_loopback();
    let models = if args.models.is_empty() {
        vec![Model::new("sentiment", source::network(None)?)]
    } else {
        args.models.iter().map(|given| model(given)).collect::<Result<_>>()?
    };
    let names: Vec<String> = models.iter().map(|model| format!("`{}`", model.name)).collect();
    let device = source::open(choice)?;
    let options = Options { listen: args.listen, token, state: args.state.clone(), limits: args.limits() };
    // From now on a signal ends the server in good order.
    signals::finish_first();
    let server = Server::bind(&device, models, options)?;
    say(&format!(
        "serving {} on http://{}, {}{}; Ctrl-C ends it",
        names.join(", "),
        server.address()?,
        source::place(choice, device.info()),
        match server.restored() {
            0 => String::new(),
            restored => format!("; {} continued", count(restored, "sequence")),
        }
    ));
    if open {
        say(
            "warning: everybody who reaches this address may use it: give a token (--token-file), or listen on 127.0.0.1",
        );
    }
    let ended = server.run_until(|| signals::asked().is_some())?;
    source::keep_pipelines(&device);
    if ended.cut > 0 {
        say(&format!("{} cut, whose requests were not done in time", count(usize::try_from(ended.cut)?, "connection")));
    }
    if let Some(folder) = &args.state {
        say(&format!("{} stored in {}", count(ended.stored, "sequence"), folder.display()));
    }
    Ok(Report::new(String::new()))
}

/// A model, by its own name or by that of its file.
fn model(given: &Path) -> Result<Model> {
    let text = given.to_string_lossy();
    let (name, path) = match text.split_once('=') {
        Some((name, path)) if !given.exists() => (name.to_owned(), Path::new(path)),
        _ => {
            let stem = given.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (stem.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "-"), given)
        }
    };
    Ok(Model { network: source::network(Some(path))?, path: Some(path.to_owned()), name })
}

fn token(file: Option<&Path>) -> Result<Option<String>> {
    match file {
        Some(path) => {
            let token = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Some(token.trim().to_owned()))
        }
        // One that is set but cannot be used must not mean a server without access control.
        None => match std::env::var(TOKEN) {
            Ok(token) if token.trim().is_empty() => {
                Err(format!("{TOKEN}: expected a token, got an empty text; unset it to serve without a token").into())
            }
            Ok(token) => Ok(Some(token)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(format!("{TOKEN}: expected a token of ASCII, got other bytes").into()),
        },
    }
}

/// A line on stderr.
fn say(line: &str) {
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(std::io::stderr(), "gatefold: {}", terminal::one_line(line));
}

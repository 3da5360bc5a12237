//! The command `gatefold`: runs recurrent networks on any GPU or on the CPU and checks the results.
//!
//! Exit codes: 0 done, 1 a check failed (`verify`, `bench`), 2 an error, 128 and the signal's number where training or scoring
//! was interrupted and can go on.

mod args;
mod arrays;
mod bench;
mod chip;
mod classify;
mod confusion;
mod convert;
mod devices;
mod evaluate;
mod examples;
mod given;
mod gradients;
mod inspect;
mod logging;
mod memory;
mod plan;
mod progress;
mod report;
mod reviews;
#[cfg(feature = "score")]
mod score;
#[cfg(feature = "serve")]
mod serve;
mod signals;
mod source;
mod stats;
mod svg;
mod table;
mod tasks;
mod terminal;
mod train;
mod tune;
mod units;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Args, Command};
use report::{ERROR, Report};

/// Any error. Its text is one line that says what was expected and what was found.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[global_allocator]
static ALLOCATOR: memory::Ending = memory::Ending;

fn main() -> ExitCode {
    quiet_drivers();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
    logging::start(args.verbose);
    signals::start();
    source::set(args.cpu(), args.device_options());
    source::set_integers(&args.integer);
    match run(&args).and_then(Report::print) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(ERROR)
        }
    }
}

/// Sets `XDG_RUNTIME_DIR` if it is unset (root, containers). When adapters are listed, Mesa's Vulkan layer looks for a
/// Wayland display in that folder and prints a misleading error if the variable is unset. It accepts a folder that does
/// not exist without a message.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the environment is set before any other thread starts")]
fn quiet_drivers() {
    const RUNTIME: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(RUNTIME).is_none_or(|path| !std::path::Path::new(&path).is_absolute()) {
        // SAFETY: called before any other thread exists, so no other thread reads the environment.
        unsafe { std::env::set_var(RUNTIME, "/nonexistent") };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_drivers() {}

fn run(args: &Args) -> Result<Report> {
    match &args.command {
        Command::Classify(options) => classify::run(options, args.device()?),
        Command::Train(options) => train::run(options, args.device()?),
        Command::Evaluate(options) => evaluate::run(options, args.device()?),
        #[cfg(feature = "score")]
        Command::Score(options) => score::run(options, args.device()?, args.threads),
        Command::Devices(options) => devices::run(options, args.device()?),
        Command::Verify(options) => verify::run(options, args.device()?),
        Command::Plan(options) => plan::run(options, args.device()?),
        Command::Inspect(options) => inspect::run(options),
        Command::Convert(options) => convert::run(options),
        Command::Tune(options) => tune::run(options, args.device()?),
        Command::Bench(options) => bench::run(options, &args.device),
        #[cfg(feature = "serve")]
        Command::Serve(options) => serve::run(options, args.device()?),
    }
}

/// Prints requested help unchanged. An error in the arguments is reduced to one line, like every error.
fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // If stdout is closed, there is nothing to do.
        let _ = error.print();
    } else {
        let message = error.to_string();
        let parts = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        // A line that ends with a colon introduces the next one.
        let parts = parts.replace(":; ", ": ");
        complain(parts.strip_prefix("error: ").unwrap_or(&parts));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ERROR))
}

/// One line on stderr.
fn complain(message: &str) {
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(std::io::stderr(), "gatefold: {}", terminal::one_line(message));
}

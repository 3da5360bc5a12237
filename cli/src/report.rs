//! What a subcommand answers with. Nothing is printed before all of it is there.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use crate::Result;
use crate::terminal::shown_lines;

/// Exit code when everything is right.
pub const DONE: u8 = 0;
/// Exit code when a check failed.
pub const FAILED: u8 = 1;
/// Exit code of every error.
pub const ERROR: u8 = 2;

/// The answer of a subcommand.
pub struct Report {
    /// For stdout.
    pub text: String,
    /// Whether the text is for programs (JSON, CSV), which get it as it is.
    data: bool,
    /// For stderr, after stdout.
    pub notes: String,
    /// The exit code.
    pub code: u8,
}

impl Report {
    /// An answer that is no failure.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), data: false, notes: String::new(), code: DONE }
    }

    /// As [`Report::new`], for programs.
    pub fn data(text: impl Into<String>) -> Self {
        Self { data: true, ..Self::new(text) }
    }

    /// Any value as JSON, ready to be read by people too.
    pub fn json(value: &impl serde::Serialize) -> Result<Self> {
        Ok(Self::data(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Prints everything. A reader that has seen enough (`| head`) is no error.
    pub fn print(self) -> Result<u8> {
        let mut stdout = std::io::stdout().lock();
        let text = if self.data && !stdout.is_terminal() { self.text } else { shown_lines(&self.text) };
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(format!("standard output: {error}").into());
            }
            _ => {}
        }
        let _ = std::io::stderr().write_all(shown_lines(&self.notes).as_bytes());
        Ok(self.code)
    }
}

//! The output of a subcommand. Nothing is printed before it is complete.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use crate::Result;
use crate::terminal::shown_lines;

/// Exit code of success.
pub const DONE: u8 = 0;
/// Exit code of a failed check.
pub const FAILED: u8 = 1;
/// Exit code of every error.
pub const ERROR: u8 = 2;

/// The output of a subcommand.
pub struct Report {
    /// For stdout.
    pub text: String,
    /// Whether the text is for programs (JSON, CSV) and is printed unchanged.
    data: bool,
    /// For stderr, after stdout.
    pub notes: String,
    /// The exit code.
    pub code: u8,
}

impl Report {
    /// A successful output.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), data: false, notes: String::new(), code: DONE }
    }

    /// As [`Report::new`], for programs.
    pub fn data(text: impl Into<String>) -> Self {
        Self { data: true, ..Self::new(text) }
    }

    /// A value as indented JSON.
    pub fn json(value: &impl serde::Serialize) -> Result<Self> {
        Ok(Self::data(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Prints everything. A closed pipe (`| head`) is not an error.
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

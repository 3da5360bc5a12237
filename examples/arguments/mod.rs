//! `--name value` arguments of an example, and how it ends.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr;

/// Any error: its text is one line that says what was expected and what was found.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Options with a value.
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Reads the command line, on which these options may stand, and the words without a dash in order. An option that is known
    /// with a `?` behind its name takes no value; it is `true`.
    pub fn read(known: &[&str]) -> Result<(Self, Vec<String>)> {
        let (mut options, mut rest) = (Vec::new(), Vec::new());
        let utf8 = |word: OsString| word.into_string().map_err(|word| format!("expected UTF-8, got {word:?}"));
        let mut words = std::env::args_os().skip(1).map(utf8);
        while let Some(word) = words.next().transpose()? {
            if !word.starts_with("--") {
                rest.push(word);
            } else if known.iter().any(|known| known.strip_suffix('?') == Some(&word)) {
                options.push((word, "true".to_owned()));
            } else if known.contains(&word.as_str()) {
                let value = words.next().transpose()?;
                let value = value.ok_or_else(|| format!("expected a value behind {word}, got none"))?;
                options.push((word, value));
            } else {
                return Err(format!("expected one of {}, got {word}", known.join(", ").replace('?', "")).into());
            }
        }
        Ok((Self(options), rest))
    }

    /// The value of an option, the last if it comes twice.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.0.iter().rev().find(|(option, _)| option == name) {
            None => Ok(default),
            Some((_, value)) => value.parse().map_err(|_| format!("{name}: expected a value, got {value:?}").into()),
        }
    }
}

/// Ends an example; an error is one line on stderr and exit code 2.
pub fn finish(name: &str, result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(std::io::stderr(), "{name}: {error}");
    ExitCode::from(2)
}

//! Running the binary, and files for it to read.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The results of a run of the command.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The command with nothing of this machine's environment that changes its answers.
pub fn command<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
    for name in ["WGPU_BACKEND", "WGPU_ADAPTER_NAME", "RUST_LOG", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    // Tuning results of this machine's user must have no effect.
    command
        .env_remove("GATEFOLD_TUNING")
        .env_remove("RUST_BACKTRACE")
        .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no cache"));
    command.args(args).stdin(Stdio::null());
    command
}

fn finish(command: &mut Command, stdin: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    // A command that reads no input may have ended already.
    let _ = child.stdin.take().expect("piped").write_all(stdin);
    let output = child.wait_with_output().expect("the binary ends");
    let run = Run {
        code: output.status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    run
}

/// Runs the command with `stdin`.
pub fn run_with<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>, stdin: &[u8]) -> Run {
    finish(&mut command(args), stdin)
}

/// Runs the command.
pub fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    run_with(args, b"")
}

/// Runs the command, which must succeed.
pub fn answer<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let run = run(args);
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

/// Runs the command, which must refuse with one line that has every one of `words`, and print nothing else.
pub fn refusal<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>, words: &[&str]) {
    refused(&run(args), words);
}

/// As [`refusal`], for a run that has happened.
pub fn refused(run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("gatefold: ")).collect();
    assert_eq!(lines.len(), 1, "{run:?}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` in: {}", lines[0]);
    }
    for internal in ["Error {", "Os {", "RUST_BACKTRACE", "unwrap"] {
        assert!(!lines[0].contains(internal), "{}", lines[0]);
    }
}

/// Runs the command on a software adapter. Without one the test fails: a test that did not run must not count as passed.
pub fn on_software(args: &[&str]) -> Run {
    let run = run(args.iter().chain(&["--device", "software"]));
    let missing = run.code == 2 && run.stderr.contains("no adapter");
    assert!(!missing, "NOT RUN, this test needs a software adapter (CONTRIBUTING.md: \"Tests\"): {}", run.stderr);
    run
}

/// Every number and word of JSON on stdout.
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A file of the repository.
pub fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).to_str().expect("UTF-8").to_owned()
}

/// A folder of one test's own.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// As [`Folder::new`], without what an earlier run left.
    pub fn fresh(test: &str) -> Self {
        let _ = std::fs::remove_dir_all(Path::new(env!("CARGO_TARGET_TMPDIR")).join(test));
        Self::new(test)
    }

    /// Writes a file and says where it is.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

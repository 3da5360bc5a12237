//! Malicious numbers, names and limits: the error is one line that a terminal can show, and the exit code is 2.
#![cfg(unix)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Stdio};

use crate::files::sparse_model;
use crate::support::{Folder, Run, answer, command, on_software, repository, run};

/// Most bytes of a message.
const LONGEST: usize = 4000;
const HUGE: &str = "18446744073709551615";
/// A name with control characters, as a malicious model may have.
const NAME: &str = "a\x1b[31m\x1b]0;title\x07\u{9b}2J\u{202e}b";

/// What is wrong with text for a terminal.
fn unfit(text: &str) -> Option<String> {
    let odd = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
    if let Some(c) = text.chars().find(odd) {
        return Some(format!("{c:?}"));
    }
    let longest = text.lines().map(str::len).max().unwrap_or(0);
    (longest > LONGEST).then(|| format!("a line of {longest} bytes"))
}

/// What is wrong with a run that should have been refused.
fn wrong(run: &Run) -> Option<String> {
    if run.code != 2 {
        return Some(format!("exit code {}", run.code));
    }
    if !run.stdout.is_empty() {
        return Some("an answer".into());
    }
    let lines = run.stderr.lines().count();
    if lines != 1 || !run.stderr.starts_with("gatefold: ") {
        return Some(format!("{lines} lines"));
    }
    unfit(&run.stderr)
}

/// Runs the command; with a limit on its memory in KiB, if one is given. A signal's number is negative.
fn limited(kib: Option<u64>, args: &[OsString]) -> Run {
    let limit = kib.map_or_else(String::new, |kib| format!("ulimit -v {kib} && "));
    // Messages of the graphics stack about this machine's folders are not the command's.
    let mut shell = command::<&str>([]);
    let (program, environment) = (shell.get_program().to_owned(), shell.get_envs());
    let mut sh = Command::new("sh");
    for (name, value) in environment {
        match value {
            Some(value) => sh.env(name, value),
            None => sh.env_remove(name),
        };
    }
    sh.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    shell.stdin(Stdio::null());
    let script = format!("{limit} exec \"$0\" \"$@\"");
    let output = sh.arg("-c").arg(script).arg(program).args(args).stdin(Stdio::null()).output().expect("sh");
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    Run {
        code: output.status.code().unwrap_or_else(|| -signal.unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Runs what must be refused.
fn refused(kib: Option<u64>, args: &[OsString]) {
    let run = limited(kib, args);
    if let Some(what) = wrong(&run) {
        panic!("{args:?} in {kib:?} KiB: {what}: {run:?}");
    }
}

/// The negative control: every way in which a command may fail to report an error is detected.
#[test]
fn what_is_wrong_is_noticed() {
    let good = Run { code: 2, stdout: String::new(), stderr: "gatefold: no\n".into() };
    assert_eq!(wrong(&good), None);
    let bad = |code, stdout: &str, stderr: &str| Run { code, stdout: stdout.into(), stderr: stderr.into() };
    for run in [
        bad(101, "", "gatefold: no\n"),
        bad(134, "", "gatefold: no\n"),
        bad(-6, "", "gatefold: no\n"),
        bad(0, "", "gatefold: no\n"),
        bad(2, "half an answer", "gatefold: no\n"),
        bad(2, "", ""),
        bad(2, "", "memory allocation of 7 bytes failed\n"),
        bad(2, "", "gatefold: no\ngatefold: no\n"),
        bad(2, "", &format!("gatefold: {NAME}\n")),
        bad(2, "", "gatefold: \x1b[1mno\n"),
        bad(2, "", &format!("gatefold: {}\n", "x".repeat(100_000))),
    ] {
        assert!(wrong(&run).is_some(), "{run:?}");
    }
}

#[test]
fn numbers_of_any_size_are_refused() {
    let folder = Folder::fresh("hostile_numbers");
    let out = folder.path("out.json");
    for args in [
        &["verify", "--device", "cpu", "--steps", HUGE][..],
        &["verify", "--device", "cpu", "--batch", HUGE],
        &["verify", "--device", "cpu", "--steps", HUGE, "--batch", HUGE],
        &["verify", "--device", "cpu", "--steps", "1099511627776"],
        &["verify", "--device", "cpu", "--steps", "18446744073709551616"],
        &["verify", "--device", "cpu", "--steps", "-1"],
        &["verify", "--device", "cpu", "--steps", NAME],
        &["verify", "--device", "cpu", "--seed", "1e9"],
        &["plan", "--device", "cpu", "--steps", HUGE],
        &["plan", "--device", "cpu", "--batch", HUGE, "--steps", HUGE],
        &["plan", "--device", "cpu", "--budget", HUGE],
        &["plan", "--device", "cpu", "--split", "4294967295"],
        &["plan", "--device", "cpu", "--strategy", NAME],
        &["tune", "--device", "cpu", "--steps", HUGE],
        &["bench", "--device", "cpu", "--shape", &format!("hidden={HUGE}")],
        &["bench", "--device", "cpu", "--shape", "hidden=16777216,steps=1"],
        &["bench", "--device", "cpu", "--shape", &format!("hidden=4,steps={HUGE}")],
        &["bench", "--device", "cpu", "--shape", &format!("hidden=4,layers={HUGE}")],
        &["bench", "--device", "cpu", "--shape", NAME],
        &["bench", "--device", "cpu", "--runs", HUGE],
        &["bench", "compare", "a", "b", "--fail-above", "nan"],
        &["devices", "--format", NAME],
        &["classify", "film", "--device", "cpu", "--threads", HUGE, "--instruction-set", NAME],
        &["convert", "a", "b", "--weights", NAME],
    ] {
        refused(None, &words(args));
    }
    for args in [
        &["tune", "--steps", HUGE][..],
        &["tune", "--batch", HUGE],
        &["tune", "--steps", "1099511627776"],
        &["tune", "--steps", HUGE, "--batch", HUGE],
    ] {
        let run = on_software(&[args, &["--out", &out]].concat());
        assert!(wrong(&run).is_none(), "{args:?}: {run:?}");
    }
}

#[test]
fn paths_of_any_kind_are_refused() {
    let folder = Folder::fresh("hostile_paths");
    let escapes = folder.path(NAME);
    let long = folder.path(&"x/".repeat(50_000));
    let not_utf8 = OsString::from_vec([folder.path("").as_bytes(), b"\xff\xfe.onnx"].concat());
    let golden = repository("tests/goldens/lstm.safetensors");
    for path in [OsString::from(escapes), OsString::from(long), not_utf8] {
        let with = |before: &[&str], after: &[&str]| [words(before), vec![path.clone()], words(after)].concat();
        let safetensors = |name: &OsString| {
            let mut name = name.clone();
            name.push("/no.safetensors");
            name
        };
        for args in [
            with(&["inspect"], &[]),
            with(&["verify"], &["--device", "cpu"]),
            with(&["plan"], &["--device", "cpu"]),
            with(&["tune"], &["--device", "cpu"]),
            with(&["classify", "--device", "cpu", "--file"], &[]),
            with(&["classify", "film", "--device", "cpu", "--model"], &[]),
            with(&["classify", "film", "--device", "cpu", "--labels"], &[]),
            with(&["convert"], &["out.safetensors"]),
            with(&["convert", &golden], &[]),
            [words(&["convert", &golden]), vec![safetensors(&path)]].concat(),
            with(&["bench", "compare"], &["b"]),
            [words(&["bench", "--device", "cpu", "--plot"]), vec![safetensors(&path)]].concat(),
            with(&["devices", "--device"], &[]),
        ] {
            refused(None, &args);
        }
    }
}

/// A model whose layer and tensor have this name.
fn odd_model(folder: &Folder, file: &str, name: &str) -> String {
    let layer = serde_json::json!({"type": "dense", "name": name, "in_features": 1, "out_features": 1, "bias": false});
    let description = serde_json::json!({"format": 1, "layers": [layer]}).to_string();
    let tensor = serde_json::json!({"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]});
    let header = serde_json::json!({"__metadata__": {"gatefold": description}, format!("{name}.weight"): tensor});
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    folder.file(file, bytes)
}

#[test]
fn names_of_any_kind_are_shown_escaped_and_cut() {
    let folder = Folder::fresh("hostile_names");
    let long = NAME.repeat(100_000 / NAME.len());
    for (file, name) in [("short.safetensors", NAME), ("long.safetensors", long.as_str())] {
        let model = odd_model(&folder, file, name);
        let out = folder.path(&format!("{NAME}{file}"));
        for args in [
            &["inspect", &model][..],
            &["verify", &model, "--device", "cpu"],
            &["plan", &model, "--device", "cpu"],
            &["convert", &model, &out],
            &["inspect", &out],
        ] {
            let run = run(args);
            assert_eq!(run.code, 0, "{args:?}: {run:?}");
            assert_eq!((unfit(&run.stdout), unfit(&run.stderr)), (None, None), "{args:?}: {run:?}");
            assert!(run.stdout.contains("\\u{1b}[31m"), "{args:?}: {run:?}");
        }
        // With styles, only those of the command are there.
        let styled = command(["inspect", &model]).env("CLICOLOR_FORCE", "1").output().expect("the binary starts");
        let styled = String::from_utf8_lossy(&styled.stdout).into_owned();
        assert!(styled.contains("\x1b[1m") && !styled.contains("\x1b]0;") && !styled.contains('\x07'), "{styled}");
        // The error for a file that lacks a tensor, and for one that has an unknown tensor.
        let bytes = std::fs::read(&model).expect("a file");
        let other = String::from_utf8_lossy(&bytes).replace(".weight\":{\"data", ".wei\":{\"data");
        let path = folder.file("other.safetensors", other);
        let run = run(["inspect", &path]);
        assert!(wrong(&run).is_none(), "{run:?}");
    }
    let text = answer(["inspect", &repository("tests/goldens/lstm.safetensors")]);
    assert!(text.contains("lstm.weight_ih_l0"), "what is in order is left as it is: {text}");
}

/// Data for programs is left as it is.
#[test]
fn data_is_not_escaped() {
    let text = "good\x1b[31m film";
    let csv = answer(["classify", text, "--device", "cpu", "--format", "csv"]);
    assert!(csv.contains(text), "{csv:?}");
    assert!(unfit(&answer(["classify", text, "--device", "cpu"])).is_none());
}

/// Limited memory. What does not fit is refused; what fits, however closely, is answered.
#[test]
fn limits_of_memory_are_said() {
    let folder = Folder::fresh("hostile_memory");
    let line = folder.file("line.txt", "");
    std::fs::File::options().write(true).open(&line).and_then(|file| file.set_len(256 << 20)).expect("a sparse file");
    // 256 MiB of weights.
    let model = sparse_model(&folder, "model.safetensors", 2896);
    let out = folder.path("out.safetensors");
    for (mib, args) in [
        (150, &["classify", "--device", "cpu", "--file", &line][..]),
        (400, &["classify", "--device", "cpu", "--file", &line]),
        (150, &["inspect", &model]),
        (350, &["inspect", &model]),
        (150, &["convert", &model, &out]),
        (450, &["convert", &model, &out]),
        (650, &["convert", &model, &out]),
        (750, &["convert", &model, &out, "--weights", "f16"]),
        (650, &["plan", &model, "--device", "cpu"]),
        (650, &["verify", &model, "--device", "cpu", "--steps", "1", "--batch", "1"]),
        (900, &["verify", &model, "--device", "cpu", "--steps", "1", "--batch", "1"]),
        (400, &["verify", "--device", "cpu", "--steps", "300000"]),
        (900, &["verify", "--device", "cpu", "--steps", "300000"]),
        (2000, &["verify", "--device", "cpu", "--steps", "20000000", "--batch", "1"]),
        (300, &["bench", "--device", "cpu", "--shape", "hidden=8000"]),
        (300, &["bench", "--device", "cpu", "--shape", "hidden=4,steps=20000000"]),
    ] {
        refused(Some(mib << 10), &words(args));
    }
    assert!(!std::path::Path::new(&out).exists(), "a refusal writes nothing");
    // Whichever allocation fails, the error is one line. The code alone takes 40 MiB in the development profile: with less no process
    // can start.
    let mut answered = 0;
    for mib in (60..180).step_by(10) {
        let run = limited(Some(mib << 10), &words(&["verify", "--device", "cpu", "--steps", "20000", "--batch", "1"]));
        match run.code {
            0 => answered += 1,
            _ => assert_eq!(wrong(&run), None, "{mib} MiB: {run:?}"),
        }
    }
    assert!(answered < 12, "no limit was too low");
}

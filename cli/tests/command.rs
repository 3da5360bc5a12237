//! The command from outside: what it prints, and how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const GOOD: &str = "a warm and funny film";
const BAD: &str = "two hours i will never get back";

fn gatefold(arguments: &[&str]) -> Output {
    with_input(arguments, b"")
}

fn with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatefold"))
        .args(arguments)
        .env_remove("WGPU_BACKEND")
        .env_remove("WGPU_ADAPTER_NAME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early closes its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The error line of a command that must fail with exit code 2 and print nothing else.
fn refusal(arguments: &[&str]) -> String {
    refusal_with_input(arguments, b"")
}

fn refusal_with_input(arguments: &[&str], input: &[u8]) -> String {
    let output = with_input(arguments, input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed before it failed");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr.lines().last().unwrap().to_owned()
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/sentiment/sentiment.safetensors")
}

#[test]
fn classify_prints_label_probability_and_device() {
    let table = stdout(&gatefold(&["--device", "cpu", "classify", GOOD, BAD]));
    assert!(table.contains("positive       0.9292  a warm and funny film"), "{table}");
    assert!(table.contains("negative       0.7371"), "{table}");
    assert!(table.trim_end().ends_with("on CPU"), "{table}");
    let path = model();
    let from_file = ["--device", "cpu", "classify", "--model", path.to_str().unwrap(), GOOD];
    assert!(stdout(&gatefold(&from_file)).contains("0.9292"));
}

#[test]
fn classify_reads_files_and_standard_input() {
    let lines = format!("{GOOD}\r\n{BAD}\n");
    let text = with_input(&["--device", "cpu", "classify", "--file", "-", "--format", "csv"], lines.as_bytes());
    let mut reader = csv::Reader::from_reader(text.stdout.as_slice());
    let device = reader.headers().unwrap().iter().position(|name| name == "device").unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| &row[device] == "CPU"));
}

#[test]
fn labels_give_accuracy_and_a_confusion_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let reviews = file("reviews.txt", &format!("{GOOD}\n{BAD}\n{GOOD}\n"));
    let labels = file("labels.txt", "positive\nnegative\nnegative\n");
    let base = ["--device", "cpu", "classify", "--file", &reviews, "--labels"];
    let json = stdout(&gatefold(&[&base[..], &[&labels, "--format", "json"]].concat()));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["device"]["name"], "CPU", "{json}");
    assert!(json.contains("0.666"), "two of three are right: {json}");
    let table = stdout(&gatefold(&[&base[..], &[labels.as_str()]].concat()));
    assert!(table.contains("66.7"), "{table}");
    let short = file("short.txt", "positive\n");
    assert!(refusal(&[&base[..], &[short.as_str()]].concat()).contains("expected 3"));
    let unknown = file("unknown.txt", "positive\nnegative\nneutral\n");
    let error = refusal(&[&base[..], &[unknown.as_str()]].concat());
    assert!(error.contains("neutral") && error.contains("negative"), "{error}");
}

#[test]
fn texts_without_a_word_are_refused() {
    for text in ["", "   ", "?!"] {
        assert!(refusal(&["--device", "cpu", "classify", text]).contains("expected at least one word"));
    }
    let arguments = ["--device", "cpu", "classify", "--file", "-"];
    let error = refusal_with_input(&arguments, b"good film\n\nbad film\n");
    assert!(error.contains('2') && error.contains("expected at least one word"), "{error}");
    let error = refusal_with_input(&arguments, b"good film\nbad \xff film\n");
    assert!(error.contains("UTF-8") && error.contains('2'), "{error}");
    refusal_with_input(&arguments, b"");
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(model()).unwrap();
    let cases: [(&str, &[u8]); 3] =
        [("empty", b""), ("truncated", &whole[..whole.len() / 2]), ("text", b"not a model at all")];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        for command in ["inspect", "verify", "plan"] {
            let error = refusal(&["--device", "cpu", command, path]);
            assert!(error.contains("expected a safetensors file"), "{command} {name}: {error}");
        }
    }
    for path in ["no/such/model.safetensors", folder.path().to_str().unwrap()] {
        assert!(refusal(&["inspect", path]).contains(path));
    }
}

#[test]
fn devices_that_are_not_there_are_named() {
    let error = refusal(&["--device", "no such adapter", "classify", GOOD]);
    assert!(error.contains("no adapter for `no such adapter`"), "{error}");
    assert_eq!(gatefold(&["--device", "", "classify", GOOD]).status.code(), Some(2));
}

#[test]
fn usage_errors_end_with_two() {
    for arguments in [&["classify"][..], &["classify", GOOD, "--file", "x"], &["nonsense"], &[]] {
        assert_eq!(gatefold(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn verify_passes_and_a_planted_fault_fails() {
    let pass = stdout(&gatefold(&["--device", "cpu", "verify"]));
    assert!(pass.contains("lstm.l0") && pass.contains("pass"), "{pass}");
    assert!(stdout(&gatefold(&["--device", "cpu", "verify", "--text", GOOD])).contains("pass"));
    let fault = gatefold(&["--device", "cpu", "verify", "--plant-fault"]);
    assert_eq!(fault.status.code(), Some(1));
    assert!(String::from_utf8(fault.stdout).unwrap().contains("FAIL"));
}

#[test]
fn verify_and_classify_run_on_an_adapter() {
    let output = gatefold(&["--device", "software", "verify"]);
    if output.status.code() == Some(2) && std::env::var_os("GATEFOLD_REQUIRE_ADAPTER").is_none() {
        eprintln!("NOT RUN, no adapter: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(stdout(&output).contains("software renderer"));
    assert_eq!(gatefold(&["--device", "software", "verify", "--plant-fault"]).status.code(), Some(1));
    assert!(stdout(&gatefold(&["--device", "software", "classify", GOOD])).contains("0.9292"));
}

#[test]
fn plan_inspect_and_devices_print() {
    let plan = stdout(&gatefold(&["--device", "cpu", "plan", "--steps", "7"]));
    assert!(plan.contains("plan for T = 7, B = 1") && plan.contains("lstm_step"), "{plan}");
    assert!(stdout(&gatefold(&["inspect"])).contains("lstm.weight_hh_l0"));
    let json = stdout(&gatefold(&["devices", "--format", "json"]));
    let _: serde_json::Value = serde_json::from_str(&json).unwrap();
}

#[test]
fn bench_checks_what_it_times() {
    let table = stdout(&gatefold(&["--device", "cpu", "bench", "--quick"]));
    assert!(table.contains("right") && !table.contains("WRONG "), "{table}");
    let json = stdout(&gatefold(&["--device", "cpu", "bench", "--quick", "--format", "json"]));
    let _: serde_json::Value = serde_json::from_str(&json).unwrap();
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatefold"))
        .args(["inspect"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

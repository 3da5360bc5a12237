//! `gatefold score`, interrupted: what is there is whole, and the run goes on to the same bytes.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::score_rows::{rows, texts, write_texts};
use crate::support::{Folder, Run, answer, command, refusal, repository, run};

/// Names of the files of an output that are there: itself, its parts, its list of bad rows.
fn left(folder: &Folder, output: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.starts_with(output) || name.starts_with('.')).collect();
    names.sort();
    names
}

/// Waits until `true`.
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// 3,000 rows, every 100th of which cannot be scored.
fn with_bad_rows() -> Vec<String> {
    let mut texts = texts(3000);
    texts.iter_mut().step_by(100).for_each(|text| "?!".clone_into(text));
    texts
}

/// Kills with SIGKILL at random moments, from the first file to the removal of the parts.
#[test]
fn killed_runs_go_on_to_the_same_bytes() {
    let folder = Folder::fresh("score_kill");
    let inputs = write_texts(&folder, "in", &with_bad_rows());
    let mut random = fastrand::Rng::with_seed(5);
    let (mut kills, mut resumed_parts) = (0, 0);
    for (input, format) in inputs.iter().zip(["parquet", "jsonl", "csv"]) {
        let args = |output: &str| {
            ["score", input, output, "--device", "cpu", "--skip-bad", "--part", "100"].map(str::to_owned)
        };
        let whole = folder.path(&format!("whole.{format}"));
        let start = Instant::now();
        answer(args(&whole));
        let usual = start.elapsed();
        let output = folder.path(&format!("out.{format}"));
        for _ in 0..4 {
            let _ = fs::remove_file(&output);
            let _ = fs::remove_file(format!("{output}.bad.jsonl"));
            let _ = fs::remove_dir_all(format!("{output}.parts"));
            // Where OUT exists and its parts are gone, the run had ended.
            for killed in 0.. {
                let parts = format!("{output}.parts");
                let parts = Path::new(&parts);
                if Path::new(&output).exists() && !parts.exists() {
                    break;
                }
                resumed_parts += usize::from(parts.join("part-000000.json").exists());
                if killed == 5 {
                    let run = run(args(&output).iter().map(String::as_str).chain(["--resume"]));
                    assert_eq!(run.code, 0, "{run:?}");
                    continue;
                }
                let mut child = command(args(&output).iter().map(String::as_str).chain(["--resume"]))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                thread::sleep(usual.mul_f64(0.6 * random.f64()));
                kills += usize::from(child.try_wait().unwrap().is_none());
                child.kill().unwrap();
                child.wait().unwrap();
                if Path::new(&output).exists() {
                    assert!(fs::read(&output).unwrap() == fs::read(&whole).unwrap(), "{format}: never a part of it");
                }
            }
            assert!(fs::read(&output).unwrap() == fs::read(&whole).unwrap(), "{format}");
            let bad = |output: &str| fs::read_to_string(format!("{output}.bad.jsonl")).unwrap();
            assert_eq!(bad(&output), bad(&whole));
            assert_eq!(bad(&whole).lines().count(), 30);
            let name = format!("out.{format}");
            assert_eq!(left(&folder, &name), [name.clone(), format!("{name}.bad.jsonl")]);
        }
    }
    assert!(kills >= 20 && resumed_parts >= 10, "{kills} kills, {resumed_parts} runs with finished parts");
}

/// A run of parts of 100 rows that a signal ended after some of them.
fn interrupted(folder: &Folder, signal: &str) -> (Vec<String>, Run) {
    let [input, ..] = write_texts(folder, "in", &texts(20_000));
    let output = folder.path("out.parquet");
    let args = ["score", &input, &output, "--device", "cpu", "--part", "100", "--threads", "1"].map(str::to_owned);
    let child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("parts", || Path::new(&format!("{output}.parts/part-000000.json")).exists());
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = ended.status.code().unwrap_or(-1);
    (args.to_vec(), Run { code, stdout: text(ended.stdout), stderr: text(ended.stderr) })
}

#[test]
fn ctrl_c_says_how_to_go_on() {
    let folder = Folder::fresh("score_signal");
    let (args, ended) = interrupted(&folder, "-INT");
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.stderr.contains("out.parquet.parts, the same command with --resume goes on"), "{ended:?}");
    assert!(!Path::new(&folder.path("out.parquet")).exists());
    refusal(&args, &["out.parquet.parts", "--resume goes on, --force begins again"]);
    let whole = folder.path("whole.parquet");
    let mut other = args.clone();
    other[2].clone_from(&whole);
    answer(&other);
    let resumed = run(args.iter().map(String::as_str).chain(["--resume"]));
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.stderr.contains("rows of finished parts are not scored again"), "{resumed:?}");
    assert!(fs::read(&whole).unwrap() == fs::read(folder.path("out.parquet")).unwrap());
    refusal(args.iter().map(String::as_str).chain(["--resume"]), &["out.parquet: exists already", "--force"]);
}

#[test]
fn parts_of_another_run_are_not_taken() {
    let folder = Folder::fresh("score_changed");
    let (args, ended) = interrupted(&folder, "-KILL");
    assert_eq!(ended.code, -1);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let resumed =
        |more: &[&'static str]| args.iter().copied().chain(["--resume"]).chain(more.to_vec()).collect::<Vec<_>>();
    refusal(resumed(&["--skip-bad"]), &["cannot go on: expected the options", "--force begins again"]);
    let portable = resumed(&["--instruction-set", "portable"]);
    refusal(portable, &["cannot go on: expected the device of the interrupted run (CPU, ", "got CPU, portable"]);
    let network = gatefold::Network::load(repository("models/sentiment/sentiment.safetensors")).unwrap();
    let mut spec = network.spec().clone();
    spec.labels.reverse();
    let model = folder.path("model.safetensors");
    gatefold::Network::new(spec, network.tensors().clone()).unwrap().save(&model).unwrap();
    let with_model: Vec<&str> = resumed(&[]).into_iter().chain(["--model", &model]).collect();
    refusal(&with_model, &["cannot go on: expected the model of the interrupted run"]);

    // A part whose rows are not what was written is done again, with those behind it.
    let part = folder.path("out.parquet.parts/part-000000.rows");
    let mut bytes = fs::read(&part).unwrap();
    bytes[9] ^= 1;
    fs::write(&part, bytes).unwrap();
    let input = folder.path("in.parquet");
    let content = fs::read(&input).unwrap();
    let again = run(resumed(&[]));
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("part-000000.rows: it is not what was written"), "{again:?}");
    assert_eq!(rows(&folder.path("out.parquet")).len(), 20_000);

    // The same content with another time may be another.
    let _ = fs::remove_file(folder.path("out.parquet"));
    let (args, _) = interrupted(&folder, "-KILL");
    fs::write(&input, content).unwrap();
    let resumed: Vec<&str> = args.iter().map(String::as_str).chain(["--resume"]).collect();
    refusal(&resumed, &["cannot go on: expected the input", "in.parquet", "got"]);
    // From the beginning it works.
    let forced: Vec<&str> = args.iter().map(String::as_str).chain(["--force"]).collect();
    answer(&forced);
}

#[test]
fn two_processes_do_not_write_the_same_parts() {
    let folder = Folder::fresh("score_two");
    let [input, ..] = write_texts(&folder, "in", &texts(20_000));
    let output = folder.path("out.parquet");
    let args = ["score", &input, &output, "--device", "cpu", "--part", "100"];
    let mut child = command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("parts", || Path::new(&format!("{output}.parts/job.json")).exists());
    for how in ["--resume", "--force"] {
        refusal(args.iter().chain(&[how]), &["expected no other process to write these parts"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    answer(args.iter().chain(&["--resume"]));
}

/// A disk that is full: the limit of a file's size stands for it. What was finished before is kept.
#[test]
fn a_full_disk_loses_nothing() {
    let folder = Folder::fresh("score_full");
    let [_, input, _] = write_texts(&folder, "in", &texts(6000));
    let [whole, output] = ["whole.jsonl", "out.jsonl"].map(|name| folder.path(name));
    answer(["score", &input, &whole, "--device", "cpu"]);
    let limited = |blocks: u32| {
        let binary = env!("CARGO_BIN_EXE_gatefold");
        let script =
            format!("ulimit -f {blocks}; exec {binary} score {input} {output} --device cpu --part 500 --resume");
        let ended = Command::new("bash").args(["-c", &script]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: ended.status.code().unwrap_or(-1), stdout: text(ended.stdout), stderr: text(ended.stderr) }
    };
    // A part does not fit.
    let ended = limited(16);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("part-000000.rows: File too large"), "{ended:?}");
    // The parts do, the whole does not.
    let ended = limited(256);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("joined: ") && ended.stderr.contains("File too large"), "{ended:?}");
    assert!(!Path::new(&output).exists());
    let ended = limited(100_000);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("6,000 rows of finished parts"), "{ended:?}");
    assert!(fs::read(&whole).unwrap() == fs::read(&output).unwrap());
    assert_eq!(left(&folder, "out.jsonl"), ["out.jsonl"]);
}

/// The largest resident size of a run, in bytes.
#[cfg(target_os = "linux")]
fn peak(args: &[&str]) -> u64 {
    let mut child = command(args).stdout(Stdio::null()).spawn().unwrap();
    let (mut peak, status) = (0, format!("/proc/{}/status", child.id()));
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return peak;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The memory does not grow with the file: columns that are kept, of 20 KB in each row, 400 MB in all.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded() {
    const LIMIT: u64 = 300_000_000;
    let folder = Folder::fresh("score_memory");
    let filling = "x".repeat(20_000);
    let content = |rows: usize, filling: &str| {
        let row = format!("{{\"text\":\"good\",\"filling\":\"{filling}\"}}\n");
        row.repeat(rows)
    };
    let input = folder.file("large.jsonl", content(20_000, &filling));
    for format in ["parquet", "jsonl"] {
        let output = folder.path(&format!("out.{format}"));
        let size = peak(&["score", &input, &output, "--device", "cpu", "--force"]);
        assert!(size < LIMIT, "{format}: {size}");
        let _ = fs::remove_file(output);
    }
    // The measurement can fail: the memory of one row is not bounded so.
    let input = folder.file("long.jsonl", content(6, &"x".repeat(60_000_000)));
    let size = peak(&["score", &input, &folder.path("out.jsonl"), "--device", "cpu"]);
    assert!(size > LIMIT, "{size}");
    let _ = fs::remove_dir_all(folder.path(""));
}

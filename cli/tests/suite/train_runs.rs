//! Runs of `gatefold train`: checkpoints, interruptions, logs, and a look ahead.

use std::fs;
use std::path::Path;

use crate::support::{Folder, Run, answer, command, json, refusal, refused, run};
use crate::train::table;

const LAYERS: &str = "embedding:4,lstm:6,dense";

/// Arguments of a run of `epochs` over [`table`].
fn args<'a>(data: &'a str, out: &'a str, epochs: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = ["train", LAYERS, "--data", data, "--out", out, "--epochs", epochs, "--batch", "8", "--lr", "0.02"];
    let options = ["--dropout", "lstm=0.2", "--clip-norm", "1", "--force"];
    own.iter().chain(&options).chain(more).copied().collect()
}

#[test]
fn a_run_goes_on_from_its_checkpoint() {
    let folder = Folder::fresh("train_resume");
    let data = folder.file("data.csv", table());
    let [at_once, first, second] = ["once", "first", "second"].map(|name| folder.path(&format!("{name}.safetensors")));
    let place = folder.path("run");
    answer(args(&data, &at_once, "6", &[]));
    answer(args(&data, &first, "2", &["--checkpoint", &place, "--checkpoint-steps", "3"]));
    let shown = answer(args(&data, &second, "6", &["--resume", &place]));
    let epochs: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(epochs.contains(&"3") && !epochs.contains(&"2"), "{shown}");
    assert_eq!(fs::read(&at_once).unwrap(), fs::read(&second).unwrap(), "the same bits");
    assert_ne!(fs::read(&at_once).unwrap(), fs::read(&first).unwrap(), "the negative control");
    // The best epoch's model runs as any other.
    let best = format!("{place}/best.safetensors");
    answer(["classify", "--device", "cpu", "--model", &best, "a funny film"]);
    // It is over: the model is written again.
    answer(args(&data, &first, "6", &["--resume", &place]));
    assert_eq!(fs::read(&at_once).unwrap(), fs::read(&first).unwrap());
}

#[test]
fn another_run_does_not_go_on() {
    let folder = Folder::fresh("train_other");
    let data = folder.file("data.csv", table());
    let other = folder.file("other.csv", table().replace("funny", "witty"));
    // The same words and labels in another order.
    let mut lines: Vec<String> = table().lines().map(str::to_owned).collect();
    lines.swap(1, 5);
    let swapped = folder.file("swapped.csv", lines.join("\n"));
    let (out, place) = (folder.path("out.safetensors"), folder.path("run"));
    let last = format!("{place}/last.safetensors");
    answer(args(&data, &out, "1", &["--checkpoint", &place]));
    let before = fs::read(&last).unwrap();
    fs::remove_file(&out).unwrap();
    let no_force = |more: &[&'static str]| {
        args(&data, &out, "3", more).into_iter().filter(|word| *word != "--force").collect::<Vec<_>>()
    };
    let with = |more: &'static str| no_force(&[]).into_iter().chain([more, place.as_str()]).collect::<Vec<_>>();
    refusal(with("--checkpoint"), &["last.safetensors", "--resume", "--force"]);
    refusal(args(&other, &out, "3", &["--resume", &place]), &["last.safetensors", "another network"]);
    refusal(args(&swapped, &out, "3", &["--resume", &place]), &["training set", "as in the checkpoint"]);
    refusal(args(&data, &out, "3", &["--resume", &place, "--seed", "7"]), &["last.safetensors", "seed"]);
    refusal(args(&data, &out, "3", &["--resume", &folder.path("none")]), &["none/last.safetensors"]);
    refusal(args(&data, &out, "3", &["--checkpoint-steps", "3"]), &["checkpoint_steps", "a checkpoint folder"]);
    fs::write(&last, &before[..before.len() - 9]).unwrap();
    refusal(with("--resume"), &["last.safetensors", "a safetensors file"]);
    fs::write(&last, "nothing of the kind").unwrap();
    refusal(with("--resume"), &["last.safetensors"]);
    assert!(!Path::new(&out).exists(), "an error leaves no model");
}

/// The first Ctrl-C: the checkpoint is written, the exit code says so, and the run goes on to the same bits.
#[cfg(unix)]
#[test]
fn an_interrupted_run_can_go_on() {
    let folder = Folder::fresh("train_signal");
    let data = folder.file("data.csv", table());
    let [at_once, out] = ["once", "out"].map(|name| folder.path(&format!("{name}.safetensors")));
    let place = folder.path("run");
    let last = format!("{place}/last.safetensors");
    let mut child = command(args(&data, &out, "1000000", &["--checkpoint", &place]))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    let mut asked = false;
    while child.try_wait().unwrap().is_none() {
        if !asked && Path::new(&last).exists() {
            let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            asked = kill.unwrap().success();
        }
        if started.elapsed() > std::time::Duration::from_secs(100) {
            child.kill().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(asked, "no checkpoint was written");
    let status = child.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(status.code(), Some(130), "{status} {stderr}");
    assert!(stderr.contains("interrupted after") && stderr.contains("--resume"), "{stderr}");
    assert!(!Path::new(&out).exists(), "no model, since training is not at its end");
    let steps = gatefold::train::Trainer::resume(&gatefold::Device::cpu(), &last).unwrap().steps();
    // 72 examples in batches of 8.
    let epochs = (steps / 9 + 2).to_string();
    answer(args(&data, &out, &epochs, &["--resume", &place]));
    answer(args(&data, &at_once, &epochs, &[]));
    assert!(fs::read(&at_once).unwrap() == fs::read(&out).unwrap(), "{steps} steps");
}

/// Where the disk is full the last checkpoint stays.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_does_not_fit_leaves_the_one_before() {
    let folder = Folder::fresh("train_limit");
    let data = folder.file("data.csv", table());
    let (out, place) = (folder.path("out.safetensors"), folder.path("run"));
    answer(args(&data, &out, "1", &["--checkpoint", &place]));
    let last = format!("{place}/last.safetensors");
    let before = fs::read(&last).unwrap();
    let script = "ulimit -f 2; exec \"$0\" \"$@\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_gatefold")])
        .args(args(&data, &out, "3", &["--resume", &place]))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    refused(&Run { code: output.status.code().unwrap(), stdout, stderr }, &["last.safetensors"]);
    assert!(before == fs::read(&last).unwrap());
    let mut names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["best.safetensors", "last.safetensors"]);
}

#[test]
fn a_log_has_every_epoch() {
    let folder = Folder::fresh("train_log");
    let data = folder.file("data.csv", table());
    let (out, place, log) = (folder.path("out.safetensors"), folder.path("run"), folder.path("log"));
    answer(args(&data, &out, "2", &["--checkpoint", &place, "--log", &log, "--tensorboard"]));
    answer(args(&data, &out, "5", &["--resume", &place, "--log", &log]));
    let read = |name: &str| fs::read_to_string(format!("{log}/{name}")).unwrap();
    let lines: Vec<serde_json::Value> = read("log.jsonl").lines().map(json).collect();
    let numbers = |key: &str| lines.iter().map(|line| line[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers("epoch"), [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(numbers("steps"), [9.0, 18.0, 27.0, 36.0, 45.0]);
    assert!(numbers("seconds").is_sorted() && numbers("loss")[4] < numbers("loss")[0], "{lines:?}");
    let text = read("log.csv");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let header = table.headers().unwrap().clone();
    let loss = header.iter().position(|title| title == "validation_loss").unwrap();
    let losses: Vec<f64> = table.records().map(|record| record.unwrap()[loss].parse().unwrap()).collect();
    assert_eq!(losses, numbers("validation_loss"));
    let text = read("curves.svg");
    let plot = roxmltree::Document::parse(&text).unwrap();
    let lines = plot.descendants().filter(|node| node.has_tag_name("polyline"));
    let points: Vec<usize> = lines.map(|line| line.attribute("points").unwrap().split(' ').count()).collect();
    assert_eq!(points, [5, 5, 5, 5], "loss and accuracy, train and validation");
    let mut names: Vec<String> =
        fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names[1].starts_with("events.out.tfevents."), "{names:?}");
    let events = fs::read(format!("{log}/{}", names[1])).unwrap();
    let has = |part: &[u8]| events.windows(part.len()).any(|window| window == part);
    assert!(has(b"brain.Event:2") && has(b"loss/validation") && has(b"accuracy/train"));
    // A log that is none.
    fs::write(format!("{log}/log.jsonl"), "{}\n").unwrap();
    refusal(
        args(&data, &out, "6", &["--resume", &place, "--log", &log]),
        &["log.jsonl, line 1", "numbers of an epoch"],
    );
    refusal(args(&data, &out, "1", &["--log", &data]), &["data.csv"]);
    refusal(args(&data, &out, "1", &["--tensorboard"]), &["--log"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = Folder::fresh("train_dry");
    let data = folder.file("data.csv", table());
    let args = ["train", LAYERS, "--data", &data, "--dry-run", "--batch", "8", "--epochs", "3"];
    let shown = answer(args);
    for part in ["embedding.weight", "lstm.weight_hh_l0", "72 examples train, 8 validation", "9 steps", "bad, good"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1, "{data} alone");
    refusal(args.iter().chain(&["--dropout", "gru=0.5"]), &["gru"]);
    let without = run(["train", "--data", &data]);
    assert!(without.code == 2 && without.stderr.contains("--out"), "{without:?}");
}

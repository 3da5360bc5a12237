//! Files that the command writes: they are complete, in the right place, and safe from other processes.
#![cfg(unix)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::support::{Folder, answer, command, json, on_software, refusal, repository};

const GOLDEN: &str = "tests/goldens/lstm.safetensors";

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn convert_follows_links_and_keeps_permissions() {
    let folder = Folder::fresh("files_links");
    let golden = repository(GOLDEN);
    let [link, file] = ["link.safetensors", "file.safetensors"].map(|name| folder.path(name));
    symlink("file.safetensors", &link).expect("a link");
    // It points nowhere, but it is there.
    refusal(["convert", &golden, &link], &["link.safetensors", "exists already", "--force"]);
    assert!(!Path::new(&file).exists());
    answer(["convert", &golden, &link, "--force"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a file");
    answer(["convert", &golden, &link, "--force", "--weights", "f16"]);
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(answer(["inspect", &file]).contains("f16"));
    assert_eq!(names(Path::new(&folder.path(""))), ["file.safetensors", "link.safetensors"]);
}

#[test]
fn processes_that_write_one_file_leave_a_whole_one() {
    let folder = Folder::fresh("files_processes");
    let out = folder.path("out.safetensors");
    let models = ["tests/goldens/lstm_large.safetensors", GOLDEN].map(repository);
    answer(["convert", &models[0], &out]);
    let networks = [0, 1].map(|model| gatefold::Network::load(&models[model]).expect("a network"));
    let mut writers: Vec<_> = (0..8)
        .map(|writer| {
            command(["convert", &models[writer % 2], &out, "--force"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary starts")
        })
        .collect();
    let mut reads = 0;
    while writers.iter_mut().any(|writer| writer.try_wait().expect("a process").is_none()) {
        let read = gatefold::Network::load(&out).expect("a whole file");
        assert!(networks.contains(&read), "one of the two");
        reads += 1;
    }
    for writer in writers {
        let output = writer.wait_with_output().expect("a process");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
    }
    assert!(reads > 0);
    assert_eq!(names(Path::new(&folder.path(""))), ["out.safetensors"]);
}

/// A model of zeros, `hidden` wide, in a file without blocks.
pub fn sparse_model(folder: &Folder, name: &str, hidden: u64) -> String {
    let rows = 4 * hidden;
    let mut offset = 0;
    let tensors: Vec<String> =
        [("weight_ih_l0", hidden), ("weight_hh_l0", hidden), ("bias_ih_l0", 0), ("bias_hh_l0", 0)]
            .map(|(name, columns)| {
                let (shape, numbers) = match columns {
                    0 => (format!("[{rows}]"), rows),
                    _ => (format!("[{rows},{columns}]"), rows * columns),
                };
                let from = offset;
                offset += 4 * numbers;
                format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{offset}]}}")
            })
            .to_vec();
    let header = format!("{{{}}}", tensors.join(","));
    let path = folder.file(name, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    let file = fs::File::options().write(true).open(&path).expect("a file");
    file.set_len(8 + header.len() as u64 + offset).expect("a sparse file");
    path
}

/// If a signal ends the command in the middle of a write, an existing file is unchanged, no other file is left, and the exit
/// status is that of the signal.
#[test]
fn a_signal_leaves_no_partial_file() {
    let folder = Folder::fresh("files_signal");
    let model = sparse_model(&folder, "model.safetensors", 3000);
    let place = folder.path("to");
    fs::create_dir(&place).expect("a folder");
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let caught = (0..20).any(|_| {
            let out = format!("{place}/out.safetensors");
            let _ = fs::remove_file(&out);
            let mut child =
                command(["convert", &model, &out]).stdout(Stdio::null()).spawn().expect("the binary starts");
            let started = Instant::now();
            while names(Path::new(&place)).is_empty() {
                assert!(started.elapsed() < Duration::from_secs(100), "nothing was written");
                thread::yield_now();
            }
            let killed = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
            assert!(killed.expect("kill").success());
            let status = child.wait().expect("a process");
            let left = names(Path::new(&place));
            assert!(left.is_empty() || left == ["out.safetensors"], "{name}: {left:?}");
            // It may have been faster than the signal.
            assert!(status.signal() == Some(number) || status.success(), "{name}: {status}");
            status.signal() == Some(number) && left.is_empty()
        });
        assert!(caught, "no write was caught in the middle by {name}");
    }
}

/// A signal that the caller ignores stays ignored, as `nohup` requires.
#[test]
fn ignored_signals_stay_ignored() {
    let ended = |before: &str| {
        let script = format!("{before} exec \"$0\" classify --device cpu --file -");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_gatefold")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        thread::sleep(Duration::from_millis(500));
        let killed = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(killed.expect("kill").success());
        thread::sleep(Duration::from_millis(500));
        drop(child.stdin.take());
        child.wait().expect("a process")
    };
    // It waits for its input, which is then empty.
    assert_eq!(ended("trap '' HUP;").code(), Some(2));
    assert_eq!(ended("").signal(), Some(1), "and otherwise it ends");
}

/// A write beyond the limit on the size of files is an error and leaves no file.
#[test]
fn a_file_beyond_the_limit_is_an_error() {
    let folder = Folder::fresh("files_limit");
    let model = sparse_model(&folder, "model.safetensors", 500);
    let out = folder.path("out.safetensors");
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_gatefold"), "convert", &model, &out])
        .output()
        .expect("sh");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr} {}", output.status);
    assert!(stderr.lines().count() == 1 && stderr.contains("out.safetensors"), "{stderr}");
    assert_eq!(names(Path::new(&folder.path(""))), ["model.safetensors"]);
}

#[test]
fn three_that_tune_at_once_keep_three_results() {
    let folder = Folder::fresh("files_tune");
    let out = folder.path("tuning.json");
    let args = |steps: &'static str| ["tune", "--steps", steps, "--runs", "1", "--out"];
    let first = on_software(&[&args("2")[..], &[&out]].concat());
    assert_eq!(first.code, 0, "{first:?}");
    let tuning = ["4", "8", "16"].map(|steps| {
        command(args(steps).into_iter().chain([out.as_str(), "--device", "software"]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts")
    });
    for child in tuning {
        let output = child.wait_with_output().expect("a process");
        assert!(output.status.success(), "{output:?}");
    }
    let kept = json(&fs::read_to_string(&out).expect("a file"));
    let mut steps: Vec<u64> =
        kept["entries"].as_array().expect("entries").iter().map(|entry| entry["steps"].as_u64().expect("T")).collect();
    steps.sort_unstable();
    assert_eq!(steps, [2, 4, 8, 16]);
    assert_eq!(names(Path::new(&folder.path(""))), ["tuning.json"]);
}

/// A plot and a record where a path is no UTF-8, and through a link that points nowhere.
#[test]
fn bench_writes_where_it_is_told() {
    let folder = Folder::fresh("files_bench");
    let root = folder.path("");
    let odd = Path::new(&root).join(OsStr::from_bytes(b"odd\xff.svg"));
    let record = Path::new(&root).join(OsStr::from_bytes(b"record\xfe"));
    let link = Path::new(&root).join("link.svg");
    symlink("drawn.svg", &link).expect("a link");
    let bench = |plot: &Path| {
        let mut bench = command(["bench", "--shape", "hidden=4,steps=2", "--runs", "1", "--device", "cpu", "--plot"]);
        let output = bench.arg(plot).arg("--record").arg(&record).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    bench(&odd);
    bench(&link);
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    for plot in [&odd, &link] {
        assert!(fs::read_to_string(plot).expect("a plot").ends_with("</svg>\n"));
    }
    let records = names(&record.join("cpu-cpu"));
    assert!(records.len() == 2 && records.iter().all(|name| name.ends_with("Z.json")), "{records:?}");
    let kept = json(&fs::read_to_string(record.join("cpu-cpu").join(&records[0])).expect("a record"));
    assert!(kept["machine"]["command"].as_array().expect("words").iter().any(|word| word == "--plot"));
}

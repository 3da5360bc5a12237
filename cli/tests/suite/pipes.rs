use std::io::Write as _;
use std::process::Stdio;

use crate::support::command;

/// `gatefold … | head` where head has already ended: neither a panic nor an error message.
#[test]
fn a_reader_that_left_is_no_error() {
    let args = ["classify", "--device", "cpu", "--file", "-"];
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Only now may it start to work.
    drop(child.stdout.take());
    child.stdin.take().expect("piped").write_all(&b"a good film\n".repeat(5000)).expect("all of it is read");
    let output = child.wait_with_output().expect("the binary ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("gatefold") && !stderr.contains("panicked"), "{stderr}");
}

/// A full disk is an error, unlike a closed pipe.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = command(["inspect"]).stdout(full).stderr(Stdio::piped()).output().expect("the binary ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("gatefold: standard output: "), "{stderr}");
}

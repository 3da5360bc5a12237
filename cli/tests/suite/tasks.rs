//! `gatefold train --task`: sequences that are made as they are needed.

use std::fs;

use crate::support::{Folder, answer, refusal};

const COMMON: [&str; 13] = [
    "train",
    "--task",
    "copy",
    "--hidden",
    "12",
    "--slots",
    "8x4",
    "--interval",
    "10",
    "--tests",
    "2",
    "--lengths",
    "2,3",
];

/// A run that goes on from a checkpoint has the bits of one that was not interrupted, and its log.
#[test]
fn a_task_goes_on_where_it_was() {
    let folder = Folder::fresh("task");
    let path = |name: &str| folder.path(name);
    let run = |more: &[&str]| answer(COMMON.iter().chain(more).copied().collect::<Vec<_>>());
    let (whole, cut, model) = (path("whole"), path("cut"), path("a.safetensors"));
    let log = path("log");
    let shown = run(&["--sequences", "40", "--checkpoint", &whole, "--out", &model, "--log", &log]);
    assert!(shown.contains("best possible") && shown.contains("bits"), "{shown}");
    let (first, second) = (path("b.safetensors"), path("log2"));
    run(&["--sequences", "20", "--checkpoint", &cut, "--out", &first, "--log", &second]);
    run(&["--sequences", "40", "--resume", &cut, "--out", &first, "--log", &second, "--force"]);
    let bytes = |path: &str| fs::read(path).unwrap();
    assert_eq!(bytes(&format!("{whole}/last.safetensors")), bytes(&format!("{cut}/last.safetensors")));
    assert_eq!(bytes(&model), bytes(&first));
    let rows = |folder: &str| fs::read_to_string(format!("{folder}/log.csv")).unwrap().lines().count();
    assert_eq!([rows(&log), rows(&second)], [5, 5]);
    for name in ["curves.svg", "heads.svg"] {
        let text = fs::read_to_string(format!("{log}/{name}")).unwrap();
        roxmltree::Document::parse(&text).unwrap();
    }
    // Negative control: another seed is another run.
    let other = path("c.safetensors");
    run(&["--sequences", "40", "--seed", "8", "--out", &other]);
    assert_ne!(bytes(&model), bytes(&other));
    assert!(answer(["evaluate", &model, "--task", "copy", "--lengths", "4"]).contains("32"));
    refusal(["evaluate", &model, "--task", "sort"], &["expected a network of 10 inputs and 8 outputs"]);
}

#[test]
fn wrong_options_are_named() {
    let folder = Folder::fresh("task-mistakes");
    let out = folder.path("out.safetensors");
    let cases: [(&[&str], &str); 5] = [
        (&["--cell", "lsdm"], "--cell: expected a cell"),
        (&["--controller", "lsdm"], "--controller: expected a cell"),
        (&["--slots", "128"], "--slots: expected rows and columns"),
        (&["--lengths", "0"], "expected a length"),
        (&["--heads", "65"], "read_heads: expected at most 64, got 65"),
    ];
    for (options, expected) in cases {
        let all =
            ["train", "--task", "copy", "--sequences", "1", "--out", &out].into_iter().chain(options.iter().copied());
        refusal(all.collect::<Vec<_>>(), &[expected]);
    }
    refusal(["train", "--out", &out], &["--data"]);
}

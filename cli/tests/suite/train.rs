//! `gatefold train`: labelled texts in, a model file out.

use std::fs;
use std::path::PathBuf;

use crate::support::{Folder, answer, refusal};

/// Texts whose label one of their words says.
pub fn rows() -> Vec<(String, &'static str)> {
    let words = [("warm", "good"), ("funny", "good"), ("dull", "bad"), ("long", "bad")];
    (0..80)
        .map(|row| words[row % 4])
        .enumerate()
        .map(|(row, (word, label))| (format!("a {word} film, {}", row % 7), label))
        .collect()
}

fn csv(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(folder.path(name));
    fs::write(&path, text).unwrap();
    path
}

/// [`rows`] as CSV.
pub fn table() -> String {
    let lines = rows().into_iter().map(|(text, label)| format!("\"{text}\",{label}\n"));
    "text,label\n".to_owned() + &lines.collect::<String>()
}

/// A model is trained from CSV and from JSON lines to the same weights, and classifies what it has learned.
#[test]
fn a_trained_model_classifies() {
    let folder = Folder::fresh("train");
    let (from_csv, from_json) = (folder.path("csv.safetensors"), folder.path("json.safetensors"));
    let data = csv(&folder, "data.csv", &table());
    let lines: String = rows()
        .iter()
        .map(|(text, label)| serde_json::json!({"text": text, "label": label}).to_string() + "\n")
        .collect();
    let json = csv(&folder, "data.jsonl", &lines);
    for (data, out) in [(&data, &from_csv), (&json, &from_json)] {
        let shown = answer([
            "train",
            "embedding:4,gru:6,dense",
            "--data",
            data.to_str().unwrap(),
            "--epochs",
            "40",
            "--batch",
            "8",
            "--lr",
            "0.02",
            "--dropout",
            "gru=0.1",
            "--recurrent-dropout",
            "gru=0.1:0.2",
            "--clip-norm",
            "1",
            "--out",
            out,
        ]);
        assert!(shown.contains("validation loss") && shown.contains("weights of epoch"), "{shown}");
    }
    assert_eq!(fs::read(&from_csv).unwrap(), fs::read(&from_json).unwrap(), "the same seed gives the same file");
    let labels =
        answer(["classify", "--device", "cpu", "--model", &from_csv, "--format", "csv", "a funny film", "a dull one"]);
    let labels: Vec<&str> = labels.lines().skip(1).collect();
    assert!(labels[0].contains("good") && labels[1].contains("bad"), "{labels:?}");
}

/// A column divides the examples, and a label that the train split does not have is named with its line.
#[test]
fn a_split_is_kept() {
    let folder = Folder::fresh("train_split");
    let lines = rows().into_iter().enumerate().map(|(row, (text, label))| {
        let split = ["train", "train", "train", "validation", "test"][row % 5];
        format!("\"{text}\",{label},{split}\n")
    });
    let table = "text,label,part\n".to_owned() + &lines.collect::<String>();
    let data = csv(&folder, "data.csv", &table);
    let out = folder.path("out.safetensors");
    let args = ["train", "embedding:4,lstm:4,dense", "--split", "part", "--epochs", "2", "--out", &out, "--data"];
    let shown = answer(args.iter().copied().chain([data.to_str().unwrap()]));
    assert!(shown.contains("test: loss"), "{shown}");
    let odd = csv(&folder, "odd.csv", &(table.clone() + "a new film,fine,validation\n"));
    let out = folder.path("other.safetensors");
    let args = ["train", "--split", "part", "--out", &out, "--data", odd.to_str().unwrap()];
    refusal(args, &["odd.csv, line 82", "bad, good", "\"fine\""]);
    assert!(!PathBuf::from(&out).exists(), "an error leaves no file");
    let odd = csv(&folder, "dev.csv", &(table.clone() + "a new film,good,dev\n"));
    let args = ["train", "--split", "part", "--out", &out, "--data", odd.to_str().unwrap()];
    refusal(args, &["dev.csv, line 82", "train, validation or test", "\"dev\""]);
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::fresh("train_mistakes");
    let out = folder.path("out.safetensors");
    let good = csv(&folder, "data.csv", &table());
    let good = good.to_str().unwrap();
    let file = |name: &str, text: &str| csv(&folder, name, text).to_str().unwrap().to_owned();
    let one = file("one.csv", "text,label\na,x\nb,x\n");
    let empty = file("empty.csv", "text,label\n");
    let ragged = file("ragged.csv", "text,label\na,x\nb,y,z\n");
    let json = file("bad.jsonl", "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": 7,\n");
    let silent = file("silent.csv", "text,label\n...,x\n!,y\n");
    let there = file("there.safetensors", "mine");
    let missing = folder.path("nowhere.csv");
    let cases: [(&[&str], &[&str]); 21] = [
        (&["--data", &missing], &["nowhere.csv"]),
        (&["--data", good, "--text", "review"], &["a column `review`", "text, label"]),
        (&["--data", &one], &["at least two labels", "x"]),
        (&["--data", &empty], &["at least one example"]),
        (&["--data", &ragged], &["ragged.csv", "3"]),
        (&["--data", &json], &["bad.jsonl, line 2", "a JSON object"]),
        (&["--data", &silent], &["expected words"]),
        (&["--data", good, "--batch", "0"], &["batch_size", "at least 1"]),
        (&["--data", good, "--epochs", "0"], &["epochs", "at least 1"]),
        (&["--data", good, "--valid", "0", "--patience", "2"], &["patience", "validation set"]),
        (&["--data", good, "--vocabulary", "2"], &["--vocabulary", "at least 3"]),
        (&["--data", good, "--valid", "1.5"], &["--valid", "1.5"]),
        (&["--data", good, "--dropout", "lstm"], &["--dropout", "LAYER=RATE"]),
        (&["--data", good, "--dropout", "gru=0.5"], &["gru", "embedding, lstm, dense"]),
        (&["--data", good, "--dropout", "lstm=0.5:all"], &["--dropout", "LAYER=RATE:levels"]),
        (&["--data", good, "--dropout", "lstm=0.5:levels"], &["lstm", "num_layers of at least 2"]),
        (&["--data", good, "--recurrent-dropout", "lstm=0.5:x"], &["--recurrent-dropout", "LAYER=RATE:RATE"]),
        (&["--data", good, "--recurrent-dropout", "lstm=1"], &["lstm", "a rate from 0 to below 1"]),
        (&["--data", good, "--recurrent-dropout", "dense=0.5"], &["recurrent dropout", "a recurrent layer (lstm)"]),
        (&["--data", good, "--lr", "-1"], &["learning_rate"]),
        (&["embedding:4,lstm", "--data", good], &["layers", "\"lstm\""]),
    ];
    for (args, words) in cases {
        refusal(["train", "--out", &out].iter().chain(args), words);
    }
    refusal(["train", "--data", good, "--out", &folder.path("no/out.safetensors")], &["no", "a folder that exists"]);
    refusal(["train", "--data", good, "--out", &there], &["there.safetensors", "--force"]);
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    assert!(!PathBuf::from(&out).exists(), "an error leaves no file");
}

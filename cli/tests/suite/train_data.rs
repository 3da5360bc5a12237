//! `gatefold train` and `evaluate` on token ids, vectors, labels of every step, and numbers.

use serde_json::{Value, json};

use crate::support::{Folder, answer, refusal};

/// A safetensors file of arrays: name, dtype, shape, bytes.
fn arrays(arrays: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in arrays {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Arrays with lengths: the same examples as JSON lines give the same model.
#[test]
fn arrays_are_read() {
    let folder = Folder::fresh("train_arrays");
    let value = |row: usize, step: usize| f32::from(u8::try_from((row * 7 + step * 3) % 10).unwrap()) / 10.0 - 0.45;
    let length = |row: usize| 2 + row % 3;
    let class = |row: usize| u8::from((0..length(row)).map(|step| value(row, step)).sum::<f32>() > 0.0);
    let floats = (0..40).flat_map(|row| (0..4).flat_map(move |step| value(row, step).to_le_bytes())).collect();
    let lengths = (0..40).flat_map(|row| (length(row) as i64).to_le_bytes()).collect();
    let classes: Vec<u8> = (0..40).map(class).collect();
    let all = [
        ("x", "F32", &[40, 4, 1][..], floats),
        ("lengths", "I64", &[40][..], lengths),
        ("label", "U8", &[40][..], classes),
    ];
    let data = folder.file("data.safetensors", arrays(&all));
    let row = |row: usize| {
        let steps: Vec<f32> = (0..length(row)).map(|step| value(row, step)).collect();
        json!({"x": steps, "label": class(row)})
    };
    let same = folder.file("data.jsonl", lines((0..40).map(row)));
    let found = learned(&folder, "lstm:6,dense", &data, &["--features", "x"]);
    let model = std::fs::read(folder.path("out.safetensors")).unwrap();
    assert_eq!(found["confusion"]["labels"], json!(["0", "1"]));
    assert!(found["confusion"]["accuracy"].as_f64().unwrap() > 0.9, "{found}");
    learned(&folder, "lstm:6,dense", &same, &["--features", "x"]);
    assert!(model == std::fs::read(folder.path("out.safetensors")).unwrap());
    let args = |data, more: [&'static str; 2]| {
        ["train", "--data", data, "--out", "none.safetensors"]
            .into_iter()
            .chain(more)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    refusal(args(&data, ["--features", "y"]), &["array `y`", "label, lengths, x"]);
    refusal(args(&data, ["--tokens", "x"]), &["array `x`", "40 rows and 2 dimensions", "[40, 4, 1]"]);
    refusal(args(&data, ["--seed", "1"]), &["--tokens or --features"]);
    let long =
        [("x", "F32", &[1, 1, 1][..], vec![0; 4]), ("lengths", "U8", &[1], vec![2]), ("label", "U8", &[1], vec![0])];
    let long = folder.file("long.safetensors", arrays(&long));
    refusal(args(&long, ["--features", "x"]), &["array `lengths`", "at most T = 1", "2 in row 1"]);
    let none = folder.file("none.safetensors", "nothing");
    refusal(args(&none, ["--features", "x"]), &["none.safetensors", "a safetensors file"]);
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| row.to_string() + "\n").collect()
}

/// Trains `layers` on `data` and gives the numbers of `evaluate` on the same.
fn learned(folder: &Folder, layers: &str, data: &str, more: &[&str]) -> Value {
    let out = folder.path("out.safetensors");
    let options = ["--valid", "0", "--epochs", "60", "--batch", "8", "--lr", "0.02", "--force", "--out", &out];
    answer(["train", layers, "--data", data].iter().chain(&options).chain(more));
    let evaluate = ["evaluate", &out, "--data", data, "--device", "cpu", "--format", "json"];
    crate::support::json(&answer(evaluate.iter().chain(more)))
}

#[test]
fn vectors_with_labels_are_learned() {
    let folder = Folder::fresh("train_features");
    let row = |row: u64| {
        let sign = if row.is_multiple_of(2) { 1.0 } else { -1.0 };
        let steps: Vec<Value> = (0..2 + row % 3).map(|step| json!([sign * 0.3, step])).collect();
        json!({"x": steps, "label": if sign > 0.0 { "up" } else { "down" }})
    };
    let data = folder.file("data.jsonl", lines((0..40).map(row)));
    let found = learned(&folder, "gru:6,dense", &data, &["--features", "x"]);
    assert_eq!(found["confusion"]["accuracy"], 1.0, "{found}");
    assert_eq!(found["confusion"]["labels"], json!(["down", "up"]));
    let ragged = folder.file("ragged.jsonl", lines([row(0), json!({"x": [[1, 2], [3]], "label": "up"})].into_iter()));
    let args = |data| ["train", "--data", data, "--features", "x", "--out", "none.safetensors"];
    refusal(args(&ragged), &["ragged.jsonl, line 2", "arrays of numbers of one length"]);
    let wide = folder.file("wide.jsonl", lines([row(0), row(1), json!({"x": [[1, 2, 3]], "label": "up"})].into_iter()));
    refusal(args(&wide), &["wide.jsonl, line 3", "vectors of 2 numbers", "3"]);
    refusal(["train", "embedding:3,lstm:4,dense"].iter().chain(&args(&data)[1..]), &["layers", "for vectors"]);
}

#[test]
fn ids_with_labels_of_every_step_are_learned() {
    let folder = Folder::fresh("train_steps");
    // Whether an id was there before.
    let row = |row: u64| {
        let ids: Vec<u64> = (0..4).map(|step| (row * 5 + step * step * 3 + row * step) % 4).collect();
        let seen: Vec<u64> = (0..4).map(|step| u64::from(ids[..step].contains(&ids[step]))).collect();
        json!({"ids": ids, "seen": seen})
    };
    let data = folder.file("data.jsonl", lines((0..64).map(row)));
    let found = learned(&folder, "embedding:6,lstm:16,dense", &data, &["--tokens", "ids", "--labels", "seen"]);
    assert_eq!(found["confusion"]["total"], 256, "{found}");
    assert!(found["confusion"]["accuracy"].as_f64().unwrap() > 0.95, "{found}");
    let few = folder.file("few.jsonl", lines([row(0), json!({"ids": [1, 2], "seen": [1]})].into_iter()));
    let args = ["train", "--data", &few, "--tokens", "ids", "--labels", "seen", "--out", "none.safetensors"];
    refusal(args, &["few.jsonl", "2 classes, one for each step"]);
    let odd = folder.file("odd.jsonl", lines([json!({"ids": [1, -2], "seen": [1, 0]})].into_iter()));
    let args = ["train", "--data", &odd, "--tokens", "ids", "--labels", "seen", "--out", "none.safetensors"];
    refusal(args, &["odd.jsonl, line 1", "an array of token ids under `ids`", "[1,-2]"]);
}

#[test]
fn numbers_are_learned() {
    let folder = Folder::fresh("train_numbers");
    let row = |row: u32| {
        let x: Vec<f64> = (0..3).map(|step| f64::from((row * 7 + step * 5) % 11) / 11.0).collect();
        json!({"x": x, "label": x.iter().sum::<f64>() / 3.0})
    };
    let data = folder.file("data.jsonl", lines((0..64).map(row)));
    let found = learned(&folder, "lstm:8,dense", &data, &["--features", "x", "--loss", "mse"]);
    assert!(found["loss"].as_f64().unwrap() < 2e-3 && found["confusion"].is_null(), "{found}");
    // From CSV: a text of numbers, and a number.
    let table = (0..20).map(|row| format!("{} 0.5,{}\n", f64::from(row) / 20.0, f64::from(row) / 40.0));
    let table = folder.file("data.csv", "x,y\n".to_owned() + &table.collect::<String>());
    let more = ["--features", "x", "--label", "y", "--loss", "mae"];
    let found = learned(&folder, "lstm:8,dense", &table, &more);
    assert!(found["loss"].as_f64().unwrap() < 0.1, "{found}");
    let two = folder.file("two.csv", "x,y\n1,2\n1,2\n1,3 4\n");
    let args = ["train", "--data", &two, "--out", "none.safetensors"];
    refusal(args.iter().chain(&more), &["two.csv, line 4", "an answer of 1 number,", "2 numbers"]);
    let odd = folder.file("odd.csv", "x,y\n1 2,none\n");
    let args = ["train", "--data", &odd, "--out", "none.safetensors"];
    refusal(args.iter().chain(&more), &["odd.csv, line 2", "a number", "none"]);
}

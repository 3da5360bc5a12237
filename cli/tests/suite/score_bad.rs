//! `gatefold score` with input that is wrong: one line that says where, or with `--skip-bad` a list of the rows.

use std::fs;
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int64Builder, ListBuilder};
use arrow_array::{ArrayRef, Int64Array, StringArray};
use gatefold::Network;
use gatefold::network::Init;

use crate::score_rows::{rows, texts, write_parquet, write_texts};
use crate::support::{Folder, answer, json, refusal};

/// A network of token ids below 9, and one of vectors of 2 numbers.
fn models(folder: &Folder) -> [String; 2] {
    let embedding = r#"{"type":"embedding","name":"e","num_embeddings":9,"embedding_dim":2},"#;
    let lstm = r#"{"type":"lstm","name":"l","input_size":2,"hidden_size":2,"output":"last"}"#;
    [(embedding, "tokens"), ("", "features")].map(|(first, name)| {
        let spec = serde_json::from_str(&format!("{{\"format\":1,\"layers\":[{first}{lstm}]}}")).unwrap();
        let path = folder.path(&format!("{name}.safetensors"));
        Network::initialized(spec, Init::PyTorch, 3).unwrap().save(&path).unwrap();
        path
    })
}

/// The first bad row ends the command with a line that has `words`; with `--skip-bad` exactly the rows of `bad` are left out, each with
/// a reason that has these words, and the other rows are what they are without them.
fn check(folder: &Folder, input: &str, more: &[&str], count: usize, bad: &[(u64, &str)]) {
    let output = folder.path("out.jsonl");
    let args: Vec<&str> =
        ["score", input, &output, "--device", "cpu", "--force"].into_iter().chain(more.iter().copied()).collect();
    let name = input.rsplit('/').next().unwrap();
    refusal(&args, &[name, &format!("row {}", bad[0].0), bad[0].1, "--skip-bad"]);
    assert!(!std::path::Path::new(&output).exists(), "nothing half-written");
    let text = answer(args.iter().copied().chain(["--skip-bad"]));
    assert!(text.contains(&format!("{} left out, listed in", rows_of(bad.len()))), "{text}");
    let found: Vec<serde_json::Value> =
        fs::read_to_string(format!("{output}.bad.jsonl")).unwrap().lines().map(json).collect();
    let numbers: Vec<u64> = found.iter().map(|bad| bad["row"].as_u64().unwrap()).collect();
    assert_eq!(numbers, bad.iter().map(|bad| bad.0).collect::<Vec<_>>(), "{found:?}");
    for (found, (row, words)) in found.iter().zip(bad) {
        let reason = found["reason"].as_str().unwrap();
        assert!(reason.contains(words), "row {row}: {reason}, not {words}");
    }
    let left = fs::read_to_string(&output).unwrap();
    assert_eq!(left.lines().count(), count - bad.len());
    // A later run without such rows removes the list.
    fs::remove_file(&output).unwrap();
}

fn rows_of(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

#[test]
fn of_csv() {
    let folder = Folder::fresh("score_bad_csv");
    let input = folder.file("in.csv", b"id,text\n1,good\n2,?!\n3,\n4\n5,good,bad\n6,b\xffad\n\xfe,good\n8,fine\n");
    let bad = [
        (2, "column `text`: expected at least one word, got \"?!\""),
        (3, "expected at least one word"),
        (4, "expected 2 fields, got 1"),
        (5, "expected 2 fields, got 3"),
        (6, "column `text`: expected UTF-8, got byte 0xff at offset 1"),
        (7, "column `id`: expected UTF-8, got byte 0xfe at offset 0"),
    ];
    check(&folder, &input, &[], 8, &bad);
    let [tokens, features] = models(&folder);
    let input = folder.file("tokens.csv", "x\n1 2\n1 9\n-1\n1.5\n\"[1,2]\"\n[]\none\n");
    let bad = [
        (2, "column `x`: expected token ids below 9, got 9 at step 1"),
        (3, "expected token ids with spaces"),
        (4, "got 1.5"),
        (6, "expected at least one timestep, got none"),
        (7, "got one"),
    ];
    check(&folder, &input, &["--model", &tokens, "--tokens", "x"], 7, &bad);
    let input = folder.file("features.csv", "x\n\"[[1,2],[3,4]]\"\n\"[[1,2],[3]]\"\n\"[[1,2,3]]\"\n1 2\nnan 1\n");
    let bad = [
        (2, "expected lists of 2 numbers as at step 0, got 1 at step 1"),
        (3, "expected lists of 2 numbers, got one of 3"),
        (4, "expected one list of 2 numbers for each timestep, got one list of numbers"),
        (5, "expected one list of 2 numbers for each timestep"),
    ];
    check(&folder, &input, &["--model", &features, "--features", "x"], 5, &bad);
}

#[test]
fn of_json_lines() {
    let folder = Folder::fresh("score_bad_jsonl");
    let lines =
        b"{\"id\":1,\"text\":\"good\"}\n{\"id\":2,\"text\":null}\n{\"id\":3}\n{\"id\":4,\"text\":5}\n[1]\n{\"id\":6,\n\
        {\"id\":7,\"text\":\"b\xffd\"}\n{\"id\":8,\"text\":\"good\",\"new\":1}\n{\"id\":9,\"text\":\"fine\"}\n";
    // The key of row 8 is among those of the first rows.
    let input = folder.file("in.jsonl", lines);
    let bad = [
        (2, "key `text`: expected a text, got null"),
        (3, "expected a text, got nothing"),
        (4, "expected a text, got 5"),
        (5, "expected a JSON object, got [1]"),
        (6, "malformed JSON"),
        (7, "expected UTF-8, got byte 0xff"),
    ];
    check(&folder, &input, &[], 9, &bad);

    // Behind the first window other keys and types are another schema.
    let mut lines = "{\"id\":1,\"text\":\"good\"}\n".repeat(4096);
    lines += "{\"id\":1,\"text\":\"good\",\"more\":2}\n{\"id\":\"one\",\"text\":\"good\"}\n{\"text\":\"good\"}\n";
    let input = folder.file("later.jsonl", lines);
    let keys = "expected the keys of the first rows (id, text), got `more` too";
    check(&folder, &input, &[], 4099, &[(4097, keys)]);
    let output = folder.path("out.parquet");
    let args = ["score", &input, &output, "--device", "cpu", "--force", "--keep", "id"];
    let types = "row 4098 (line 4098): key `id`: expected an integer as in the first rows, got \"one\"";
    refusal(args, &[types]);

    let [_, features] = models(&folder);
    let lines = "{\"x\":[[1,2]]}\n{\"x\":[[1,1e999]]}\n{\"x\":[[1,NaN]]}\n{\"x\":[[1,\"2\"]]}\n{\"x\":[]}\n{\"x\":[[1e38,1e39]]}\n";
    let input = folder.file("features.jsonl", lines);
    let bad = [(2, "got [[1,1e999]]"), (3, "malformed JSON"), (4, "got [[1,\"2\"]]"), (5, "expected"), (6, "expected")];
    check(&folder, &input, &["--model", &features, "--features", "x"], 6, &bad);
}

#[test]
fn of_parquet() {
    let folder = Folder::fresh("score_bad_parquet");
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("good"), None, Some(""), Some("bad")]));
    let input = write_parquet(&folder, "in.parquet", &[("id", ids), ("text", texts)], 2);
    check(&folder, &input, &[], 4, &[(2, "expected a value, got null"), (3, "expected at least one word, got \"\"")]);
    let [tokens, features] = models(&folder);
    let mut lists = ListBuilder::new(Int64Builder::new());
    for ids in [&[Some(1), Some(8)][..], &[Some(9)], &[Some(-1)], &[None, Some(1)], &[], &[Some(1 << 40)]] {
        lists.append_value(ids.iter().copied());
    }
    let input = write_parquet(&folder, "tokens.parquet", &[("x", Arc::new(lists.finish()))], 10);
    let bad = [
        (2, "expected token ids below 9, got 9 at step 0"),
        (3, "expected token ids from 0, got -1"),
        (4, "expected token ids, got null among them"),
        (5, "expected at least one timestep, got none"),
        (6, "got 1099511627776"),
    ];
    check(&folder, &input, &["--model", &tokens, "--tokens", "x"], 6, &bad);
    let mut lists = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
    for steps in [&[&[0.5, 1.0][..]][..], &[&[1.0, f32::NAN]], &[&[1.0, 2.0], &[1.0]], &[&[1.0]], &[]] {
        steps.iter().for_each(|step| lists.values().append_value(step.iter().copied().map(Some)));
        lists.append(true);
    }
    let input = write_parquet(&folder, "features.parquet", &[("x", Arc::new(lists.finish()))], 10);
    let bad = [
        (2, "expected finite numbers, got NaN at step 0"),
        (3, "expected lists of 2 numbers as at step 0, got 1 at step 1"),
        (4, "expected lists of 2 numbers, got one of 1"),
        (5, "expected at least one timestep, got none"),
    ];
    check(&folder, &input, &["--model", &features, "--features", "x"], 5, &bad);
    refusal(
        ["score", &input, &folder.path("out.csv"), "--model", &tokens, "--tokens", "x"],
        &["column `x`: expected lists of integers, got List"],
    );
}

/// Files that are not what their names say, and places that cannot be written.
#[test]
fn of_files() {
    let folder = Folder::fresh("score_bad_files");
    let [parquet, csv, jsonl] = write_texts(&folder, "in", &texts(50));
    let output = folder.path("out.csv");
    for input in [&parquet, &csv, &jsonl] {
        refusal(["score", input, input, "--force"], &["expected another file than the input"]);
        refusal(["score", input, "/dev/full", "--to", "csv"], &["/dev/full: expected a file"]);
        refusal(["score", input, &folder.path("no/out.csv")], &["no: expected a folder that exists"]);
    }
    refusal(["score", &folder.path("no.csv"), &output], &["no.csv: No such file"]);
    refusal(["score", &folder.path(""), &output, "--from", "csv"], &["expected a file, got a folder"]);
    refusal(["score", "/dev/null", &output, "--from", "csv"], &["/dev/null: expected a file, got a pipe or a device"]);
    refusal(["score", &csv, &output, "--from", "parquet"], &["in.csv: Parquet error"]);
    refusal(["score", &csv, &output, "--text", "body"], &["in.csv: expected a column `body`, got id, text"]);
    refusal(["score", &csv, &output, "--part", "0"], &["--part"]);
    let bytes = fs::read(&parquet).unwrap();
    let cut = folder.file("cut.parquet", &bytes[..bytes.len() / 2]);
    refusal(["score", &cut, &output], &["cut.parquet: Parquet error"]);
    // The pages of the file are damaged, its end is not.
    let mut damaged = bytes;
    damaged[8..400].fill(0x5a);
    let damaged = folder.file("damaged.parquet", damaged);
    refusal(["score", &damaged, &output, "--device", "cpu"], &["damaged.parquet: "]);
    // A quote that is not closed takes the rest of the file as one field.
    let open = folder.file("open.csv", "id,text\n1,\"good\n".to_owned() + &"2,bad\n".repeat(12_000_000));
    refusal(["score", &open, &output, "--device", "cpu"], &["rows of at most 64 MiB", "is a quote not closed?"]);
    fs::remove_file(open).unwrap();
    refusal(
        ["score", &folder.file("twice.csv", "text,id,id\na,b,c\n"), &output],
        &["every column once, got `id` twice"],
    );
    // A finished file is not replaced in silence.
    answer(["score", &csv, &output, "--device", "cpu"]);
    refusal(["score", &csv, &output], &["out.csv: exists already; --force overwrites it"]);
    assert_eq!(rows(&output).len(), 50);
}

/// Files that are not gatefold's stay: in a folder that has the name of the parts, and where the list of bad rows would be.
#[test]
fn other_files_are_not_replaced() {
    let folder = Folder::fresh("score_others");
    let input = folder.file("in.csv", b"text\ngood\n");
    let output = folder.path("out.csv");
    let args = ["score", &input, &output, "--device", "cpu"];
    fs::create_dir(format!("{output}.parts")).unwrap();
    let kept = folder.file("out.csv.parts/mine", b"mine");
    refusal(args, &["out.csv.parts", "expected a folder of gatefold's own, got one with mine"]);
    refusal(args.into_iter().chain(["--force"]), &["expected a folder of gatefold's own"]);
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    fs::remove_dir_all(format!("{output}.parts")).unwrap();
    let list = folder.file("out.csv.bad.jsonl", b"{}\n");
    refusal(args, &["out.csv.bad.jsonl: exists already"]);
    assert_eq!(fs::read(&list).unwrap(), b"{}\n");
    // The input is never overwritten, not even by the list.
    let text = folder.file("in.jsonl.bad.jsonl", b"{\"text\":\"good\"}\n");
    refusal(
        ["score", &text, &folder.path("in.jsonl"), "--force"],
        &["in.jsonl.bad.jsonl", "expected another file than the input"],
    );
    answer(args.into_iter().chain(["--force"]));
    assert!(!std::path::Path::new(&list).exists() && std::path::Path::new(&output).exists());
}

/// A column of fractions takes no number that it would change.
#[test]
fn numbers_that_would_change() {
    let folder = Folder::fresh("score_numbers");
    let input = |id: &str| {
        let lines = format!("{{\"id\":1.5,\"text\":\"good\"}}\n{{\"id\":{id},\"text\":\"good\"}}\n");
        folder.file("in.jsonl", lines)
    };
    // The first rows say what a column is: here the first window is one row.
    let args =
        |input: &str| ["score", input, &folder.path("out.parquet"), "--device", "cpu", "--force"].map(str::to_owned);
    answer(args(&input("9007199254740992")));
    for id in ["9007199254740993", "1e400"] {
        refusal(args(&input(id)), &["in.jsonl", "row 2", id]);
    }
}

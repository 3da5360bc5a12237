//! `gatefold score`: what it writes is what the library computes, in every format.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float64Builder, Int64Builder, ListBuilder};
use arrow_array::{Array as _, ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringArray, StringViewArray};
use gatefold::network::Init;
use gatefold::{Device, Input, Network, Session};

use crate::score_rows::{FORMATS, Row, batches, expected, outputs, rows, texts, write_parquet, write_texts};
use crate::support::{Folder, answer, json, refusal};

/// Scores a file on the CPU; the path of what was written.
fn scored(folder: &Folder, input: &str, output: &str, more: &[&str]) -> String {
    let output = folder.path(output);
    answer(["score", input, &output, "--device", "cpu", "--force"].iter().chain(more));
    output
}

#[test]
fn every_format_gives_what_the_library_computes() {
    let folder = Folder::fresh("score_formats");
    let texts = texts(700);
    let expected = expected(&texts);
    for input in write_texts(&folder, "in", &texts) {
        for format in FORMATS {
            let got = rows(&scored(&folder, &input, &format!("out.{format}"), &[]));
            assert_eq!(got, expected, "{input} to {format}");
        }
    }
    // The comparison can fail.
    let mut other = texts;
    other[400] = "dull".to_owned();
    let [input, ..] = write_texts(&folder, "other", &other);
    let got = rows(&scored(&folder, &input, "out.parquet", &[]));
    let different: Vec<i64> = expected.iter().zip(&got).filter(|(a, b)| a != b).map(|(row, _)| row.0).collect();
    assert_eq!(different, [400]);
}

/// The bytes do not depend on the number of threads; the size of the parts decides where row groups end.
#[test]
fn threads_change_no_byte() {
    let folder = Folder::fresh("score_threads");
    let inputs = write_texts(&folder, "in", &texts(9000));
    for (input, format) in inputs.iter().zip(FORMATS) {
        let with = |threads: &str, part: &str| {
            let more = ["--threads", threads, "--part", part];
            std::fs::read(scored(&folder, input, &format!("out{threads}.{format}"), &more)).unwrap()
        };
        let one = with("1", "65536");
        assert!(one == with("5", "65536"), "{format}");
        if format == "parquet" {
            assert!(one != with("1", "4096"), "the comparison can fail");
        } else {
            assert!(one == with("2", "4096"), "{format}");
        }
    }
}

/// A network and a file for it, of sequences of `lengths` timesteps.
fn network(layers: &str) -> Network {
    let spec = serde_json::from_str(&format!("{{\"format\":1,\"layers\":[{layers}]}}")).unwrap();
    Network::initialized(spec, Init::PyTorch, 3).unwrap()
}

fn saved(folder: &Folder, network: &Network) -> String {
    let path = folder.path("model.safetensors");
    network.save(&path).unwrap();
    path
}

#[test]
fn token_columns_are_read() {
    let folder = Folder::fresh("score_tokens");
    let embedding = r#"{"type":"embedding","name":"e","num_embeddings":50,"embedding_dim":4}"#;
    let lstm = r#"{"type":"lstm","name":"l","input_size":4,"hidden_size":3,"output":"last"}"#;
    let network = network(&format!("{embedding},{lstm}"));
    let model = saved(&folder, &network);
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let lists: Vec<Vec<u32>> = (0..60).map(|row| (0..1 + row % 7).map(|_| random.u32(..50)).collect()).collect();
    let expected: Vec<Vec<f32>> =
        lists.iter().map(|ids| session.run(Input::tokens(ids, [ids.len(), 1]), None).unwrap().values).collect();

    let mut builder = ListBuilder::new(Int64Builder::new());
    lists.iter().for_each(|ids| builder.append_value(ids.iter().map(|&id| Some(id.into()))));
    let column: ArrayRef = Arc::new(builder.finish());
    let parquet = write_parquet(&folder, "in.parquet", &[("ids", column)], 17);
    let lines = lists.iter().map(|ids| format!("{{\"ids\":{}}}\n", serde_json::json!(ids))).collect::<String>();
    let jsonl = folder.file("in.jsonl", lines);
    let fields = |ids: &Vec<u32>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let csv = folder.file("in.csv", format!("ids\n{}\n", lists.iter().map(fields).collect::<Vec<_>>().join("\n")));
    for input in [parquet, jsonl, csv] {
        let out = scored(&folder, &input, "out.parquet", &["--model", &model, "--tokens", "ids"]);
        assert_eq!(outputs(&out), expected, "{input}");
    }
    let out = folder.path("out.csv");
    refusal(
        ["score", &folder.path("in.csv"), &out, "--model", &model, "--text", "ids"],
        &["--tokens", "no vocabulary"],
    );
    refusal(
        ["score", &folder.path("in.csv"), &out, "--model", &model, "--features", "ids"],
        &["--tokens", "token ids"],
    );
}

/// Vectors of three numbers in nested lists of every kind, with an answer for each timestep; and flat lists.
#[test]
fn feature_columns_are_read() {
    let folder = Folder::fresh("score_features");
    let network_of = |inputs: usize| {
        network(&format!(r#"{{"type":"lstm","name":"l","input_size":{inputs},"hidden_size":2,"batch_first":true}}"#))
    };
    let session = |network: &Network| Session::new(&Device::cpu(), network).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let lists: Vec<Vec<f64>> = (0..40).map(|row| (0..3 * (1 + row % 5)).map(|_| random.f64()).collect()).collect();
    for inputs in [3, 1] {
        let network = network_of(inputs);
        let (model, session) = (saved(&folder, &network), session(&network));
        #[expect(clippy::cast_possible_truncation, reason = "a network reads f32")]
        let run = |row: &Vec<f64>| {
            let row: Vec<f32> = row.iter().map(|&number| number as f32).collect();
            session.run(Input::features(&row, [1, row.len() / inputs, inputs]), None).unwrap().values
        };
        let expected: Vec<Vec<f32>> = lists.iter().map(run).collect();
        let column: ArrayRef = if inputs == 1 {
            let mut builder = ListBuilder::new(Float64Builder::new());
            lists.iter().for_each(|row| builder.append_value(row.iter().map(|&number| Some(number))));
            Arc::new(builder.finish())
        } else {
            let mut builder = ListBuilder::new(FixedSizeListBuilder::new(Float64Builder::new(), 3));
            for row in &lists {
                for step in row.chunks(3) {
                    builder.values().values().append_slice(step);
                    builder.values().append(true);
                }
                builder.append(true);
            }
            Arc::new(builder.finish())
        };
        let parquet = write_parquet(&folder, "in.parquet", &[("x", column)], 17);
        let nested = |row: &Vec<f64>| match inputs {
            1 => serde_json::json!({ "x": row }),
            _ => serde_json::json!({ "x": row.chunks(3).collect::<Vec<_>>() }),
        };
        let jsonl = folder.file("in.jsonl", lists.iter().map(|row| format!("{}\n", nested(row))).collect::<String>());
        let mut writer = csv::Writer::from_writer(b"x\n".to_vec());
        lists.iter().for_each(|row| writer.write_record([nested(row)["x"].to_string()]).unwrap());
        let csv = folder.file("in.csv", writer.into_inner().unwrap());
        for input in [&parquet, &jsonl, &csv] {
            let out = scored(&folder, input, "out.parquet", &["--model", &model, "--features", "x"]);
            assert_eq!(outputs(&out), expected, "{input}, {inputs} inputs");
        }
        // In text a timestep is a list too.
        let out = scored(&folder, &parquet, "out.jsonl", &["--model", &model, "--features", "x"]);
        let first = json(std::fs::read_to_string(out).unwrap().lines().next().unwrap());
        assert_eq!(first["output"][0].as_array().unwrap().len(), 2);
    }
}

/// Text columns of other types, and the columns that are kept.
#[test]
fn columns_keep_their_types_and_order() {
    let folder = Folder::fresh("score_columns");
    let texts = texts(50);
    let expected: Vec<Row> = expected(&texts);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
    let plain = StringArray::from(texts.clone());
    let kinds: [ArrayRef; 3] = [
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from_iter_values(&texts)),
        Arc::new(texts.iter().map(|text| &text[..]).collect::<DictionaryArray<arrow_array::types::Int32Type>>()),
    ];
    for kind in kinds {
        let input = write_parquet(&folder, "in.parquet", &[("note", kind.clone()), ("id", ids.clone())], 20);
        let out = scored(&folder, &input, "out.parquet", &["--text", "note", "--keep", "id,note"]);
        let batch = &batches(&out)[0];
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["id", "note", "prediction", "probability", "probabilities"]);
        assert_eq!(batch["note"].data_type(), kind.data_type());
        assert_eq!(rows(&out), expected);
    }
    let text: ArrayRef = Arc::new(plain);
    let input = write_parquet(&folder, "in.parquet", &[("text", text.clone()), ("prediction", ids.clone())], 20);
    let out = folder.path("out.csv");
    refusal(["score", &input, &out], &["`prediction`", "--keep"]);
    refusal(["score", &input, &out, "--keep", "nothing"], &["expected a column `nothing`", "text, prediction"]);
    refusal(["score", &input, &out, "--keep", "text,text"], &["--keep", "`text` twice"]);
    refusal(["score", &input, &out, "--text", "prediction"], &["column `prediction`: expected text, got Int64"]);
    refusal(["score", &input, &folder.path("out.txt")], &["out.txt", ".parquet, .csv or .jsonl", "--to"]);
    answer(["score", &input, &folder.path("out.txt"), "--to", "jsonl", "--keep", "text", "--device", "cpu", "--force"]);

    // JSON keeps what it does not know, and becomes columns of types in Parquet.
    let lines = "{\"text\":\"good\",\"n\":1,\"x\":1,\"deep\":{\"a\":[1,null]},\"b\":true}\n\n\
                 {\"x\":2.5e1,\"text\":\"bad \\u00e9\\\"\",\"deep\":3,\"n\":null,\"s\":\"t\"}\n";
    let input = folder.file("in.jsonl", lines);
    let out = std::fs::read_to_string(scored(&folder, &input, "out.jsonl", &[])).unwrap();
    let first = "{\"n\":1,\"x\":1,\"deep\":{\"a\":[1,null]},\"b\":true,\"s\":null,\"prediction\":\"positive\",";
    assert!(out.starts_with(first), "{out}");
    assert!(
        out.lines().nth(1).unwrap().starts_with("{\"n\":null,\"x\":2.5e1,\"deep\":3,\"b\":null,\"s\":\"t\","),
        "{out}"
    );
    let schema = batches(&scored(&folder, &input, "out.parquet", &[]))[0].schema();
    let types: Vec<String> = schema.fields().iter().take(5).map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Int64", "Float64", "Utf8", "Boolean", "Utf8"]);
    let csv = std::fs::read_to_string(scored(&folder, &input, "out.csv", &[])).unwrap();
    assert!(csv.lines().nth(1).unwrap().starts_with("1,1,\"{\"\"a\"\":[1,null]}\",true,,positive,"), "{csv}");
}

#[test]
fn files_without_rows_give_files_without_rows() {
    let folder = Folder::fresh("score_empty");
    for (input, content) in [("in.csv", "id,text\n"), ("in.jsonl", "")] {
        let input = folder.file(input, content);
        let out = scored(&folder, &input, "out.parquet", &[]);
        assert_eq!(batches(&out).iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
        let out = std::fs::read_to_string(scored(&folder, &input, "out.csv", &[])).unwrap();
        assert_eq!(out.lines().count(), 1, "{out}");
    }
}

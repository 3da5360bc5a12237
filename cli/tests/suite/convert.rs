//! `convert`.

use std::path::Path;

use crate::support::{Folder, answer, refusal, repository, run};

#[test]
fn a_network_reads_back_as_it_was() {
    let folder = Folder::new("convert");
    let out = folder.path("out.safetensors");
    let _ = std::fs::remove_file(&out);
    let golden = repository("tests/goldens/lstm_two_layers_bidirectional.safetensors");
    let text = answer(["convert", &golden, &out]);
    assert!(text.contains("1 layer") && text.contains("wrote"), "{text}");
    let [before, after] = [&golden, &out].map(|path| answer(["inspect", path]));
    assert_eq!(before.lines().skip(1).collect::<Vec<_>>(), after.lines().skip(1).collect::<Vec<_>>());
    refusal(["convert", &golden, &out], &["exists already", "--force"]);
    answer(["convert", &golden, &out, "--force"]);
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::new("convert_mistakes");
    let out = folder.path("out.safetensors");
    let _ = std::fs::remove_file(&out);
    let broken = [
        ("broken.keras", &b"PK\x03\x04 and nothing"[..]),
        ("broken.onnx", b"\xff\xff\xff"),
        ("broken.h5", b"\x89HDF\r\n\x1a\n"),
        ("broken.safetensors", b"nothing"),
    ];
    for (name, content) in broken {
        let path = folder.file(name, content);
        refusal(["convert", &path, &out], &[name]);
        refusal(["inspect", &path], &[name]);
    }
    refusal(["convert", &folder.path("nowhere.onnx"), &out], &["nowhere.onnx"]);
    let golden = repository("tests/goldens/lstm.safetensors");
    refusal(["convert", &golden, &folder.path("out.onnx")], &["out.onnx", ".safetensors"]);
    refusal(["convert", &golden, &folder.path("no/folder/out.safetensors")], &["out.safetensors"]);
    assert!(!Path::new(&out).exists(), "a refusal writes nothing");
}

#[test]
fn weights_are_rounded_on_wish() {
    let folder = Folder::new("convert_weights");
    let golden = repository("tests/goldens/lstm_large.safetensors");
    let mut sizes = Vec::new();
    for format in ["f32", "f16", "int8"] {
        let out = folder.path(&format!("{format}.safetensors"));
        let text = answer(["convert", &golden, &out, "--weights", format, "--force"]);
        assert!(text.contains(&format!("2 tensors as {format}")) || format == "f32", "{text}");
        assert!(text.contains("rounding error at most"), "{text}");
        let inspected = answer(["inspect", &out]);
        assert!(inspected.contains(format) && inspected.contains("lstm.weight_hh_l0"), "{inspected}");
        answer(["verify", &out, "--device", "cpu", "--steps", "3"]);
        sizes.push(std::fs::metadata(&out).expect("a file").len());
    }
    assert!(sizes[1] < sizes[0] * 6 / 10 && sizes[2] < sizes[0] * 4 / 10, "{sizes:?}");
    let wrong = run(["convert", &golden, &folder.path("x.safetensors"), "--weights", "int4"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("expected f32, f16, int8, got \"int4\""), "{wrong:?}");
}

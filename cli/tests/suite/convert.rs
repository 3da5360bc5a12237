//! `convert`.

use std::path::Path;

use crate::support::{Folder, answer, refusal, repository};

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

//! Every mistake ends with one line and exit code 2.

use crate::support::{Folder, answer, json, refusal, refused, repository, run, run_with};

fn classify(rest: &[&str]) -> Vec<String> {
    ["classify", "--device", "cpu"].iter().chain(rest).map(ToString::to_string).collect()
}

#[test]
fn texts_without_a_word_are_placed() {
    refusal(classify(&["good film", ""]), &["text 2", "at least one word"]);
    refusal(classify(&["!?... ---"]), &["text 1", "!?... ---"]);
    let folder = Folder::new("wordless");
    refusal(classify(&["--file", &folder.file("gap.txt", "good\n\nbad\n")]), &["gap.txt, line 2"]);
    refusal(classify(&["--file", &folder.file("last.txt", "good\n\n")]), &["last.txt, line 2"]);
    refusal(classify(&["--file", &folder.file("empty.txt", "")]), &["empty.txt", "empty file"]);
    refusal(classify(&["--file", &folder.file("mark.txt", "\u{feff}")]), &["mark.txt", "empty file"]);
    refused(&run_with(classify(&["--file", "-"]), b""), &["standard input", "empty"]);
    let long = "!".repeat(5000);
    let got = run(classify(&[&long]));
    assert!(got.stderr.len() < 200, "the message is cut: {}", got.stderr);
}

#[test]
fn bytes_that_are_not_utf8_are_placed() {
    let folder = Folder::new("bytes");
    let latin = folder.file("latin1.txt", b"good\nna\xefve\n");
    refusal(classify(&["--file", &latin]), &["latin1.txt, line 2", "UTF-8", "0xef", "offset 7"]);
    let wide = folder.file("utf16.txt", b"\xff\xfeg\0o\0");
    refusal(classify(&["--file", &wide]), &["utf16.txt, line 1", "offset 0", "UTF-16"]);
    refused(&run_with(classify(&["--file", "-"]), b"ok\n\x80"), &["standard input, line 2", "offset 3"]);
}

#[test]
fn paths_that_lead_nowhere_are_named() {
    let folder = Folder::new("paths");
    refusal(classify(&["--file", &folder.path("nothing.txt")]), &["nothing.txt"]);
    refusal(classify(&["--file", &folder.path("")]), &["paths"]);
    refusal(classify(&["film", "--model", &folder.path("nothing.safetensors")]), &["nothing.safetensors"]);
    for subcommand in ["verify", "plan", "inspect"] {
        refusal([subcommand, &folder.path("nothing.safetensors")], &["nothing.safetensors"]);
        refusal([subcommand, &folder.path("")], &["paths"]);
    }
}

#[test]
fn files_that_are_no_model_are_named() {
    let folder = Folder::new("corrupt");
    let whole = std::fs::read(repository("models/sentiment/sentiment.safetensors")).expect("the model");
    let mut wrong_header = whole.clone();
    wrong_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for (name, bytes) in [
        ("empty.safetensors", &whole[..0]),
        ("start.safetensors", &whole[..7]),
        ("header.safetensors", &whole[..1000]),
        ("truncated.safetensors", &whole[..whole.len() - 1]),
        ("length.safetensors", &wrong_header),
        ("text.safetensors", b"hello, this is no model"),
    ] {
        let path = folder.file(name, bytes);
        refusal(["inspect", &path], &[name, "expected"]);
        refusal(["verify", &path, "--device", "cpu"], &[name]);
        refusal(classify(&["film", "--model", &path]), &[name]);
    }
    let golden = repository("tests/goldens/lstm.golden.safetensors");
    refusal(["inspect", &golden], &["lstm.golden.safetensors", "description"]);
}

#[test]
fn a_model_without_words_reads_no_text() {
    let lstm = repository("tests/goldens/lstm.safetensors");
    refusal(classify(&["film", "--model", &lstm]), &["vocabulary"]);
    refusal(["verify", &lstm, "--text", "film", "--device", "cpu"], &["vocabulary"]);
    refusal(["verify", "--text", "...", "--device", "cpu"], &["at least one word"]);
}

#[test]
fn devices_that_are_not_there_are_answered_with_those_that_are() {
    let there = json(&answer(["devices", "--format", "json"]));
    let adapters = there["adapters"].as_array().expect("adapters");
    let names: Vec<&str> = adapters.iter().map(|adapter| adapter["name"].as_str().expect("a name")).collect();
    refusal(
        ["classify", "film", "--device", "no such adapter"],
        &[&["no adapter", "no such adapter"], &names[..]].concat(),
    );
    // If a backend is absent, the error lists the present adapters all the same.
    for backend in ["metal", "dx12", "webgpu"] {
        if adapters.iter().all(|adapter| adapter["backend"] != backend) {
            refusal(["classify", "film", "--device", backend], &[&["no adapter", backend], &names[..]].concat());
        }
    }
    let has_gpu = adapters.iter().any(|adapter| adapter["kind"].as_str().is_some_and(|kind| kind.ends_with("GPU")));
    let gpu = run(["classify", "film", "--device", "gpu"]);
    if has_gpu {
        assert_eq!(gpu.code, 0, "{gpu:?}");
    } else {
        refused(&gpu, &[&["no adapter", "`gpu`"], &names[..]].concat());
    }
    refusal(["verify", "--device", "cpu", "--device", "cpu"], &["one device", "got 2"]);
}

/// Errors that clap reports.
#[test]
fn usage_errors_have_the_same_exit_code() {
    let cases: [&[&str]; 16] = [
        &[],
        &["classify"],
        &["classify", "film", "--file", "reviews.txt"],
        &["classify", "film", "--format", "xml"],
        &["classify", "film", "--device", ""],
        &["verify", "--text", "film", "--steps", "3"],
        &["verify", "--all", "--device", "cpu"],
        &["verify", "--steps", "-1"],
        &["bench", "--shape", "hidden"],
        &["bench", "--runs", "0"],
        &["bench", "--set", "imagenet"],
        &["bench", "--strategy", "magic"],
        &["bench", "compare", "one.json"],
        &["bench", "--shape", "cell=tlu,hidden=4"],
        &["bench", "--all", "--device", "cpu"],
        &["train"],
    ];
    for args in cases {
        let run = run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {run:?}");
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
}

/// The error says which value the CPU's options expect, not how numbers are parsed.
#[test]
fn options_of_the_cpu_that_cannot_be_are_refused() {
    let sets = ["avx2", "neon", "portable"];
    for (option, value, words) in [
        ("--threads", "0", &["at least 1"][..]),
        ("--threads", "-1", &["at least 1"]),
        ("--threads", "two", &["at least 1"]),
        ("--instruction-set", "mmx", &sets),
        ("--instruction-set", "", &sets),
    ] {
        let run = run(["classify", "film", option, value]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{option} {value}: {run:?}");
        for word in words.iter().chain(&[option, value]) {
            assert!(run.stderr.contains(word), "{option} {value}: expected {word:?} in {run:?}");
        }
    }
    // An instruction set that this machine cannot have.
    let absent = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    refusal(classify(&["film", "--instruction-set", absent]), &[absent, "present", "portable"]);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let huge = u64::MAX.to_string();
    refusal(["verify", "--device", "cpu", "--steps", "0"], &["at least 1"]);
    refusal(["verify", "--device", "cpu", "--steps", &huge], &["2^28", &huge]);
    refusal(["plan", "--device", "cpu", "--batch", "0"], &["at least 1"]);
    refusal(["plan", "--device", "cpu", "--steps", &huge], &[&huge, "limit"]);
    refusal(["plan", "--device", "cpu", "--budget", &huge], &["MiB", &huge]);
    refusal(["plan", "--device", "cpu", "--split", "3"], &["option split", "power of two", "got 3"]);
}

/// A message of protobuf: one field of bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 128);
    [&[tag << 3 | 2, length], content].concat()
}

#[test]
fn a_refused_onnx_file_is_listed_in_full() {
    let folder = Folder::new("onnx");
    let node = |op: &str, from: &str, to: &str| {
        field(1, &[field(1, from.as_bytes()), field(2, to.as_bytes()), field(4, op.as_bytes())].concat())
    };
    let open = field(1, b"");
    let shape = [open.clone(), open, field(1, &[0x08, 3])].concat();
    let tensor = [vec![0x08, 1], field(2, &shape)].concat();
    let input = field(11, &[field(1, b"x"), field(2, &field(1, &tensor))].concat());
    let nodes = [node("Tanh", "x", "a"), node("Einsum", "a", "b"), node("Relu", "b", "c"), node("Sin", "c", "y")];
    let graph = [nodes.concat(), input, field(12, &field(1, b"y"))].concat();
    let low = u8::try_from(graph.len() & 0x7f).expect("seven bits");
    let high = u8::try_from(graph.len() >> 7).expect("a short graph");
    let graph = [&[7 << 3 | 2, low | 0x80, high][..], &graph].concat();
    let model = [vec![0x08, 8], graph, field(8, &[0x10, 17])].concat();
    let path = folder.file("two.onnx", model);
    let got = run(["inspect", &path]);
    assert_eq!(got.code, 2, "{got:?}");
    assert!(got.stderr.contains("two.onnx: node `b` (Einsum): operator `Einsum` is not supported"), "{got:?}");
    for words in
        ["node `b` (Einsum): operator `Einsum`", "node `y` (Sin): operator `Sin`", "1 of 4 nodes read, 1 behind"]
    {
        assert!(got.stdout.contains(words), "{words}: {got:?}");
    }
    // Other commands say the first thing alone.
    refusal(["plan", &path], &["Einsum"]);
}

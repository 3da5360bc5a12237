//! Tensors that lie in files beside the model.

use std::fs;
use std::path::Path;

use gatefold::formats::onnx;
use gatefold::{Error, Input, Network, Session};

use crate::support::{Golden, bundle, cpu, miss};

/// Length-delimited field `number` of a protobuf message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(number < 16 && content.len() < 1 << 14);
    let [low, high] = [content.len() & 127, content.len() >> 7].map(|part| u8::try_from(part).unwrap());
    let length = if high == 0 { vec![low] } else { vec![low | 128, high] };
    [&[number << 3 | 2], length.as_slice(), content].concat()
}

/// Field `number` with a whole number below 128.
fn small(number: u8, value: u8) -> Vec<u8> {
    assert!(number < 16 && value < 128);
    vec![number << 3, value]
}

fn floats(count: usize, seed: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (((i * 37 + seed) % 17) as f32 / 17.0 - 0.5).to_le_bytes()).collect()
}

/// `[1, 12, 3]`
fn weights() -> Vec<u8> {
    floats(36, 5)
}

/// A model of one LSTM, I 2 and H 3, whose tensor `R` has its data in `fields`.
fn model(fields: &[u8]) -> Vec<u8> {
    let tensor = |name: &str, width: u8, data: &[u8]| {
        let dims = [1, 12, width].map(|d| small(1, d)).concat();
        field(5, &[dims, small(2, 1), field(8, name.as_bytes()), data.to_vec()].concat())
    };
    let shape = [4, 1, 2].map(|size| field(1, &small(1, size))).concat();
    let of_floats = field(1, &[small(1, 1), field(2, &shape)].concat());
    let input = field(11, &[field(1, b"X"), field(2, &of_floats)].concat());
    let names = [(1, "X"), (1, "W"), (1, "R"), (2, "Y"), (3, "lstm"), (4, "LSTM")];
    let node = field(1, &names.map(|(number, name)| field(number, name.as_bytes())).concat());
    let initializers = [tensor("W", 2, &field(9, &floats(24, 1))), tensor("R", 3, fields)].concat();
    let graph = [node, initializers, input, field(12, &field(1, b"Y"))].concat();
    [small(1, 8), field(7, &graph), field(8, &small(2, 14))].concat()
}

/// As [`model`], with external data described by `entries`.
fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry =
        |(key, value): &(&str, &str)| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    model(&[entries, small(14, 1)].concat())
}

fn read(folder: &Path, entries: &[(&str, &str)]) -> Result<Network, Error> {
    let path = folder.join("model.onnx");
    fs::write(&path, external(entries)).unwrap();
    onnx::load(&path)
}

/// A folder with the model's folder in it: `secret.bin` outside, `weights.bin` and `more/weights.bin` inside.
fn folders() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("model");
    fs::create_dir_all(inner.join("more")).unwrap();
    fs::write(outer.path().join("secret.bin"), weights()).unwrap();
    fs::write(inner.join("weights.bin"), [vec![7; 16], weights(), vec![9; 8]].concat()).unwrap();
    fs::write(inner.join("more/weights.bin"), weights()).unwrap();
    (outer, inner)
}

/// As the `onnx` package writes them.
#[test]
fn tensors_beside_the_model_are_read() {
    let files = bundle("onnx_external.zip");
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let network = Network::load(folder.path().join("model.onnx")).unwrap();
    let golden = Golden::new(&files["model.golden.safetensors"]);
    let ((x, shape), (expected, _)) = (golden.numbers("input").unwrap(), golden.numbers("output").unwrap());
    let session = Session::new(&cpu(), &network).unwrap();
    let output = session.run(Input::features(&x, [shape[0], shape[1], shape[2]]), None).unwrap();
    assert_eq!(miss("output", &output.values, &expected, 16), None);
}

#[test]
fn data_are_read_from_the_models_folder() {
    let (_outer, inner) = folders();
    let expected = onnx::from_bytes("whole.onnx", &model(&field(9, &weights()))).unwrap();
    for entries in [
        &[("location", "weights.bin"), ("offset", "16"), ("length", "144")][..],
        &[("location", "./weights.bin"), ("offset", "16"), ("length", "144"), ("checksum", "none")],
        &[("location", "more/weights.bin")],
    ] {
        assert_eq!(read(&inner, entries).unwrap(), expected, "{entries:?}");
    }
    // A negative control: other bytes are another network.
    let shifted = read(&inner, &[("location", "weights.bin"), ("offset", "20"), ("length", "144")]).unwrap();
    assert_ne!(shifted, expected);
}

/// The error names the tensor, and the file if there is one.
#[test]
fn other_files_are_refused() {
    let (outer, inner) = folders();
    let secret = outer.path().join("secret.bin");
    let absolute = secret.to_str().unwrap();
    let malformed = |entries: &[(&str, &str)], says: &[&str]| {
        let error = read(&inner, entries).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Malformed { .. } | Error::Unsupported { .. }), "{entries:?}: {error:?}");
        assert!(text.contains("tensor `R`") && says.iter().all(|word| text.contains(word)), "{entries:?}: {text}");
        assert!(!text.contains('\n'), "{text}");
    };
    let folder = "the model's folder";
    malformed(&[("location", "../secret.bin")], &[folder, "../secret.bin"]);
    malformed(&[("location", "more/../../secret.bin")], &[folder, "more/../../secret.bin"]);
    malformed(&[("location", absolute)], &[folder, absolute]);
    malformed(&[("location", "")], &[folder]);
    malformed(&[], &["location"]);
    malformed(&[("location", "nothing.bin")], &["nothing.bin", "no such file"]);
    malformed(&[("location", "more")], &["`more`", "folder"]);
    let at = |offset: &'static str, length: &'static str| {
        [("location", "weights.bin"), ("offset", offset), ("length", length)]
    };
    malformed(&at("32", "144"), &["weights.bin", "168 bytes", "144 bytes at 32"]);
    malformed(&at("1000", "144"), &["weights.bin", "168 bytes", "144 bytes at 1000"]);
    malformed(&at("18446744073709551615", "144"), &["weights.bin", "168 bytes"]);
    malformed(&at("0", "18446744073709551615"), &["weights.bin", "144 bytes"]);
    malformed(&at("16", "140"), &["weights.bin", "144 bytes", "140"]);
    malformed(&[("location", "weights.bin")], &["weights.bin", "144 bytes", "168"]);
    malformed(&at("-1", "144"), &["offset", "-1"]);
    malformed(&at("16", "many"), &["length", "many"]);
    malformed(&[("location", "weights.bin"), ("key", "1")], &["key"]);
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let (outer, inner) = folders();
    std::os::unix::fs::symlink(outer.path().join("secret.bin"), inner.join("link.bin")).unwrap();
    std::os::unix::fs::symlink(outer.path(), inner.join("out")).unwrap();
    std::os::unix::fs::symlink(inner.join("more/weights.bin"), inner.join("inside.bin")).unwrap();
    for location in ["link.bin", "out/secret.bin"] {
        let text = read(&inner, &[("location", location)]).unwrap_err().to_string();
        assert!(text.contains("tensor `R`") && text.contains(location) && text.contains("link"), "{text}");
    }
    read(&inner, &[("location", "inside.bin")]).unwrap();
}

#[test]
fn bytes_have_no_folder() {
    let error = onnx::from_bytes("bytes.onnx", &external(&[("location", "weights.bin")])).unwrap_err().to_string();
    assert!(error.contains("tensor `R`") && error.contains("weights.bin"), "{error}");
}

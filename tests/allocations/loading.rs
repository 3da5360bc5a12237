//! Loading a file takes little memory beyond the network: at most 1.5 times the file's bytes at any time.

use std::path::{Path, PathBuf};

use gatefold::Network;
use gatefold::network::{LayerSpec, RecurrentSpec};

use crate::{HELD, PEAK, network};

/// The largest number of bytes held at a time beyond what is held at the end, as a share of the file's.
fn beyond(path: &Path, load: impl FnOnce(&Path) -> Network) -> f64 {
    PEAK.set(HELD.get());
    let network = load(path);
    let most = PEAK.get().wrapping_sub(HELD.get()).cast_signed();
    assert!(network.parameters() > 100_000);
    most as f64 / std::fs::metadata(path).unwrap().len() as f64
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn is_little(path: &Path) {
    let load = |path: &Path| Network::load(path).unwrap();
    let share = beyond(path, load);
    assert!((0.0..1.5).contains(&share), "{}: {share}", path.display());
    let with_copies = |path: &Path| {
        let copies = [0, 1].map(|_| std::fs::read(path).unwrap());
        let network = load(path);
        assert_eq!(copies[0].len(), copies[1].len());
        network
    };
    let share = beyond(path, with_copies);
    assert!(share > 1.5, "the control: {share}");
}

#[test]
fn loading_safetensors_takes_little_memory() {
    let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 256, 256))];
    is_little(&file("loading.safetensors", &network(layers).to_bytes().unwrap()));
}

#[cfg(feature = "onnx")]
#[test]
fn loading_onnx_takes_little_memory() {
    use crate::wire::{FLOAT, floats, graph, info, ints, model, node};
    // One large tensor, and several.
    let lstm = [node("LSTM", &["x", "W", "R", "B"], &["Y"], vec![]), node("Squeeze", &["Y", "one"], &["y"], vec![])];
    let weights =
        [floats("W", &[1, 1024, 256]), floats("R", &[1, 1024, 256]), floats("B", &[1, 2048]), ints("one", &[1])];
    let made = |nodes: &[Vec<u8>], weights: &[Vec<u8>], width: u64| {
        model(&graph(nodes, weights, &[info("x", FLOAT, &[None, None, Some(width)])], &["y"]))
    };
    is_little(&file("loading.onnx", &made(&lstm, &weights, 256)));
    let product = [node("MatMul", &["x", "M"], &["y"], vec![])];
    is_little(&file("loading_one.onnx", &made(&product, &[floats("M", &[600, 700])], 600)));
}

#[cfg(feature = "keras")]
#[test]
fn loading_keras_takes_little_memory() {
    let bundle = std::fs::read(crate::support::in_repository("tests/goldens/keras_large.zip")).unwrap();
    let files = crate::bundle::unzip(&bundle);
    assert_eq!(files.len(), 6);
    for (name, bytes) in files {
        is_little(&file(&format!("loading_{name}"), &bytes));
    }
}

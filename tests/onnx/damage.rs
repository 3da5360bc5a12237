//! Damaged files, and unsupported features.

use fastrand::Rng;
use gatefold::formats::onnx;

use crate::support::bundle;

/// Damaged files are errors or networks, never panics.
#[test]
fn damage_is_survived() {
    let mut rng = Rng::with_seed(1);
    for name in ["onnx_nodes.zip", "onnx_grid.zip", "onnx_files.zip"] {
        let files = bundle(name);
        let models: Vec<&Vec<u8>> =
            files.iter().filter(|(name, _)| name.ends_with(".onnx")).map(|(_, bytes)| bytes).collect();
        let mut errors = 0;
        for _ in 0..3000 {
            let mut bytes = models[rng.usize(0..models.len())].clone();
            for _ in 0..rng.usize(1..6) {
                // Mostly where the node and the names stand.
                let end = if rng.u8(0..4) > 0 { bytes.len().min(300) } else { bytes.len() };
                let at = rng.usize(0..end);
                bytes[at] = if rng.bool() { rng.u8(..) } else { bytes[at] ^ (1 << rng.u8(0..8)) };
            }
            if rng.u8(0..8) == 0 {
                bytes.truncate(rng.usize(0..bytes.len()));
            }
            errors += u32::from(onnx::from_bytes("damaged.onnx", &bytes).is_err());
        }
        assert!(errors > 1000, "{name}: {errors} of 3000 refused");
    }
}

/// Text of the same length in place of another in a model.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    let files = bundle("onnx_nodes.zip");
    let mut bytes = files["test_lstm_defaults.onnx"].clone();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    onnx::from_bytes("changed.onnx", &bytes).unwrap_err().to_string()
}

#[test]
fn unsupported_operators_name_their_node() {
    let error = changed("LSTM", "LSTN");
    assert!(error.contains("recurrent") && error.contains("LSTN"), "{error}");
    let error = changed("hidden_size", "hidden_sise");
    assert!(error.contains("recurrent") && error.contains("hidden_sise"), "{error}");
    let error = onnx::from_bytes("nothing.onnx", b"").unwrap_err().to_string();
    assert!(error.contains("ONNX model"), "{error}");
}

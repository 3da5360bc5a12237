//! Any bytes are a network or an error. The models in `tests/goldens/onnx_*.zip` are good seeds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = gatefold::formats::onnx::from_bytes("fuzz", bytes);
});

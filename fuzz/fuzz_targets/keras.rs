//! Any bytes are a network or an error: `cargo +nightly fuzz run keras`. The files in
//! `tests/goldens/keras_models.zip` are good seeds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = gatefold::formats::keras::from_bytes("fuzz", bytes);
});

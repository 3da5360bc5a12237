//! Any bytes are the network of an amplifier or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = gatefold::formats::amp::from_bytes("fuzz", bytes);
});

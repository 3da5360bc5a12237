//! Any bytes are a network or an error. The networks in `tests/goldens` are good seeds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = gatefold::Network::from_bytes("fuzz", bytes);
});

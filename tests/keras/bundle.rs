//! The files in `tests/goldens/keras_models.zip`, and archives like it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::OnceLock;

use gatefold::Network;
use gatefold::formats::keras;
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveWriter};

use crate::support::in_repository;

pub type Files = BTreeMap<String, Vec<u8>>;

/// Every file of the bundle by name.
pub fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let path = in_repository("tests/goldens/keras_models.zip");
        unzip(&std::fs::read(path).unwrap())
    })
}

pub fn file(name: &str) -> &'static [u8] {
    files().get(name).unwrap_or_else(|| panic!("no {name} in the bundle"))
}

pub fn network(name: &str) -> Network {
    keras::from_bytes(name, file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn unzip(bytes: &[u8]) -> Files {
    let archive = ZipArchive::from_slice(bytes).unwrap();
    let mut files = Files::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().unwrap() {
        let name = String::from_utf8(entry.file_path().as_bytes().to_vec()).unwrap();
        let data = archive.get_entry(entry.wayfinder()).unwrap();
        let mut content = Vec::new();
        match entry.compression_method() {
            CompressionMethod::STORE => content.extend_from_slice(data.data()),
            _ => drop(flate2::bufread::DeflateDecoder::new(data.data()).read_to_end(&mut content).unwrap()),
        }
        files.insert(name, content);
    }
    files
}

/// A deflated archive.
pub fn zip(files: &Files) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, content) in files {
        let (mut entry, config) =
            archive.new_file(name).compression_method(CompressionMethod::DEFLATE).start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
        let mut writer = config.wrap(encoder);
        writer.write_all(content).unwrap();
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// `stacked.keras` or another with its configuration changed.
pub fn reconfigured(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut entries = unzip(file(name));
    let mut config: serde_json::Value = serde_json::from_slice(&entries["config.json"]).unwrap();
    change(&mut config);
    entries.insert("config.json".into(), serde_json::to_vec(&config).unwrap());
    zip(&entries)
}

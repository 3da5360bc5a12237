//! Bundles of goldens, and the devices they are run on.
#![allow(dead_code, reason = "every test binary uses a part of it")]

#[cfg(feature = "gpu")]
mod device;
mod repository;
pub mod selection;

use std::collections::BTreeMap;
use std::io::Read as _;

use gatefold::compare::{Tolerance, compare};
use gatefold::{Device, DeviceChoice};
use rawzip::{CompressionMethod, ZipArchive};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

pub use repository::in_repository;

/// Contents by file name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Every file of a bundle in `tests/goldens`.
pub fn bundle(name: &str) -> Files {
    let path = in_repository("tests/goldens").join(name);
    unzip(&std::fs::read(path).unwrap())
}

/// Every file of a zip archive.
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

/// What a golden file holds.
pub struct Golden<'a>(SafeTensors<'a>);

impl<'a> Golden<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(SafeTensors::deserialize(bytes).unwrap())
    }

    fn view(&self, name: &str) -> Option<TensorView<'_>> {
        self.0.tensor(name).ok()
    }

    /// Floats and their shape.
    pub fn numbers(&self, name: &str) -> Option<(Vec<f32>, Vec<usize>)> {
        let view = self.view(name).filter(|view| view.dtype() == Dtype::F32)?;
        let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Some((numbers, view.shape().to_vec()))
    }

    /// Whole numbers and their shape.
    pub fn ids(&self, name: &str) -> Option<(Vec<u32>, Vec<usize>)> {
        let view = self.view(name).filter(|view| view.dtype() == Dtype::I32)?;
        let ids = view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        Some((ids, view.shape().to_vec()))
    }
}

/// The message if `got` differs from `expected` after `steps`.
pub fn miss(what: &str, got: &[f32], expected: &[f32], steps: usize) -> Option<String> {
    let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
    let comparison = compare(got, &expected, Tolerance::f32(steps));
    (!comparison.passed).then(|| format!("{what}: {comparison:?}"))
}

/// `[a, b, c]` row-major as `[b, a, c]`.
pub fn swapped(values: &[f32], [a, b, c]: [usize; 3]) -> Vec<f32> {
    (0..b).flat_map(|j| (0..a).flat_map(move |i| &values[(i * b + j) * c..][..c])).copied().collect()
}

/// How gatefold treats a changed model of which a framework makes something else, or nothing.
pub enum Outcome {
    Agrees,
    Refused,
    Fault(String),
}

/// Outcomes counted, faults with their names.
#[derive(Default)]
pub struct Tally {
    agreed: u32,
    all: u32,
    faults: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, name: &str, outcome: Outcome) {
        self.all += 1;
        match outcome {
            Outcome::Agrees => self.agreed += 1,
            Outcome::Refused => {}
            Outcome::Fault(fault) => self.faults.push(format!("{name}: {fault}")),
        }
    }

    /// No fault, and at least so many answered: a reader that refuses everything proves nothing.
    pub fn assert_right(&self, least: u32) {
        let Self { agreed, all, faults } = self;
        assert!(faults.is_empty(), "{} of {all}, {agreed} agreed:\n{}", faults.len(), faults.join("\n"));
        assert!(*agreed >= least, "{agreed} of {all} were answered");
    }
}

/// Whether answers are so far apart that a comparison within `tolerance` must see it, whatever is added to either.
pub fn far_apart(a: &[f32], b: &[f32], tolerance: Tolerance) -> bool {
    let wide = Tolerance { atol: 10.0 * tolerance.atol, rtol: 10.0 * tolerance.rtol };
    let b: Vec<f64> = b.iter().map(|&x| x.into()).collect();
    !compare(a, &b, wide).passed
}

pub fn cpu() -> Device {
    Device::open(&DeviceChoice::Cpu).unwrap()
}

/// The device under test; the test fails without it.
#[cfg(feature = "gpu")]
pub fn device_under_test() -> Device {
    device::opened(Device::open(&device::choice()))
}

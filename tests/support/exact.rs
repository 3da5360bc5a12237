//! Goldens in f64: flat arrays of numbers, and what the metadata say of each case. Unit tests of `src/` read them too.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde::de::DeserializeOwned;

pub struct ExactGolden {
    file: SafeTensors<'static>,
    cases: BTreeMap<String, String>,
}

impl ExactGolden {
    pub fn new(bytes: &'static [u8]) -> Self {
        let file = SafeTensors::deserialize(bytes).expect("a golden");
        let (_, metadata) = SafeTensors::read_metadata(bytes).expect("a golden");
        Self { file, cases: metadata.metadata().clone().unwrap_or_default().into_iter().collect() }
    }

    /// What the metadata say of each case, as JSON.
    pub fn cases<T: DeserializeOwned>(&self) -> BTreeMap<String, T> {
        let case = |(name, text): (&String, &String)| {
            (name.clone(), serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        self.cases.iter().map(case).collect()
    }

    fn bytes<const N: usize, T>(&self, name: &str, number: fn([u8; N]) -> T) -> Vec<T> {
        let tensor = self.file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        tensor.data().chunks_exact(N).map(|bytes| number(bytes.try_into().expect("a number"))).collect()
    }

    pub fn doubles(&self, name: &str) -> Vec<f64> {
        self.bytes(name, f64::from_le_bytes)
    }

    pub fn singles(&self, name: &str) -> Vec<f32> {
        self.bytes(name, f32::from_le_bytes)
    }
}

/// The largest error as a share of the largest finite number of `golden`; infinite where a number is none.
pub fn error(got: &[f64], golden: &[f64]) -> f64 {
    assert_eq!(got.len(), golden.len());
    let finite = golden.iter().filter(|x| x.is_finite());
    let largest = finite.fold(1e-30f64, |most, x| most.max(x.abs()));
    let errors = got.iter().zip(golden).map(|(x, y)| if x == y { 0.0 } else { (x - y).abs() / largest });
    errors.fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
}

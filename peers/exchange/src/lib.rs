//! Code that the Rust peers share: it reads the case folder and prints one line of JSON.
//!
//! A peer is called `peer CASE BUDGET_MS TOLERANCE`. It runs once, compares, and only where the output is
//! right within TOLERANCE (absolute, on outputs within ±1) runs again to warm up and then for BUDGET_MS.
//! The protocol is described in `peers/README.md`.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;

/// Any error, with its text.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One array of a file.
pub struct Array {
    /// Its sizes.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub data: Vec<f32>,
}

/// A recurrence with PyTorch's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Gates i, f, g, o.
    Lstm,
    /// Gates r, z, n; the reset after the product.
    Gru,
    /// tanh.
    Rnn,
}

/// A case folder, as `prepare.py` writes it, and how long to time it.
pub struct Case {
    /// The folder.
    pub folder: PathBuf,
    /// The weights under PyTorch's names.
    pub weights: BTreeMap<String, Array>,
    /// [T, B, I]; of training tokens [T, B]
    pub input: Array,
    /// [B]: of training, the class of each row.
    pub labels: Option<Array>,
    /// [T, B, DH], D directions; of training the losses of the first steps.
    pub expected: Array,
    budget: Duration,
    tolerance: f32,
}

fn arrays(path: &Path) -> Result<BTreeMap<String, Array>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let read = |view: &safetensors::tensor::TensorView<'_>| {
        view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    Ok(file
        .iter()
        .map(|(name, view)| (name.to_string(), Array { shape: view.shape().to_vec(), data: read(&view) }))
        .collect())
}

/// How weights are stored, as `PEER_PRECISION` says: f32, f16 or int8.
pub fn precision() -> String {
    std::env::var("PEER_PRECISION").unwrap_or_else(|_| "f32".into())
}

/// Threads to use, as `PEER_THREADS` says; `None`: the engine's own choice.
pub fn threads() -> Result<Option<NonZeroUsize>> {
    std::env::var("PEER_THREADS").ok().map(|threads| Ok(threads.parse()?)).transpose()
}

/// The CPU and `threads` of it, as a device's name.
pub fn cpu(threads: Option<NonZeroUsize>) -> String {
    match threads.map(NonZeroUsize::get) {
        None => "CPU, all threads".into(),
        Some(1) => "CPU, 1 thread".into(),
        Some(threads) => format!("CPU, {threads} threads"),
    }
}

impl Case {
    /// The case that the command line names.
    pub fn from_arguments() -> Result<Self> {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let [folder, budget, tolerance] = arguments.as_slice() else {
            return Err("expected CASE BUDGET_MS TOLERANCE".into());
        };
        let folder = PathBuf::from(folder);
        let weights = arrays(&folder.join("weights.safetensors"))?;
        let mut data = arrays(&folder.join("data.safetensors"))?;
        let mut take = |name: &str| data.remove(name).ok_or_else(|| format!("no {name} in data.safetensors"));
        // The expected output is that of the rounded weights, so that only an engine's arithmetic is checked.
        let expected = match precision().as_str() {
            "f32" => "expected".to_string(),
            rounded => format!("expected_{rounded}"),
        };
        Ok(Self {
            input: take("input")?,
            labels: take("labels").ok(),
            expected: take(&expected)?,
            weights,
            budget: Duration::from_millis(budget.parse()?),
            tolerance: tolerance.parse()?,
            folder,
        })
    }

    /// The input's sizes: T, B, I
    pub fn sizes(&self) -> [usize; 3] {
        [self.input.shape[0], self.input.shape[1], self.input.shape[2]]
    }

    /// H
    pub fn hidden(&self) -> usize {
        self.weight("weight_hh_l0").shape[1]
    }

    /// The recurrence, told by the rows of its gates.
    pub fn cell(&self) -> Result<Cell> {
        match self.weight("weight_hh_l0").shape[0] / self.hidden() {
            4 => Ok(Cell::Lstm),
            3 => Ok(Cell::Gru),
            1 => Ok(Cell::Rnn),
            gates => Err(format!("expected 4, 3 or 1 gates, got {gates}").into()),
        }
    }

    /// Whether there is a second direction.
    pub fn bidirectional(&self) -> bool {
        self.weights.contains_key("weight_hh_l0_reverse")
    }

    /// Layers, one above the other.
    pub fn layers(&self) -> usize {
        self.weights.len() / if self.bidirectional() { 8 } else { 4 }
    }

    /// One weight; the case has it.
    pub fn weight(&self, name: &str) -> &Array {
        &self.weights[name]
    }

    /// As [`Case::measure`], of training: `step` makes a step and gives its loss; a sample is as many as have an expected one.
    pub fn measure_steps(&self, version: &str, device: &str, mut step: impl FnMut() -> Result<f32>) -> Result<()> {
        let steps = self.expected.data.len();
        self.measure(version, device, |losses| {
            *losses = (0..steps).map(|_| step()).collect::<Result<_>>()?;
            Ok(())
        })
    }

    /// Checks `run`'s output `[T, B, DH]`, times it, and prints the result's line. `run` may use the memory of
    /// the output that it is handed.
    pub fn measure(&self, version: &str, device: &str, mut run: impl FnMut(&mut Vec<f32>) -> Result<()>) -> Result<()> {
        let mut output = Vec::new();
        let start = Instant::now();
        run(&mut output)?;
        let first = microseconds(start);
        if output.len() != self.expected.data.len() {
            return Err(format!("expected {} numbers, got {}", self.expected.data.len(), output.len()).into());
        }
        // NaN must not vanish: f32::max would drop it.
        let error = output
            .iter()
            .zip(&self.expected.data)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0f32, |worst, error| if error > worst || error.is_nan() { error } else { worst });
        let mut times = Vec::new();
        if error <= self.tolerance {
            for _ in 0..2 {
                run(&mut output)?;
            }
            let start = Instant::now();
            while times.len() < 3 || (start.elapsed() < self.budget && times.len() < MOST_SAMPLES) {
                let start = Instant::now();
                run(&mut output)?;
                times.push(microseconds(start));
            }
        }
        let error = if error.is_finite() { serde_json::json!(error) } else { serde_json::json!(error.to_string()) };
        println!(
            "{}",
            serde_json::json!({"version": version, "device": device, "max_error": error, "first_us": first, "times_us": times})
        );
        Ok(())
    }
}

/// What is kept of one call at most.
const MOST_SAMPLES: usize = 20_000;

fn microseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

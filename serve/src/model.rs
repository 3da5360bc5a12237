//! A model that is served: its network on the device, its streams, and what it says of itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use gatefold::network::{Axis, InputKind, letters};
use gatefold::streams::{Histogram, StreamQueue};
use gatefold::{Classifier, Device, Network, PoolOptions, Session, StreamPool};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::sequences::Sequences;
use crate::{Limits, Model};

/// The only version of every model.
pub const VERSION: &str = "1";
/// Inputs that every model has beside its own.
pub const LENGTHS: &str = "lengths";
pub const MASK: &str = "mask";
pub const TEXT: &str = "text";
pub const SEQUENCE_ID: &str = "sequence_id";
pub const SEQUENCE_START: &str = "sequence_start";
pub const SEQUENCE_END: &str = "sequence_end";
/// The output of the last layer.
pub const OUTPUT: &str = "output";

/// A model as the server has it.
#[derive(Debug)]
pub struct Loaded {
    pub name: String,
    pub session: Arc<Session>,
    /// What reads texts, where the model has a vocabulary and labels.
    pub classifier: Option<Classifier>,
    /// Its streams, or why it has none.
    pub streams: std::result::Result<Streams, String>,
    /// Seconds that inference requests took.
    pub latency: Mutex<Histogram>,
    path: Option<PathBuf>,
    /// Size and time of the file when it was loaded.
    stamp: Option<(u64, SystemTime)>,
    loaded: SystemTime,
}

/// The streams of a model.
#[derive(Debug)]
pub struct Streams {
    pub queue: StreamQueue,
    pub sequences: Sequences,
}

impl Loaded {
    pub fn new(device: &Device, model: Model, limits: &Limits) -> gatefold::Result<Self> {
        let session = Arc::new(Session::new(device, &model.network)?);
        let network = session.network();
        let labels = &network.spec().labels;
        let classifier = match (&network.spec().text, labels.is_empty()) {
            (Some(_), false) => Some(Classifier::from_session(session.clone(), labels)?),
            _ => None,
        };
        let streams = if network.inputs().len() > 1 {
            Err("a network of several inputs".to_owned())
        } else {
            let capacity = limits.sequences.clamp(1, 256);
            match StreamPool::with_options(session.clone(), PoolOptions { capacity, ..PoolOptions::default() }) {
                Ok(pool) => {
                    let pool = Arc::new(pool);
                    let sequences = Sequences::new(pool.clone(), limits.sequences, limits.idle);
                    Ok(Streams { queue: StreamQueue::new(pool, limits.queue)?, sequences })
                }
                Err(gatefold::Error::Unsupported { place, what }) => Err(format!("{place}: {what}")),
                Err(error) => return Err(error),
            }
        };
        let stamp = model.path.as_deref().and_then(stamp);
        let latency = Mutex::new(Histogram::new(Histogram::SECONDS));
        let (name, path, loaded) = (model.name, model.path, SystemTime::now());
        Ok(Self { name, session, classifier, streams, latency, path, stamp, loaded })
    }

    pub fn network(&self) -> &Network {
        self.session.network()
    }

    /// Its streams; an error says why it has none.
    pub fn streams(&self) -> Result<&Streams> {
        let refused = |why: &String| {
            Failure::bad(format!("model `{}`: expected one whose streams can be kept, got {why}", self.name))
        };
        self.streams.as_ref().map_err(refused)
    }

    /// Whether it can answer: its device is not known to be lost.
    pub fn is_ready(&self) -> bool {
        !self.session.counters().device_lost
    }

    /// As a text.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.network().fingerprint())
    }

    /// Unix time at which it was loaded, in seconds.
    pub fn loaded_at(&self) -> f64 {
        self.loaded.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }

    /// Whether the file is another than the one that was loaded. The loaded model stays until the server is started again.
    pub fn changed_on_disk(&self) -> bool {
        self.path.as_deref().is_some_and(|path| stamp(path) != self.stamp)
    }

    /// The names of the outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.network().outputs().iter().map(|output| output.name.as_str()).chain([OUTPUT])
    }

    /// What the protocol calls metadata.
    pub fn metadata(&self) -> Value {
        let network = self.network();
        let tensor = |name: &str, datatype: &str, axes: &[Axis], width: usize, optional: bool| {
            let shape: Vec<i64> = axes
                .iter()
                .map(|axis| if *axis == Axis::Feature { i64::try_from(width).unwrap_or(i64::MAX) } else { -1 })
                .collect();
            json!({ "name": name, "datatype": datatype, "shape": shape,
                "parameters": { "axes": letters(axes), "optional": optional } })
        };
        let of = |(number, input): (usize, &gatefold::network::NetworkInput)| {
            let datatype = if input.kind == InputKind::Tokens { "INT64" } else { "FP32" };
            tensor(&input.name, datatype, network.axes_of_input(number), input.width, false)
        };
        let mut inputs: Vec<Value> = network.inputs().iter().enumerate().map(of).collect();
        let steps: Vec<Axis> = network.input_axes().iter().copied().filter(|axis| *axis != Axis::Feature).collect();
        let rows = [Axis::Batch];
        inputs.push(tensor(LENGTHS, "INT64", &rows, 1, true));
        inputs.push(tensor(MASK, "BOOL", &steps, 1, true));
        if self.classifier.is_some() {
            inputs.push(tensor(TEXT, "BYTES", &rows, 1, true));
        }
        if self.streams.is_ok() {
            inputs.push(tensor(SEQUENCE_ID, "BYTES", &rows, 1, true));
            inputs.push(tensor(SEQUENCE_START, "BOOL", &rows, 1, true));
            inputs.push(tensor(SEQUENCE_END, "BOOL", &rows, 1, true));
        }
        let mut outputs = vec![tensor(OUTPUT, "FP32", network.output_axes(), network.output_size(), false)];
        for output in network.outputs() {
            let (axes, width) = network.output_of(output);
            outputs.push(tensor(&output.name, "FP32", axes, width, false));
        }
        json!({
            "name": self.name, "versions": [VERSION], "platform": "gatefold", "inputs": inputs, "outputs": outputs,
            "parameters": {
                "fingerprint": self.fingerprint(),
                "device": self.session.device().info().to_string(),
                "loaded_at": self.loaded_at(),
                "changed_on_disk": self.changed_on_disk(),
                "labels": network.spec().labels,
                "sequences": self.streams.as_ref().map_or_else(|why| format!("none: {why}"), |_| "kept".to_owned()),
            },
        })
    }
}

fn stamp(path: &std::path::Path) -> Option<(u64, SystemTime)> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.len(), facts.modified().ok()?))
}

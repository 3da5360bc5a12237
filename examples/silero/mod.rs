//! Silero VAD v6, 16 kHz: the probability of speech in every 32 ms of a recording.
//!
//! Two networks compute it. The front end reads each chunk by itself, so that chunks are batch
//! rows; the recurrent network then reads the resulting features as one sequence.

use std::collections::BTreeMap;
use std::path::Path;

use gatefold::network::{
    Activation, ActivationSpec, Conv1dSpec, DenseSpec, FORMAT, LayerSpec, Padding, RecurrentSpec, SelectSpec,
    SelectStep, expected_tensors,
};
use gatefold::{Device, Error, Input, Network, NetworkSpec, Result, Session, Tensor};
use safetensors::{Dtype, SafeTensors};

/// Samples of a chunk.
pub const CHUNK: usize = 512;
/// Samples before a chunk that it is read with.
const CONTEXT: usize = 64;
/// Samples behind a chunk, its own mirrored.
const MIRRORED: usize = 64;
const WINDOW: usize = CONTEXT + CHUNK + MIRRORED;
/// Frequencies of the transform, each a real and an imaginary channel.
const BINS: usize = 129;
const HIDDEN: usize = 128;
/// Chunks that go through the networks at once, which bounds the memory.
const PORTION: usize = 256;

/// The two networks.
pub struct Silero {
    /// Chunks `[640, B, 1]` to features `[B, 128]`.
    pub front: Network,
    /// Features `[T, B, 128]` to probabilities `[T, B, 1]`.
    pub recurrent: Network,
}

impl Silero {
    /// Reads the published weights, `silero_vad_16k.safetensors`.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let malformed = |got: String| Error::Malformed {
            what: path.display().to_string(),
            expected: "Silero's weights as safetensors".into(),
            got,
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(malformed(format!("`{name}` of {:?}", view.dtype())));
            }
            let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            // A Cell has one level, which gatefold counts.
            let name = if name.starts_with("lstm_cell.") { format!("{name}_l0") } else { name.to_owned() };
            tensors.insert(name, Tensor::new(view.shape().to_vec(), numbers)?);
        }
        tensors.insert("pairs.weight".into(), pairs()?);
        Ok(Self { front: network(front(), &tensors)?, recurrent: network(recurrent(), &tensors)? })
    }

    /// The probability of speech in every chunk; the last one is filled up with zeros.
    pub fn probabilities(&self, device: &Device, samples: &[f32]) -> Result<Vec<f32>> {
        let (front, recurrent) = (Session::new(device, &self.front)?, Session::new(device, &self.recurrent)?);
        let (mut state, mut probabilities) = (None, Vec::new());
        let chunks = samples.len().div_ceil(CHUNK);
        for first in (0..chunks).step_by(PORTION) {
            let rows = PORTION.min(chunks - first);
            let features = front.run(Input::features(&windows(samples, first, rows), [WINDOW, rows, 1]), None)?;
            let output = recurrent.run(Input::features(&features.values, [rows, 1, HIDDEN]), state.as_ref())?;
            probabilities.extend(output.values);
            state = Some(output.state);
        }
        Ok(probabilities)
    }
}

/// The probability of speech in every chunk, by a network as Silero publishes it in ONNX: it reads a chunk with the samples
/// before it, and its state goes from chunk to chunk. The last chunk is filled up with zeros.
pub fn chunk_by_chunk(network: &Network, device: &Device, samples: &[f32]) -> Result<Vec<f32>> {
    let session = Session::new(device, network)?;
    let mut padded = vec![0.0; CONTEXT];
    padded.extend(samples);
    padded.resize(CONTEXT + samples.len().next_multiple_of(CHUNK), 0.0);
    let (mut state, mut probabilities) = (None, Vec::new());
    for start in (0..padded.len() - CONTEXT).step_by(CHUNK) {
        let chunk = &padded[start..start + CONTEXT + CHUNK];
        let output = session.run(Input::features(chunk, [1, chunk.len(), 1]), state.as_ref())?;
        probabilities.extend(output.values);
        state = Some(output.state);
    }
    Ok(probabilities)
}

/// The windows of `rows` chunks, time-major: `[640, rows, 1]`.
fn windows(samples: &[f32], first: usize, rows: usize) -> Vec<f32> {
    let mut windows = Vec::with_capacity(WINDOW * rows);
    for step in 0..WINDOW {
        // The padding is mirrored at the last sample, which is not repeated.
        let step = step.min(2 * (CONTEXT + CHUNK - 1) - step);
        for row in first..first + rows {
            let sample = (row * CHUNK + step).checked_sub(CONTEXT).and_then(|at| samples.get(at));
            windows.push(sample.copied().unwrap_or(0.0));
        }
    }
    windows
}

fn front() -> Vec<LayerSpec> {
    let conv = |name: &str, [inputs, outputs]: [usize; 2], stride: usize| {
        LayerSpec::Conv1d(Conv1dSpec {
            stride,
            padding: Padding::Zeros { left: 1, right: 1 },
            activation: Activation::Relu,
            ..conv1d(name, [inputs, outputs], 3)
        })
    };
    let elementwise = |name: &str, activation| LayerSpec::Activation(ActivationSpec { name: name.into(), activation });
    vec![
        LayerSpec::Conv1d(Conv1dSpec { stride: 128, bias: false, ..conv1d("stft_conv", [1, 2 * BINS], 256) }),
        elementwise("square", Activation::Square),
        LayerSpec::Dense(DenseSpec {
            name: "pairs".into(),
            in_features: 2 * BINS,
            out_features: BINS,
            bias: false,
            activation: Activation::Linear,
        }),
        elementwise("magnitude", Activation::Sqrt),
        conv("conv1", [BINS, 128], 1),
        conv("conv2", [128, 64], 2),
        conv("conv3", [64, 64], 2),
        conv("conv4", [64, HIDDEN], 1),
        LayerSpec::Select(SelectSpec { name: "last".into(), step: SelectStep::Last }),
    ]
}

fn recurrent() -> Vec<LayerSpec> {
    vec![
        LayerSpec::Lstm(RecurrentSpec::new("lstm_cell", HIDDEN, HIDDEN)),
        LayerSpec::Activation(ActivationSpec { name: "relu".into(), activation: Activation::Relu }),
        LayerSpec::Conv1d(Conv1dSpec { activation: Activation::Sigmoid, ..conv1d("final_conv", [HIDDEN, 1], 1) }),
    ]
}

fn conv1d(name: &str, [in_channels, out_channels]: [usize; 2], kernel_size: usize) -> Conv1dSpec {
    Conv1dSpec {
        name: name.into(),
        in_channels,
        out_channels,
        kernel_size,
        stride: 1,
        padding: Padding::default(),
        dilation: 1,
        groups: 1,
        bias: true,
        activation: Activation::Linear,
    }
}

/// `[129, 258]`, which adds re² and im² of each frequency.
fn pairs() -> Result<Tensor> {
    let numbers = (0..BINS * 2 * BINS).map(|at| if at % (2 * BINS) % BINS == at / (2 * BINS) { 1.0 } else { 0.0 });
    Tensor::new(vec![BINS, 2 * BINS], numbers.collect())
}

/// The network of `layers`, whose tensors are among `tensors`.
fn network(layers: Vec<LayerSpec>, tensors: &BTreeMap<String, Tensor>) -> Result<Network> {
    let spec = NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
    let own = expected_tensors(&spec).into_iter().filter_map(|(name, _)| tensors.get_key_value(&name));
    let own = own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    Network::new(spec, own)
}

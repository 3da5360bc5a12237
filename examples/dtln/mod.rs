//! DTLN, noise suppression in real time (Westhausen & Meyer, Interspeech 2020).
//!
//! A frame of 512 samples moves on by 128. Core 1 makes a mask for the magnitudes of its
//! spectrum; core 2 maps the samples that result to others, which are overlapped and
//! added. Both cores carry their state from frame to frame.

use std::path::Path;
use std::sync::Arc;

use gatefold::formats::keras;
use gatefold::network::{
    Activation, Conv1dSpec, DenseSpec, FORMAT, Join, JoinSpec, LayerSpec, NormSpec, Padding, RecurrentSpec,
};
use gatefold::{Device, Error, Input, Network, NetworkSpec, Result, Session, State};
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Samples of a frame.
pub const FRAME: usize = 512;
/// Samples between two frames.
pub const SHIFT: usize = 128;
/// Frequencies of a frame.
const BINS: usize = FRAME / 2 + 1;
const HIDDEN: usize = 128;
/// Width of what core 2 computes with.
const ENCODED: usize = 256;

/// Reads both cores: from Keras' `model.h5`, or from a folder with `model_1.onnx` and `model_2.onnx`.
pub fn cores(path: &Path) -> Result<[Network; 2]> {
    let cores = if path.is_dir() {
        [Network::load(path.join("model_1.onnx"))?, Network::load(path.join("model_2.onnx"))?]
    } else {
        [weights(path, first())?, weights(path, second())?]
    };
    for (core, width) in cores.iter().zip([BINS, FRAME]) {
        if (core.input_size(), core.output_size()) != (width, width) {
            return Err(Error::Malformed {
                what: path.display().to_string(),
                expected: format!("a core from {width} to {width}"),
                got: format!("one from {} to {}", core.input_size(), core.output_size()),
            });
        }
    }
    Ok(cores)
}

fn weights(path: &Path, layers: Vec<LayerSpec>) -> Result<Network> {
    keras::load_weights(path, NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() })
}

fn first() -> Vec<LayerSpec> {
    vec![lstm("lstm", BINS), lstm("lstm_1", HIDDEN), mask("dense", BINS)]
}

fn second() -> Vec<LayerSpec> {
    let norm =
        NormSpec { name: "layer_normalization".into(), num_features: ENCODED, eps: 1e-7, weight: true, bias: true };
    let inputs = ["conv1d", "dense_1"].map(Into::into).to_vec();
    vec![
        pointwise("conv1d", FRAME, ENCODED),
        LayerSpec::LayerNorm(norm),
        lstm("lstm_2", ENCODED),
        lstm("lstm_3", HIDDEN),
        mask("dense_1", ENCODED),
        LayerSpec::Join(JoinSpec { name: "masked".into(), inputs, join: Join::Mul }),
        pointwise("conv1d_1", ENCODED, FRAME),
    ]
}

fn lstm(name: &str, inputs: usize) -> LayerSpec {
    LayerSpec::Lstm(RecurrentSpec::new(name, inputs, HIDDEN))
}

fn mask(name: &str, out_features: usize) -> LayerSpec {
    let (bias, activation) = (true, Activation::Sigmoid);
    LayerSpec::Dense(DenseSpec { name: name.into(), in_features: HIDDEN, out_features, bias, activation })
}

fn pointwise(name: &str, in_channels: usize, out_channels: usize) -> LayerSpec {
    LayerSpec::Conv1d(Conv1dSpec {
        name: name.into(),
        in_channels,
        out_channels,
        kernel_size: 1,
        stride: 1,
        padding: Padding::default(),
        dilation: 1,
        groups: 1,
        bias: false,
        activation: Activation::Linear,
    })
}

/// One recording or microphone.
pub struct Stream {
    sessions: [Session; 2],
    states: [Option<State>; 2],
    /// The last input samples.
    recent: Vec<f32>,
    /// The output samples to which later frames are added.
    spoken: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl Stream {
    pub fn new(device: &Device, [first, second]: &[Network; 2]) -> Result<Self> {
        let mut planner = RealFftPlanner::new();
        Ok(Self {
            sessions: [Session::new(device, first)?, Session::new(device, second)?],
            states: [None, None],
            recent: vec![0.0; FRAME],
            spoken: vec![0.0; FRAME],
            forward: planner.plan_fft_forward(FRAME),
            inverse: planner.plan_fft_inverse(FRAME),
        })
    }

    /// The next samples without their noise, 384 samples late; as many as given, in whole blocks
    /// of [`SHIFT`].
    ///
    /// Neither core reads the output, so any number of consecutive frames can be computed
    /// in a single run of each core. The numbers are the same as frame by frame.
    pub fn denoise(&mut self, samples: &[f32]) -> Result<Vec<f32>> {
        let (mut magnitudes, mut spectra) = (Vec::new(), Vec::new());
        for block in samples.chunks_exact(SHIFT) {
            self.recent.drain(..SHIFT);
            self.recent.extend_from_slice(block);
            let spectrum = self.spectrum()?;
            magnitudes.extend(spectrum.iter().map(|bin| bin.norm()));
            spectra.push(spectrum);
        }
        let masks = self.run(0, &magnitudes)?;
        let mut frames = Vec::new();
        for (spectrum, mask) in spectra.iter_mut().zip(masks.chunks_exact(BINS)) {
            spectrum.iter_mut().zip(mask).for_each(|(bin, &mask)| *bin *= mask);
            frames.extend(self.samples(spectrum)?);
        }
        let frames = self.run(1, &frames)?;
        let mut output = Vec::with_capacity(samples.len());
        for frame in frames.chunks_exact(FRAME) {
            self.spoken.drain(..SHIFT);
            self.spoken.resize(FRAME, 0.0);
            self.spoken.iter_mut().zip(frame).for_each(|(sum, x)| *sum += x);
            output.extend_from_slice(&self.spoken[..SHIFT]);
        }
        Ok(output)
    }

    /// Frames in a row through core `core`, its state carried on.
    fn run(&mut self, core: usize, frames: &[f32]) -> Result<Vec<f32>> {
        let session = &self.sessions[core];
        let width = session.network().input_size();
        let steps = frames.len() / width;
        if steps == 0 {
            return Ok(Vec::new());
        }
        let shape = if session.network().batch_first() { [1, steps, width] } else { [steps, 1, width] };
        let output = session.run(Input::features(frames, shape), self.states[core].as_ref())?;
        self.states[core] = Some(output.state);
        Ok(output.values)
    }

    fn spectrum(&self) -> Result<Vec<Complex<f32>>> {
        let mut spectrum = self.forward.make_output_vec();
        self.forward.process(&mut self.recent.clone(), &mut spectrum).map_err(|error| transform(&error))?;
        Ok(spectrum)
    }

    fn samples(&self, spectrum: &mut [Complex<f32>]) -> Result<Vec<f32>> {
        // Of a real signal these two are real; a mask keeps them so up to the sign of zero.
        spectrum[0].im = 0.0;
        spectrum[BINS - 1].im = 0.0;
        let mut samples = self.inverse.make_output_vec();
        self.inverse.process(spectrum, &mut samples).map_err(|error| transform(&error))?;
        #[expect(clippy::cast_precision_loss, reason = "512 is exact")]
        samples.iter_mut().for_each(|x| *x /= FRAME as f32);
        Ok(samples)
    }
}

fn transform(error: &dyn std::fmt::Display) -> Error {
    Error::Malformed { what: "Fourier transform".into(), expected: "512 samples".into(), got: error.to_string() }
}

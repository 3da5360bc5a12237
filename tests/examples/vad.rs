//! Silero VAD over its test recording, against PyTorch in f64 (`goldens/generate_silero.py`).

use std::collections::BTreeMap;

use gatefold::network::{InputSpec, LayerSpec, PadMode, PadSpec, ReshapeSpec, SelectSpec, SelectStep};
use gatefold::{Device, Network, NetworkSpec, Tensor};

use crate::data;
use crate::silero::{CHUNK, Silero, chunk_by_chunk};
use crate::support::read_wav;

const GOLDEN: &[u8] = include_bytes!("../goldens/silero_vad.golden.f32");
const TOLERANCE: f32 = 1e-5;

/// Largest difference from the golden on `device` after `nudge`; `None` without the data.
pub fn difference(device: &Device, nudge: impl Fn(&mut Silero)) -> Option<f32> {
    let (samples, _) = read_wav(&data("silero-vad/test.wav")?).unwrap();
    let mut model = Silero::load(&data("silero-vad/silero_vad_16k.safetensors")?).unwrap();
    nudge(&mut model);
    let probabilities = model.probabilities(device, &samples).unwrap();
    let golden: Vec<f32> = GOLDEN.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(probabilities.len(), golden.len());
    assert!(probabilities.iter().all(|x| x.is_finite()));
    Some(probabilities.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

/// Every probability of the recording is PyTorch's.
pub fn every_chunk_agrees(device: &Device) {
    let Some(worst) = difference(device, |_| {}) else { return };
    eprintln!("worst of 1875 chunks: {worst:.1e}");
    assert!(worst <= TOLERANCE, "{worst:e}");
}

fn nudged(network: &Network, name: &str) -> Network {
    let mut tensors: BTreeMap<String, Tensor> = network.tensors().clone();
    let tensor = &tensors[name];
    let mut numbers = tensor.data().to_vec();
    numbers[0] += 0.01;
    let tensor = Tensor::new(tensor.shape().to_vec(), numbers).unwrap();
    tensors.insert(name.into(), tensor);
    Network::new(network.spec().clone(), tensors).unwrap()
}

#[test]
fn every_chunk_agrees_on_the_cpu() {
    every_chunk_agrees(&Device::cpu());
}

/// Both networks as one that reads a chunk, as the published ONNX files do.
fn joined(model: &Silero, mode: PadMode) -> Network {
    let mut layers = vec![LayerSpec::Pad(PadSpec { name: "mirrored".into(), left: 0, right: 64, mode })];
    layers.extend(model.front.spec().layers.iter().cloned());
    layers.push(LayerSpec::Reshape(ReshapeSpec { name: "step".into(), in_steps: None, out_steps: Some(1) }));
    layers.extend(model.recurrent.spec().layers.iter().cloned());
    layers.push(LayerSpec::Select(SelectSpec { name: "only".into(), step: SelectStep::Last }));
    layers.insert(0, LayerSpec::Input(InputSpec::sequence(1)));
    for layer in &mut layers {
        if let LayerSpec::Lstm(spec) = layer {
            spec.batch_first = true;
        }
    }
    let tensors = model.front.tensors().iter().chain(model.recurrent.tensors());
    let tensors = tensors.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    let spec = NetworkSpec { layers, ..model.front.spec().clone() };
    Network::new(spec, tensors).unwrap()
}

#[test]
fn chunk_by_chunk_agrees() {
    let Some(wav) = data("silero-vad/test.wav") else { return };
    let (samples, _) = read_wav(&wav).unwrap();
    let model = Silero::load(&data("silero-vad/silero_vad_16k.safetensors").unwrap()).unwrap();
    let samples = &samples[..200 * CHUNK - 7];
    let worst = |mode| {
        let got = chunk_by_chunk(&joined(&model, mode), &Device::cpu(), samples).unwrap();
        assert_eq!(got.len(), 200);
        // The last chunk was cut.
        let golden = GOLDEN.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        got[..199].iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(worst(PadMode::Reflect) <= TOLERANCE, "{:e}", worst(PadMode::Reflect));
    assert!(worst(PadMode::Zeros) > TOLERANCE);
}

#[test]
fn a_nudged_weight_is_noticed() {
    let nudges: [fn(&mut Silero); 2] = [
        |model| model.front = nudged(&model.front, "conv4.bias"),
        |model| model.recurrent = nudged(&model.recurrent, "lstm_cell.weight_hh_l0"),
    ];
    for nudge in nudges {
        let Some(worst) = difference(&Device::cpu(), nudge) else { return };
        assert!(worst > TOLERANCE, "{worst:e}");
    }
}

#[test]
fn another_models_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    std::fs::write(&path, include_bytes!("../goldens/lstm.safetensors")).unwrap();
    let error = Silero::load(&path).err().unwrap().to_string();
    assert!(error.contains("tensor `stft_conv.weight` [258, 1, 256] is missing"), "{error}");
    std::fs::write(&path, "no weights").unwrap();
    let error = Silero::load(&path).err().unwrap().to_string();
    assert!(error.contains("expected Silero's weights as safetensors"), "{error}");
}

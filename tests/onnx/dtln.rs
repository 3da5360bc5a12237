//! Published files: both cores of DTLN, 500 frames with their states, against ONNX Runtime
//! and against the same cores from Keras' file. `tests/goldens/generate_dtln.py` has the formulas.

use std::path::PathBuf;

use gatefold::formats::onnx;
use gatefold::{Device, Input, Network, Session, Tensor};

use crate::support::{Golden, cpu, in_repository};

/// Set where absent data must fail the run.
const REQUIRE_DATA: &str = "GATEFOLD_REQUIRE_DATA";
const FRAMES: usize = 500;

fn file(name: &str) -> Option<PathBuf> {
    let path = in_repository("../shared/data/dtln").join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os(REQUIRE_DATA).is_none(), "{REQUIRE_DATA} is set, but there is no {}", path.display());
    eprintln!("NOT RUN, no {}", path.display());
    None
}

fn core(number: u8) -> Option<Network> {
    Some(onnx::load(&file(&format!("model_{number}.onnx"))?).unwrap())
}

/// Frame `t` of core `number`.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what the formula says")]
fn frame(number: u8, t: usize, width: usize) -> Vec<f32> {
    let wave = |i: usize| (0.37 * i as f64 + 0.11 * t as f64 + f64::from(number)).sin();
    (0..width).map(|i| if number == 1 { wave(i).abs() } else { 0.5 * wave(i) } as f32).collect()
}

/// Every frame's answer, the frames given one by one with their states.
fn one_by_one(device: &Device, network: &Network, number: u8, frames: usize) -> Vec<Vec<f32>> {
    let session = Session::new(device, network).unwrap();
    let mut state = None;
    let answers = (0..frames).map(|t| {
        let x = frame(number, t, network.input_size());
        let output = session.run(Input::features(&x, [1, 1, x.len()]), state.as_ref()).unwrap();
        state = Some(output.state);
        output.values
    });
    answers.collect()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Largest difference from ONNX Runtime in the frames stored.
fn difference(answers: &[Vec<f32>], number: u8) -> f32 {
    let path = in_repository("tests/goldens/dtln.golden.st");
    let bytes = std::fs::read(path).unwrap();
    let golden = Golden::new(&bytes);
    let (frames, _) = golden.ids("frames").unwrap();
    let (expected, shape) = golden.numbers(&format!("core_{number}")).unwrap();
    let rows = expected.chunks_exact(shape[1]).zip(frames);
    rows.map(|(row, t)| worst(&answers[t as usize], row)).fold(0.0, f32::max)
}

fn agrees(device: &Device, frames_at_once: bool) {
    for number in [1, 2] {
        let Some(network) = core(number) else { return };
        let answers = one_by_one(device, &network, number, FRAMES);
        let worst_of_all = difference(&answers, number);
        assert!(worst_of_all < 1e-5, "core {number}: {worst_of_all}");
        if frames_at_once {
            // As one sequence: the batch has one row, so the order of T and B does not matter.
            let width = network.input_size();
            let all: Vec<f32> = (0..FRAMES).flat_map(|t| frame(number, t, width)).collect();
            let shape = if network.batch_first() { [1, FRAMES, width] } else { [FRAMES, 1, width] };
            let at_once = Session::new(device, &network).unwrap().run(Input::features(&all, shape), None).unwrap();
            assert!(worst(&at_once.values, &answers.concat()) < 1e-5, "core {number}");
        }
    }
}

#[test]
fn both_cores_agree_with_onnx_runtime() {
    agrees(&cpu(), true);
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    fn both_cores_agree_with_onnx_runtime() {
        let device = crate::support::device_under_test();
        super::agrees(&device, true);
    }
}

/// Negative control.
#[test]
fn a_nudge_is_seen() {
    let Some(network) = core(1) else { return };
    let name = format!("{}.weight_hh_l0", network.recurrent_layers().next().unwrap().1.name);
    let mut tensors = network.tensors().clone();
    let mut data = tensors[&name].data().to_vec();
    data[0] += 0.1;
    tensors.insert(name.clone(), Tensor::new(tensors[&name].shape().to_vec(), data).unwrap());
    let nudged = Network::new(network.spec().clone(), tensors).unwrap();
    assert!(difference(&one_by_one(&cpu(), &nudged, 1, FRAMES), 1) > 1e-5);
}

/// The same cores out of Keras' file give the same answers.
#[cfg(feature = "keras")]
#[test]
fn keras_and_onnx_agree() {
    use gatefold::formats::keras;
    use gatefold::network::{
        Activation, Conv1dSpec, DenseSpec, FORMAT, Join, JoinSpec, LayerSpec, NormSpec, Padding, RecurrentSpec,
    };
    let Some(path) = file("model.h5") else { return };
    let lstm = |name: &str, inputs| LayerSpec::Lstm(RecurrentSpec::new(name, inputs, 128));
    let mask = |name: &str, out_features| {
        let (bias, activation) = (true, Activation::Sigmoid);
        LayerSpec::Dense(DenseSpec { name: name.into(), in_features: 128, out_features, bias, activation })
    };
    let conv = |name: &str, in_channels, out_channels| {
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
    };
    let norm = NormSpec { name: "layer_normalization".into(), num_features: 256, eps: 1e-7, weight: true, bias: true };
    let inputs = ["conv1d", "dense_1"].map(Into::into).to_vec();
    let cores = [
        vec![lstm("lstm", 257), lstm("lstm_1", 128), mask("dense", 257)],
        vec![
            conv("conv1d", 512, 256),
            LayerSpec::LayerNorm(norm),
            lstm("lstm_2", 256),
            lstm("lstm_3", 128),
            mask("dense_1", 256),
            LayerSpec::Join(JoinSpec { name: "masked".into(), inputs, join: Join::Mul }),
            conv("conv1d_1", 256, 512),
        ],
    ];
    for (number, layers) in (1..).zip(cores) {
        let spec = gatefold::NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
        let network = keras::load_weights(&path, spec).unwrap();
        let answers = one_by_one(&cpu(), &network, number, FRAMES);
        assert!(difference(&answers, number) < 1e-5, "core {number}");
    }
}

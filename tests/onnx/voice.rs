//! Voice detectors (`tests/goldens/generate_onnx_voice.py`): a frame of samples to a probability, with a state from frame to frame.

use gatefold::formats::onnx::{self, OnnxOptions};
use gatefold::network::{Axis, LayerSpec, PadMode};
use gatefold::{Device, Input, Network, Session, State, Tensor};

use crate::support::{Files, Golden, bundle, cpu, miss};

/// How the exporters wrote it, and whether the sample rate is asked for.
const KINDS: [(&str, bool); 5] =
    [("two_rates", true), ("one_rate", false), ("rate_unused", false), ("apart", true), ("fixed", false)];

fn network(files: &Files, kind: &str, rate: Option<i64>) -> Network {
    let options = rate.iter().fold(OnnxOptions::default(), |options, &rate| options.integer("sr", rate));
    let bytes = &files[&format!("{kind}.onnx")];
    onnx::from_bytes_with(kind, bytes, &options).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// The difference between `network` and the golden of `kind` at a rate, in the outputs and states of all frames.
fn missed(device: &Device, files: &Files, kind: &str, rate: &str, network: &Network) -> Option<String> {
    let golden = Golden::new(&files[&format!("{kind}.golden.safetensors")]);
    let of = |what: &str| golden.numbers(&format!("{what}{rate}")).unwrap();
    let ((frames, shape), (outputs, _), (states, _)) = (of("input"), of("output"), of("state"));
    let &[count, rows, samples] = &shape[..] else { panic!("{shape:?}") };
    let session = Session::new(device, network).unwrap();
    // A changed network has no names of the file.
    let file = self::network(files, kind, None);
    let named = if network.file_axes().is_some() { network } else { &file };
    let (mut state, mut got, mut got_states) = (State::initial(network, rows).unwrap(), Vec::new(), Vec::new());
    for frame in frames.chunks_exact(rows * samples) {
        // `[B, N]` is `[B, T, 1]`.
        let output = session.run(Input::features(frame, [rows, samples, 1]), Some(&state)).unwrap();
        assert_eq!(output.shape, [rows, 1], "{kind}");
        got.extend(output.values);
        // By the file's own names.
        let [last] = &output.state.in_file_tensors(named)[..] else { panic!("{kind}: {:?}", named.file_axes()) };
        assert_eq!(last.name, "stateN", "{kind}");
        state = State::initial(network, rows).unwrap();
        state.set_from_file(named, "state", &last.shape, &last.values).unwrap();
        got_states.extend(&last.values);
    }
    assert_eq!(got.len(), count * rows);
    let label = format!("{kind}{rate}");
    miss(&label, &got, &outputs, 16).or(miss(&format!("{label} state"), &got_states, &states, 16))
}

fn all_agree(device: &Device) {
    let files = bundle("onnx_voice.zip");
    assert_eq!(files.keys().filter(|name| name.ends_with(".onnx")).count(), KINDS.len());
    let mut failures = Vec::new();
    for (kind, asks) in KINDS {
        failures.extend(missed(device, &files, kind, "", &network(&files, kind, None)));
        if asks {
            failures.extend(missed(device, &files, kind, "", &network(&files, kind, Some(16000))));
            failures.extend(missed(device, &files, kind, " 8000", &network(&files, kind, Some(8000))));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn agree_on_the_cpu() {
    all_agree(&cpu());
}

#[cfg(feature = "gpu")]
mod on_device {
    #[test]
    fn voices_agree() {
        let device = crate::support::device_under_test();
        super::all_agree(&device);
    }
}

/// Negative controls: another rate, padding with zeros and a changed weight are seen.
#[test]
fn changes_are_seen() {
    let (files, device) = (bundle("onnx_voice.zip"), cpu());
    let right = network(&files, "one_rate", None);
    assert_eq!(missed(&device, &files, "one_rate", "", &right), None);
    let reread = Network::from_bytes("again", &right.to_bytes().unwrap()).unwrap();
    assert_eq!(missed(&device, &files, "one_rate", "", &reread), None);
    let mut spec = right.spec().clone();
    let pad = spec.layers.iter_mut().find_map(|layer| if let LayerSpec::Pad(pad) = layer { Some(pad) } else { None });
    pad.unwrap().mode = PadMode::Zeros;
    let zeros = Network::new(spec, right.tensors().clone()).unwrap();
    // The first state is 0, so that this is seen from the second frame on.
    let (name, old) = right.tensors().iter().find(|(name, _)| name.ends_with("weight_hh_l0")).unwrap();
    let mut tensors = right.tensors().clone();
    let data = old.data().iter().map(|x| x + 0.05).collect();
    tensors.insert(name.clone(), Tensor::new(old.shape().to_vec(), data).unwrap());
    let nudged = Network::new(right.spec().clone(), tensors).unwrap();
    for wrong in [zeros, nudged] {
        assert!(missed(&device, &files, "one_rate", "", &wrong).is_some());
    }
    let other = network(&files, "apart", Some(8000));
    let swapped = missed(&device, &files, "two_rates", " 8000", &other);
    assert!(swapped.is_none(), "one network in two files: {swapped:?}");
}

#[test]
fn the_number_that_was_taken_is_stated() {
    let files = bundle("onnx_voice.zip");
    let fixed = |kind: &str, rate: Option<i64>| {
        let network = network(&files, kind, rate);
        let axes = network.file_axes().unwrap();
        axes.fixed.iter().map(|input| (input.name.clone(), input.value)).collect::<Vec<_>>()
    };
    for kind in ["two_rates", "apart"] {
        assert_eq!(fixed(kind, None), [("sr".to_owned(), 16000)]);
        assert_eq!(fixed(kind, Some(8000)), [("sr".to_owned(), 8000)]);
    }
    // It has no part in the answer.
    assert_eq!(fixed("rate_unused", None), []);
    assert_eq!(fixed("one_rate", None), []);
    let axes = network(&files, "two_rates", None).file_axes().unwrap().clone();
    assert_eq!(axes.input.axes, [Axis::Batch, Axis::Time]);
    assert_eq!(axes.output.axes, [Axis::Batch, Axis::Feature]);
}

#[test]
fn what_does_not_fit_is_named() {
    let files = bundle("onnx_voice.zip");
    let set = |kind: &str, name: &str| {
        let options = OnnxOptions::default().integer(name, 8000);
        onnx::from_bytes_with(kind, &files[&format!("{kind}.onnx")], &options).unwrap_err().to_string()
    };
    let error = set("two_rates", "rate");
    assert!(error.contains("expected `sr`, got `rate`"), "{error}");
    let error = set("one_rate", "sr");
    assert!(error.contains("expected none, got `sr`"), "{error}");
    // Frames that give more than one window are refused, as ONNX Runtime refuses them.
    let network = network(&files, "one_rate", None);
    let session = Session::new(&cpu(), &network).unwrap();
    let samples = vec![0.0; 72];
    let error = session.run(Input::features(&samples, [1, 72, 1]), None).unwrap_err().to_string();
    assert!(error.contains("expected 1 timesteps, got"), "{error}");
}

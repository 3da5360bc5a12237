//! States in files: read back unchanged, and only for the network that wrote them.

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Error, Network, State};
use safetensors::tensor::{Dtype, TensorView};

use crate::common::{changed, lstm, random_state, spec};

fn network() -> Network {
    let gru = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("gru", 4, 3) };
    Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 4)), LayerSpec::Gru(gru)]), 1).unwrap()
}

fn message(bytes: &[u8], network: &Network) -> String {
    State::from_bytes(bytes, network).unwrap_err().to_string()
}

#[test]
fn states_come_back_as_they_were() {
    let network = network();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.state");
    for batch in [1, 3] {
        let state = random_state(&network, batch, 2);
        state.save(&path, &network).unwrap();
        assert_eq!(State::load(&path, &network).unwrap(), state);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
    let error = State::load(folder.path().join("none"), &network).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
}

/// Negative control: any number that a file has changed comes back changed, so that the comparison above sees it.
#[test]
fn a_changed_number_is_noticed() {
    let network = network();
    let state = random_state(&network, 1, 2);
    let bytes = state.to_bytes(&network).unwrap();
    let numbers: usize = state.layers.iter().map(|layer| layer.numbers().count()).sum();
    for number in 0..numbers {
        let mut changed = bytes.clone();
        // The lowest bit of one number; all of them stand at the end.
        let at = bytes.len() - 4 * (number + 1);
        changed[at] ^= 1;
        assert_ne!(State::from_bytes(&changed, &network).unwrap(), state, "{number}");
    }
}

#[test]
fn states_of_other_networks_are_refused() {
    let network = network();
    let bytes = random_state(&network, 1, 2).to_bytes(&network).unwrap();
    let nudged = changed(&network, "gru.weight_hh_l1", |data| data[5] += 1e-6);
    let renamed =
        Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 4)), LayerSpec::Gru(RecurrentSpec::new("gru", 4, 3))]), 1)
            .unwrap();
    for other in [nudged, renamed] {
        assert_ne!(other.fingerprint(), network.fingerprint());
        assert!(message(&bytes, &other).contains("a state of network"), "{}", message(&bytes, &other));
    }
    assert_eq!(random_state(&network, 2, 1).layers[0].parts[0].shape, [1, 2, 4]);
    let mut of_another = random_state(&network, 1, 1);
    of_another.layers.pop();
    assert!(matches!(of_another.to_bytes(&network), Err(Error::Shape { .. })));
}

/// The bytes of the file that the version before wrote: the parts of recurrent layers alone.
fn of_the_version_before(state: &State, network: &Network) -> Vec<u8> {
    let recurrent = state.layers.iter().filter(|layer| layer.part("h").is_some());
    let parts =
        recurrent.flat_map(|layer| layer.parts.iter().map(|part| (format!("{}.{}", layer.name, part.name), part)));
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = parts
        .map(|(name, part)| (name, part.shape.to_vec(), part.data.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let tensors =
        bytes.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    let fingerprint = format!("{:016x}", network.fingerprint());
    let metadata = [("gatefold_state", "1"), ("network", &fingerprint)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    safetensors::serialize(tensors, Some(metadata.into_iter().collect())).unwrap()
}

#[test]
fn files_of_the_version_before_are_read() {
    let network = network();
    for batch in [1, 3] {
        let state = random_state(&network, batch, 2);
        let bytes = of_the_version_before(&state, &network);
        assert_eq!(State::from_bytes(&bytes, &network).unwrap(), state);
        // Negative control: what it does not have is missed.
        let mut less = state.clone();
        less.layers[0].parts.pop();
        let error = message(&of_the_version_before(&less, &network), &network);
        assert!(error.contains("lstm.c"), "{error}");
    }
    // Of a network with a window, which that version ran from its padding.
    let conv = r#"{"type": "conv1d", "name": "conv", "in_channels": 2, "out_channels": 2, "kernel_size": 3,
        "padding": {"zeros": {"left": 2, "right": 0}}}"#;
    let layers = vec![serde_json::from_str(conv).unwrap(), LayerSpec::Lstm(lstm(2, 4))];
    let network = Network::random(spec(layers), 1).unwrap();
    let state = random_state(&network, 2, 3);
    let read = State::from_bytes(&of_the_version_before(&state, &network), &network).unwrap();
    assert_eq!(read.layers[0], state.layers[0]);
    assert_eq!(read.layers[1], State::initial(&network, 2).unwrap().layers[1]);
    // A file of this version must have it.
    let bytes = state.to_bytes(&network).unwrap();
    assert_eq!(State::from_bytes(&bytes, &network).unwrap(), state);
    let name = bytes.windows(9).position(|window| window == b"conv.past").unwrap();
    let mut other = bytes.clone();
    other[name..name + 9].copy_from_slice(b"conv.rest");
    assert!(message(&other, &network).contains("conv.past"));
}

/// The fingerprint does not depend on the machine or the build: this one was computed once.
#[test]
fn the_fingerprint_is_stable() {
    let ones =
        changed(&Network::random(spec(vec![LayerSpec::Lstm(lstm(1, 1))]), 1).unwrap(), "lstm.weight_ih_l0", |w| {
            w.fill(1.0);
        });
    let ones = ["lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0"]
        .iter()
        .fold(ones, |network, name| changed(&network, name, |w| w.fill(0.5)));
    assert_eq!(format!("{:016x}", ones.fingerprint()), "d9ad6846b3176941");
}

#[test]
fn broken_files_are_refused() {
    let network = network();
    let state = random_state(&network, 1, 2);
    let bytes = state.to_bytes(&network).unwrap();
    for end in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
        let error = State::from_bytes(&bytes[..end], &network).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{end}: {error}");
    }
    let replaced = |from: &str, to: &str| {
        let text = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[text..text + from.len()].copy_from_slice(to.as_bytes());
        message(&bytes, &network)
    };
    let older = replaced("\"gatefold_state\":\"2\"", "\"gatefold_state\":\"0\"");
    assert!(older.contains("gatefold_state 1 or 2") && older.contains("gatefold_state 0"), "{older}");
    assert!(replaced("\"gatefold_state\":\"2\"", "\"gatefold_state\":\"9\"").contains("gatefold_state 9"));
    assert!(replaced("\"gatefold_state\"", "\"gatefold_other\"").contains("none"));
    assert!(replaced("gru.h", "gru.x").contains("gru.h"));
    assert!(message(&network.to_bytes().unwrap(), &network).contains("a state of gatefold"));
    // A number that is none.
    let mut nan = bytes.clone();
    let at = nan.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(State::from_bytes(&nan, &network), Err(Error::NonFinite { .. })));
    let mut infinite = state.clone();
    infinite.layers[1].parts[0].data[2] = f32::INFINITY;
    assert!(matches!(infinite.to_bytes(&network), Err(Error::NonFinite { index: 2, .. })));
    assert_eq!(State::from_bytes(&bytes, &network).unwrap(), state, "the file itself is well");
}

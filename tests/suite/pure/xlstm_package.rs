//! Files of NX-AI's package `xlstm`: what is missing and what does not fit. What they compute is in the goldens.

use std::collections::HashMap;

use gatefold::Network;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::common::in_repository;

/// The file of a golden with one tensor under another name or in another shape, or without it.
fn changed(golden: &str, name: &str, to: Option<&(&str, Vec<usize>)>) -> Vec<u8> {
    let bytes = std::fs::read(in_repository("tests/goldens").join(format!("{golden}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.tensor(name).is_ok(), "{name}");
    let tensors = file.iter().filter_map(|(old, view)| match to {
        _ if old != name => Some((old.to_owned(), view)),
        Some((new, shape)) => {
            Some(((*new).to_owned(), TensorView::new(view.dtype(), shape.clone(), view.data()).unwrap()))
        }
        None => None,
    });
    let metadata: Option<HashMap<String, String>> = header.metadata().clone();
    safetensors::serialize(tensors, metadata).unwrap()
}

#[test]
fn what_does_not_fit_is_named() {
    let kernel = "cell.slstm_cell._recurrent_kernel_";
    let bias = "cell.slstm_cell._bias_";
    for (name, to, words) in [
        (kernel, Some((kernel, vec![2, 8, 8])), vec![kernel, "[2, 16, 4]", "[2, 8, 8]"]),
        (kernel, None, vec!["cell.weight_ih_l0", "is missing"]),
        (bias, Some((bias, vec![4, 8])), vec![bias, "[32]"]),
        ("cell.ogate.weight", None, vec!["cell.ogate.weight", "is missing"]),
        (
            "cell.ogate.weight",
            Some(("cell.pgate.weight", vec![2, 4, 4])),
            vec!["cell.ogate.weight", "cell.pgate.weight"],
        ),
        ("cell.igate.weight", Some(("cell.igate.weight", vec![4, 2, 4])), vec!["cell.igate.weight", "[2, 4, 4]"]),
    ] {
        let error = Network::from_bytes("file", &changed("slstm_xlstm", name, to.as_ref())).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
}

/// What is read is written in gatefold's own names, and read again; gates that change places are another network.
#[test]
fn modules_become_layers() {
    for golden in ["slstm_xlstm", "slstm_xlstm_cuda", "slstm_xlstm_norm"] {
        let network = Network::load(in_repository("tests/goldens").join(format!("{golden}.safetensors"))).unwrap();
        assert!(network.tensors().keys().all(|name| !name.contains("slstm_cell") && !name.contains("gate")));
        assert_eq!(Network::from_bytes(golden, &network.to_bytes().unwrap()).unwrap(), network);
        let bytes = changed(golden, "cell.fgate.weight", Some(&("cell.other.weight", network_heads(&network))));
        assert!(Network::from_bytes(golden, &bytes).is_err());
    }
}

fn network_heads(network: &Network) -> Vec<usize> {
    let (_, layer) = network.recurrent_layers().next().unwrap();
    let size = layer.hidden_size / layer.num_heads;
    vec![layer.num_heads, size, size]
}

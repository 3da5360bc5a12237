//! State dicts without a description, and files that are damaged.

use std::collections::HashMap;

use fastrand::Rng;
use gatefold::formats::pytorch;
use gatefold::{Error, Network};
use safetensors::tensor::{Dtype, TensorView};

use crate::support::bundle;

/// A state dict of zeros.
fn state_dict(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let zeros = vec![0u8; 4 * 4096];
    let views = tensors.iter().map(|&(name, shape)| {
        let size = 4 * shape.iter().product::<usize>();
        (name, TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..size]).unwrap())
    });
    safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()
}

fn refusal(tensors: &[(&str, &[usize])]) -> String {
    Network::from_bytes("state dict", &state_dict(tensors)).unwrap_err().to_string()
}

#[test]
fn a_module_among_others_is_found_but_not_guessed() {
    let others: &[(&str, &[usize])] = &[
        ("embedding.weight", &[7, 3]),
        ("encoder.rnn.weight_ih_l0", &[20, 3]),
        ("encoder.rnn.weight_hh_l0", &[20, 5]),
        ("decoder.weight_ih", &[12, 5]),
        ("decoder.weight_hh", &[12, 4]),
    ];
    let error = refusal(others);
    assert!(error.contains("lstm `encoder.rnn` (3 -> 5)") && error.contains("gru `decoder` (5 -> 4)"), "{error}");
    assert!(error.contains(".json") && error.contains("\"layers\""), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, state_dict(others)).unwrap();
    let lstm = pytorch::recurrent(&path, "encoder.rnn").unwrap();
    assert_eq!(lstm.recurrent_layers().next().unwrap().1.name, "encoder.rnn");
    assert_eq!(pytorch::recurrent(&path, "decoder").unwrap().output_size(), 4);
    let error = pytorch::recurrent(&path, "middle").unwrap_err().to_string();
    assert!(error.contains("`middle`") && error.contains("`decoder`"), "{error}");
    assert!(matches!(pytorch::recurrent("/nowhere", ""), Err(Error::Io { .. })));
}

#[test]
fn tensors_that_disagree_are_named() {
    let sizes = |ih: &'static [usize], hh: &'static [usize], bias: &'static [usize]| {
        refusal(&[("a.weight_ih_l0", ih), ("a.weight_hh_l0", hh), ("a.bias_ih_l0", bias), ("a.bias_hh_l0", &[20])])
    };
    assert_eq!(sizes(&[19, 3], &[20, 5], &[20]), "tensor `a.weight_ih_l0`: expected shape [20, 3], got [19, 3]");
    assert_eq!(sizes(&[20, 3], &[20, 5], &[21]), "tensor `a.bias_ih_l0`: expected shape [20], got [21]");
    let error = sizes(&[20, 3], &[20, 6], &[20]);
    assert!(error.contains("4, 3 or 1 times 6 rows in weight_hh") && error.contains("20"), "{error}");
    let error = refusal(&[("weight_ih_l0", &[20, 3]), ("weight_hh_l0", &[20, 5]), ("weight_ih_l2", &[20, 5])]);
    assert!(error.contains("lstm.weight_ih_l1"), "{error}");
    let error = refusal(&[("weight_ih_l0", &[20, 3])]);
    assert!(error.contains("weight_hh_l0"), "{error}");
}

#[test]
fn bare_names_take_the_name_in_the_description() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cell.safetensors");
    let tensors: &[(&str, &[usize])] =
        &[("weight_ih", &[12, 3]), ("weight_hh", &[12, 4]), ("bias_ih", &[12]), ("bias_hh", &[12])];
    std::fs::write(&path, state_dict(tensors)).unwrap();
    let description =
        r#"{"format":1,"layers":[{"type":"gru","name":"mine","input_size":3,"hidden_size":4,"batch_first":true}]}"#;
    std::fs::write(path.with_extension("json"), description).unwrap();
    let network = Network::load(&path).unwrap();
    assert!(network.batch_first() && network.tensors().contains_key("mine.weight_hh_l0"));
}

/// Damaged files are errors or networks, never panics, and quickly so.
#[test]
fn damage_is_survived() {
    let files = bundle("pytorch_grid.zip");
    let mut rng = Rng::with_seed(1);
    let small: Vec<&Vec<u8>> = files.values().filter(|bytes| bytes.len() < 6000).collect();
    let mut errors = 0;
    for _ in 0..4000 {
        let mut bytes = small[rng.usize(0..small.len())].clone();
        for _ in 0..rng.usize(1..6) {
            // Mostly in the header, where everything is decided.
            let end = if rng.u8(0..4) > 0 { bytes.len().min(600) } else { bytes.len() };
            let at = rng.usize(0..end);
            bytes[at] = if rng.bool() { rng.u8(..) } else { bytes[at] ^ (1 << rng.u8(0..8)) };
        }
        if rng.u8(0..8) == 0 {
            bytes.truncate(rng.usize(0..bytes.len()));
        }
        errors += u32::from(Network::from_bytes("state dict", &bytes).is_err());
    }
    assert!(errors > 1000, "{errors} of 4000 refused");
}

/// A matrix of a weight normalization, old or new, is that of its lengths and directions.
#[test]
fn weight_normalizations_are_folded() {
    let mut rng = Rng::with_seed(7);
    let mut numbers = |count: usize| (0..count).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
    let (input, v, g, bias) = (numbers(16 * 3), numbers(16 * 4), numbers(16), numbers(16));
    let network = |matrices: &[(&str, &[usize], &[f32])]| {
        let others: [(&str, &[usize], &[f32]); 3] =
            [("weight_ih_l0", &[16, 3], &input), ("bias_ih_l0", &[16], &bias), ("bias_hh_l0", &[16], &bias)];
        let bytes: Vec<(&str, &[usize], Vec<u8>)> = others
            .iter()
            .chain(matrices)
            .map(|&(name, shape, data)| (name, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views =
            bytes.iter().map(|(name, shape, data)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap()));
        let file = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        Network::from_bytes("state dict", &file)
    };
    let folded: Vec<f32> = v
        .chunks_exact(4)
        .zip(&g)
        .flat_map(|(row, g)| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(move |x| x * g / norm)
        })
        .collect();
    let right = network(&[("weight_hh_l0", &[16, 4], &folded)]).unwrap();
    let old: [(&str, &[usize], &[f32]); 2] = [("weight_hh_l0_g", &[16, 1], &g), ("weight_hh_l0_v", &[16, 4], &v)];
    let new: [(&str, &[usize], &[f32]); 2] = [
        ("parametrizations.weight_hh_l0.original0", &[16, 1], &g),
        ("parametrizations.weight_hh_l0.original1", &[16, 4], &v),
    ];
    for pair in [old, new] {
        let got = network(&pair).unwrap();
        assert_eq!(got.spec(), right.spec());
        for (got, right) in got.tensors().values().zip(right.tensors().values()) {
            let far = got.data().iter().zip(right.data()).any(|(a, b)| (a - b).abs() > 1e-6);
            assert!(!far, "{got:?} {right:?}");
        }
    }
    let turned: [(&str, &[usize], &[f32]); 2] = [("weight_hh_l0_g", &[4, 4], &g), ("weight_hh_l0_v", &[16, 4], &v)];
    assert!(network(&turned).unwrap_err().to_string().contains("lengths g [16, 1]"));
    let empty: [(&str, &[usize], &[f32]); 2] = [("weight_hh_l0_g", &[16, 1], &g), ("weight_hh_l0_v", &[16, 0], &[])];
    let error = network(&empty).unwrap_err().to_string();
    assert!(error.contains("weight_hh_l0") && error.contains("[16, 0]"), "{error}");
}

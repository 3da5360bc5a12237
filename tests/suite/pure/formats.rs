//! Weights stored as f16 and as 8-bit integers: rounding, files, and what they cost in accuracy.

use std::collections::HashMap;

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::unstable::reference::Reference;
use gatefold::{Error, Network, RandomInput, WeightFormat};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::common::{lstm, spec};

/// Type, shape and bytes by name.
type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn network(hidden: usize) -> Network {
    let layer = RecurrentSpec { bidirectional: true, proj_size: 3, ..lstm(7, hidden) };
    Network::random(spec(vec![LayerSpec::Lstm(layer)]), 5).unwrap()
}

#[test]
fn a_saved_network_keeps_its_format_bit_by_bit() {
    let full = network(33);
    let mut sizes = Vec::new();
    for format in WeightFormat::ALL {
        let rounded = full.with_weights(format).unwrap();
        let bytes = rounded.to_bytes().unwrap();
        assert_eq!(Network::from_bytes("network", &bytes).unwrap(), rounded, "{format}");
        assert_eq!(rounded.with_weights(format).unwrap(), rounded, "{format} twice is once");
        let marked = rounded.tensors().iter().filter(|(_, tensor)| tensor.format() == format);
        let names: Vec<&str> = marked.map(|(name, _)| name.as_str()).collect();
        if format != WeightFormat::F32 {
            assert_eq!(names.len(), 6, "{names:?}");
            assert!(names.iter().all(|name| name.contains("weight_")), "{names:?}");
        }
        sizes.push(bytes.len());
    }
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

/// A file with other tensors in it than the network wrote.
fn refiled(network: &Network, change: impl FnOnce(&mut Tensors)) -> Vec<u8> {
    let bytes = network.to_bytes().unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize(views, header.metadata().clone()).unwrap()
}

#[test]
fn scales_that_do_not_fit_are_named() {
    const NAME: &str = "lstm.weight_hh_l0";
    const SCALE: &str = "lstm.weight_hh_l0.scale";
    let int8 = network(8).with_weights(WeightFormat::Int8).unwrap();
    let error = |change: &dyn Fn(&mut Tensors)| {
        let error = Network::from_bytes("network", &refiled(&int8, change)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(NAME), "{text}");
        (error, text)
    };
    let (_, text) = error(&|tensors| drop(tensors.remove(SCALE)));
    assert!(text.contains("expected F32 [32], got no such tensor"), "{text}");
    let (_, text) = error(&|tensors| drop(tensors.insert(SCALE.into(), (Dtype::F32, vec![31], vec![0; 124]))));
    assert!(text.contains("got F32 [31]"), "{text}");
    let (_, text) = error(&|tensors| drop(tensors.insert(SCALE.into(), (Dtype::F16, vec![32], vec![0; 64]))));
    assert!(text.contains("got F16 [32]"), "{text}");
    for wrong in [f32::NAN, -1.0, f32::INFINITY] {
        let (_, text) =
            error(&|tensors| tensors.get_mut(SCALE).unwrap().2[8..12].copy_from_slice(&wrong.to_le_bytes()));
        assert!(text.contains("in row 2"), "{text}");
    }
    // Scales of a tensor that needs none.
    let (error, text) = error(&|tensors| {
        tensors.insert(NAME.into(), (Dtype::F32, vec![32, 3], vec![0; 384]));
    });
    assert!(matches!(error, Error::UnexpectedTensor { .. }), "{text}");
}

/// Integers that another tool chose are read exactly, and kept as f32 since packing would change them.
#[test]
fn other_integers_are_read_exactly() {
    let int8 = network(8).with_weights(WeightFormat::Int8).unwrap();
    let bytes = refiled(&int8, |tensors| {
        let (_, _, data) = tensors.get_mut("lstm.weight_hh_l0").unwrap();
        data[..3].copy_from_slice(&[100, 0, 1]);
        let (_, _, scales) = tensors.get_mut("lstm.weight_hh_l0.scale").unwrap();
        scales[..4].copy_from_slice(&0.5f32.to_le_bytes());
    });
    let network = Network::from_bytes("network", &bytes).unwrap();
    let tensor = &network.tensors()["lstm.weight_hh_l0"];
    assert_eq!((tensor.format(), &tensor.data()[..3]), (WeightFormat::F32, &[50.0, 0.0, 0.5][..]));
}

/// So are scales that another tool chose: some of them would change, though the integers come back.
#[test]
fn other_scales_are_kept_bit_by_bit() {
    let int8 = network(8).with_weights(WeightFormat::Int8).unwrap();
    let with = |scale: f32| {
        let bytes = refiled(&int8, |tensors| {
            let (_, _, data) = tensors.get_mut("lstm.weight_hh_l0").unwrap();
            data[..3].copy_from_slice(&[127, 5, 176]); // -80
            let (_, _, scales) = tensors.get_mut("lstm.weight_hh_l0.scale").unwrap();
            scales[..4].copy_from_slice(&scale.to_le_bytes());
        });
        Network::from_bytes("network", &bytes).unwrap()
    };
    let mut moved = 0;
    let mut rng = fastrand::Rng::with_seed(1);
    for scale in [0.001_078_538_6, 0.5].into_iter().chain((0..1000).map(|_| rng.f32() + 1e-3)) {
        let network = with(scale);
        let tensor = &network.tensors()["lstm.weight_hh_l0"];
        assert_eq!(tensor.data()[..3], [127.0 * scale, 5.0 * scale, -80.0 * scale], "{scale}");
        assert_eq!(Network::from_bytes("network", &network.to_bytes().unwrap()).unwrap(), network, "{scale}");
        moved += u32::from(tensor.format() == WeightFormat::F32);
    }
    // Both kinds must occur, or nothing was tested.
    assert!((1..500).contains(&moved), "{moved} of 1002 scales would have changed");
}

/// Largest difference of the outputs in f64 that rounding the weights makes.
fn error(network: &Network, rounded: &Network) -> f64 {
    let input = RandomInput::new(network, 25, 4, 2).unwrap();
    let run = |network: &Network| Reference::<f64>::new(network).forward(input.as_input(), None).unwrap().stages.pop();
    let (exact, got) = (run(network).unwrap(), run(rounded).unwrap());
    exact.iter().zip(&got).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// Bounds of the table in docs/precision.md.
#[test]
fn rounding_costs_what_the_table_says() {
    for hidden in [64, 128] {
        let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(hidden, hidden))]), 5).unwrap();
        let of = |format| error(&network, &network.with_weights(format).unwrap());
        assert_eq!(of(WeightFormat::F32), 0.0);
        let (half, int8) = (of(WeightFormat::F16), of(WeightFormat::Int8));
        assert!(half > 1e-6 && half < 1.5e-4, "f16: {half:.1e}");
        assert!(int8 > 1e-4 && int8 < 4e-3, "int8: {int8:.1e}");
        // Negative control: scales that are off by a quarter are no rounding.
        let wrong = crate::common::changed(&network, "lstm.weight_hh_l0", |data| {
            data.iter_mut().for_each(|x| *x *= 1.25);
        });
        assert!(error(&network, &wrong) > 4e-3, "{:.1e}", error(&network, &wrong));
    }
}

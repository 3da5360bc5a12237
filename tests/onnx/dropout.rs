//! The ratio of a graph's Dropout nodes, which a training may go on with.

use gatefold::formats::onnx;
use gatefold::network::FileDropout;
use gatefold::train::{Dropout, Loss, TrainOptions};

use crate::refusals::{OPEN, lstm};
use crate::wire::{FLOAT, Message, float, floats, graph, info, ints, model, node};

/// What the network of `nodes` behind an LSTM (`y`) states; the graph's output is `out`.
fn stated(nodes: &[Message], constants: &[Message]) -> Vec<FileDropout> {
    let weights = [
        floats("W", &[1, 16, 3]),
        floats("R", &[1, 16, 4]),
        floats("B", &[1, 32]),
        floats("M", &[4, 4]),
        float("half", 0.5),
        float("all", 1.0),
        ints("zero", &[0]),
        ints("one", &[1]),
    ];
    let nodes = [&lstm(false, &["W", "R", "B"], vec![])[..], nodes].concat();
    let graph = graph(&nodes, &[&weights[..], constants].concat(), &[info("x", FLOAT, &OPEN)], &["out"]);
    let network = onnx::from_bytes("made", &model(&graph)).unwrap();
    let again = gatefold::Network::from_bytes("again", &network.to_bytes().unwrap()).unwrap();
    assert_eq!(again.file_dropout(), network.file_dropout());
    let options = TrainOptions::new(Loss::CrossEntropy).file_dropout(&network);
    match network.file_dropout() {
        [FileDropout::Elements { layer, rate }] => {
            assert!(network.spec().layers.iter().any(|known| known.name() == layer), "{layer}");
            assert_eq!(options.unwrap().dropout, [Dropout::elements(layer, *rate)]);
        }
        [] => assert!(options.unwrap().dropout.is_empty()),
        _ => drop(options.unwrap_err()),
    }
    network.file_dropout().to_vec()
}

fn drop_of(input: &str, ratio: &str, output: &str) -> Message {
    node("Dropout", &[input, ratio], &[output], vec![])
}

fn product(input: &str, output: &str) -> Message {
    node("MatMul", &[input, "M"], &[output], vec![])
}

#[test]
fn a_ratio_is_kept_with_its_layer() {
    let of_lstm = stated(&[drop_of("y", "half", "d"), product("d", "out")], &[]);
    let [FileDropout::Elements { layer, rate: 0.5 }] = &of_lstm[..] else { panic!("{of_lstm:?}") };
    let of_dense = stated(&[product("y", "p"), drop_of("p", "half", "d"), product("d", "out")], &[]);
    let [FileDropout::Elements { layer: dense, rate: 0.5 }] = &of_dense[..] else { panic!("{of_dense:?}") };
    assert_ne!(layer, dense);
    // The last h: what most classifiers drop.
    let last = [node("Squeeze", &["Yh", "zero"], &["h"], vec![]), drop_of("h", "half", "d"), product("d", "out")];
    assert!(matches!(&stated(&last, &[])[..], [FileDropout::Elements { rate: 0.5, .. }]));
    // An operator's default.
    let default = [node("Dropout", &["y"], &["d"], vec![]), product("d", "out")];
    assert_eq!(stated(&default, &[]), of_lstm);
    // Negative controls: none, and a ratio of 0.
    assert!(stated(&[product("y", "out")], &[]).is_empty());
    assert!(stated(&[drop_of("y", "nothing", "d"), product("d", "out")], &[float("nothing", 0.0)]).is_empty());
}

/// The answers do not depend on it, so such files are read; training with their dropout is an error.
#[test]
fn what_is_not_trained_is_named() {
    let twice = [drop_of("y", "half", "d"), drop_of("d", "half", "e"), product("e", "out")];
    let beside = [drop_of("y", "half", "d"), product("d", "p"), node("Add", &["p", "y"], &["out"], vec![])];
    let ratio = [drop_of("y", "all", "d"), product("d", "out")];
    let cases =
        [(&twice[..], "two dropouts"), (&beside, "that several layers read"), (&ratio, "not from 0 to below 1")];
    for (nodes, words) in cases {
        let stated = stated(nodes, &[]);
        let Some(FileDropout::Other { what, .. }) = stated.last() else { panic!("{stated:?}") };
        assert!(what.contains(words), "{words}: {what}");
    }
    let input = [drop_of("x", "half", "d"), node("LSTM", &["d", "W", "R", "B"], &["Y"], vec![])];
    let squeeze = node("Squeeze", &["Y", "one"], &["out"], vec![]);
    let weights = [floats("W", &[1, 16, 3]), floats("R", &[1, 16, 4]), floats("B", &[1, 32]), float("half", 0.5)];
    let constants = [&weights[..], &[ints("one", &[1])]].concat();
    let nodes = [&input[..], &[squeeze]].concat();
    let graph = graph(&nodes, &constants, &[info("x", FLOAT, &OPEN)], &["out"]);
    let network = onnx::from_bytes("made", &model(&graph)).unwrap();
    assert!(matches!(network.file_dropout(), [FileDropout::Other { what, .. }] if what.contains("of an input")));
}

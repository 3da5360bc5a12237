//! Models whose input or output has other axes than a run (`tests/goldens/generate_onnx_axes.py`): the axes are named,
//! and a shape that could be either order is refused until the caller says which it is.

use gatefold::formats::onnx;
use gatefold::network::Axis::{self, Batch, Direction, Feature, One, Time, TimeBatch};
use gatefold::{Error, Input, Network, Output, Session};

use crate::support::{Golden, bundle, cpu, miss};
use crate::wire::Attribute::{Int, Ints, Text};
use crate::wire::{FLOAT, floats, graph, info, ints, model, node};

/// The output as the file lays it out, and its shape.
pub fn in_order_of_the_file(network: &Network, output: &Output) -> (Vec<f32>, Vec<usize>) {
    let axes = &network.file_axes().unwrap().output.axes;
    let size = |wanted: Axis| output.axes.iter().position(|&axis| axis == wanted).map_or(1, |at| output.shape[at]);
    let stride = |wanted: Axis| match output.axes.iter().position(|&axis| axis == wanted) {
        Some(at) => output.shape[at + 1..].iter().product(),
        None => 0,
    };
    let (steps, batch, width) = (size(Time), size(Batch), size(Feature));
    let (step, row) = (stride(Time), stride(Batch));
    let last = network.recurrent_layers().last();
    let parts_of = axes.iter().find_map(|axis| if let Axis::Part(count) = axis { Some(*count) } else { None });
    let directions = last.filter(|_| axes.contains(&Direction)).map_or(1, |(_, spec)| spec.directions());
    let directions = parts_of.unwrap_or(directions);
    let hidden = width / directions;
    // (size, stride in `output`) of every axis of the file, outermost first.
    let parts = |axis: &Axis| match axis {
        Time => vec![(steps, step)],
        Batch => vec![(batch, row)],
        Direction | Axis::Part(_) => vec![(directions, hidden)],
        Feature => vec![(hidden, 1)],
        TimeBatch => vec![(steps, step), (batch, row)],
        Axis::BatchTime => vec![(batch, row), (steps, step)],
        _ => vec![(1, 0)],
    };
    let index = network.file_axes().unwrap().output.row;
    let taken = index.map_or(0, |at| usize::try_from(if at < 0 { at + batch as i64 } else { at }).unwrap());
    let mut places = vec![taken * row];
    for (count, stride) in axes.iter().flat_map(parts) {
        places = places.into_iter().flat_map(|at| (0..count).map(move |i| at + i * stride)).collect();
    }
    let shape = axes.iter().map(|axis| parts(axis).iter().map(|&(count, _)| count).product()).collect();
    (places.into_iter().map(|at| output.values[at]).collect(), shape)
}

type Axes = &'static [Axis];

/// The axes of the files' inputs and outputs, and those of a run's output.
const CASES: [(&str, Axes, Axes, Axes); 6] = [
    ("channels_first", &[Batch, Feature, Time], &[Batch, Time, Feature], &[Batch, Time, Feature]),
    ("convolution", &[Batch, Feature, Time], &[Batch, Feature, One], &[Batch, Feature]),
    ("four_axes", &[Batch, Time, Feature], &[Time, Direction, Batch, Feature], &[Batch, Time, Feature]),
    ("last_state", &[Time, Batch, Feature], &[Direction, Batch, Feature], &[Batch, Feature]),
    ("rows", &[Time, Batch, Feature], &[TimeBatch, Feature], &[Time, Batch, Feature]),
    ("time_first_answer", &[Batch, Time, Feature], &[Time, Batch, Feature], &[Batch, Time, Feature]),
];

#[test]
fn axes_are_named_and_lead_to_the_files_own_answer() {
    let files = bundle("onnx_axes.zip");
    assert_eq!(files.len(), 2 * CASES.len());
    for (name, input_axes, output_axes, run_axes) in CASES {
        let network = onnx::from_bytes(name, &files[&format!("{name}.onnx")]).unwrap();
        let golden = Golden::new(&files[&format!("{name}.golden.safetensors")]);
        let (values, shape) = golden.numbers("input").unwrap();
        let (expected, expected_shape) = golden.numbers("output").unwrap();
        let file = network.file_axes().unwrap();
        assert_eq!((file.input.axes.as_slice(), file.output.axes.as_slice()), (input_axes, output_axes), "{name}");
        assert_eq!((file.input.name.as_str(), file.output.name.as_str()), ("input", "output"), "{name}");
        let session = Session::new(&cpu(), &network).unwrap();
        let input = Input::features(&values, [shape[0], shape[1], shape[2]]);
        let output = session.run(input.with_axes(&file.input.axes), None).unwrap();
        assert_eq!(output.axes, run_axes, "{name}");
        let (got, got_shape) = in_order_of_the_file(&network, &output);
        assert_eq!(got_shape, expected_shape, "{name}");
        assert_eq!(miss(name, &got, &expected, 4), None);
        // The axes are stored with the network.
        let stored = Network::from_bytes("network", &network.to_bytes().unwrap()).unwrap();
        assert_eq!(stored, network, "{name}");
    }
}

#[test]
fn an_order_that_the_shape_does_not_tell_is_refused() {
    let files = bundle("onnx_axes.zip");
    for name in ["channels_first", "convolution"] {
        let network = onnx::from_bytes(name, &files[&format!("{name}.onnx")]).unwrap();
        let session = Session::new(&cpu(), &network).unwrap();
        let values: Vec<f32> = (0..60).map(|i| (i as f32).sin()).collect();
        // Three rows; four timesteps of four features fit both orders, five timesteps one.
        let square = session.run(Input::features(&values[..48], [3, 4, 4]), None).unwrap_err().to_string();
        for words in ["[B, T, N]", "[B, N, T]", "with_axes"] {
            assert!(square.contains(words), "{square}");
        }
        let long = session.run(Input::features(&values, [3, 5, 4]), None).unwrap();
        let other = session.run(Input::features(&values, [3, 4, 5]), None).unwrap_err();
        assert!(matches!(&other, Error::Shape { expected, .. } if expected.contains("with_axes")), "{other}");
        let run = [Batch, Time, Feature];
        let said = session.run(Input::features(&values, [3, 5, 4]).with_axes(&run), None).unwrap();
        assert_eq!(said.values, long.values);
        // The same numbers in the file's order.
        let turned: Vec<f32> = (0..3)
            .flat_map(|b| (0..4).flat_map(move |n| (0..5).map(move |t| (b * 5 + t) * 4 + n)))
            .map(|at| values[at])
            .collect();
        let file = session.run(Input::features(&turned, [3, 4, 5]).with_axes(&[Batch, Feature, Time]), None).unwrap();
        assert_eq!((file.values, file.shape), (long.values, long.shape));
    }
}

/// A layer of both directions below one of one: each output has the directions of its own layer.
#[test]
fn directions_are_those_of_the_outputs_own_layer() {
    let lstm = |x: &str, weights: [&str; 3], y: &str, directions: &'static str| {
        let [w, r, b] = weights;
        node("LSTM", &[x, w, r, b], &[y], vec![("direction", Text(directions)), ("hidden_size", Int(4))])
    };
    let nodes = [
        lstm("x", ["W", "R", "B"], "below", "bidirectional"),
        node("Transpose", &["below"], &["turned"], vec![("perm", Ints(vec![0, 2, 1, 3]))]),
        node("Reshape", &["turned", "joined"], &["rows"], vec![]),
        lstm("rows", ["W2", "R2", "B2"], "above", "forward"),
    ];
    let constants = [
        floats("W", &[2, 16, 3]),
        floats("R", &[2, 16, 4]),
        floats("B", &[2, 32]),
        floats("W2", &[1, 16, 8]),
        floats("R2", &[1, 16, 4]),
        floats("B2", &[1, 32]),
        ints("joined", &[0, 0, 8]),
    ];
    let values: Vec<f32> = (0..5 * 2 * 3).map(|i| (i as f32).sin()).collect();
    for outputs in [["below", "above"], ["above", "below"]] {
        let input = info("x", FLOAT, &[Some(5), Some(2), Some(3)]);
        let network = onnx::from_bytes("two", &model(&graph(&nodes, &constants, &[input], &outputs))).unwrap();
        let output = Session::new(&cpu(), &network).unwrap().run(Input::features(&values, [5, 2, 3]), None).unwrap();
        let other = &output.others[0];
        assert_eq!(other.name, outputs[1]);
        let of_file = [output.in_file_axes(&network).unwrap(), other.in_file_axes(&network).unwrap()];
        for ((name, run), (shape, got)) in outputs.iter().zip([&output.values, &other.values]).zip(of_file) {
            let directions = if *name == "below" { 2 } else { 1 };
            assert_eq!(shape, [5, directions, 2, 4], "{name}");
            let place = |at: usize| {
                let (n, b, rest) = (at % 4, at / 4 % 2, at / 8);
                (rest / directions * 2 + b) * directions * 4 + rest % directions * 4 + n
            };
            let expected: Vec<f32> = (0..got.len()).map(|at| run[place(at)]).collect();
            assert_eq!(got, expected, "{name}");
        }
    }
}

#[test]
fn axes_that_are_none_are_refused() {
    let files = bundle("onnx_axes.zip");
    let network = onnx::from_bytes("rows", &files["rows.onnx"]).unwrap();
    assert_eq!(gatefold::Network::from_bytes("bytes", &files["rows.onnx"]).unwrap(), network, "by its content");
    let session = Session::new(&cpu(), &network).unwrap();
    let values = [0.0; 48];
    for axes in [&[Time, Batch][..], &[Time, Time, Feature], &[Time, Batch, One], &[Time, Batch, Feature, One], &[]] {
        let error = session.run(Input::features(&values, [4, 3, 4]).with_axes(axes), None).unwrap_err().to_string();
        assert!(error.contains("axes of the input") && error.contains("each once"), "{error}");
    }
}

/// A series `[B, T]` of one feature, both axes left open: the second is time, not features.
#[test]
fn an_open_axis_beside_the_rows_is_time() {
    let weights = [floats("W", &[1, 16, 1]), floats("R", &[1, 16, 4]), ints("last", &[-1]), ints("one", &[1])];
    let nodes = [
        node("Unsqueeze", &["x", "last"], &["series"], vec![]),
        node("Transpose", &["series"], &["steps"], vec![("perm", Ints(vec![1, 0, 2]))]),
        node("LSTM", &["steps", "W", "R"], &["Y"], vec![("hidden_size", Int(4))]),
        node("Squeeze", &["Y", "one"], &["y"], vec![]),
    ];
    let read = |sizes: [Option<u64>; 2]| {
        let bytes = model(&graph(&nodes, &weights, &[info("x", FLOAT, &sizes)], &["y"]));
        onnx::from_bytes("made", &bytes).unwrap().file_axes().unwrap().input.axes.clone()
    };
    assert_eq!(read([None, None]), [Batch, Time]);
    assert_eq!(read([Some(2), Some(7)]), [Batch, Time]);
}

//! States by the names that the file has for them: tensors of several layers and directions, cut up by the graph.

use gatefold::formats::onnx;
use gatefold::network::{Axis, FileState, Network};
use gatefold::{Device, Input, Session, State};

use crate::wire::Attribute::{Int, Ints, Text};
use crate::wire::{FLOAT, Message, float, floats, graph, info, ints, model, node};

/// B
const BATCH: usize = 2;
/// H
const HIDDEN: usize = 4;

/// Two levels of a bidirectional GRU over `x` `[T, B, 3]`; `parts` cut `h` `[4, B, 4]` into `h0` and `h1`.
fn network(parts: &[Message]) -> Network {
    let weights = [
        floats("W0", &[2, 12, 3]),
        floats("W1", &[2, 12, 8]),
        floats("R", &[2, 12, 4]),
        float("none", 0.0),
        ints("cut", &[2, 2]),
        ints("joined", &[0, 0, -1]),
        ints("0", &[0]),
        ints("1", &[1]),
        ints("2", &[2]),
        ints("3", &[3]),
        ints("4", &[4]),
    ];
    let gru = |x: &str, w: &str, h: &str, outputs: &[&str]| {
        node(
            "GRU",
            &[x, w, "R", "", "", h],
            outputs,
            vec![("hidden_size", Int(4)), ("direction", Text("bidirectional"))],
        )
    };
    let join = |y: &str, to: &str| {
        let turned = format!("{y}t");
        let order = vec![("perm", Ints(vec![0, 2, 1, 3]))];
        [node("Transpose", &[y], &[&turned], order), node("Reshape", &[&turned, "joined"], &[to], vec![])]
    };
    let nodes = [
        parts,
        &[gru("x", "W0", "h0", &["y0", "last0"])],
        &join("y0", "z0"),
        &[gru("z0", "W1", "h1", &["y1", "last1"])],
        &join("y1", "y"),
        &[node("Concat", &["last0", "last1"], &["hn"], vec![("axis", Int(0))])],
    ];
    let inputs = [info("x", FLOAT, &[None, None, Some(3)]), info("h", FLOAT, &[Some(4), None, Some(4)])];
    onnx::from_bytes("made", &model(&graph(&nodes.concat(), &weights, &inputs, &["y", "hn"]))).unwrap()
}

fn slice(start: &str, end: &str, to: &str) -> Message {
    node("Slice", &["h", start, end, "0"], &[to], vec![])
}

fn rows(state: &FileState) -> Vec<(String, usize)> {
    state.rows.iter().map(|row| (format!("{}.{}", row.layer, row.part), row.row)).collect()
}

/// The state that `values` of the file's `h` are.
fn set(network: &Network, values: &[f32]) -> State {
    let mut state = State::initial(network, BATCH).unwrap();
    state.set_from_file(network, "h", &[4, BATCH, HIDDEN], values).unwrap();
    state
}

#[test]
fn rows_go_to_their_layers() {
    let values: Vec<f32> = (0u8..32).map(f32::from).collect();
    let (front, back) = values.split_at(16);
    let cuts = [
        vec![slice("0", "2", "h0"), slice("2", "4", "h1")],
        vec![node("Split", &["h", "cut"], &["h0", "h1"], vec![("axis", Int(0))])],
    ];
    for parts in &cuts {
        let network = network(parts);
        let axes = network.file_axes().unwrap();
        let [given] = &axes.states[..] else { panic!("{:?}", axes.states) };
        let [last] = &axes.final_states[..] else { panic!("{:?}", axes.final_states) };
        assert_eq!((given.name.as_str(), last.name.as_str()), ("h", "hn"));
        let names = network.kept().iter().map(|layer| format!("{}.h", layer.name));
        let expected: Vec<_> = names.flat_map(|name| [(name.clone(), 0), (name, 1)]).collect();
        assert_eq!((rows(given), rows(last)), (expected.clone(), expected));
        let state = set(&network, &values);
        assert_eq!([state.layers[0].h(), state.layers[1].h()], [front, back]);
        // A safetensors file keeps the names.
        let again = Network::from_bytes("again", &network.to_bytes().unwrap()).unwrap();
        assert_eq!(again.file_axes(), network.file_axes());
        // What a run returns is in the file's order, too.
        let session = Session::new(&Device::cpu(), &network).unwrap();
        let output = session.run(Input::features(&[0.5; 3 * BATCH * 3], [3, BATCH, 3]), Some(&state)).unwrap();
        let [tensor] = &output.state.in_file_tensors(&network)[..] else { panic!("one output") };
        assert_eq!((tensor.name.as_str(), tensor.shape), ("hn", [4, BATCH, HIDDEN]));
        let layers: Vec<f32> = output.state.layers.iter().flat_map(|layer| layer.h().to_vec()).collect();
        assert_eq!(tensor.values, layers);
    }
    // The control: the graph gives the last rows to the first layer.
    let swapped = set(&network(&[slice("2", "4", "h0"), slice("0", "2", "h1")]), &values);
    assert_eq!([swapped.layers[0].h(), swapped.layers[1].h()], [back, front]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let whole = network(&[slice("0", "2", "h0"), slice("2", "4", "h1")]);
    let mut state = State::initial(&whole, BATCH).unwrap();
    let before = state.clone();
    let error = state.set_from_file(&whole, "hn", &[4, BATCH, HIDDEN], &[1.0; 32]).unwrap_err().to_string();
    assert!(error.contains("expected one of `h`, got `hn`"), "{error}");
    for shape in [&[2, BATCH, HIDDEN][..], &[BATCH, HIDDEN], &[4, BATCH, HIDDEN, 1], &[]] {
        let error = state.set_from_file(&whole, "h", shape, &[1.0; 32]).unwrap_err().to_string();
        assert!(error.contains("`h`: expected [4, 2, 4], got "), "{error}");
    }
    assert!(state.set_from_file(&whole, "h", &[4, BATCH, HIDDEN], &[1.0; 31]).is_err());
    assert_eq!(state, before, "unchanged by what was refused");
    // Rows 1 and 2 for the first layer, 2 and 3 for the second: no layer starts from row 0.
    let holes = network(&[slice("1", "3", "h0"), slice("2", "4", "h1")]);
    assert_eq!(holes.file_axes().unwrap().states, []);
}

/// One step of an LSTM in its parts, of rows `x` `[B, 3]` and states `[B, 4]`: the rows are no timesteps.
#[test]
fn rows_of_one_step_are_batch_rows() {
    let weights = [floats("W", &[16, 3]), floats("R", &[16, 4]), floats("B", &[16]), ints("quarters", &[4, 4, 4, 4])];
    let with = |op: &str, inputs: &[&str], output: &str| node(op, inputs, &[output], vec![]);
    let product = |inputs: &[&str], output: &str| node("Gemm", inputs, &[output], vec![("transB", Int(1))]);
    let nodes = [
        product(&["x", "W", "B"], "of_x"),
        product(&["h", "R"], "of_h"),
        with("Add", &["of_x", "of_h"], "gates"),
        node("Split", &["gates", "quarters"], &["zi", "zf", "zg", "zo"], vec![("axis", Int(1))]),
        with("Sigmoid", &["zi"], "i"),
        with("Sigmoid", &["zf"], "f"),
        with("Tanh", &["zg"], "g"),
        with("Sigmoid", &["zo"], "o"),
        with("Mul", &["f", "c"], "kept"),
        with("Mul", &["i", "g"], "new"),
        with("Add", &["kept", "new"], "cn"),
        with("Tanh", &["cn"], "shown"),
        with("Mul", &["o", "shown"], "hn"),
        with("Identity", &["hn"], "y"),
    ];
    let inputs =
        [info("x", FLOAT, &[None, Some(3)]), info("h", FLOAT, &[None, Some(4)]), info("c", FLOAT, &[None, Some(4)])];
    let network = onnx::from_bytes("made", &model(&graph(&nodes, &weights, &inputs, &["y", "cn"]))).unwrap();
    let axes = network.file_axes().unwrap();
    assert_eq!(
        (&axes.input.axes[..], &axes.output.axes[..]),
        (&[Axis::Batch, Axis::Feature][..], &[Axis::Batch, Axis::Feature][..])
    );
    assert_eq!(axes.states.iter().map(|state| state.name.as_str()).collect::<Vec<_>>(), ["h", "c"]);
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let run = |rows: &[[f32; 3]]| {
        let mut state = State::initial(&network, rows.len()).unwrap();
        state.set_from_file(&network, "h", &[rows.len(), HIDDEN], &vec![0.5; rows.len() * HIDDEN]).unwrap();
        session.run(Input::features(&rows.concat(), [1, rows.len(), 3]), Some(&state)).unwrap().values
    };
    let rows = [[0.3, -0.2, 0.9], [0.1, 0.8, -0.5]];
    assert_eq!(run(&rows), [run(&rows[..1]), run(&rows[1..])].concat());
}

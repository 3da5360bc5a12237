//! Graphs that come close to ones that are read, but compute something else: each is refused, and its neighbour that is read is a
//! control.

use gatefold::formats::onnx;

use crate::refusals::{OPEN, lstm, refusal};
use crate::wire::Attribute::{Graph, Int, Ints};
use crate::wire::{BOOL, FLOAT, INT32, INT64, Message, bytes_of, float, floats, graph, info, int, ints, model, node};

/// Panics unless the graph of `nodes` over `x` is read.
fn is_read(nodes: &[Message], constants: &[Message], input: &[Option<u64>]) {
    let weights = [floats("W", &[1, 16, 3]), floats("R", &[1, 16, 4]), floats("B", &[1, 32]), ints("one", &[1])];
    let bytes = model(&graph(nodes, &[&weights[..], constants].concat(), &[info("x", FLOAT, input)], &["y"]));
    if let Err(error) = onnx::from_bytes("made", &bytes) {
        panic!("{error}");
    }
}

/// Whether any feature of a timestep differs from `value`, as 0 and 1: `[T, B, 1]`, by a maximum.
fn mask_by_maximum() -> Vec<Message> {
    vec![
        node("Equal", &["x", "value"], &["same"], vec![]),
        node("Not", &["same"], &["differ"], vec![]),
        node("Cast", &["differ"], &["ones"], vec![("to", Int(1))]),
        node("ReduceMax", &["ones"], &["mask"], vec![("axes", Ints(vec![2]))]),
    ]
}

/// `lstm` of another input than `x`.
fn lstm_of(input: &str) -> [Message; 2] {
    [node("LSTM", &[input, "W", "R", "B"], &["Y"], vec![]), node("Squeeze", &["Y", "one"], &["y"], vec![])]
}

#[test]
fn a_product_with_a_mask_that_no_layer_reads_is_refused() {
    let nodes = [mask_by_maximum(), vec![node("Mul", &["x", "mask"], &["kept"], vec![])], lstm_of("kept").to_vec()];
    // Timesteps of 0 stay as they are; others become 0.
    is_read(&nodes.concat(), &[float("value", 0.0)], &OPEN);
    let error = refusal(&nodes.concat(), &[float("value", -1.0)], &OPEN);
    assert!(error.contains("an input that is 0 where a mask is off, which no layer reads"), "{error}");
}

#[test]
fn a_number_of_features_is_no_mask() {
    let mut count = mask_by_maximum();
    count.pop();
    count.push(node("ReduceSum", &["ones", "features"], &["count"], vec![]));
    let constants = [float("value", 0.0), ints("features", &[2])];
    let product = node("Mul", &["x", "count"], &["kept"], vec![]);
    let error = refusal(&[&count[..], &[product], &lstm_of("kept")].concat(), &constants, &OPEN);
    assert!(error.contains("arithmetic on a mask"), "{error}");
    let above = [
        node("Greater", &["count", "value"], &["any"], vec![]),
        node("Cast", &["any"], &["mask"], vec![("to", Int(1))]),
        node("Mul", &["x", "mask"], &["kept"], vec![]),
    ];
    is_read(&[&count[..], &above, &lstm_of("kept")].concat(), &constants, &OPEN);
}

#[test]
fn a_slice_backwards_is_a_reversal_only_if_it_covers_the_axis() {
    let six = [Some(6), None, Some(3)];
    let slice = [node("Slice", &["x", "from", "to", "zero", "back"], &["turned"], vec![])];
    let nodes = [&slice[..], &lstm_of("turned")].concat();
    let part = |from: i64, to: i64| [ints("from", &[from]), ints("to", &[to]), ints("back", &[-1]), ints("zero", &[0])];
    let without_zero = |from: i64, to: i64| part(from, to)[..3].to_vec();
    for (from, to) in [(-1, i64::MIN + 1), (5, -7), (100, -100)] {
        is_read(&nodes, &part(from, to), &six);
    }
    for (from, to) in [(-1, -3), (6, -6), (4, i64::MIN + 1)] {
        let error = refusal(&nodes, &without_zero(from, to), &six);
        assert!(error.contains("node `turned` (Slice)"), "{from} {to}: {error}");
    }
    let error = refusal(&nodes, &without_zero(-1, -7), &OPEN);
    assert!(error.contains("node `turned` (Slice)"), "{error}");
}

/// A masked plain RNN whose last output, a state of its own, is the answer: 0 where no timestep counts.
fn masked_loop() -> Vec<Message> {
    let body = [
        node("Gather", &["x", "i"], &["row"], vec![]),
        node("Gather", &["on_step", "i"], &["counts"], vec![]),
        node("MatMul", &["row", "w"], &["a"], vec![]),
        node("MatMul", &["h", "u"], &["b"], vec![]),
        node("Add", &["a", "b"], &["z"], vec![]),
        node("Tanh", &["z"], &["new"], vec![]),
        node("Where", &["counts", "new", "h"], &["h_next"], vec![]),
        node("Where", &["counts", "new", "o"], &["o_next"], vec![]),
        node("Identity", &["on"], &["go"], vec![]),
    ];
    let state = [Some(1), Some(4)];
    let inputs = [info("i", INT64, &[]), info("on", BOOL, &[]), info("h", FLOAT, &state), info("o", FLOAT, &state)];
    let inner = graph(&body, &[floats("w", &[3, 4]), floats("u", &[4, 4])], &inputs, &["go", "h_next", "o_next"]);
    let mut nodes = mask_by_maximum();
    nodes.push(node("Greater", &["mask", "none"], &["on_step"], vec![]));
    nodes.push(node("ConstantOfShape", &["state"], &["zeros"], vec![]));
    nodes.push(node("Loop", &["trips", "", "begin", "zeros"], &["end", "y"], vec![("body", Graph(inner))]));
    nodes
}

#[test]
fn an_output_of_a_loop_is_its_state_only_if_both_start_alike() {
    let input = [Some(5), Some(1), Some(3)];
    let constants = |h: &str| {
        let start = floats(h, &[1, 4]);
        vec![float("value", 0.0), float("none", 0.0), int("trips", 5), ints("state", &[1, 4]), start]
    };
    let error = refusal(&masked_loop(), &constants("begin"), &input);
    assert!(error.contains("a state that is neither its hidden nor its cell state"), "{error}");
    let mut nodes = masked_loop();
    nodes.insert(0, node("ConstantOfShape", &["state"], &["begin"], vec![]));
    is_read(&nodes, &constants("unused"), &input);
}

#[test]
fn a_product_of_integers_needs_the_zero_point_of_its_input() {
    let product = |zero: &str| {
        [
            node("DynamicQuantizeLinear", &["x"], &["q", "scale", "point"], vec![]),
            node("MatMulInteger", &["q", "m", zero], &["whole"], vec![]),
            node("Cast", &["whole"], &["real"], vec![("to", Int(1))]),
            node("Mul", &["real", "scale"], &["y"], vec![]),
        ]
    };
    let constants = [bytes_of("m", &[3, 4])];
    is_read(&product("point"), &constants, &OPEN);
    let error = refusal(&product(""), &constants, &OPEN);
    assert!(error.contains("a zero point that no DynamicQuantizeLinear gave"), "{error}");
}

#[test]
fn sizes_of_nothing_and_beyond_any_network_are_refused() {
    let body = [
        node("Gather", &["x", "i"], &["row"], vec![]),
        node("MatMul", &["row", "w"], &["z"], vec![]),
        node("Add", &["z", "h"], &["h_next"], vec![]),
        node("Identity", &["on"], &["go"], vec![]),
    ];
    let inputs = [info("i", INT64, &[]), info("on", BOOL, &[]), info("h", FLOAT, &[Some(2), Some(4)])];
    let inner = graph(&body, &[floats("w", &[3, 0])], &inputs, &["go", "h_next"]);
    let nodes = [node("Loop", &["trips", "", "begin"], &["y"], vec![("body", Graph(inner))])];
    let error = refusal(&nodes, &[int("trips", 5), floats("begin", &[2, 4])], &[Some(5), Some(2), Some(3)]);
    assert!(error.contains("`w`") && error.contains("got [3, 0]"), "{error}");
    let error = refusal(&lstm(false, &["W", "R", "B"], vec![]), &[], &[None, None, Some(1 << 25)]);
    assert!(error.contains("33554432 features"), "{error}");
}

/// The answer of a graph of `x` and `lengths` whose nodes before `last` sort the rows by their lengths: `rows`, with the states
/// `Yh` of an LSTM over them, and `back`, which undoes the order.
fn with_sorted_rows(last: &[Message]) -> Result<gatefold::Network, gatefold::Error> {
    let first = [
        node("Shape", &["lengths"], &["n"], vec![]),
        node("TopK", &["lengths", "n"], &["sorted", "order"], vec![]),
        node("Gather", &["x", "order"], &["rows"], vec![("axis", Int(1))]),
        node("LSTM", &["rows", "W", "R", "B", "sorted"], &["Y", "Yh"], vec![]),
        node("Expand", &["zero", "n"], &["zeros"], vec![]),
        node("ReduceProd", &["n"], &["count"], vec![("keepdims", Int(0))]),
        node("Range", &["zero", "count", "step"], &["numbers"], vec![]),
        node("ScatterElements", &["zeros", "order", "numbers"], &["back"], vec![]),
    ];
    let weights = [floats("W", &[1, 16, 3]), floats("R", &[1, 16, 4]), floats("B", &[1, 32])];
    let integers = [int("zero", 0), int("step", 1), ints("first", &[0]), ints("all", &[-1])];
    let inputs = [info("x", FLOAT, &OPEN), info("lengths", INT32, &[None])];
    let nodes = [&first[..], last].concat();
    onnx::from_bytes("made", &bytes_of_model(&nodes, &[&weights[..], &integers].concat(), &inputs))
}

fn bytes_of_model(nodes: &[Message], constants: &[Message], inputs: &[Message]) -> Vec<u8> {
    model(&graph(nodes, constants, inputs, &["y"]))
}

#[test]
fn rows_that_are_sorted_must_be_put_back() {
    let squeezed = |from: &str| node("Squeeze", &[from, "first"], &["y"], vec![]);
    let put_back = node("Gather", &["Yh", "back"], &["own"], vec![("axis", Int(1))]);
    with_sorted_rows(&[put_back.clone(), squeezed("own")]).unwrap();
    let refused = |last: &[Message]| with_sorted_rows(last).unwrap_err().to_string();
    let error = refused(&[squeezed("Yh")]);
    assert!(error.contains("output `y`: rows in the order of their lengths"), "{error}");
    let error = refused(&[
        node("LSTM", &["x", "W", "R", "B", "sorted"], &["", "other"], vec![]),
        put_back.clone(),
        node("Add", &["own", "other"], &["sum"], vec![]),
        squeezed("sum"),
    ]);
    assert!(error.contains("sorted rows together with rows that are not sorted"), "{error}");
    let error = refused(&[
        node("Gather", &["Yh", "order"], &["twice"], vec![("axis", Int(1))]),
        node("Gather", &["twice", "back"], &["own"], vec![("axis", Int(1))]),
        squeezed("own"),
    ]);
    assert!(error.contains("rows that are sorted twice"), "{error}");
    let shortest_first = node("TopK", &["lengths", "n"], &["least", "other"], vec![("largest", Int(0))]);
    let error = refused(&[
        shortest_first,
        put_back,
        node("Gather", &["own", "other"], &["again"], vec![("axis", Int(1))]),
        squeezed("again"),
    ]);
    assert!(error.contains("some of the lengths"), "{error}");
}

#[test]
fn one_row_of_the_batch_is_not_joined_with_all_rows() {
    let states = node("LSTM", &["x", "W", "R", "B"], &["Y", "Yh"], vec![]);
    let rows = node("Squeeze", &["Yh", "first"], &["rows"], vec![]);
    let take = |index: &str, to: &str| node("Gather", &["rows", index], &[to], vec![("axis", Int(0))]);
    let constants = [ints("first", &[0]), int("at_end", -1), int("second", 1)];
    let is_answer = |from: &str| node("Identity", &[from], &["y"], vec![]);
    is_read(&[states.clone(), rows.clone(), take("at_end", "row"), is_answer("row")], &constants, &OPEN);
    // The timesteps of one row with a query of each row.
    let nodes = [
        states.clone(),
        rows.clone(),
        node("Squeeze", &["Y", "one"], &["all"], vec![]),
        node("Gather", &["all", "at_end"], &["keys"], vec![("axis", Int(1))]),
        node("Transpose", &["keys"], &["turned"], vec![]),
        node("Unsqueeze", &["rows", "one"], &["queries"], vec![]),
        node("MatMul", &["queries", "turned"], &["y"], vec![]),
    ];
    let error = refusal(&nodes, &constants, &OPEN);
    assert!(error.contains("one row of the batch together with all rows"), "{error}");
    let nodes =
        [states, rows, take("at_end", "row"), take("second", "other"), node("Add", &["row", "other"], &["y"], vec![])];
    let error = refusal(&nodes, &constants, &OPEN);
    assert!(error.contains("several rows of the batch"), "{error}");
}

/// Behind a reshape of the order too.
#[test]
fn an_order_that_is_reshaped_is_still_one() {
    let reshaped = node("Reshape", &["order", "all"], &["flat"], vec![]);
    let rows = node("Gather", &["Yh", "flat"], &["again"], vec![("axis", Int(1))]);
    let last = [reshaped, rows, node("Squeeze", &["again", "first"], &["y"], vec![])];
    let error = with_sorted_rows(&last).unwrap_err().to_string();
    assert!(error.contains("rows that are sorted twice"), "{error}");
}

/// Timesteps and parts of the channels in one axis: no attention of gatefold's.
#[test]
fn parts_are_not_taken_for_timesteps() {
    let nodes = |target: &'static str| {
        [
            node("LSTM", &["x", "W", "R", "B"], &["Y"], vec![]),
            node("Squeeze", &["Y", "one"], &["seq"], vec![]),
            node("Transpose", &["seq"], &["rows"], vec![("perm", Ints(vec![1, 0, 2]))]),
            node("Shape", &["rows"], &["sizes"], vec![]),
            node("Gather", &["sizes", "at"], &["steps"], vec![]),
            node("Mul", &["steps", "two"], &["twice"], vec![]),
            node("Concat", &["open", target, "two"], &["shape"], vec![("axis", Int(0))]),
            node("Reshape", &["rows", "shape"], &["y"], vec![]),
        ]
    };
    let constants = [ints("at", &[1]), ints("two", &[2]), ints("open", &[-1])];
    let error = refusal(&nodes("twice"), &constants, &OPEN);
    assert!(error.contains("node `y` (Reshape)"), "{error}");
    // With an axis of its own the parts are read.
    let mut with_parts = nodes("steps").to_vec();
    with_parts[6] = node("Concat", &["open", "steps", "two", "two"], &["shape"], vec![("axis", Int(0))]);
    is_read(&with_parts, &constants, &OPEN);
}

/// Where time may come first, the last of the first axis is a timestep.
#[test]
fn a_timestep_is_not_taken_for_a_row() {
    let nodes =
        [node("MatMul", &["x", "w"], &["z"], vec![]), node("Gather", &["z", "at_end"], &["y"], vec![("axis", Int(0))])];
    let weights = [floats("w", &[3, 4]), int("at_end", -1)];
    let bytes = model(&graph(&nodes, &weights, &[info("x", FLOAT, &OPEN)], &["y"]));
    let network = onnx::from_bytes("made", &bytes).unwrap();
    assert_eq!(network.output_axes().len(), 2, "a row for each row of the batch");
}

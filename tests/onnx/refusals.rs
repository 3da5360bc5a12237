//! What is refused, in words that name the node and what to look for; and graphs made to do harm.

use std::time::{Duration, Instant};

use gatefold::formats::onnx;

use crate::support::bundle;
use crate::wire::Attribute::{Graph, Int, Ints, Text, Texts};
use crate::wire::{BOOL, FLOAT, INT64, Message, float, floats, graph, info, int, ints, model, node};

/// The error of a model of `nodes` over `input`.
pub fn refusal(nodes: &[Message], constants: &[Message], input: &[Option<u64>]) -> String {
    let weights = [
        floats("W", &[1, 16, 3]),
        floats("R", &[1, 16, 4]),
        floats("B", &[1, 32]),
        floats("W2", &[2, 16, 3]),
        floats("R2", &[2, 16, 4]),
        ints("zero", &[0]),
        ints("one", &[1]),
        int("last", -1),
    ];
    let constants = [&weights[..], constants].concat();
    let bytes = model(&graph(nodes, &constants, &[info("x", FLOAT, input)], &["y"]));
    let begun = Instant::now();
    let error = onnx::from_bytes("made", &bytes).expect_err("a refusal").to_string();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {error}", begun.elapsed());
    for internal in ["Known(", "Below(", "Some(", "None", "Batch", "Channel", "Unit", "Time,", "Direction", "Any"] {
        assert!(!error.contains(internal), "{internal} in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
    error
}

pub const OPEN: [Option<u64>; 3] = [None, None, Some(3)];

/// An LSTM whose input is `x`, with the batch's axis first or not.
pub fn lstm(batch_first: bool, inputs: &[&str], attributes: Vec<(&str, crate::wire::Attribute)>) -> Vec<Message> {
    let mut nodes = Vec::new();
    let read = if batch_first { "xt" } else { "x" };
    if batch_first {
        nodes.push(node("Transpose", &["x"], &["xt"], vec![("perm", Ints(vec![1, 0, 2]))]));
    }
    let inputs: Vec<&str> = std::iter::once(read).chain(inputs.iter().copied()).collect();
    nodes.push(node("LSTM", &inputs, &["Y", "Yh", "Yc"], attributes));
    nodes.push(node("Squeeze", &["Y", "one"], &["y"], vec![]));
    nodes
}

#[test]
fn both_orders_of_the_input_have_the_same_words() {
    type Case = (Vec<&'static str>, fn() -> Vec<(&'static str, crate::wire::Attribute)>, &'static str);
    let cases: [Case; 4] = [
        (vec!["wide", "R", "B"], Vec::new, "expected W of shape [1, 16, 3], got [1, 16, 7]"),
        (
            vec!["W", "R", "B"],
            || vec![("activations", Texts(vec!["Sigmoid", "Tanh", "Softmax"]))],
            "activation `Softmax`",
        ),
        (vec!["W", "R", "B", "", "differ", "differ"], Vec::new, "differs between batch rows"),
        (vec!["W", "R", "B", "", "narrow", "narrow"], Vec::new, "initial state of shape [1, B, 4], got [1, 2, 3]"),
    ];
    let constants = [floats("wide", &[1, 16, 7]), floats("differ", &[1, 2, 4]), floats("narrow", &[1, 2, 3])];
    for (inputs, attributes, words) in cases {
        let errors =
            [true, false].map(|batch_first| refusal(&lstm(batch_first, &inputs, attributes()), &constants, &OPEN));
        assert!(errors[0].contains(words), "{}", errors[0]);
        assert_eq!(errors[0], errors[1]);
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let first = lstm(false, &["W", "R", "B"], vec![]);
    let then = |more: &[Message]| [&first[..2 - 1], more].concat();
    let squeeze = node("Squeeze", &["Y", "one"], &["s"], vec![]);
    let matrix = [
        floats("m", &[4, 2]),
        ints("shape", &[-1, 20]),
        ints("pads", &[0, 0, 0, 0, 0, 2]),
        ints("time", &[2, 0, 0, 0, 0, 0]),
    ];
    let branch = |op: &str| graph(&[node(op, &["Yh"], &[op], vec![])], &[], &[], &[op]);
    let cases: Vec<(Vec<Message>, &str)> = vec![
        (
            then(&[squeeze.clone(), node("Reshape", &["s", "shape"], &["y"], vec![])]),
            "a reshape of [T, B, N] of sizes [T, B, 4] to [-1, 20]",
        ),
        (
            then(&[squeeze.clone(), node("Softmax", &["s"], &["y"], vec![("axis", Int(1))])]),
            "a softmax over B of [T, B, N]",
        ),
        (then(&[squeeze.clone(), node("Pad", &["s", "pads"], &["y"], vec![])]), "padding along N"),
        (
            then(&[squeeze.clone(), node("Pad", &["s", "time"], &["y"], vec![("mode", Text("edge"))])]),
            "padding in mode `edge`",
        ),
        (then(&[squeeze.clone(), node("Einsum", &["s"], &["y"], vec![])]), "operator `Einsum`"),
        (then(&[squeeze.clone(), node("CumSum", &["s", "last"], &["y"], vec![])]), "operator `CumSum`"),
        (
            then(&[
                node("Shape", &["x"], &["sizes"], vec![]),
                node("Gather", &["sizes", "last"], &["rows"], vec![]),
                node("Gather", &["sizes", "first"], &["size"], vec![]),
                node("Equal", &["size", "first"], &["is"], vec![]),
                node(
                    "If",
                    &["is"],
                    &["y"],
                    vec![("then_branch", Graph(branch("Identity"))), ("else_branch", Graph(branch("Neg")))],
                ),
            ]),
            "a branch that depends on the input's numbers or on sizes left open",
        ),
        (
            then(&[squeeze, node("Tile", &["s", "twice"], &["y"], vec![])]),
            "a repetition along T of [T, B, N] of sizes [T, B, 4]",
        ),
    ];
    let more = [int("first", 1), ints("twice", &[2, 1, 1])];
    for (nodes, words) in cases {
        let error = refusal(&nodes, &[&matrix[..], &more].concat(), &OPEN);
        assert!(error.contains("node `") && error.contains(words) && error.ends_with("is not supported"), "{error}");
    }
    // Attention among all timesteps, and an input of too many axes.
    let both = [
        node("Transpose", &["x"], &["xt"], vec![("perm", Ints(vec![0, 2, 1]))]),
        node("MatMul", &["x", "xt"], &["y"], vec![]),
    ];
    let error = refusal(&both, &[], &OPEN);
    assert!(error.contains("output `y`: ") && error.ends_with("is not supported"), "{error}");
    let error = refusal(&lstm(false, &["W", "R", "B"], vec![]), &[], &[None; 5]);
    assert!(error.contains("input `x`: an input of 5 axes"), "{error}");
}

/// A loop over `x` `[T, B, 3]` with one state `[2, 4]`, its body given.
fn loop_of(body: &[Message], trips: i64, condition: &str, constants: &[Message]) -> String {
    loop_in(body, trips, condition, constants, &[Some(5), Some(2), Some(3)])
}

fn loop_in(body: &[Message], trips: i64, condition: &str, constants: &[Message], input: &[Option<u64>]) -> String {
    let inputs = [info("i", INT64, &[]), info("on", BOOL, &[]), info("h", FLOAT, &[Some(2), Some(4)])];
    let makes_state = body.iter().any(|node| node.windows(6).any(|name| name == b"h_next"));
    let step = node("Identity", &[if makes_state { "h_next" } else { "h" }], &["step"], vec![]);
    let state = if makes_state { "h_next" } else { "h" };
    let inner = graph(&[body, &[step]].concat(), constants, &inputs, &[condition, state, "step"]);
    let nodes = [node("Loop", &["trips", "", "start"], &["end", "y"], vec![("body", Graph(inner))])];
    refusal(&nodes, &[int("trips", trips), zeros()], input)
}

fn zeros() -> Message {
    // The first of `floats` is 0, so a state of one row and one unit would do; a scaled one keeps the shape.
    floats("start", &[1, 4])
}

/// `tanh(x w + h u)`, and what reads a step.
fn cell() -> Vec<Message> {
    vec![
        node("Gather", &["x", "i"], &["row"], vec![]),
        node("MatMul", &["row", "w"], &["a"], vec![]),
        node("MatMul", &["h", "u"], &["b"], vec![]),
        node("Add", &["a", "b"], &["z"], vec![]),
        node("Tanh", &["z"], &["h_next"], vec![]),
    ]
}

#[test]
fn loops_that_are_no_layer_are_named() {
    let weights = [floats("w", &[3, 4]), floats("u", &[4, 4])];
    let with = |op: &str, at: usize, nodes: &[Message]| {
        let mut body = cell();
        let _ = op;
        body.splice(at..=at, nodes.iter().cloned());
        body
    };
    // A trip count other than T, and one of 2^63 - 1 without a condition.
    for trips in [4, i64::MAX] {
        let error = loop_of(&cell(), trips, "on", &weights);
        assert!(error.contains("a loop that runs another number of times than its sequence has timesteps"), "{error}");
    }
    let error = loop_of(&with("Tanh", 4, &[node("Sin", &["z"], &["h_next"], vec![])]), 5, "on", &weights);
    assert!(error.contains("operator `Sin` in a loop's body"), "{error}");
    let product = [node("Tanh", &["z"], &["t"], vec![]), node("Mul", &["t", "t"], &["h_next"], vec![])];
    let error = loop_of(&with("Tanh", 4, &product), 5, "on", &weights);
    assert!(error.contains("a loop whose body computes no LSTM, GRU or plain RNN"), "{error}");
    let ends =
        [cell(), vec![node("ReduceMax", &["z"], &["top"], vec![]), node("Less", &["top", "two"], &["go"], vec![])]]
            .concat();
    let error = loop_of(&ends, 5, "go", &[&weights[..], &[float("two", 2.0)]].concat());
    assert!(error.contains("in a loop's body"), "{error}");
    let early = [cell(), vec![node("Less", &["i", "three"], &["go"], vec![])]].concat();
    let error = loop_of(&early, 5, "go", &[&weights[..], &[int("three", 3)]].concat());
    assert!(error.contains("a loop that may end before its sequence"), "{error}");
    let other = with(
        "Gather",
        0,
        &[node("Add", &["i", "next"], &["j"], vec![]), node("Gather", &["x", "j"], &["row"], vec![])],
    );
    let error = loop_of(&other, 5, "on", &[&weights[..], &[int("next", 1)]].concat());
    assert!(error.contains("a loop's body that computes no LSTM, GRU or plain RNN"), "{error}");
}

#[test]
fn harmful_graphs_are_refused_in_bounded_time() {
    // Graphs in each other.
    let mut inner = graph(&[node("Identity", &["x"], &["y0"], vec![])], &[], &[], &["y0"]);
    for depth in 1..30 {
        let output = format!("y{depth}");
        let branches = vec![("then_branch", Graph(inner.clone())), ("else_branch", Graph(Vec::new()))];
        inner = graph(&[node("If", &["yes"], &[&output], branches)], &[], &[], &[&output]);
    }
    let nodes = [node("If", &["yes"], &["y"], vec![("then_branch", Graph(inner)), ("else_branch", Graph(Vec::new()))])];
    let error = refusal(&nodes, &[int("yes", 1)], &OPEN);
    assert!(error.contains("graphs up to 8 deep in each other") || error.contains("recursion limit"), "{error}");
    // A body that depends on itself, takes a name of the graph around it, or reads what nothing makes.
    let cases: [(Vec<Message>, &str); 3] = [
        (
            vec![node("Add", &["a", "h"], &["b"], vec![]), node("Add", &["b", "h"], &["a"], vec![])],
            "expected inputs that earlier nodes make, got `a` of a later one",
        ),
        (vec![node("Add", &["h", "h"], &["start"], vec![])], "which the graph around it has"),
        (vec![node("Add", &["h", "nothing"], &["h_next"], vec![])], "`nothing`, which nothing makes"),
    ];
    for (body, words) in cases {
        let error = loop_of(&body, 5, "on", &[]);
        assert!(error.contains(words), "{error}");
    }
    // Sizes beyond any memory.
    let huge = [
        ints("huge", &[1 << 40, 1 << 40, 4]),
        int("a", 0),
        int("many", i64::MAX),
        int("step", 1),
        ints("times", &[1 << 62]),
    ];
    for nodes in [
        vec![node("Expand", &["B", "huge"], &["y"], vec![])],
        vec![node("Range", &["a", "many", "step"], &["y"], vec![])],
        vec![node("Tile", &["zero", "times"], &["y"], vec![])],
        vec![node("ConstantOfShape", &["huge"], &["s"], vec![]), node("Add", &["s", "x"], &["y"], vec![])],
    ] {
        refusal(&nodes, &huge, &OPEN);
    }
    // A body whose terms multiply.
    let mut body = cell();
    body.pop();
    let mut sum = "z".to_owned();
    body.push(node("Tanh", &["z"], &["t"], vec![]));
    for at in 0..200 {
        let (squared, next) = (format!("q{at}"), format!("s{at}"));
        body.push(node("Mul", &[&sum, &sum], &[&squared], vec![]));
        body.push(node("Add", &[&squared, "t"], &[&next], vec![]));
        sum = next;
    }
    body.push(node("Identity", &[&sum], &["h_next"], vec![]));
    let error = loop_of(&body, 5, "on", &[floats("w", &[3, 4]), floats("u", &[4, 4])]);
    assert!(error.contains("in a loop's body"), "{error}");
}

#[test]
fn a_survey_lists_everything_that_is_refused() {
    let nodes = [
        lstm(false, &["W", "R", "B"], vec![]).swap_remove(0),
        node("Squeeze", &["Y", "one"], &["s"], vec![]),
        node("CumSum", &["s", "last"], &["sum"], vec![]),
        node("Relu", &["sum"], &["more"], vec![]),
        node("Einsum", &["more"], &["y"], vec![]),
        node("Sin", &["s"], &["unused"], vec![]),
    ];
    let constants =
        [floats("W", &[1, 16, 3]), floats("R", &[1, 16, 4]), floats("B", &[1, 32]), ints("one", &[1]), int("last", -1)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refused.onnx");
    std::fs::write(&path, model(&graph(&nodes, &constants, &[info("x", FLOAT, &OPEN)], &["y"]))).unwrap();
    let survey = onnx::survey(&path).unwrap();
    assert_eq!((survey.nodes, survey.read, survey.behind), (5, 2, 1));
    assert_eq!(survey.refusals.len(), 2, "{:?}", survey.refusals);
    assert!(survey.refusals[0].contains("operator `CumSum`") && survey.refusals[1].contains("operator `Einsum`"));
    // A file that is read has nothing to list.
    let files = bundle("onnx_files.zip");
    std::fs::write(&path, &files["hand_loop_basic_lstm.onnx"]).unwrap();
    let survey = onnx::survey(&path).unwrap();
    assert!(survey.refusals.is_empty() && survey.read == survey.nodes, "{survey:?}");
}

/// Classes are integers: ONNX computes with them as such, which a network does not.
#[test]
fn an_arg_max_is_an_answer() {
    let read = |axis: i64| node("ArgMax", &["a"], &["c"], vec![("axis", Int(axis))]);
    let begin = [node("Abs", &["x"], &["a"], vec![]), read(2)];
    let cases = [
        (node("Div", &["c", "one"], &["y"], vec![]), "arithmetic on the integers of an ArgMax"),
        (node("Gather", &["table", "c"], &["y"], vec![]), "(Gather)"),
        (node("Cast", &["c"], &["y"], vec![("to", Int(9))]), "a cast of numbers to integers"),
    ];
    for (last, words) in cases {
        let error = refusal(&[&begin[..], &[last]].concat(), &[floats("table", &[3, 4])], &OPEN);
        assert!(error.contains(words), "{words}: {error}");
    }
    let last =
        [begin[0].clone(), node("ArgMax", &["a"], &["y"], vec![("axis", Int(2)), ("select_last_index", Int(1))])];
    let error = refusal(&last, &[], &OPEN);
    assert!(error.contains("the last of equal numbers (select_last_index)"), "{error}");
    let over_time = [begin[0].clone(), node("ArgMax", &["a"], &["y"], vec![("axis", Int(0))])];
    assert!(refusal(&over_time, &[], &OPEN).contains("the largest over"));
}

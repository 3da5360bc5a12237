//! What the inputs of the graph are for, and what the axes of the main one may mean.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{GraphInput, OnnxGraph, OnnxNode, SubGraph};
use super::value::AxisLabel;
use super::{OnnxOptions, choices, malformed, unsupported, words};
use crate::base::error::Result;

/// What the inputs of the graph are for.
pub struct Roles<'a> {
    pub main: &'a GraphInput,
    /// Whether the main input holds token ids.
    pub tokens: bool,
    pub lengths: BTreeSet<&'a str>,
    pub states: BTreeSet<&'a str>,
    /// Integer inputs of one number, and that number where it is known.
    pub fixed: BTreeMap<&'a str, Option<i64>>,
}

/// One way to read the main input.
#[derive(Clone)]
pub struct Reading {
    pub axes: Vec<AxisLabel>,
    /// Its number of features; `None` for token ids.
    pub width: Option<usize>,
    /// Whether inputs that are no states of recurrent nodes are inputs of the network, instead of states of a single step.
    pub others: bool,
    /// Whether those of two axes have a number for each timestep, as a mask, instead of being vectors.
    pub per_step: bool,
}

/// Values that an output depends on, those of loops and branches among them.
pub fn live(graph: &OnnxGraph) -> BTreeSet<&str> {
    let mut live = BTreeSet::new();
    live_in(&graph.main, &mut live);
    live
}

fn live_in<'a>(graph: &'a SubGraph, live: &mut BTreeSet<&'a str>) {
    live.extend(graph.outputs.iter().map(String::as_str));
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| live.contains(o.as_str())) {
            live.extend(node.inputs.iter().chain(&node.captures).map(String::as_str));
            node.graphs.values().for_each(|graph| live_in(graph, live));
        }
    }
}

/// Operators that pass their first input on.
const PASSES: [&str; 12] = [
    "Cast",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "TopK",
    "Transpose",
    "Unsqueeze",
];

/// Adds the values that recurrent nodes take as states and as lengths, and those that these come from.
fn mark<'a>(graph: &'a SubGraph, states: &mut BTreeSet<&'a str>, lengths: &mut BTreeSet<&'a str>) {
    for node in graph.nodes.iter().rev() {
        for branch in node.graphs.values().filter(|_| node.op == "If") {
            for set in [&mut *states, lengths] {
                let inner = node.outputs.iter().zip(&branch.outputs);
                let passed: Vec<&str> =
                    inner.filter(|(outer, _)| set.contains(outer.as_str())).map(|(_, inner)| inner.as_str()).collect();
                set.extend(passed);
            }
            mark(branch, states, lengths);
        }
        if matches!(node.op.as_str(), "LSTM" | "GRU" | "RNN" | "com.microsoft.DynamicQuantizeLSTM") {
            lengths.extend(node.inputs.get(4).map(String::as_str));
            states.extend(node.inputs.iter().skip(5).take(2).map(String::as_str));
        } else if matches!(node.op.as_str(), "GatherElements" | "GatherND") || picks_computed(graph, node) {
            lengths.extend(node.inputs.get(1).map(String::as_str));
        } else if matches!(node.op.as_str(), "Add" | "Concat") {
            // Where the last timesteps are: the numbers of the rows beside the lengths.
            if node.outputs.iter().any(|o| lengths.contains(o.as_str())) {
                lengths.extend(node.inputs.iter().map(String::as_str));
            }
        } else if PASSES.contains(&node.op.as_str()) {
            let first = node.inputs.first().map(String::as_str);
            for set in [&mut *states, lengths] {
                if node.outputs.iter().any(|o| set.contains(o.as_str())) {
                    set.extend(first);
                }
            }
        }
    }
}

/// Whether a Gather picks from a value that the graph computes, by computed numbers.
fn picks_computed(graph: &SubGraph, node: &OnnxNode) -> bool {
    node.op == "Gather" && node.inputs.iter().all(|name| !graph.constants.contains_key(name))
}

/// What the inputs may be for, likeliest first.
pub fn roles<'a>(graph: &'a OnnxGraph, live: &BTreeSet<&str>, options: &OnnxOptions) -> Result<Vec<Roles<'a>>> {
    let (mut states, mut lengths) = (BTreeSet::new(), BTreeSet::new());
    mark(&graph.main, &mut states, &mut lengths);
    // Lengths have one axis.
    for input in graph.inputs.iter().filter(|input| input.shape.as_ref().is_some_and(|shape| shape.len() > 1)) {
        lengths.remove(input.name.as_str());
    }
    let fixed = choices::fixed(graph, options)?;
    let others = |name: &str| !states.contains(name) && !lengths.contains(name) && !fixed.contains_key(name);
    let free: Vec<&GraphInput> = graph.inputs.iter().filter(|input| others(&input.name)).collect();
    // The first that may be a sequence.
    let rank = |input: &GraphInput| input.shape.as_ref().map_or(0, Vec::len);
    let is_sequence = |input: &&&GraphInput| rank(input) == 3 || (input.integers && rank(input) == 2);
    let Some(&first) = free.first() else {
        return Err(malformed("ONNX model", "an input", "none but states".into()));
    };
    let mut mains = vec![free.iter().find(is_sequence).copied().unwrap_or(first)];
    // States of a step that is taken apart may come in one tensor of three axes.
    if !std::ptr::eq(mains[0], first) {
        mains.push(first);
    }
    let of = |main: &'a GraphInput| {
        let tokens = main.integers || looked_up(graph, main, live);
        Roles { main, tokens, lengths: lengths.clone(), states: states.clone(), fixed: fixed.clone() }
    };
    Ok(mains.into_iter().map(of).collect())
}

/// Whether an input of floats is cast to integers, as exporters write token ids that Keras takes as floats.
pub fn looked_up(graph: &OnnxGraph, main: &GraphInput, live: &BTreeSet<&str>) -> bool {
    let is_live = |node: &&OnnxNode| node.outputs.iter().any(|o| live.contains(o.as_str()));
    let mut passed = BTreeSet::from([main.name.as_str()]);
    for node in graph.main.nodes.iter().filter(is_live) {
        let reads = node.inputs.first().is_some_and(|input| passed.contains(input.as_str()));
        if reads && node.op == "Cast" && matches!(node.int("to", 0), Ok(6 | 7)) {
            return main.shape.as_ref().is_some_and(|shape| shape.len() < 3);
        }
        if reads && matches!(node.op.as_str(), "Identity" | "Transpose" | "Reshape") {
            passed.extend(node.outputs.iter().map(String::as_str));
        }
    }
    false
}

/// The ways in which the network's input may be meant, likeliest first.
pub fn readings(graph: &OnnxGraph, roles: &Roles) -> Result<Vec<Reading>> {
    use AxisLabel::{Batch, Channel, Time};
    let input = roles.main;
    let place = || format!("input `{}`", input.name);
    let Some(shape) = &input.shape else { return Err(unsupported(place(), "an input without a shape")) };
    let orders: &[&[AxisLabel]] = match (roles.tokens, shape.len()) {
        (true, 2) => &[&[Batch, Time], &[Time, Batch]],
        (true, 1) => &[&[Time]],
        (false, 3) => &[&[Batch, Time, Channel], &[Time, Batch, Channel], &[Batch, Channel, Time]],
        // The last two: one feature, whose axis the graph adds.
        (false, 2) => &[&[Time, Channel], &[Batch, Channel], &[Batch, Time], &[Time, Batch]],
        (false, 1) => &[&[Time]],
        (_, rank) => return Err(unsupported(place(), format!("an input of {rank} axes"))),
    };
    let mut readings = Vec::new();
    for axes in orders {
        let channel = axes.iter().position(|&axis| axis == Channel);
        let widths = match channel.map(|at| shape[at]) {
            _ if roles.tokens => vec![None],
            None => vec![Some(1)],
            Some(Some(width)) => vec![Some(width)],
            // An axis of one feature has a size in the file; one that is left open is time.
            Some(None) => widths(graph).into_iter().filter(|&n| n > 1 || shape.len() > 2).map(Some).collect(),
        };
        readings.extend(widths.into_iter().map(|width| Reading {
            axes: axes.to_vec(),
            width,
            others: false,
            per_step: false,
        }));
    }
    let is_other = |input: &GraphInput| {
        let name = input.name.as_str();
        !std::ptr::eq(input, roles.main)
            && !roles.states.contains(name)
            && !roles.lengths.contains(name)
            && !roles.fixed.contains_key(name)
    };
    if graph.inputs.iter().any(is_other) {
        let alone = readings.clone();
        let with = |per_step: bool| {
            alone.iter().map(move |reading| Reading { others: true, per_step, ..reading.clone() }).collect::<Vec<_>>()
        };
        readings.extend([with(false), with(true)].concat());
    }
    if readings.is_empty() {
        let what = format!("a number of features left open ({}), which no weight says", words::open_shape(shape));
        return Err(unsupported(place(), what));
    }
    Ok(readings)
}

/// The widths of inputs that the weights of the first layers have.
fn widths(graph: &OnnxGraph) -> Vec<usize> {
    const MOST: usize = 8;
    let mut widths = Vec::new();
    for node in &graph.main.nodes {
        let shape = |index: usize| {
            let array = node.inputs.get(index).and_then(|name| graph.main.constants.get(name));
            array.map_or(&[][..], |array| &array.shape)
        };
        let captured = |name: &String| graph.main.constants.get(name).map(|array| array.shape.as_slice());
        let found: Vec<usize> = match (node.op.as_str(), shape(1)) {
            ("LSTM" | "GRU" | "RNN", &[_, _, width]) => vec![width],
            ("MatMul" | "Gemm", &[rows, columns]) => vec![rows, columns],
            ("Conv", &[_, width, ..]) => vec![width],
            ("Loop" | "Scan", _) => {
                let arrays = node.inputs.iter().chain(&node.captures).filter_map(captured);
                arrays.filter_map(|shape| if let [rows, _] = *shape { Some(rows) } else { None }).collect()
            }
            _ => Vec::new(),
        };
        widths.extend(found);
    }
    let mut seen = BTreeSet::new();
    widths.retain(|&width| seen.insert(width));
    widths.truncate(MOST);
    widths
}

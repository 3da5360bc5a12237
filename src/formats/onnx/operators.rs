//! Signatures of the operators: the number of inputs and outputs, and their element types.
//!
//! A file that breaks these rules is refused by every runtime. If it were read all the same, it could be another network
//! than the one that its exporter meant.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{OnnxNode, SubGraph};
use crate::base::error::Result;

/// ONNX's numbers of element types.
const FLOAT: i32 = 1;
const INT32: i32 = 6;
const INT64: i32 = 7;
const BOOL: i32 = 9;
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;

/// Name, inputs and outputs. A letter stands for an element type: `S` is the same in all places of a node, `a` is any,
/// `l` is int64, `i` int32, `b` bool, `x` either integer and the same in all places, `s` as `S`, or float where another input has a half type. `|` stands before what is optional,
/// `*` after what may be repeated. The outputs of Cast, Constant and ConstantOfShape are as an attribute says (`v`).
const OPERATORS: [(&str, &str, &str); 98] = [
    ("Abs", "S", "S"),
    ("Add", "SS", "S"),
    ("And", "bb", "b"),
    ("ArgMax", "S", "l"),
    ("AveragePool", "S", "S"),
    ("BatchNormalization", "SSSss", "Saaaa"),
    ("Cast", "a", "v"),
    ("Celu", "S", "S"),
    ("Clip", "S|SS", "S"),
    ("Concat", "S*", "S"),
    ("Constant", "", "v"),
    ("ConstantOfShape", "l", "v"),
    ("Conv", "SS|S", "S"),
    ("DequantizeLinear", "aa|a", "a"),
    ("Div", "SS", "S"),
    ("Dropout", "S|ab", "Sb"),
    ("DynamicQuantizeLinear", "a", "aaa"),
    ("Elu", "S", "S"),
    ("Equal", "SS", "b"),
    ("Erf", "S", "S"),
    ("Exp", "S", "S"),
    ("Expand", "Sl", "S"),
    ("Flatten", "S", "S"),
    ("GRU", "SSS|SiS", "SS"),
    ("Gather", "Sx", "S"),
    ("GatherElements", "Sx", "S"),
    ("GatherND", "Sl", "S"),
    ("Gelu", "S", "S"),
    ("Gemm", "SS|S", "S"),
    ("GlobalAveragePool", "S", "S"),
    ("GlobalMaxPool", "S", "S"),
    ("Greater", "SS", "b"),
    ("GreaterOrEqual", "SS", "b"),
    ("HardSigmoid", "S", "S"),
    ("HardSwish", "S", "S"),
    ("Identity", "S", "S"),
    ("InstanceNormalization", "SSS", "S"),
    ("LSTM", "SSS|SiSSS", "SSS"),
    ("LayerNormalization", "SS|S", "Saa"),
    ("LeakyRelu", "S", "S"),
    ("Less", "SS", "b"),
    ("LessOrEqual", "SS", "b"),
    ("Log", "S", "S"),
    ("LogSoftmax", "S", "S"),
    ("MatMul", "SS", "S"),
    ("MatMulInteger", "aa|aa", "a"),
    ("Max", "S*", "S"),
    ("MaxPool", "S", "Sl"),
    ("Mean", "S*", "S"),
    ("Min", "S*", "S"),
    ("Mish", "S", "S"),
    ("Mod", "SS", "S"),
    ("Mul", "SS", "S"),
    ("Neg", "S", "S"),
    ("Not", "b", "b"),
    ("OneHot", "aaS", "S"),
    ("Or", "bb", "b"),
    ("PRelu", "SS", "S"),
    ("Pad", "S|lSx", "S"),
    ("Pow", "Sa", "S"),
    ("RMSNormalization", "SS", "S"),
    ("RNN", "SSS|SiS", "SS"),
    ("Range", "SSS", "S"),
    ("Reciprocal", "S", "S"),
    ("ReduceL1", "S|l", "S"),
    ("ReduceL2", "S|l", "S"),
    ("ReduceMax", "S|l", "S"),
    ("ReduceMean", "S|l", "S"),
    ("ReduceMin", "S|l", "S"),
    ("ReduceProd", "S|l", "S"),
    ("ReduceSum", "S|l", "S"),
    ("ReduceSumSquare", "S|l", "S"),
    ("Relu", "S", "S"),
    ("Reshape", "Sl", "S"),
    ("ReverseSequence", "Sl", "S"),
    ("ScatterElements", "SxS", "S"),
    ("Selu", "S", "S"),
    ("Shape", "a", "l"),
    ("Sigmoid", "S", "S"),
    ("Size", "a", "l"),
    ("Slice", "S|xxxx", "S"),
    ("Softmax", "S", "S"),
    ("Softplus", "S", "S"),
    ("Softsign", "S", "S"),
    ("Split", "S|l", "S*"),
    ("Sqrt", "S", "S"),
    ("Squeeze", "S|l", "S"),
    ("Sub", "SS", "S"),
    ("Sum", "S*", "S"),
    ("Swish", "S", "S"),
    ("Tanh", "S", "S"),
    ("ThresholdedRelu", "S", "S"),
    ("Tile", "Sl", "S"),
    ("TopK", "S|l", "Sl"),
    ("Transpose", "S", "S"),
    ("Unsqueeze", "S|l", "S"),
    ("Where", "bSS", "S"),
    ("Xor", "bb", "b"),
];

/// The letters of a signature, which of them are required, and whether the last may be repeated.
fn letters(signature: &str) -> (Vec<char>, usize, bool) {
    let required = signature.find('|').unwrap_or(signature.len()).min(signature.find('*').unwrap_or(usize::MAX));
    (signature.chars().filter(char::is_ascii_alphabetic).collect(), required, signature.ends_with('*'))
}

/// Operators whose inputs and outputs are not checked by a signature.
const OTHERS: [&str; 4] = ["If", "Loop", "Scan", "com.microsoft.DynamicQuantizeLSTM"];

/// Whether nodes of an operator are read, with some of its options.
pub fn is_known(op: &str) -> bool {
    OPERATORS.iter().any(|(name, ..)| *name == op) || OTHERS.contains(&op)
}

/// Checks every node of `graph` that an output depends on. Operators that are not in the table are refused elsewhere.
pub fn check(graph: &SubGraph, outer: &BTreeMap<String, i32>, live: &BTreeSet<&str>) -> Result<()> {
    let mut types: BTreeMap<&str, i32> = outer.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    types.extend(graph.types.iter().map(|(name, kind)| (name.as_str(), *kind)));
    let is_live = |node: &&OnnxNode| node.outputs.iter().any(|o| live.contains(o.as_str()));
    for node in graph.nodes.iter().filter(is_live) {
        if !node.graphs.is_empty() {
            let around = |name: &String| types.get(name.as_str()).map(|kind| (name.clone(), *kind));
            let captured = node.captures.iter().filter_map(around).collect();
            node.graphs.values().try_for_each(|graph| check(graph, &captured, live))?;
            check_body(node, &types)?;
        }
        let row = OPERATORS.iter().find(|(name, ..)| *name == node.op);
        let Some((_, inputs, outputs)) = row else { continue };
        count(node, inputs, outputs)?;
        let same = check_types(node, inputs, &types)?;
        let (letters, ..) = letters(outputs);
        for (at, output) in node.outputs.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            let kind = match letters.get(at).or(letters.last()) {
                Some('S') => same,
                Some('l') => Some(INT64),
                Some('b') => Some(BOOL),
                Some('v') => stated(node)?,
                _ => None,
            };
            if let Some(kind) = kind {
                types.insert(output, kind);
            }
        }
    }
    Ok(())
}

/// Checks the types of what a Loop or a Scan gives its body.
fn check_body(node: &OnnxNode, types: &BTreeMap<&str, i32>) -> Result<()> {
    let Some(body) = node.graphs.get("body") else { return Ok(()) };
    let stated = |at: usize| body.inputs.get(at).and_then(|name| body.types.get(name)).copied();
    for (at, name) in node.inputs.iter().enumerate() {
        let expected = match (node.op.as_str(), at) {
            ("Loop", 0) => Some(INT64),
            ("Loop", 1) => Some(BOOL),
            _ => stated(at),
        };
        if let (Some(expected), Some(&kind)) = (expected.filter(|&kind| kind != 0), types.get(name.as_str()))
            && kind != expected
        {
            let expected = format!("input {at} of ONNX data type {expected}");
            return Err(node.malformed(expected, format!("`{name}` of data type {kind}")));
        }
    }
    Ok(())
}

fn count(node: &OnnxNode, inputs: &str, outputs: &str) -> Result<()> {
    for (what, names, signature) in [("inputs", &node.inputs, inputs), ("outputs", &node.outputs, outputs)] {
        let (letters, required, repeated) = letters(signature);
        let most = if repeated { usize::MAX } else { letters.len() };
        // Names that are empty, of what is left out, count.
        if names.len() > most {
            return Err(node.malformed(format!("at most {most} {what}"), names.len().to_string()));
        }
        if what == "inputs"
            && let Some(at) = (0..required).find(|&at| names.get(at).is_none_or(String::is_empty))
        {
            return Err(node.malformed(format!("input {at}"), "none"));
        }
    }
    Ok(())
}

/// Checks the element types of a node's inputs, as far as they are known; gives the one that `S` stands for.
fn check_types(node: &OnnxNode, inputs: &str, types: &BTreeMap<&str, i32>) -> Result<Option<i32>> {
    let (letters, ..) = letters(inputs);
    let (mut same, mut index): (Option<i32>, Option<i32>) = (None, None);
    for (at, name) in node.inputs.iter().enumerate() {
        let Some(&kind) = types.get(name.as_str()) else { continue };
        let expected = match letters.get(at).or(letters.last()) {
            Some('S') => *same.get_or_insert(kind),
            Some('s') if kind == FLOAT && same.is_some_and(|same| [FLOAT16, BFLOAT16].contains(&same)) => kind,
            Some('s') => same.unwrap_or(kind),
            Some('x') if [INT32, INT64].contains(&kind) => *index.get_or_insert(kind),
            Some('x' | 'l') => INT64,
            Some('i') => INT32,
            Some('b') => BOOL,
            _ => kind,
        };
        if kind != expected {
            return Err(node.malformed(
                format!("input {at} of ONNX data type {expected}"),
                format!("`{name}` of data type {kind}"),
            ));
        }
    }
    Ok(same)
}

/// The element type that an attribute states.
fn stated(node: &OnnxNode) -> Result<Option<i32>> {
    Ok(match node.op.as_str() {
        "Cast" => i32::try_from(node.int("to", 0)?).ok(),
        "ConstantOfShape" => Some(node.tensor_type("value")?.unwrap_or(FLOAT)),
        _ if node.has("value_float") || node.has("value_floats") => Some(FLOAT),
        _ if node.has("value_int") || node.has("value_ints") => Some(INT64),
        _ => node.tensor_type("value")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{OPERATORS, OTHERS};

    #[test]
    fn the_documented_operators_are_those_that_are_read() {
        let text = include_str!("../../../docs/options.md");
        let section = text.split("## ONNX: operators").nth(1).and_then(|rest| rest.split("\n## ").next());
        let first_column = section.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<&str> = first_column
            .filter_map(|row| row.split('|').next())
            .flat_map(|names| names.split(',').map(|name| name.trim().trim_matches('`')))
            .collect();
        let read: BTreeSet<&str> = OPERATORS.iter().map(|(name, ..)| *name).chain(OTHERS).collect();
        assert_eq!(documented, read);
    }
}

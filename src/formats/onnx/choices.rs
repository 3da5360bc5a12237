//! Integer inputs of one number, such as a sample rate: each has one number in a network, so that branches on it are known.

use std::collections::{BTreeMap, BTreeSet};

use super::array::Array;
use super::graph::{GraphInput, OnnxGraph};
use super::malformed;
use super::value::{Dim, Value};
use crate::base::error::Result;

/// How an ONNX file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnnxOptions {
    /// Numbers of the graph's integer inputs that are one number, such as the sample rate of a voice detector. An input that
    /// is not named has the number that the graph first compares it with.
    pub integers: BTreeMap<String, i64>,
}

impl OnnxOptions {
    /// With the number `value` as the input `name`.
    #[must_use]
    pub fn integer(mut self, name: impl Into<String>, value: i64) -> Self {
        self.integers.insert(name.into(), value);
        self
    }
}

/// Operators that pass a single number on.
const PASSES: [&str; 6] = ["Cast", "Gather", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

/// The inputs of one number, and that number where it is known.
pub fn fixed<'a>(graph: &'a OnnxGraph, options: &OnnxOptions) -> Result<BTreeMap<&'a str, Option<i64>>> {
    let mut fixed = BTreeMap::new();
    for input in graph.inputs.iter().filter(|input| input.integers) {
        let given = options.integers.get(&input.name).copied();
        let compared = compared(graph, &input.name);
        match input.shape.as_deref() {
            Some([]) => fixed.insert(input.name.as_str(), given.or(compared)),
            Some([Some(1)]) if compared.is_some() => fixed.insert(input.name.as_str(), given.or(compared)),
            _ => None,
        };
    }
    match options.integers.keys().find(|name| !fixed.contains_key(name.as_str())) {
        None => Ok(fixed),
        Some(unknown) => {
            let known: Vec<String> = fixed.keys().map(|name| format!("`{name}`")).collect();
            let expected = if known.is_empty() { "none".to_owned() } else { known.join(" or ") };
            Err(malformed("integer inputs of one number that are set", expected, format!("`{unknown}`")))
        }
    }
}

/// The first number that the graph compares an input with.
fn compared(graph: &OnnxGraph, name: &str) -> Option<i64> {
    let mut passed = BTreeSet::from([name]);
    for node in &graph.main.nodes {
        let reads = |index: usize| node.inputs.get(index).is_some_and(|input| passed.contains(input.as_str()));
        if node.op == "Equal" && reads(0) != reads(1) {
            let other = node.inputs.get(usize::from(reads(0)));
            if let Some(number) = other.and_then(|name| constant(graph, name)) {
                return Some(number);
            }
        }
        if reads(0) && PASSES.contains(&node.op.as_str()) {
            passed.extend(node.outputs.iter().map(String::as_str));
        }
    }
    None
}

/// The only number of a constant.
fn constant(graph: &OnnxGraph, name: &str) -> Option<i64> {
    let only = |array: &Array| if let Some(&[number]) = array.as_ints() { Some(number) } else { None };
    if let Some(array) = graph.main.constants.get(name) {
        return only(array);
    }
    let makes = |node: &&super::graph::OnnxNode| node.op == "Constant" && node.outputs.iter().any(|out| out == name);
    let node = graph.main.nodes.iter().find(makes)?;
    match node.tensor("value") {
        Ok(Some(array)) => only(&array),
        _ => node.int("value_int", 0).ok().filter(|_| node.has("value_int")),
    }
}

/// What such an input stands for.
pub fn value(input: &GraphInput, number: Option<i64>) -> Value {
    let scalar = input.shape.as_ref().is_none_or(Vec::is_empty);
    match number {
        Some(number) => Value::Constant(Array::ints(if scalar { vec![] } else { vec![1] }, vec![number]).into()),
        None => Value::Dims { dims: vec![Dim::Any], scalar },
    }
}

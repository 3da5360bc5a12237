//! Walks the graph once for each way its input's axes may be meant, and keeps the one that fits.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::array::Array;
use super::build::Build;
use super::expression::Expression;
use super::graph::{GraphInput, OnnxGraph, OnnxNode};
use super::value::{AxisLabel, Dim, Id, LabelledTensor, Of, RecurrentPart, Value};
use super::{malformed, operators, unsupported};
use crate::base::error::{Error, Result};
use crate::network::{FileAxes, FileTensor, INPUT, LayerSpec, Network, RecurrentOutput, SelectSpec, SelectStep};

pub struct Walk<'a> {
    pub graph: &'a OnnxGraph,
    pub build: Build,
    values: BTreeMap<&'a str, Value>,
    /// Size of the batch axis.
    pub batch: Dim,
    /// Recurrent layers that read `sequence_lens` of the graph.
    pub with_lengths: BTreeSet<String>,
    live: &'a BTreeSet<&'a str>,
    main: &'a GraphInput,
    /// Recurrent nodes whose input had the axes that they read.
    fitted: usize,
    /// What the axes of `main` are taken for.
    axes: &'a [AxisLabel],
}

/// What the inputs of the graph are for.
struct Roles<'a> {
    main: &'a GraphInput,
    lengths: BTreeSet<&'a str>,
}

/// The network that `graph` describes.
pub fn network(graph: &OnnxGraph) -> Result<Network> {
    let live = live(graph);
    operators::check(graph, |node| node.outputs.iter().any(|o| live.contains(o.as_str())))?;
    let roles = roles(graph)?;
    let mut failure: Option<(usize, Error)> = None;
    for axes in readings(roles.main)? {
        let mut done = 0;
        match read(graph, &roles, &live, &axes, &mut done) {
            Ok(network) => return Ok(network),
            // The error of the reading that got furthest is returned.
            Err(error) if failure.as_ref().is_none_or(|(most, _)| done > *most) => failure = Some((done, error)),
            Err(_) => {}
        }
    }
    Err(failure.map_or_else(|| unsupported("ONNX model", "its input"), |(_, error)| error))
}

/// Values that an output depends on.
fn live(graph: &OnnxGraph) -> BTreeSet<&str> {
    let mut live: BTreeSet<&str> = graph.outputs.iter().map(String::as_str).collect();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| live.contains(o.as_str())) {
            live.extend(node.inputs.iter().map(String::as_str));
        }
    }
    live
}

fn roles(graph: &OnnxGraph) -> Result<Roles<'_>> {
    const PASSES: [&str; 9] =
        ["Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Slice", "Gather", "Split"];
    let (mut states, mut lengths) = (BTreeSet::new(), BTreeSet::new());
    for node in graph.nodes.iter().rev() {
        if matches!(node.op.as_str(), "LSTM" | "GRU" | "RNN") {
            lengths.extend(node.inputs.get(4).map(String::as_str));
            states.extend(node.inputs.iter().skip(5).take(2).map(String::as_str));
        } else if PASSES.contains(&node.op.as_str()) {
            let first = node.inputs.first().map(String::as_str);
            for set in [&mut states, &mut lengths] {
                if node.outputs.iter().any(|o| set.contains(o.as_str())) {
                    set.extend(first);
                }
            }
        }
    }
    let mut free =
        graph.inputs.iter().filter(|i| !states.contains(i.name.as_str()) && !lengths.contains(i.name.as_str()));
    let main = free.next().ok_or_else(|| malformed("ONNX model", "an input", "none but states".into()))?;
    Ok(Roles { main, lengths })
}

/// The meanings that the axes of the network's input may have, likeliest first.
fn readings(input: &GraphInput) -> Result<Vec<Vec<AxisLabel>>> {
    use AxisLabel::{Batch, Channel, Time};
    let place = || format!("input `{}`", input.name);
    let Some(shape) = &input.shape else { return Err(unsupported(place(), "an input without a shape")) };
    Ok(match (input.integers, shape.len()) {
        (true, 2) => vec![vec![Batch, Time], vec![Time, Batch]],
        (true, 1) => vec![vec![Time]],
        (false, 3) => vec![vec![Batch, Time, Channel], vec![Time, Batch, Channel], vec![Batch, Channel, Time]],
        (false, 2) => vec![vec![Time, Channel], vec![Batch, Channel]],
        (_, rank) => return Err(unsupported(place(), format!("an input of {rank} axes"))),
    })
}

fn read<'a>(
    graph: &'a OnnxGraph,
    roles: &Roles<'a>,
    live: &'a BTreeSet<&'a str>,
    axes: &'a [AxisLabel],
    done: &mut usize,
) -> Result<Network> {
    let shape = roles.main.shape.as_deref().unwrap_or_default();
    let size = |axis: AxisLabel| axes.iter().position(|&a| a == axis).map(|at| shape[at]);
    let dim = |axis: AxisLabel, open: Dim| size(axis).map_or(Dim::Known(1), |n| n.map_or(open, Dim::Known));
    let (steps, batch) = (dim(AxisLabel::Time, Dim::Steps), dim(AxisLabel::Batch, Dim::Batch));
    let batch_first = axes[0] == AxisLabel::Batch && axes.len() + usize::from(roles.main.integers) == 3;
    let build = Build::new(batch_first);
    let values = BTreeMap::new();
    let with_lengths = BTreeSet::new();
    let mut walk = Walk { graph, build, values, batch, with_lengths, live, main: roles.main, fitted: 0, axes };
    for input in &graph.inputs {
        let name = input.name.as_str();
        let value = if std::ptr::eq(input, roles.main) {
            let width = match (size(AxisLabel::Channel), roles.main.integers) {
                (_, true) => 1,
                (Some(Some(width)), false) => width,
                _ => return Err(unsupported(format!("input `{name}`"), "a number of features left open")),
            };
            let id = walk.build.expressions.add(INPUT, Expression::Layer(INPUT.into()), width, true)?;
            walk.build.input_size = (!roles.main.integers).then_some(width);
            let of = if roles.main.integers { Of::Tokens } else { Of::Expression(id) };
            Value::Tensor(LabelledTensor { of, axes: axes.to_vec(), width, steps })
        } else if roles.lengths.contains(name) {
            let fits = |n: usize| Dim::Known(n) == batch || !matches!(batch, Dim::Known(_));
            if input.shape.as_ref().is_some_and(|shape| shape.iter().any(|n| n.is_some_and(|n| !fits(n)))) {
                let got = format!("{:?}", input.shape);
                return Err(malformed(format!("input `{name}`"), "lengths [B], as the input has rows", got));
            }
            Value::Lengths
        } else {
            let size = |n: &Option<usize>| n.map_or(Dim::Any, Dim::Known);
            walk.state(name, input.shape.as_ref().map(|shape| shape.iter().map(size).collect()))?
        };
        walk.values.insert(name, value);
    }
    let is_live = |node: &&OnnxNode| node.outputs.iter().any(|o| live.contains(o.as_str()));
    if let Some(node) = graph.nodes.iter().filter(is_live).find(|n| matches!(n.op.as_str(), "Loop" | "Scan" | "If")) {
        return Err(node.unsupported("control flow (a recurrence that an exporter wrote as a loop)"));
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        if !node.outputs.iter().any(|o| live.contains(o.as_str())) {
            continue;
        }
        let outputs = walk.node(node);
        *done = 2 * index + walk.fitted;
        let outputs = outputs?;
        for (name, value) in node.outputs.iter().zip(outputs) {
            if !name.is_empty() {
                walk.values.insert(name, value);
            }
        }
    }
    *done = 2 * graph.nodes.len() + walk.fitted;
    walk.finish()
}

impl Walk<'_> {
    /// A state by the name of the value that holds it.
    pub fn state(&mut self, name: &str, dims: Option<Vec<Dim>>) -> Result<Value> {
        let id = self.build.expressions.add(name, Expression::State(name.to_owned()), 0, true)?;
        Ok(Value::State { id, dims })
    }

    /// Whether the optional input is there.
    #[expect(clippy::unused_self, reason = "reads as one of the questions about a node")]
    pub fn given(&self, node: &OnnxNode, index: usize) -> bool {
        node.inputs.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Whether something reads the output.
    pub fn used(&self, node: &OnnxNode, index: usize) -> bool {
        node.outputs
            .get(index)
            .is_some_and(|name| self.live.contains(name.as_str()) && self.graph.uses.contains_key(name))
    }

    pub fn value(&self, node: &OnnxNode, index: usize) -> Result<Value> {
        let name = node.inputs.get(index).map_or("", String::as_str);
        let known = self.values.get(name).cloned();
        let value = known.or_else(|| self.graph.constants.get(name).map(|array| Value::Constant(array.clone())));
        value.ok_or_else(|| {
            node.malformed(format!("input {index}"), if name.is_empty() { "none" } else { "one that nothing makes" })
        })
    }

    pub fn tensor(&self, node: &OnnxNode, index: usize) -> Result<LabelledTensor> {
        match self.value(node, index)? {
            Value::Tensor(tensor) => Ok(tensor),
            _ => Err(node.unsupported(format!("input {index} that does not come from the network's input"))),
        }
    }

    /// Constant integers, as attribute `name` or as input `index`, which replaced it in later opsets.
    pub fn integers(&self, node: &OnnxNode, name: &str, index: usize) -> Result<Option<Vec<i64>>> {
        if let Some(ints) = node.ints(name)? {
            return Ok(Some(ints.to_vec()));
        }
        if !self.given(node, index) {
            return Ok(None);
        }
        match self.value(node, index)? {
            Value::Constant(array) if array.as_ints().is_some() && array.shape.len() == 1 => {
                Ok(array.as_ints().map(<[i64]>::to_vec))
            }
            Value::Constant(array) if array.as_ints().is_some() => {
                Err(node.malformed(format!("{name} of one axis"), format!("{:?}", array.shape)))
            }
            _ => Err(node.unsupported(format!("{name} that are no constant integers"))),
        }
    }

    /// Constant number, as attribute or as input.
    pub fn number(&self, node: &OnnxNode, name: &str, index: usize) -> Result<Option<f32>> {
        if node.has(name) {
            return Ok(Some(node.float(name, 0.0)?));
        }
        if !self.given(node, index) {
            return Ok(None);
        }
        let value = match self.value(node, index)? {
            Value::Constant(array) => array.scalar(),
            Value::Fill { value, .. } => Some(value),
            _ => None,
        };
        value.map(Some).ok_or_else(|| node.unsupported(format!("{name} that is no constant number")))
    }

    pub fn constant(&self, node: &OnnxNode, index: usize) -> Result<Rc<Array>> {
        match self.value(node, index)? {
            Value::Constant(array) => Ok(array),
            _ => Err(node.unsupported(format!("input {index} that is no constant"))),
        }
    }

    /// The tensor as an expression, its directions all there and joined.
    pub fn settle(&mut self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<Id> {
        self.settled(tensor, &node.label)
    }

    fn settled(&mut self, tensor: &LabelledTensor, place: &str) -> Result<Id> {
        let refuse = |what: &str| Err(unsupported(place, what));
        let (part, rows) = match &tensor.of {
            Of::Expression(id) => return Ok(*id),
            Of::Tokens | Of::Shifted => return refuse("arithmetic on token ids"),
            Of::Directions { part, rows } => (*part, rows),
        };
        let layer = rows[0].layer;
        let Some((cell, spec)) = self.build.layers[layer].recurrent() else { return refuse("a state of no layer") };
        let (name, width) = (spec.name.clone(), spec.output_size());
        let (reverse, output, directions) = (spec.reverse, spec.output, spec.directions());
        let whole = rows.len() == directions
            && rows.iter().enumerate().all(|(d, row)| row.layer == layer && row.direction == d)
            && (directions == 1 || tensor.axes.iter().all(|&a| a != AxisLabel::Direction));
        if !whole {
            return refuse("some of the directions of a recurrent layer, or states of several layers in one tensor");
        }
        let layer_output = Expression::Layer(name.clone());
        match (part, output) {
            (RecurrentPart::C, _) => {
                Err(unsupported(place, format!("the cell state of a {} as an input of a layer", cell.name())))
            }
            (RecurrentPart::Y, _) => self.build.expressions.add(&name, layer_output, width, true),
            (RecurrentPart::H, RecurrentOutput::Last) => self.build.expressions.add(&name, layer_output, width, false),
            (RecurrentPart::H, RecurrentOutput::Sequence) if directions == 1 && !self.with_lengths.contains(&name) => {
                let step = if reverse { SelectStep::First } else { SelectStep::Last };
                self.select(&name, width, step)
            }
            (RecurrentPart::H, RecurrentOutput::Sequence) => {
                refuse("both the outputs and the last state of a recurrent layer")
            }
        }
    }

    /// One timestep of a layer's output.
    pub fn select(&mut self, input: &str, width: usize, step: SelectStep) -> Result<Id> {
        let step_name = match step {
            SelectStep::First => "first",
            SelectStep::Last => "last",
            SelectStep::LastValid => "last valid",
        };
        let name = self.build.unique(&format!("{input}.{step_name}"));
        let layer = LayerSpec::Select(SelectSpec { name: name.clone(), step });
        self.build.layer(input, &name, layer, width, false)
    }

    /// Checks that a sequence's axes are timestep, row, channel (row, timestep, channel).
    pub fn expect_sequence(&mut self, node: &OnnxNode, x: &LabelledTensor, time_first: bool) -> Result<()> {
        let wanted = if time_first { [AxisLabel::Time, AxisLabel::Batch] } else { [AxisLabel::Batch, AxisLabel::Time] };
        let fits = |axis: AxisLabel, wanted: AxisLabel| {
            axis == wanted || (axis == AxisLabel::Unit && x.position(wanted).is_none())
        };
        match x.axes[..] {
            [a, b, AxisLabel::Channel] if fits(a, wanted[0]) && fits(b, wanted[1]) => {
                self.fitted += 1;
                Ok(())
            }
            _ => Err(node.unsupported(format!("an input with the axes {:?}", x.axes))),
        }
    }

    /// An expression over `x` with its axes.
    pub fn like(&self, x: &LabelledTensor, id: Id) -> Value {
        let width = self.build.expressions.facts(id).width;
        Value::Tensor(LabelledTensor { of: Of::Expression(id), axes: x.axes.clone(), width, steps: x.steps })
    }

    /// The network, from what the graph's outputs turned out to be.
    fn finish(mut self) -> Result<Network> {
        let (mut main, mut last, mut states) = (Vec::new(), None, Vec::new());
        for name in &self.graph.outputs {
            match self.values.get(name.as_str()).cloned() {
                Some(Value::Tensor(tensor)) => match &tensor.of {
                    Of::Directions { part: RecurrentPart::Y, .. } | Of::Expression(_) => main.push((name, tensor)),
                    Of::Directions { part: RecurrentPart::H, .. } => last = last.or(Some((name, tensor))),
                    Of::Directions { part: RecurrentPart::C, .. } => {}
                    Of::Tokens | Of::Shifted => {
                        return Err(unsupported(format!("output `{name}`"), "the network's input as output"));
                    }
                },
                Some(Value::States(ids)) => states.push((name, ids)),
                Some(_) => return Err(unsupported(format!("output `{name}`"), "a constant or a state as output")),
                None => return Err(malformed(format!("output `{name}`"), "a value that a node makes", "none".into())),
            }
        }
        if main.is_empty() {
            main.extend(last);
        }
        let mut outputs = main.into_iter();
        let Some((name, mut tensor)) = outputs.next() else {
            return Err(unsupported("ONNX model", "a graph without an output other than states"));
        };
        let output = FileTensor { name: name.clone(), axes: named(&tensor.axes) };
        // All directions of a sequence are the layer's output, whether or not the graph joins them.
        tensor.axes.retain(|&axis| axis != AxisLabel::Direction);
        let id = self.settled(&tensor, &format!("output `{name}`"))?;
        let mut others = Vec::new();
        for (name, mut other) in outputs {
            other.axes.retain(|&axis| axis != AxisLabel::Direction);
            others.push((name, self.settled(&other, &format!("output `{name}`"))?));
        }
        self.build.emit(id)?;
        for (name, other) in others {
            if other != id && !self.build.states.contains(&other) {
                return Err(unsupported(format!("output `{name}`"), "a second output that is no state"));
            }
        }
        for (name, ids) in states {
            if ids.iter().any(|id| !self.build.states.contains(id)) {
                return Err(unsupported(format!("output `{name}`"), "a second output that is no state"));
            }
        }
        let input = FileTensor { name: self.main.name.clone(), axes: named(self.axes) };
        Ok(self.build.finish(id)?.with_file_axes(Some(FileAxes { input, output })))
    }
}

/// Axes as [`Network::file_axes`] names them.
fn named(axes: &[AxisLabel]) -> Vec<crate::network::Axis> {
    use crate::network::Axis as Public;
    let name = |axis: &AxisLabel| match axis {
        AxisLabel::Unit => Public::One,
        AxisLabel::Time => Public::Time,
        AxisLabel::Batch => Public::Batch,
        AxisLabel::Direction => Public::Direction,
        AxisLabel::Channel => Public::Feature,
        AxisLabel::Rows { time_first: true } => Public::TimeBatch,
        AxisLabel::Rows { time_first: false } => Public::BatchTime,
    };
    axes.iter().map(name).collect()
}

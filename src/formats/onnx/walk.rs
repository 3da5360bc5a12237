//! Walks the graph once for each way its input's axes may be meant, and keeps the one that fits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::array::Array;
use super::build::Build;
use super::dropout::DroppedValue;
use super::expression::Expression;
use super::graph::{GraphInput, OnnxGraph, OnnxNode, SubGraph};
use super::roles::{self, Reading, Roles};
use super::shapes::dim_to_int;
use super::states::StateRows;
use super::unrolled::TakenStep;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, LayerDirection, Of, RecurrentPart, Value};
use super::{OnnxOptions, choices, malformed, operators, unsupported, words};
use crate::base::error::{Error, Result};
use crate::network::{
    FileStateRow, FixedInput, HiddenOrCell, INPUT, InputKind, LayerSpec, Network, RecurrentOutput, SelectSpec,
    SelectStep,
};

/// Features that an input may have; a network has no wider layer.
pub const MAX_WIDTH: usize = 1 << 24;

pub struct Walk<'a> {
    pub graph: &'a OnnxGraph,
    pub build: Build,
    pub values: BTreeMap<&'a str, Value>,
    /// Size of the batch axis.
    pub batch: Dim,
    /// Recurrent layers that read `sequence_lens` of the graph.
    pub with_lengths: BTreeSet<String>,
    live: &'a BTreeSet<&'a str>,
    pub main: &'a GraphInput,
    /// Recurrent nodes whose input had the axes that they read.
    pub fitted: usize,
    /// Whether the axes of a node's input were not those that the node reads.
    pub misfit: bool,
    /// Whether features and timesteps may be exchanged, instead of another reading of the input's axes.
    pub turns: bool,
    /// Rows that are timesteps of a sequence.
    pub taken: BTreeMap<Id, TakenStep>,
    /// Sequences that are checked to have the file's number of timesteps.
    pub fixed: BTreeMap<Id, Id>,
    /// Names of the inputs of token ids beside the first.
    pub token_inputs: Vec<String>,
    /// Whether the last timestep of each row's length is taken.
    pub last_valid: bool,
    /// Whether rows are sorted by their lengths.
    pub sorts_rows: bool,
    /// The only row of the batch that the graph takes, and the values that are that row.
    pub row: Option<i64>,
    pub of_row: BTreeSet<&'a str>,
    /// Whether the node that is read takes it.
    pub takes_row: bool,
    /// Whether it may. Where another reading of the input's axes fits, what is taken is a timestep.
    pub may_take_row: bool,
    /// Whether the network's input was set to 0 where its mask is off.
    pub selected: Option<f32>,
    /// What the axes of `main` are taken for.
    pub axes: &'a [AxisLabel],
    /// Timesteps of `main`.
    steps: Dim,
    /// Windows that are taken to be one, since the graph squeezes them if they are.
    single: BTreeSet<usize>,
    /// Outputs of the graph, also by the names that branches have for them.
    outputs: BTreeSet<&'a str>,
    /// Inputs of one number.
    pub fixed_inputs: Vec<FixedInput>,
    /// Dropout nodes.
    pub dropped: Vec<DroppedValue>,
    /// Rows of the caller's states, by the values that hold them.
    pub state_rows: BTreeMap<String, StateRows>,
    /// Layers whose states are rows of an input, by the input's name and the row.
    pub given_rows: BTreeMap<String, BTreeMap<usize, FileStateRow>>,
}

/// How far a reading of a graph came.
#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
struct Progress {
    /// Whether it did not end at axes that do not fit.
    fits: bool,
    /// Nodes, and what fitted in them.
    steps: usize,
}

/// The network that `graph` describes.
pub fn network(graph: &OnnxGraph, options: &OnnxOptions) -> Result<Network> {
    let live = roles::live(graph);
    operators::check(&graph.main, &graph.types, &live)?;
    let mut failure: Option<(Progress, Error)> = None;
    let all = roles::roles(graph, &live, options)?;
    let passes = [(false, false), (false, true), (true, false), (true, true)];
    for (pass, roles) in passes.into_iter().flat_map(|pass| all.iter().map(move |roles| (pass, roles))) {
        for reading in roles::readings(graph, roles)? {
            let mut done = Progress::default();
            match read(graph, roles, &live, (&reading, pass), &mut done) {
                Ok(network) => return Ok(network),
                // The error of the reading that got furthest is returned; axes that do not fit tell of a wrong reading.
                Err(error) => {
                    if failure.as_ref().is_none_or(|(best, _)| done > *best) {
                        failure = Some((done, error));
                    }
                }
            }
        }
    }
    Err(failure.map_or_else(|| unsupported("ONNX model", "its input"), |(_, error)| error))
}

fn read<'a>(
    graph: &'a OnnxGraph,
    roles: &Roles<'a>,
    live: &'a BTreeSet<&'a str>,
    (reading, (takes_rows, turns)): (&'a Reading, (bool, bool)),
    done: &mut Progress,
) -> Result<Network> {
    let mut walk = Walk::begin(graph, roles, live, reading)?;
    (walk.may_take_row, walk.turns) = (takes_rows, turns);
    for (index, node) in graph.main.nodes.iter().enumerate() {
        let outcome = walk.evaluate(node);
        *done = Progress { fits: !walk.misfit, steps: 2 * index + walk.fitted };
        outcome?;
    }
    *done = Progress { fits: true, steps: 2 * graph.main.nodes.len() + walk.fitted };
    walk.finish()
}

impl<'a> Walk<'a> {
    /// A walk over `graph` that knows its inputs.
    pub fn begin(
        graph: &'a OnnxGraph,
        roles: &Roles<'a>,
        live: &'a BTreeSet<&'a str>,
        reading: &'a Reading,
    ) -> Result<Self> {
        let axes = &reading.axes[..];
        let shape = roles.main.shape.as_deref().unwrap_or_default();
        let size = |axis: AxisLabel| axes.iter().position(|&a| a == axis).map(|at| shape[at]);
        let dim = |axis: AxisLabel, open: Dim| size(axis).map_or(Dim::Known(1), |n| n.map_or(open, Dim::Known));
        let (steps, batch) = (dim(AxisLabel::Time, Dim::Steps), dim(AxisLabel::Batch, Dim::Batch));
        let batch_first = axes[0] == AxisLabel::Batch && axes.contains(&AxisLabel::Time);
        let mut build = Build::new(batch_first);
        build.one_row = *axes == [AxisLabel::Time, AxisLabel::Channel];
        let values = BTreeMap::new();
        let with_lengths = BTreeSet::new();
        let token_inputs = Vec::new();
        let mut walk = Walk {
            graph,
            build,
            values,
            batch,
            with_lengths,
            live,
            main: roles.main,
            fitted: 0,
            misfit: false,
            token_inputs,
            fixed: BTreeMap::new(),
            turns: false,
            taken: BTreeMap::new(),
            last_valid: false,
            sorts_rows: false,
            row: None,
            of_row: BTreeSet::new(),
            takes_row: false,
            may_take_row: false,
            selected: None,
            axes,
            steps,
            single: BTreeSet::new(),
            outputs: BTreeSet::new(),
            fixed_inputs: Vec::new(),
            state_rows: BTreeMap::new(),
            given_rows: BTreeMap::new(),
            dropped: Vec::new(),
        };
        walk.give(&graph.main, graph.main.outputs.iter().map(String::as_str).collect());
        for input in &graph.inputs {
            let name = input.name.as_str();
            let value = if std::ptr::eq(input, roles.main) {
                let width = reading.width.unwrap_or(1);
                if width > MAX_WIDTH {
                    return Err(unsupported(format!("input `{name}`"), format!("{width} features")));
                }
                let id = walk.build.expressions.add(INPUT, Expression::Layer(INPUT.into()), width, true)?;
                walk.build.input_size = reading.width;
                let of = if roles.tokens { Of::Tokens(0) } else { Of::Expression(id) };
                Value::Tensor(LabelledTensor { of, axes: axes.to_vec(), width, steps })
            } else if roles.lengths.contains(name) {
                let fits = |n: usize| Dim::Known(n) == batch || !matches!(batch, Dim::Known(_));
                if let Some(shape) =
                    input.shape.as_ref().filter(|shape| shape.iter().any(|n| n.is_some_and(|n| !fits(n))))
                {
                    let got = words::open_shape(shape);
                    return Err(malformed(format!("input `{name}`"), "lengths [B], as the input has rows", got));
                }
                Value::Lengths
            } else if let Some(&number) = roles.fixed.get(name) {
                let known = number.filter(|_| live.contains(name));
                walk.fixed_inputs.extend(known.map(|value| FixedInput { name: name.to_owned(), value }));
                choices::value(input, number)
            } else if reading.others && !roles.states.contains(name) {
                walk.other_input(input, steps, reading.per_step)?
            } else {
                let size = |n: &Option<usize>| n.map_or(Dim::Any, Dim::Known);
                let dims = input.shape.as_ref().map(|shape| shape.iter().map(size).collect());
                walk.state(name, dims, Some(StateRows::all(name)))?
            };
            walk.values.insert(name, value);
        }
        Ok(walk)
    }

    /// An input of the network beside the first.
    fn other_input(&mut self, input: &GraphInput, steps: Dim, per_step: bool) -> Result<Value> {
        use AxisLabel::{Batch, Channel, Time};
        let place = || format!("input `{}`", input.name);
        let Some(shape) = &input.shape else { return Err(unsupported(place(), "an input without a shape")) };
        let time_first = !self.build.batch_first;
        let outer = if time_first { [Time, Batch] } else { [Batch, Time] };
        let tokens = input.integers || roles::looked_up(self.graph, input, self.live);
        let (axes, kind) = match (tokens, shape.len()) {
            (true, 2) => (outer.to_vec(), InputKind::Tokens),
            (false, 3) => ([&outer[..], &[Channel]].concat(), InputKind::Sequence),
            // One number for each timestep, as a mask.
            (false, 2) if per_step => (outer.to_vec(), InputKind::Sequence),
            (false, 2) => (vec![Batch, Channel], InputKind::Row),
            (_, rank) => return Err(unsupported(place(), format!("a further input of {rank} axes"))),
        };
        let width = match (kind, shape.last()) {
            (InputKind::Tokens, _) => 1,
            (InputKind::Sequence, _) if axes.len() == 2 => 1,
            (_, Some(Some(width))) => *width,
            _ => return Err(unsupported(place(), "a number of features left open")),
        };
        let own = axes.iter().position(|&axis| axis == Time).and_then(|at| shape[at]);
        let steps = own.map_or(if matches!(steps, Dim::Known(_)) { Dim::Any } else { steps }, Dim::Known);
        if width > MAX_WIDTH {
            return Err(unsupported(place(), format!("{width} features")));
        }
        let id = self.build.other_input(&input.name, kind, width)?;
        let of = if kind == InputKind::Tokens {
            self.token_inputs.push(self.build.emit(id)?);
            Of::Tokens(self.token_inputs.len())
        } else {
            Of::Expression(id)
        };
        Ok(Value::Tensor(LabelledTensor { of, axes, width, steps }))
    }

    /// Stores the outputs of `node`, if something reads them.
    pub fn evaluate(&mut self, node: &'a OnnxNode) -> Result<()> {
        if !node.outputs.iter().any(|o| self.is_live(o)) {
            return Ok(());
        }
        let outputs = self.node(node)?;
        if std::mem::take(&mut self.takes_row) {
            self.of_row.extend(node.outputs.iter().map(String::as_str));
        }
        for (name, value) in node.outputs.iter().zip(outputs) {
            if !name.is_empty() {
                self.values.insert(name, value);
            }
        }
        Ok(())
    }

    /// Makes the constants of a graph in a node known.
    pub fn enter(&mut self, graph: &'a SubGraph) {
        for (name, array) in &graph.constants {
            self.values.insert(name, Value::Constant(array.clone()));
        }
    }

    /// Notes values of `graph` that the whole graph gives to its caller, and those that are the same.
    fn give(&mut self, graph: &'a SubGraph, mut given: BTreeSet<&'a str>) {
        for node in graph.nodes.iter().rev().filter(|node| matches!(node.op.as_str(), "Identity" | "Cast")) {
            if node.outputs.iter().any(|output| given.contains(output.as_str())) {
                given.extend(node.inputs.first().map(String::as_str));
            }
        }
        self.outputs.append(&mut given);
    }

    /// An If whose condition is known.
    pub fn branch(&mut self, node: &'a OnnxNode) -> Result<Vec<Value>> {
        node.allow(&["then_branch", "else_branch"])?;
        let refuse = || node.unsupported("a branch that depends on the input's numbers or on sizes left open");
        let first = match self.value(node, 0)? {
            Value::Constant(condition) => match condition.scalar() {
                Some(condition) => condition != 0.0,
                None => return Err(node.malformed("one condition", words::shape(&condition.shape))),
            },
            Value::Dims { dims, .. } => match dims[..] {
                [Dim::IsOne(windows)] if node.graphs.get("then_branch").is_some_and(only_squeezes) => {
                    self.single.insert(windows);
                    true
                }
                _ => return Err(refuse()),
            },
            _ => return Err(refuse()),
        };
        let name = if first { "then_branch" } else { "else_branch" };
        let Some(graph) = node.graphs.get(name) else { return Err(node.malformed(name, "none")) };
        if graph.outputs.len() != node.outputs.len() || !graph.inputs.is_empty() {
            let got = format!("{} outputs", graph.outputs.len());
            return Err(node.malformed(format!("{name} of {} outputs", node.outputs.len()), got));
        }
        let pairs = node.outputs.iter().zip(&graph.outputs);
        let given = pairs.filter(|(outer, _)| self.is_output(outer)).map(|(_, inner)| inner.as_str()).collect();
        self.give(graph, given);
        self.enter(graph);
        graph.nodes.iter().try_for_each(|inner| self.evaluate(inner))?;
        let value = |name: &String| self.known(name).ok_or_else(|| node.malformed("a value of each output", "none"));
        graph.outputs.iter().map(value).collect()
    }

    /// What a name stands for.
    pub fn known(&self, name: &str) -> Option<Value> {
        let constant = || self.graph.main.constants.get(name).map(|array| Value::Constant(array.clone()));
        self.values.get(name).cloned().or_else(constant)
    }

    /// Stores a value that a loop's body computes from nothing but what lies around it.
    pub fn store(&mut self, name: &'a str, value: Value) {
        self.values.insert(name, value);
    }
}

impl Walk<'_> {
    /// Whether an output depends on the value.
    pub fn is_live(&self, name: &str) -> bool {
        self.live.contains(name)
    }

    /// A state by the name of the value that holds it, and the rows of the caller's that it is.
    pub fn state(&mut self, name: &str, dims: Option<Vec<Dim>>, rows: Option<StateRows>) -> Result<Value> {
        self.state_rows.extend(rows.map(|rows| (name.to_owned(), rows)));
        let id = self.build.expressions.add(name, Expression::State(name.to_owned()), 0, true)?;
        Ok(Value::State { id, dims })
    }

    /// Whether the graph gives the value to its caller.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// Whether the timesteps of a tensor are windows of which there is one.
    pub fn one_window(&self, steps: Dim) -> bool {
        match steps {
            Dim::Known(1) => self.steps != Dim::Known(1),
            Dim::Windows(windows) => self.single.contains(&windows),
            _ => false,
        }
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
        self.known(name).ok_or_else(|| {
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
            Value::Dims { dims, scalar: false } => {
                let known: Option<Vec<i64>> = dims.into_iter().map(dim_to_int).collect();
                let known = known.ok_or_else(|| node.unsupported(format!("{name} that depend on sizes left open")))?;
                Ok(Some(known))
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

    pub fn settled(&mut self, tensor: &LabelledTensor, place: &str) -> Result<Id> {
        let refuse = |what: &str| Err(unsupported(place, what));
        let (part, rows) = match &tensor.of {
            Of::Expression(id) => return Ok(*id),
            Of::Heads { .. } => return refuse("channels that are cut into parts, outside of an attention"),
            Of::Tokens(_) | Of::Shifted(_) => return refuse("arithmetic on token ids"),
            Of::Integers(_) => return refuse("arithmetic on the integers of an ArgMax"),
            Of::Compared { .. } | Of::Mask { .. } | Of::AnyCount(_) | Of::MaskCount(_) => {
                return refuse("arithmetic on a mask");
            }
            Of::Scores { .. } => return refuse("the scores of an attention outside of it"),
            Of::Directions { part, rows } => (*part, rows),
        };
        let joined =
            rows.len() == 1 || !tensor.axes.iter().any(|a| matches!(a, AxisLabel::Direction | AxisLabel::Stack));
        if !joined {
            return refuse("directions or states of several layers that are not joined");
        }
        let rows = rows.clone();
        let mut parts = Vec::new();
        // Runs of all directions of a layer are taken whole.
        let mut at = 0;
        while at < rows.len() {
            let LayerDirection { layer, direction } = rows[at];
            let directions = self.build.layers[layer].spec.recurrent().map_or(1, |(_, spec)| spec.directions());
            let whole = rows[at..].len() >= directions
                && (0..directions).all(|d| rows[at + d] == LayerDirection { layer, direction: d });
            let wanted = if whole { 0..directions } else { direction..direction + 1 };
            at += wanted.len();
            parts.push(self.directions(part, layer, wanted, place)?);
        }
        match parts[..] {
            [one] => Ok(one),
            _ => {
                let width = parts.iter().map(|&id| self.build.expressions.facts(id).width).sum();
                let facts = self.build.expressions.facts(parts[0]).clone();
                let join = Expression::Join(crate::network::Join::Concat, parts);
                self.build.expressions.add(&facts.name, join, width, facts.sequence)
            }
        }
    }

    /// Some directions of an output of a recurrent layer, side by side.
    fn directions(&mut self, part: RecurrentPart, layer: usize, wanted: Range<usize>, place: &str) -> Result<Id> {
        let refuse = |what: &str| Err(unsupported(place, what));
        let Some((_, spec)) = self.build.layers[layer].spec.recurrent() else {
            return refuse("a state of no layer");
        };
        let (name, width, hidden) = (spec.name.clone(), spec.output_size(), spec.hidden_size);
        let (reverse, output, directions) = (spec.reverse, spec.output, spec.directions());
        let channels = |build: &mut Build, x: Id, range: Range<usize>| {
            if range.len() == directions {
                return Ok(x);
            }
            let (start, count) = (range.start * hidden, range.len() * hidden);
            let facts = build.expressions.facts(x).clone();
            build.expressions.add(&facts.name, Expression::Channels { x, start, count }, count, facts.sequence)
        };
        let layer_output = Expression::Layer(name.clone());
        match (part, output) {
            (RecurrentPart::Y, _) => {
                let y = self.build.expressions.add(&name, layer_output, width, true)?;
                channels(&mut self.build, y, wanted)
            }
            (RecurrentPart::H, RecurrentOutput::Last) => {
                let h = self.build.expressions.add(&name, layer_output, width, false)?;
                channels(&mut self.build, h, wanted)
            }
            (RecurrentPart::C, _) => self.final_states(&name, HiddenOrCell::C, wanted, hidden),
            (RecurrentPart::H, RecurrentOutput::Sequence)
                if self.with_lengths.contains(&name) || self.build.masked.contains_key(&name) =>
            {
                self.final_states(&name, HiddenOrCell::H, wanted, hidden)
            }
            (RecurrentPart::H, RecurrentOutput::Sequence) => {
                let mut parts = Vec::new();
                for direction in wanted {
                    let step = if reverse || direction == 1 { SelectStep::First } else { SelectStep::Last };
                    let selected = self.select(&name, width, step)?;
                    parts.push(channels(&mut self.build, selected, direction..direction + 1)?);
                }
                match parts[..] {
                    [one] => Ok(one),
                    _ => {
                        let join = Expression::Join(crate::network::Join::Concat, parts);
                        self.build.expressions.add(&name, join, width, false)
                    }
                }
            }
        }
    }

    fn final_states(&mut self, layer: &str, part: HiddenOrCell, wanted: Range<usize>, hidden: usize) -> Result<Id> {
        let states = wanted.map(|direction| self.build.final_state(layer, part, direction, hidden));
        let states = states.collect::<Result<Vec<_>>>()?;
        match states[..] {
            [one] => Ok(one),
            _ => {
                let width = states.len() * hidden;
                let join = Expression::Join(crate::network::Join::Concat, states);
                self.build.expressions.add(layer, join, width, false)
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
        let x = &x.clone().with_channels_last();
        match x.axes[..] {
            [a, b, AxisLabel::Channel] if fits(a, wanted[0]) && fits(b, wanted[1]) => {
                self.fitted += 1;
                Ok(())
            }
            _ => {
                self.misfit = true;
                Err(node.unsupported(format!(
                    "an input of the axes {} where [{}, {}, N] are read",
                    words::shape(&x.axes),
                    wanted[0],
                    wanted[1]
                )))
            }
        }
    }

    /// An expression over `x` with its axes.
    pub fn like(&self, x: &LabelledTensor, id: Id) -> Value {
        let width = self.build.expressions.facts(id).width;
        Value::Tensor(LabelledTensor { of: Of::Expression(id), axes: x.axes.clone(), width, steps: x.steps })
    }
}

/// Whether a branch does no more than to squeeze a tensor.
fn only_squeezes(graph: &SubGraph) -> bool {
    let mut nodes = graph.nodes.iter().filter(|node| node.op != "Constant");
    nodes.next().is_some_and(|node| node.op == "Squeeze") && nodes.next().is_none()
}

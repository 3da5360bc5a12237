//! Recurrences that an exporter wrote as a Loop or a Scan, recognised by what their body computes.
//!
//! The body is evaluated once, for one step (`body.rs`), as sums of products (`algebra.rs`). If these are the equations of
//! an LSTM, a GRU or a plain RNN (`cells.rs`), the loop is that layer. A loop must run over all timesteps of what it reads.

mod algebra;
mod body;
mod cells;

use self::algebra::{Algebra, Atom, AtomId, Sum};
use self::body::{Body, StepValue};
use self::cells::FoundCell;
use super::dims;
use super::graph::{OnnxNode, SubGraph};
use super::recurrent::InitialState;
use super::value::{AxisLabel, Dim, LabelledTensor, LayerDirection, Of, RecurrentPart, Value};
use super::walk::Walk;
use crate::base::error::Result;
use crate::network::{LayerSpec, MaskedOutput, RecurrentOutput, RecurrentSpec};

/// A loop without a trip count, or with one above this, runs until its condition says no.
const NO_LIMIT: i64 = 1 << 30;

/// A state that a loop carries from step to step.
struct Carried {
    /// What it starts from.
    start: Value,
    /// Its value after a step.
    next: Sum,
    /// Its place among the loop's outputs.
    output: usize,
    /// Its axes: the rows, if they are one, and the channels.
    rank: usize,
}

/// An output of every step.
struct ScannedOutput {
    sum: Sum,
    rank: usize,
    /// Whether time is its first axis.
    time_first: bool,
}

/// A loop, read.
struct ReadLoop {
    body: Body,
    states: Vec<Carried>,
    scans: Vec<ScannedOutput>,
    /// Values of outputs that are neither states nor of every step.
    others: Vec<Option<Value>>,
    reverse: bool,
}

impl<'a> Walk<'a> {
    /// The operators Loop and Scan.
    pub fn repeated(&mut self, node: &'a OnnxNode) -> Result<Vec<Value>> {
        let Some(graph) = node.graphs.get("body") else { return Err(node.malformed("a body", "none")) };
        let read = if node.op == "Loop" { self.read_loop(node, graph)? } else { self.read_scan(node, graph)? };
        self.layer_of_loop(node, read)
    }

    fn read_loop(&mut self, node: &'a OnnxNode, graph: &'a SubGraph) -> Result<ReadLoop> {
        node.allow(&["body"])?;
        let carried = node.inputs.len().saturating_sub(2);
        if graph.inputs.len() != carried + 2
            || graph.outputs.len() != node.outputs.len() + 1
            || graph.outputs.len() < carried + 1
        {
            return Err(node.malformed("a body with the inputs and outputs of its loop", "others"));
        }
        distinct(node, graph)?;
        let mut body = Body::new(self.numbers(node, graph));
        self.enter(graph);
        body.values.insert(graph.inputs[0].clone(), StepValue::Counter(0));
        body.values.insert(graph.inputs[1].clone(), StepValue::Condition(Vec::new()));
        let mut counters = Vec::new();
        let mut starts = Vec::new();
        let mut others = vec![None; node.outputs.len()];
        for (at, other) in others.iter_mut().enumerate().take(carried) {
            let (name, result) = (graph.inputs[at + 2].as_str(), source(graph, &graph.outputs[at + 1]));
            let start = self.value(node, at + 2)?;
            if result == name {
                *other = Some(start.clone());
                self.store(name, start);
            } else if let Some(first) = dims::number(&start) {
                body.values.insert(name.to_owned(), StepValue::Counter(first));
                counters.push((at, first));
                *other = Some(Value::Dims { dims: vec![Dim::Any], scalar: true });
            } else {
                self.start_state(node, &mut body, starts.len(), name, &start)?;
                starts.push((at, start));
            }
        }
        self.steps(&mut body, &graph.nodes)?;
        for (at, first) in counters {
            match body.values.get(&graph.outputs[at + 1]) {
                Some(StepValue::Counter(next)) if first.checked_add(1) == Some(*next) => {}
                _ => return Err(node.unsupported("a loop that counts in steps other than 1")),
            }
        }
        self.runs_over_all(node, &body, &graph.outputs[0])?;
        let states = starts
            .into_iter()
            .map(|(output, start)| {
                let (next, rank) = result(node, &body, &graph.outputs[output + 1])?;
                Ok(Carried { start, next, output, rank })
            })
            .collect::<Result<Vec<_>>>()?;
        let scans = graph.outputs[carried + 1..]
            .iter()
            .map(|name| {
                let (sum, rank) = result(node, &body, name)?;
                Ok(ScannedOutput { sum, rank, time_first: true })
            })
            .collect::<Result<Vec<_>>>()?;
        others.truncate(carried);
        Ok(ReadLoop { body, states, scans, others, reverse: false })
    }

    fn read_scan(&mut self, node: &'a OnnxNode, graph: &'a SubGraph) -> Result<ReadLoop> {
        node.allow(&[
            "body",
            "num_scan_inputs",
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        ])?;
        if node.opset < 9 {
            return Err(node.unsupported("a Scan of opset 8"));
        }
        let read = usize::try_from(node.int("num_scan_inputs", 0)?).ok();
        let Some(carried) = read.and_then(|read| node.inputs.len().checked_sub(read)) else {
            return Err(node.malformed("num_scan_inputs up to its inputs", "more"));
        };
        if graph.inputs.len() != node.inputs.len()
            || graph.outputs.len() != node.outputs.len()
            || graph.outputs.len() < carried
        {
            return Err(node.malformed("a body with the inputs and outputs of its scan", "others"));
        }
        let directions = [node.ints("scan_input_directions")?, node.ints("scan_output_directions")?];
        let turned: Vec<i64> = directions.into_iter().flatten().flatten().copied().collect();
        let counts = [node.inputs.len() - carried, node.outputs.len() - carried];
        let stated =
            directions.iter().zip(counts).all(|(given, count)| given.is_some_and(|given| given.len() == count));
        let reverse = match &turned[..] {
            all if all.iter().all(|&d| d == 0) => false,
            all if stated && all.iter().all(|&d| d == 1) => true,
            _ => return Err(node.unsupported("a scan in both directions")),
        };
        distinct(node, graph)?;
        let mut body = Body::new(self.numbers(node, graph));
        self.enter(graph);
        let mut starts = Vec::new();
        for at in 0..carried {
            let start = self.value(node, at)?;
            self.start_state(node, &mut body, at, &graph.inputs[at], &start)?;
            starts.push(start);
        }
        let axis = |axes: Option<&[i64]>, at: usize| axes.and_then(|axes| axes.get(at)).copied().unwrap_or(0);
        for at in carried..node.inputs.len() {
            let tensor = self.tensor(node, at)?;
            let axis = axis(node.ints("scan_input_axes")?, at - carried);
            let axis = super::constants::resolve_axis(node, axis, tensor.axes.len())?;
            let step = body.step_of(node, &tensor, axis)?;
            self.fitted += 1;
            body.values.insert(graph.inputs[at].clone(), step);
        }
        self.steps(&mut body, &graph.nodes)?;
        let mut states = Vec::new();
        for (output, start) in starts.into_iter().enumerate() {
            let (next, rank) = result(node, &body, &graph.outputs[output])?;
            states.push(Carried { start, next, output, rank });
        }
        let mut scans = Vec::new();
        for (at, name) in graph.outputs[carried..].iter().enumerate() {
            let time_first = match axis(node.ints("scan_output_axes")?, at) {
                0 => true,
                1 | -2 => false,
                other => return Err(node.unsupported(format!("scan_output_axes {other}"))),
            };
            let (sum, rank) = result(node, &body, name)?;
            if !time_first && rank != 2 {
                return Err(node.unsupported("scan_output_axes of rows without an axis"));
            }
            scans.push(ScannedOutput { sum, rank, time_first });
        }
        Ok(ReadLoop { body, states, scans, others: vec![None; carried], reverse })
    }

    /// Numbers of the constants that a body may read.
    fn numbers(&self, node: &OnnxNode, graph: &SubGraph) -> usize {
        let around = node.inputs.iter().chain(&node.captures).filter_map(|name| self.known(name));
        let len = |value: Value| if let Value::Constant(array) = value { array.len() } else { 0 };
        let own: usize = graph.constants.values().map(|array| array.len()).sum();
        around.map(len).fold(own, usize::saturating_add)
    }

    fn start_state(&self, node: &OnnxNode, body: &mut Body, index: usize, name: &str, start: &Value) -> Result<()> {
        let dims = match start {
            Value::Fill { dims: Some(dims), .. } | Value::State { dims: Some(dims), .. } => dims.clone(),
            Value::Spread { dims, .. } => dims.clone(),
            Value::Tensor(tensor) => tensor.dims(self.batch),
            Value::Constant(array) => array.shape.iter().map(|&n| Dim::Known(n)).collect(),
            _ => return Err(node.unsupported("a loop that carries something other than states [B, H]")),
        };
        let (&[.., Dim::Known(width)], rank) = (&dims[..], dims.len()) else {
            return Err(node.unsupported("a loop's state of an open width"));
        };
        let sum = body.algebra.alone(Atom::State(index), width);
        let sum = sum.ok_or_else(|| node.unsupported("a loop of so many states"))?;
        body.values.insert(name.to_owned(), StepValue::Sum { sum, rank });
        Ok(())
    }

    /// An error unless the loop runs as often as its sequences have timesteps.
    fn runs_over_all(&self, node: &OnnxNode, body: &Body, condition: &str) -> Result<()> {
        let refuse = |what: &str| node.unsupported(format!("a loop that {what}"));
        let Some(steps) = body.steps else { return Err(refuse("reads no sequence step by step")) };
        let conditions = match body.values.get(condition) {
            Some(StepValue::Condition(all)) => all.clone(),
            None if matches!(self.known(condition), Some(Value::Constant(a)) if a.scalar() == Some(1.0)) => Vec::new(),
            _ => return Err(refuse("ends by what it computes")),
        };
        let begins =
            |value: Value| matches!(value, Value::Constant(a) if a.shape.is_empty() && a.scalar() == Some(1.0));
        if self.given(node, 1) && !begins(self.value(node, 1)?) {
            return Err(refuse("may not begin"));
        }
        let trips = if self.given(node, 0) { Some(self.value(node, 0)?) } else { None };
        let trips = match trips {
            None => None,
            Some(value) => Some(dims::single(&value).ok_or_else(|| refuse("runs a computed number of times"))?),
        };
        // Whether `number of the step + offset < bound` for the steps after which it must go on.
        let goes_on = |&(offset, bound): &(i64, Dim)| match (steps, bound) {
            (Dim::Known(steps), Dim::Known(bound)) => {
                let last = i64::try_from(steps).unwrap_or(i64::MAX).saturating_sub(2).saturating_add(offset);
                steps < 2 || last < i64::try_from(bound).unwrap_or(i64::MAX)
            }
            (steps, bound) => (steps == bound && bound != Dim::Any && offset <= 1) || no_limit(bound),
        };
        if !conditions.iter().all(goes_on) {
            return Err(refuse("may end before its sequence"));
        }
        let ends = |&(offset, bound): &(i64, Dim)| bound == steps && bound != Dim::Any && offset == 1;
        match trips {
            Some(trips) if trips == steps && trips != Dim::Any => Ok(()),
            None if conditions.iter().any(ends) => Ok(()),
            Some(trips) if no_limit(trips) && conditions.iter().any(ends) => Ok(()),
            _ => Err(refuse("runs another number of times than its sequence has timesteps")),
        }
    }

    fn layer_of_loop(&mut self, node: &OnnxNode, mut read: ReadLoop) -> Result<Vec<Value>> {
        let none = || node.unsupported("a loop whose body computes no LSTM, GRU or plain RNN");
        let masked = read.body.mask.is_some();
        let mask = if masked { Some(read.body.mask_atom().ok_or_else(none)?) } else { None };
        let algebra = &mut read.body.algebra;
        // What the states become at steps that count.
        let mut new = Vec::new();
        for (index, state) in read.states.iter().enumerate() {
            new.push(match mask {
                Some(mask) => held(algebra, &state.next, mask, index),
                None => Some(state.next.clone()),
            });
        }
        let found = cells::find(algebra, &new).ok_or_else(none)?;
        let h = new[found.h].clone().ok_or_else(none)?;
        // Outputs are h at every step; masked ones 0, or the last before.
        let mut kinds = Vec::new();
        for ScannedOutput { sum, .. } in &read.scans {
            let kind = match mask {
                None => (*sum == h).then_some(MaskedOutput::Zero),
                Some(mask) => masked_output(algebra, sum, mask, &h, &read.states),
            };
            kinds.push(kind.ok_or_else(|| node.unsupported("a loop whose output is not its hidden state"))?);
        }
        if kinds.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(node.unsupported("a loop of two kinds of outputs"));
        }
        let output_states: Vec<usize> =
            (0..read.states.len()).filter(|&s| s != found.h && Some(s) != found.c).collect();
        for &state in &output_states {
            let Carried { start, next, output, .. } = &read.states[state];
            let output = *output;
            let is_output = match mask {
                None => *next == h,
                // The last state is what the output was at the last step, if that step was masked too.
                Some(mask) => match masked_output(algebra, next, mask, &h, &read.states) {
                    Some(MaskedOutput::Previous) if is_zero(&read.states[found.h].start) => true,
                    kind => kind.is_some() && !self.used(node, output),
                },
            };
            if !is_zero(start) || !is_output {
                return Err(node.unsupported("a loop with a state that is neither its hidden nor its cell state"));
            }
        }
        let masked_output = kinds.first().copied().unwrap_or_default();
        self.add_loop_layer(node, &read, &found, masked.then_some(masked_output))
    }

    fn add_loop_layer(
        &mut self,
        node: &OnnxNode,
        read: &ReadLoop,
        found: &FoundCell,
        masked: Option<MaskedOutput>,
    ) -> Result<Vec<Value>> {
        let algebra = &read.body.algebra;
        let x = read.body.inputs[found.input].clone();
        let input = self.settle(node, &x)?;
        let state = |index: usize| algebra_width(algebra, index);
        let (width, hidden) = (x.width, state(found.h).unwrap_or(0));
        let rows = found.cell.gates() * hidden;
        let misfit = || node.malformed(format!("weights of {width} inputs and {hidden} states"), "others");
        let w = found.weights(|gate| &gate.input, width, hidden).ok_or_else(misfit)?;
        let r = found.weights(|gate| &gate.recurrent, hidden, hidden).ok_or_else(misfit)?;
        let name = self.build.unique(&node.name);
        let mut spec = RecurrentSpec::new(name.clone(), width, hidden);
        spec.reverse = read.reverse;
        spec.batch_first = self.build.batch_first;
        spec.reset_after = found.reset_after;
        spec.coupled = found.coupled;
        if found.activations != found.cell.default_activations() {
            spec.activations.clone_from(&found.activations);
        }
        if let Some(output) = masked {
            spec.masked_output = output;
            self.mask(node, &read.body.mask, &name)?;
        }
        self.build.tensor(&name, "weight_ih_l0", vec![rows, width], w)?;
        self.build.tensor(&name, "weight_hh_l0", vec![rows, hidden], r)?;
        self.build.tensor(&name, "bias_ih_l0", vec![rows], found.biases(|gate| &gate.bias, hidden))?;
        self.build.tensor(&name, "bias_hh_l0", vec![rows], found.biases(|gate| &gate.recurrent_bias, hidden))?;
        let mut start = |index: usize| self.state_of_loop(node, &read.states[index].start, hidden);
        let h = start(found.h)?;
        let c = found.c.map_or(Ok(InitialState::Zero), start)?;
        self.store_start(node, &mut spec, found.cell, h, c, [1, hidden])?;
        let used = |at: usize| self.used(node, at);
        let sequence = (0..read.scans.len()).any(|at| used(read.others.len() + at));
        spec.output = if sequence { RecurrentOutput::Sequence } else { RecurrentOutput::Last };
        let mut from = self.build.emit(input)?;
        // Input and mask turned: the layer reads both backwards.
        let turned = matches!(&read.body.mask, Some(mask) if matches!(mask.of, Of::Mask { reversed: true, .. }));
        if turned {
            spec.reverse = !spec.reverse;
            from = self
                .build
                .reversal_of(&from)
                .ok_or_else(|| node.unsupported("a mask that is turned with an input that is not"))?;
        }
        let layer = LayerSpec::of_cell(found.cell, spec);
        let reads = self.reads_of(from, &layer);
        self.build.layer_of(reads, &name, layer, hidden, sequence)?;
        let layer = self.build.layers.len() - 1;
        let rows = vec![LayerDirection { layer, direction: 0 }];
        let output = |part: RecurrentPart, axes: Vec<AxisLabel>| {
            let of = Of::Directions { part, rows: rows.clone() };
            Value::Tensor(LabelledTensor { of, axes, width: hidden, steps: x.steps })
        };
        let mut outputs: Vec<Option<Value>> = read.others.clone();
        for (index, state) in read.states.iter().enumerate() {
            let part = if Some(index) == found.c { RecurrentPart::C } else { RecurrentPart::H };
            let axes =
                if state.rank == 1 { vec![AxisLabel::Channel] } else { vec![AxisLabel::Batch, AxisLabel::Channel] };
            outputs[state.output] = Some(output(part, axes));
        }
        outputs.extend(read.scans.iter().map(|&ScannedOutput { rank, time_first, .. }| {
            if rank == 1 {
                return Some(output(RecurrentPart::Y, vec![AxisLabel::Time, AxisLabel::Channel]));
            }
            let (a, b) =
                if time_first { (AxisLabel::Time, AxisLabel::Batch) } else { (AxisLabel::Batch, AxisLabel::Time) };
            Some(output(RecurrentPart::Y, vec![a, b, AxisLabel::Channel]))
        }));
        if turned {
            for output in outputs.iter_mut().skip(read.others.len()) {
                if let (true, Some(Value::Tensor(tensor))) = (sequence, &output) {
                    *output = Some(self.reversed(node, tensor)?);
                }
            }
        }
        let all = outputs.into_iter().collect::<Option<Vec<_>>>();
        all.ok_or_else(|| node.malformed("a value of each output", "fewer"))
    }

    /// What a state `[B, H]` starts from.
    fn state_of_loop(&mut self, node: &OnnxNode, start: &Value, hidden: usize) -> Result<InitialState> {
        match start {
            Value::Fill { value: 0.0, .. } => Ok(InitialState::Zero),
            Value::Fill { value, .. } => Ok(InitialState::Stored(vec![*value; hidden])),
            Value::State { id, .. } => Ok(InitialState::Caller(self.rows_of(*id).cloned())),
            Value::Tensor(tensor) => self.computed_start(node, tensor.clone(), true, [1, hidden]),
            Value::Constant(array) | Value::Spread { array, .. } => {
                let Some(all) = array.as_floats() else { return Err(node.unsupported("a state of integers")) };
                let rows: Vec<&[f32]> = all.chunks(hidden.max(1)).collect();
                if array.shape.last() != Some(&hidden) || rows.windows(2).any(|pair| pair[0] != pair[1]) {
                    return Err(node.unsupported("a constant initial state that differs between batch rows"));
                }
                let zero = all.iter().all(|&x| x == 0.0);
                Ok(if zero { InitialState::Zero } else { InitialState::Stored(rows[0].to_vec()) })
            }
            _ => Err(node.unsupported("an initial state that is computed from the input")),
        }
    }
}

fn algebra_width(algebra: &Algebra, state: usize) -> Option<usize> {
    algebra.find(&Atom::State(state)).map(|id| algebra.width(id))
}

fn no_limit(dim: Dim) -> bool {
    matches!(dim, Dim::Known(n) if i64::try_from(n).map_or(true, |n| n >= NO_LIMIT))
}

/// An error if a body gives a value twice, which runtimes do not agree on.
fn distinct(node: &OnnxNode, graph: &SubGraph) -> Result<()> {
    let twice = (1..graph.outputs.len()).find(|&at| graph.outputs[..at].contains(&graph.outputs[at]));
    match twice {
        Some(at) => Err(node.unsupported(format!("a body that gives `{}` twice", graph.outputs[at]))),
        None => Ok(()),
    }
}

/// The value that an Identity passes on as `name`.
fn source<'g>(graph: &'g SubGraph, name: &'g str) -> &'g str {
    let mut name = name;
    for node in graph.nodes.iter().rev() {
        if node.op == "Identity" && node.outputs.first().is_some_and(|output| output == name) {
            name = node.inputs.first().map_or(name, String::as_str);
        }
    }
    name
}

/// An output of a body that is a row for each batch row.
fn result(node: &OnnxNode, body: &Body, name: &str) -> Result<(Sum, usize)> {
    match body.values.get(name) {
        Some(StepValue::Sum { sum, rank: rank @ 1..=2 }) => Ok((sum.clone(), *rank)),
        _ => Err(node.unsupported("a loop that carries something other than states [B, H]")),
    }
}

/// What a state becomes at steps that count, if it stays as it is at the others.
fn held(algebra: &mut Algebra, next: &Sum, mask: AtomId, state: usize) -> Option<Sum> {
    let (with, without) = algebra.apart(next, mask);
    let &[kept] = without.product()? else { return None };
    if *algebra.atom(kept) != Atom::State(state) {
        return None;
    }
    algebra.add(&with, &without)
}

/// What an output is at masked steps, if it is `h` at the others.
fn masked_output(algebra: &mut Algebra, sum: &Sum, mask: AtomId, h: &Sum, states: &[Carried]) -> Option<MaskedOutput> {
    let (with, without) = algebra.apart(sum, mask);
    let counted = algebra.add(&with, &without)?;
    if counted != *h {
        return None;
    }
    if without.is_zero() {
        return Some(MaskedOutput::Zero);
    }
    let &[kept] = without.product()? else { return None };
    let Atom::State(previous) = *algebra.atom(kept) else { return None };
    let state = &states[previous];
    // The output of the step before, which starts at 0.
    (state.next == *sum && is_zero(&state.start)).then_some(MaskedOutput::Previous)
}

/// Whether a state starts at 0.
fn is_zero(start: &Value) -> bool {
    matches!(start, Value::Fill { value: 0.0, .. })
        || matches!(start, Value::Constant(a) if a.as_floats().is_some_and(|all| all.iter().all(|&x| x == 0.0)))
}

//! The nodes of a loop's body, one step of it at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::algebra::{Algebra, Atom, AtomId, StepMatrix, Sum};
use crate::base::error::Result;
use crate::formats::onnx::array::{Array, Data};
use crate::formats::onnx::constants::{resolve_axis, slice_range};
use crate::formats::onnx::elementwise::function_of;
use crate::formats::onnx::graph::OnnxNode;
use crate::formats::onnx::value::{AxisLabel, Dim, LabelledTensor, Of, Value};
use crate::formats::onnx::walk::Walk;
use crate::formats::onnx::{dims, words};
use crate::network::Activation;

/// What a value is at one step.
#[derive(Clone)]
pub enum StepValue {
    /// A row for each batch row; its last axis, of `rank`, is the channels.
    Sum { sum: Sum, rank: usize },
    /// The number of the step plus this.
    Counter(i64),
    /// Whether the number of the step plus the first is below the second, for all.
    Condition(Vec<(i64, Dim)>),
    /// Whether the step counts, or its opposite.
    Mask { kept: bool, rank: usize },
}

/// One body in evaluation.
pub struct Body {
    pub algebra: Algebra,
    pub values: BTreeMap<String, StepValue>,
    /// The sequences that steps are read from.
    pub inputs: Vec<LabelledTensor>,
    /// The mask of the steps, where the body reads one.
    pub mask: Option<LabelledTensor>,
    /// Timesteps of everything that is read step by step.
    pub steps: Option<Dim>,
}

impl Body {
    pub fn new(numbers: usize) -> Self {
        let (values, inputs) = (BTreeMap::new(), Vec::new());
        Self { algebra: Algebra::new(numbers), values, inputs, mask: None, steps: None }
    }

    pub fn mask_atom(&mut self) -> Option<AtomId> {
        self.algebra.add_atom(Atom::Mask, 1)
    }

    /// A timestep of `tensor`, whose time axis is `axis`.
    pub fn step_of(&mut self, node: &OnnxNode, tensor: &LabelledTensor, axis: usize) -> Result<StepValue> {
        let steps = *self.steps.get_or_insert(tensor.steps);
        let mut axes = tensor.axes.clone();
        let label = axes.remove(axis);
        let rows = |a: &AxisLabel| matches!(a, AxisLabel::Batch | AxisLabel::Unit);
        let is_step = label == AxisLabel::Time && steps == tensor.steps;
        let rank = axes.len();
        let refuse =
            || node.unsupported(format!("a loop over {} of {} of other sizes", label, words::shape(&tensor.axes)));
        if let Of::Mask { kept, .. } = tensor.of {
            // Without an axis of its own for them, it would be spread over the features of a step.
            let over_features = axes.last() != Some(&AxisLabel::Unit);
            if !is_step
                || over_features
                || !axes.iter().all(rows)
                || self.mask.as_ref().is_some_and(|known| known.of != tensor.of)
            {
                return Err(refuse());
            }
            self.mask = Some(tensor.clone());
            return Ok(StepValue::Mask { kept, rank });
        }
        let Some((AxisLabel::Channel, others)) = axes.split_last() else { return Err(refuse()) };
        if !is_step || !others.iter().all(rows) || !matches!(tensor.of, Of::Expression(_) | Of::Directions { .. }) {
            return Err(refuse());
        }
        let index = self.inputs.iter().position(|known| known.of == tensor.of).unwrap_or(self.inputs.len());
        if index == self.inputs.len() {
            self.inputs.push(tensor.clone());
        }
        let sum = self.algebra.alone(Atom::Input(index), tensor.width).ok_or_else(refuse)?;
        Ok(StepValue::Sum { sum, rank })
    }

    fn sum_of_mask(&mut self, kept: bool) -> Option<Sum> {
        let mask = self.algebra.alone(Atom::Mask, 1)?;
        if kept {
            return Some(mask);
        }
        let negative = self.algebra.scaled(&mask, &[-1.0])?;
        self.algebra.add(&Sum::constant(vec![1.0]), &negative)
    }
}

/// A constant of the last axis.
fn row(array: &Array) -> Option<(Sum, usize)> {
    let numbers = match &array.data {
        Data::Floats(data) => data.clone(),
        Data::Ints(_) => return None,
    };
    let fits = array.shape.last().is_none_or(|&n| n == numbers.len());
    (fits && !numbers.is_empty()).then(|| (Sum::constant(numbers), array.shape.len()))
}

impl<'a> Walk<'a> {
    /// Evaluates the nodes of a body; those that read no step are evaluated as the graph around it.
    pub fn steps(&mut self, body: &mut Body, nodes: &'a [OnnxNode]) -> Result<()> {
        for node in nodes {
            if node.inputs.iter().all(|name| !body.values.contains_key(name)) {
                self.evaluate(node)?;
            } else if node.outputs.iter().any(|name| self.is_live(name)) {
                let unread = body.steps.is_none();
                let outputs = self.step(body, node)?;
                let named = node.outputs.iter().cloned().zip(outputs);
                body.values.extend(named.filter(|(name, _)| !name.is_empty()));
                // The loop runs over the axis that is taken for time.
                self.fitted += usize::from(unread && body.steps.is_some());
            }
        }
        Ok(())
    }

    /// The value of an input of a node of a body, of a step if it depends on one.
    fn at_step(&self, body: &Body, node: &OnnxNode, index: usize) -> Result<Result<StepValue, Value>> {
        match node.inputs.get(index).and_then(|name| body.values.get(name)) {
            Some(value) => Ok(Ok(value.clone())),
            None => self.value(node, index).map(Err),
        }
    }

    fn sum(&self, body: &mut Body, node: &OnnxNode, index: usize) -> Result<(Sum, usize)> {
        let refuse = || node.unsupported(format!("input {index} in a loop's body"));
        match self.at_step(body, node, index)? {
            Ok(StepValue::Sum { sum, rank }) => Ok((sum, rank)),
            Err(Value::Constant(array)) => row(&array).ok_or_else(refuse),
            Err(Value::Fill { value, .. }) => Ok((Sum::constant(vec![value]), 0)),
            _ => Err(refuse()),
        }
    }

    fn matrix(&self, node: &OnnxNode, index: usize, transposed: bool) -> Result<Rc<StepMatrix>> {
        let array = self.constant(node, index)?;
        let (&[rows, columns], Some(data)) = (&array.shape[..], array.as_floats()) else {
            return Err(node.unsupported(format!("a matrix of shape {:?} in a loop's body", array.shape)));
        };
        if rows == 0 || columns == 0 {
            return Err(node.malformed("a matrix", format!("shape {:?}", array.shape)));
        }
        if transposed {
            let data = crate::formats::transpose::transpose(data, rows, columns);
            return Ok(Rc::new(StepMatrix { rows: columns, columns: rows, data }));
        }
        Ok(Rc::new(StepMatrix { rows, columns, data: data.to_vec() }))
    }

    fn step(&self, body: &mut Body, node: &OnnxNode) -> Result<Vec<StepValue>> {
        let none = || node.unsupported("a loop's body that computes no LSTM, GRU or plain RNN");
        let op = node.op.as_str();
        if let Some(function) = self.step_function(node)? {
            node.allow(function.1)?;
            let (sum, rank) = self.sum(body, node, 0)?;
            let sum = body.algebra.function(function.0, &sum).ok_or_else(none)?;
            return Ok(vec![StepValue::Sum { sum, rank }]);
        }
        let first = self.at_step(body, node, 0)?;
        let value = match (op, first) {
            ("Identity", Ok(value)) => {
                node.allow(&[])?;
                value
            }
            ("Cast", Ok(value)) => {
                node.allow(&["to", "saturate", "round_mode"])?;
                let to = node.int("to", 0)?;
                match value {
                    StepValue::Mask { kept, rank } if matches!(to, 1 | 10 | 11 | 16) => {
                        StepValue::Sum { sum: body.sum_of_mask(kept).ok_or_else(none)?, rank }
                    }
                    StepValue::Sum { .. } if !matches!(to, 1 | 10 | 11 | 16) => return Err(none()),
                    value => value,
                }
            }
            ("Not", Ok(StepValue::Mask { kept, rank })) => StepValue::Mask { kept: !kept, rank },
            ("And", _) => self.both(body, node)?,
            ("Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual", _) => self.compared(body, node)?,
            ("Gather", Err(Value::Tensor(tensor))) => {
                node.allow(&["axis"])?;
                let Ok(StepValue::Counter(0)) = self.at_step(body, node, 1)? else { return Err(none()) };
                let axis = resolve_axis(node, node.int("axis", 0)?, tensor.axes.len())?;
                body.step_of(node, &tensor, axis)?
            }
            ("Squeeze" | "Unsqueeze" | "Reshape" | "Flatten", Ok(StepValue::Sum { sum, rank })) => {
                StepValue::Sum { rank: self.step_rank(node, sum.width, rank)?, sum }
            }
            ("Split", Ok(StepValue::Sum { sum, rank })) => {
                node.allow(&["axis", "split", "num_outputs"])?;
                if resolve_axis(node, node.int("axis", 0)?, rank)? + 1 != rank {
                    return Err(none());
                }
                let (mut start, mut parts) = (0, Vec::new());
                for n in self.parts(node, sum.width)? {
                    let count = usize::try_from(n).map_err(|_| none())?;
                    let part = body.algebra.columns(&sum, start, count).ok_or_else(none)?;
                    start += count;
                    parts.push(StepValue::Sum { sum: part, rank });
                }
                return Ok(parts);
            }
            ("Slice", Ok(StepValue::Sum { mut sum, rank })) => {
                for (axis, start, end, step) in self.slices(node, rank)? {
                    // Rows are not cut.
                    if axis + 1 != rank && start == 0 && end >= i64::from(i32::MAX) && step == 1 {
                        continue;
                    }
                    let range = slice_range(sum.width, start, end, step).filter(|_| axis + 1 == rank && step == 1);
                    let (start, count, _) = range.ok_or_else(none)?;
                    sum = body.algebra.columns(&sum, start, count).ok_or_else(none)?;
                }
                StepValue::Sum { sum, rank }
            }
            ("Concat", _) => self.joined(body, node)?,
            ("MatMul", _) => {
                node.allow(&[])?;
                let (sum, rank) = self.sum(body, node, 0)?;
                let matrix = self.matrix(node, 1, false)?;
                let sum = body.algebra.product(&sum, &matrix).ok_or_else(none)?;
                StepValue::Sum { sum, rank }
            }
            ("Gemm", _) => self.step_gemm(body, node)?,
            ("Add" | "Sub" | "Mul" | "Div" | "Sum", _) => self.step_arithmetic(body, node)?,
            ("Neg", _) => {
                let (sum, rank) = self.sum(body, node, 0)?;
                StepValue::Sum { sum: body.algebra.scaled(&sum, &[-1.0]).ok_or_else(none)?, rank }
            }
            ("Where", Ok(StepValue::Mask { kept, rank })) => {
                node.allow(&[])?;
                let ((mut yes, a), (mut no, b)) = (self.sum(body, node, 1)?, self.sum(body, node, 2)?);
                if !kept {
                    std::mem::swap(&mut yes, &mut no);
                }
                let mask = body.sum_of_mask(true).ok_or_else(none)?;
                let algebra = &mut body.algebra;
                let difference = algebra.scaled(&no, &[-1.0]).and_then(|negative| algebra.add(&yes, &negative));
                let chosen = difference.and_then(|d| algebra.multiply(&mask, &d)).and_then(|d| algebra.add(&no, &d));
                StepValue::Sum { sum: chosen.ok_or_else(none)?, rank: rank.max(a).max(b) }
            }
            _ => return Err(node.unsupported(format!("operator `{op}` in a loop's body"))),
        };
        Ok(vec![value])
    }

    /// The function of a node, and the attributes that it reads.
    fn step_function(&self, node: &OnnxNode) -> Result<Option<(Activation, &'static [&'static str])>> {
        if node.op == "Clip" {
            let low = self.number(node, "min", 1)?.unwrap_or(f32::MIN);
            let high = self.number(node, "max", 2)?.unwrap_or(f32::MAX);
            return Ok(Some((Activation::Clip { alpha: low, beta: high }, &["min", "max"])));
        }
        if matches!(node.op.as_str(), "Neg" | "Reciprocal" | "Erf" | "Log") {
            return Ok(None);
        }
        function_of(node)
    }

    fn step_arithmetic(&self, body: &mut Body, node: &OnnxNode) -> Result<StepValue> {
        node.allow(&[])?;
        let none = || node.unsupported("this arithmetic in a loop's body");
        if node.inputs.len() != 2 {
            return Err(none());
        }
        let op = node.op.as_str();
        match (self.at_step(body, node, 0)?, self.at_step(body, node, 1)?) {
            (Ok(StepValue::Counter(n)), Err(value)) | (Err(value), Ok(StepValue::Counter(n))) if op == "Add" => {
                let step = dims::whole(&value).ok_or_else(none)?;
                return n.checked_add(step).map(StepValue::Counter).ok_or_else(none);
            }
            (Ok(StepValue::Counter(n)), Err(value)) if op == "Sub" => {
                let step = dims::whole(&value).ok_or_else(none)?;
                return n.checked_sub(step).map(StepValue::Counter).ok_or_else(none);
            }
            _ => {}
        }
        let ((a, p), (b, q)) = (self.sum(body, node, 0)?, self.sum(body, node, 1)?);
        let algebra = &mut body.algebra;
        let sum = match op {
            "Add" | "Sum" => algebra.add(&a, &b),
            "Sub" => algebra.scaled(&b, &[-1.0]).and_then(|negative| algebra.add(&a, &negative)),
            "Mul" => algebra.multiply(&a, &b),
            _ if b.terms.is_empty() => {
                let inverse: Vec<f32> = b.bias.iter().map(|x| 1.0 / x).collect();
                algebra.scaled(&a, &inverse)
            }
            _ => None,
        };
        Ok(StepValue::Sum { sum: sum.ok_or_else(none)?, rank: p.max(q) })
    }

    fn step_gemm(&self, body: &mut Body, node: &OnnxNode) -> Result<StepValue> {
        node.allow(&["alpha", "beta", "transA", "transB"])?;
        let none = || node.unsupported("this Gemm in a loop's body");
        if node.int("transA", 0)? != 0 {
            return Err(node.unsupported("transA"));
        }
        let (sum, rank) = self.sum(body, node, 0)?;
        let matrix = self.matrix(node, 1, node.int("transB", 0)? != 0)?;
        let algebra = &mut body.algebra;
        let product = algebra.product(&sum, &matrix).ok_or_else(none)?;
        let mut product = algebra.scaled(&product, &[node.float("alpha", 1.0)?]).ok_or_else(none)?;
        if self.given(node, 2) {
            let (added, _) = self.sum(body, node, 2)?;
            let algebra = &mut body.algebra;
            let added = algebra.scaled(&added, &[node.float("beta", 1.0)?]).ok_or_else(none)?;
            product = algebra.add(&product, &added).ok_or_else(none)?;
        }
        Ok(StepValue::Sum { sum: product, rank })
    }

    /// Rows side by side, as products with unit matrices.
    fn joined(&self, body: &mut Body, node: &OnnxNode) -> Result<StepValue> {
        node.allow(&["axis"])?;
        let none = || node.unsupported("this Concat in a loop's body");
        let parts = (0..node.inputs.len()).map(|i| self.sum(body, node, i)).collect::<Result<Vec<_>>>()?;
        let rank = parts.iter().map(|(_, rank)| *rank).max().unwrap_or(0);
        let width = parts.iter().try_fold(0usize, |sum, (part, _)| sum.checked_add(part.width)).ok_or_else(none)?;
        if resolve_axis(node, node.int("axis", 0)?, rank)? + 1 != rank || width > 1 << 16 {
            return Err(none());
        }
        let mut all = Sum::constant(vec![0.0; width]);
        let mut start = 0;
        for (part, _) in parts {
            all = body.algebra.placed(&part, start, width).and_then(|p| body.algebra.add(&all, &p)).ok_or_else(none)?;
            start += part.width;
        }
        Ok(StepValue::Sum { sum: all, rank })
    }

    fn both(&self, body: &Body, node: &OnnxNode) -> Result<StepValue> {
        let mut all = Vec::new();
        for index in 0..node.inputs.len() {
            match self.at_step(body, node, index)? {
                Ok(StepValue::Condition(more)) => all.extend(more),
                Err(Value::Constant(array)) if array.scalar() == Some(1.0) => {}
                _ => return Err(node.unsupported("a loop's condition that depends on its numbers")),
            }
        }
        Ok(StepValue::Condition(all))
    }

    fn compared(&self, body: &Body, node: &OnnxNode) -> Result<StepValue> {
        let refuse = || node.unsupported("a comparison in a loop's body other than of its step's number with a size");
        let swapped = node.op.starts_with("Greater");
        let (low, high) = if swapped { (1, 0) } else { (0, 1) };
        let Ok(StepValue::Counter(offset)) = self.at_step(body, node, low)? else { return Err(refuse()) };
        let Err(bound) = self.at_step(body, node, high)? else { return Err(refuse()) };
        let bound = dims::single(&bound).ok_or_else(refuse)?;
        let offset = if node.op.ends_with("OrEqual") { offset.checked_sub(1) } else { Some(offset) };
        Ok(StepValue::Condition(vec![(offset.ok_or_else(refuse)?, bound)]))
    }

    /// The rank after axes of size 1 before the channels come or go.
    fn step_rank(&self, node: &OnnxNode, width: usize, rank: usize) -> Result<usize> {
        let refuse = || node.unsupported("this change of a step's axes in a loop's body");
        let one_row = self.batch == Dim::Known(1);
        match node.op.as_str() {
            "Squeeze" => match self.integers(node, "axes", 1)? {
                Some(axes) => {
                    let gone = axes.iter().map(|&a| resolve_axis(node, a, rank)).collect::<Result<Vec<_>>>()?;
                    let left = rank.saturating_sub(gone.len());
                    let fits = gone.iter().all(|&at| at + 1 != rank) && (one_row || left >= 2);
                    if fits { Ok(left) } else { Err(refuse()) }
                }
                None if one_row && width != 1 => Ok(1),
                None => Err(refuse()),
            },
            "Unsqueeze" => {
                let axes = self.integers(node, "axes", 1)?.ok_or_else(refuse)?;
                let wide = rank + axes.len();
                let new = axes.iter().map(|&a| resolve_axis(node, a, wide)).collect::<Result<Vec<_>>>()?;
                if new.iter().all(|&at| at + 1 != wide) { Ok(wide) } else { Err(refuse()) }
            }
            "Reshape" => {
                let target = self.dims(node, 1)?;
                let fits = |last: &Dim| *last == Dim::Known(width) || (*last == Dim::Below(-1) && one_row);
                match target.split_last() {
                    Some((last, rest)) if fits(last) && (one_row || !rest.is_empty()) => Ok(target.len()),
                    _ => Err(refuse()),
                }
            }
            _ if node.int("axis", 1)? == 1 && rank == 2 => Ok(2),
            _ => Err(refuse()),
        }
    }
}

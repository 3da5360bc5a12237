//! The operator Concat.

use super::array::Array;
use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::shapes::constant;
use super::value::{AxisLabel, Dim, FinalRow, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::network::{Join, LayerSpec, PadMode, PadSpec};

impl Walk<'_> {
    pub fn concat(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis"])?;
        node.require("axis")?;
        let axis = node.int("axis", 0)?;
        let values = (0..node.inputs.len()).map(|i| self.value(node, i)).collect::<Result<Vec<_>>>()?;
        let constants: Vec<&Array> =
            values.iter().filter_map(|v| if let Value::Constant(array) = v { Some(&**array) } else { None }).collect();
        if values.is_empty() {
            return Err(node.malformed("an input", "none"));
        }
        if constants.len() == values.len() {
            return Ok(constant(Array::joined(node, &constants, axis)?));
        }
        if values.iter().all(|v| matches!(v, Value::Dims { .. } | Value::Constant(_))) {
            let lists = (0..values.len()).map(|i| self.dims(node, i)).collect::<Result<Vec<_>>>()?;
            resolve_axis(node, axis, 1)?;
            return Ok(Value::Dims { dims: lists.concat(), scalar: false });
        }
        if let Some(Value::Fill { value, .. }) = values.first()
            && values.iter().all(|v| matches!(v, Value::Fill { value: other, .. } if other == value))
        {
            let all: Option<Vec<&[Dim]>> = values
                .iter()
                .map(|v| if let Value::Fill { dims: Some(dims), .. } = v { Some(dims.as_slice()) } else { None })
                .collect();
            let dims = all.map(|all| joined_dims(node, &all, axis)).transpose()?;
            return Ok(Value::Fill { value: *value, dims });
        }
        if values.len() == 1
            && let Some(value) = values.first()
        {
            return Ok(value.clone());
        }
        let mut tensors = Vec::new();
        let mut states = Vec::new();
        for value in values {
            match value {
                Value::Tensor(tensor) => tensors.push(tensor),
                Value::States(rows) => states.extend(rows),
                _ => return Err(node.unsupported("joining tensors with constants or states that the caller gives")),
            }
        }
        if !states.is_empty() || tensors.is_empty() {
            return Ok(Value::States(self.as_states(states, &tensors)));
        }
        self.concat_tensors(node, &tensors, axis)
    }

    fn concat_tensors(&mut self, node: &OnnxNode, tensors: &[LabelledTensor], axis: i64) -> Result<Value> {
        let first = &tensors[0];
        let axis = resolve_axis(node, axis, first.axes.len())?;
        let label = first.axes[axis];
        let alike = |t: &LabelledTensor| {
            t.axes.len() == first.axes.len() && (0..t.axes.len()).all(|i| i == axis || t.axes[i] == first.axes[i])
        };
        if !tensors.iter().all(alike) {
            return Err(node.unsupported("joining tensors of different axes"));
        }
        let direction = |t: &LabelledTensor| matches!(t.of, Of::Directions { .. });
        // Rows beside a sequence are timesteps.
        let in_time = tensors.iter().any(|t| t.axes[axis] == AxisLabel::Time)
            && tensors.iter().all(|t| matches!(t.axes[axis], AxisLabel::Time | AxisLabel::Unit));
        match label {
            _ if in_time => self.joined_in_time(node, tensors, axis),
            AxisLabel::Channel | AxisLabel::Unit | AxisLabel::Direction
                if tensors.iter().all(direction) && one_part(tensors) =>
            {
                let mut joined = first.clone();
                let width: usize = tensors.iter().map(|t| t.width).sum();
                if let Of::Directions { rows, .. } = &mut joined.of {
                    for other in &tensors[1..] {
                        if let Of::Directions { rows: more, .. } = &other.of {
                            rows.extend(more);
                        }
                    }
                    let split =
                        rows.iter().enumerate().any(|(d, row)| row.layer != rows[0].layer || row.direction != d);
                    if label == AxisLabel::Channel && split {
                        return self.join_channels(node, tensors);
                    }
                }
                if label == AxisLabel::Channel {
                    joined.width = width;
                } else {
                    joined.axes[axis] = AxisLabel::Direction;
                }
                Ok(Value::Tensor(joined))
            }
            AxisLabel::Channel => self.join_channels(node, tensors),
            AxisLabel::Unit if self.stacks(node, tensors) => self.stacked_rows(node, tensors, axis),
            AxisLabel::Unit | AxisLabel::Direction => Ok(Value::States(self.as_states(Vec::new(), tensors))),
            other => Err(node.unsupported(format!("joining along the axis {other}"))),
        }
    }

    fn join_channels(&mut self, node: &OnnxNode, tensors: &[LabelledTensor]) -> Result<Value> {
        let ids = tensors.iter().map(|t| self.settle(node, t)).collect::<Result<Vec<_>>>()?;
        let width = ids.iter().map(|&id| self.build.expressions.facts(id).width).sum();
        let sequence = self.build.expressions.facts(ids[0]).sequence;
        let id = self.build.expressions.add(&node.name, Expression::Join(Join::Concat, ids), width, sequence)?;
        Ok(self.like(&tensors[0], id))
    }

    /// Sequences one after the other in time: each padded with zeros to the whole length, and their sum.
    fn joined_in_time(&mut self, node: &OnnxNode, tensors: &[LabelledTensor], axis: usize) -> Result<Value> {
        let steps = |t: &LabelledTensor| match (t.axes[axis], t.steps) {
            (AxisLabel::Unit, _) => Ok(1),
            (_, Dim::Known(steps)) => Ok(steps),
            _ => Err(node.unsupported("sequences of an open length one after the other")),
        };
        let all = tensors.iter().map(steps).collect::<Result<Vec<_>>>()?;
        let whole = all.iter().fold(0, |sum: usize, &steps| sum.saturating_add(steps));
        let width = tensors[0].width;
        if tensors.iter().any(|t| t.width != width) {
            return Err(node.unsupported("sequences of different widths one after the other"));
        }
        let place = |steps: usize| i64::try_from(steps).unwrap_or(i64::MAX);
        let mut parts = Vec::with_capacity(tensors.len());
        let mut before = 0;
        for (tensor, steps) in tensors.iter().zip(all) {
            let mut id = self.settle(node, tensor)?;
            id = if self.build.expressions.facts(id).sequence {
                self.of_fixed_length(node, id, steps)?
            } else {
                self.row_as_steps(node, id, width, 1)?
            };
            let (left, right, mode) = (place(before), place(whole - before - steps), PadMode::Zeros);
            let pad = |name| LayerSpec::Pad(PadSpec { name, left, right, mode });
            parts.push(self.rearranged(node, id, width, true, pad)?);
            before += steps;
        }
        let id = self.build.expressions.add(&node.name, Expression::Join(Join::Add, parts), width, true)?;
        let (of, mut axes) = (Of::Expression(id), tensors[0].axes.clone());
        axes[axis] = AxisLabel::Time;
        Ok(Value::Tensor(LabelledTensor { of, axes, width, steps: Dim::Known(whole) }))
    }

    /// Whether joined rows are timesteps, instead of states that the graph gives to its caller.
    fn stacks(&self, node: &OnnxNode, tensors: &[LabelledTensor]) -> bool {
        let rows = |t: &LabelledTensor| match t.of {
            Of::Expression(id) => !self.build.expressions.facts(id).sequence && t.position(AxisLabel::Time).is_none(),
            _ => false,
        };
        let given = node.outputs.first().is_some_and(|name| self.is_output(name)) && self.graph.main.outputs.len() > 1;
        tensors.iter().all(rows) && !given
    }

    /// Rows as the timesteps of a sequence.
    fn stacked_rows(&mut self, node: &OnnxNode, tensors: &[LabelledTensor], axis: usize) -> Result<Value> {
        let first = &tensors[0];
        let fits = |t: &LabelledTensor| t.width == first.width && t.position(AxisLabel::Channel).is_some();
        if !tensors.iter().all(fits) {
            return Err(node.unsupported("rows of different widths as timesteps"));
        }
        let ids = tensors.iter().map(|t| self.settle(node, t)).collect::<Result<Vec<_>>>()?;
        let steps = ids.len();
        if ids.len() > 1
            && let Some(id) = self.lifted(&ids)?
            && self.build.expressions.facts(id).sequence
        {
            let mut axes = first.axes.clone();
            axes[axis] = AxisLabel::Time;
            let steps = Dim::Known(steps);
            return Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width: first.width, steps }));
        }
        let joined = if let [one] = ids[..] {
            one
        } else {
            let width = first.width.saturating_mul(steps);
            self.build.expressions.add(&node.name, Expression::Join(Join::Concat, ids), width, false)?
        };
        let id = self.row_as_steps(node, joined, first.width, steps)?;
        let mut axes = first.axes.clone();
        axes[axis] = AxisLabel::Time;
        let steps = Dim::Known(steps);
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width: first.width, steps }))
    }

    #[expect(clippy::unused_self, reason = "a method among methods")]
    fn as_states(&self, mut states: Vec<FinalRow>, tensors: &[LabelledTensor]) -> Vec<FinalRow> {
        for tensor in tensors {
            match &tensor.of {
                &Of::Expression(id) => states.push(FinalRow::Computed(id)),
                Of::Directions { part, rows } => {
                    states.extend(rows.iter().map(|&row| FinalRow::Layer { part: *part, row }));
                }
                _ => {}
            }
        }
        states
    }
}

/// The sizes of tensors joined along `axis`.
fn joined_dims(node: &OnnxNode, all: &[&[Dim]], axis: i64) -> Result<Vec<Dim>> {
    let mut dims = all[0].to_vec();
    let axis = resolve_axis(node, axis, dims.len())?;
    for other in &all[1..] {
        let differ =
            |at: usize| at != axis && matches!((dims[at], other[at]), (Dim::Known(a), Dim::Known(b)) if a != b);
        if other.len() != dims.len() || (0..dims.len()).any(differ) {
            return Err(node.malformed(format!("tensors of sizes {}", words::shape(&dims)), words::shape(other)));
        }
        dims[axis] = match (dims[axis], other[axis]) {
            (Dim::Known(a), Dim::Known(b)) => Dim::Known(a.saturating_add(b)),
            _ => Dim::Any,
        };
    }
    Ok(dims)
}

fn one_part(tensors: &[LabelledTensor]) -> bool {
    let part = |t: &LabelledTensor| if let Of::Directions { part, .. } = t.of { Some(part) } else { None };
    tensors.iter().all(|t| part(t) == part(&tensors[0]))
}

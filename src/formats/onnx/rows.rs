//! Rows by number: each row's last timestep by its length, and rows that are sorted by their lengths and back.

use std::collections::BTreeSet;

use super::constants::resolve_axis;
use super::graph::{OnnxGraph, OnnxNode};
use super::unsupported;
use super::value::{AxisLabel, Dim, LabelledTensor, Of, Value};
use super::walk::Walk;
use crate::base::error::Result;
use crate::network::SelectStep;

/// Operators that pass numbers of rows on.
const PASSES: [&str; 5] = ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

impl Walk<'_> {
    /// The operators of this file; `None` where other values take part.
    pub fn row_operator(&mut self, node: &OnnxNode) -> Result<Option<Vec<Value>>> {
        let given = |at: usize| node.inputs.get(at).and_then(|name| self.known(name));
        let (first, second) = (given(0), given(1));
        let one = |value: Value| Ok(Some(vec![value]));
        match (node.op.as_str(), first, second) {
            ("Range", Some(start), Some(Value::Dims { dims, scalar: true })) if dims == [self.batch] => {
                let step = given(2).as_ref().and_then(super::dims::whole);
                if super::dims::whole(&start) != Some(0) || step != Some(1) {
                    return Ok(None);
                }
                node.allow(&[])?;
                one(Value::RowNumbers { stride: Dim::Known(1), rank: 1 })
            }
            (op, Some(value), _) if PASSES.contains(&op) && value.numbers_rows() => {
                let before = match value {
                    Value::RowNumbers { rank, .. } | Value::LastSteps { rank } => rank,
                    _ => 1,
                };
                let rank = self.moved_rank(node, before)?;
                match value {
                    Value::LastSteps { .. } => one(Value::LastSteps { rank }),
                    Value::RowNumbers { stride, .. } if rank <= 2 => one(Value::RowNumbers { stride, rank }),
                    other if rank == 1 => one(other),
                    _ => Err(node.unsupported("numbers of rows in another shape")),
                }
            }
            ("Mul", Some(Value::RowNumbers { stride: Dim::Known(1), rank }), Some(size))
            | ("Mul", Some(size), Some(Value::RowNumbers { stride: Dim::Known(1), rank })) => {
                let stride =
                    super::dims::single(&size).ok_or_else(|| node.unsupported("numbers of rows times this value"))?;
                one(Value::RowNumbers { stride, rank })
            }
            ("Add", Some(Value::RowNumbers { stride, rank: 1 }), Some(Value::LastSteps { rank: 1 }))
            | ("Add", Some(Value::LastSteps { rank: 1 }), Some(Value::RowNumbers { stride, rank: 1 })) => {
                one(Value::LastPlaces(Some(stride)))
            }
            ("Concat", Some(rows), Some(Value::LastSteps { rank: 2 }))
                if node.inputs.len() == 2 && self.all_rows(&rows) =>
            {
                if !matches!(node.int("axis", 0)?, 1 | -1) {
                    return Err(node.unsupported("numbers of rows and timesteps along another axis"));
                }
                one(Value::LastPlaces(None))
            }
            ("GatherND", Some(Value::Tensor(tensor)), Some(Value::LastPlaces(None))) => {
                node.allow(&["batch_dims"])?;
                let axes = [AxisLabel::Batch, AxisLabel::Time, AxisLabel::Channel];
                if node.int("batch_dims", 0)? != 0 || tensor.axes != axes {
                    return Err(node.unsupported("a choice of elements other than each row's last timestep"));
                }
                one(self.last_valid_of(node, &tensor)?)
            }
            ("Gather", Some(Value::Tensor(tensor)), Some(Value::LastPlaces(Some(stride)))) => {
                node.allow(&["axis"])?;
                let whole = matches!(tensor.axes[..], [AxisLabel::Rows { time_first: false }, AxisLabel::Channel]);
                if !whole || stride != tensor.steps || stride == Dim::Any || node.int("axis", 0)? != 0 {
                    return Err(node.unsupported("a choice of rows other than each row's last timestep"));
                }
                one(self.last_valid_of(node, &tensor)?)
            }
            ("TopK", Some(Value::Lengths), Some(count)) => {
                node.allow(&["axis", "largest", "sorted"])?;
                let all = super::dims::single(&count) == Some(self.batch);
                if !all || !node.flag("largest", true)? || !node.flag("sorted", true)? {
                    return Err(node.unsupported("some of the lengths"));
                }
                self.sorts_rows = true;
                Ok(Some(vec![Value::Lengths, Value::RowOrder { inverse: false }]))
            }
            ("ScatterElements", Some(_), Some(Value::RowOrder { inverse: false })) => {
                node.allow(&["axis"])?;
                if node.int("axis", 0)? != 0
                    || !matches!(given(2), Some(Value::RowNumbers { stride: Dim::Known(1), rank: 1 }))
                {
                    return Err(node.unsupported("an order of rows other than that of their lengths"));
                }
                one(Value::RowOrder { inverse: true })
            }
            ("Gather", Some(value), Some(Value::RowOrder { .. })) => {
                node.allow(&["axis"])?;
                let of_rows = match &value {
                    Value::Tensor(tensor) => {
                        let axis = resolve_axis(node, node.int("axis", 0)?, tensor.axes.len())?;
                        tensor.axes[axis] == AxisLabel::Batch
                    }
                    // [R, B, H]
                    Value::States(_) | Value::State { .. } => node.int("axis", 0)? == 1,
                    Value::Lengths => true,
                    _ => false,
                };
                if !of_rows {
                    return Err(node.unsupported("an order of rows along another axis"));
                }
                one(value)
            }
            _ => Ok(None),
        }
    }

    /// Notes that a node takes a row of the batch, as `y[:, -1]` does by mistake where time comes first. Rows do not depend on each
    /// other, so that it is taken from the answer.
    pub fn only_row(&mut self, node: &OnnxNode, index: i64) -> Result<()> {
        if !self.may_take_row {
            return Err(node.unsupported(format!("a gather along the axis {}", AxisLabel::Batch)));
        }
        let index = match self.batch {
            Dim::Known(rows) => i64::try_from(resolve_axis(node, index, rows)?).unwrap_or(i64::MAX),
            _ => index,
        };
        if self.row.is_some_and(|row| row != index) || self.sorts_rows {
            return Err(node.unsupported("several rows of the batch"));
        }
        (self.row, self.takes_row) = (Some(index), true);
        Ok(())
    }

    /// The axes of numbers of rows behind an operator that passes them on: 1 is `[B]`, 2 is `[B, 1]`, 3 any other.
    fn moved_rank(&self, node: &OnnxNode, rank: usize) -> Result<usize> {
        Ok(match (node.op.as_str(), rank) {
            ("Cast" | "Identity", rank) => rank,
            ("Unsqueeze", 1) if self.unsqueezed(node, 1)? == [1] => 2,
            ("Squeeze", 2) if self.squeezed(node, &[self.batch, Dim::Known(1)])? == [1] => 1,
            ("Reshape", _) => match self.dims(node, 1)?[..] {
                [_] => 1,
                [_, Dim::Known(1)] => 2,
                _ => 3,
            },
            _ => 3,
        })
    }

    /// Whether the value is the numbers of all rows, `[B, 1]`.
    fn all_rows(&self, value: &Value) -> bool {
        match value {
            Value::RowNumbers { stride: Dim::Known(1), rank } => *rank == 2,
            Value::Constant(array) if array.shape.len() == 2 && array.shape[1] == 1 => {
                array.as_ints().is_some_and(|ints| {
                    Dim::Known(ints.len()) == self.batch && ints.iter().copied().eq((0..).take(ints.len()))
                })
            }
            _ => false,
        }
    }

    /// The timestep of `tensor` that each row's length says.
    pub fn last_valid_of(&mut self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<Value> {
        self.last_valid = true;
        let id = self.settle(node, tensor)?;
        let width = self.build.expressions.facts(id).width;
        let read = self.build.emit(id)?;
        let of = Of::Expression(self.select(&read, width, SelectStep::LastValid)?);
        let axes = vec![AxisLabel::Batch, AxisLabel::Channel];
        Ok(Value::Tensor(LabelledTensor { of, axes, width, steps: tensor.steps }))
    }
}

impl Value {
    /// Whether it says rows, or places in rows.
    fn numbers_rows(&self) -> bool {
        matches!(self, Self::RowNumbers { .. } | Self::LastSteps { .. } | Self::LastPlaces(_) | Self::RowOrder { .. })
    }
}

/// An error unless all rows that the graph sorts by their lengths are put back in the order of the input, and are not used
/// together with rows in that order. Rows do not depend on each other, so that the network then needs no order.
pub fn check_order(graph: &OnnxGraph) -> Result<()> {
    // Values by the order of their rows: the input's or that of the lengths. An order itself is in neither.
    let mut given: BTreeSet<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
    let (mut sorted, mut orders, mut inverses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for node in &graph.main.nodes {
        let reads = |set: &BTreeSet<&str>| node.inputs.iter().any(|input| set.contains(input.as_str()));
        let mut outputs = node.outputs.iter().map(String::as_str);
        let refuse = |what: &str| Err(node.unsupported(what));
        match node.op.as_str() {
            "Shape" | "Size" => {}
            "TopK" => {
                sorted.extend(outputs.next());
                orders.extend(outputs.next());
            }
            op if PASSES.contains(&op) && reads(&orders) => orders.extend(outputs),
            op if PASSES.contains(&op) && reads(&inverses) => inverses.extend(outputs),
            "ScatterElements" if reads(&orders) => inverses.extend(outputs),
            "Gather" if node.inputs.get(1).is_some_and(|name| orders.contains(name.as_str())) => {
                if reads(&sorted) {
                    return refuse("rows that are sorted twice");
                }
                sorted.extend(outputs);
            }
            "Gather" if node.inputs.get(1).is_some_and(|name| inverses.contains(name.as_str())) => {
                if !reads(&sorted) {
                    return refuse("an order of rows that were not sorted");
                }
                given.extend(outputs);
            }
            _ if reads(&orders) || reads(&inverses) => return refuse("an order of rows outside of a Gather"),
            _ if reads(&sorted) && reads(&given) => {
                return refuse("sorted rows together with rows that are not sorted");
            }
            _ if reads(&sorted) && node.graphs.is_empty() => sorted.extend(outputs),
            _ if !node.graphs.is_empty() => return refuse("a graph within a graph that sorts rows"),
            _ if reads(&given) => given.extend(outputs),
            _ => {}
        }
    }
    match graph.main.outputs.iter().find(|output| sorted.contains(output.as_str())) {
        Some(output) => Err(unsupported(format!("output `{output}`"), "rows in the order of their lengths")),
        None => Ok(()),
    }
}

/// An error if values that are one row of the batch, `of_row` and what comes of them, are used together with all rows.
pub fn check_row(graph: &OnnxGraph, of_row: &BTreeSet<&str>) -> Result<()> {
    let mut given: BTreeSet<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
    let mut taken = of_row.clone();
    for node in &graph.main.nodes {
        let reads = |set: &BTreeSet<&str>| node.inputs.iter().any(|input| set.contains(input.as_str()));
        let outputs = node.outputs.iter().map(String::as_str);
        if matches!(node.op.as_str(), "Shape" | "Size")
            || node.outputs.iter().any(|name| of_row.contains(name.as_str()))
        {
            continue;
        }
        let both = reads(&taken) && (reads(&given) || !node.graphs.is_empty());
        match (both, reads(&taken), reads(&given)) {
            (true, ..) => return Err(node.unsupported("one row of the batch together with all rows")),
            (_, true, _) => taken.extend(outputs),
            (.., true) => given.extend(outputs),
            _ => {}
        }
    }
    Ok(())
}

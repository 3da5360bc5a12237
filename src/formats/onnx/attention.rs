//! Matrix products of two tensors: weighted sums over time, and attention.

use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{AxisLabel, Id, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::network::{AttentionScore, AttentionSpec, GlobalPoolSpec, Join, LayerSpec, Pool};

impl Walk<'_> {
    /// A matrix product of two tensors: one row's weights for all timesteps (attention).
    pub fn attention(&mut self, node: &OnnxNode, a: &LabelledTensor, b: &LabelledTensor) -> Result<Value> {
        use AxisLabel::{Batch, BatchHeads, Channel, Head, Time, Unit};
        let refuse = || {
            node.unsupported(format!("a product of tensors {} and {}", words::shape(&a.axes), words::shape(&b.axes)))
        };
        let ([.., rows, k], [.., l, columns]) = (&a.axes[..], &b.axes[..]) else { return Err(refuse()) };
        let (rows, k, l, columns) = (*rows, *k, *l, *columns);
        // Axes of one channel may have lost that label.
        let channel = |axis: AxisLabel, of: &LabelledTensor| axis == Channel || (axis == Unit && of.width == 1);
        let leading = |t: &LabelledTensor| {
            matches!(t.axes[..t.axes.len() - 2], [Batch | BatchHeads | Unit | Head] | [Batch | Unit, Head] | [])
        };
        if !leading(a) || !leading(b) {
            return Err(refuse());
        }
        if let Of::Scores { .. } = a.of {
            return self.attend(node, a, b);
        }
        if let (Of::Heads { id: x, heads, scale }, Of::Heads { id: y, heads: others, scale: other }) = (&a.of, &b.of) {
            let sequences = [*x, *y].map(|id| self.build.expressions.facts(id).sequence);
            let of_queries = (rows == Time && sequences[0]) || (rows == Unit && !sequences[0]);
            let fits = of_queries && [k, l, columns] == [Channel, Channel, Time] && sequences[1];
            if !fits
                || heads != others
                || a.width != b.width
                || a.axes[..a.axes.len() - 2] != b.axes[..b.axes.len() - 2]
            {
                return Err(refuse());
            }
            let of =
                Of::Scores { rows: *x, columns: *y, scale: scale * other, heads: *heads, keys: b.steps, shares: false };
            let axes = [&a.axes[..a.axes.len() - 1], &[AxisLabel::Other]].concat();
            return Ok(Value::Tensor(LabelledTensor { of, axes, width: heads * a.width, steps: a.steps }));
        }
        let (x, y) = (self.settle(node, a)?, self.settle(node, b)?);
        let (wide, narrow) = (self.build.expressions.facts(x).clone(), self.build.expressions.facts(y).clone());
        let first: Vec<AxisLabel> = a.axes[..a.axes.len() - 2].to_vec();
        let width = wide.width.max(narrow.width);
        if k == Time && l == Time && a.steps == b.steps {
            // A weight for each timestep: the sum of the timesteps times their weights.
            let (left, right) = (channel(rows, a), channel(columns, b));
            if !left || !right || wide.width.min(narrow.width) != 1 {
                return Err(refuse());
            }
            let product = self.join_mul(node, x, y, width, true)?;
            let layer = |name| LayerSpec::GlobalPool(GlobalPoolSpec { name, pool: Pool::Sum });
            let id = self.rearranged(node, product, width, false, layer)?;
            let axes = if wide.width == 1 { [Unit, Channel] } else { [Channel, Unit] };
            let axes = [&first[..], &axes].concat();
            return Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width, steps: a.steps }));
        }
        if [rows, k, l, columns] == [Time, Channel, Channel, Time] && wide.sequence && narrow.sequence {
            if wide.width != narrow.width {
                return Err(refuse());
            }
            let of = Of::Scores { rows: x, columns: y, scale: 1.0, heads: 1, keys: b.steps, shares: false };
            let axes = [&first[..], &[Time, AxisLabel::Other]].concat();
            return Ok(Value::Tensor(LabelledTensor { of, axes, width: wide.width, steps: a.steps }));
        }
        if k == Channel && l == Channel && wide.width == narrow.width && wide.sequence != narrow.sequence {
            // The product of every timestep with one row.
            let fits = if wide.sequence { rows == Time && columns == Unit } else { rows == Unit && columns == Time };
            if !fits {
                return Err(refuse());
            }
            let product = self.join_mul(node, x, y, width, true)?;
            let id = self.channel_sum(node, product)?;
            let axes = [&first[..], &[rows, columns]].concat();
            let steps = if wide.sequence { a.steps } else { b.steps };
            let tensor = LabelledTensor { of: Of::Expression(id), axes, width: 1, steps };
            return Ok(Value::Tensor(tensor.with_channels_last()));
        }
        Err(refuse())
    }

    fn join_mul(&mut self, node: &OnnxNode, x: Id, y: Id, width: usize, sequence: bool) -> Result<Id> {
        self.build.expressions.add(&node.name, Expression::Join(Join::Mul, vec![x, y]), width, sequence)
    }

    /// A scale or a softmax of the scores of all timesteps with all others; `None` for other values.
    pub fn scores_operator(&mut self, node: &OnnxNode) -> Result<Option<Value>> {
        let values = [0, 1].map(|at| node.inputs.get(at).and_then(|name| self.known(name)));
        let is_scores =
            |value: &Option<Value>| matches!(value, Some(Value::Tensor(LabelledTensor { of: Of::Scores { .. }, .. })));
        let [first, second] = values;
        let (scores, other) = if is_scores(&first) { (first, second) } else { (second, first) };
        let Some(Value::Tensor(tensor)) = scores else { return Ok(None) };
        let Of::Scores { rows, columns, scale, heads, keys, shares } = tensor.of else { return Ok(None) };
        let number = match other {
            Some(Value::Constant(array)) => array.scalar(),
            Some(Value::Fill { value, .. }) => Some(value),
            _ => None,
        };
        let with = |of: Of, axes: Vec<AxisLabel>| Ok(Some(Value::Tensor(LabelledTensor { of, axes, ..tensor })));
        let refuse = || node.unsupported(format!("{} of the scores of an attention", node.op));
        match (node.op.as_str(), number) {
            ("Mul", Some(number)) if !shares => {
                with(Of::Scores { rows, columns, scale: scale * number, heads, keys, shares }, tensor.axes)
            }
            ("Div", Some(number)) if !shares => {
                with(Of::Scores { rows, columns, scale: scale / number, heads, keys, shares }, tensor.axes)
            }
            ("Softmax", _) if !shares => {
                node.allow(&["axis"])?;
                let default = if node.opset < 13 { 1 } else { -1 };
                let axis = resolve_axis(node, node.int("axis", default)?, tensor.axes.len())?;
                // In the oldest opsets a softmax is over all axes from this on.
                if node.opset < 13 && axis + 1 != tensor.axes.len() {
                    return Err(refuse());
                }
                // The softmax is over the keys.
                let axes = tensor.axes.clone();
                match axes[axis] {
                    AxisLabel::Other => with(Of::Scores { rows, columns, scale, heads, keys, shares: true }, axes),
                    AxisLabel::Time => {
                        let of =
                            Of::Scores { rows: columns, columns: rows, scale, heads, keys: tensor.steps, shares: true };
                        let exchanged = |label| match label {
                            AxisLabel::Time => AxisLabel::Other,
                            AxisLabel::Other => AxisLabel::Time,
                            label => label,
                        };
                        let axes = axes.into_iter().map(exchanged).collect();
                        Ok(Some(Value::Tensor(LabelledTensor { of, axes, steps: keys, ..tensor })))
                    }
                    _ => Err(refuse()),
                }
            }
            ("Transpose" | "Dropout" | "Identity" | "MatMul" | "Shape" | "Cast", _) => Ok(None),
            // Axes of size 1, and rows with their parts in one axis or two.
            ("Reshape" | "Squeeze" | "Unsqueeze", _) => Ok(None),
            _ => Err(refuse()),
        }
    }

    /// The sums of the timesteps of `b`, weighted by the shares `a`.
    fn attend(&mut self, node: &OnnxNode, a: &LabelledTensor, b: &LabelledTensor) -> Result<Value> {
        use AxisLabel::{Channel, Other, Time, Unit};
        let Of::Scores { rows, columns, scale, heads, shares: true, .. } = a.of else {
            return Err(node.unsupported("a product with scores that no softmax made shares of"));
        };
        let refuse = || {
            node.unsupported(format!("a product of tensors {} and {}", words::shape(&a.axes), words::shape(&b.axes)))
        };
        let (values, scale_of_values) = match b.of {
            Of::Heads { id, heads: of_values, scale } if of_values == heads => (id, scale),
            Of::Heads { .. } => return Err(refuse()),
            _ if heads > 1 => return Err(refuse()),
            _ => (self.settle(node, b)?, 1.0),
        };
        let facts = self.build.expressions.facts(values).clone();
        if a.axes[..a.axes.len() - 2] != b.axes[..b.axes.len() - 2] && heads > 1 {
            return Err(refuse());
        }
        let sequence = self.build.expressions.facts(rows).sequence;
        if !a.axes.ends_with(&[if sequence { Time } else { Unit }, Other])
            || !b.axes.ends_with(&[Time, Channel])
            || !facts.sequence
        {
            return Err(refuse());
        }
        let [query, keys, values] = [rows, columns, values].map(|id| self.build.emit(id));
        let (query, keys, values) = (query?, keys?, values?);
        let name = self.build.unique(&node.name);
        let spec = AttentionSpec {
            name: name.clone(),
            embed_dim: a.width,
            keys: keys.clone(),
            values: Some(values.clone()),
            score: AttentionScore::Dot,
            num_heads: heads,
            scale,
        };
        let reads = vec![query, keys, values];
        let id = self.build.layer_of(reads, &name, LayerSpec::Attention(spec), facts.width, sequence)?;
        let axes = [&a.axes[..a.axes.len() - 1], &[Channel]].concat();
        let of = match heads {
            1 => Of::Expression(id),
            _ => Of::Heads { id, heads, scale: scale_of_values },
        };
        Ok(Value::Tensor(LabelledTensor { of, axes, width: facts.width / heads, steps: a.steps }))
    }
}

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
        use AxisLabel::{Batch, Channel, Time, Unit};
        let refuse = || {
            node.unsupported(format!("a product of tensors {} and {}", words::shape(&a.axes), words::shape(&b.axes)))
        };
        let ([.., rows, k], [.., l, columns]) = (&a.axes[..], &b.axes[..]) else { return Err(refuse()) };
        let (rows, k, l, columns) = (*rows, *k, *l, *columns);
        // Axes of one channel may have lost that label.
        let channel = |axis: AxisLabel, of: &LabelledTensor| axis == Channel || (axis == Unit && of.width == 1);
        let leading = |t: &LabelledTensor| matches!(t.axes[..t.axes.len() - 2], [Batch] | [Unit] | []);
        if !leading(a) || !leading(b) {
            return Err(refuse());
        }
        if let Of::Scores { .. } = a.of {
            return self.attend(node, a, b);
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
            let of = Of::Scores { rows: x, columns: y, scale: 1.0, shares: false };
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
        let Of::Scores { rows, columns, scale, shares } = tensor.of else { return Ok(None) };
        let number = match other {
            Some(Value::Constant(array)) => array.scalar(),
            Some(Value::Fill { value, .. }) => Some(value),
            _ => None,
        };
        let with = |of: Of, axes: Vec<AxisLabel>| Ok(Some(Value::Tensor(LabelledTensor { of, axes, ..tensor })));
        let refuse = || node.unsupported(format!("{} of the scores of an attention", node.op));
        match (node.op.as_str(), number) {
            ("Mul", Some(number)) if !shares => {
                with(Of::Scores { rows, columns, scale: scale * number, shares }, tensor.axes)
            }
            ("Div", Some(number)) if !shares => {
                with(Of::Scores { rows, columns, scale: scale / number, shares }, tensor.axes)
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
                    AxisLabel::Other => with(Of::Scores { rows, columns, scale, shares: true }, axes),
                    AxisLabel::Time => {
                        let of = Of::Scores { rows: columns, columns: rows, scale, shares: true };
                        let exchanged = |label| match label {
                            AxisLabel::Time => AxisLabel::Other,
                            AxisLabel::Other => AxisLabel::Time,
                            label => label,
                        };
                        let axes = axes.into_iter().map(exchanged).collect();
                        Ok(Some(Value::Tensor(LabelledTensor { of, axes, steps: super::value::Dim::Any, ..tensor })))
                    }
                    _ => Err(refuse()),
                }
            }
            ("Transpose" | "Dropout" | "Identity" | "MatMul" | "Shape" | "Cast", _) => Ok(None),
            _ => Err(refuse()),
        }
    }

    /// The sums of the timesteps of `b`, weighted by the shares `a`.
    fn attend(&mut self, node: &OnnxNode, a: &LabelledTensor, b: &LabelledTensor) -> Result<Value> {
        use AxisLabel::{Channel, Other, Time};
        let Of::Scores { rows, columns, scale, shares: true } = a.of else {
            return Err(node.unsupported("a product with scores that no softmax made shares of"));
        };
        let refuse = || {
            node.unsupported(format!("a product of tensors {} and {}", words::shape(&a.axes), words::shape(&b.axes)))
        };
        let values = self.settle(node, b)?;
        let facts = self.build.expressions.facts(values).clone();
        if !a.axes.ends_with(&[Time, Other]) || !b.axes.ends_with(&[Time, Channel]) || !facts.sequence {
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
            num_heads: 1,
            scale,
        };
        let reads = vec![query, keys, values];
        let id = self.build.layer_of(reads, &name, LayerSpec::Attention(spec), facts.width, true)?;
        let axes = [&a.axes[..a.axes.len() - 1], &[Channel]].concat();
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width: facts.width, steps: a.steps }))
    }
}

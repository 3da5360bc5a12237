//! Masks: comparisons of the network's input with a number, which say what timesteps count.

use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{AxisLabel, LabelledTensor, Of, Value};
use super::walk::Walk;
use crate::base::error::Result;
use crate::network::{GlobalPoolSpec, INPUT, LayerSpec, Pool};

/// A softmax gives numbers below this no share.
const FAR_BELOW: f32 = -1e4;

/// ONNX's number of the element type bool.
const BOOL: i64 = 9;

impl Walk<'_> {
    /// Equal, Not, And, Cast, ReduceSum and ReduceMax of masks, and Greater 0 of their sums; `None` for other values.
    pub fn mask_operator(&mut self, node: &OnnxNode) -> Result<Option<Value>> {
        let Some(Value::Tensor(tensor)) = node.inputs.first().and_then(|name| self.known(name)) else {
            return Ok(None);
        };
        let other = node.inputs.get(1).and_then(|name| self.known(name));
        let number = match &other {
            Some(Value::Constant(array)) => array.scalar(),
            Some(Value::Fill { value, .. }) => Some(*value),
            _ => None,
        };
        let with = |of: Of| Ok(Some(Value::Tensor(LabelledTensor { of, ..tensor.clone() })));
        match (node.op.as_str(), &tensor.of, number) {
            ("Equal", &Of::Tokens(input), Some(value)) => with(Of::Mask { kept: false, value, reversed: false, input }),
            ("Equal", Of::Expression(id), Some(value)) if self.is_input(*id) => {
                with(Of::Compared { equal: true, value })
            }
            ("Not", Of::Compared { equal, value }, _) => with(Of::Compared { equal: !equal, value: *value }),
            ("Not", &Of::Mask { kept, value, reversed, input }, _) => {
                with(Of::Mask { kept: !kept, value, reversed, input })
            }
            ("ReverseSequence", &Of::Mask { kept, value, reversed, input }, _) => {
                self.whole_reversal(node, &tensor)?;
                with(Of::Mask { kept, value, reversed: !reversed, input })
            }
            ("Cast", Of::AnyCount(value), _) if node.int("to", 0)? == BOOL => {
                with(Of::Mask { kept: true, value: *value, reversed: false, input: 0 })
            }
            ("Cast" | "Identity", Of::AnyCount(_), _) => Ok(Some(Value::Tensor(tensor))),
            ("Greater", Of::AnyCount(value), Some(0.0)) => {
                with(Of::Mask { kept: true, value: *value, reversed: false, input: 0 })
            }
            ("Cast" | "Identity", Of::Compared { .. } | Of::Mask { .. }, _) => Ok(Some(Value::Tensor(tensor))),
            ("Greater", Of::Mask { kept: true, .. }, Some(0.0)) => Ok(Some(Value::Tensor(tensor))),
            ("ReduceSum", Of::Mask { kept: true, value, input: 0, .. }, _) => {
                let of = Of::MaskCount(*value);
                self.any(node, &tensor, of, AxisLabel::Time).map(Some)
            }
            // Without a timestep that counts the sum is 0 too.
            ("Max", Of::MaskCount(_), Some(least)) if least <= 1.0 => Ok(Some(Value::Tensor(tensor))),
            ("Add", Of::MaskCount(_), Some(small)) if (0.0..1e-6).contains(&small) => Ok(Some(Value::Tensor(tensor))),
            ("Clip", Of::MaskCount(_), _) => {
                let (low, high) = (self.number(node, "min", 1)?, self.number(node, "max", 2)?);
                let harmless = low.is_none_or(|low| low <= 1.0) && high.is_none_or(|high| high > 1e9);
                if harmless { Ok(Some(Value::Tensor(tensor))) } else { Err(node.unsupported("arithmetic on a mask")) }
            }
            ("Where", Of::Mask { kept, value, reversed: false, input: 0 }, _) => {
                self.hidden(node, &tensor, *kept, *value).map(Some)
            }
            ("ReduceSum", Of::Expression(id), _) => self.masked_sum(node, &tensor, *id),
            ("Div", Of::Expression(id), _) => match other {
                Some(Value::Tensor(LabelledTensor { of: Of::MaskCount(count), .. })) => {
                    self.masked_mean(node, &tensor, *id, count).map(Some)
                }
                _ => Ok(None),
            },
            // A sum over several features is a number of them.
            ("ReduceSum", Of::Compared { equal: false, value }, _) if tensor.width != 1 => {
                self.any(node, &tensor, Of::AnyCount(*value), AxisLabel::Channel).map(Some)
            }
            ("ReduceSum" | "ReduceMax", Of::Compared { equal: false, value }, _) => {
                let of = Of::Mask { kept: true, value: *value, reversed: false, input: 0 };
                self.any(node, &tensor, of, AxisLabel::Channel).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether an expression is the network's input.
    fn is_input(&self, id: usize) -> bool {
        matches!(self.build.expressions.get(id), Expression::Layer(name) if name == INPUT)
    }

    /// The sum over time of a sequence that is 0 where a mask is off; `None` for another sum.
    fn masked_sum(&mut self, node: &OnnxNode, tensor: &LabelledTensor, id: usize) -> Result<Option<Value>> {
        let Expression::Masked(x, value) = *self.build.expressions.get(id) else { return Ok(None) };
        let width = self.build.expressions.facts(id).width;
        let sum = self.build.expressions.add(&node.name, Expression::MaskedSum(x, value), width, false)?;
        let Value::Tensor(reduced) = self.any(node, tensor, Of::Expression(sum), AxisLabel::Time)? else {
            return Ok(None);
        };
        Ok(Some(Value::Tensor(LabelledTensor { width, ..reduced })))
    }

    /// Such a sum over the number of timesteps that count: a mean.
    fn masked_mean(&mut self, node: &OnnxNode, tensor: &LabelledTensor, id: usize, count: f32) -> Result<Value> {
        let Expression::MaskedSum(x, value) = *self.build.expressions.get(id) else {
            return Err(node.unsupported("arithmetic on a mask"));
        };
        let x = self.masked_again(node, x)?;
        let read = self.build.emit(x)?;
        let name = self.build.unique(&node.name);
        let of = Of::Mask { kept: true, value: count, reversed: false, input: 0 };
        if value.to_bits() != count.to_bits() {
            return Err(node.unsupported("two masks"));
        }
        self.mask(node, &Some(LabelledTensor { of, ..tensor.clone() }), &name)?;
        let width = self.build.expressions.facts(x).width;
        let layer = LayerSpec::GlobalPool(GlobalPoolSpec { name: name.clone(), pool: Pool::Average });
        let id = self.build.layer(&read, &name, layer, width, false)?;
        Ok(self.like(tensor, id))
    }

    /// Scores of which a mask hides some behind a number far below all others, for a softmax over time.
    fn hidden(&mut self, node: &OnnxNode, mask: &LabelledTensor, kept: bool, value: f32) -> Result<Value> {
        let (scores, far) = if kept { (1, 2) } else { (2, 1) };
        let number = match self.value(node, far)? {
            Value::Constant(array) => array.scalar(),
            Value::Fill { value, .. } => Some(value),
            _ => None,
        };
        let (Value::Tensor(tensor), Some(number)) = (self.value(node, scores)?, number) else {
            return Err(node.unsupported("arithmetic on a mask"));
        };
        if number > FAR_BELOW {
            return Err(
                node.unsupported(format!("{number} where a mask is off (supported: a number below {FAR_BELOW})"))
            );
        }
        let place = |t: &LabelledTensor| t.position(AxisLabel::Time).map(|at| t.axes.len() - at);
        if place(&tensor).is_none() || place(&tensor) != place(mask) {
            return Err(node.unsupported("a mask of other axes than the numbers that it hides"));
        }
        let id = self.settle(node, &tensor)?;
        let facts = self.build.expressions.facts(id).clone();
        let hidden =
            self.build.expressions.add(&node.name, Expression::Hidden(id, value), facts.width, facts.sequence)?;
        Ok(self.like(&tensor, hidden))
    }

    /// A reduction over one axis.
    fn any(&self, node: &OnnxNode, tensor: &LabelledTensor, of: Of, axis: AxisLabel) -> Result<Value> {
        node.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
        node.int("noop_with_empty_axes", 0)?;
        let axes = self.integers(node, "axes", 1)?.unwrap_or_default();
        let at = match axes[..] {
            [axis] => resolve_axis(node, axis, tensor.axes.len())?,
            _ => return Err(node.unsupported("a mask reduced over other axes than one")),
        };
        if tensor.axes[at] != axis {
            return Err(node.unsupported(format!("a mask reduced over {}", tensor.axes[at])));
        }
        let mut axes = tensor.axes.clone();
        if node.flag("keepdims", true)? {
            axes[at] = AxisLabel::Unit;
        } else {
            axes.remove(at);
        }
        Ok(Value::Tensor(LabelledTensor { of, axes, width: 1, steps: tensor.steps }))
    }

    /// The network's input where a mask is on, 0 elsewhere; `None` for another product or sum.
    pub fn masked_input(&mut self, node: &OnnxNode, a: &LabelledTensor, b: &LabelledTensor) -> Result<Option<Value>> {
        let settled = |walk: &mut Self, t: &LabelledTensor| match t.of {
            Of::Directions { .. } => Ok(LabelledTensor { of: Of::Expression(walk.settle(node, t)?), ..t.clone() }),
            _ => Ok(t.clone()),
        };
        if ![a, b].iter().any(|t| matches!(t.of, Of::Mask { .. })) {
            return Ok(None);
        }
        let (a, b) = (&settled(self, a)?, &settled(self, b)?);
        for (mask, x) in [(a, b), (b, a)] {
            let (Of::Mask { kept: true, reversed: false, value, input: 0 }, Of::Expression(id)) = (&mask.of, &x.of)
            else {
                continue;
            };
            if node.op == "Mul" && self.is_input(*id) {
                if self.selected.is_some_and(|other| other.to_bits() != value.to_bits()) {
                    return Err(node.unsupported("two masks"));
                }
                self.selected = Some(*value);
                return Ok(Some(Value::Tensor(x.clone())));
            }
            if node.op == "Mul" {
                let facts = self.build.expressions.facts(*id).clone();
                let masked = Expression::Masked(*id, *value);
                let masked = self.build.expressions.add(&node.name, masked, facts.width, facts.sequence)?;
                return Ok(Some(self.like(x, masked)));
            }
        }
        Ok(None)
    }

    /// A sequence with the mask of the network's input, where recurrent layers before it do not read the mask: beside the
    /// input, and then without it.
    pub fn masked_again(&mut self, node: &OnnxNode, id: usize) -> Result<usize> {
        let reads_mask =
            |layer: &LayerSpec| layer.recurrent().is_none() || self.build.masked.contains_key(layer.name());
        if self.build.layers.iter().all(|layer| reads_mask(&layer.spec)) {
            return Ok(id);
        }
        self.beside_input(node, id)
    }

    /// Notes that the recurrent layer `name` skips masked steps.
    pub fn mask(&mut self, node: &OnnxNode, mask: &Option<LabelledTensor>, name: &str) -> Result<()> {
        let Some(LabelledTensor { of: Of::Mask { value, input, .. }, .. }) = mask else {
            return Err(node.unsupported("a mask that does not come from the network's input"));
        };
        if self.build.masks.get(input).is_some_and(|known| known.to_bits() != value.to_bits()) {
            return Err(node.unsupported("two masks"));
        }
        self.build.masks.insert(*input, *value);
        self.build.masked.insert(name.to_owned(), *input);
        Ok(())
    }
}

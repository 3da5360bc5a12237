//! Masks: comparisons of the network's input with a number, which say what timesteps count.

use super::constants::resolve_axis;
use super::graph::OnnxNode;
use super::value::{AxisLabel, LabelledTensor, Of, Value};
use super::walk::Walk;
use crate::base::error::Result;
use crate::network::INPUT;

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
            ("Equal", Of::Tokens, Some(value)) => with(Of::Mask { kept: false, value }),
            ("Equal", Of::Expression(id), Some(value)) if self.is_input(*id) => {
                with(Of::Compared { equal: true, value })
            }
            ("Not", Of::Compared { equal, value }, _) => with(Of::Compared { equal: !equal, value: *value }),
            ("Not", Of::Mask { kept, value }, _) => with(Of::Mask { kept: !kept, value: *value }),
            ("Cast" | "Identity", Of::Compared { .. } | Of::Mask { .. }, _) => Ok(Some(Value::Tensor(tensor))),
            ("Greater", Of::Mask { kept: true, .. }, Some(0.0)) => Ok(Some(Value::Tensor(tensor))),
            ("ReduceSum" | "ReduceMax", Of::Compared { equal: false, value }, _) => {
                let of = Of::Mask { kept: true, value: *value };
                self.any(node, &tensor, of).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether an expression is the network's input.
    fn is_input(&self, id: usize) -> bool {
        matches!(self.build.expressions.get(id), super::expression::Expression::Layer(name) if name == INPUT)
    }

    /// A reduction over the channels.
    fn any(&self, node: &OnnxNode, tensor: &LabelledTensor, of: Of) -> Result<Value> {
        node.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
        let axes = self.integers(node, "axes", 1)?.unwrap_or_default();
        let at = match axes[..] {
            [axis] => resolve_axis(node, axis, tensor.axes.len())?,
            _ => return Err(node.unsupported("a mask reduced over other axes than one")),
        };
        if tensor.axes[at] != AxisLabel::Channel {
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
        for (mask, x) in [(a, b), (b, a)] {
            let (Of::Mask { kept: true, .. }, Of::Expression(id)) = (&mask.of, &x.of) else { continue };
            if node.op == "Mul" && self.is_input(*id) {
                self.selected = true;
                return Ok(Some(Value::Tensor(x.clone())));
            }
        }
        Ok(None)
    }

    /// Notes that the recurrent layer `name` skips masked steps.
    pub fn mask(&mut self, node: &OnnxNode, mask: &Option<LabelledTensor>, name: &str) -> Result<()> {
        let Some(LabelledTensor { of: Of::Mask { value, .. }, .. }) = mask else {
            return Err(node.unsupported("a mask that does not come from the network's input"));
        };
        if self.build.mask_value.is_some_and(|known| known.to_bits() != value.to_bits()) {
            return Err(node.unsupported("two masks"));
        }
        self.build.mask_value = Some(*value);
        self.build.masked.insert(name.to_owned());
        Ok(())
    }
}

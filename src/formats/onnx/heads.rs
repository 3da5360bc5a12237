//! Channels that a reshape cuts into parts: the heads of an attention, or queries, keys and values side by side.

use super::array::Array;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::regroup::regrouped;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;

/// Most channels that are put in another order, by a matrix.
const MOST_TURNED: usize = 4096;

impl Walk<'_> {
    /// `tensor` in a shape in which its channels are cut into parts; `None` if the shape is another. An exporter may have written
    /// the number of timesteps that it saw, where the graph leaves it open; then sequences of other lengths are errors.
    pub fn reshaped_parts(
        &mut self,
        node: &OnnxNode,
        tensor: &LabelledTensor,
        target: &[Dim],
    ) -> Result<Option<LabelledTensor>> {
        if !matches!(tensor.of, Of::Expression(_) | Of::Directions { .. }) {
            return Ok(None);
        }
        let id = self.settle(node, tensor)?;
        if let Some(cut) = self.cut_channels(tensor, id, target) {
            return Ok(Some(cut));
        }
        if tensor.steps != Dim::Steps || tensor.position(AxisLabel::Time).is_none() {
            return Ok(None);
        }
        for &size in target {
            let Dim::Known(steps) = size else { continue };
            let seen = LabelledTensor { steps: size, ..tensor.clone() };
            if self.cut_channels(&seen, id, target).is_some() {
                let id = self.of_fixed_length(node, id, steps)?;
                return Ok(self.cut_channels(&seen, id, target));
            }
        }
        Ok(None)
    }

    /// `tensor`, whose numbers are `id`, in a shape in which its channels are cut into parts; `None` if the shape is another.
    fn cut_channels(&self, tensor: &LabelledTensor, id: Id, target: &[Dim]) -> Option<LabelledTensor> {
        let channel = tensor.position(AxisLabel::Channel)?;
        let width = tensor.width;
        (2..=width).filter(|heads| width.is_multiple_of(*heads)).find_map(|heads| {
            let mut axes = tensor.axes.clone();
            axes.insert(channel, AxisLabel::Head);
            let cut = LabelledTensor {
                of: Of::Heads { id, heads, scale: 1.0 },
                axes,
                width: width / heads,
                steps: tensor.steps,
            };
            // A size must say how many parts there are, or how wide they are.
            let says = |size: usize| target.contains(&Dim::Known(size));
            let axes = regrouped(&cut, self.batch, target).filter(|_| says(heads) || says(width / heads))?;
            let is_cut = axes.iter().any(|axis| matches!(axis, AxisLabel::Head | AxisLabel::BatchHeads));
            is_cut.then_some(LabelledTensor { axes, ..cut })
        })
    }

    /// A tensor of parts whose channels are whole again, if it has no axis of parts; where they are `turned`, the first number of
    /// each part comes first.
    pub fn joined_parts(&mut self, node: &OnnxNode, tensor: LabelledTensor, turned: bool) -> Result<LabelledTensor> {
        let Of::Heads { id, heads, scale } = tensor.of else { return Ok(tensor) };
        if tensor.axes.iter().any(|axis| matches!(axis, AxisLabel::Head | AxisLabel::BatchHeads)) {
            return Ok(tensor);
        }
        let mut id = self.times(node, id, scale)?;
        let width = tensor.width * heads;
        if turned && width > MOST_TURNED {
            return Err(node.unsupported(format!("{width} channels in another order")));
        }
        if turned {
            let facts = self.build.expressions.facts(id).clone();
            let mut matrix = vec![0.0; width.saturating_mul(width)];
            (0..width).for_each(|to| matrix[(to % heads * tensor.width + to / heads) * width + to] = 1.0);
            let product = Expression::Product(id, Array::floats(vec![width, width], matrix).into());
            id = self.build.expressions.add(&node.name, product, width, facts.sequence)?;
        }
        Ok(LabelledTensor { of: Of::Expression(id), width, ..tensor })
    }

    /// As [`Walk::settled`]; parts lie side by side.
    pub fn whole(&mut self, tensor: &LabelledTensor, place: &str) -> Result<Id> {
        match tensor.of {
            Of::Heads { id, scale, .. } if tensor.position(AxisLabel::BatchHeads).is_none() => {
                self.build.expressions.affine(place, id, &[f64::from(scale)], &[0.0])
            }
            _ => self.settled(tensor, place),
        }
    }

    fn times(&mut self, node: &OnnxNode, id: Id, scale: f32) -> Result<Id> {
        if scale == 1.0 {
            return Ok(id);
        }
        self.build.expressions.affine(&node.name, id, &[f64::from(scale)], &[0.0])
    }

    /// Parts beginning with `first`: one of them is a tensor of its own.
    pub fn some_parts(
        &mut self,
        node: &OnnxNode,
        mut tensor: LabelledTensor,
        (axis, first, count): (usize, usize, usize),
    ) -> Result<LabelledTensor> {
        let Of::Heads { id, scale, .. } = tensor.of else { return Err(node.unsupported("parts of this value")) };
        let facts = self.build.expressions.facts(id).clone();
        let (start, width) = (first * tensor.width, count * tensor.width);
        let part = Expression::Channels { x: id, start, count: width };
        let id = self.build.expressions.add(&node.name, part, width, facts.sequence)?;
        if count > 1 {
            tensor.of = Of::Heads { id, heads: count, scale };
            return Ok(tensor);
        }
        tensor.axes[axis] = AxisLabel::Unit;
        let id = self.times(node, id, scale)?;
        Ok(LabelledTensor { of: Of::Expression(id), ..tensor })
    }

    /// Arithmetic of parts with a constant; `None` for other values.
    pub fn parts_with_constant(&mut self, node: &OnnxNode, a: &Value, b: &Value) -> Result<Option<Value>> {
        let (tensor, other, constant_first) = match (a, b) {
            (Value::Tensor(tensor), other) => (tensor, other, false),
            (other, Value::Tensor(tensor)) => (tensor, other, true),
            _ => return Ok(None),
        };
        let Of::Heads { id, heads, scale } = tensor.of else { return Ok(None) };
        let refuse =
            || node.unsupported(format!("{} of the parts {} with this value", node.op, words::shape(&tensor.axes)));
        let array = match other {
            Value::Constant(array) => array.as_ref().clone(),
            Value::Fill { value, .. } => Array::floats(vec![], vec![*value]),
            _ => return Err(refuse()),
        };
        let with_scale = |scale: f32| {
            let of = Of::Heads { id, heads, scale };
            Ok(Some(Value::Tensor(LabelledTensor { of, ..tensor.clone() })))
        };
        match (node.op.as_str(), array.scalar()) {
            ("Mul", Some(number)) => return with_scale(scale * number),
            ("Div", Some(number)) if !constant_first => return with_scale(scale / number),
            _ => {}
        }
        let whole = self.times(node, id, scale)?;
        // The constant's numbers are those of the parts side by side, or one.
        let width = heads * tensor.width;
        let channels = match (&tensor.axes[..], &array.shape[..]) {
            (_, _) if array.scalar().is_some() => vec![1],
            ([.., AxisLabel::Head, AxisLabel::Channel], [outer @ .., h, w])
                if [*h, *w] == [heads, tensor.width] && outer.iter().all(|&n| n == 1) =>
            {
                vec![width]
            }
            _ => return Err(refuse()),
        };
        let flat = Array { shape: channels, data: array.data.clone() };
        let axes = [AxisLabel::Channel].to_vec();
        let plain = LabelledTensor { of: Of::Expression(whole), axes, width, steps: tensor.steps };
        let (plain, flat) = (Value::Tensor(plain), Value::Constant(flat.into()));
        let found = if constant_first { self.two(node, flat, plain)? } else { self.two(node, plain, flat)? };
        let Value::Tensor(LabelledTensor { of: Of::Expression(id), .. }) = found else { return Err(refuse()) };
        let of = Of::Heads { id, heads, scale: 1.0 };
        Ok(Some(Value::Tensor(LabelledTensor { of, ..tensor.clone() })))
    }
}

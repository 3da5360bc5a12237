//! Sums, means and maxima over axes, and the normalizations that are made of them.

use super::array::Array;
use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{AxisLabel, Id, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::network::{Activation, GlobalPoolSpec, Join, LayerSpec, Pool};

impl Walk<'_> {
    /// A mean, a sum or a maximum over time, or over the channels.
    pub fn reduce(&mut self, node: &OnnxNode, pool: Pool) -> Result<Value> {
        if let Value::Constant(array) = self.value(node, 0)? {
            return self.reduce_constant(node, &array);
        }
        let tensor = self.tensor(node, 0)?;
        self.reduced(node, tensor, pool)
    }

    /// As [`Walk::reduce`], of a tensor that is not the node's input.
    fn reduced(&mut self, node: &OnnxNode, mut tensor: LabelledTensor, pool: Pool) -> Result<Value> {
        node.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
        node.int("noop_with_empty_axes", 0)?;
        let rank = tensor.axes.len();
        let axes = if node.op.starts_with("Global") {
            (2..rank).collect()
        } else {
            let axes = self.integers(node, "axes", 1)?.unwrap_or_default();
            axes.iter().map(|&a| resolve_axis(node, a, rank)).collect::<Result<Vec<_>>>()?
        };
        let keep = node.flag("keepdims", true)? || node.op.starts_with("Global");
        let labels: Vec<AxisLabel> = axes.iter().map(|&a| tensor.axes[a]).collect();
        if let (&[axis], [AxisLabel::Direction]) = (&axes[..], &labels[..]) {
            return self.reduce_directions(node, tensor, axis, keep);
        }
        let mut id = self.settle(node, &tensor)?;
        match labels.iter().copied().filter(|&a| a != AxisLabel::Unit).collect::<Vec<_>>()[..] {
            [AxisLabel::Channel] if pool == Pool::Average && keep => {
                let sequence = self.build.expressions.facts(id).sequence;
                let mean = self.build.expressions.add(&node.name, Expression::RowMean(id), 1, sequence)?;
                return Ok(self.like(&tensor, mean));
            }
            [AxisLabel::Channel] if pool != Pool::Max => {
                let mut sum = self.channel_sum(node, id)?;
                if pool == Pool::Average {
                    sum = self.share_of_channels(node, sum, id)?;
                }
                tensor.width = 1;
                tensor.of = Of::Expression(sum);
                if !keep {
                    tensor.axes = (0..rank).filter(|at| !axes.contains(at)).map(|at| tensor.axes[at]).collect();
                }
                return Ok(Value::Tensor(tensor));
            }
            [AxisLabel::Time] => {}
            [AxisLabel::Time, AxisLabel::Channel] | [AxisLabel::Channel, AxisLabel::Time] if pool != Pool::Max => {
                let sum = self.channel_sum(node, id)?;
                id = if pool == Pool::Average { self.share_of_channels(node, sum, id)? } else { sum };
                tensor.width = 1;
            }
            // Of one number.
            [] if !axes.is_empty() => {
                let kept = (0..rank).filter(|at| keep || !axes.contains(at)).map(|at| tensor.axes[at]).collect();
                return Ok(Value::Tensor(LabelledTensor { axes: kept, ..tensor }));
            }
            _ => return Err(node.unsupported(format!("a reduction over the axes {}", words::shape(&labels)))),
        }
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        let spec = GlobalPoolSpec { name: name.clone(), pool };
        let width = self.build.expressions.facts(id).width;
        tensor.of = Of::Expression(self.build.layer(&read, &name, LayerSpec::GlobalPool(spec), width, false)?);
        for &axis in &axes {
            tensor.axes[axis] = AxisLabel::Unit;
        }
        if !keep {
            let kept = (0..rank).filter(|at| !axes.contains(at)).map(|at| tensor.axes[at]).collect();
            tensor.axes = kept;
        }
        Ok(Value::Tensor(tensor))
    }

    /// The mean, the sum or the largest of all directions.
    fn reduce_directions(
        &mut self,
        node: &OnnxNode,
        mut tensor: LabelledTensor,
        axis: usize,
        keep: bool,
    ) -> Result<Value> {
        let Of::Directions { part, rows } = &tensor.of else { return Err(node.unsupported("a reduction over D")) };
        let (part, rows) = (*part, rows.clone());
        let parts = rows
            .into_iter()
            .map(|row| {
                let of = Of::Directions { part, rows: vec![row] };
                self.settle(node, &LabelledTensor { of, ..tensor.clone() })
            })
            .collect::<Result<Vec<_>>>()?;
        let join = match node.op.as_str() {
            "ReduceSum" => Join::Add,
            "ReduceMean" => Join::Average,
            _ => Join::Max,
        };
        let facts = self.build.expressions.facts(parts[0]).clone();
        let joined = Expression::Join(join, parts);
        tensor.of = Of::Expression(self.build.expressions.add(&node.name, joined, facts.width, facts.sequence)?);
        tensor.axes[axis] = AxisLabel::Unit;
        if !keep {
            tensor.axes.remove(axis);
        }
        Ok(Value::Tensor(tensor))
    }

    /// The sum of the channels, as a product with ones.
    pub fn channel_sum(&mut self, node: &OnnxNode, id: Id) -> Result<Id> {
        let facts = self.build.expressions.facts(id).clone();
        let ones = Array::floats(vec![facts.width, 1], vec![1.0; facts.width]);
        let product = Expression::Product(id, std::rc::Rc::new(ones));
        self.build.expressions.add(&node.name, product, 1, facts.sequence)
    }

    /// `sum`, of all channels of `of`, over their number.
    fn share_of_channels(&mut self, node: &OnnxNode, sum: Id, of: Id) -> Result<Id> {
        #[expect(clippy::cast_precision_loss, reason = "a number of channels")]
        let share = 1.0 / self.build.expressions.facts(of).width as f64;
        self.build.expressions.affine(&node.name, sum, &[share], &[0.0])
    }

    /// A function of each number.
    fn each(&mut self, node: &OnnxNode, function: Activation, x: Id) -> Result<Id> {
        let facts = self.build.expressions.facts(x).clone();
        self.build.expressions.add(&node.name, Expression::Function(function, x), facts.width, facts.sequence)
    }

    /// Reductions that are a sum or a maximum between functions of each number.
    pub fn reduce_numbers(&mut self, node: &OnnxNode) -> Result<Value> {
        if let Value::Constant(array) = self.value(node, 0)? {
            return self.reduce_constant(node, &array);
        }
        let negative = Activation::Affine { alpha: -1.0, beta: 0.0 };
        let (before, pool, after) = match node.op.as_str() {
            "ReduceMin" => (negative, Pool::Max, Some(negative)),
            "ReduceL1" => (Activation::Abs, Pool::Sum, None),
            "ReduceL2" => (Activation::Square, Pool::Sum, Some(Activation::Sqrt)),
            _ => (Activation::Square, Pool::Sum, None),
        };
        let tensor = self.tensor(node, 0)?;
        let x = self.settle(node, &tensor)?;
        let of = Of::Expression(self.each(node, before, x)?);
        let value = self.reduced(node, LabelledTensor { of, ..tensor }, pool)?;
        match (value, after) {
            (Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width, steps }), Some(function)) => {
                let of = Of::Expression(self.each(node, function, id)?);
                Ok(Value::Tensor(LabelledTensor { of, axes, width, steps }))
            }
            (value, _) => Ok(value),
        }
    }

    /// Each channel of each row less its mean over time, over its standard deviation.
    pub fn instance_norm(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["epsilon"])?;
        let tensor = self.tensor(node, 0)?;
        let fits = matches!(tensor.axes[..], [AxisLabel::Batch | AxisLabel::Unit, AxisLabel::Channel, AxisLabel::Time]);
        if !fits {
            return Err(node.unsupported(format!("an input with the axes {}", words::shape(&tensor.axes))));
        }
        let scales = [1, 2].map(|index| {
            let array = self.constant(node, index)?;
            let floats = array.as_floats().filter(|floats| array.shape == [tensor.width] && !floats.is_empty());
            let floats = floats.map(|floats| floats.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            floats
                .ok_or_else(|| node.malformed(format!("input {index} [{}]", tensor.width), words::shape(&array.shape)))
        });
        let [scale, offset] = scales;
        let eps = f64::from(node.float("epsilon", 1e-5)?);
        let x = self.settle(node, &tensor)?;
        let width = self.build.expressions.facts(x).width;
        let mean = self.over_time(node, x, Pool::Average)?;
        let e = &mut self.build.expressions;
        let centred = e.add(&node.name, Expression::Join(Join::Sub, vec![x, mean]), width, true)?;
        let square = self.each(node, Activation::Square, centred)?;
        let variance = self.over_time(node, square, Pool::Average)?;
        let inverse = self.inverse_root(node, variance, eps)?;
        let e = &mut self.build.expressions;
        let product = e.add(&node.name, Expression::Join(Join::Mul, vec![centred, inverse]), width, true)?;
        let id = e.affine(&node.name, product, &scale?, &offset?)?;
        Ok(self.like(&tensor, id))
    }

    /// Each timestep over the root of the mean of its squares.
    pub fn rms_norm(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis", "epsilon", "stash_type"])?;
        let tensor = self.tensor(node, 0)?.with_channels_last();
        let axis = resolve_axis(node, node.int("axis", -1)?, tensor.axes.len())?;
        if tensor.axes.get(axis) != Some(&AxisLabel::Channel) || axis + 1 != tensor.axes.len() {
            return Err(node.unsupported(format!("a normalization from axis {axis} of {}", words::shape(&tensor.axes))));
        }
        let scale = self.constant(node, 1)?;
        let floats = scale.as_floats().filter(|floats| matches!(floats.len(), n if n == 1 || n == tensor.width));
        let floats = floats.map(|floats| floats.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let floats =
            floats.ok_or_else(|| node.malformed(format!("scale [{}]", tensor.width), words::shape(&scale.shape)))?;
        let eps = f64::from(node.float("epsilon", 1e-5)?);
        let x = self.settle(node, &tensor)?;
        let facts = self.build.expressions.facts(x).clone();
        let square = self.each(node, Activation::Square, x)?;
        let mean = self.build.expressions.add(&node.name, Expression::RowMean(square), 1, facts.sequence)?;
        let inverse = self.inverse_root(node, mean, eps)?;
        let e = &mut self.build.expressions;
        let product = Expression::Join(Join::Mul, vec![x, inverse]);
        let product = e.add(&node.name, product, facts.width, facts.sequence)?;
        let id = e.affine(&node.name, product, &floats, &[0.0])?;
        Ok(self.like(&tensor, id))
    }

    /// `1 / sqrt(x + eps)`
    fn inverse_root(&mut self, node: &OnnxNode, x: Id, eps: f64) -> Result<Id> {
        let sum = self.build.expressions.affine(&node.name, x, &[1.0], &[eps])?;
        let root = self.each(node, Activation::Sqrt, sum)?;
        self.each(node, Activation::Reciprocal, root)
    }

    fn over_time(&mut self, node: &OnnxNode, x: Id, pool: Pool) -> Result<Id> {
        let width = self.build.expressions.facts(x).width;
        self.rearranged(node, x, width, false, |name| LayerSpec::GlobalPool(GlobalPoolSpec { name, pool }))
    }

    /// A reduction of a constant.
    fn reduce_constant(&self, node: &OnnxNode, array: &Array) -> Result<Value> {
        node.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
        let numbers = array.as_floats().ok_or_else(|| node.unsupported("a reduction of integers"))?;
        let rank = array.shape.len();
        let axes = match self.integers(node, "axes", 1)? {
            Some(axes) => axes.iter().map(|&a| resolve_axis(node, a, rank)).collect::<Result<Vec<_>>>()?,
            None if node.flag("noop_with_empty_axes", false)? => Vec::new(),
            None => (0..rank).collect(),
        };
        let kept: Vec<usize> = (0..rank).filter(|at| !axes.contains(at)).collect();
        let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
        let all: usize = axes.iter().map(|&at| array.shape[at]).product();
        if numbers.is_empty() || order.len() != rank {
            return Err(node.unsupported("a reduction over these axes"));
        }
        let sum = |x: &[f32], of: fn(f64) -> f64| x.iter().map(|&x| of(f64::from(x))).sum::<f64>();
        #[expect(clippy::cast_precision_loss, reason = "a number of elements")]
        let count = all as f64;
        let reduce = |x: &[f32]| {
            Some(match node.op.as_str() {
                "ReduceSum" => sum(x, |x| x),
                "ReduceMean" => sum(x, |x| x) / count,
                "ReduceL1" => sum(x, f64::abs),
                "ReduceL2" => sum(x, |x| x * x).sqrt(),
                "ReduceSumSquare" => sum(x, |x| x * x),
                "ReduceMax" => x.iter().copied().fold(f32::NEG_INFINITY, f32::max).into(),
                "ReduceMin" => x.iter().copied().fold(f32::INFINITY, f32::min).into(),
                _ => return None,
            })
        };
        let moved = array.permuted(&order);
        let rows = moved.as_floats().unwrap_or_default().chunks(all.max(1));
        #[expect(clippy::cast_possible_truncation, reason = "the result is f32 in the graph")]
        let data: Option<Vec<f32>> = rows.map(|row| reduce(row).map(|x| x as f32)).collect();
        let data = data.ok_or_else(|| node.unsupported("this reduction of a constant"))?;
        let keep = node.flag("keepdims", true)?;
        let size = |at: usize| if axes.contains(&at) { 1 } else { array.shape[at] };
        let shape = (0..rank).filter(|at| keep || !axes.contains(at)).map(size).collect();
        Ok(super::shapes::constant(Array::floats(shape, data)))
    }
}

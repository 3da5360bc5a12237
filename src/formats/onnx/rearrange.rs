//! Operators that become layers which move numbers: rows over time, other shapes, parts of the timesteps, padding.

use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::unrolled::TakenStep;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, Of, Value, product};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::network::{
    GlobalPoolSpec, INPUT, Join, JoinSpec, LayerSpec, NamedSpec, PadMode, PadSpec, Pool, RepeatSpec, ReshapeSpec,
    SelectStep, SliceSpec,
};

impl Walk<'_> {
    /// Appends a layer that reads `id`.
    fn rearranged(
        &mut self,
        node: &OnnxNode,
        id: Id,
        width: usize,
        sequence: bool,
        layer: impl FnOnce(String) -> LayerSpec,
    ) -> Result<Id> {
        let read = self.build.emit(id)?;
        let name = self.build.unique(&node.name);
        self.build.layer(&read, &name, layer(name.clone()), width, sequence)
    }

    /// A row at several timesteps: `tensor` with the axes of size 1 that `repeats` says repeated.
    pub fn repeated_rows(&mut self, node: &OnnxNode, mut tensor: LabelledTensor, repeats: &[Dim]) -> Result<Value> {
        if repeats.len() != tensor.axes.len() {
            return Err(node.malformed(format!("{} repeats", tensor.axes.len()), words::shape(repeats)));
        }
        let mut wanted = (0..repeats.len()).filter(|&at| repeats[at] != Dim::Known(1));
        let (Some(at), None) = (wanted.next(), wanted.next()) else {
            return match repeats.iter().all(|&n| n == Dim::Known(1)) {
                true => Ok(Value::Tensor(tensor)),
                false => Err(node.unsupported("a tensor repeated along two axes")),
            };
        };
        let id = self.settle(node, &tensor)?;
        let facts = self.build.expressions.facts(id).clone();
        if tensor.axes[at] != AxisLabel::Unit || facts.sequence {
            return Err(node.unsupported(format!(
                "a repetition along {} of {}",
                tensor.axes[at],
                words::sized(&tensor.axes, &tensor.dims(self.batch))
            )));
        }
        let repeated = match repeats[at] {
            Dim::Known(times) => {
                let layer = |name| LayerSpec::Repeat(RepeatSpec { name, times });
                self.rearranged(node, id, facts.width, true, layer)?
            }
            // As often as the input has timesteps: beside it, and then without it.
            Dim::Steps => {
                let read = self.build.emit(id)?;
                let (sequence, more) = self.input_sequence(node)?;
                let beside = self.build.unique(&format!("{}.beside", node.name));
                let inputs = vec![read, sequence];
                let join =
                    LayerSpec::Join(JoinSpec { name: beside.clone(), inputs: inputs.clone(), join: Join::Concat });
                let joined = self.build.layer_of(inputs, &beside, join, facts.width + more, true)?;
                let part = Expression::Channels { x: joined, start: 0, count: facts.width };
                self.build.expressions.add(&node.name, part, facts.width, true)?
            }
            other => return Err(node.unsupported(format!("a row repeated {other} times"))),
        };
        tensor.axes[at] = AxisLabel::Time;
        tensor.of = Of::Expression(repeated);
        tensor.steps = repeats[at];
        Ok(Value::Tensor(tensor))
    }

    /// A layer whose output has the timesteps of the network's input, and its width.
    fn input_sequence(&self, node: &OnnxNode) -> Result<(String, usize)> {
        match (self.build.input_size, self.build.layers.first().map(|layer| &layer.spec)) {
            (Some(width), _) => Ok((INPUT.to_owned(), width)),
            (None, Some(LayerSpec::Embedding(spec))) => Ok((spec.name.clone(), spec.embedding_dim)),
            _ => Err(node.unsupported("a row repeated over time before token ids are looked up")),
        }
    }

    /// An Expand of a tensor: nothing, or a row repeated over time.
    pub fn expanded(&mut self, node: &OnnxNode, tensor: LabelledTensor, target: &[Dim]) -> Result<Value> {
        let own = tensor.dims(self.batch);
        let Some(offset) = own.len().checked_sub(target.len()) else {
            return Err(node.unsupported("an expansion to more axes"));
        };
        let times = |at: usize| match at.checked_sub(offset).map(|at| target[at]) {
            None | Some(Dim::Known(1)) => Dim::Known(1),
            Some(wanted) if wanted == own[at] => Dim::Known(1),
            Some(wanted) if own[at] == Dim::Known(1) => wanted,
            // A size left open on either side is the same in a graph that any runtime takes.
            Some(Dim::Any | Dim::Batch | Dim::Steps) => Dim::Known(1),
            Some(wanted) => wanted,
        };
        let repeats: Vec<Dim> = (0..own.len()).map(times).collect();
        self.repeated_rows(node, tensor, &repeats)
    }

    /// A row's numbers in another shape, for a fixed number of timesteps: `[B, T, N]` to `[B, X]` or `[B, T', X]`, and
    /// `[B, N]` to `[B, T', X]`.
    pub fn reshaped_rows(&mut self, node: &OnnxNode, tensor: &LabelledTensor, target: &[Dim]) -> Result<Value> {
        let from = words::sized(&tensor.axes, &tensor.dims(self.batch));
        let refuse = || node.unsupported(format!("a reshape of {from} to {}", words::shape(target)));
        let kept: Vec<AxisLabel> = tensor.axes.iter().copied().filter(|&axis| axis != AxisLabel::Unit).collect();
        let dims = tensor.dims(self.batch);
        let (in_steps, numbers) = match kept[..] {
            [AxisLabel::Batch, AxisLabel::Time, AxisLabel::Channel] => match tensor.steps {
                Dim::Known(steps) => (Some(steps), steps.checked_mul(tensor.width)),
                _ => return Err(refuse()),
            },
            [AxisLabel::Batch, AxisLabel::Time] if tensor.width == 1 => match tensor.steps {
                Dim::Known(steps) => (Some(steps), Some(steps)),
                _ => return Err(refuse()),
            },
            [AxisLabel::Batch, AxisLabel::Channel] => (None, Some(tensor.width)),
            _ => return Err(refuse()),
        };
        let numbers = numbers.ok_or_else(refuse)?;
        let (&rows, sizes) = target.split_first().ok_or_else(refuse)?;
        let all_rows = rows == self.batch
            || matches!(rows, Dim::Below(-1) | Dim::Any)
            || (rows == Dim::Known(0) && dims[0] == self.batch);
        let size = |dim: Dim, other: Dim| match (dim, other) {
            (Dim::Known(n), _) if n > 0 => Some(n),
            (Dim::Below(-1), Dim::Known(other)) if other > 0 && rows != Dim::Below(-1) => numbers.checked_div(other),
            _ => None,
        };
        let (out_steps, axes) = match *sizes {
            [width] if size(width, Dim::Known(1)) == Some(numbers) => {
                (None, vec![AxisLabel::Batch, AxisLabel::Channel])
            }
            [steps, width] => {
                let (Some(steps), Some(width)) = (size(steps, width), size(width, steps)) else { return Err(refuse()) };
                if steps.checked_mul(width) != Some(numbers) {
                    return Err(refuse());
                }
                (Some(steps), vec![AxisLabel::Batch, AxisLabel::Time, AxisLabel::Channel])
            }
            _ => return Err(refuse()),
        };
        if !all_rows {
            return Err(refuse());
        }
        let id = self.settle(node, tensor)?;
        let width = numbers / out_steps.unwrap_or(1);
        let layer = |name| LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps });
        let id = self.rearranged(node, id, width, out_steps.is_some(), layer)?;
        let steps = out_steps.map_or(tensor.steps, Dim::Known);
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width, steps }))
    }

    /// The numbers of a row `[B, T*N]` as timesteps.
    pub fn row_as_steps(&mut self, node: &OnnxNode, id: Id, width: usize, steps: usize) -> Result<Id> {
        let layer = |name| LayerSpec::Reshape(ReshapeSpec { name, in_steps: None, out_steps: Some(steps) });
        self.rearranged(node, id, width, true, layer)
    }

    /// The timestep `at` of `id`, whose number of timesteps the file fixes.
    pub fn single_step(&mut self, node: &OnnxNode, id: Id, at: usize, steps: usize) -> Result<Id> {
        let width = self.build.expressions.facts(id).width;
        let fixed = match self.fixed.get(&id) {
            Some(&fixed) => fixed,
            None => {
                // Sequences of another length are an error when they come.
                let (in_steps, out_steps) = (Some(steps), Some(steps));
                let layer = |name| LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps });
                let fixed = self.rearranged(node, id, width, true, layer)?;
                self.fixed.insert(id, fixed);
                fixed
            }
        };
        let start = i64::try_from(at).unwrap_or(i64::MAX);
        let layer = |name| LayerSpec::Slice(SliceSpec { name, start, end: Some(start + 1), step: 1 });
        let part = self.rearranged(node, fixed, width, true, layer)?;
        let read = self.build.emit(part)?;
        let row = self.select(&read, width, SelectStep::First)?;
        self.taken.insert(row, TakenStep { sequence: id, at, steps });
        Ok(row)
    }

    /// The only timestep of `id` as a row; sequences of more are an error when they come.
    pub fn only_step(&mut self, node: &OnnxNode, id: Id) -> Result<Id> {
        let width = self.build.expressions.facts(id).width;
        let layer = |name| LayerSpec::Reshape(ReshapeSpec { name, in_steps: Some(1), out_steps: None });
        self.rearranged(node, id, width, false, layer)
    }

    /// The shape of a Flatten.
    pub fn flattened(&self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<Vec<Dim>> {
        node.allow(&["axis"])?;
        let rank = tensor.axes.len();
        let axis = match node.int("axis", 1)? {
            whole if usize::try_from(whole) == Ok(rank) => rank,
            axis => resolve_axis(node, axis, rank)?,
        };
        let dims = tensor.dims(self.batch);
        let all = |dims: &[Dim]| dims.iter().copied().fold(Dim::Known(1), product);
        Ok(vec![all(&dims[..axis]), all(&dims[axis..])])
    }

    /// Some of the timesteps.
    pub fn slice_of_time(
        &mut self,
        node: &OnnxNode,
        tensor: &LabelledTensor,
        (start, end, step): (i64, i64, i64),
    ) -> Result<Value> {
        let Ok(stride) = usize::try_from(step) else {
            return Err(node.unsupported(format!("the timesteps {start}:{end}:{step} backwards")));
        };
        let open = end >= i64::from(i32::MAX);
        let steps = match tensor.steps {
            Dim::Known(count) => {
                let range = super::constants::slice_range(count, start, end, step);
                Dim::Known(
                    range
                        .map(|(_, count, _)| count)
                        .filter(|&n| n > 0)
                        .ok_or_else(|| node.unsupported("no timesteps"))?,
                )
            }
            _ => Dim::Windows(self.build.layers.len()),
        };
        let id = self.settle(node, tensor)?;
        let width = self.build.expressions.facts(id).width;
        let end = (!open).then_some(end);
        let layer = |name| LayerSpec::Slice(SliceSpec { name, start, end, step: stride });
        let id = self.rearranged(node, id, width, true, layer)?;
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), steps, ..tensor.clone() }))
    }

    /// Timesteps around those that there are.
    pub fn pad(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["mode", "pads", "paddings", "value"])?;
        let pads = self.integers(node, "pads", 1)?.ok_or_else(|| node.malformed("pads", "none"))?;
        if pads.iter().all(|&n| n == 0) {
            return self.value(node, 0);
        }
        let value = self.number(node, "value", 2)?.unwrap_or(0.0);
        let mode = match node.text("mode", "constant")?.as_str() {
            "constant" if value == 0.0 => PadMode::Zeros,
            "constant" => return Err(node.unsupported(format!("padding with {value}"))),
            "reflect" if pads.iter().all(|&n| n >= 0) => PadMode::Reflect,
            other => return Err(node.unsupported(format!("padding in mode `{other}`"))),
        };
        let tensor = self.tensor(node, 0)?;
        let rank = tensor.axes.len();
        let axes = match self.integers(node, "axes", 3)? {
            Some(axes) => axes.iter().map(|&axis| resolve_axis(node, axis, rank)).collect::<Result<Vec<_>>>()?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(node.malformed(format!("{} pads", 2 * axes.len()), pads.len().to_string()));
        }
        let (mut left, mut right) = (0, 0);
        for (at, &axis) in axes.iter().enumerate() {
            let around = (pads[at], pads[at + axes.len()]);
            if tensor.axes[axis] == AxisLabel::Time {
                (left, right) = around;
            } else if around != (0, 0) {
                return Err(node.unsupported(format!("padding along {}", tensor.axes[axis])));
            }
        }
        let steps =
            match tensor.steps {
                Dim::Known(steps) => {
                    let padded = i64::try_from(steps).ok().and_then(|n| n.checked_add(left)?.checked_add(right));
                    let padded = padded.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
                    Dim::Known(padded.ok_or_else(|| {
                        node.malformed("timesteps left", format!("{steps} padded by {left}, {right}"))
                    })?)
                }
                _ => Dim::Windows(self.build.layers.len()),
            };
        let id = self.settle(node, &tensor)?;
        let width = self.build.expressions.facts(id).width;
        let id = self.rearranged(node, id, width, true, |name| LayerSpec::Pad(PadSpec { name, left, right, mode }))?;
        Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), steps, ..tensor }))
    }

    /// A softmax over time.
    pub fn time_softmax(&mut self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<Value> {
        let id = self.settle(node, tensor)?;
        let width = self.build.expressions.facts(id).width;
        let id = self.rearranged(node, id, width, true, |name| LayerSpec::TimeSoftmax(NamedSpec { name }))?;
        Ok(self.like(tensor, id))
    }

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
        if k == Channel && l == Channel && wide.sequence && narrow.sequence {
            return Err(node.unsupported("attention of every timestep to every other"));
        }
        Err(refuse())
    }

    fn join_mul(&mut self, node: &OnnxNode, x: Id, y: Id, width: usize, sequence: bool) -> Result<Id> {
        self.build.expressions.add(&node.name, Expression::Join(Join::Mul, vec![x, y]), width, sequence)
    }

    /// The sum of the channels, as a product with ones.
    pub fn channel_sum(&mut self, node: &OnnxNode, id: Id) -> Result<Id> {
        let facts = self.build.expressions.facts(id).clone();
        let ones = super::array::Array::floats(vec![facts.width, 1], vec![1.0; facts.width]);
        let product = Expression::Product(id, std::rc::Rc::new(ones));
        self.build.expressions.add(&node.name, product, 1, facts.sequence)
    }

    /// The last timestep that each row's length says.
    pub fn gather_elements(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis"])?;
        let tensor = self.tensor(node, 0)?;
        let axis = resolve_axis(node, node.int("axis", 0)?, tensor.axes.len())?;
        if !matches!(self.value(node, 1)?, Value::LastSteps) || tensor.axes[axis] != AxisLabel::Time {
            return Err(node.unsupported("a choice of elements other than each row's last timestep"));
        }
        self.last_valid = true;
        let id = self.settle(node, &tensor)?;
        let width = self.build.expressions.facts(id).width;
        let read = self.build.emit(id)?;
        let mut taken = tensor;
        taken.of = Of::Expression(self.select(&read, width, SelectStep::LastValid)?);
        taken.axes[axis] = AxisLabel::Unit;
        Ok(Value::Tensor(taken))
    }
}

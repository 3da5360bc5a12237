//! Operators that become layers which move numbers: rows over time, other shapes, parts of the timesteps, padding.

use super::array::Array;
use super::constants::resolve_axis;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::unrolled::TakenStep;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, Of, Value, product};
use super::walk::{MAX_WIDTH, Walk};
use super::words;
use crate::base::error::Result;
use crate::network::{
    INPUT, Join, JoinSpec, LayerSpec, NamedSpec, PadMode, PadSpec, RepeatSpec, ReshapeSpec, SelectStep, SliceSpec,
    TransposeSpec,
};

impl Walk<'_> {
    /// Appends a layer that reads `id`.
    pub fn rearranged(
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
        let mut id = self.settle(node, &tensor)?;
        let mut facts = self.build.expressions.facts(id).clone();
        if let (AxisLabel::Unit, true, Dim::Known(1)) = (tensor.axes[at], facts.sequence, tensor.steps) {
            // One timestep is a row.
            id = self.only_step(node, id)?;
            facts = self.build.expressions.facts(id).clone();
            if let Some(time) = tensor.position(AxisLabel::Time) {
                tensor.axes[time] = AxisLabel::Unit;
            }
        }
        let last = at + 1 == tensor.axes.len();
        let one_channel = match tensor.axes[at] {
            AxisLabel::Channel => true,
            // An axis of one channel may have lost that label.
            AxisLabel::Unit => last && tensor.position(AxisLabel::Channel).is_none(),
            _ => false,
        };
        if let (true, 1, Dim::Known(width)) = (one_channel, facts.width, repeats[at]) {
            if width > MAX_WIDTH {
                return Err(node.unsupported(format!("{width} features")));
            }
            let ones = Array::floats(vec![1, width], vec![1.0; width]);
            let product = Expression::Product(id, std::rc::Rc::new(ones));
            let id = self.build.expressions.add(&node.name, product, width, facts.sequence)?;
            tensor.axes[at] = AxisLabel::Channel;
            return Ok(Value::Tensor(LabelledTensor { of: Of::Expression(id), width, ..tensor }));
        }
        // Of two axes of size 1 either may be time.
        if let (false, AxisLabel::Unit, Some(time)) =
            (facts.sequence, tensor.axes[at], tensor.position(AxisLabel::Time))
        {
            tensor.axes[time] = AxisLabel::Unit;
        }
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
            Dim::Steps => self.beside_input(node, id)?,
            other => return Err(node.unsupported(format!("a row repeated {other} times"))),
        };
        tensor.axes[at] = AxisLabel::Time;
        tensor.of = Of::Expression(repeated);
        tensor.steps = repeats[at];
        Ok(Value::Tensor(tensor))
    }

    /// A tensor whose features are its timesteps and whose timesteps are its features, where their number is fixed and
    /// the graph is taken to mean that; `None` for others.
    pub fn turned(&mut self, node: &OnnxNode, tensor: &LabelledTensor) -> Result<Option<LabelledTensor>> {
        let (true, Dim::Known(steps), Some(time)) = (self.turns, tensor.steps, tensor.position(AxisLabel::Time)) else {
            return Ok(None);
        };
        let id = self.settle(node, tensor)?;
        let facts = self.build.expressions.facts(id).clone();
        if !facts.sequence || steps == 1 {
            return Ok(None);
        }
        let mut axes = tensor.axes.clone();
        axes[time] = AxisLabel::Channel;
        let Some(channel) = tensor.position(AxisLabel::Channel) else {
            if facts.width != 1 {
                return Ok(None);
            }
            let layer = |name| LayerSpec::Reshape(ReshapeSpec { name, in_steps: Some(steps), out_steps: None });
            let of = Of::Expression(self.rearranged(node, id, steps, false, layer)?);
            return Ok(Some(LabelledTensor { of, axes, width: steps, steps: Dim::Known(1) }));
        };
        axes[channel] = AxisLabel::Time;
        let layer = |name| LayerSpec::Transpose(TransposeSpec { name, steps });
        let of = Of::Expression(self.rearranged(node, id, steps, true, layer)?);
        Ok(Some(LabelledTensor { of, axes, width: steps, steps: Dim::Known(facts.width) }))
    }

    /// A row or a sequence with the timesteps and the mask of the network's input: beside it, and then without it.
    pub fn beside_input(&mut self, node: &OnnxNode, id: Id) -> Result<Id> {
        let read = self.build.emit(id)?;
        let width = self.build.expressions.facts(id).width;
        let (sequence, more) = self.input_sequence(node)?;
        let beside = self.build.unique(&format!("{}.beside", node.name));
        let inputs = vec![read, sequence];
        let join = LayerSpec::Join(JoinSpec { name: beside.clone(), inputs: inputs.clone(), join: Join::Concat });
        let joined = self.build.layer_of(inputs, &beside, join, width + more, true)?;
        let part = Expression::Channels { x: joined, start: 0, count: width };
        self.build.expressions.add(&node.name, part, width, true)
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

    /// `id` with the number of timesteps that the file fixes; sequences of another length are an error when they come.
    pub fn of_fixed_length(&mut self, node: &OnnxNode, id: Id, steps: usize) -> Result<Id> {
        if let Some(&fixed) = self.fixed.get(&id) {
            return Ok(fixed);
        }
        let width = self.build.expressions.facts(id).width;
        let (in_steps, out_steps) = (Some(steps), Some(steps));
        let layer = |name| LayerSpec::Reshape(ReshapeSpec { name, in_steps, out_steps });
        let fixed = self.rearranged(node, id, width, true, layer)?;
        self.fixed.insert(id, fixed);
        Ok(fixed)
    }

    /// The timestep `at` of `id`, whose number of timesteps the file fixes.
    pub fn single_step(&mut self, node: &OnnxNode, id: Id, at: usize, steps: usize) -> Result<Id> {
        let width = self.build.expressions.facts(id).width;
        let fixed = self.of_fixed_length(node, id, steps)?;
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
        let mut id = self.settle(node, tensor)?;
        let mut mask = None;
        if let Expression::Hidden(x, value) = *self.build.expressions.get(id) {
            let of = Of::Mask { kept: true, value, reversed: false, input: 0 };
            mask = Some(LabelledTensor { of, ..tensor.clone() });
            id = self.masked_again(node, x)?;
        }
        let width = self.build.expressions.facts(id).width;
        let id = self.rearranged(node, id, width, true, |name| LayerSpec::TimeSoftmax(NamedSpec { name }))?;
        if mask.is_some() {
            let name = self.build.expressions.facts(id).name.clone();
            self.mask(node, &mask, &name)?;
        }
        Ok(self.like(tensor, id))
    }

    /// The last timestep that each row's length says.
    pub fn gather_elements(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&["axis"])?;
        let tensor = self.tensor(node, 0)?;
        let axis = resolve_axis(node, node.int("axis", 0)?, tensor.axes.len())?;
        if !matches!(self.value(node, 1)?, Value::LastSteps { .. }) || tensor.axes[axis] != AxisLabel::Time {
            return Err(node.unsupported("a choice of elements other than each row's last timestep"));
        }
        let mut axes = tensor.axes.clone();
        axes[axis] = AxisLabel::Unit;
        match self.last_valid_of(node, &tensor)? {
            Value::Tensor(taken) => Ok(Value::Tensor(LabelledTensor { axes, ..taken })),
            other => Ok(other),
        }
    }
}

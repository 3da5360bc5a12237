//! Elementwise operators.

use super::array::{Array, Data};
use super::constants::arithmetic;
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{AxisLabel, Dim, Id, LabelledTensor, Of, Value};
use super::walk::Walk;
use super::words;
use crate::base::error::Result;
use crate::formats::transpose::transpose;
use crate::network::{Activation, Join, SelectStep};

/// The function that an operator is, and the attributes that it reads; `None` if it is none. Negations, reciprocals,
/// logarithms and erf count as one without a name.
pub fn function_of(node: &OnnxNode) -> Result<Option<(Activation, &'static [&'static str])>> {
    let alpha = |default: f32| node.float("alpha", default);
    let (function, known): (Activation, &'static [&'static str]) = match node.op.as_str() {
        "Relu" => (Activation::Relu, &[]),
        "Tanh" => (Activation::Tanh, &[]),
        "Sigmoid" => (Activation::Sigmoid, &[]),
        "Softsign" => (Activation::Softsign, &[]),
        "Softplus" => (Activation::Softplus, &[]),
        "Exp" => (Activation::Exp, &[]),
        "Sqrt" => (Activation::Sqrt, &[]),
        "Abs" => (Activation::Abs, &[]),
        "Mish" => (Activation::Mish, &[]),
        "Swish" if node.float("alpha", 1.0)? == 1.0 => (Activation::Silu, &["alpha"]),
        "LeakyRelu" => (Activation::LeakyRelu { alpha: alpha(0.01)? }, &["alpha"]),
        "Elu" => (Activation::Elu { alpha: alpha(1.0)? }, &["alpha"]),
        "Celu" => (Activation::Elu { alpha: alpha(1.0)? }, &["alpha"]),
        "ThresholdedRelu" => (Activation::ThresholdedRelu { alpha: alpha(1.0)? }, &["alpha"]),
        "HardSigmoid" => {
            let (alpha, beta) = (alpha(0.2)?, node.float("beta", 0.5)?);
            (Activation::HardSigmoid { alpha, beta }, &["alpha", "beta"])
        }
        "Selu" => {
            let off = |name: &str, value: f32| Ok((node.float(name, value)? - value).abs() >= 1e-4);
            if off("alpha", 1.673_263_2)? || off("gamma", 1.050_701)? {
                return Err(node.unsupported("alpha and gamma other than the paper's"));
            }
            (Activation::Selu, &["alpha", "gamma"])
        }
        "Gelu" => match node.text("approximate", "none")?.as_str() {
            "none" => (Activation::Gelu, &["approximate"]),
            "tanh" => (Activation::GeluTanh, &["approximate"]),
            other => return Err(node.unsupported(format!("approximate `{other}`"))),
        },
        "Log" => (Activation::Log, &[]),
        "HardSwish" => (Activation::HardSwish, &[]),
        "Neg" | "Reciprocal" | "Erf" => (Activation::Linear, &[]),
        _ => return Ok(None),
    };
    Ok(Some((function, known)))
}

impl Walk<'_> {
    /// A function of one tensor; `None` if the operator is none.
    pub fn unary(&mut self, node: &OnnxNode) -> Result<Option<Value>> {
        let (function, known): (Activation, &[&str]) = if node.op == "Clip" {
            let low = self.number(node, "min", 1)?.unwrap_or(f32::MIN);
            let high = self.number(node, "max", 2)?.unwrap_or(f32::MAX);
            (Activation::Clip { alpha: low, beta: high }, &["min", "max"])
        } else {
            let Some(found) = function_of(node)? else { return Ok(None) };
            found
        };
        node.allow(known)?;
        if let Value::Constant(array) = self.value(node, 0)? {
            return constant_function(node, &array).map(Some);
        }
        let tensor = self.tensor(node, 0)?;
        let x = self.settle(node, &tensor)?;
        let id = match node.op.as_str() {
            "Neg" => self.build.expressions.affine(&node.name, x, &[-1.0], &[0.0])?,
            "Reciprocal" => self.add(node, Expression::Reciprocal(x), x)?,
            "Erf" => self.add(node, Expression::Erf(x), x)?,
            "Celu" => {
                let alpha = f64::from(node.float("alpha", 1.0)?);
                let inner = self.build.expressions.affine(&node.name, x, &[1.0 / alpha], &[0.0])?;
                let elu = self.add(node, Expression::Function(Activation::Elu { alpha: 1.0 }, inner), x)?;
                self.build.expressions.affine(&node.name, elu, &[alpha], &[0.0])?
            }
            _ => self.add(node, Expression::Function(function, x), x)?,
        };
        Ok(Some(self.like(&tensor, id)))
    }

    fn add(&mut self, node: &OnnxNode, expression: Expression, like: Id) -> Result<Id> {
        let facts = self.build.expressions.facts(like).clone();
        self.build.expressions.add(&node.name, expression, facts.width, facts.sequence)
    }

    /// Add, Sub, Mul, Div, Pow, and Sum, Mean, Max, Min of any number; `None` for others.
    pub fn arithmetic(&mut self, node: &OnnxNode) -> Result<Option<Value>> {
        if !matches!(
            node.op.as_str(),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Sum" | "Mean" | "Max" | "Min" | "Less" | "Greater" | "And" | "Not"
        ) {
            return Ok(None);
        }
        node.allow(&[])?;
        let mut value = self.value(node, 0)?;
        if node.inputs.len() == 1 {
            return match (node.op.as_str(), value) {
                ("Not", Value::Constant(array)) => {
                    let truths = array.as_ints().ok_or_else(|| node.malformed("booleans", "floats"))?;
                    let turned = truths.iter().map(|&truth| i64::from(truth == 0)).collect();
                    Ok(Some(Value::Constant(Array::ints(array.shape.clone(), turned).into())))
                }
                ("Not", Value::Fill { value, dims }) => Ok(Some(Value::Fill { value: 1.0 - value, dims })),
                ("Not", _) => Err(node.unsupported("this logic")),
                (_, value) => Ok(Some(value)),
            };
        }
        if matches!(node.op.as_str(), "Mean" | "Sum") && node.inputs.len() > 2 || node.op == "Mean" {
            return self.many(node).map(Some);
        }
        for index in 1..node.inputs.len() {
            let other = self.value(node, index)?;
            value = match self.parts_with_constant(node, &value, &other)? {
                Some(value) => value,
                None => self.two(node, value, other)?,
            };
        }
        Ok(Some(value))
    }

    pub fn two(&mut self, node: &OnnxNode, a: Value, b: Value) -> Result<Value> {
        let op = node.op.as_str();
        match (a, b) {
            (Value::Constant(a), Value::Constant(b)) => {
                Ok(Value::Constant(std::rc::Rc::new(arithmetic(node, &a, &b)?)))
            }
            (Value::Tensor(t), Value::Constant(c)) if matches!(t.of, Of::Tokens(_)) => match (op, c.scalar()) {
                // Ids of gatefold are never below 0.
                ("Less", Some(0.0)) => Ok(Value::Fill { value: 0.0, dims: None }),
                ("Add", Some(_)) => Ok(Value::Tensor(LabelledTensor { of: Of::Shifted(t.tokens()), ..t })),
                _ => Err(node.unsupported("arithmetic on token ids")),
            },
            (Value::Tensor(t), Value::Constant(c)) | (Value::Constant(c), Value::Tensor(t))
                if matches!(t.of, Of::Mask { .. }) && op == "Mul" && c.scalar() == Some(0.0) =>
            {
                Ok(Value::Fill { value: 0.0, dims: Some(t.dims(self.batch)) })
            }
            (Value::Tensor(t), Value::Fill { value: 0.0, dims })
            | (Value::Fill { value: 0.0, dims }, Value::Tensor(t))
                if op == "Add" =>
            {
                self.must_spread(node, &t, dims.as_deref(), false)?;
                Ok(Value::Tensor(t))
            }
            (Value::Tensor(t), Value::Fill { value: 1.0, dims })
            | (Value::Fill { value: 1.0, dims }, Value::Tensor(t))
                if op == "Mul" && matches!(t.of, Of::Tokens(_)) =>
            {
                self.must_spread(node, &t, dims.as_deref(), false)?;
                Ok(Value::Tensor(t))
            }
            (Value::Fill { value, dims }, Value::Tensor(t)) | (Value::Tensor(t), Value::Fill { value, dims })
                if op == "Mul" && value == 0.0 =>
            {
                self.must_spread(node, &t, dims.as_deref(), false)?;
                Ok(Value::Fill { value, dims: Some(t.dims(self.batch)) })
            }
            // Zeros plus a constant are that constant in the zeros' sizes.
            (Value::Fill { value: 0.0, dims: Some(dims) }, Value::Constant(c))
            | (Value::Constant(c), Value::Fill { value: 0.0, dims: Some(dims) })
                if op == "Add" && c.shape.len() <= dims.len() =>
            {
                let ones = vec![1; dims.len() - c.shape.len()];
                let shape = [&ones[..], &c.shape].concat();
                let fits = |(n, dim): (&usize, &Dim)| *n == 1 || Dim::Known(*n) == *dim;
                if !shape.iter().zip(&dims).all(fits) {
                    return Err(node.unsupported("zeros plus a constant of other sizes"));
                }
                Ok(Value::Spread { array: std::rc::Rc::new(Array { shape, data: c.data.clone() }), dims })
            }
            (Value::Tensor(tensor), Value::Spread { array, dims }) => {
                self.must_spread(node, &tensor, Some(&dims), false)?;
                self.with_constant(node, &tensor, &array, false)
            }
            (Value::Spread { array, dims }, Value::Tensor(tensor)) => {
                self.must_spread(node, &tensor, Some(&dims), false)?;
                self.with_constant(node, &tensor, &array, true)
            }
            // Exporters add nothing to the states that a graph gives.
            (Value::States(rows), other) | (other, Value::States(rows)) if op == "Add" && is_zero(&other) => {
                Ok(Value::States(rows))
            }
            (Value::Lengths, Value::Constant(c)) if op == "Sub" && c.scalar() == Some(1.0) => {
                Ok(Value::LastSteps { rank: 1 })
            }
            (Value::Fill { value: 1.0, dims: Some(dims) }, value @ Value::Constant(_))
            | (value @ Value::Constant(_), Value::Fill { value: 1.0, dims: Some(dims) })
                if op == "Mul" && dims.is_empty() =>
            {
                Ok(value)
            }
            (Value::Fill { value, .. }, Value::Constant(_)) | (Value::Constant(_), Value::Fill { value, .. })
                if op == "Mul" && value == 0.0 =>
            {
                Ok(Value::Fill { value, dims: None })
            }
            (Value::Fill { value: a, dims: a_dims }, Value::Fill { value: b, dims: b_dims }) if op == "Add" => {
                Ok(Value::Fill { value: a + b, dims: a_dims.filter(|dims| Some(dims) == b_dims.as_ref()) })
            }
            (Value::Tensor(tensor), Value::Constant(c)) => self.with_constant(node, &tensor, &c, false),
            (Value::Constant(c), Value::Tensor(tensor)) => self.with_constant(node, &tensor, &c, true),
            (Value::Tensor(tensor), Value::Fill { value, dims }) => {
                self.must_spread(node, &tensor, dims.as_deref(), false)?;
                self.with_constant(node, &tensor, &Array::floats(vec![], vec![value]), false)
            }
            (Value::Fill { value, dims }, Value::Tensor(tensor)) => {
                self.must_spread(node, &tensor, dims.as_deref(), false)?;
                self.with_constant(node, &tensor, &Array::floats(vec![], vec![value]), true)
            }
            (Value::Dims { dims, scalar }, Value::Constant(_) | Value::Dims { .. })
            | (Value::Constant(_), Value::Dims { dims, scalar })
                if dims.len() == 1 =>
            {
                Ok(Value::Dims { dims: vec![Dim::Any], scalar })
            }
            (Value::Tensor(a), Value::Tensor(b)) => {
                if let Some(value) = self.masked_input(node, &a, &b)? {
                    return Ok(value);
                }
                let (x, y) = (self.settle(node, &a)?, self.settle(node, &b)?);
                self.tensors(node, (&a, x), (&b, y))
            }
            (Value::Tensor(a), Value::State { id: state, .. }) => {
                let x = self.settle(node, &a)?;
                self.tensors(node, (&a, x), (&a, state))
            }
            (Value::State { id: state, .. }, Value::Tensor(b)) => {
                let y = self.settle(node, &b)?;
                self.tensors(node, (&b, state), (&b, y))
            }
            _ => Err(node.unsupported("arithmetic on these values")),
        }
    }

    /// `max(x, 0) + slope * min(x, 0)`, with a slope for each channel.
    pub fn prelu(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&[])?;
        let tensor = self.tensor(node, 0)?;
        let slope = self.constant(node, 1)?;
        let x = self.settle(node, &tensor)?;
        let facts = self.build.expressions.facts(x).clone();
        let slopes = self.by_channel(node, &tensor, &slope, false)?;
        if slopes.len() != 1 && slopes.len() != facts.width {
            return Err(node.unsupported("slopes that widen a tensor"));
        }
        let positive = self.add(node, Expression::Function(Activation::Relu, x), x)?;
        let below = Activation::Clip { alpha: f32::MIN, beta: 0.0 };
        let negative = self.add(node, Expression::Function(below, x), x)?;
        let scaled = self.build.expressions.affine(&node.name, negative, &slopes, &[0.0])?;
        let id = self.add(node, Expression::Join(Join::Add, vec![positive, scaled]), x)?;
        Ok(self.like(&tensor, id))
    }

    /// An error if a value of these sizes, as far as they are known, cannot be spread over `tensor` as it is. `widens`
    /// says that its one channel counts for any number of them.
    fn must_spread(&self, node: &OnnxNode, tensor: &LabelledTensor, dims: Option<&[Dim]>, widens: bool) -> Result<()> {
        let Some(dims) = dims else { return Ok(()) };
        let sizes = tensor.dims(self.batch);
        let fits = |(dim, (size, axis)): (&Dim, (&Dim, &AxisLabel))| {
            matches!(dim, Dim::Known(1) | Dim::Any) || dim == size || (*axis == AxisLabel::Channel && widens)
        };
        let places = sizes.iter().zip(&tensor.axes).rev();
        if dims.len() <= sizes.len() && dims.iter().rev().zip(places).all(fits) {
            return Ok(());
        }
        Err(node.unsupported(format!(
            "a constant of sizes {} with a tensor {}",
            words::shape(dims),
            words::sized(&tensor.axes, &sizes)
        )))
    }

    fn tensors(
        &mut self,
        node: &OnnxNode,
        (a, x): (&LabelledTensor, Id),
        (b, y): (&LabelledTensor, Id),
    ) -> Result<Value> {
        let (mut fx, mut fy) = (self.build.expressions.facts(x).clone(), self.build.expressions.facts(y).clone());
        // A state has no timesteps of its own.
        match (self.build.expressions.is_given(x), self.build.expressions.is_given(y)) {
            (true, false) => fx.sequence = fy.sequence,
            (false, true) => fy.sequence = fx.sequence,
            _ => {}
        }
        let refuse = || {
            node.unsupported(format!("arithmetic on the axes {} and {}", words::shape(&a.axes), words::shape(&b.axes)))
        };
        if !same_axes(a, b) || fx.sequence != fy.sequence {
            return self.broadcast(node, (a, x), (b, y))?.ok_or_else(refuse);
        }
        // The one that still says which of its axes is time.
        let a = if a.position(AxisLabel::Time).is_none() { b } else { a };
        // A state's width is not known, and a mean over the channels counts for all of them.
        let width = fx.width.max(fy.width);
        let [a_fits, b_fits] = [fx.width, fy.width].map(|w| w == width || w == 0 || w == 1);
        if !a_fits || !b_fits {
            return Err(node.unsupported(format!("arithmetic on tensors {} and {} wide", fx.width, fy.width)));
        }
        let expression = match node.op.as_str() {
            "Add" | "Sum" => Expression::Join(Join::Add, vec![x, y]),
            "Mul" if x == y => Expression::Function(Activation::Square, x),
            "Mul" => Expression::Join(Join::Mul, vec![x, y]),
            "Max" => Expression::Join(Join::Max, vec![x, y]),
            "Sub" => Expression::Sub(x, y),
            "Div" => Expression::Div(x, y),
            "Min" => Expression::Min(x, y),
            _ => return Err(node.unsupported("this arithmetic on two tensors")),
        };
        let id = self.build.expressions.add(&node.name, expression, width, fx.sequence)?;
        Ok(self.like(a, id))
    }

    /// Arithmetic of a row with a sequence: an axis of size 1 counts for all of the other's; `None` if they do not fit.
    fn broadcast(
        &mut self,
        node: &OnnxNode,
        (a, x): (&LabelledTensor, Id),
        (b, y): (&LabelledTensor, Id),
    ) -> Result<Option<Value>> {
        let rank = a.axes.len().max(b.axes.len());
        let axis = |t: &LabelledTensor, at: usize| (at + t.axes.len()).checked_sub(rank).map(|at| t.axes[at]);
        let channel = |t: &LabelledTensor| t.position(AxisLabel::Channel).is_some();
        let (fx, fy) = (self.build.expressions.facts(x).clone(), self.build.expressions.facts(y).clone());
        let mut axes = Vec::with_capacity(rank);
        for at in 0..rank {
            let (p, q) = (axis(a, at), axis(b, at));
            // What an axis of size 1 of `t` stands for beside `other`.
            let fits = |t: &LabelledTensor, sequence: bool, other: AxisLabel| match other {
                AxisLabel::Time => !sequence || t.steps == Dim::Known(1),
                AxisLabel::Channel => t.width == 1 && !channel(t),
                AxisLabel::Unit => true,
                _ => false,
            };
            axes.push(match (p, q) {
                (Some(p), Some(q)) if p == q => p,
                (None | Some(AxisLabel::Unit), Some(q)) if fits(a, fx.sequence, q) => q,
                (Some(p), None | Some(AxisLabel::Unit)) if fits(b, fy.sequence, p) => p,
                _ => return Ok(None),
            });
        }
        let width = fx.width.max(fy.width);
        let expression = match node.op.as_str() {
            "Add" | "Sum" => Expression::Join(Join::Add, vec![x, y]),
            "Mul" => Expression::Join(Join::Mul, vec![x, y]),
            "Max" => Expression::Join(Join::Max, vec![x, y]),
            "Sub" => Expression::Join(Join::Sub, vec![x, y]),
            "Div" => Expression::Div(x, y),
            "Min" => Expression::Min(x, y),
            _ => return Ok(None),
        };
        if [fx.width, fy.width].iter().any(|&w| w != width && w != 1) {
            return Ok(None);
        }
        let sequence = fx.sequence || fy.sequence;
        let id = self.build.expressions.add(&node.name, expression, width, sequence)?;
        let steps = if fx.sequence { a.steps } else { b.steps };
        Ok(Some(Value::Tensor(LabelledTensor { of: Of::Expression(id), axes, width, steps })))
    }

    /// Whether `id` is computed from the mean over the channels.
    fn over_channels(&self, mut id: Id) -> bool {
        loop {
            match self.build.expressions.get(id) {
                Expression::RowMean(_) => return true,
                Expression::Affine { x, .. } | Expression::Function(_, x) | Expression::Reciprocal(x) => id = *x,
                _ => return false,
            }
        }
    }

    /// `x > t ? x : softplus(x)`, as PyTorch writes a softplus: above 20 the two are one number in f32.
    pub fn choice(&mut self, node: &OnnxNode) -> Result<Value> {
        node.allow(&[])?;
        let mut ids = [0; 3];
        for (index, id) in ids.iter_mut().enumerate() {
            let tensor = self.tensor(node, index)?;
            *id = self.settle(node, &tensor)?;
        }
        let [condition, above, below] = ids;
        let e = &self.build.expressions;
        match (e.get(condition), e.function(below)) {
            (Expression::Above(x, bound), Some((Activation::Softplus, y)))
                if *x == above && y == above && *bound >= 20.0 =>
            {
                let tensor = self.tensor(node, 2)?;
                Ok(self.like(&tensor, below))
            }
            _ => Err(node.unsupported("a choice between two tensors that is no softplus")),
        }
    }

    fn many(&mut self, node: &OnnxNode) -> Result<Value> {
        let tensors = (0..node.inputs.len()).map(|i| self.tensor(node, i)).collect::<Result<Vec<_>>>()?;
        let ids = tensors.iter().map(|t| self.settle(node, t)).collect::<Result<Vec<_>>>()?;
        if tensors.iter().any(|t| t.axes != tensors[0].axes || t.width != tensors[0].width) {
            return Err(node.unsupported("tensors of different axes or widths"));
        }
        let join = if node.op == "Mean" { Join::Average } else { Join::Add };
        let first = ids[0];
        let id = self.add(node, Expression::Join(join, ids), first)?;
        Ok(self.like(&tensors[0], id))
    }

    fn with_constant(
        &mut self,
        node: &OnnxNode,
        tensor: &LabelledTensor,
        constant: &Array,
        constant_first: bool,
    ) -> Result<Value> {
        // A constant of more axes gives the tensor axes of size 1 before its own.
        let more = constant.shape.len().saturating_sub(tensor.axes.len());
        let mut tensor = tensor.clone();
        if constant.shape[..more].iter().all(|&n| n == 1) {
            tensor.axes.splice(0..0, std::iter::repeat_n(AxisLabel::Unit, more));
        }
        let tensor = &tensor;
        let x = self.settle(node, tensor)?;
        if let Some(sequence) = self.constant_sequence(node, tensor, x, constant)? {
            let (first, second) = if constant_first { (sequence, x) } else { (x, sequence) };
            return self.tensors(node, (tensor, first), (tensor, second));
        }
        let width = self.build.expressions.facts(x).width;
        // A mean over the channels counts for all of them.
        let widens = width == 1 && self.over_channels(x);
        let numbers = self.by_channel(node, tensor, constant, widens)?;
        if numbers.len() != 1 && numbers.len() != width && !widens {
            return Err(node.unsupported("a constant that widens a tensor"));
        }
        let map = |f: fn(f64) -> f64| numbers.iter().map(|&n| f(n)).collect::<Vec<f64>>();
        let name = node.name.as_str();
        let scalar = match numbers[..] {
            [number] => Some(number),
            _ => None,
        };
        let e = &mut self.build.expressions;
        let id = match (node.op.as_str(), constant_first) {
            ("Add" | "Sum", _) => e.affine(name, x, &[1.0], &numbers)?,
            ("Sub", false) => e.affine(name, x, &[1.0], &map(|n| -n))?,
            ("Sub", true) => e.affine(name, x, &[-1.0], &numbers)?,
            ("Mul", _) => e.affine(name, x, &numbers, &[0.0])?,
            ("Div", false) => e.affine(name, x, &map(|n| 1.0 / n), &[0.0])?,
            ("Div", true) => {
                let inverse = self.add(node, Expression::Reciprocal(x), x)?;
                self.build.expressions.affine(name, inverse, &numbers, &[0.0])?
            }
            ("Greater", false) if scalar.is_some() => self.add(node, Expression::Above(x, scalar.unwrap_or(0.0)), x)?,
            ("Pow", false) if scalar == Some(1.0) => x,
            ("Pow", false) if scalar == Some(2.0) => self.add(node, Expression::Function(Activation::Square, x), x)?,
            ("Pow", false) if scalar == Some(-1.0) => self.add(node, Expression::Reciprocal(x), x)?,
            ("Pow", false) if scalar == Some(-0.5) => {
                let root = self.add(node, Expression::Function(Activation::Sqrt, x), x)?;
                self.add(node, Expression::Reciprocal(root), x)?
            }
            ("Pow", false) if scalar == Some(0.5) => self.add(node, Expression::Function(Activation::Sqrt, x), x)?,
            ("Pow", false) if scalar == Some(3.0) => {
                let square = self.add(node, Expression::Function(Activation::Square, x), x)?;
                self.add(node, Expression::Join(Join::Mul, vec![x, square]), x)?
            }
            #[expect(clippy::cast_possible_truncation, reason = "it was f32 in the file")]
            ("Max" | "Min", _) if scalar.is_some() => {
                let bound = scalar.unwrap_or(0.0) as f32;
                let (alpha, beta) = if node.op == "Max" { (bound, f32::MAX) } else { (f32::MIN, bound) };
                self.add(node, Expression::Function(Activation::Clip { alpha, beta }, x), x)?
            }
            _ => return Err(node.unsupported("this arithmetic with a constant")),
        };
        Ok(self.like(tensor, id))
    }

    /// A constant that has numbers for each of a fixed number of timesteps, as a sequence beside `x`; `None` for others.
    ///
    /// They are the weights of a dense layer whose input is 1: a number of `x` within the bounds 1 and 1.
    fn constant_sequence(
        &mut self,
        node: &OnnxNode,
        tensor: &LabelledTensor,
        x: Id,
        constant: &Array,
    ) -> Result<Option<Id>> {
        let (Dim::Known(steps), Some(time)) = (tensor.steps, tensor.position(AxisLabel::Time)) else { return Ok(None) };
        let rank = tensor.axes.len();
        let own = |axis: usize| (axis + constant.shape.len()).checked_sub(rank).map_or(1, |at| constant.shape[at]);
        let facts = self.build.expressions.facts(x).clone();
        let channel = tensor.position(AxisLabel::Channel);
        let others = (0..rank).filter(|&at| at != time && Some(at) != channel).all(|at| own(at) == 1);
        let Some(numbers) = constant.as_floats().filter(|_| own(time) == steps && steps > 1 && others) else {
            return Ok(None);
        };
        let width = channel.map_or(1, own);
        if !facts.sequence || constant.shape.len() > rank || (width != 1 && width != facts.width) {
            return Ok(None);
        }
        // Rows of timesteps, whatever the order of the axes.
        let time_last = channel.is_some_and(|channel| channel < time);
        let numbers = if time_last { transpose(numbers, width, steps) } else { numbers.to_vec() };
        let read = self.build.emit(x)?;
        let row = self.select(&read, facts.width, SelectStep::First)?;
        let name = format!("{}.constant", node.name);
        let one = Expression::Channels { x: row, start: 0, count: 1 };
        let one = self.build.expressions.add(&name, one, 1, false)?;
        let one = Expression::Function(Activation::Clip { alpha: 1.0, beta: 1.0 }, one);
        let one = self.build.expressions.add(&name, one, 1, false)?;
        let count = numbers.len();
        let product = Expression::Product(one, std::rc::Rc::new(Array::floats(vec![1, count], numbers)));
        let all = self.build.expressions.add(&name, product, count, false)?;
        self.row_as_steps(node, all, width, steps).map(Some)
    }

    /// A constant as one number or as one for each channel.
    fn by_channel(&self, node: &OnnxNode, tensor: &LabelledTensor, constant: &Array, widens: bool) -> Result<Vec<f64>> {
        let Data::Floats(data) = &constant.data else { return Err(node.unsupported("integers together with floats")) };
        // Rows that are all alike count as one, as they do where the batch's size was fixed.
        if let Some(batch) = tensor.position(AxisLabel::Batch)
            && let Some(at) = (batch + constant.shape.len()).checked_sub(tensor.axes.len())
            && Dim::Known(constant.shape[at]) == self.batch
            && constant.shape[at] > 1
        {
            let first = constant.take(at, &[0]);
            if (1..constant.shape[at]).all(|row| constant.take(at, &[row]) == first) {
                return self.by_channel(node, tensor, &first, widens);
            }
        }
        if let [first, rest @ ..] = data.as_slice()
            && rest.iter().all(|x| x == first)
            && (rest.is_empty() || constant.shape.len() <= tensor.axes.len())
        {
            let dims: Vec<Dim> = constant.shape.iter().map(|&n| Dim::Known(n)).collect();
            if !rest.is_empty() {
                self.must_spread(node, tensor, Some(&dims), widens)?;
            }
            return Ok(vec![f64::from(*first)]);
        }
        let offset = tensor.axes.len().checked_sub(constant.shape.len());
        let at = tensor.position(AxisLabel::Channel);
        // A width of 1 may be widened; the caller checks whether that is allowed.
        let only_channels = |offset: usize, at: usize| {
            let fits = |n: usize| n == tensor.width || tensor.width == 1;
            constant.shape.iter().enumerate().all(|(i, &n)| n == 1 || (i + offset == at && fits(n)))
        };
        match (offset, at) {
            (Some(offset), Some(at)) if only_channels(offset, at) => Ok(data.iter().map(|&x| f64::from(x)).collect()),
            _ => Err(node.unsupported(format!(
                "a constant {:?} with a tensor {}",
                constant.shape,
                words::sized(&tensor.axes, &tensor.dims(self.batch))
            ))),
        }
    }
}

/// Whether a value is one number, 0.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Constant(array) => array.scalar() == Some(0.0),
        Value::Dims { scalar: true, .. } => super::dims::whole(value) == Some(0),
        _ => false,
    }
}

fn constant_function(node: &OnnxNode, array: &Array) -> Result<Value> {
    let function: fn(f32) -> f32 = match node.op.as_str() {
        "Neg" => |x| -x,
        "Reciprocal" => |x| 1.0 / x,
        "Sqrt" => f32::sqrt,
        "Abs" => f32::abs,
        "Exp" => f32::exp,
        _ => return Err(node.unsupported("this function of a constant")),
    };
    let floats = array.as_floats().ok_or_else(|| node.unsupported("this function of integers"))?;
    let data = floats.iter().map(|&x| function(x)).collect();
    Ok(Value::Constant(std::rc::Rc::new(Array::floats(array.shape.clone(), data))))
}

/// Whether two tensors have the same axes. In a graph for one timestep, that of time may have been
/// squeezed and put back without its meaning.
fn same_axes(a: &LabelledTensor, b: &LabelledTensor) -> bool {
    let one_wide = a.width == 1 && b.width == 1;
    let alike = |(&x, &y): (&AxisLabel, &AxisLabel)| match (x, y) {
        (AxisLabel::Unit, AxisLabel::Channel) | (AxisLabel::Channel, AxisLabel::Unit) => one_wide,
        (AxisLabel::Unit, AxisLabel::Time) => b.steps == Dim::Known(1),
        (AxisLabel::Time, AxisLabel::Unit) => a.steps == Dim::Known(1),
        _ => x == y,
    };
    a.axes.len() == b.axes.len() && a.axes.iter().zip(&b.axes).all(alike)
}

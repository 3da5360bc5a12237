//! Elementwise arithmetic over layers' outputs, kept as expressions until a layer needs them, so
//! that what an exporter took apart (GELU, layer norm, an LSTM's step) is seen as a whole.

use std::collections::HashMap;
use std::rc::Rc;

use super::array::Array;
use super::unsupported;
use super::value::Id;
use crate::base::error::Result;
use crate::network::{Activation, Join};

/// Deeper expressions are refused; a layer's output has depth 0.
const MAX_DEPTH: usize = 200;

#[derive(Clone, Debug)]
pub enum Expression {
    /// The network's input or a layer's output, by name.
    Layer(String),
    /// A state that the caller gives.
    State(String),
    Function(Activation, Id),
    /// `x * scale + offset`; one number, or one for each channel.
    Affine {
        x: Id,
        scale: Vec<f64>,
        offset: Vec<f64>,
    },
    Sub(Id, Id),
    Div(Id, Id),
    /// The smaller one of each pair.
    Min(Id, Id),
    Join(Join, Vec<Id>),
    /// `x W` with W `[K, N]`.
    Product(Id, Rc<Array>),
    /// Some channels.
    Channels {
        x: Id,
        start: usize,
        count: usize,
    },
    /// The timesteps that count, of a mask of this number; the others are 0.
    Masked(Id, f32),
    /// The sum over the timesteps that count.
    MaskedSum(Id, f32),
    /// The timesteps that count, of a mask of this number; the others are far below all numbers.
    Hidden(Id, f32),
    /// Mean over the channels.
    RowMean(Id),
    Erf(Id),
    Reciprocal(Id),
    /// Whether it is above a number.
    Above(Id, f64),
}

/// What is known about an expression.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What its layer will be called.
    pub name: String,
    /// Channels.
    pub width: usize,
    /// Whether it has a time dimension.
    pub sequence: bool,
    depth: usize,
}

/// All expressions; equal ones have one [`Id`].
#[derive(Default)]
pub struct Expressions {
    all: Vec<(Expression, Facts)>,
    known: HashMap<String, Id>,
}

impl Expressions {
    pub fn get(&self, id: Id) -> &Expression {
        &self.all[id].0
    }

    pub fn facts(&self, id: Id) -> &Facts {
        &self.all[id].1
    }

    /// The expression's id; `name` is that of the node that made it.
    pub fn add(&mut self, name: &str, expression: Expression, width: usize, sequence: bool) -> Result<Id> {
        let key = match &expression {
            Expression::Product(x, matrix) => format!("product {x} {:p}", Rc::as_ptr(matrix)),
            other => format!("{other:?}"),
        };
        if let Some(&id) = self.known.get(&key) {
            return Ok(id);
        }
        let depth = match &expression {
            Expression::Layer(_) | Expression::State(_) => 0,
            Expression::Function(_, x)
            | Expression::Affine { x, .. }
            | Expression::Product(x, _)
            | Expression::Channels { x, .. }
            | Expression::RowMean(x)
            | Expression::Masked(x, _)
            | Expression::MaskedSum(x, _)
            | Expression::Hidden(x, _)
            | Expression::Erf(x)
            | Expression::Above(x, _)
            | Expression::Reciprocal(x) => self.facts(*x).depth + 1,
            Expression::Sub(a, b) | Expression::Div(a, b) | Expression::Min(a, b) => {
                self.facts(*a).depth.max(self.facts(*b).depth) + 1
            }
            Expression::Join(_, inputs) => inputs.iter().map(|&i| self.facts(i).depth + 1).max().unwrap_or(0),
        };
        if depth > MAX_DEPTH {
            return Err(unsupported(name, format!("more than {MAX_DEPTH} elementwise operators in a row")));
        }
        self.all.push((expression, Facts { name: name.to_owned(), width, sequence, depth }));
        self.known.insert(key, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    /// `x * scale + offset`, merged with an affine map that `x` already is. As wide as `x`, or as
    /// the constants where `x` is one number for all channels.
    pub fn affine(&mut self, name: &str, x: Id, scale: &[f64], offset: &[f64]) -> Result<Id> {
        let facts = self.facts(x).clone();
        let width = facts.width.max(scale.len()).max(offset.len());
        let (x, scale, offset) = match self.get(x).clone() {
            Expression::Affine { x, scale: s, offset: o } => {
                let at = |v: &[f64], i: usize| v[i % v.len()];
                let length = [scale, offset, &s, &o].iter().map(|v| v.len()).max().unwrap_or(1);
                let merge = |i: usize| (at(&s, i) * at(scale, i), at(&o, i) * at(scale, i) + at(offset, i));
                let (scale, offset): (Vec<f64>, Vec<f64>) = (0..length).map(merge).unzip();
                (x, scale, offset)
            }
            _ => (x, scale.to_vec(), offset.to_vec()),
        };
        self.add(name, Expression::Affine { x, scale, offset }, width, facts.sequence)
    }

    /// Whether it is a map of a state that the caller gives.
    pub fn is_given(&self, id: Id) -> bool {
        match *self.get(id) {
            Expression::State(_) => true,
            Expression::Product(x, _) | Expression::Affine { x, .. } | Expression::Channels { x, .. } => {
                self.is_given(x)
            }
            _ => false,
        }
    }

    /// The function and what it reads.
    pub fn function(&self, id: Id) -> Option<(Activation, Id)> {
        match self.get(id) {
            Expression::Function(function, x) => Some((*function, *x)),
            _ => None,
        }
    }

    /// An affine map by two numbers: what it reads, scale, offset. Anything is one by 1 and 0.
    pub fn scaled(&self, id: Id) -> (Id, f64, f64) {
        match self.get(id) {
            Expression::Affine { x, scale, offset } if scale.len() == 1 && offset.len() == 1 => {
                (*x, scale[0], offset[0])
            }
            _ => (id, 1.0, 0.0),
        }
    }

    /// The two sides of a product or a sum.
    pub fn pair(&self, id: Id, join: Join) -> Option<[Id; 2]> {
        match self.get(id) {
            Expression::Join(j, inputs) if *j == join => inputs.as_slice().try_into().ok(),
            _ => None,
        }
    }

    /// `function(y)` and `x` in either order, if `id` is their product and `matches` says so.
    pub fn product_with<T>(&self, id: Id, matches: impl Fn(Id, Id) -> Option<T>) -> Option<T> {
        let [a, b] = self.pair(id, Join::Mul)?;
        matches(a, b).or_else(|| matches(b, a))
    }

    /// What `id` is as one function of a smaller expression, where an exporter wrote its formula.
    pub fn recognised(&self, id: Id) -> Option<(Activation, Id)> {
        const CLOSE: f64 = 1e-5;
        let near = |a: f64, b: f64| (a - b).abs() < CLOSE;
        let gated = |x: Id, gate: Id| match self.function(gate)? {
            (Activation::Sigmoid, y) if y == x => Some((Activation::Silu, x)),
            (Activation::Tanh, y) if self.function(y) == Some((Activation::Softplus, x)) => Some((Activation::Mish, x)),
            _ => None,
        };
        if let Some(found) = self.product_with(id, gated) {
            return Some(found);
        }
        if let Expression::Div(x, below) = self.get(id)
            && self.scaled(*below) == (self.affine_base(*below), 1.0, 1.0)
            && self.function(self.affine_base(*below)) == Some((Activation::Abs, *x))
        {
            return Some((Activation::Softsign, *x));
        }
        // GELU: factor * x * (1 + erf(x / sqrt(2))) or (1 + tanh(..)), the factor 1/2 anywhere.
        let (inner, outer, 0.0) = self.scaled(id) else { return None };
        let halves = |(x, left, zero): (Id, f64, f64), (f, slope, offset): (Id, f64, f64)| {
            if zero != 0.0 || !near(outer * left * slope, 0.5) || !near(slope, offset) {
                return None;
            }
            match self.get(f) {
                Expression::Erf(y) => {
                    let ratio = self.ratio(*y, x)?;
                    near(ratio, std::f64::consts::FRAC_1_SQRT_2).then_some((Activation::Gelu, x))
                }
                Expression::Function(Activation::Tanh, y) => {
                    self.tanh_argument(*y, x).then_some((Activation::GeluTanh, x))
                }
                _ => None,
            }
        };
        // `x` may itself be an affine map, such as a product with its bias.
        self.product_with(inner, |x, bracket| {
            let bracket = self.scaled(bracket);
            halves((x, 1.0, 0.0), bracket).or_else(|| halves(self.scaled(x), bracket))
        })
    }

    /// What `x` is multiplied by to give `y`; both may be affine maps of the same, as after a bias.
    fn ratio(&self, y: Id, x: Id) -> Option<f64> {
        let map = |id: Id, base: Id| match self.get(id) {
            Expression::Affine { x, scale, offset } if *x == base => Some((scale.clone(), offset.clone())),
            _ if id == base => Some((vec![1.0], vec![0.0])),
            _ => None,
        };
        let base = match self.get(x) {
            Expression::Affine { x: below, .. } if map(y, x).is_none() => *below,
            _ => x,
        };
        let ((a, b), (c, d)) = (map(x, base)?, map(y, base)?);
        let length = [&a, &b, &c, &d].iter().map(|v| v.len()).max()?;
        let at = |v: &[f64], i: usize| v[i % v.len()];
        let largest = (0..length).max_by(|&i, &j| at(&a, i).abs().total_cmp(&at(&a, j).abs()))?;
        let ratio = at(&c, largest) / at(&a, largest);
        let alike = |x: f64, y: f64| (x * ratio - y).abs() <= 1e-6 * (x.abs() + y.abs());
        let same = (0..length).all(|i| alike(at(&a, i), at(&c, i)) && alike(at(&b, i), at(&d, i)));
        (same && ratio.is_finite()).then_some(ratio)
    }

    fn affine_base(&self, id: Id) -> Id {
        self.scaled(id).0
    }

    /// Whether `id` is `sqrt(2/π) (x + 0.044715 x³)`.
    fn tanh_argument(&self, id: Id, x: Id) -> bool {
        let (sum, scale, 0.0) = self.scaled(id) else { return false };
        let cube = |c: Id| {
            let (c, factor, offset) = self.scaled(c);
            let is_cube = |a: Id, b: Id| (a == x && self.function(b) == Some((Activation::Square, x))).then_some(());
            offset == 0.0 && (factor - 0.044_715).abs() < 1e-6 && self.product_with(c, is_cube).is_some()
        };
        let Some([a, b]) = self.pair(sum, Join::Add) else { return false };
        (scale - (2.0 / std::f64::consts::PI).sqrt()).abs() < 1e-5 && ((a == x && cube(b)) || (b == x && cube(a)))
    }

    /// `x` and the offset, if `id` is the mean of the channels of `x`, or their sum over their number, plus a number.
    fn mean_and_offset(&self, id: Id) -> Option<(Id, f64)> {
        let (mean, scale, offset) = self.scaled(id);
        match self.get(mean) {
            Expression::RowMean(x) if scale == 1.0 => Some((*x, offset)),
            Expression::Product(x, ones) if ones.shape == [self.facts(*x).width, 1] => {
                #[expect(clippy::cast_precision_loss, reason = "a number of channels")]
                let share = 1.0 / self.facts(*x).width as f64;
                let all = ones.as_floats().is_some_and(|ones| ones.iter().all(|&x| x == 1.0));
                (all && (scale - share).abs() < 1e-9 * share).then_some((*x, offset))
            }
            _ => None,
        }
    }

    /// `x` and eps, if `id` is `(x - mean(x)) / sqrt(var(x) + eps)`.
    pub fn normalized(&self, id: Id) -> Option<(Id, f64)> {
        let parts = |centred: Id, root: Id| {
            let (Activation::Sqrt, variance) = self.function(root)? else { return None };
            let (square, eps) = self.mean_and_offset(variance)?;
            let Expression::Sub(x, m) = self.get(centred) else { return None };
            let of_x = matches!(self.get(*m), Expression::RowMean(y) if y == x);
            (of_x && self.function(square) == Some((Activation::Square, centred))).then_some((*x, eps))
        };
        match self.get(id) {
            Expression::Div(centred, root) => parts(*centred, *root),
            _ => self.product_with(id, |centred, inverse| match self.get(inverse) {
                Expression::Reciprocal(root) => parts(centred, *root),
                _ => None,
            }),
        }
    }

    /// `x`, eps, scale and offset, if `id` is a layer norm multiplied out as TensorFlow does:
    /// `x m + (offset - mean(x) m)` with `m = scale / sqrt(var(x) + eps)`.
    pub fn normalized_apart(&self, id: Id) -> Option<(Id, f64, Vec<f64>, Vec<f64>)> {
        let affine = |id: Id| match self.get(id) {
            Expression::Affine { x, scale, offset } => (*x, scale.clone(), offset.clone()),
            _ => (id, vec![1.0], vec![0.0]),
        };
        let [a, b] = self.pair(id, Join::Add)?;
        let parts = |of_x: Id, rest: Id| {
            let (of_mean, one, offset) = affine(rest);
            if one != [1.0] {
                return None;
            }
            self.product_with(of_mean, |negative, factor| {
                let (mean, -1.0, 0.0) = self.scaled(negative) else { return None };
                let Expression::RowMean(x) = *self.get(mean) else { return None };
                let (inverse, scale, nothing) = affine(factor);
                let Expression::Reciprocal(root) = *self.get(inverse) else { return None };
                let (Activation::Sqrt, variance) = self.function(root)? else { return None };
                let (squares, 1.0, eps) = self.scaled(variance) else { return None };
                let Expression::RowMean(square) = *self.get(squares) else { return None };
                let (Activation::Square, centred) = self.function(square)? else { return None };
                let centred = matches!(*self.get(centred), Expression::Sub(y, m) if (y, m) == (x, mean));
                let same = self.product_with(of_x, |y, m| ((y, m) == (x, factor)).then_some(())).is_some();
                (centred && same && nothing == [0.0]).then(|| (x, eps, scale, offset.clone()))
            })
        };
        parts(a, b).or_else(|| parts(b, a))
    }
}

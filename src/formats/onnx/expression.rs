//! Elementwise arithmetic over layers' outputs, kept as expressions until a layer needs them, so
//! that what an exporter took apart (GELU, layer norm, an LSTM's step) is seen as a whole.

use std::collections::HashMap;
use std::rc::Rc;

use super::array::Array;
use super::unsupported;
use super::value::Id;
use crate::error::Result;
use crate::network::{Activation, Join};

/// Deeper expressions are refused; a layer's output starts anew.
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
    Join(Join, Vec<Id>),
    /// `x W` with W `[K, N]`.
    Product(Id, Rc<Array>),
    /// Some channels.
    Channels {
        x: Id,
        start: usize,
        count: usize,
    },
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

/// `gamma (x - mean(x)) / sqrt(var(x) + eps) + beta`
pub struct Normalization {
    pub x: Id,
    pub eps: f64,
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
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
            | Expression::Erf(x)
            | Expression::Above(x, _)
            | Expression::Reciprocal(x) => self.facts(*x).depth + 1,
            Expression::Sub(a, b) | Expression::Div(a, b) => self.facts(*a).depth.max(self.facts(*b).depth) + 1,
            Expression::Join(_, inputs) => inputs.iter().map(|&i| self.facts(i).depth + 1).max().unwrap_or(0),
        };
        if depth > MAX_DEPTH {
            return Err(unsupported(name, format!("more than {MAX_DEPTH} elementwise operators behind each other")));
        }
        self.all.push((expression, Facts { name: name.to_owned(), width, sequence, depth }));
        self.known.insert(key, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    /// `x * scale + offset`, merged with an affine map that `x` already is.
    pub fn affine(&mut self, name: &str, x: Id, scale: &[f64], offset: &[f64]) -> Result<Id> {
        let facts = self.facts(x).clone();
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
        let width = facts.width.max(scale.len()).max(offset.len());
        self.add(name, Expression::Affine { x, scale, offset }, width, facts.sequence)
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
        let gelu = |(x, left, zero): (Id, f64, f64), (f, slope, offset): (Id, f64, f64)| {
            if zero != 0.0 || !near(outer * left * slope, 0.5) || !near(slope, offset) {
                return None;
            }
            match self.get(f) {
                Expression::Erf(y) => self
                    .multiple(*y, x)
                    .filter(|&factor| near(factor, std::f64::consts::FRAC_1_SQRT_2))
                    .map(|_| (Activation::Gelu, x)),
                Expression::Function(Activation::Tanh, y) => {
                    self.tanh_argument(*y, x).then_some((Activation::GeluTanh, x))
                }
                _ => None,
            }
        };
        // What x is may itself be an affine map, such as a product with its bias.
        self.product_with(inner, |x, bracket| {
            let bracket = self.scaled(bracket);
            gelu((x, 1.0, 0.0), bracket).or_else(|| gelu(self.scaled(x), bracket))
        })
    }

    /// How many times `x` the expression `y` is, if it is a multiple of it.
    fn multiple(&self, y: Id, x: Id) -> Option<f64> {
        let parts = |id: Id| match self.get(id) {
            Expression::Affine { x, scale, offset } => (*x, scale.clone(), offset.clone()),
            _ => (id, vec![1.0], vec![0.0]),
        };
        // `x` itself, or what it is an affine map of.
        let (base, scale, offset) = parts(y);
        let (other, x_scale, x_offset) = if base == x { (x, vec![1.0], vec![0.0]) } else { parts(x) };
        let factor = scale[0] / x_scale[0];
        let proportional = |a: &[f64], b: &[f64]| {
            let count = a.len().max(b.len());
            (0..count).all(|i| {
                let (a, b) = (a[i % a.len()], b[i % b.len()] * factor);
                (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
            })
        };
        (base == other && factor.is_finite() && proportional(&scale, &x_scale) && proportional(&offset, &x_offset))
            .then_some(factor)
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

    /// `x` and eps, if `id` is `(x - mean(x)) / sqrt(var(x) + eps)`.
    pub fn normalized(&self, id: Id) -> Option<(Id, f64)> {
        let parts = |centred: Id, root: Id| {
            let (of, x, eps) = self.deviation(root)?;
            (of == centred).then_some((x, eps))
        };
        match self.get(id) {
            Expression::Div(centred, root) => parts(*centred, *root),
            _ => self.product_with(id, |centred, inverse| match self.get(inverse) {
                Expression::Reciprocal(root) => parts(centred, *root),
                _ => None,
            }),
        }
    }

    /// `x - mean(x)`, `x` and eps, if `root` is `sqrt(var(x) + eps)`.
    fn deviation(&self, root: Id) -> Option<(Id, Id, f64)> {
        let (Activation::Sqrt, variance) = self.function(root)? else { return None };
        let (mean, 1.0, eps) = self.scaled(variance) else { return None };
        let Expression::RowMean(square) = self.get(mean) else { return None };
        let (Activation::Square, centred) = self.function(*square)? else { return None };
        let Expression::Sub(x, m) = self.get(centred) else { return None };
        matches!(self.get(*m), Expression::RowMean(y) if y == x).then_some((centred, *x, eps))
    }

    /// A normalization as Keras writes it, `x s + (beta - mean(x) s)` with `s = gamma / sqrt(var(x) + eps)`.
    pub fn normalized_by_parts(&self, id: Id) -> Option<Normalization> {
        let [a, b] = self.pair(id, Join::Add)?;
        let parts = |scaled: Id, rest: Id| {
            let (mean_part, beta) = match self.get(rest) {
                Expression::Affine { x, scale, offset } if *scale == [1.0] => (*x, offset.clone()),
                _ => (rest, vec![0.0]),
            };
            self.product_with(scaled, |x, s| {
                let (inverse, gamma) = match self.get(s) {
                    Expression::Affine { x, scale, offset } if *offset == [0.0] => (*x, scale.clone()),
                    _ => (s, vec![1.0]),
                };
                let Expression::Reciprocal(root) = self.get(inverse) else { return None };
                let (_, of, eps) = self.deviation(*root)?;
                let negative_mean = |id: Id| {
                    let (mean, -1.0, 0.0) = self.scaled(id) else { return false };
                    matches!(self.get(mean), Expression::RowMean(y) if *y == x)
                };
                self.product_with(mean_part, |m, other| (other == s && negative_mean(m)).then_some(()))?;
                (of == x).then(|| Normalization { x, eps, gamma, beta: beta.clone() })
            })
        };
        parts(a, b).or_else(|| parts(b, a))
    }
}

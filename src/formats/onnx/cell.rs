//! One step of an LSTM that an exporter took apart (Keras, unrolled over a single timestep).

use std::rc::Rc;

use super::array::Array;
use super::build::Build;
use super::expression::Expression;
use super::unsupported;
use super::value::Id;
use crate::base::error::Result;
use crate::formats::transpose::transpose;
use crate::network::{Activation, Cell, HiddenOrCell, Join, LayerSpec, RecurrentOutput, RecurrentSpec, ReshapeSpec};

/// `function(z[k H..])`: what a gate is.
#[derive(Clone, Copy)]
struct Gate {
    function: Activation,
    z: Id,
    start: usize,
    width: usize,
}

/// The parts of `h = o * act(f * c + i * g)`.
struct Step {
    gates: [Gate; 4],
    output: Activation,
    c: Id,
    /// c of the step before.
    c_before: Id,
}

impl Build {
    /// The LSTM layer whose h is `h`, if it is one.
    pub fn cell(&mut self, h: Id) -> Result<Option<String>> {
        let Some(step) = self.step(h) else { return Ok(None) };
        let [i, f, g, o] = step.gates;
        let mut terms = Vec::new();
        let bias = self.summands(i.z, &mut terms);
        let hidden_size = i.width;
        let (mut input, mut recurrent) = (None, None);
        for (x, matrix) in terms {
            let state = matches!(self.expressions.get(x), Expression::State(_));
            let place = if state { &mut recurrent } else { &mut input };
            if place.replace((x, matrix)).is_some() {
                return Ok(None);
            }
        }
        let (Some((x, w)), Some((h_before, r)), Some(bias)) = (input, recurrent, bias) else { return Ok(None) };
        let facts = self.expressions.facts(h).clone();
        if facts.sequence && self.one_row {
            // The rows of an input [B, N] that one step reads are no timesteps.
            return Err(unsupported(format!("node `{}`", facts.name), "an LSTM's step over timesteps of one row"));
        }
        let rows = Cell::Lstm.gates() * hidden_size;
        let fits = |matrix: &Array, k: usize| matrix.shape == [k, rows];
        let input_size = self.expressions.facts(x).width;
        if !fits(&w, input_size) || !fits(&r, hidden_size) || !(bias.len() == 1 || bias.len() == rows) {
            let what = format!("an LSTM step of weights {:?} and {:?}", w.shape, r.shape);
            return Err(unsupported(format!("node `{}`", facts.name), what));
        }
        let mut read = self.emit(x)?;
        let name = self.unique(&facts.name);
        if !facts.sequence {
            let step = self.unique(&format!("{name}.step"));
            let layer = LayerSpec::Reshape(ReshapeSpec { name: step.clone(), in_steps: None, out_steps: Some(1) });
            self.layer(&read, &step, layer, input_size, true)?;
            read = step;
        }
        let order = [i.start, f.start, g.start, o.start];
        let blocks = |numbers: &[f32], width: usize| -> Vec<f32> {
            order.iter().flat_map(|start| numbers[start * width..][..hidden_size * width].iter().copied()).collect()
        };
        for (tensor, matrix, k) in [("weight_ih_l0", &w, input_size), ("weight_hh_l0", &r, hidden_size)] {
            let rows_first = transpose(matrix.as_floats().unwrap_or_default(), k, rows);
            self.tensor(&name, tensor, vec![rows, k], blocks(&rows_first, k))?;
        }
        #[expect(clippy::cast_possible_truncation, reason = "constants were merged in f64 and are f32 in the file")]
        let bias: Vec<f32> = (0..rows).map(|row| bias[row % bias.len()] as f32).collect();
        self.tensor(&name, "bias_ih_l0", vec![rows], blocks(&bias, 1))?;
        self.tensor(&name, "bias_hh_l0", vec![rows], vec![0.0; rows])?;
        let mut spec = RecurrentSpec::new(name.clone(), input_size, hidden_size);
        spec.batch_first = self.batch_first;
        if !facts.sequence {
            spec.output = RecurrentOutput::Last;
        }
        let activations = [i.function, g.function, step.output];
        if activations != Cell::Lstm.default_activations() {
            spec.activations = activations.to_vec();
        }
        self.layer(&read, &name, LayerSpec::Lstm(spec), hidden_size, facts.sequence)?;
        self.states.extend([(h, (name.clone(), HiddenOrCell::H)), (step.c, (name.clone(), HiddenOrCell::C))]);
        self.given.extend([(h_before, name.clone(), HiddenOrCell::H), (step.c_before, name.clone(), HiddenOrCell::C)]);
        Ok(Some(name))
    }

    /// Whether it may be the h of an LSTM's step.
    pub fn is_step(&self, h: Id) -> bool {
        self.step(h).is_some()
    }

    fn step(&self, h: Id) -> Option<Step> {
        let e = &self.expressions;
        e.product_with(h, |o, squashed| {
            let (output, c) = e.function(squashed)?;
            let o = self.gate(o)?;
            let [a, b] = e.pair(c, Join::Add)?;
            let sum = |kept: Id, new: Id| {
                let is_state = |id: Id| matches!(e.get(id), Expression::State(_));
                let (f, c_before) = e.product_with(kept, |f, state| {
                    self.gate(f).filter(|_| is_state(state)).map(|gate| (gate, state))
                })?;
                let [one, other] = e.pair(new, Join::Mul)?;
                let (one, other) = (self.gate(one)?, self.gate(other)?);
                // The input gate has the function of the other gates; where all are alike Keras' order decides.
                let (i, g) = if one.function == o.function && (other.function != o.function || one.start < other.start)
                {
                    (one, other)
                } else {
                    (other, one)
                };
                let gates = [i, f, g, o];
                let mut starts = gates.map(|gate| gate.start);
                starts.sort_unstable();
                let whole = starts == [0, 1, 2, 3].map(|k| k * i.width);
                let alike = gates.iter().all(|gate| gate.z == i.z && gate.width == i.width);
                let same_function = i.function == f.function && f.function == o.function;
                (whole && alike && same_function).then_some(Step { gates, output, c, c_before })
            };
            sum(a, b).or_else(|| sum(b, a))
        })
    }

    fn gate(&self, id: Id) -> Option<Gate> {
        let (function, part) = self.expressions.function(id)?;
        match *self.expressions.get(part) {
            Expression::Channels { x, start, count } => Some(Gate { function, z: x, start, width: count }),
            _ => None,
        }
    }

    /// The products that `z` is the sum of, and the constant added to them.
    fn summands(&self, z: Id, terms: &mut Vec<(Id, Rc<Array>)>) -> Option<Vec<f64>> {
        match self.expressions.get(z) {
            Expression::Product(x, matrix) => {
                terms.push((*x, matrix.clone()));
                Some(vec![0.0])
            }
            Expression::Affine { x, scale, offset } if *scale == [1.0] => Some(add(&self.summands(*x, terms)?, offset)),
            Expression::Join(Join::Add, inputs) => {
                inputs.iter().try_fold(vec![0.0], |sum, &input| Some(add(&sum, &self.summands(input, terms)?)))
            }
            _ => None,
        }
    }
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    (0..a.len().max(b.len())).map(|i| a[i % a.len()] + b[i % b.len()]).collect()
}

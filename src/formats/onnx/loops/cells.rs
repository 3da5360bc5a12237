//! The cells among what steps compute.

use std::rc::Rc;

use super::algebra::{Algebra, Atom, AtomId, Map, StepMatrix, Sum};
use crate::network::{Activation, Cell};

/// A recurrent layer that computes the same as a loop.
pub struct FoundCell {
    pub cell: Cell,
    /// Index of the input sequence.
    pub input: usize,
    /// Indices of the states that are its h and c.
    pub h: usize,
    pub c: Option<usize>,
    /// In gatefold's order.
    pub gates: Vec<GateMaps>,
    pub activations: Vec<Activation>,
    pub reset_after: bool,
    /// Whether the forget gate is `1 - i`.
    pub coupled: bool,
}

/// `W x + b + U h + b'` before the function.
#[derive(Clone)]
pub struct GateMaps {
    pub input: Map,
    pub recurrent: Map,
    /// `[H]`, or one number.
    pub bias: Vec<f32>,
    pub recurrent_bias: Vec<f32>,
}

/// The functions of a sum and the state that it reads.
struct Search<'a> {
    algebra: &'a Algebra,
    /// The new states; masks are taken out of them.
    new: &'a [Option<Sum>],
    input: Option<usize>,
}

/// The layer whose states become `new` at every step.
pub fn find(algebra: &Algebra, new: &[Option<Sum>]) -> Option<FoundCell> {
    for h in 0..new.len() {
        let mut search = Search { algebra, new, input: None };
        let found = search.lstm(h).or_else(|| search.gru(h)).or_else(|| search.rnn(h));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A map of zeros of a gate that does not read the input.
fn none() -> Map {
    Map::Scale(vec![0.0])
}

impl Search<'_> {
    fn function(&self, atom: AtomId) -> Option<(Activation, &Sum)> {
        match self.algebra.atom(atom) {
            Atom::Function(function, sum) => Some((*function, sum)),
            _ => None,
        }
    }

    fn is_state(&self, atom: AtomId, state: usize) -> bool {
        *self.algebra.atom(atom) == Atom::State(state)
    }

    /// A sum of products of the input and of the state `h` with matrices.
    fn gate(&mut self, sum: &Sum, h: usize) -> Option<GateMaps> {
        let mut gate = GateMaps { input: none(), recurrent: none(), bias: sum.bias.clone(), recurrent_bias: vec![0.0] };
        for term in &sum.terms {
            let &[factor] = &term.factors[..] else { return None };
            let place = match self.algebra.atom(factor) {
                Atom::Input(input) if self.input.is_none_or(|known| known == *input) => {
                    self.input = Some(*input);
                    &mut gate.input
                }
                Atom::State(state) if *state == h => &mut gate.recurrent,
                _ => return None,
            };
            if *place != none() {
                return None;
            }
            *place = term.map.clone();
        }
        Some(gate)
    }

    fn found(&self, cell: Cell, h: usize, gates: Vec<GateMaps>, activations: Vec<Activation>) -> Option<FoundCell> {
        let (reset_after, coupled) = (true, false);
        Some(FoundCell { cell, input: self.input?, h, c: None, gates, activations, reset_after, coupled })
    }

    /// `h' = f(W x + U h + b)`
    fn rnn(&mut self, h: usize) -> Option<FoundCell> {
        let &[atom] = self.new[h].as_ref()?.product()? else { return None };
        let (function, sum) = self.function(atom)?;
        let sum = sum.clone();
        let gate = self.gate(&sum, h)?;
        self.found(Cell::Rnn, h, vec![gate], vec![function])
    }

    /// `h' = o * k(c')`, `c' = f * c + i * g`
    fn lstm(&mut self, h: usize) -> Option<FoundCell> {
        let &[a, b] = self.new[h].as_ref()?.product()? else { return None };
        [(a, b), (b, a)].into_iter().find_map(|(o, squashed)| {
            let (outer, cell) = self.function(squashed)?;
            let c = (0..self.new.len()).find(|&c| c != h && self.new[c].as_ref() == Some(cell))?;
            let cell = cell.clone();
            let (gate_function, _) = self.function(o)?;
            let is_gate = |atom: AtomId| self.function(atom).is_some_and(|(f, _)| f == gate_function);
            let (mut kept, mut added, mut all) = (None, None, false);
            for term in &cell.terms {
                let Map::Scale(scale) = &term.map else { return None };
                let scale = if let [scale] = scale[..] { scale } else { return None };
                match (&term.factors[..], scale) {
                    (&[state], 1.0) if self.is_state(state, c) => all = true,
                    (&[a, b], _) if self.is_state(a, c) || self.is_state(b, c) => {
                        kept = Some((if self.is_state(a, c) { b } else { a }, scale));
                    }
                    (&[a, b], 1.0) => added = Some((a, b)),
                    _ => return None,
                }
            }
            let ((f, sign), (one, other)) = (kept?, added?);
            let count = 2 + usize::from(all);
            if cell.terms.len() != count || cell.bias != [0.0] || !is_gate(f) {
                return None;
            }
            // A forget gate of 1 - i: c - i * c.
            let coupled = match (all, sign) {
                (false, 1.0) => false,
                (true, -1.0) if f == one || f == other => true,
                _ => return None,
            };
            let (i, g) = match (coupled, is_gate(one)) {
                (true, _) => (f, if f == one { other } else { one }),
                (false, true) => (one, other),
                (false, false) => (other, one),
            };
            let (inner, _) = self.function(g)?;
            if !is_gate(i) {
                return None;
            }
            let sums: Vec<Sum> =
                [i, f, g, o].iter().map(|&x| Some(self.function(x)?.1.clone())).collect::<Option<_>>()?;
            let gates = sums.iter().map(|sum| self.gate(sum, h)).collect::<Option<Vec<_>>>()?;
            let found = self.found(Cell::Lstm, h, gates, vec![gate_function, inner, outer])?;
            Some(FoundCell { c: Some(c), coupled, ..found })
        })
    }

    /// `h' = (1 - z) * n + z * h`, multiplied out, or with `1 - z` in the place of z.
    fn gru(&mut self, h: usize) -> Option<FoundCell> {
        let sum = self.new[h].as_ref()?;
        if sum.terms.len() != 3 || sum.bias != [0.0] {
            return None;
        }
        let (mut alone, mut with_state, mut with_other) = (None, None, None);
        for term in &sum.terms {
            let Map::Scale(scale) = &term.map else { return None };
            let &[scale] = &scale[..] else { return None };
            match term.factors[..] {
                [x] if scale == 1.0 => alone = Some(x),
                [a, b] if self.is_state(a, h) => with_state = Some((b, scale)),
                [a, b] if self.is_state(b, h) => with_state = Some((a, scale)),
                [a, b] => with_other = Some((a, b, scale)),
                _ => return None,
            }
        }
        let (alone, (z, kept), (a, b, added)) = (alone?, with_state?, with_other?);
        let n = if a == z {
            b
        } else if b == z {
            a
        } else {
            return None;
        };
        // n + z h - z n, or h - z h + z n.
        let turned = match (kept, added) {
            (1.0, -1.0) if alone == n => false,
            (-1.0, 1.0) if self.is_state(alone, h) => true,
            _ => return None,
        };
        let (gate_function, z_sum) = self.function(z)?;
        let (candidate, n_sum) = self.function(n)?;
        if turned && gate_function != Activation::Sigmoid {
            return None;
        }
        let (z_sum, n_sum) = (z_sum.clone(), n_sum.clone());
        let mut z_gate = self.gate(&z_sum, h)?;
        if turned {
            // 1 - sigmoid(x) = sigmoid(-x)
            z_gate = negated(&z_gate);
        }
        let (r, n_gate, reset_after) = self.candidate(&n_sum, h, gate_function)?;
        let r_sum = self.function(r)?.1.clone();
        let r_gate = self.gate(&r_sum, h)?;
        let found = self.found(Cell::Gru, h, vec![r_gate, z_gate, n_gate], vec![gate_function, candidate])?;
        Some(FoundCell { reset_after, ..found })
    }

    /// `W x + b + r * (U h + b')`, or `W x + b + U (r * h)`: r, the gate and which of them it is.
    fn candidate(&mut self, sum: &Sum, h: usize, gate_function: Activation) -> Option<(AtomId, GateMaps, bool)> {
        let is_gate = |atom: AtomId| self.function(atom).is_some_and(|(f, _)| f == gate_function);
        for (index, term) in sum.terms.iter().enumerate() {
            let mut rest = sum.clone();
            rest.terms.remove(index);
            let wholes =
                |atom: AtomId| if let Atom::Whole(inner) = self.algebra.atom(atom) { Some(inner) } else { None };
            match (&term.factors[..], &term.map) {
                (&[a, b], Map::Scale(scale)) if *scale == [1.0] => {
                    let (r, inner) = if is_gate(a) { (a, wholes(b)?) } else { (b, wholes(a)?) };
                    if !is_gate(r) {
                        return None;
                    }
                    let inner = inner.clone();
                    let mut gate = self.gate(&rest, h)?;
                    let recurrent = self.gate(&inner, h)?;
                    if gate.recurrent != none() || recurrent.input != none() {
                        return None;
                    }
                    (gate.recurrent, gate.recurrent_bias) = (recurrent.recurrent, recurrent.bias);
                    return Some((r, gate, true));
                }
                (&[whole], Map::Matrix(matrix)) if wholes(whole).is_some() => {
                    let &[a, b] = wholes(whole)?.product()? else { return None };
                    let r = if self.is_state(a, h) { b } else { a };
                    if !is_gate(r) || !(self.is_state(a, h) || self.is_state(b, h)) {
                        return None;
                    }
                    let matrix = matrix.clone();
                    let mut gate = self.gate(&rest, h)?;
                    if gate.recurrent != none() {
                        return None;
                    }
                    gate.recurrent = Map::Matrix(matrix);
                    return Some((r, gate, false));
                }
                _ => {}
            }
        }
        None
    }
}

fn negated(gate: &GateMaps) -> GateMaps {
    let numbers = |numbers: &[f32]| numbers.iter().map(|x| -x).collect::<Vec<f32>>();
    let map = |map: &Map| match map {
        Map::Scale(scale) => Map::Scale(numbers(scale)),
        Map::Matrix(m) => Map::Matrix(Rc::new(StepMatrix { rows: m.rows, columns: m.columns, data: numbers(&m.data) })),
    };
    GateMaps {
        input: map(&gate.input),
        recurrent: map(&gate.recurrent),
        bias: numbers(&gate.bias),
        recurrent_bias: numbers(&gate.recurrent_bias),
    }
}

impl FoundCell {
    /// The weights of all gates that read the input (`[G*H, I]`), or the state (`[G*H, H]`).
    pub fn weights(&self, of: impl Fn(&GateMaps) -> &Map, width: usize, hidden: usize) -> Option<Vec<f32>> {
        let mut all = Vec::with_capacity(self.gates.len() * width * hidden);
        for gate in &self.gates {
            let map = of(gate);
            for row in 0..hidden {
                for column in 0..width {
                    all.push(match map {
                        Map::Matrix(m) if (m.rows, m.columns) == (width, hidden) => m.data[column * hidden + row],
                        Map::Scale(scale) if *scale == [0.0] => 0.0,
                        Map::Scale(scale) if width == hidden && row == column => {
                            if scale.len() == 1 {
                                scale[0]
                            } else {
                                scale[row]
                            }
                        }
                        Map::Scale(_) if width == hidden => 0.0,
                        _ => return None,
                    });
                }
            }
        }
        Some(all)
    }

    /// The biases of all gates, `[G*H]`.
    pub fn biases(&self, of: impl Fn(&GateMaps) -> &Vec<f32>, hidden: usize) -> Vec<f32> {
        let spread = |numbers: &Vec<f32>| (0..hidden).map(|i| numbers[i % numbers.len()]).collect::<Vec<f32>>();
        self.gates.iter().flat_map(|gate| spread(of(gate))).collect()
    }
}

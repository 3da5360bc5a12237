//! What one step of a recurrence computes, as sums of products.
//!
//! Every value of a loop's body is a row `[N]` for each batch row: a sum of terms and a constant. A term is a product of
//! atoms (the step's input, a state, a function of a sum), scaled for each channel or multiplied by a matrix. Slices,
//! splits and matrix products act on the terms, products are multiplied out, and equal terms are added. So a cell has one
//! form, whichever way an exporter ordered, split or joined its gates.

use std::rc::Rc;

use crate::network::Activation;

/// The most atoms of a body and terms of a sum. Cells have about ten.
const MOST_ATOMS: usize = 128;
const MOST_TERMS: usize = 32;

/// Index of an atom.
pub type AtomId = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Atom {
    /// A timestep of the sequence with this index.
    Input(usize),
    /// The state with this index.
    State(usize),
    /// Whether the timestep counts: 1 or 0.
    Mask,
    Function(Activation, Sum),
    /// A sum as a factor of a product.
    Whole(Sum),
}

/// `[K, N]`, row after row.
#[derive(Debug, PartialEq)]
pub struct StepMatrix {
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f32>,
}

impl StepMatrix {
    /// Whether every row is one of the unit matrix, or 0.
    fn picks(&self) -> bool {
        let is_unit =
            |row: &[f32]| row.iter().all(|&x| x == 0.0 || x == 1.0) && row.iter().filter(|&&x| x != 0.0).count() <= 1;
        self.data.chunks_exact(self.columns.max(1)).all(is_unit)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Map {
    /// One number, or one for each channel.
    Scale(Vec<f32>),
    Matrix(Rc<StepMatrix>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// In order.
    pub factors: Vec<AtomId>,
    pub map: Map,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// Channels.
    pub width: usize,
    pub terms: Vec<Term>,
    /// One number, or one for each channel.
    pub bias: Vec<f32>,
}

impl Sum {
    pub fn constant(numbers: Vec<f32>) -> Self {
        Self { width: numbers.len(), terms: Vec::new(), bias: short(numbers) }
    }

    pub fn is_zero(&self) -> bool {
        self.terms.is_empty() && self.bias.iter().all(|&x| x == 0.0)
    }

    /// The only term's factors, if the sum is just their product.
    pub fn product(&self) -> Option<&[AtomId]> {
        match &self.terms[..] {
            [Term { factors, map: Map::Scale(scale) }] if *scale == [1.0] && self.bias == [0.0] => Some(factors),
            _ => None,
        }
    }
}

/// Equal numbers as one.
fn short(numbers: Vec<f32>) -> Vec<f32> {
    match numbers[..] {
        [first, ref rest @ ..] if rest.iter().all(|x| x.to_bits() == first.to_bits()) => vec![first],
        _ => numbers,
    }
}

fn at(numbers: &[f32], i: usize) -> f32 {
    if numbers.len() == 1 { numbers[0] } else { numbers[i] }
}

fn each(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    short((0..a.len().max(b.len())).map(|i| f(at(a, i), at(b, i))).collect())
}

/// The atoms of a body. Operations give `None` for what has no such form or grows too large.
pub struct Algebra {
    atoms: Vec<(Atom, usize)>,
    /// Numbers that matrices may still take.
    room: usize,
}

impl Algebra {
    /// For a body whose constants have `numbers` numbers.
    pub fn new(numbers: usize) -> Self {
        Self { atoms: Vec::new(), room: numbers.saturating_mul(64).saturating_add(1 << 16) }
    }

    pub fn atom(&self, id: AtomId) -> &Atom {
        &self.atoms[id].0
    }

    pub fn find(&self, atom: &Atom) -> Option<AtomId> {
        self.atoms.iter().position(|(other, _)| other == atom)
    }

    pub fn width(&self, id: AtomId) -> usize {
        self.atoms[id].1
    }

    pub fn add_atom(&mut self, atom: Atom, width: usize) -> Option<AtomId> {
        if let Some(known) = self.find(&atom) {
            return Some(known);
        }
        self.atoms.push((atom, width));
        (self.atoms.len() <= MOST_ATOMS).then_some(self.atoms.len() - 1)
    }

    /// An atom as a sum.
    pub fn alone(&mut self, atom: Atom, width: usize) -> Option<Sum> {
        let id = self.add_atom(atom, width)?;
        Some(Sum { width, terms: vec![Term { factors: vec![id], map: Map::Scale(vec![1.0]) }], bias: vec![0.0] })
    }

    fn matrix(&mut self, rows: usize, columns: usize, data: Vec<f32>) -> Option<Rc<StepMatrix>> {
        self.room = self.room.checked_sub(data.len())?;
        Some(Rc::new(StepMatrix { rows, columns, data }))
    }

    pub fn add(&mut self, a: &Sum, b: &Sum) -> Option<Sum> {
        let width = a.width.max(b.width);
        for narrow in [a, b].into_iter().filter(|sum| sum.width != width) {
            if narrow.width != 1 || narrow.terms.iter().any(|term| matches!(term.map, Map::Matrix(_))) {
                return None;
            }
        }
        let mut terms = a.terms.clone();
        for term in &b.terms {
            let alike = |other: &Term| {
                other.factors == term.factors && std::mem::discriminant(&other.map) == std::mem::discriminant(&term.map)
            };
            let Some(known) = terms.iter().position(alike) else {
                terms.push(term.clone());
                continue;
            };
            terms[known].map = match (&terms[known].map, &term.map) {
                (Map::Scale(x), Map::Scale(y)) => Map::Scale(each(x, y, |x, y| x + y)),
                (Map::Matrix(x), Map::Matrix(y)) if (x.rows, x.columns) == (y.rows, y.columns) => {
                    let data = x.data.iter().zip(&y.data).map(|(x, y)| x + y).collect();
                    Map::Matrix(self.matrix(x.rows, x.columns, data)?)
                }
                _ => return None,
            };
        }
        terms.retain(|term| !matches!(&term.map, Map::Scale(scale) if scale.iter().all(|&x| x == 0.0)));
        terms.sort_by(|a, b| a.factors.cmp(&b.factors));
        let bias = each(&a.bias, &b.bias, |x, y| x + y);
        (terms.len() <= MOST_TERMS).then_some(Sum { width, terms, bias })
    }

    /// Every channel times its number, or all times one.
    pub fn scaled(&mut self, sum: &Sum, numbers: &[f32]) -> Option<Sum> {
        let width = sum.width.max(numbers.len());
        if (numbers.len() != 1 && sum.width != 1 && numbers.len() != sum.width) || numbers.is_empty() {
            return None;
        }
        if let (&[number], Some(&[atom])) = (numbers, sum.product())
            && let Atom::Function(Activation::Clip { alpha, beta }, inner) = self.atom(atom).clone()
            && number > 0.0
            && number != 1.0
        {
            // A clipped sum times a number is the clipped product, as a hard sigmoid is written.
            let inner = self.scaled(&inner, &[number])?;
            return self.function(Activation::Clip { alpha: alpha * number, beta: beta * number }, &inner);
        }
        let mut terms = Vec::with_capacity(sum.terms.len());
        for term in &sum.terms {
            let map = match &term.map {
                Map::Scale(scale) => Map::Scale(each(scale, numbers, |x, y| x * y)),
                Map::Matrix(matrix) if matrix.columns == width => {
                    let scaled = matrix.data.iter().enumerate().map(|(i, x)| x * at(numbers, i % width)).collect();
                    Map::Matrix(self.matrix(matrix.rows, width, scaled)?)
                }
                Map::Matrix(_) => return None,
            };
            terms.push(Term { factors: term.factors.clone(), map });
        }
        terms.retain(|term| !matches!(&term.map, Map::Scale(scale) if scale.iter().all(|&x| x == 0.0)));
        Some(Sum { width, terms, bias: each(&sum.bias, numbers, |x, y| x * y) })
    }

    /// The product, channel by channel.
    pub fn multiply(&mut self, a: &Sum, b: &Sum) -> Option<Sum> {
        if b.terms.is_empty() {
            return self.scaled_by(a, b);
        }
        if a.terms.is_empty() {
            return self.scaled_by(b, a);
        }
        let (a, b) = (self.elementwise(a)?, self.elementwise(b)?);
        let width = a.width.max(b.width);
        if [&a, &b].iter().any(|sum| sum.width != width && sum.width != 1) {
            return None;
        }
        let mut all = Sum { width, terms: Vec::new(), bias: vec![0.0] };
        for x in &a.terms {
            for y in &b.terms {
                let (Map::Scale(p), Map::Scale(q)) = (&x.map, &y.map) else { return None };
                let mut factors = [&x.factors[..], &y.factors[..]].concat();
                factors.sort_unstable();
                let term = Term { factors, map: Map::Scale(each(p, q, |p, q| p * q)) };
                all = self.add(&all, &Sum { width, terms: vec![term], bias: vec![0.0] })?;
            }
        }
        for (sum, bias) in [(&a, &b.bias), (&b, &a.bias)] {
            let without = Sum { bias: vec![0.0], ..sum.clone() };
            let part = self.scaled(&without, bias)?;
            all = self.add(&all, &Sum { width, ..part })?;
        }
        all.bias = each(&a.bias, &b.bias, |x, y| x * y);
        Some(all)
    }

    fn scaled_by(&mut self, sum: &Sum, constant: &Sum) -> Option<Sum> {
        let width = sum.width.max(constant.width);
        let scaled = self.scaled(sum, &constant.bias)?;
        Some(Sum { width, ..scaled })
    }

    /// `sum` without matrices: as one atom, where it has any.
    fn elementwise(&mut self, sum: &Sum) -> Option<Sum> {
        if sum.terms.iter().all(|term| matches!(term.map, Map::Scale(_))) {
            return Some(sum.clone());
        }
        self.alone(Atom::Whole(sum.clone()), sum.width)
    }

    /// `sum W` with W `[K, N]`.
    pub fn product(&mut self, sum: &Sum, matrix: &Rc<StepMatrix>) -> Option<Sum> {
        let (rows, width) = (matrix.rows, matrix.columns);
        if sum.width != rows {
            return None;
        }
        let mut all = Sum { width, terms: Vec::new(), bias: vec![0.0] };
        for term in &sum.terms {
            let (factors, map) = match (&term.factors[..], &term.map) {
                (&[_], Map::Scale(scale)) => (term.factors.clone(), Map::Matrix(self.scaled_rows(matrix, scale)?)),
                (_, Map::Matrix(own)) if own.picks() => {
                    let data = own.data.chunks_exact(own.columns).flat_map(|row| {
                        let picked = row.iter().position(|&x| x != 0.0);
                        (0..width).map(move |n| picked.map_or(0.0, |k| matrix.data[k * width + n]))
                    });
                    let data = data.collect();
                    (term.factors.clone(), Map::Matrix(self.matrix(own.rows, width, data)?))
                }
                _ => {
                    let alone = Sum { width: rows, terms: vec![term.clone()], bias: vec![0.0] };
                    (vec![self.add_atom(Atom::Whole(alone), rows)?], Map::Matrix(matrix.clone()))
                }
            };
            all = self.add(&all, &Sum { width, terms: vec![Term { factors, map }], bias: vec![0.0] })?;
        }
        if sum.bias.iter().any(|&x| x != 0.0) {
            let column = |n: usize| (0..rows).map(|k| at(&sum.bias, k) * matrix.data[k * width + n]).sum();
            all.bias = short((0..width).map(column).collect());
        }
        Some(all)
    }

    fn scaled_rows(&mut self, matrix: &Rc<StepMatrix>, scale: &[f32]) -> Option<Rc<StepMatrix>> {
        if scale == [1.0] {
            return Some(matrix.clone());
        }
        let data = matrix.data.iter().enumerate().map(|(i, x)| x * at(scale, i / matrix.columns)).collect();
        self.matrix(matrix.rows, matrix.columns, data)
    }

    /// `sum` as some of the channels of a wider one, the others 0.
    pub fn placed(&mut self, sum: &Sum, start: usize, width: usize) -> Option<Sum> {
        let one = |i: usize| f32::from(u8::from(i % width == start + i / width));
        let numbers = sum.width.checked_mul(width).filter(|&numbers| numbers <= self.room)?;
        let matrix = self.matrix(sum.width, width, (0..numbers).map(one).collect())?;
        let mut all = Sum { width, terms: Vec::new(), bias: vec![0.0; width] };
        for term in &sum.terms {
            let alone = Sum { width: sum.width, terms: vec![term.clone()], bias: vec![0.0] };
            let placed = match &term.map {
                Map::Matrix(own) => {
                    let row = |row: &[f32]| {
                        let mut wide = vec![0.0; width];
                        wide[start..start + row.len()].copy_from_slice(row);
                        wide
                    };
                    let data = own.data.chunks_exact(own.columns).flat_map(row).collect();
                    let map = Map::Matrix(self.matrix(own.rows, width, data)?);
                    Sum { width, terms: vec![Term { factors: term.factors.clone(), map }], bias: vec![0.0] }
                }
                Map::Scale(_) => self.product(&alone, &matrix)?,
            };
            all = self.add(&all, &placed)?;
        }
        for i in 0..sum.width {
            if all.bias.len() == 1 {
                all.bias = vec![all.bias[0]; width];
            }
            all.bias[start + i] = at(&sum.bias, i);
        }
        all.bias = short(all.bias);
        Some(all)
    }

    /// Some channels that lie side by side.
    pub fn columns(&mut self, sum: &Sum, start: usize, count: usize) -> Option<Sum> {
        if start.checked_add(count)? > sum.width || count == 0 {
            return None;
        }
        if count == sum.width {
            return Some(sum.clone());
        }
        let part = |numbers: &[f32]| {
            if numbers.len() == 1 { numbers.to_vec() } else { short(numbers[start..start + count].to_vec()) }
        };
        let mut all = Sum { width: count, terms: Vec::new(), bias: part(&sum.bias) };
        for term in &sum.terms {
            let cut = match &term.map {
                Map::Matrix(matrix) => {
                    let data = matrix.data.chunks_exact(matrix.columns).flat_map(|row| &row[start..start + count]);
                    let matrix = self.matrix(matrix.rows, count, data.copied().collect())?;
                    let map = Map::Matrix(matrix);
                    Sum { width: count, terms: vec![Term { factors: term.factors.clone(), map }], bias: vec![0.0] }
                }
                Map::Scale(scale) => {
                    let mut product = Sum::constant(vec![1.0; count]);
                    for &factor in &term.factors {
                        let factor = self.cut_atom(factor, start, count)?;
                        product = self.multiply(&product, &factor)?;
                    }
                    self.scaled(&product, &part(scale))?
                }
            };
            all = self.add(&all, &cut)?;
        }
        Some(all)
    }

    fn cut_atom(&mut self, id: AtomId, start: usize, count: usize) -> Option<Sum> {
        let (atom, width) = self.atoms[id].clone();
        // Functions of functions are gone through again and again.
        self.room = self.room.checked_sub(1)?;
        match atom {
            _ if width == 1 => self.alone(atom, width),
            Atom::Function(function, inner) => {
                let inner = self.columns(&inner, start, count)?;
                self.function(function, &inner)
            }
            Atom::Whole(inner) => self.columns(&inner, start, count),
            _ => {
                let one = |i: usize| f32::from(u8::from(i / count == start + i % count));
                let numbers = width.checked_mul(count).filter(|&numbers| numbers <= self.room)?;
                let matrix = self.matrix(width, count, (0..numbers).map(one).collect())?;
                let alone = self.alone(atom, width)?;
                self.product(&alone, &matrix)
            }
        }
    }

    pub fn function(&mut self, function: Activation, sum: &Sum) -> Option<Sum> {
        let width = sum.width;
        match function {
            Activation::Linear => Some(sum.clone()),
            Activation::Affine { alpha, beta } => {
                let scaled = self.scaled(sum, &[alpha])?;
                self.add(&scaled, &Sum::constant(vec![beta; width]))
            }
            _ if sum.terms.is_empty() => None,
            _ => self.alone(Atom::Function(function, sum.clone()), width),
        }
    }

    /// The factor of `atom` in `sum`, and what is left: `sum = atom * first + second`.
    pub fn apart(&mut self, sum: &Sum, atom: AtomId) -> (Sum, Sum) {
        let (mut with, mut without) =
            (Sum { terms: Vec::new(), bias: vec![0.0], ..sum.clone() }, Sum { terms: Vec::new(), ..sum.clone() });
        for term in &sum.terms {
            match term.factors.iter().position(|&factor| factor == atom) {
                Some(at) => {
                    let mut term = term.clone();
                    term.factors.remove(at);
                    match (term.factors.is_empty(), &term.map) {
                        (true, Map::Scale(scale)) => with.bias = each(&with.bias, scale, |x, y| x + y),
                        _ => with.terms.push(term),
                    }
                }
                None => without.terms.push(term.clone()),
            }
        }
        (with, without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn algebra() -> (Algebra, Sum, Sum) {
        let mut algebra = Algebra::new(64);
        let x = algebra.alone(Atom::Input(0), 2).expect("room");
        let h = algebra.alone(Atom::State(0), 2).expect("room");
        (algebra, x, h)
    }

    #[test]
    fn products_are_multiplied_out_and_what_cancels_goes() {
        let (mut a, x, h) = algebra();
        // x + z (h - x) and (1 - z) x + z h, with z = sigmoid(x).
        let z = a.function(Activation::Sigmoid, &x).expect("a function");
        let minus = a.scaled(&x, &[-1.0]).expect("scaled");
        let difference = a.add(&h, &minus).expect("a sum");
        let first = a.multiply(&z, &difference).and_then(|p| a.add(&x, &p)).expect("a sum");
        let negative = a.scaled(&z, &[-1.0]).expect("scaled");
        let rest = a.add(&Sum::constant(vec![1.0; 2]), &negative).expect("a sum");
        let (left, right) = (a.multiply(&rest, &x).expect("a product"), a.multiply(&z, &h).expect("a product"));
        let second = a.add(&left, &right).expect("a sum");
        assert_eq!(first, second);
        let gone = a.scaled(&second, &[-1.0]).and_then(|negative| a.add(&first, &negative)).expect("a sum");
        assert!(gone.is_zero());
    }

    #[test]
    fn columns_of_a_product_are_products_by_columns() {
        let (mut a, x, _) = algebra();
        let matrix = |data: &[f32], columns: usize| Rc::new(StepMatrix { rows: 2, columns, data: data.to_vec() });
        let whole = a.product(&x, &matrix(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)).expect("a product");
        let part = a.columns(&whole, 1, 2).expect("columns");
        assert_eq!(part, a.product(&x, &matrix(&[2.0, 3.0, 5.0, 6.0], 2)).expect("a product"));
        assert!(a.columns(&whole, 2, 2).is_none());
        assert!(a.columns(&whole, usize::MAX, 2).is_none());
    }

    #[test]
    fn matrices_take_bounded_memory() {
        let mut a = Algebra::new(0);
        let x = a.alone(Atom::Input(0), 256).expect("room");
        let matrix = Rc::new(StepMatrix { rows: 256, columns: 256, data: vec![0.5; 1 << 16] });
        let product = a.product(&x, &matrix).expect("no copy");
        let once = a.scaled(&product, &[2.0]).expect("room for one copy");
        assert!(a.scaled(&once, &[2.0]).is_none());
    }
}

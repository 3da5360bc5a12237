//! Arithmetic on sizes that may be open, and on constants.

use super::array::{Array, Data};
use super::constants::arithmetic;
use super::graph::OnnxNode;
use super::shapes::{constant, dim_to_int};
use super::value::{Dim, Value, product};
use super::walk::Walk;
use crate::base::error::Result;

/// Longer lists are no sizes.
const MOST: usize = 64;

/// Operators on two lists of sizes.
const PAIRS: [&str; 14] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Max",
    "Min",
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "And",
    "Or",
];

/// A list of sizes, or one size.
struct SizeList {
    dims: Vec<Dim>,
    scalar: bool,
}

fn sizes(value: &Value) -> Option<SizeList> {
    match value {
        Value::Dims { dims, scalar } => Some(SizeList { dims: dims.clone(), scalar: *scalar }),
        Value::Constant(array) if array.shape.len() <= 1 && array.len() <= MOST => {
            let whole = |x: f32| (x.fract() == 0.0 && x.abs() < 1e9).then_some(x);
            #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
            let ints: Vec<i64> = match &array.data {
                Data::Ints(ints) => ints.clone(),
                Data::Floats(all) => all.iter().map(|&x| whole(x).map(|x| x as i64)).collect::<Option<_>>()?,
            };
            Some(SizeList { dims: ints.into_iter().map(from_int).collect(), scalar: array.shape.is_empty() })
        }
        _ => None,
    }
}

/// The only size of a value.
pub fn single(value: &Value) -> Option<Dim> {
    match sizes(value)?.dims[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// A whole number without axes.
pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Constant(array) if array.shape.is_empty() => whole(value),
        Value::Dims { scalar: true, .. } => whole(value),
        _ => None,
    }
}

/// The only whole number of a value.
pub fn whole(value: &Value) -> Option<i64> {
    single(value).and_then(dim_to_int)
}

pub fn from_int(n: i64) -> Dim {
    usize::try_from(n).map_or(Dim::Below(n), Dim::Known)
}

impl Walk<'_> {
    /// Arithmetic, comparison or choice among constants and sizes; `None` where other values take part.
    pub fn sizes_operator(&self, node: &OnnxNode) -> Result<Option<Value>> {
        let op = node.op.as_str();
        if op == "Where" {
            return self.sizes_choice(node);
        }
        if !(PAIRS.contains(&op) || matches!(op, "Pow" | "Xor")) || node.inputs.len() != 2 {
            return Ok(None);
        }
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        if let (Value::Constant(a), Value::Constant(b)) = (&a, &b) {
            return Ok(Some(constant(arithmetic(node, a, b)?)));
        }
        if !matches!((&a, &b), (Value::Dims { .. }, _) | (_, Value::Dims { .. })) || !PAIRS.contains(&op) {
            return Ok(None);
        }
        let (Some(a), Some(b)) = (sizes(&a), sizes(&b)) else { return Ok(None) };
        let Some(count) = common(a.dims.len(), b.dims.len()) else {
            return Err(node.malformed("lists of one length", format!("{} and {}", a.dims.len(), b.dims.len())));
        };
        let at = |dims: &[Dim], i: usize| dims[i % dims.len()];
        let dims: Vec<Dim> = (0..count).map(|i| pair(op, at(&a.dims, i), at(&b.dims, i))).collect();
        Ok(Some(of_dims(dims, a.scalar && b.scalar, !matches!(op, "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min"))))
    }

    /// Where with a known condition.
    fn sizes_choice(&self, node: &OnnxNode) -> Result<Option<Value>> {
        let values = [self.value(node, 0)?, self.value(node, 1)?, self.value(node, 2)?];
        let Value::Constant(condition) = &values[0] else { return Ok(None) };
        if let (Value::Constant(a), Value::Constant(b)) = (&values[1], &values[2]) {
            return Ok(Some(constant(Array::chosen(node, condition, a, b)?)));
        }
        let (Some(c), Some(a), Some(b)) = (sizes(&values[0]), sizes(&values[1]), sizes(&values[2])) else {
            return Ok(None);
        };
        let count = common(a.dims.len(), b.dims.len()).and_then(|n| common(n, c.dims.len()));
        let Some(count) = count else { return Err(node.malformed("lists of one length", "others")) };
        let at = |dims: &[Dim], i: usize| dims[i % dims.len()];
        let pick = |i: usize| if at(&c.dims, i) == Dim::Known(0) { at(&b.dims, i) } else { at(&a.dims, i) };
        Ok(Some(of_dims((0..count).map(pick).collect(), a.scalar && b.scalar && c.scalar, false)))
    }
}

fn common(a: usize, b: usize) -> Option<usize> {
    match (a, b) {
        (0, _) | (_, 0) => None,
        (a, 1) => Some(a),
        (1, b) => Some(b),
        (a, b) => (a == b).then_some(a),
    }
}

/// SizeList as a value; truths are constants where all are known.
fn of_dims(dims: Vec<Dim>, scalar: bool, truths: bool) -> Value {
    let known: Option<Vec<i64>> = dims.iter().map(|&dim| dim_to_int(dim)).collect();
    match known {
        Some(ints) if truths => constant(Array::ints(if scalar { vec![] } else { vec![ints.len()] }, ints)),
        _ => Value::Dims { dims, scalar },
    }
}

/// One operator on two sizes. Open sizes are above 0.
fn pair(op: &str, a: Dim, b: Dim) -> Dim {
    let truth = |truth: bool| Dim::Known(usize::from(truth));
    if let (Some(x), Some(y)) = (dim_to_int(a), dim_to_int(b)) {
        let number = match op {
            "Add" => x.checked_add(y),
            "Sub" => x.checked_sub(y),
            "Mul" => x.checked_mul(y),
            "Div" => x.checked_div(y),
            "Mod" => x.checked_rem_euclid(y),
            "Max" => Some(x.max(y)),
            "Min" => Some(x.min(y)),
            "Equal" => Some((x == y).into()),
            "Less" => Some((x < y).into()),
            "LessOrEqual" => Some((x <= y).into()),
            "Greater" => Some((x > y).into()),
            "GreaterOrEqual" => Some((x >= y).into()),
            "And" => Some((x != 0 && y != 0).into()),
            "Or" => Some((x != 0 || y != 0).into()),
            _ => None,
        };
        return number.map_or(Dim::Any, from_int);
    }
    let open = |dim: Dim| matches!(dim, Dim::Steps | Dim::Batch | Dim::Windows(_));
    let same = a == b && a != Dim::Any;
    // A number that an open size is certainly above.
    let low = |dim: Dim| matches!(dim, Dim::Known(0) | Dim::Below(_));
    match op {
        "Add" | "Sub" if b == Dim::Known(0) => a,
        "Add" if a == Dim::Known(0) => b,
        "Sub" if same => Dim::Known(0),
        "Mul" => product(a, b),
        "Div" if b == Dim::Known(1) => a,
        "Div" if same => Dim::Known(1),
        "Max" | "Min" if same => a,
        "Max" if open(a) && (low(b) || b == Dim::Known(1)) => a,
        "Max" if open(b) && (low(a) || a == Dim::Known(1)) => b,
        "Equal" if same => truth(true),
        "Equal" if b == Dim::Known(1) || a == Dim::Known(1) => match (a, b) {
            (Dim::Windows(windows), _) | (_, Dim::Windows(windows)) => Dim::IsOne(windows),
            _ => Dim::Any,
        },
        "Equal" if (low(a) && open(b)) || (open(a) && low(b)) => truth(false),
        "Less" | "LessOrEqual" if low(a) && open(b) => truth(true),
        "Less" | "LessOrEqual" if open(a) && low(b) => truth(false),
        "Greater" | "GreaterOrEqual" if open(a) && low(b) => truth(true),
        "Greater" | "GreaterOrEqual" if low(a) && open(b) => truth(false),
        _ => Dim::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_sizes_are_above_zero_and_equal_to_themselves() {
        let cases = [
            ("Equal", Dim::Steps, Dim::Steps, Dim::Known(1)),
            ("Equal", Dim::Steps, Dim::Batch, Dim::Any),
            ("Equal", Dim::Any, Dim::Any, Dim::Any),
            ("Equal", Dim::Batch, Dim::Below(-1), Dim::Known(0)),
            ("Less", Dim::Known(0), Dim::Steps, Dim::Known(1)),
            ("Less", Dim::Known(1), Dim::Steps, Dim::Any),
            ("Max", Dim::Known(1), Dim::Steps, Dim::Steps),
            ("Mul", Dim::Known(1), Dim::Batch, Dim::Batch),
            ("Mul", Dim::Known(2), Dim::Batch, Dim::Any),
            ("Mul", Dim::Any, Dim::Known(0), Dim::Known(0)),
            ("Equal", Dim::Windows(3), Dim::Known(1), Dim::IsOne(3)),
            ("Equal", Dim::Steps, Dim::Known(1), Dim::Any),
            ("Sub", Dim::Known(2), Dim::Known(3), Dim::Below(-1)),
            ("Div", Dim::Known(2), Dim::Known(0), Dim::Any),
        ];
        for (op, a, b, expected) in cases {
            assert_eq!(pair(op, a, b), expected, "{op} {a} {b}");
        }
    }
}

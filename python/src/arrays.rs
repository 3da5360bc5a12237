//! NumPy arrays as the engine's numbers, and back.

use gatefold::network::{Axis, InputKind, letters};
use gatefold::{Input, NamedInput, Network, Tensor};
use numpy::ndarray::ArrayD;
use numpy::{
    Element, PyArray, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::errors::{raised, type_error, type_name, value_error};

/// An array whose memory Rust reads without a copy.
type Read<'py, T> = PyReadonlyArrayDyn<'py, T>;

/// The array itself if its numbers are `T`, row-major and aligned.
fn as_it_is<'py, T: Element>(value: &Bound<'py, PyAny>) -> Option<Read<'py, T>> {
    let array = value.cast::<PyArrayDyn<T>>().ok()?;
    if !array.is_c_contiguous() || !array.data().is_aligned() {
        return None;
    }
    array.try_readonly().ok()
}

/// `value` as an array of `T`, row-major, by one copy; `kinds` are the letters of the dtypes that may be converted.
fn converted<'py, T: Element>(
    (what, value): (&str, &Bound<'py, PyAny>),
    (kinds, expected): (&[u8], &str),
) -> PyResult<Read<'py, T>> {
    if value.is_instance_of::<PyString>() || value.is_none() {
        return Err(type_error(what, expected, type_name(value)));
    }
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (value,))?;
    let dtype = array.cast::<PyUntypedArray>()?.dtype();
    // An empty list has no dtype of its own.
    let empty = array.cast::<PyUntypedArray>()?.len() == 0;
    // bfloat16 of ml_dtypes is a type that NumPy does not know.
    let known = kinds.contains(&dtype.kind()) || kinds.contains(&b'f') && dtype.to_string() == "bfloat16";
    if !known && !empty {
        return Err(type_error(what, expected, format!("an array of {dtype}")));
    }
    let array = numpy.call_method1("require", (array, numpy::dtype::<T>(value.py()), ["C", "A"]))?;
    array.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|error| value_error(what, "an array to read", error))
}

/// Numbers of any dtype as f32.
pub fn floats<'py>(what: &str, value: &Bound<'py, PyAny>) -> PyResult<Read<'py, f32>> {
    match as_it_is(value) {
        Some(array) => Ok(array),
        None => converted((what, value), (b"fiub", "numbers")),
    }
}

/// The shape and the numbers of [`floats`].
pub fn tensor(what: &str, value: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Vec<f32>)> {
    let array = floats(what, value)?;
    Ok((array.shape().to_vec(), slice(what, &array)?.to_vec()))
}

/// A tensor of a network.
pub fn weights(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let (shape, numbers) = tensor(&format!("tensor `{name}`"), value)?;
    Tensor::new(shape, numbers).map_err(|error| raised(&error))
}

/// Integers of any dtype that are not below 0: their shape and numbers.
pub fn counts<N: TryFrom<i64>>(what: &str, value: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Vec<N>)> {
    if let Some(array) = as_it_is::<i32>(value) {
        let numbers = slice(what, &array)?.iter().map(|&number| count(what, number.into()));
        return Ok((array.shape().to_vec(), numbers.collect::<PyResult<_>>()?));
    }
    let array = match as_it_is::<i64>(value) {
        Some(array) => array,
        None => converted((what, value), (b"iu", "integers"))?,
    };
    let numbers = slice(what, &array)?.iter().map(|&number| count(what, number));
    Ok((array.shape().to_vec(), numbers.collect::<PyResult<_>>()?))
}

fn count<N: TryFrom<i64>>(what: &str, number: i64) -> PyResult<N> {
    N::try_from(number).map_err(|_| value_error(what, "integers from 0", number))
}

/// The numbers of an array that [`as_it_is`] or [`converted`] made.
pub fn slice<'a, T: Element>(what: &str, array: &'a Read<'_, T>) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|error| value_error(what, "a row-major array", error))
}

/// Numbers as an array that owns them.
pub fn array<'py, T: Element>(
    py: Python<'py>,
    shape: &[usize],
    numbers: Vec<T>,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = ArrayD::from_shape_vec(shape, numbers).map_err(|error| value_error("output", "its shape", error))?;
    Ok(PyArray::from_owned_array(py, array))
}

/// The numbers of one input.
enum Numbers<'py> {
    Tokens(Vec<u32>, [usize; 2]),
    Features(Read<'py, f32>, [usize; 3]),
    Rows(Read<'py, f32>, [usize; 2]),
}

impl<'py> Numbers<'py> {
    fn new(network: &Network, number: usize, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let Some(input) = network.inputs().get(number) else { return Err(value_error("input", "fewer", number + 1)) };
        let what = &input.name;
        let axes = network.axes_of_input(number);
        let refused = |of: &str, shape: &[usize]| {
            Err(value_error(what, format!("{of} {}", order(axes, input.width)), format!("{shape:?}")))
        };
        match input.kind {
            InputKind::Tokens => {
                let expected = "token ids";
                let (shape, ids) = counts(what, value)?;
                match shape[..] {
                    [outer, inner] => Ok(Self::Tokens(ids, [outer, inner])),
                    _ => refused(expected, &shape),
                }
            }
            InputKind::Row => {
                let array = floats(what, value)?;
                match *array.shape() {
                    [batch, width] => Ok(Self::Rows(array, [batch, width])),
                    ref shape => refused("numbers", shape),
                }
            }
            _ => {
                let array = floats(what, value)?;
                match *array.shape() {
                    [outer, inner, width] => Ok(Self::Features(array, [outer, inner, width])),
                    ref shape => refused("numbers", shape),
                }
            }
        }
    }

    /// The first two dimensions.
    fn outer(&self) -> [usize; 2] {
        match *self {
            Self::Tokens(_, shape) | Self::Rows(_, shape) | Self::Features(_, [shape @ .., _]) => shape,
        }
    }
}

/// `[B, T, 40]`: axes with the number of features.
fn order(axes: &[Axis], width: usize) -> String {
    letters(axes).replace('N', &width.to_string())
}

/// An input of a run, with all that it borrows from Python.
pub struct Given<'py> {
    first: Numbers<'py>,
    others: Vec<(String, Numbers<'py>, Option<Vec<usize>>)>,
    lengths: Option<Vec<usize>>,
    mask: Option<Read<'py, bool>>,
}

impl<'py> Given<'py> {
    /// `value` is an array, or for a network of several inputs a dict of arrays; so are `lengths`.
    pub fn new(
        network: &Network,
        value: &Bound<'py, PyAny>,
        lengths: Option<&Bound<'py, PyAny>>,
        mask: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let lengths_of = |name: &str, first: bool| -> PyResult<Option<Vec<usize>>> {
            let Some(lengths) = lengths else { return Ok(None) };
            let lengths = match lengths.cast::<PyDict>() {
                Ok(all) => all.get_item(name)?,
                Err(_) => first.then(|| lengths.clone()),
            };
            lengths.map(|lengths| vector("lengths", &lengths)).transpose()
        };
        let inputs = network.inputs();
        let names = || inputs.iter().map(|input| &input.name[..]).collect::<Vec<_>>().join(", ");
        let (mut first, mut others) = (None, Vec::new());
        if let Ok(all) = value.cast::<PyDict>() {
            for name in all.keys() {
                let name: String = name.extract().map_err(|_| type_error("inputs", "names", type_name(&name)))?;
                if !inputs.iter().any(|input| input.name == name) {
                    return Err(value_error("inputs", names(), name));
                }
            }
            for (number, input) in inputs.iter().enumerate() {
                let Some(value) = all.get_item(&input.name)? else {
                    return Err(value_error("inputs", names(), format!("none of the name {}", input.name)));
                };
                let numbers = Numbers::new(network, number, &value)?;
                match number {
                    0 => first = Some(numbers),
                    _ => others.push((input.name.clone(), numbers, lengths_of(&input.name, false)?)),
                }
            }
        } else if inputs.len() > 1 {
            return Err(type_error("inputs", format!("a dict of {}", names()), type_name(value)));
        }
        let first = match first {
            Some(first) => first,
            None => Numbers::new(network, 0, value)?,
        };
        let lengths = lengths_of(&inputs[0].name, true)?;
        let mask = mask.map(|mask| mask_of(mask, first.outer())).transpose()?;
        Ok(Self { first, others, lengths, mask })
    }

    /// What the engine takes; `run` is called with it.
    pub fn with<T>(&self, run: impl FnOnce(Input<'_>) -> PyResult<T>) -> PyResult<T> {
        let mut others = Vec::with_capacity(self.others.len());
        for (name, numbers, lengths) in &self.others {
            let name = &name[..];
            let input = match numbers {
                Numbers::Tokens(ids, shape) => NamedInput::tokens(name, &ids[..], *shape),
                Numbers::Features(array, shape) => NamedInput::features(name, slice(name, array)?, *shape),
                Numbers::Rows(array, shape) => NamedInput::rows(name, slice(name, array)?, *shape),
            };
            others.push(match lengths {
                Some(lengths) => input.with_lengths(&lengths[..]),
                None => input,
            });
        }
        let mut input = match &self.first {
            Numbers::Tokens(ids, shape) => Input::tokens(ids, *shape),
            Numbers::Features(array, shape) => Input::features(slice("input", array)?, *shape),
            Numbers::Rows(array, shape) => Input::rows(slice("input", array)?, *shape),
        };
        if let Some(lengths) = &self.lengths {
            input = input.with_lengths(lengths);
        }
        if let Some(mask) = &self.mask {
            input = input.with_mask(slice("mask", mask)?);
        }
        run(input.with_others(&others))
    }
}

/// Integers from 0 in one dimension.
pub fn vector<N: TryFrom<i64>>(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<N>> {
    let (shape, numbers) = counts(what, value)?;
    if shape.len() != 1 {
        return Err(value_error(what, "one dimension", format!("{shape:?}")));
    }
    Ok(numbers)
}

/// A list of texts; a text alone, which is a sequence of characters to Python, is refused.
pub fn strings(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let expected = "a list of texts";
    if value.is_instance_of::<PyString>() {
        return Err(type_error(what, expected, "one text"));
    }
    let all = value.try_iter().map_err(|_| type_error(what, expected, type_name(value)))?;
    let text = |one: PyResult<Bound<'_, PyAny>>| -> PyResult<String> {
        let one = one?;
        one.extract().map_err(|_| type_error(what, expected, format!("{} in it", type_name(&one))))
    };
    all.map(text).collect()
}

fn mask_of<'py>(value: &Bound<'py, PyAny>, expected: [usize; 2]) -> PyResult<Read<'py, bool>> {
    let mask = match as_it_is(value) {
        Some(mask) => mask,
        None => converted(("mask", value), (b"b", "booleans"))?,
    };
    if *mask.shape() != expected {
        return Err(value_error("mask", format!("{expected:?}"), format!("{:?}", mask.shape())));
    }
    Ok(mask)
}

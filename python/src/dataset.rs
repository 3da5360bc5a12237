//! Examples in memory.

use gatefold::train::{Answers, Dataset as Engine};
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use crate::arrays::{floats, slice, vector};
use crate::errors::{locked, value_error};

/// Sequences with their answers.
#[pyclass(frozen, module = "gatefold_rnn")]
pub struct Dataset {
    pub inner: Engine,
}

fn rows<T>(all: &[Bound<'_, PyAny>], one: impl FnMut(&Bound<'_, PyAny>) -> PyResult<T>) -> PyResult<Vec<T>> {
    all.iter().map(one).collect()
}

/// The numbers of an array, and its last dimension.
fn numbers(what: &str, value: &Bound<'_, PyAny>) -> PyResult<(Vec<f32>, usize)> {
    let array = floats(what, value)?;
    Ok((slice(what, &array)?.to_vec(), array.shape().last().copied().unwrap_or(1)))
}

#[pymethods]
impl Dataset {
    /// `sequences` are arrays of token ids `[T]` or of numbers `[T, I]`; `answers` are, as `kind` says, `classes` (an array `[N]`),
    /// `step_classes` (arrays `[T]`), `labels` (arrays of any length, for CTC) or `values` (arrays of numbers).
    #[new]
    fn new(tokens: bool, sequences: Vec<Bound<'_, PyAny>>, kind: &str, answers: &Bound<'_, PyAny>) -> PyResult<Self> {
        let list = || answers.extract::<Vec<Bound<'_, PyAny>>>();
        let answers = match kind {
            "classes" => Answers::Classes(vector("y", answers)?),
            "step_classes" => Answers::StepClasses(rows(&list()?, |one| vector("y", one))?),
            "labels" => Answers::Labels(rows(&list()?, |one| vector("y", one))?),
            "values" => Answers::Values(rows(&list()?, |one| Ok(numbers("y", one)?.0))?),
            other => return Err(value_error("kind", "classes, step_classes, labels, values", other)),
        };
        if tokens {
            let sequences = rows(&sequences, |one| vector("x", one))?;
            return Ok(Self { inner: locked(|| Engine::tokens(sequences, answers))? });
        }
        let mut width = None;
        let sequences = rows(&sequences, |one| {
            let array = floats("x", one)?;
            match *array.shape() {
                [_, own] if own == *width.get_or_insert(own) => Ok(slice("x", &array)?.to_vec()),
                ref shape => {
                    let width = width.map_or("I".to_owned(), |width| width.to_string());
                    Err(value_error("x", format!("sequences [T, {width}]"), format!("{shape:?}")))
                }
            }
        });
        let sequences = sequences?;
        Ok(Self { inner: locked(|| Engine::features(sequences, width.unwrap_or(1), answers))? })
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }
}

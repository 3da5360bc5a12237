//! Columns of sequences in, an answer for each row out.

use std::path::PathBuf;

use gatefold::network::InputKind;
use gatefold::{Error, ScoreInput, Scorer, TextVectorizer};
use numpy::{PyArrayDyn, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::arrays::{array, floats, slice, strings, vector};
use crate::device::open;
use crate::errors::{locked, unlocked, value_error};

/// Classes or none, the numbers of all answers, and for each answer the index behind its last number.
type Answers<'py> = (Option<Bound<'py, PyArrayDyn<i64>>>, Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArrayDyn<i64>>);

/// A network that answers sequences of any lengths, which lie one after the other in one array.
#[pyclass(frozen, module = "gatefold_rnn._native")]
pub struct SequenceScorer {
    inner: Scorer,
    vectorizer: Option<TextVectorizer>,
}

impl SequenceScorer {
    fn answer<'py>(&self, py: Python<'py>, sequences: ScoreInput<'_>) -> PyResult<Answers<'py>> {
        let labelled = !self.inner.labels().is_empty();
        let (classes, numbers, ends) = unlocked(py, || {
            let scores = self.inner.score(sequences, |_| {})?;
            if !labelled {
                return Ok((Vec::new(), scores.values, scores.ends));
            }
            let (mut classes, mut numbers, mut ends, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
            for end in scores.ends {
                let (class, probabilities) = self.inner.classed(&scores.values[start..end]);
                classes.push(whole(class));
                numbers.extend(probabilities);
                ends.push(numbers.len());
                start = end;
            }
            Ok((classes, numbers, ends))
        })?;
        let ends: Vec<i64> = ends.into_iter().map(whole).collect();
        let classes = if labelled { Some(array(py, &[classes.len()], classes)?) } else { None };
        Ok((classes, array(py, &[numbers.len()], numbers)?, array(py, &[ends.len()], ends)?))
    }
}

/// Counts of what is in memory are below 2^63.
fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The indices behind each sequence, from the offsets of a column of `length` values.
fn ends(offsets: &Bound<'_, PyAny>, length: usize) -> PyResult<Vec<usize>> {
    let offsets: Vec<usize> = vector("offsets", offsets)?;
    if offsets.first() != Some(&0) || offsets.last() != Some(&length) || !offsets.is_sorted() {
        return Err(value_error("offsets", format!("indices in order from 0 to {length}"), "others"));
    }
    Ok(offsets[1..].to_vec())
}

#[pymethods]
impl SequenceScorer {
    /// `labels` name the classes of a network that has no names for them.
    #[new]
    #[pyo3(signature = (path, labels=None, device="cpu", threads=None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        labels: Option<&Bound<'_, PyAny>>,
        device: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let labels = labels.map(|labels| strings("labels", labels)).transpose()?;
        let opened = open(py, device, threads)?;
        unlocked(py, || {
            let network = gatefold::Network::load(&path)?;
            let vectorizer = network.spec().text.as_ref().map(TextVectorizer::new).transpose()?;
            let inner = match &labels {
                Some(labels) => Scorer::with_labels(&opened, &network, labels)?,
                None => Scorer::new(&opened, &network)?,
            };
            Ok(Self { inner, vectorizer })
        })
    }

    /// Texts in UTF-8, `data[offsets[i]:offsets[i + 1]]` each.
    fn texts<'py>(
        &self,
        py: Python<'py>,
        data: PyReadonlyArrayDyn<'py, u8>,
        offsets: &Bound<'py, PyAny>,
    ) -> PyResult<Answers<'py>> {
        let Some(vectorizer) = &self.vectorizer else {
            return Err(value_error(
                "kind",
                "\"tokens\" or \"features\", since the model has no vocabulary",
                "\"text\"",
            ));
        };
        let data = slice("data", &data)?;
        let ends = ends(offsets, data.len())?;
        let (ids, ends) = locked(|| {
            let (mut ids, mut all, mut start) = (Vec::new(), Vec::with_capacity(ends.len()), 0);
            for (row, end) in ends.into_iter().enumerate() {
                let text = String::from_utf8_lossy(&data[start..end]);
                let found = vectorizer.encode(&text);
                if found.is_empty() {
                    return Err(Error::EmptyText { index: row + 1, got: format!("{text:?}") });
                }
                ids.extend(found);
                all.push(ids.len());
                start = end;
            }
            Ok((ids, all))
        })?;
        self.answer(py, ScoreInput::tokens(&ids, &ends))
    }

    /// Token ids, `ids[offsets[i]:offsets[i + 1]]` each.
    fn tokens<'py>(&self, ids: &Bound<'py, PyAny>, offsets: &Bound<'py, PyAny>) -> PyResult<Answers<'py>> {
        let numbers: Vec<u32> = vector("token ids", ids)?;
        let ends = ends(offsets, numbers.len())?;
        self.answer(ids.py(), ScoreInput::tokens(&numbers, &ends))
    }

    /// Vectors `[T, I]`, `values[offsets[i]:offsets[i + 1]]` each.
    fn features<'py>(&self, values: &Bound<'py, PyAny>, offsets: &Bound<'py, PyAny>) -> PyResult<Answers<'py>> {
        let numbers = floats("features", values)?;
        let numbers = slice("features", &numbers)?;
        let ends = ends(offsets, numbers.len())?;
        self.answer(values.py(), ScoreInput::features(numbers, &ends))
    }

    /// The class names; empty where answers are numbers.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.inner.labels().to_vec()
    }

    /// I, the width of a vector; 0 for token ids.
    #[getter]
    fn width(&self) -> usize {
        let network = self.inner.session().network();
        if network.num_embeddings().is_some() { 0 } else { network.input_size() }
    }

    /// Whether a row is one vector, without timesteps.
    #[getter]
    fn reads_rows(&self) -> bool {
        self.inner.session().network().inputs().first().is_some_and(|input| input.kind == InputKind::Row)
    }

    /// N, numbers of an answer, or of each of its timesteps.
    #[getter]
    fn output_size(&self) -> usize {
        self.inner.session().network().output_size()
    }

    /// Whether an answer has a time axis.
    #[getter]
    fn output_is_sequence(&self) -> bool {
        self.inner.session().network().output_is_sequence()
    }
}

//! Texts in, labels out.

use std::path::PathBuf;

use gatefold::{Classifier as Engine, Network as EngineNetwork, Prediction};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{array, strings};
use crate::errors::{type_error, type_name, unlocked};
use crate::network::Network;

/// A network with a vocabulary and labels, with scikit-learn's names.
#[pyclass(frozen, module = "gatefold_rnn")]
pub struct Classifier {
    inner: Engine,
    network: Py<Network>,
}

impl Classifier {
    fn answers(&self, texts: &Bound<'_, PyAny>) -> PyResult<Vec<Prediction>> {
        let list = strings("texts", texts)?;
        unlocked(texts.py(), || self.inner.classify(&list))
    }
}

#[pymethods]
impl Classifier {
    /// `source` is a `Network` or the path of a file; `labels` name the classes of a network that has no names for them.
    #[new]
    #[pyo3(signature = (source, labels=None, device="auto", threads=None))]
    fn new(
        source: &Bound<'_, PyAny>,
        labels: Option<&Bound<'_, PyAny>>,
        device: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let py = source.py();
        let network = if let Ok(network) = source.cast::<Network>() {
            network.clone()
        } else {
            let Ok(path) = source.extract::<PathBuf>() else {
                return Err(type_error("source", "a Network or a path", type_name(source)));
            };
            let network = unlocked(py, || EngineNetwork::load(&path))?;
            Bound::new(py, Network::on_device(py, &network, device, threads)?)?
        };
        let labels = labels.map(|labels| strings("labels", labels)).transpose()?;
        let session = network.get().loaded.session.clone();
        let inner = unlocked(py, || match &labels {
            Some(labels) => Engine::with_labels(session.device(), session.network(), labels),
            None => Engine::new(session.device(), session.network()),
        })?;
        Ok(Self { inner, network: network.unbind() })
    }

    /// The label of each text, an array `[N]`.
    fn predict<'py>(&self, texts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let labels: Vec<String> = self.answers(texts)?.into_iter().map(|answer| answer.label).collect();
        labels_array(texts.py(), labels)
    }

    /// The probability of each label for each text, an array `[N, C]`.
    fn predict_proba<'py>(&self, texts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let answers = self.answers(texts)?;
        let numbers: Vec<f32> = answers.iter().flat_map(|answer| &answer.probabilities).copied().collect();
        array(texts.py(), &[answers.len(), self.inner.labels().len()], numbers)
    }

    /// The token ids that the network reads for a text.
    fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode(text)
    }

    /// The labels, in the order of `predict_proba`.
    #[getter]
    fn classes_<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        labels_array(py, self.inner.labels().to_vec())
    }

    /// The network.
    #[getter]
    fn network(&self, py: Python<'_>) -> Py<Network> {
        self.network.clone_ref(py)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (py.get_type::<Self>(), (&self.network, self.inner.labels().to_vec())).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        format!("<Classifier {}, {}>", self.inner.labels().join(", "), self.inner.session().device().info())
    }
}

/// An array of strings, as scikit-learn has its classes.
fn labels_array(py: Python<'_>, labels: Vec<String>) -> PyResult<Bound<'_, PyAny>> {
    let numpy = py.import("numpy")?;
    numpy.call_method1("array", (labels, numpy.getattr("str_")?))
}

//! Networks on a device.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gatefold::network::{Init, InputKind, letters};
use gatefold::{Network as Engine, NetworkSpec, Output, Session, TextVectorizer, WeightFormat};
use numpy::PyArrayDyn;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::arrays::{Given, array, strings, tensor, weights};
use crate::device::open;
use crate::errors::{locked, type_error, type_name, unlocked, value_error};
use crate::state::{GivenState, Loaded, State};

/// A network whose weights are on a device. Calls of several threads run at the same time on the CPU.
#[pyclass(frozen, module = "gatefold_rnn")]
pub struct Network {
    pub loaded: Arc<Loaded>,
    /// As the caller named it.
    pub device: String,
    pub threads: Option<usize>,
}

impl Network {
    pub fn on_device(py: Python<'_>, network: &Engine, device: &str, threads: Option<usize>) -> PyResult<Self> {
        let opened = open(py, device, threads)?;
        let session = unlocked(py, || Session::new(&opened, network))?;
        Ok(Self { loaded: Loaded::new(session), device: device.to_owned(), threads })
    }

    pub fn engine(&self) -> &Engine {
        self.loaded.session.network()
    }

    /// `x` with the axes of the file in the order of [`Engine::input_axes`].
    fn in_network_axes<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let engine = self.engine();
        let (given, numbers) = tensor("x", x)?;
        let Some((shape, numbers)) = engine.input_from_file(&numbers, &given) else {
            let axes = engine.file_axes().map_or("a network of a file that states its axes".into(), |file| {
                format!("{} as in the file", letters(&file.input.axes))
            });
            return Err(value_error("x", axes, format!("{given:?}")));
        };
        if engine.num_embeddings().is_some() {
            #[expect(clippy::cast_possible_truncation, reason = "a token id, below 2^24")]
            let ids: Vec<i64> = numbers.into_iter().map(|id| id as i64).collect();
            return Ok(array(x.py(), &shape, ids)?.into_any());
        }
        Ok(array(x.py(), &shape, numbers)?.into_any())
    }

    /// The output with the axes of the file.
    fn in_file_axes(&self, mut output: Output) -> PyResult<Output> {
        let engine = self.engine();
        let unknown = || value_error("file_order", "a network of a file that states its axes", "another");
        for other in &mut output.others {
            (other.shape, other.values) = other.in_file_axes(engine).ok_or_else(unknown)?;
        }
        (output.shape, output.values) = output.in_file_axes(engine).ok_or_else(unknown)?;
        Ok(output)
    }

    fn forward<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        state: Option<&Bound<'py, PyAny>>,
        lengths: Option<&Bound<'py, PyAny>>,
        mask: Option<&Bound<'py, PyAny>>,
        file_order: bool,
    ) -> PyResult<Output> {
        if file_order {
            let x = self.in_network_axes(x)?;
            return self.in_file_axes(self.forward(&x, state, lengths, mask, false)?);
        }
        let state = state.map(|state| GivenState::new(&self.loaded, state)).transpose()?;
        let given = Given::new(self.engine(), x, lengths, mask)?;
        let (session, state) = (&self.loaded.session, state.as_ref().map(GivenState::get));
        given.with(|input| unlocked(x.py(), || session.run(input, state)))
    }

    /// The output as an array, or a dict of them where there are several.
    fn answer<'py>(&self, py: Python<'py>, output: Output) -> PyResult<Bound<'py, PyAny>> {
        let last = array(py, &output.shape, output.values)?.into_any();
        if output.others.is_empty() {
            return Ok(last);
        }
        let all = PyDict::new(py);
        all.set_item(self.last_name(), last)?;
        for other in output.others {
            all.set_item(other.name, array(py, &other.shape, other.values)?)?;
        }
        Ok(all.into_any())
    }

    /// The name of the last layer's output among several.
    fn last_name(&self) -> &str {
        let layers = &self.engine().spec().layers;
        let name = layers.iter().rev().map(|layer| layer.name()).find(|name| !name.is_empty()).unwrap_or("output");
        if self.engine().outputs().iter().any(|other| other.name == name) { "output" } else { name }
    }
}

#[pymethods]
impl Network {
    /// The output for `x`, from the network's initial state.
    ///
    /// With `file_order` the axes of `x` and of the output are those of the ONNX file, as ONNX Runtime has them.
    #[pyo3(signature = (x, *, lengths=None, mask=None, file_order=false))]
    fn __call__<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        lengths: Option<&Bound<'py, PyAny>>,
        mask: Option<&Bound<'py, PyAny>>,
        file_order: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.answer(x.py(), self.forward(x, None, lengths, mask, file_order)?)
    }

    /// The output for `x` from `state`, and the state behind it.
    #[pyo3(signature = (x, state=None, *, lengths=None, mask=None, file_order=false))]
    fn run<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        state: Option<&Bound<'py, PyAny>>,
        lengths: Option<&Bound<'py, PyAny>>,
        mask: Option<&Bound<'py, PyAny>>,
        file_order: bool,
    ) -> PyResult<(Bound<'py, PyAny>, State)> {
        let mut output = self.forward(x, state, lengths, mask, file_order)?;
        let state = State::of(&self.loaded, std::mem::take(&mut output.state));
        Ok((self.answer(x.py(), output)?, state))
    }

    /// The state that a run without one starts from, for `batch` rows.
    #[pyo3(signature = (batch=1))]
    fn initial_state(&self, batch: usize) -> PyResult<State> {
        Ok(State::of(&self.loaded, locked(|| gatefold::State::initial(self.engine(), batch))?))
    }

    /// The same network on another device, or with its weights stored in another format (`f32`, `f16`, `int8`).
    #[pyo3(signature = (device=None, threads=None, weights=None))]
    fn on(
        &self,
        py: Python<'_>,
        device: Option<&str>,
        threads: Option<usize>,
        weights: Option<&str>,
    ) -> PyResult<Self> {
        let device = device.unwrap_or(&self.device);
        match weights {
            Some(format) => Self::on_device(py, &rounded(py, self.engine(), format)?, device, threads),
            None => Self::on_device(py, self.engine(), device, threads),
        }
    }

    /// Writes the network as a safetensors file, which is whole or not there.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        unlocked(py, || self.engine().save(&path))
    }

    /// The bytes of the file that `save` writes.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &unlocked(py, || self.engine().to_bytes())?))
    }

    /// Copies of all weights by name.
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (name, tensor) in self.engine().tensors() {
            all.set_item(name, array(py, tensor.shape(), tensor.data().to_vec())?)?;
        }
        Ok(all)
    }

    /// The layers with their options, as a file has them.
    #[getter]
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json(py, &self.engine().spec().layers)
    }

    /// Names of the classes.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.engine().spec().labels.clone()
    }

    /// The tokens of the ids, for a network that reads texts.
    #[getter]
    fn vocabulary(&self) -> Option<Vec<String>> {
        self.engine().spec().text.as_ref().map(|text| text.vocabulary.clone())
    }

    /// What it reads: dicts of name, kind (`tokens`, `sequence`, `row`), axes and width.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (number, input) in self.engine().inputs().iter().enumerate() {
            let one = PyDict::new(py);
            one.set_item("name", &input.name)?;
            one.set_item(
                "kind",
                match input.kind {
                    InputKind::Tokens => "tokens",
                    InputKind::Row => "row",
                    _ => "sequence",
                },
            )?;
            one.set_item("axes", letters(self.engine().axes_of_input(number)))?;
            one.set_item("width", input.width)?;
            one.set_item("num_embeddings", input.num_embeddings)?;
            list.append(one)?;
        }
        Ok(list)
    }

    /// The axes of the first input and of the last output in the ONNX file, for `file_order`; `None` where none are stated.
    #[getter]
    fn file_axes(&self) -> Option<(String, String)> {
        let file = self.engine().file_axes()?;
        Some((letters(&file.input.axes), letters(&file.output.axes)))
    }

    /// Names of its outputs, that of the last layer first.
    #[getter]
    fn outputs(&self) -> Vec<String> {
        let others = self.engine().outputs().iter().map(|other| other.name.clone());
        std::iter::once(self.last_name().to_owned()).chain(others).collect()
    }

    /// N, width of the last layer's output.
    #[getter]
    fn output_size(&self) -> usize {
        self.engine().output_size()
    }

    /// Whether the last layer's output has a time axis.
    #[getter]
    fn output_is_sequence(&self) -> bool {
        self.engine().output_is_sequence()
    }

    /// Whether arrays are `[B, T, …]` instead of `[T, B, …]`.
    #[getter]
    fn batch_first(&self) -> bool {
        self.engine().batch_first()
    }

    /// Number of weights.
    #[getter]
    fn parameters(&self) -> usize {
        self.engine().parameters()
    }

    /// The token ids of each text, by the network's vocabulary.
    fn encode<'py>(&self, texts: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyArrayDyn<u32>>>> {
        let Some(spec) = &self.engine().spec().text else {
            return Err(value_error("network", "one with a vocabulary", "one without"));
        };
        let vectorizer = locked(|| TextVectorizer::new(spec))?;
        let ids = strings("texts", texts)?.into_iter().map(|text| vectorizer.encode(&text));
        ids.map(|ids| array(texts.py(), &[ids.len()], ids)).collect()
    }

    /// The device that it runs on.
    #[getter]
    fn device(&self) -> String {
        self.loaded.session.device().info().to_string()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let load = py.import("gatefold_rnn")?.getattr("load")?;
        (load, (self.to_bytes(py)?, "network", &self.device, self.threads)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let network = self.engine();
        let inputs = network
            .inputs()
            .iter()
            .enumerate()
            .map(|(number, input)| format!("{} {}", input.name, letters(network.axes_of_input(number))));
        let inputs = inputs.collect::<Vec<_>>().join(", ");
        let output = letters(network.output_axes());
        format!(
            "<Network {inputs} → {output}, N {}, {} weights, {}>",
            network.output_size(),
            network.parameters(),
            self.device()
        )
    }
}

/// Anything as Python's objects, by way of JSON.
pub fn json<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

fn rounded(py: Python<'_>, network: &Engine, format: &str) -> PyResult<Engine> {
    unlocked(py, || network.with_weights(format.parse::<WeightFormat>()?))
}

/// Reads a network: a safetensors, `.keras`, `.h5` or `.onnx` file by its path, or its bytes.
#[pyfunction]
#[pyo3(signature = (source, name=None, device="auto", threads=None, weights=None))]
pub fn load(
    source: &Bound<'_, PyAny>,
    name: Option<&str>,
    device: &str,
    threads: Option<usize>,
    weights: Option<&str>,
) -> PyResult<Network> {
    let py = source.py();
    let network = if let Ok(bytes) = source.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        unlocked(py, || Engine::from_bytes(name.unwrap_or("bytes"), bytes))?
    } else if let Ok(bytes) = source.extract::<Vec<u8>>() {
        // A bytearray or a memoryview may change while it is read, so it is copied.
        unlocked(py, || Engine::from_bytes(name.unwrap_or("bytes"), &bytes))?
    } else {
        let path: PathBuf = source.extract().map_err(|_| type_error("source", "a path or bytes", type_name(source)))?;
        unlocked(py, || Engine::load(&path))?
    };
    match weights {
        Some(format) => Network::on_device(py, &rounded(py, &network, format)?, device, threads),
        None => Network::on_device(py, &network, device, threads),
    }
}

/// A network of a description in JSON, with these weights, or initialized by `init` (`pytorch`, `keras`).
#[pyfunction]
#[pyo3(signature = (spec, tensors=None, init="pytorch", seed=0, device="auto", threads=None))]
pub fn build(
    py: Python<'_>,
    spec: &str,
    tensors: Option<&Bound<'_, PyDict>>,
    init: &str,
    seed: u64,
    device: &str,
    threads: Option<usize>,
) -> PyResult<Network> {
    let spec: NetworkSpec =
        serde_json::from_str(spec).map_err(|error| PyValueError::new_err(format!("layers: {error}")))?;
    let network = match tensors {
        Some(given) => {
            let mut tensors = BTreeMap::new();
            for (name, value) in given {
                let name: String = name.extract()?;
                let tensor = weights(&name, &value)?;
                tensors.insert(name, tensor);
            }
            unlocked(py, || Engine::new(spec, tensors))?
        }
        None => {
            let init = match init {
                "pytorch" => Init::PyTorch,
                "keras" => Init::Keras,
                other => return Err(value_error("init", "pytorch, keras", other)),
            };
            unlocked(py, || Engine::initialized(spec, init, seed))?
        }
    };
    Network::on_device(py, &network, device, threads)
}

/// The vocabulary of texts in JSON: their commonest words, at most `size` with the two reserved ones.
#[pyfunction]
pub fn vocabulary<'py>(texts: &Bound<'py, PyAny>, size: usize) -> PyResult<Bound<'py, PyAny>> {
    let list = strings("texts", texts)?;
    json(texts.py(), &locked(|| TextVectorizer::vocabulary(list.iter().map(|text| &text[..]), size))?)
}

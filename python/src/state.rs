//! States between runs.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use gatefold::{LayerState, Session, StatePart};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arrays::{array, tensor};
use crate::errors::{locked, type_error, type_name, value_error};

/// A network on a device, which a network, its states and its pools share.
pub struct Loaded {
    pub session: Arc<Session>,
    /// Hash of its layers and weights, taken when it is first asked for.
    fingerprint: OnceLock<u64>,
}

impl Loaded {
    pub fn new(session: Session) -> Arc<Self> {
        Arc::new(Self { session: Arc::new(session), fingerprint: OnceLock::new() })
    }

    pub fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| self.session.network().fingerprint())
    }
}

/// What a state belongs to.
enum Origin {
    /// Made from arrays.
    Arrays,
    Network(Arc<Loaded>),
    /// Unpickled.
    Fingerprint(u64),
}

/// What a network keeps from one call to the next: of every layer its parts, such as `h` and `c`, each `[L*D, B, H]`.
#[pyclass(frozen, module = "gatefold_rnn")]
pub struct State {
    pub inner: gatefold::State,
    origin: Origin,
}

impl State {
    pub fn of(loaded: &Arc<Loaded>, inner: gatefold::State) -> Self {
        Self { inner, origin: Origin::Network(loaded.clone()) }
    }

    /// An error if the state is another network's.
    fn check(&self, loaded: &Arc<Loaded>) -> PyResult<()> {
        let own = match &self.origin {
            Origin::Arrays => return Ok(()),
            Origin::Network(of) if Arc::ptr_eq(of, loaded) => return Ok(()),
            Origin::Network(of) => of.fingerprint(),
            Origin::Fingerprint(own) => *own,
        };
        match loaded.fingerprint() {
            expected if expected == own => Ok(()),
            expected => Err(value_error(
                "state",
                format!("one of network {expected:016x}"),
                format!("one of network {own:016x}"),
            )),
        }
    }

    fn fingerprint(&self) -> Option<u64> {
        match &self.origin {
            Origin::Arrays => None,
            Origin::Network(of) => Some(of.fingerprint()),
            Origin::Fingerprint(own) => Some(*own),
        }
    }
}

/// A state that a caller gives: a [`State`], or a dict of arrays by layer and part in any order.
pub enum GivenState<'py> {
    State(Bound<'py, State>),
    Arrays(Box<gatefold::State>),
}

impl<'py> GivenState<'py> {
    pub fn new(loaded: &Arc<Loaded>, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(state) = value.cast::<State>() {
            state.get().check(loaded)?;
            return Ok(Self::State(state.clone()));
        }
        let layers = layers_of(value)?;
        let network = loaded.session.network();
        let batch = layers.iter().flat_map(|layer| &layer.parts).map(StatePart::batch).next().unwrap_or(1);
        // Sorted as the network has them; what is missing or too much is the engine's error.
        let place = |layer: &LayerState| network.kept().iter().position(|kept| kept.name == layer.name);
        let mut state = locked(|| gatefold::State::initial(network, batch))?;
        for given in layers {
            let known = place(&given).and_then(|at| state.layers.get_mut(at));
            let Some(layer) = known else {
                let names: Vec<&str> = network.kept().iter().map(|kept| &kept.name[..]).collect();
                return Err(value_error("state", format!("layers of {names:?}"), format!("`{}`", given.name)));
            };
            let names: Vec<String> = layer.parts.iter().map(|part| part.name.to_string()).collect();
            for part in given.parts {
                let Some(own) = layer.part_mut(&part.name) else {
                    let what = format!("state of `{}`", given.name);
                    return Err(value_error(&what, format!("parts of {names:?}"), format!("`{}`", part.name)));
                };
                *own = part;
            }
        }
        Ok(Self::Arrays(Box::new(state)))
    }

    pub fn get(&self) -> &gatefold::State {
        match self {
            Self::State(state) => &state.get().inner,
            Self::Arrays(state) => state,
        }
    }
}

/// Layers with their parts from a dict of dicts of arrays.
fn layers_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<LayerState>> {
    const DICT: &str = "a State or a dict of layers with a dict of parts, such as {\"lstm\": {\"h\": h, \"c\": c}}";
    fn dict<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        value.cast::<PyDict>().cloned().map_err(|_| type_error("state", DICT, type_name(value)))
    }
    let mut layers = Vec::new();
    for (name, parts) in dict(value)? {
        let name: String = name.extract()?;
        let mut own = Vec::new();
        for (part, numbers) in dict(&parts)? {
            let part: String = part.extract()?;
            let (shape, data) = tensor(&format!("state of `{name}`, {part}"), &numbers)?;
            own.push(StatePart { name: Cow::Owned(part), shape: shape.into(), data });
        }
        layers.push(LayerState { name, parts: own });
    }
    Ok(layers)
}

#[pymethods]
impl State {
    /// A state of these arrays. It fits every network with layers of these names and sizes.
    #[new]
    #[pyo3(signature = (layers, fingerprint=None))]
    fn new(layers: &Bound<'_, PyAny>, fingerprint: Option<u64>) -> PyResult<Self> {
        let inner = gatefold::State { layers: layers_of(layers)? };
        Ok(Self { inner, origin: fingerprint.map_or(Origin::Arrays, Origin::Fingerprint) })
    }

    /// Copies of the arrays: `{"lstm": {"h": …, "c": …}}`.
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for layer in &self.inner.layers {
            let parts = PyDict::new(py);
            for part in &layer.parts {
                parts.set_item(&*part.name, array(py, &part.shape, part.data.clone())?)?;
            }
            all.set_item(&layer.name, parts)?;
        }
        Ok(all)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let arguments = (self.numpy(py)?, self.fingerprint());
        (py.get_type::<Self>(), arguments).into_pyobject(py)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().inner == self.inner)
    }

    fn __repr__(&self) -> String {
        let part = |layer: &str, part: &StatePart| format!("{layer}.{} {:?}", part.name, &part.shape[..]);
        let parts = self.inner.layers.iter().flat_map(|layer| layer.parts.iter().map(move |p| part(&layer.name, p)));
        format!("<State {}>", parts.collect::<Vec<_>>().join(", "))
    }
}

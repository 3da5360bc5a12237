//! A device against the f64 reference.

use gatefold::{RandomInput, verify as compare};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::errors::unlocked;
use crate::network::Network;

/// Compares a network's device with the f64 reference on a random input of T `steps` and B `batch` rows: the device's name, and a dict for every
/// tensor.
#[pyfunction]
pub fn verify<'py>(
    py: Python<'py>,
    network: &Network,
    steps: Option<usize>,
    batch: usize,
    seed: u64,
) -> PyResult<(String, Bound<'py, PyList>)> {
    let session = network.loaded.session.clone();
    let found = unlocked(py, || {
        let network = session.network();
        // Some networks read a fixed number of timesteps.
        let usual = network.least_steps().max(20);
        let known = if network.stage_steps(usual).is_ok() { usual } else { network.least_steps() };
        let steps = steps.unwrap_or(known);
        let check = |input: &RandomInput| compare(&session, network, input.as_input(), None);
        let found = check(&RandomInput::new(network, steps, batch, seed)?)?;
        if found.checks.iter().any(|check| check.undefined) {
            // The reference has no number for negative inputs, as for a square root.
            return check(&RandomInput::non_negative(network, steps, batch, seed)?);
        }
        Ok(found)
    })?;
    let list = PyList::empty(py);
    for check in &found.checks {
        let one = PyDict::new(py);
        one.set_item("name", &check.label)?;
        one.set_item("shape", &check.shape)?;
        one.set_item("max_error", check.comparison.max_error)?;
        one.set_item("mean_error", check.comparison.mean_error)?;
        one.set_item("passed", check.passed())?;
        list.append(one)?;
    }
    Ok((found.device.to_string(), list))
}

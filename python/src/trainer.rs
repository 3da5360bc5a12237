//! Training.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};

use gatefold::Session;
use gatefold::train::{
    Adagrad, Adam, AdamW, Event, Fit, Fitted, Loss, Measures, Next, Optimizer, RmsProp, Sgd, Totals, TrainOptions,
    Trainer as Engine,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dataset::Dataset;
use crate::device::open;
use crate::errors::{locked, unlocked, value_error};
use crate::network::{Network, json};
use crate::state::Loaded;

/// A network that is trained.
#[pyclass(frozen, module = "gatefold_rnn")]
pub struct Trainer {
    inner: Mutex<Engine>,
    device: String,
    threads: Option<usize>,
}

impl Trainer {
    /// One call at a time: a callback of `fit` that calls the trainer gets an error, as it would wait for itself.
    fn engine(&self) -> PyResult<MutexGuard<'_, Engine>> {
        self.inner.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PyRuntimeError::new_err("the trainer is in another call, such as `fit`"),
            TryLockError::Poisoned(_) => PyRuntimeError::new_err("the trainer had a defect in an earlier call"),
        })
    }
}

/// Options of a fit, as Python names them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct FitOptions {
    batch_size: usize,
    epochs: usize,
    patience: Option<usize>,
    shuffle: bool,
    checkpoint: Option<PathBuf>,
    checkpoint_steps: Option<u64>,
}

impl FitOptions {
    fn fit(self) -> Fit {
        let mut fit = Fit::new(self.batch_size).epochs(self.epochs);
        (fit.patience, fit.shuffle) = (self.patience, self.shuffle);
        (fit.checkpoint, fit.checkpoint_steps) = (self.checkpoint, self.checkpoint_steps);
        fit
    }
}

fn put_totals(to: &Bound<'_, PyDict>, prefix: &str, totals: Totals) -> PyResult<()> {
    to.set_item(format!("{prefix}loss"), totals.loss)?;
    to.set_item(format!("{prefix}accuracy"), totals.accuracy)
}

fn event_dict(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    match event {
        Event::Step { epoch, batch, batches, train } => {
            dict.set_item("kind", "step")?;
            dict.set_item("epoch", epoch)?;
            dict.set_item("batch", batch)?;
            dict.set_item("batches", batches)?;
            put_totals(&dict, "", train)?;
        }
        Event::Epoch { epoch, train, valid, best } => {
            dict.set_item("kind", "epoch")?;
            dict.set_item("epoch", epoch)?;
            put_totals(&dict, "", train)?;
            if let Some(valid) = valid {
                put_totals(&dict, "val_", valid)?;
            }
            dict.set_item("best", best)?;
        }
        _ => dict.set_item("kind", "other")?,
    }
    Ok(dict)
}

/// What an event leads to: Ctrl-C and an error of `on_event` end the fit behind the step.
fn next(on_event: &Py<PyAny>, event: Event) -> PyResult<Next> {
    Python::attach(|py| {
        py.check_signals()?;
        let answer = on_event.bind(py).call1((event_dict(py, event)?,))?;
        Ok(if answer.is(pyo3::types::PyBool::new(py, false)) { Next::Stop } else { Next::Continue })
    })
}

#[pymethods]
impl Trainer {
    /// Trains a copy of `network` as the options in JSON say, with `file_dropout` also with the dropout that its file states.
    #[new]
    #[pyo3(signature = (network, options, device="cpu", threads=None, file_dropout=false))]
    fn new(
        py: Python<'_>,
        network: &Network,
        options: &str,
        device: &str,
        threads: Option<usize>,
        file_dropout: bool,
    ) -> PyResult<Self> {
        let mut options: TrainOptions =
            serde_json::from_str(options).map_err(|error| PyValueError::new_err(format!("options: {error}")))?;
        if file_dropout {
            options = locked(|| options.file_dropout(network.engine()))?;
        }
        let opened = open(py, device, threads)?;
        let inner = unlocked(py, || Engine::new(&opened, network.engine(), options))?;
        Ok(Self { inner: Mutex::new(inner), device: device.to_owned(), threads })
    }

    /// Goes on from a checkpoint: its file, or the folder that `fit` wrote it to.
    #[staticmethod]
    #[pyo3(signature = (path, device="cpu", threads=None))]
    fn resume(py: Python<'_>, path: PathBuf, device: &str, threads: Option<usize>) -> PyResult<Self> {
        let opened = open(py, device, threads)?;
        let inner = unlocked(py, || Engine::resume(&opened, &path))?;
        Ok(Self { inner: Mutex::new(inner), device: device.to_owned(), threads })
    }

    /// Goes over `train`, epoch by epoch. `on_event` is called with a dict after each step and each epoch; `False` ends the fit.
    fn fit<'py>(
        &self,
        py: Python<'py>,
        train: &Dataset,
        valid: Option<&Dataset>,
        options: &Bound<'py, PyDict>,
        on_event: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let fit = options.extract::<FitOptions>()?.fit();
        let mut engine = self.engine()?;
        let trainer = &mut *engine;
        let (train, valid) = (&train.inner, valid.map(|valid| &valid.inner));
        let mut raised = None;
        let fitted = unlocked(py, || {
            trainer.fit(train, valid, &fit, |event| {
                // No callback is asked after one that failed.
                if raised.is_some() {
                    return Next::Stop;
                }
                next(&on_event, event).unwrap_or_else(|error| {
                    raised = Some(error);
                    Next::Stop
                })
            })
        });
        if let Some(error) = raised {
            return Err(error);
        }
        let Fitted { epochs, best_epoch, valid, skipped, .. } = fitted?;
        let dict = PyDict::new(py);
        dict.set_item("epochs", epochs)?;
        dict.set_item("best_epoch", best_epoch)?;
        if let Some(valid) = valid {
            put_totals(&dict, "val_", valid)?;
        }
        dict.set_item("skipped", skipped)?;
        Ok(dict)
    }

    /// Loss and accuracy over a data set; with `top_k` or `confusion` also these.
    #[pyo3(signature = (set, batch_size, top_k=None, confusion=false))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        set: &Dataset,
        batch_size: usize,
        top_k: Option<usize>,
        confusion: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        if batch_size == 0 {
            return Err(value_error("batch_size", "at least 1", 0));
        }
        let engine = self.engine()?;
        let (trainer, set) = (&*engine, &set.inner);
        let totals = unlocked(py, || trainer.evaluate_all(set, batch_size))?;
        let dict = PyDict::new(py);
        put_totals(&dict, "", totals)?;
        if top_k.is_none() && !confusion {
            return Ok(dict);
        }
        let measures = Measures { top_k: top_k.unwrap_or(1), confusion };
        let (right, all, pairs) = unlocked(py, || {
            let network = trainer.network()?;
            let (mut right, mut all, mut pairs) = (0, 0, vec![0u64; 0]);
            for padded in set.batches(&network, batch_size) {
                let found = trainer.metrics(&padded.batch(), measures)?;
                (right, all) = (right + found.top_k.correct, all + found.top_k.counted);
                pairs.resize(found.confusion.len(), 0);
                pairs.iter_mut().zip(found.confusion).for_each(|(sum, count)| *sum += u64::from(count));
            }
            Ok((right, all, pairs))
        })?;
        if top_k.is_some() {
            #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
            let share = right as f64 / all.max(1) as f64;
            dict.set_item("top_k", share)?;
        }
        if confusion {
            let classes = pairs.len().isqrt();
            dict.set_item("confusion", crate::arrays::array(py, &[classes, classes], pairs)?)?;
        }
        Ok(dict)
    }

    /// The network as it is now, on the trainer's device.
    fn network(&self, py: Python<'_>) -> PyResult<Network> {
        let engine = self.engine()?;
        let trainer = &*engine;
        let session = unlocked(py, || Session::new(trainer.device(), &*trainer.network()?))?;
        Ok(Network { loaded: Loaded::new(session), device: self.device.clone(), threads: self.threads })
    }

    /// Writes all that training needs to go on.
    fn save_checkpoint(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let engine = self.engine()?;
        let trainer = &*engine;
        unlocked(py, || trainer.save_checkpoint(&path))
    }

    /// How it trains, as `default_options` names it.
    #[getter]
    fn options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json(py, self.engine()?.options())
    }

    /// Steps so far.
    #[getter]
    fn steps(&self) -> PyResult<u64> {
        Ok(self.engine()?.steps())
    }
}

/// All options with their defaults.
#[pyfunction]
pub fn default_options(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    json(py, &TrainOptions::new(Loss::CrossEntropy))
}

/// An optimizer with the numbers of `pytorch` or `keras`.
#[pyfunction]
pub fn optimizer<'py>(py: Python<'py>, name: &str, numbers: &str) -> PyResult<Bound<'py, PyAny>> {
    let keras = match numbers {
        "pytorch" => false,
        "keras" => true,
        other => return Err(value_error("numbers", "pytorch, keras", other)),
    };
    fn of<R: Default + Into<Optimizer>>(keras: bool, numbers: impl FnOnce() -> R) -> Optimizer {
        if keras { numbers().into() } else { R::default().into() }
    }
    let optimizer = match name {
        "sgd" => of(keras, Sgd::keras),
        "adam" => of(keras, Adam::keras),
        "adamw" => of(keras, AdamW::keras),
        "rmsprop" => of(keras, RmsProp::keras),
        "adagrad" => of(keras, Adagrad::keras),
        other => return Err(value_error("optimizer", "sgd, adam, adamw, rmsprop, adagrad", other)),
    };
    json(py, &optimizer)
}

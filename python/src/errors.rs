//! Errors of the engine as Python's exceptions, and work without the interpreter's lock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gatefold::Error;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// A file that cannot be read or written is an `OSError` (`FileNotFoundError` and the others by its number), a device that failed or a
/// training that diverged a `RuntimeError`, everything else a `ValueError`, with the engine's words.
pub fn raised(error: &Error) -> PyErr {
    match error {
        Error::Io { path, source } => match source.raw_os_error() {
            Some(number) => {
                let words = source.to_string();
                let words = words.split(" (os error").next().unwrap_or_default().to_owned();
                PyOSError::new_err((number, words, path.display().to_string()))
            }
            None => PyOSError::new_err(error.to_string()),
        },
        Error::Gpu { .. } | Error::DeviceLost { .. } | Error::Diverged { .. } | Error::QueueClosed => {
            PyRuntimeError::new_err(error.to_string())
        }
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// An argument of a wrong value.
pub fn value_error(what: &str, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{what}: expected {expected}, got {got}"))
}

/// An argument of a wrong type.
pub fn type_error(what: &str, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> PyErr {
    PyTypeError::new_err(format!("{what}: expected {expected}, got {got}"))
}

/// The name of a value's type, for errors.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string())
}

/// Does `work` without the interpreter's lock. A panic, which would be a defect of the engine, is a `RuntimeError`.
pub fn unlocked<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    finished(py.detach(|| catch_unwind(AssertUnwindSafe(work))))
}

/// As [`unlocked`], for what is over at once.
pub fn locked<T>(work: impl FnOnce() -> Result<T, Error>) -> PyResult<T> {
    finished(catch_unwind(AssertUnwindSafe(work)))
}

fn finished<T>(result: std::thread::Result<Result<T, Error>>) -> PyResult<T> {
    match result {
        Ok(result) => result.map_err(|error| raised(&error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(PyRuntimeError::new_err(format!("a defect of gatefold, please report it: {text}")))
        }
    }
}

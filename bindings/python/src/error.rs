//! The one exception of the package, and the border at which panics stop.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

pyo3::create_exception!(
    mmface,
    Error,
    pyo3::exceptions::PyException,
    "Everything that goes wrong in mmface. Its text is one sentence, which says what to do."
);

/// An exception with this sentence.
pub(crate) fn fail(sentence: impl Into<String>) -> PyErr {
    Error::new_err(sentence.into())
}

/// The library's error as an exception.
pub(crate) fn of_library(error: &mmface::Error) -> PyErr {
    fail(match error {
        mmface::Error::Models(_) | mmface::Error::ModelHash { .. } | mmface::Error::Detector(_) => {
            format!("{error}; if it is a file of the package: pip install --force-reinstall mmface")
        }
        _ => error.to_string(),
    })
}

/// Runs `work` and turns a panic into an exception.
pub(crate) fn guarded<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(of_library(&mmface::Error::Bug(text.replace('\n', " "))))
    })
}

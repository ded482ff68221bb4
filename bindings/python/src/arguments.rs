//! Reads arguments; what does not fit gets a sentence with the argument's name.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::error::fail;

/// The type of a value, and the value if it is short.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    let kind = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    match value.repr().map(|text| text.to_string()) {
        Ok(text) if text.chars().count() <= 40 && !text.contains('\n') => text,
        _ => format!("a {kind}"),
    }
}

/// Most seconds: times beyond are some other unit, and differences would drown in rounding.
const LONGEST: f64 = 1e12;

/// A number of seconds.
pub(crate) fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let number: Option<f64> = value.extract().ok().filter(|_| !value.is_instance_of::<PyBool>());
    match number {
        Some(number) if number.abs() <= LONGEST => Ok(number),
        _ => Err(fail(format!("{name} must be a finite number of seconds, not {}", shown(value)))),
    }
}

/// A whole number within limits.
pub(crate) fn whole(name: &str, value: &Bound<'_, PyAny>, least: u32, most: u32) -> PyResult<u32> {
    let number: Option<i64> = value.extract().ok().filter(|_| !value.is_instance_of::<PyBool>());
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        fail(format!("{name} must be a whole number from {least} to {most}, not {}", shown(value)))
    })
}

/// One of several words.
pub(crate) fn choice<T: Copy>(
    name: &str,
    value: &Bound<'_, PyAny>,
    choices: &[(&str, T)],
) -> PyResult<T> {
    let word: Option<String> = value.extract().ok();
    let found = choices.iter().find(|(known, _)| word.as_deref() == Some(known));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        fail(format!("{name} must be one of {}, not {}", names.join(", "), shown(value)))
    })
}

/// A text.
pub(crate) fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| fail(format!("{name} must be a string, not {}", shown(value))))
}

/// A path: a string or a `pathlib.Path`.
pub(crate) fn path(name: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    value
        .extract()
        .map_err(|_| fail(format!("{name} must be a path (str or Path), not {}", shown(value))))
}

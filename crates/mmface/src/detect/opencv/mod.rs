//! Detectors that run in OpenCV, and canvases scaled by OpenCV.

mod canvas;
mod centerface;
mod haar;

pub(super) use canvas::{grey, rgb};
pub(super) use centerface::CenterFace;
pub(super) use haar::Haar;

use crate::error::Error;

/// OpenCV's version number.
#[must_use]
pub fn version() -> String {
    opencv::core::get_version_string().unwrap_or_else(|_| "unknown version".into())
}

fn failed(error: &opencv::Error) -> Error {
    Error::Device(format!("OpenCV failed at detecting faces: {}", error.message.trim()))
}

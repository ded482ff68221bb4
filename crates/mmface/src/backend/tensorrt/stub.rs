//! Replaces `cuda/` in builds without the feature `cuda`: every function fails.

use super::{Chip, Compiled, Gpu};
use crate::backend::{Backend, Options};
use crate::crop::CropMap;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::models::{Models, Variant};

fn absent<T>() -> Result<T> {
    Err(Error::Gpu(
        "this program was built without CUDA; build it with the feature `cuda` (it is on by \
         default) to use a GPU"
            .into(),
    ))
}

/// The first GPU.
///
/// # Errors
/// [`Error::Gpu`].
pub fn gpu() -> Result<Gpu> {
    absent()
}

/// Flavour and version of TensorRT.
///
/// # Errors
/// [`Error::Gpu`].
pub fn tensorrt_version() -> Result<String> {
    absent()
}

/// Version of NVRTC.
///
/// # Errors
/// [`Error::Gpu`].
pub fn nvrtc_version() -> Result<String> {
    absent()
}

/// Builds an engine.
///
/// # Errors
/// [`Error::Gpu`].
pub fn build(_title: &str, _onnx: &[u8], _chip: Chip) -> Result<Vec<u8>> {
    absent()
}

/// Checks an engine.
///
/// # Errors
/// [`Error::Gpu`].
pub fn check(_engine: &[u8]) -> Result<()> {
    absent()
}

/// Compiles the crop kernel.
///
/// # Errors
/// [`Error::Gpu`].
pub fn compile_kernel(_chip: Chip) -> Result<Compiled> {
    absent()
}

/// Cuts crops on the GPU.
///
/// # Errors
/// [`Error::Gpu`].
pub fn crops(_: &Image, _: &[CropMap]) -> Result<Vec<u8>> {
    absent()
}

/// Opens the backend.
///
/// # Errors
/// [`Error::Gpu`].
pub fn open(_: &Models, _: &Variant, _: &Options) -> Result<Box<dyn Backend>> {
    absent()
}

//! The NVIDIA driver and the GPU.

use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError, result, sys};

use super::library;
use crate::backend::tensorrt::{Chip, Gpu};
use crate::error::{Error, Result};

/// The error of an operation (`doing`), with advice to the user.
pub(super) fn failed(doing: &str, error: DriverError) -> Error {
    let text = error.error_string().ok().and_then(|text| text.to_str().ok()).unwrap_or("no reason");
    describe_failure(doing, error.0, text)
}

fn describe_failure(doing: &str, code: sys::cudaError_enum, text: &str) -> Error {
    use sys::cudaError_enum as Code;
    let cure = match code {
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            "end other programs that use the GPU, or follow fewer faces"
        }
        Code::CUDA_ERROR_NO_DEVICE => "look at `nvidia-smi`",
        Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the NVIDIA driver is too old: install a newer one"
        }
        _ => "if it stays so, look at `nvidia-smi`",
    };
    Error::Gpu(format!("the GPU failed at {doing}: {text}; {cure}"))
}

/// Opens the first GPU.
///
/// # Errors
/// [`Error::Gpu`] without driver or GPU.
pub(super) fn context() -> Result<Arc<CudaContext>> {
    if !library::driver_is_present() {
        return Err(Error::Gpu(
            "there is no NVIDIA driver (libcuda.so.1): install it to use a GPU".into(),
        ));
    }
    let no_gpu = || Error::Gpu("the NVIDIA driver finds no GPU: look at `nvidia-smi`".into());
    let starting = |error: DriverError| match error.0 {
        sys::cudaError_enum::CUDA_ERROR_NO_DEVICE => no_gpu(),
        _ => failed("its start", error),
    };
    result::init().map_err(starting)?;
    if result::device::get_count().map_err(starting)? < 1 {
        return Err(no_gpu());
    }
    CudaContext::new(0).map_err(starting)
}

/// Describes a GPU.
///
/// # Errors
/// [`Error::Gpu`].
pub(super) fn describe(context: &CudaContext) -> Result<Gpu> {
    let asked = |e| failed("a question", e);
    let (major, minor) = context.compute_capability().map_err(asked)?;
    let number = |n: i32| u32::try_from(n).unwrap_or_default();
    Ok(Gpu {
        name: context.name().map_err(asked)?,
        chip: Chip::new(number(major), number(minor)),
        memory: context.total_mem().map_err(asked)?,
        driver: library::driver_version(),
    })
}

/// Describes the first GPU.
///
/// # Errors
/// [`Error::Gpu`] without driver or GPU.
pub fn gpu() -> Result<Gpu> {
    describe(&*context()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::cudaError_enum as Code;

    #[test]
    fn every_failure_names_a_cure_and_is_the_devices() {
        for (code, cure) in [
            (Code::CUDA_ERROR_OUT_OF_MEMORY, "fewer faces"),
            (Code::CUDA_ERROR_NO_DEVICE, "nvidia-smi"),
            (Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "newer"),
            (Code::CUDA_ERROR_DEVICE_UNAVAILABLE, "nvidia-smi"),
            (Code::CUDA_ERROR_ILLEGAL_ADDRESS, "nvidia-smi"),
        ] {
            let error = describe_failure("its start", code, "no reason");
            assert!(error.to_string().contains(cure), "{error}");
            assert!(matches!(error, Error::Gpu(_)));
        }
    }
}

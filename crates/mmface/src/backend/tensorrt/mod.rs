//! The GPU backend: TensorRT on CUDA.
//!
//! A frame goes up once, as bytes ([`kernel`]); one kernel cuts the crops, VMN and PMN run as
//! TensorRT engines, a few hundred floats come back. Two [slots](super::slots) take turns. What
//! needs NVIDIA's libraries is in `cuda/`; a build without the feature `cuda` has `stub.rs` instead.

mod cache;
mod chip;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "stub.rs"]
mod cuda;
pub mod kernel;

pub use cache::{Cache, Found, Recipe};
pub use chip::Chip;
pub use cuda::{build, check, compile_kernel, crops, gpu, nvrtc_version, open, tensorrt_version};

/// The preprocessing kernel for one chip.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// To be read.
    pub ptx: String,
    /// To be run: an ELF file.
    pub code: Vec<u8>,
}

/// A GPU, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its chip.
    pub chip: Chip,
    /// Memory, bytes.
    pub memory: usize,
    /// The CUDA version that the driver serves: (12, 8).
    pub driver: (i32, i32),
}

//! The GPU backend: TensorRT on CUDA.
//!
//! A frame is uploaded once, as bytes ([`kernel`]); one kernel cuts the crops, VMN and PMN run as
//! TensorRT engines, and a few hundred floats per face are downloaded. Two [slots](super::slots)
//! take turns. Code that needs NVIDIA's libraries is in `cuda/`; a build without the feature `cuda`
//! uses `stub.rs` instead.

mod chip;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "stub.rs"]
mod cuda;
pub mod kernel;
mod recipe;

pub use super::cache::{Cache, Found};
pub use chip::Chip;
pub use cuda::{build, check, compile_kernel, crops, gpu, nvrtc_version, open, tensorrt_version};
pub use recipe::Recipe;

/// The crop kernel, compiled for one chip.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// PTX assembly, for inspection.
    pub ptx: String,
    /// Machine code for the GPU, an ELF file (cubin).
    pub code: Vec<u8>,
}

/// Description of a GPU by its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The GPU's name.
    pub name: String,
    /// The GPU's chip.
    pub chip: Chip,
    /// Memory in bytes.
    pub memory: usize,
    /// The latest CUDA version that the driver supports, for example (12, 8).
    pub driver: (i32, i32),
}

//! NVIDIA's libraries at work.

mod device;
mod driver;
mod engine;
mod library;
mod networks;
mod nvrtc;

pub use driver::gpu;
pub use engine::{build, check};
pub use nvrtc::compile as compile_kernel;

use super::{Cache, Recipe};
use crate::crop::CropMap;
use crate::frame::Image;
use crate::nets::slots::Slots;
use crate::nets::{Backend, Description, Engines, Options, Output, Precision, Ticket, Variant};
use crate::{Error, Result};
use device::Cuda;
use networks::{Opened, Pair};

/// Flavour and version of TensorRT: `rtx-1.7.1`.
///
/// # Errors
/// [`Error::Engine`] if it cannot be loaded.
pub fn tensorrt_version() -> Result<String> {
    Ok(library::tensorrt()?.version)
}

/// Version of NVRTC.
///
/// # Errors
/// [`Error::Engine`] if it cannot be loaded.
pub fn nvrtc_version() -> Result<String> {
    let (major, minor) = library::nvrtc()?;
    Ok(format!("{major}.{minor}"))
}

/// VMN and PMN on a GPU.
struct TensorRt {
    precision: Precision,
    slots: Slots<Cuda>,
}

/// Opens the GPU: driver, chip, libraries, kernel, engines (built if need be), in this order, so
/// that what is missing is told before anything takes long.
///
/// # Errors
/// [`Error::Device`] without a driver or a GPU, or if it fails; [`Error::Engine`] if a library is
/// missing or an engine cannot be built; [`Error::Usage`] for a precision that there is not.
pub fn open(engines: &Engines, variant: &Variant, options: &Options) -> Result<Box<dyn Backend>> {
    let context = driver::context()?;
    let chip = driver::describe(&context)?.chip;
    if cfg!(not(feature = "tensorrt-enterprise")) && !chip.is_target() {
        return Err(Error::Engine(engine::unknown(chip)));
    }
    let version = tensorrt_version()?;
    let precision = precision(variant, options)?;
    let cache = Cache::new(options.engine_cache.as_deref());
    let kernel = nvrtc::cached(&cache, chip)?;
    let open = |network: &str| -> Result<Opened> {
        let network = precision.network(network);
        let onnx = engines.network(variant, &network)?;
        let hash = variant.network_hash(&network)?;
        let recipe = Recipe {
            variant: &variant.name,
            network: &network,
            onnx: hash,
            library: &version,
            chip,
            precision,
        };
        let title = format!("{network} of {}", variant.name);
        cache.get(&recipe.file_name(), Opened::new, || build(&title, &onnx, chip))
    };
    let networks = Box::new(Pair { vmn: open("vmn")?, pmn: open("pmn")? });
    let count = if options.one_slot { 1 } else { 2 };
    let device = Cuda::new(context, kernel, networks, count, !options.no_cuda_graph)?;
    Ok(Box::new(TensorRt { precision, slots: Slots::new(device, count) }))
}

/// The crops that the kernel cuts on the GPU, each R, G and B planes of 256×256 bytes: to hold it
/// against [`crate::crop::sample`].
///
/// # Errors
/// As [`open`].
pub fn crops(image: &Image, maps: &[CropMap]) -> Result<Vec<u8>> {
    let context = driver::context()?;
    let chip = driver::describe(&context)?.chip;
    device::crops(&context, nvrtc::compile(chip)?.code, image, maps)
}

fn precision(variant: &Variant, options: &Options) -> Result<Precision> {
    let half = variant.has_network("vmn-f16") && variant.has_network("pmn-f16");
    match options.precision {
        Some(Precision::Bf16) => Err(Error::Usage(
            "--precision bf16 is for the CPU; the GPU computes in f16 or f32 (or auto)".into(),
        )),
        Some(Precision::F16) if !half => Err(Error::Usage(format!(
            "{} has no networks in f16; use --precision f32 (or auto)",
            variant.name
        ))),
        Some(precision) => Ok(precision),
        None if half => Ok(Precision::F16),
        None => Ok(Precision::F32),
    }
}

impl Backend for TensorRt {
    fn describe(&self) -> Description {
        Description { backend: "tensorrt", device: "cuda", precision: self.precision }
    }

    fn submit(&mut self, image: &Image, crops: &[CropMap]) -> Result<Ticket> {
        self.slots.submit(image, crops)
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Output>> {
        self.slots.collect(ticket)
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn prefetch(&mut self, image: &Image) -> Result<()> {
        self.slots.prefetch(image)
    }
}

//! The part of the GPU backend that uses NVIDIA's libraries.

mod device;
mod driver;
mod engine;
mod library;
mod networks;
mod nvrtc;

pub use driver::gpu;
pub use engine::{build, check};
pub use nvrtc::compile as compile_kernel;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::FairMutex;

use super::{Cache, Recipe};
use crate::backend::slots::{ImageKey, Slots};
use crate::backend::{
    Backend, Batch, Description, Inference, MAX_BATCH, Options, Precision, Session,
};
use crate::crop::CropMap;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::models::{Models, Variant};
use device::Cuda;
use networks::{Opened, Pair};

/// Flavour and version of TensorRT: `rtx-1.7.1`.
///
/// # Errors
/// [`Error::Library`] if it cannot be loaded.
pub fn tensorrt_version() -> Result<String> {
    Ok(library::tensorrt()?.version)
}

/// Version of NVRTC.
///
/// # Errors
/// [`Error::Library`] if it cannot be loaded.
pub fn nvrtc_version() -> Result<String> {
    let (major, minor) = library::nvrtc()?;
    Ok(format!("{major}.{minor}"))
}

/// VMN and PMN on a GPU.
struct TensorRt {
    precision: Precision,
    /// A fair mutex: sessions are served in the order in which they arrive.
    slots: Arc<FairMutex<Slots<Cuda>>>,
    sessions: AtomicU64,
}

/// Opens the GPU: driver, chip, libraries, kernel and engines (built if necessary). In this order,
/// so that anything missing is reported before a long build.
///
/// # Errors
/// [`Error::Gpu`] without a driver or a GPU, or if it fails; [`Error::Library`] if a library is
/// missing or an engine cannot be built; [`Error::Precision`] for an unsupported precision.
pub fn open(models: &Models, variant: &Variant, options: &Options) -> Result<Box<dyn Backend>> {
    let context = driver::context()?;
    let chip = driver::describe(&context)?.chip;
    if cfg!(not(feature = "tensorrt-enterprise")) && !chip.is_target() {
        return Err(Error::Library(engine::unknown(chip)));
    }
    let version = tensorrt_version()?;
    let precision = precision(variant, options)?;
    let cache = Cache::new(options.engine_cache.as_deref());
    let kernel = nvrtc::cached(&cache, chip)?;
    let open = |network: &str| -> Result<Opened> {
        let network = precision.network(network);
        let onnx = models.network(variant, &network)?;
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
    let slots = Arc::new(FairMutex::new(Slots::new(device, count)));
    Ok(Box::new(TensorRt { precision, slots, sessions: AtomicU64::new(0) }))
}

/// Cuts crops with the kernel on the GPU, for comparison with [`crate::crop::sample`]. Returns
/// planes R, G, B of 256×256 bytes for each crop.
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
        Some(precision @ (Precision::Bf16 | Precision::Int8)) => Err(Error::Precision(format!(
            "{precision} is for the CPU; the GPU computes in f16 or f32"
        ))),
        Some(Precision::F16) if !half => {
            Err(Error::Precision(format!("{} has no networks in f16, only in f32", variant.name)))
        }
        Some(precision) => Ok(precision),
        None if half => Ok(Precision::F16),
        None => Ok(Precision::F32),
    }
}

impl Backend for TensorRt {
    fn describe(&self) -> Description {
        Description { backend: "tensorrt", device: "cuda", precision: self.precision }
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(GpuSession { session, slots: self.slots.clone() }))
    }
}

/// One stream's access to the GPU. Sessions take turns, one batch each.
struct GpuSession {
    session: u64,
    slots: Arc<FairMutex<Slots<Cuda>>>,
}

impl Session for GpuSession {
    fn infer(&mut self, batch: &Batch) -> Result<Vec<Inference>> {
        if batch.volumes {
            return Err(Error::Volumes);
        }
        let key = |frame| ImageKey { session: self.session, frame };
        let mut next = batch.next;
        let mut seen = Vec::with_capacity(batch.crops.len());
        for crops in batch.crops.chunks(MAX_BATCH) {
            let mut slots = self.slots.lock();
            let ticket = slots.submit(key(batch.frame), batch.image, crops)?;
            if let Some(next) = next.take() {
                slots.prefetch(key(batch.frame + 1), next)?;
            }
            let outputs = slots.collect(ticket)?;
            seen.extend(outputs.into_iter().map(|output| Inference { output, volume: None }));
        }
        Ok(seen)
    }

    fn looks_ahead(&self) -> bool {
        true
    }
}

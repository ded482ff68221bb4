//! The networks: VMN (picture → features), PMN (features → parameters), and what runs them.
//!
//! A backend is a small trait: frames and crop maps go in, a ticket comes back, later the outputs
//! for that ticket. Where crops are cut, how many requests are in flight and where features stay
//! is the backend's affair.

mod manifest;
mod openvino;
pub mod slots;
pub mod tensorrt;

use std::path::{Path, PathBuf};

pub use manifest::{DetectorRule, Engines, Variant};
pub use openvino::cpu_name;

use crate::crop::{CROP, CropMap};
use crate::frame::Image;
use crate::{Error, Result};

/// What the networks say of one crop.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// [f, pitch, yaw, roll, tx, ty, tz]: pixels of the crop per model unit, degrees, crop pixels.
    pub pose: [f32; 7],
    /// α_id, standard deviations.
    pub identity: Vec<f32>,
    /// α_exp, 0…1.
    pub expression: Vec<f32>,
    /// Whether this is a face, 0…1.
    pub presence: f32,
    /// Where the 68 landmarks are seen, crop pixels. None of networks that do not say.
    pub points: Vec<[f32; 2]>,
}

/// The output `points`, −1…1 of the crop, in its pixels.
fn points(row: &[f32]) -> Vec<[f32; 2]> {
    let half = CROP as f32 / 2.0;
    row.as_chunks().0.iter().map(|point: &[f32; 2]| point.map(|v| v * half + half - 0.5)).collect()
}

/// Names a batch that was submitted and not yet collected.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Crops that may be submitted at once.
pub const MAX_BATCH: usize = 64;

/// Runs VMN and PMN on some device.
pub trait Backend: Send {
    /// What it is, for the header: backend, device, precision.
    fn describe(&self) -> Description;

    /// Cuts the crops out of the image, as one batch, and starts the networks on them where these
    /// run beside this thread.
    /// The maps must be [sane](CropMap::is_sane); there must be at least one.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    fn submit(&mut self, image: &Image, crops: &[CropMap]) -> Result<Ticket>;

    /// Waits for the outputs of a batch, or computes them, in the order of its crops. Tickets come back in the order
    /// in which they were handed out.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Output>>;

    /// What the volume head says of one crop of the batch that was collected last, named by its place
    /// in it: r·r·r values, 255 times the probability that a voxel is filled, as
    /// [`Volume`](crate::volume::Volume) wants them. Only for those who opened the backend with
    /// [`Options::volume`], and before the next batch is submitted.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails, [`Error::Usage`] if it computes no volumes.
    fn volume(&mut self, _crop: usize) -> Result<Vec<u8>> {
        Err(without_volumes())
    }

    /// Whether [`prefetch`](Self::prefetch) does anything: whether it is worth it to know the next
    /// frame while this one is in flight.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// Brings an image that will be submitted soon up to the device, beside what is in flight.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    fn prefetch(&mut self, _image: &Image) -> Result<()> {
        Ok(())
    }
}

/// What a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The library: `openvino` or `tensorrt`.
    pub backend: &'static str,
    /// The device: `cpu` or `cuda`.
    pub device: &'static str,
    /// The arithmetic really used.
    pub precision: Precision,
}

/// Arithmetic of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16 where the CPU computes in it.
    Bf16,
    /// 16-bit floats on the GPU.
    F16,
}

impl Precision {
    /// The name in the manifest of `network` in this precision. The CPU's library computes in what
    /// it is told; TensorRT in what the file says, so f16 is a file of its own.
    #[must_use]
    pub fn network(self, network: &str) -> String {
        match self {
            Self::F32 | Self::Bf16 => network.to_string(),
            Self::F16 => format!("{network}-f16"),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// Which device the user wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The best that works here.
    #[default]
    Auto,
    /// OpenVINO on the CPU.
    Cpu,
    /// TensorRT on an NVIDIA GPU.
    Cuda,
}

/// What to run the networks with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Device.
    pub device: Device,
    /// Precision; `None` takes the fastest that the device computes in.
    pub precision: Option<Precision>,
    /// Threads of the CPU; `None` takes all cores.
    pub threads: Option<u32>,
    /// Where built engines are kept; `None` is the user's cache folder.
    pub engine_cache: Option<PathBuf>,
    /// The GPU is told every operation anew, instead of replaying a graph.
    pub no_cuda_graph: bool,
    /// One slot on the GPU, instead of two that take turns.
    pub one_slot: bool,
    /// Resolution of the volume head, if volumes will be asked for.
    pub volume: Option<u32>,
}

/// Opens the backend that `options` asks for, with the networks of `variant`. [`Device::Auto`] takes
/// the GPU if driver, GPU, libraries and engines are all usable, else the CPU, and logs why.
///
/// # Errors
/// [`Error::Device`] if the device is not there or fails, [`Error::Engine`] if a library or a network
/// is missing, damaged or unusable or the variant has no such volume head, [`Error::Usage`] for a
/// precision or a volume that the device does not have.
pub fn open(engines: &Engines, variant: &Variant, options: &Options) -> Result<Box<dyn Backend>> {
    let cpu = || -> Result<Box<dyn Backend>> {
        Ok(Box::new(openvino::OpenVino::open(engines, variant, options)?))
    };
    if let Some(resolution) = options.volume {
        variant.volume(resolution)?;
    }
    match options.device {
        Device::Cpu => cpu(),
        Device::Cuda if options.volume.is_some() => Err(without_volumes()),
        Device::Auto if options.volume.is_some() => cpu(),
        Device::Cuda => tensorrt::open(engines, variant, options),
        Device::Auto => tensorrt::open(engines, variant, options).or_else(|why| {
            tracing::info!("the CPU is used: {why}");
            cpu()
        }),
    }
}

fn without_volumes() -> Error {
    Error::Usage("volume heads run on the CPU only so far: use --device cpu (or auto)".into())
}

/// Reads a whole file of the engines.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        Error::Engine(format!(
            "cannot read {}: {e}; restore it, or name another folder with --engines",
            path.display()
        ))
    })
}

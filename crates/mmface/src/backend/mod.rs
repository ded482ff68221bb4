//! What runs the networks: VMN (crop → features) and PMN (features → parameters).
//!
//! A [`Backend`] holds the networks on one device; a [`Session`] is one stream's access to it. A
//! session gives an image with crop maps and gets the networks' outputs. Where crops are cut, how
//! crops of several streams are put together and where features stay is the backend's affair.

mod openvino;
pub mod slots;
pub mod tensorrt;

use crate::crop::{CROP, CropMap};
use crate::image::Image;
use crate::models::{Models, Variant};
use crate::{Error, Result};

pub use openvino::{cpu_name, library};

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
    /// Where the 68 landmarks are seen, crop pixels. Empty for networks that do not say.
    pub points: Vec<[f32; 2]>,
}

/// What the networks say of one crop, and what the volume head does.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The parametric network's outputs.
    pub output: Output,
    /// If [asked for](Batch::volumes): r·r·r values, 255 times the probability that a voxel is filled,
    /// in the order of [`Volume`](crate::volume::Volume).
    pub volume: Option<Vec<u8>>,
}

/// The output `points`, −1…1 of the crop, in its pixels.
fn points_in_crop(row: &[f32]) -> Vec<[f32; 2]> {
    let half = CROP as f32 / 2.0;
    row.as_chunks().0.iter().map(|point: &[f32; 2]| point.map(|v| v * half + half - 0.5)).collect()
}

/// Crops of one image, on their way through the networks.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Where to cut.
    pub image: &'a Image<'a>,
    /// Counts the images of this session: batches of one image carry one number.
    pub frame: u64,
    /// What to cut: [sane](CropMap::is_sane) maps.
    pub crops: &'a [CropMap],
    /// Whether volumes are wanted; only of backends that were opened with
    /// [`Options::volume`].
    pub volumes: bool,
    /// The image that will have the number `frame + 1`, if it is known yet.
    pub next: Option<&'a Image<'a>>,
}

/// Crops that a device takes at once.
pub const MAX_BATCH: usize = 64;

/// Networks on a device, shared by all streams.
pub trait Backend: Send + Sync {
    /// What it is.
    fn describe(&self) -> Description;

    /// One stream's access.
    ///
    /// # Errors
    /// [`Error::Device`] or [`Error::Gpu`] if the device fails.
    fn session(&self) -> Result<Box<dyn Session>>;
}

/// One stream's access to the networks.
pub trait Session: Send {
    /// Cuts the crops, runs the networks on them and waits for the outputs, in the order of the crops.
    ///
    /// # Errors
    /// [`Error::Device`] or [`Error::Gpu`] if the device fails, [`Error::Volumes`] for volumes that
    /// the device does not compute.
    fn infer(&mut self, batch: &Batch) -> Result<Vec<Inference>>;

    /// Whether [`Batch::next`] is of use: whether it is worth it to know the next image while this one
    /// is in flight.
    fn looks_ahead(&self) -> bool {
        false
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

/// Which device is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// Where built GPU engines are kept; `None` is the user's cache folder.
    pub engine_cache: Option<std::path::PathBuf>,
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
/// [`Error::Gpu`] or [`Error::Device`] if the device is not there or fails, [`Error::Library`] or
/// [`Error::Models`] if a library or a network is missing, damaged or unusable or the variant has no
/// such volume head, [`Error::Precision`] and [`Error::Setting`] for a precision or a volume that the
/// device does not have.
pub fn open(models: &Models, variant: &Variant, options: &Options) -> Result<Box<dyn Backend>> {
    let cpu = || -> Result<Box<dyn Backend>> {
        Ok(Box::new(openvino::OpenVino::open(models, variant, options)?))
    };
    if let Some(resolution) = options.volume {
        variant.volume(resolution)?;
    }
    match options.device {
        Device::Cpu => cpu(),
        Device::Cuda if options.volume.is_some() => Err(Error::Volumes),
        Device::Auto if options.volume.is_some() => cpu(),
        Device::Cuda => tensorrt::open(models, variant, options),
        Device::Auto => tensorrt::open(models, variant, options).or_else(|why| {
            tracing::info!("the CPU is used: {why}");
            cpu()
        }),
    }
}

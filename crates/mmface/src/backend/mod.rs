//! Running the networks: VMN (crop → features) and PMN (features → parameters).
//!
//! A [`Backend`] holds the networks on one device; a [`Session`] is one stream's access to it. A
//! session takes an image and crop maps and returns the networks' outputs. Cutting crops, batching
//! crops of several streams and storing features are left to the backend.

mod cache;
mod openvino;
pub mod slots;
pub mod tensorrt;

use crate::crop::{CROP, CropMap};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::models::{Models, Variant};

pub(crate) use openvino::{GAZE, GazeNetwork};
pub use openvino::{cpu_name, library};

/// The PMN's outputs for one crop.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// [f, pitch, yaw, roll, t_x, t_y, t_z]: f in crop pixels per model unit, angles in degrees, t
    /// in crop pixels.
    pub pose: [f32; 7],
    /// Identity weights α_id, in standard deviations.
    pub identity: Vec<f32>,
    /// Expression weights α_exp, 0…1.
    pub expression: Vec<f32>,
    /// Probability that the crop shows a face, 0…1.
    pub presence: f32,
    /// Where the network sees the 68 landmarks, crop pixels. Empty if the network has no such
    /// output.
    pub points: Vec<[f32; 2]>,
}

/// The outputs for one crop: the PMN's, and optionally the volume head's.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The PMN's outputs.
    pub output: Output,
    /// If [requested](Batch::volumes): r·r·r bytes, 255 times the probability that a voxel is
    /// filled, in the order of [`Volume`](crate::volume::Volume).
    pub volume: Option<Vec<u8>>,
}

/// Converts the output `points` from −1…1 of the crop's width and height to crop pixels.
fn points_in_crop(row: &[f32]) -> Vec<[f32; 2]> {
    let half = CROP as f32 / 2.0;
    row.as_chunks().0.iter().map(|point: &[f32; 2]| point.map(|v| v * half + half - 0.5)).collect()
}

/// Crops of one image to run through the networks.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The image.
    pub image: &'a Image<'a>,
    /// Number of the image within this session. Batches of the same image have the same number.
    pub frame: u64,
    /// Where to cut; the maps must be [sane](CropMap::is_sane).
    pub crops: &'a [CropMap],
    /// Whether volumes are requested. The backend must have been opened with [`Options::volume`].
    pub volumes: bool,
    /// The image that will have the number `frame + 1`, if it is already known.
    pub next: Option<&'a Image<'a>>,
}

/// Most crops in one batch on a device.
pub const MAX_BATCH: usize = 64;

/// Networks on a device, shared by all streams.
pub trait Backend: Send + Sync {
    /// Describes the backend.
    fn describe(&self) -> Description;

    /// Opens a session for one stream.
    ///
    /// # Errors
    /// [`Error::Device`] or [`Error::Gpu`] if the device fails.
    fn session(&self) -> Result<Box<dyn Session>>;
}

/// One stream's access to the networks.
pub trait Session: Send {
    /// Cuts the crops, runs the networks and waits for the outputs, which are in the order of the
    /// crops.
    ///
    /// # Errors
    /// [`Error::Device`] or [`Error::Gpu`] if the device fails; [`Error::Volumes`] or
    /// [`Error::Setting`] if volumes are requested and the backend has no volume head.
    fn infer(&mut self, batch: &Batch) -> Result<Vec<Inference>>;

    /// Whether [`Batch::next`] is used, so that a caller should try to provide it.
    fn looks_ahead(&self) -> bool {
        false
    }
}

/// Description of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name of the library: `openvino` or `tensorrt`.
    pub backend: &'static str,
    /// Name of the device: `cpu` or `cuda`.
    pub device: &'static str,
    /// The precision in use.
    pub precision: Precision,
}

/// Precision of the networks' arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16, on CPUs that support it.
    Bf16,
    /// 16-bit floats on the GPU.
    F16,
    /// 8-bit integers in the convolutions, on CPUs; the rest in bf16 where the CPU supports it,
    /// otherwise in f32.
    Int8,
}

impl Precision {
    /// The manifest's name of `network` in this precision. OpenVINO is told which floats to compute
    /// in; f16 (TensorRT) and int8 are in the ONNX file, so they have files of their own.
    #[must_use]
    pub fn network(self, network: &str) -> String {
        match self {
            Self::F32 | Self::Bf16 => network.to_string(),
            Self::F16 | Self::Int8 => format!("{network}-{self}"),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

/// The requested device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The best that works on this machine.
    #[default]
    Auto,
    /// OpenVINO on the CPU.
    Cpu,
    /// TensorRT on an NVIDIA GPU.
    Cuda,
}

/// Options for [`open`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The device.
    pub device: Device,
    /// The precision; `None` is the fastest that the device supports.
    pub precision: Option<Precision>,
    /// Number of CPU threads; `None` uses all cores.
    pub threads: Option<u32>,
    /// Folder for compiled networks; `None` is the user's cache folder.
    pub engine_cache: Option<std::path::PathBuf>,
    /// Launch every operation on the GPU anew instead of replaying a CUDA graph.
    pub no_cuda_graph: bool,
    /// Use one slot on the GPU instead of two, that is, no double buffering.
    pub one_slot: bool,
    /// Resolution of the volume head, if volumes will be requested.
    pub volume: Option<u32>,
}

/// Opens the requested backend with the networks of `variant`. [`Device::Auto`] uses the GPU if
/// driver, GPU, libraries and engines all work, and otherwise the CPU, in which case the reason is
/// logged.
///
/// # Errors
/// [`Error::Gpu`] or [`Error::Device`] if the device is missing or fails; [`Error::Library`] or
/// [`Error::Models`] if a library or a network is missing, damaged or unusable, or if the variant
/// has no volume head of that resolution; [`Error::Precision`] if the device does not support the
/// precision; [`Error::Volumes`] if it does not support volumes.
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

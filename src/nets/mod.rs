//! The networks: VMN (picture → features), PMN (features → parameters), and what runs them.
//!
//! A backend is a small trait: frames and crop maps go in, a ticket comes back, later the outputs
//! for that ticket. Where crops are cut, how many requests are in flight and where features stay
//! is the backend's affair.

mod manifest;
mod openvino;

use std::path::Path;

pub use manifest::{DetectorRule, Engines, Variant};
pub use openvino::cpu_name;

use crate::crop::CropMap;
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
}

/// Names a batch that was submitted and not yet collected.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Runs VMN and PMN on some device.
pub trait Backend: Send {
    /// What it is, for the header: backend, device, precision.
    fn describe(&self) -> Description;

    /// Cuts the crops out of the image and starts the networks on them, as one batch.
    /// The maps must be [sane](CropMap::is_sane); there must be at least one.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    fn submit(&mut self, image: &Image, crops: &[CropMap]) -> Result<Ticket>;

    /// Waits for the outputs of a batch, in the order of its crops. Tickets come back in the order
    /// in which they were handed out.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Output>>;
}

/// What a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The library: `openvino`.
    pub backend: &'static str,
    /// The device: `cpu`.
    pub device: &'static str,
    /// The arithmetic really used: `f32` or `bf16`.
    pub precision: Precision,
}

/// Arithmetic of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16 where the CPU computes in it.
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
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
}

/// Opens the backend that `options` asks for, with the networks of `variant`.
///
/// # Errors
/// [`Error::Usage`] for a device that this build does not have, [`Error::Engine`] if a library or
/// a network is missing, damaged or unusable.
pub fn open(engines: &Engines, variant: &Variant, options: &Options) -> Result<Box<dyn Backend>> {
    match options.device {
        Device::Auto | Device::Cpu => {
            Ok(Box::new(openvino::OpenVino::open(engines, variant, options)?))
        }
        Device::Cuda => Err(Error::Device(
            "this version has no CUDA backend yet; use --device cpu (or auto)".into(),
        )),
    }
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

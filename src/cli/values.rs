//! Values of flags: their names, the settings that they stand for, and their help texts.

use std::str::FromStr;

use clap::ValueEnum;
use mmface::detect::Kind;
use mmface::mesh::Format;
use mmface::smooth::Strength;
use mmface::{Device, Precision};
use serde::{Deserialize, Deserializer};

use crate::eval::Judged;
use crate::lens::Lens;
use crate::sink::avatar::Shapes;
use crate::sink::meshes::Origin;
use crate::sink::overlay::Style;
use crate::sink::{OnFailure, VolumeSource, WhenSlow};
use crate::source::Transport;

/// Defines an enum of a flag's values and the conversion to the corresponding setting.
macro_rules! values {
    ($(#[$doc:meta])* $name:ident => $target:ty { $($(#[$help:meta])* $value:ident => $meaning:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$help])* $value,)* }

        impl From<$name> for $target {
            fn from(arg: $name) -> Self {
                match arg { $($name::$value => $meaning,)* }
            }
        }
    };
}

values! {
    /// `--rtsp-transport`.
    TransportArg => Transport {
        /// TCP, or UDP if the camera does not offer TCP
        Auto => Transport::Auto,
        /// Inside the RTSP connection: loses nothing, passes firewalls
        Tcp => Transport::Tcp,
        /// Separate packets: a little faster, but packets can be lost
        Udp => Transport::Udp,
    }
}

/// `--focal`: pixels, or what each picture's file says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FocalArg(pub Lens);

impl FromStr for FocalArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "exif" => Ok(Self(Lens::Exif)),
            pixels => match pixels.parse() {
                Ok(pixels) => Ok(Self(Lens::Focal(pixels))),
                Err(_) => Err("write pixels, or exif"),
            },
        }
    }
}

impl<'de> Deserialize<'de> for FocalArg {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected pixels, or \"exif\"")]
        enum Either {
            Pixels(f32),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Pixels(pixels) => Ok(Self(Lens::Focal(pixels))),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// `--wait`: seconds, or for ever.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WaitArg {
    /// For this many seconds.
    Seconds(f64),
    /// For ever.
    Forever,
}

impl FromStr for WaitArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "forever" => Ok(Self::Forever),
            number => number.parse().map(Self::Seconds).map_err(|_| "write seconds, or forever"),
        }
    }
}

impl<'de> Deserialize<'de> for WaitArg {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected seconds, or \"forever\"")]
        enum Either {
            Seconds(f64),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Seconds(seconds) => Ok(Self::Seconds(seconds)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

values! {
    /// `--smooth`.
    SmoothArg => Strength {
        /// No smoothing: every frame stands alone, identity included
        Off => Strength::Off,
        /// Half the jitter
        Light => Strength::Light,
        /// A third of the jitter
        Medium => Strength::Medium,
        /// A sixth of the jitter, for heads that move slowly
        Strong => Strength::Strong,
        /// For avatars: eyelids and jaw fast, the head calm
        Avatar => Strength::Avatar,
    }
}

values! {
    /// `--refine`: whether poses are aligned to the volume.
    RefineArg => bool {
        /// The parameters stay as the networks gave them
        Off => false,
        /// Iterative closest point (ICP)
        Icp => true,
    }
}

values! {
    /// `--overlay-style`.
    StyleArg => Style {
        /// The lit mesh, half transparent
        Mesh => Style::Mesh,
        /// The edges of the mesh
        Wire => Style::Wire,
        /// The depth: near is yellow, far is blue
        Depth => Style::Depth,
        /// The normals: red to the right, green up, blue toward the camera
        Normals => Style::Normals,
        /// The surface of the volume, coloured by its normals
        Volume => Style::Volume,
    }
}

values! {
    /// `--mesh-format`.
    FormatArg => Format {
        /// Wavefront OBJ, colours after the coordinates
        Obj => Format::Obj,
        /// Stanford PLY, binary
        Ply => Format::Ply,
        /// glTF 2.0, binary
        Glb => Format::Glb,
    }
}

values! {
    /// `--mesh-from`.
    MeshFromArg => Origin {
        /// The parameters: the fitted mesh
        Model => Origin::Model,
        /// The surface of the volume
        Volume => Origin::Volume,
    }
}

values! {
    /// `--volume-from`.
    VolumeFromArg => VolumeSource {
        /// The volume head
        Network => VolumeSource::Network,
        /// The fitted mesh, filled
        Model => VolumeSource::Model,
    }
}

values! {
    /// `--on-slow-reader`.
    SlowReaderArg => WhenSlow {
        /// The oldest frames that wait are left out, and counted
        Drop => WhenSlow::DropOldest,
        /// The run waits; what the source drops then is counted as busy
        Block => WhenSlow::Wait,
    }
}

values! {
    /// `--sink-failure`.
    SinkFailureArg => OnFailure {
        /// The run ends, and all other outputs are written to their ends
        End => OnFailure::End,
        /// The others go on; the exit code is 6 at the end
        Drop => OnFailure::Drop,
    }
}

values! {
    /// `--idle`: whether only key frames are decoded while nothing happens.
    IdleArg => bool {
        /// Every frame is decoded
        All => false,
        /// Only key frames, until a face or motion shows in one
        Keyframes => true,
    }
}

values! {
    /// `--vmc-shapes`.
    VmcShapesArg => Shapes {
        /// ARKit's 52, which avatars with "perfect sync" have
        Arkit => Shapes::Arkit,
        /// Visemes, emotions and blinks by their names in VRM 0.x: A, Joy, Blink_L
        Vrm0 => Shapes::Vrm0,
        /// The same by their names in VRM 1.0: aa, happy, blinkLeft
        Vrm1 => Shapes::Vrm1,
    }
}

values! {
    /// `--vts-parameters`: whether ARKit's coefficients become parameters.
    VtsParametersArg => bool {
        /// Those that every VTube Studio has, which its models use
        Standard => false,
        /// ARKit's coefficients too, as new parameters such as EyeBlinkLeft
        Arkit => true,
    }
}

values! {
    /// `--device`.
    DeviceArg => Device {
        /// The best that works on this machine
        Auto => Device::Auto,
        /// OpenVINO on the CPU
        Cpu => Device::Cpu,
        /// TensorRT on an NVIDIA GPU
        Cuda => Device::Cuda,
    }
}

values! {
    /// `--precision`.
    PrecisionArg => Option<Precision> {
        /// The fastest that the device supports
        Auto => None,
        /// 32-bit floats
        F32 => Some(Precision::F32),
        /// bfloat16, for the CPU
        Bf16 => Some(Precision::Bf16),
        /// 16-bit floats, for the GPU
        F16 => Some(Precision::F16),
        /// 8-bit integers in the convolutions, for the CPU
        Int8 => Some(Precision::Int8),
    }
}

#[cfg(feature = "opencv")]
values! {
    /// `--detector`.
    DetectorArg => Kind {
        /// CenterFace, a network that finds rotated, tilted and small faces, run by OpenCV
        Centerface => Kind::CenterFaceOpenCv,
        /// CenterFace, run by OpenVINO
        CenterfaceOpenvino => Kind::CenterFaceOpenVino,
        /// OpenCV's Haar cascade: upright frontal faces only, for machines without the network's file
        Haar => Kind::Haar,
    }
}

#[cfg(not(feature = "opencv"))]
values! {
    /// `--detector`.
    DetectorArg => Kind {
        /// CenterFace, a network that finds rotated, tilted and small faces, run by OpenVINO
        CenterfaceOpenvino => Kind::CenterFaceOpenVino,
    }
}

values! {
    /// `eval --points`.
    JudgedArg => Judged {
        /// `landmarks`: the contour follows the visible outline
        Visible => Judged::Visible,
        /// x and y of `landmarks3d`: fixed points of the mesh, hidden ones included
        #[value(name = "3d")]
        Fixed => Judged::Fixed,
    }
}

//! The values that flags can have: names for the settings of the other modules, and what `--help` says
//! of each.

use clap::ValueEnum;
use mmface::detect::Kind;
use mmface::mesh::Format;
use mmface::smooth::Strength;
use mmface::{Device, Precision};
use serde::Deserialize;

use crate::eval::Judged;
use crate::sink::VolumeSource;
use crate::sink::meshes::Origin;
use crate::sink::overlay::Style;
use crate::source::Transport;

/// A flag's values, and what each stands for.
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
        /// TCP; where the camera does not offer it, UDP
        Auto => Transport::Auto,
        /// Inside the RTSP connection: loses nothing, passes firewalls
        Tcp => Transport::Tcp,
        /// Packets of their own: a little faster, and what is lost is lost
        Udp => Transport::Udp,
    }
}

values! {
    /// `--smooth`.
    SmoothArg => Strength {
        /// Not at all: every frame stands alone, identity too
        Off => Strength::Off,
        /// Half the jitter, for whoever drives an avatar
        Light => Strength::Light,
        /// A third of the jitter
        Medium => Strength::Medium,
        /// A sixth of the jitter, for slow heads
        Strong => Strength::Strong,
    }
}

values! {
    /// `--refine`: whether poses are aligned to the volume.
    RefineArg => bool {
        /// The parameters stay as the networks gave them
        Off => false,
        /// Iterative closest points
        Icp => true,
    }
}

values! {
    /// `--overlay-style`.
    StyleArg => Style {
        /// Lit, half transparent
        Mesh => Style::Mesh,
        /// The edges of its triangles
        Wire => Style::Wire,
        /// Near is yellow, far is blue
        Depth => Style::Depth,
        /// Where the surface looks: red to the right, green up, blue toward the camera
        Normals => Style::Normals,
        /// The surface of the volume, by where it looks
        Volume => Style::Volume,
    }
}

values! {
    /// `--mesh-format`.
    FormatArg => Format {
        /// Wavefront OBJ, colours behind the coordinates
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
        /// The parameters
        Model => Origin::Model,
        /// The volume
        Volume => Origin::Volume,
    }
}

values! {
    /// `--volume-from`.
    VolumeFromArg => VolumeSource {
        /// The volume head
        Network => VolumeSource::Network,
        /// The parameters: the solid that the fitted mesh bounds
        Model => VolumeSource::Model,
    }
}

values! {
    /// `--device`.
    DeviceArg => Device {
        /// The best that works here
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
        /// The fastest that the device computes in
        Auto => None,
        /// 32-bit floats
        F32 => Some(Precision::F32),
        /// bfloat16; the CPU
        Bf16 => Some(Precision::Bf16),
        /// 16-bit floats; the GPU
        F16 => Some(Precision::F16),
    }
}

#[cfg(feature = "opencv")]
values! {
    /// `--detector`.
    DetectorArg => Kind {
        /// CenterFace, a network that finds turned, tilted and small faces, run by OpenCV
        Centerface => Kind::CenterFaceOpenCv,
        /// The same network, run by OpenVINO
        CenterfaceOpenvino => Kind::CenterFaceOpenVino,
        /// OpenCV's Haar cascade: upright frontal faces only, for machines without the network's file
        Haar => Kind::Haar,
    }
}

#[cfg(not(feature = "opencv"))]
values! {
    /// `--detector`.
    DetectorArg => Kind {
        /// CenterFace, a network that finds turned, tilted and small faces, run by OpenVINO
        CenterfaceOpenvino => Kind::CenterFaceOpenVino,
    }
}

values! {
    /// `eval --points`.
    JudgedArg => Judged {
        /// `landmarks`: the contour follows the visible outline
        Visible => Judged::Visible,
        /// `landmarks3d`, their x and y: fixed on the face, hidden ones too
        #[value(name = "3d")]
        Fixed => Judged::Fixed,
    }
}

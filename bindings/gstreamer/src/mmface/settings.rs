//! The properties of the element `mmface`.

use std::path::PathBuf;
use std::sync::LazyLock;

use ::mmface::smooth::Strength;
use ::mmface::{Device, Precision, TrackerOptions};
use gstreamer::prelude::*;
use gstreamer::{self as gst, glib};

/// What the networks are opened with. Elements with the same settings share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Networks {
    pub(super) engines: Option<PathBuf>,
    pub(super) variant: String,
    pub(super) device: DeviceName,
    pub(super) precision: PrecisionName,
    /// 0: all cores.
    pub(super) threads: u32,
    pub(super) detector_model: Option<PathBuf>,
}

/// All settings but the base class's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) networks: Networks,
    pub(super) faces: u32,
    /// 0: derived from the frame's size.
    pub(super) detect_size: u32,
    pub(super) detect_every: f64,
    pub(super) reidentify: f64,
    pub(super) smooth: Smooth,
    pub(super) mode: Mode,
    /// Name in the records; `None` is the element's name.
    pub(super) stream: Option<String>,
    pub(super) landmarks: bool,
    pub(super) raw: bool,
    pub(super) post_messages: bool,
    pub(super) latency: gst::ClockTime,
}

impl Default for Settings {
    fn default() -> Self {
        let TrackerOptions { faces, detect_every, reidentify, .. } = TrackerOptions::default();
        Self {
            networks: Networks {
                engines: None,
                variant: "mmface-lite".into(),
                device: DeviceName::default(),
                precision: PrecisionName::default(),
                threads: 0,
                detector_model: None,
            },
            faces: u32::try_from(faces).unwrap_or(u32::MAX),
            detect_size: 0,
            detect_every,
            reidentify,
            smooth: Smooth::default(),
            mode: Mode::default(),
            stream: None,
            landmarks: false,
            raw: false,
            post_messages: true,
            latency: gst::ClockTime::ZERO,
        }
    }
}

/// The property `device`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMmfaceDevice")]
pub(super) enum DeviceName {
    #[default]
    #[enum_value(name = "The best that works on this machine", nick = "auto")]
    Auto,
    #[enum_value(name = "OpenVINO on the CPU", nick = "cpu")]
    Cpu,
    #[enum_value(name = "TensorRT on an NVIDIA GPU", nick = "cuda")]
    Cuda,
}

impl DeviceName {
    pub(super) fn device(self) -> Device {
        match self {
            Self::Auto => Device::Auto,
            Self::Cpu => Device::Cpu,
            Self::Cuda => Device::Cuda,
        }
    }
}

/// The property `precision`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMmfacePrecision")]
pub(super) enum PrecisionName {
    #[default]
    #[enum_value(name = "The fastest that the device supports", nick = "auto")]
    Auto,
    #[enum_value(name = "32-bit floats", nick = "f32")]
    F32,
    #[enum_value(name = "bfloat16, for the CPU", nick = "bf16")]
    Bf16,
    #[enum_value(name = "16-bit floats, for the GPU", nick = "f16")]
    F16,
    #[enum_value(name = "8-bit integers in the convolutions, for the CPU", nick = "int8")]
    Int8,
}

impl PrecisionName {
    pub(super) fn precision(self) -> Option<Precision> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Precision::F32),
            Self::Bf16 => Some(Precision::Bf16),
            Self::F16 => Some(Precision::F16),
            Self::Int8 => Some(Precision::Int8),
        }
    }
}

/// The property `smooth`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMmfaceSmooth")]
pub(super) enum Smooth {
    #[enum_value(name = "None: every frame stands alone", nick = "off")]
    Off,
    #[enum_value(name = "Half the jitter", nick = "light")]
    Light,
    #[default]
    #[enum_value(name = "A third of the jitter", nick = "medium")]
    Medium,
    #[enum_value(name = "A sixth of the jitter, for heads that move slowly", nick = "strong")]
    Strong,
    #[enum_value(name = "For avatars: eyelids and jaw fast, the head calm", nick = "avatar")]
    Avatar,
}

impl Smooth {
    pub(super) fn strength(self) -> Strength {
        match self {
            Self::Off => Strength::Off,
            Self::Light => Strength::Light,
            Self::Medium => Strength::Medium,
            Self::Strong => Strength::Strong,
            Self::Avatar => Strength::Avatar,
        }
    }
}

/// The property `mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstMmfaceMode")]
pub(super) enum Mode {
    #[default]
    #[enum_value(name = "live if the source is live, else recording", nick = "auto")]
    Auto,
    #[enum_value(name = "Never waits for the face detector", nick = "live")]
    Live,
    #[enum_value(
        name = "Waits for the face detector: the same video gives the same numbers",
        nick = "recording"
    )]
    Recording,
}

/// Longest latency that can be reported: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// A property that can be changed while the element is not running.
macro_rules! stopped {
    ($builder:expr) => {
        $builder.mutable_ready().build()
    };
}

/// A property that can be changed at any time.
macro_rules! playing {
    ($builder:expr) => {
        $builder.mutable_playing().build()
    };
}

/// All properties, as `gst-inspect-1.0` shows them.
pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    use glib::{
        ParamSpecBoolean, ParamSpecBoxed, ParamSpecDouble, ParamSpecEnum, ParamSpecString,
        ParamSpecUInt, ParamSpecUInt64,
    };
    let is = Settings::default();
    vec![
        stopped!(ParamSpecString::builder("engines").nick("Engines").blurb(
            "Folder of the networks (with manifest.toml); unset: the environment variable \
             MMFACE_ENGINES, else beside the plugin or the program, else in the working directory"
        )),
        stopped!(
            ParamSpecString::builder("variant")
                .nick("Variant")
                .blurb("Which variant of the networks")
                .default_value(Some(is.networks.variant.as_str()))
        ),
        stopped!(
            ParamSpecEnum::builder_with_default("device", is.networks.device)
                .nick("Device")
                .blurb("Device that runs the networks")
        ),
        stopped!(
            ParamSpecEnum::builder_with_default("precision", is.networks.precision)
                .nick("Precision")
                .blurb("Precision of the networks")
        ),
        stopped!(
            ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("CPU threads of the networks; 0: one for each core")
                .maximum(1024)
        ),
        stopped!(ParamSpecString::builder("detector-model").nick("Detector's file").blurb(
            "File of the face detector's network (CenterFace, ONNX); unset: MMFACE_DETECTOR_MODEL, \
             else searched like engines"
        )),
        stopped!(
            ParamSpecUInt::builder("faces")
                .nick("Faces")
                .blurb("Most faces to follow")
                .minimum(1)
                .maximum(64)
                .default_value(is.faces)
        ),
        stopped!(ParamSpecUInt::builder("detect-size").nick("Detector's size").maximum(4096).blurb(
            "Longest side, in pixels, of the image that the face detector works on: 64 to 4096, \
             larger finds smaller faces; 0: a third of the frame's longer side within 512 and 960"
        )),
        stopped!(
            ParamSpecDouble::builder("detect-every")
                .nick("Detect every")
                .blurb("Seconds between detections while more faces could be followed")
                .minimum(0.0)
                .maximum(3600.0)
                .default_value(is.detect_every)
        ),
        stopped!(
            ParamSpecDouble::builder("reidentify")
                .nick("Reidentify")
                .blurb(
                    "Seconds for which somebody who left keeps the id, to get it back if it is \
                     surely the same person; 0: never"
                )
                .minimum(0.0)
                .maximum(3600.0)
                .default_value(is.reidentify)
        ),
        stopped!(
            ParamSpecEnum::builder_with_default("smooth", is.smooth)
                .nick("Smooth")
                .blurb("Strength of the smoothing over time")
        ),
        stopped!(
            ParamSpecEnum::builder_with_default("mode", is.mode)
                .nick("Mode")
                .blurb("Whether a frame waits for the face detector")
        ),
        stopped!(
            ParamSpecString::builder("stream")
                .nick("Stream")
                .blurb("Name of the stream in the records; unset: the element's name")
        ),
        playing!(
            ParamSpecBoolean::builder("landmarks")
                .nick("Landmarks")
                .blurb("Records carry 68 landmarks, on the visible outline and in 3D")
        ),
        playing!(
            ParamSpecBoolean::builder("raw")
                .nick("Raw")
                .blurb("Records carry the parameters before smoothing too")
        ),
        playing!(
            ParamSpecBoolean::builder("post-messages")
                .nick("Post messages")
                .blurb("Post each record as an element message (structure mmface, field json)")
                .default_value(is.post_messages)
        ),
        playing!(ParamSpecUInt64::builder("latency").nick("Latency").maximum(LONGEST).blurb(
            "Time to report as this element's part of the latency of a live pipeline, in \
             nanoseconds; the element holds no frame back, so 0 is right unless frames come late"
        )),
        ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "Counts since the last start (processed, skipped because late, faces, resets) and \
                 times of a frame in nanoseconds (average-time, worst-time)",
            )
            .read_only()
            .build(),
    ]
});

impl Settings {
    /// Sets a property.
    ///
    /// # Errors
    /// If the value has another type; GObject has checked that already.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &glib::Value,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let networks = &mut self.networks;
        match name {
            "engines" => networks.engines = path(value.get()?),
            "variant" => {
                let name: Option<String> = value.get()?;
                networks.variant = name.unwrap_or_else(|| Self::default().networks.variant);
            }
            "device" => networks.device = value.get()?,
            "precision" => networks.precision = value.get()?,
            "threads" => networks.threads = value.get()?,
            "detector-model" => networks.detector_model = path(value.get()?),
            "faces" => self.faces = value.get()?,
            "detect-size" => self.detect_size = value.get()?,
            "detect-every" => self.detect_every = value.get()?,
            "reidentify" => self.reidentify = value.get()?,
            "smooth" => self.smooth = value.get()?,
            "mode" => self.mode = value.get()?,
            "stream" => self.stream = value.get()?,
            "landmarks" => self.landmarks = value.get()?,
            "raw" => self.raw = value.get()?,
            "post-messages" => self.post_messages = value.get()?,
            "latency" => self.latency = gst::ClockTime::from_nseconds(value.get()?),
            _ => {}
        }
        Ok(())
    }

    /// The value of a property; `None` for one that is not a setting.
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        let networks = &self.networks;
        Some(match name {
            "engines" => networks.engines.as_ref().map(|p| p.display().to_string()).to_value(),
            "variant" => networks.variant.to_value(),
            "device" => networks.device.to_value(),
            "precision" => networks.precision.to_value(),
            "threads" => networks.threads.to_value(),
            "detector-model" => {
                networks.detector_model.as_ref().map(|p| p.display().to_string()).to_value()
            }
            "faces" => self.faces.to_value(),
            "detect-size" => self.detect_size.to_value(),
            "detect-every" => self.detect_every.to_value(),
            "reidentify" => self.reidentify.to_value(),
            "smooth" => self.smooth.to_value(),
            "mode" => self.mode.to_value(),
            "stream" => self.stream.to_value(),
            "landmarks" => self.landmarks.to_value(),
            "raw" => self.raw.to_value(),
            "post-messages" => self.post_messages.to_value(),
            "latency" => self.latency.nseconds().to_value(),
            _ => return None,
        })
    }
}

fn path(value: Option<String>) -> Option<PathBuf> {
    value.filter(|path| !path.is_empty()).map(PathBuf::from)
}

//! What the element `mmfaceoverlay` does with frames.

use std::sync::{LazyLock, Mutex, PoisonError};

use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer::{self as gst, glib};
use gstreamer_base::subclass::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video::prelude::*;
use gstreamer_video::subclass::prelude::*;
use gstreamer_video::{VideoCapsBuilder, VideoFormat, VideoFrameRef};

use super::canvas::Canvas;
use super::draw::{self, Parts};
use crate::meta;

/// Formats that can be drawn on: all common ones with 8 bits a sample.
const FORMATS: [VideoFormat; 21] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Gray8,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::Yuy2,
    VideoFormat::Uyvy,
    VideoFormat::Ayuv,
    VideoFormat::Gbr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
];

/// The element.
pub(crate) struct MmfaceOverlay {
    parts: Mutex<Parts>,
}

impl Default for MmfaceOverlay {
    fn default() -> Self {
        let parts = Parts { bounds: true, landmarks: true, axes: true, labels: true };
        Self { parts: Mutex::new(parts) }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MmfaceOverlay {
    const NAME: &'static str = "GstMmfaceOverlay";
    type Type = super::MmfaceOverlay;
    type ParentType = gstreamer_video::VideoFilter;
}

impl ObjectImpl for MmfaceOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            [
                ("box", "Draw the box around the landmarks"),
                ("landmarks", "Draw the 68 landmarks"),
                ("axes", "Draw the head's axes: x to its left, y up, z out of the face"),
                ("labels", "Write id and confidence"),
            ]
            .into_iter()
            .map(|(name, blurb)| {
                let spec = glib::ParamSpecBoolean::builder(name).blurb(blurb).default_value(true);
                spec.mutable_playing().build()
            })
            .collect()
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(part), Ok(wanted)) = (part(&mut parts, spec.name()), value.get()) {
            *part = wanted;
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        let mut parts = *self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        part(&mut parts, spec.name()).is_some_and(|part| *part).to_value()
    }
}

/// The part that a property names.
fn part<'a>(parts: &'a mut Parts, name: &str) -> Option<&'a mut bool> {
    Some(match name {
        "box" => &mut parts.bounds,
        "landmarks" => &mut parts.landmarks,
        "axes" => &mut parts.axes,
        "labels" => &mut parts.labels,
        _ => return None,
    })
}

impl GstObjectImpl for MmfaceOverlay {}

impl ElementImpl for MmfaceOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "3D faces overlay",
                "Filter/Effect/Video",
                "Draws the faces that mmface has attached to the buffers",
                "The authors of mmface-live",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = VideoCapsBuilder::new().format_list(FORMATS).build();
            let pad = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
            };
            let pads = [pad("src", gst::PadDirection::Src), pad("sink", gst::PadDirection::Sink)];
            pads.into_iter().flatten().collect()
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for MmfaceOverlay {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;
}

impl VideoFilterImpl for MmfaceOverlay {
    fn transform_frame_ip(
        &self,
        frame: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let faces = meta::faces(frame.buffer(), frame.width(), frame.height());
        if !faces.is_empty() {
            let parts = *self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let info = frame.info().clone();
            draw::faces(&mut Canvas::new(frame, &info), &faces, parts);
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

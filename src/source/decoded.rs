//! Takes the pixels out of a GStreamer sample without a copy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gstreamer as gst;
use gstreamer_video::prelude::*;
use gstreamer_video::video_frame::Readable;
use gstreamer_video::{VideoColorMatrix, VideoColorRange, VideoFrame, VideoInfo};

use mmface::Image;
use mmface::image::{Colour, Layout, Matrix, Plane};

use crate::frame::Pixels;

/// Highest frame rate that is plausible.
const MAX_FPS: f64 = 1000.0;

/// A decoded frame with its properties.
pub(super) struct Decoded {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Arc<dyn Pixels>,
    /// Time in seconds of the stream, if known.
    pub(super) pts: Option<f64>,
    /// When the frame ends: seconds of the stream or of the container, whichever is later.
    pub(super) end: f64,
    /// Duration of the frame; 0 if unknown.
    pub(super) duration: Duration,
    /// Frames per second; 0 if unknown.
    pub(super) fps: f64,
    /// When the camera took the frame, on its own clock, if it tells.
    pub(super) taken: Option<SystemTime>,
}

/// The decoder's buffer, mapped for reading for as long as the frame is used.
struct Mapped {
    frame: VideoFrame<Readable>,
    colour: Colour,
}

impl Pixels for Mapped {
    fn image(&self) -> Image<'_> {
        let plane = |index: usize| {
            let bytes = u32::try_from(index).ok().and_then(|i| self.frame.plane_data(i).ok());
            let stride = self.frame.plane_stride().get(index).copied().unwrap_or_default();
            Plane::new(bytes.unwrap_or_default(), usize::try_from(stride).unwrap_or_default())
        };
        Image {
            width: self.frame.width(),
            height: self.frame.height(),
            layout: Layout::I420,
            colour: self.colour,
            planes: [0, 1, 2].map(plane),
        }
    }
}

impl Decoded {
    /// The frame in a sample; `None` if it is not in I420.
    pub(super) fn from_sample(sample: &gst::Sample) -> Option<Self> {
        let info = VideoInfo::from_caps(sample.caps()?).ok()?;
        let buffer = sample.buffer_owned()?;
        let pts = buffer.pts().and_then(|pts| {
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            segment.to_stream_time(pts).or_else(|| segment.to_running_time(pts))
        });
        let duration = buffer.duration().map(Duration::from).unwrap_or_default();
        let end = pts.max(buffer.pts()).map_or(0.0, |pts| pts.nseconds() as f64 / 1e9)
            + duration.as_secs_f64();
        let frame = VideoFrame::from_buffer_readable(buffer, &info).ok()?;
        let matrix = match info.colorimetry().matrix() {
            VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => Matrix::Bt601,
            // BT.709 is the best approximation of the others (SMPTE 240M, BT.2020).
            _ => Matrix::Bt709,
        };
        let full_range = info.colorimetry().range() == VideoColorRange::Range0_255;
        let mapped = Mapped { frame, colour: Colour { matrix, full_range } };
        mapped.image().check().ok()?;
        let fps = f64::from(info.fps().numer()) / f64::from(info.fps().denom().max(1));
        // Some raw H.264 streams have a time base here, such as 24000, instead of a rate.
        let fps = if fps > MAX_FPS { 0.0 } else { fps };
        Some(Self {
            width: info.width(),
            height: info.height(),
            pixels: Arc::new(mapped),
            pts: pts.map(|pts| pts.nseconds() as f64 / 1e9),
            end,
            duration,
            fps,
            taken: None,
        })
    }
}

//! Frames of clips and pictures, decoded by GStreamer.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoColorMatrix, VideoColorRange, VideoFrame, VideoInfo};
use mmface::Image;
use mmface::image::{Colour, Layout, Matrix, Plane};

/// No frame takes so long; whatever does hangs.
const DEADLINE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// A clip that is decoded frame by frame, in the decoder's own I420 with its own rows.
pub struct Clip {
    pipeline: gst::Pipeline,
    sink: AppSink,
}

impl Clip {
    /// Opens one of the clips that the set-up unpacked.
    pub fn open(name: &str) -> Self {
        gst::init().unwrap();
        let text = format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 \
             ! appsink name=sink sync=false max-buffers=2",
            super::media(name).display()
        );
        let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, sink }
    }
}

impl Iterator for Clip {
    /// Seconds, and the frame.
    type Item = (f64, Image<'static>);

    fn next(&mut self) -> Option<Self::Item> {
        let Some(sample) = self.sink.try_pull_sample(DEADLINE) else {
            assert!(self.sink.is_eos(), "no frame within {DEADLINE}");
            return None;
        };
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let buffer = sample.buffer_owned().unwrap();
        let pts = buffer.pts().unwrap_or_default().nseconds() as f64 / 1e9;
        let frame = VideoFrame::from_buffer_readable(buffer, &info).unwrap();
        let planes = (0..3).map(|plane| {
            let stride = usize::try_from(frame.plane_stride()[plane as usize]).unwrap();
            Plane::new(frame.plane_data(plane).unwrap().to_vec(), stride)
        });
        let image = Image::new(Layout::I420, info.width(), info.height(), planes).unwrap();
        let matrix = match info.colorimetry().matrix() {
            VideoColorMatrix::Bt601 => Matrix::Bt601,
            _ => Matrix::Bt709,
        };
        let full_range = info.colorimetry().range() == VideoColorRange::Range0_255;
        Some((pts, image.with_colour(Colour { matrix, full_range })))
    }
}

impl Drop for Clip {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// A picture that the set-up unpacked, or the first frame of a clip.
pub fn picture(name: &str) -> Image<'static> {
    Clip::open(name).next().expect("a picture has a frame").1
}

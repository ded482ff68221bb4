//! Frames of a stream.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mmface::Image;
use mmface::record::Dropped;

/// Owner of a frame's pixels: a decoder's buffer, or plain memory.
pub trait Pixels: Send + Sync {
    /// A view of the pixels.
    fn image(&self) -> Image<'_>;
}

impl Pixels for Image<'static> {
    fn image(&self) -> Image<'_> {
        self.clone()
    }
}

/// Properties of a stream. They may change with every connection and every change of caps.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Width of the frames in pixels.
    pub width: u32,
    /// Height of the frames in pixels.
    pub height: u32,
    /// Frames per second; 0 if the stream does not say.
    pub fps: f64,
    /// Name of the codec as reported by GStreamer (`H.264`, `Motion JPEG`, …); `raw` if there is
    /// none.
    pub codec: String,
    /// Number of the connection to the source, from 1.
    pub connection: u32,
}

/// Identifies the picture if a frame is a still.
#[derive(Debug, Clone, PartialEq)]
pub struct Still {
    /// Index in the list of pictures, from 0. Pictures that cannot be decoded are counted.
    pub index: usize,
    /// Its file name.
    pub name: Arc<str>,
    /// Focal length in pixels, if the file says it.
    pub focal: Option<f32>,
}

/// One frame of a stream. Clones share the pixels.
#[derive(Clone)]
pub struct Frame {
    /// Number of the decoded frame, from 0; not reset by reconnects. Missing numbers are dropped
    /// frames.
    pub number: u64,
    /// Time in seconds of the stream, always increasing; for stills, the index.
    pub pts: f64,
    /// Wall clock time at which the frame was decoded.
    pub time: SystemTime,
    /// When the camera took the frame, on its own clock, if it tells.
    pub taken: Option<SystemTime>,
    /// The same as `time` on the monotonic clock, for latencies.
    pub arrived: Instant,
    /// Number of the connection; see [`StreamInfo::connection`].
    pub connection: u32,
    /// Frames lost before this one since the start of the run, by cause.
    pub dropped: Dropped,
    /// Set for pictures.
    pub still: Option<Still>,
    /// The pixels.
    pub pixels: Arc<dyn Pixels>,
}

impl Frame {
    /// A view of the pixels.
    #[must_use]
    pub fn image(&self) -> Image<'_> {
        self.pixels.image()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} at {} s, {:?})", self.number, self.pts, self.image())
    }
}

//! A frame of a stream: pixels, time, number.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mmface::Image;

/// Whoever owns the pixels of a frame: a decoder's buffer, or plain memory.
pub trait Pixels: Send + Sync {
    /// A view of them.
    fn image(&self) -> Image<'_>;
}

impl Pixels for Image<'static> {
    fn image(&self) -> Image<'_> {
        self.clone()
    }
}

/// What a source knows of its stream; changes with every connection and every change of caps.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames a second; 0 where the stream does not say.
    pub fps: f64,
    /// Name of the encoding, as GStreamer puts it (`H.264`, `Motion JPEG`, …); `raw` for none.
    pub codec: String,
    /// Counts the connections to the source, from 1.
    pub connection: u32,
}

/// Which picture a frame is, if it is a still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Still {
    /// Its place in the list of pictures, from 0; those that cannot be decoded count.
    pub index: usize,
    /// Its file name.
    pub name: Arc<str>,
}

/// One frame of a stream. Cloning it copies no pixel.
#[derive(Clone)]
pub struct Frame {
    /// Counts every decoded frame of the run from 0, also across reconnects; gaps are dropped frames.
    pub number: u64,
    /// Seconds of the stream; goes on increasing within a connection. Of stills, the index.
    pub pts: f64,
    /// Wall clock at which the frame reached this program.
    pub time: SystemTime,
    /// The same moment on the monotonic clock, for latencies.
    pub arrived: Instant,
    /// Which connection it came over; see [`StreamInfo::connection`].
    pub connection: u32,
    /// Pictures only.
    pub still: Option<Still>,
    /// The pixels.
    pub pixels: Arc<dyn Pixels>,
}

impl Frame {
    /// The pixels.
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

//! A frame: pixels, format, time, number.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How the pixels of an [`Image`] are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Three planes, Y at full size, U and V at half width and half height (rounded up).
    I420,
    /// One plane, three bytes a pixel: R, G, B.
    Rgb,
}

/// The matrix that turns Y'CbCr into R'G'B'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601, standard definition.
    Bt601,
    /// ITU-R BT.709, high definition.
    Bt709,
}

impl Matrix {
    /// The weights of red and blue in luma.
    #[must_use]
    pub const fn weights(self) -> (f32, f32) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
        }
    }
}

/// Whoever owns the bytes of an image: a decoder's buffer, or plain memory.
pub trait Planes: Send + Sync {
    /// The bytes of plane `index` (0 to 2), rows [`stride`](Self::stride) bytes apart.
    fn plane(&self, index: usize) -> &[u8];
    /// Bytes from one row of plane `index` to the next.
    fn stride(&self, index: usize) -> usize;
}

/// A picture. Cloning it copies no pixel.
#[derive(Clone)]
pub struct Image {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How pixels are stored.
    pub layout: Layout,
    /// Which Y'CbCr this is (I420 only).
    pub matrix: Matrix,
    /// Whether Y'CbCr uses all values 0…255 (JPEG) instead of 16…235 (I420 only).
    pub full_range: bool,
    /// The pixels.
    pub planes: Arc<dyn Planes>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{} {:?})", self.width, self.height, self.layout)
    }
}

/// Pixels in plain memory, rows packed: RGB images of tests and of other programs.
struct Packed {
    bytes: Vec<u8>,
    stride: usize,
}

impl Planes for Packed {
    fn plane(&self, _: usize) -> &[u8] {
        &self.bytes
    }
    fn stride(&self, _: usize) -> usize {
        self.stride
    }
}

impl Image {
    /// An image of packed RGB bytes, `height` × `width` × 3. `None` where the count does not fit.
    #[must_use]
    pub fn from_rgb(width: u32, height: u32, bytes: Vec<u8>) -> Option<Self> {
        let stride = width as usize * 3;
        (bytes.len() == stride * height as usize && !bytes.is_empty()).then(|| Self {
            width,
            height,
            layout: Layout::Rgb,
            matrix: Matrix::Bt601,
            full_range: true,
            planes: Arc::new(Packed { bytes, stride }),
        })
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

/// One frame of a stream. Cloning it copies no pixel.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Counts every decoded frame of the run from 0, also across reconnects; gaps are dropped frames.
    pub number: u64,
    /// Seconds of the stream; goes on increasing within a connection.
    pub pts: f64,
    /// Wall clock at which the frame reached this program.
    pub time: SystemTime,
    /// The same moment on the monotonic clock, for latencies.
    pub arrived: Instant,
    /// Which connection it came over; see [`StreamInfo::connection`].
    pub connection: u32,
    /// The picture's file name; pictures only.
    pub file: Option<Arc<str>>,
    /// The pixels.
    pub image: Image,
}

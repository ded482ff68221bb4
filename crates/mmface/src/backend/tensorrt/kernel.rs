//! What the preprocessing kernel (`crop.cu`) is told: where the planes of a frame lie, and how each
//! face's crop lies in it. Knows no CUDA.

use crate::Result;
use crate::crop::{CROP, Conversion, CropMap};
use crate::image::{Colour, Image};

/// CUDA C++, for NVRTC; plain C++ with a few words about CUDA before it.
pub const SOURCE: &str = include_str!("crop.cu");
/// The kernel's name in it.
pub const NAME: &str = "crop";
/// Threads of a block, x and y; a crop is a whole number of blocks.
pub const BLOCK: [u32; 2] = [32, 8];
/// Blocks of one face, x and y; z counts the faces.
pub const GRID: [u32; 2] = [CROP as u32 / BLOCK[0], CROP as u32 / BLOCK[1]];

/// One channel in the bytes of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Channel {
    /// Of the first sample, bytes.
    offset: u32,
    /// From a row to the next, bytes.
    stride: u32,
    /// From a sample to its right neighbour, bytes.
    pitch: u32,
    width: u32,
    height: u32,
}

/// `Geometry` of `crop.cu`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// R, G, B or Y, Cb, Cr.
    channels: [Channel; 3],
    yuv: bool,
    colour: Colour,
}

impl Geometry {
    /// Bytes of the struct.
    pub const SIZE: usize = 22 * 4;

    /// How an image lies in memory once its planes are put one behind the other.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) if the planes are shorter than width, height and stride
    /// say.
    pub fn of(image: &Image) -> Result<Self> {
        image.check()?;
        let mut starts = [0; 3];
        let mut end = 0;
        for (start, plane) in starts.iter_mut().zip(planes(image)) {
            *start = end;
            end += plane.len();
        }
        let channels = image.channels().map(|channel| Channel {
            offset: (starts[channel.plane] + channel.offset) as u32,
            stride: image.planes[channel.plane].stride as u32,
            pitch: channel.pitch as u32,
            width: channel.width,
            height: channel.height,
        });
        Ok(Self { channels, yuv: image.layout.is_yuv(), colour: image.colour })
    }

    /// The struct as the device reads it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let Conversion { black, luma, red, green: [green_cb, green_cr], blue } =
            Conversion::new(self.colour);
        let channels =
            self.channels.iter().flat_map(|p| [p.offset, p.stride, p.pitch, p.width, p.height]);
        let rest = [black, luma, red, green_cb, green_cr, blue].map(i32::cast_unsigned);
        let words = channels.chain([u32::from(self.yuv)]).chain(rest);
        let mut bytes = [0; Self::SIZE];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// The bytes of each plane that go to the device: whole rows, as they lie.
pub fn planes<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a [u8]> {
    let sizes = image.layout.planes(image.width, image.height);
    sizes
        .into_iter()
        .zip(&image.planes)
        .map(|(size, plane)| &plane.bytes[..plane.bytes.len().min(plane.stride * size.rows)])
}

/// Bytes of a crop map.
pub const MAP_SIZE: usize = 8 * 4;

/// `Map` of `crop.cu`.
#[must_use]
pub fn map_bytes(map: &CropMap) -> [u8; MAP_SIZE] {
    let (sin, cos) = map.angle.sin_cos();
    let mut bytes = [0; MAP_SIZE];
    let [x, y] = map.centre;
    let floats = [x, y, map.across(), map.scale, sin, cos].map(f32::to_bits);
    // A sane map's step fits.
    let steps = map.step().map(|step| i32::try_from(step).unwrap_or_default().cast_unsigned());
    let words = floats.into_iter().chain(steps);
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

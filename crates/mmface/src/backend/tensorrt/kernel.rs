//! Arguments of the crop kernel (`crop.cu`): the memory layout of a frame, and a map for each crop.
//! Does not depend on CUDA.

use crate::crop::{CROP, Conversion, CropMap};
use crate::error::Result;
use crate::image::{Colour, Image};

/// The kernel's source: CUDA C++ for NVRTC. It is plain C++ if a few CUDA keywords are defined
/// first.
pub const SOURCE: &str = include_str!("crop.cu");
/// The kernel's name in the source.
pub const NAME: &str = "crop";
/// Threads per block in x and y. A crop is a whole number of blocks.
pub const BLOCK: [u32; 2] = [32, 8];
/// Blocks per crop in x and y; z is the number of crops.
pub const GRID: [u32; 2] = [CROP as u32 / BLOCK[0], CROP as u32 / BLOCK[1]];

/// Where the samples of one channel lie in the bytes of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Channel {
    /// Bytes from the start of the image to the first sample.
    offset: u32,
    /// Bytes from one row to the next.
    stride: u32,
    /// Bytes from a sample to its right neighbour.
    pitch: u32,
    width: u32,
    height: u32,
}

/// The struct `Geometry` of `crop.cu`: how a frame lies in memory, and its colour coding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// The channels R, G, B or Y, Cb, Cr.
    channels: [Channel; 3],
    yuv: bool,
    colour: Colour,
}

impl Geometry {
    /// Size of the struct in bytes.
    pub const SIZE: usize = 22 * 4;

    /// The geometry of an image whose planes are stored one after the other.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) if a plane is too short for the size and its stride.
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

    /// The struct in the byte layout of the device.
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

/// The bytes of each plane to upload: whole rows, including padding.
pub fn planes<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a [u8]> {
    let sizes = image.layout.planes(image.width, image.height);
    sizes
        .into_iter()
        .zip(&image.planes)
        .map(|(size, plane)| &plane.bytes[..plane.bytes.len().min(plane.stride * size.rows)])
}

/// Size of the struct `Map` of `crop.cu` in bytes.
pub const MAP_SIZE: usize = 8 * 4;

/// The struct `Map` of `crop.cu`, in the byte layout of the device.
#[must_use]
pub fn map_bytes(map: &CropMap) -> [u8; MAP_SIZE] {
    let (sin, cos) = map.angle.sin_cos();
    let mut bytes = [0; MAP_SIZE];
    let [x, y] = map.centre;
    let floats = [x, y, map.across(), map.scale, sin, cos].map(f32::to_bits);
    // The step of a sane map fits into 32 bits.
    let steps = map.step().map(|step| i32::try_from(step).unwrap_or_default().cast_unsigned());
    let words = floats.into_iter().chain(steps);
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

//! What the preprocessing kernel (`crop.cu`) is told: where the planes of a frame lie, and how each
//! face's crop lies in it. Knows no CUDA.

use crate::crop::{CROP, Conversion, CropMap};
use crate::frame::{Image, Layout, Matrix};
use crate::{Error, Result};

/// CUDA C++, for NVRTC; plain C++ with a few words about CUDA before it.
pub const SOURCE: &str = include_str!("crop.cu");
/// The kernel's name in it.
pub const NAME: &str = "crop";
/// Threads of a block, x and y; a crop is a whole number of blocks.
pub const BLOCK: [u32; 2] = [32, 8];
/// Blocks of one face, x and y; z counts the faces.
pub const GRID: [u32; 2] = [CROP as u32 / BLOCK[0], CROP as u32 / BLOCK[1]];

/// One plane in the bytes of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Plane {
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
    planes: [Plane; 3],
    yuv: bool,
    matrix: Matrix,
    full_range: bool,
}

impl Geometry {
    /// Bytes of the struct.
    pub const SIZE: usize = 22 * 4;

    /// How an image lies in memory once its planes are put one behind the other.
    ///
    /// # Errors
    /// [`Error::Source`] if the planes are shorter than width, height and stride say.
    pub fn of(image: &Image) -> Result<Self> {
        let (width, height) = (image.width, image.height);
        let (half, half_height) = (width.div_ceil(2), height.div_ceil(2));
        // Of each plane in memory: samples of how many channels, columns, rows.
        let stored: &[(u32, u32, u32)] = match image.layout {
            Layout::Rgb => &[(3, width, height)],
            Layout::I420 => &[(1, width, height), (1, half, half_height), (1, half, half_height)],
        };
        let mut planes = Vec::with_capacity(3);
        let mut start = 0;
        for (index, &(pitch, width, height)) in stored.iter().enumerate() {
            let length = bytes(image, index).len();
            let stride = image.planes.stride(index);
            let needed = (stride * (height as usize).saturating_sub(1)) + (pitch * width) as usize;
            if stride < (pitch * width) as usize || length < needed || height == 0 || width == 0 {
                return Err(Error::Source(format!(
                    "a frame of {}x{} has a plane of only {length} bytes",
                    image.width, image.height
                )));
            }
            let stride = stride as u32;
            for channel in 0..pitch {
                planes.push(Plane { offset: start as u32 + channel, stride, pitch, width, height });
            }
            start += length;
        }
        let yuv = image.layout == Layout::I420;
        let planes = planes.try_into().unwrap_or_default();
        Ok(Self { planes, yuv, matrix: image.matrix, full_range: image.full_range })
    }

    /// The same pixels with Cb and Cr in turns behind Y (NV12), as hardware decoders write them.
    /// `stride` is that of the shared plane, which begins where Cb's did.
    #[must_use]
    pub fn nv12(mut self, stride: u32) -> Self {
        let [_, cb, cr] = &mut self.planes;
        *cb = Plane { stride, pitch: 2, ..*cb };
        *cr = Plane { offset: cb.offset + 1, ..*cb };
        self
    }

    /// The struct as the device reads it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let Conversion { black, luma, red, green: [green_cb, green_cr], blue } =
            Conversion::new(self.matrix, self.full_range);
        let planes =
            self.planes.iter().flat_map(|p| [p.offset, p.stride, p.pitch, p.width, p.height]);
        let rest = [black, luma, red, green_cb, green_cr, blue].map(i32::cast_unsigned);
        let words = planes.chain([u32::from(self.yuv)]).chain(rest);
        let mut bytes = [0; Self::SIZE];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// The bytes of a plane that go to the device: whole rows, as they lie.
#[must_use]
pub fn bytes(image: &Image, plane: usize) -> &[u8] {
    let rows = match (image.layout, plane) {
        (Layout::I420, 1 | 2) => image.height.div_ceil(2),
        _ => image.height,
    };
    let all = image.planes.plane(plane);
    &all[..all.len().min(image.planes.stride(plane) * rows as usize)]
}

/// How many planes an image has in memory.
#[must_use]
pub fn planes(image: &Image) -> usize {
    match image.layout {
        Layout::Rgb => 1,
        Layout::I420 => 3,
    }
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

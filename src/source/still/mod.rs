//! Pictures, decoded by libraries that read them right or say that they cannot. GStreamer's decoders
//! of pictures report success on memory that they never wrote.

mod heif;
mod jpeg;
mod tiff;

use std::fmt::Display;
use std::io::Cursor;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use image::codecs::{bmp::BmpDecoder, png::PngDecoder, pnm::PnmDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage};
use mmface::Image;
use mmface::limited::read_limited;

use super::decoded::Decoded;
use crate::lens;
pub(super) use jpeg::Header as JpegHeader;

/// Bytes that decoding may need for a pixel: 16-bit samples with alpha, their copy in 8 bits, and
/// the same picture turned upright.
const BYTES_PER_PIXEL: u64 = 16;

/// Most bytes of a picture's file.
const LARGEST: u64 = 1 << 30;

/// A picture that has been read.
pub(super) struct Still {
    pub(super) decoded: Decoded,
    /// Name of its format.
    pub(super) codec: &'static str,
    /// Whether it is an animation, of which this is the first picture.
    pub(super) animated: bool,
    /// Focal length in pixels, if the file says it.
    pub(super) focal: Option<f32>,
}

/// Why a picture cannot be read; the text goes on a sentence that begins with its name.
pub(super) type Reason = String;

/// A picture's pixels, and how to turn them upright.
struct Pixels {
    pixels: DynamicImage,
    orientation: Orientation,
    animated: bool,
}

impl Pixels {
    fn still(pixels: DynamicImage, orientation: Orientation) -> Self {
        Self { pixels, orientation, animated: false }
    }
}

/// Limit on the size of pictures and frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaxPixels(pub(super) u64);

impl MaxPixels {
    /// Refuses a size above the limit.
    pub(super) fn check(self, width: u64, height: u64) -> Result<(), Reason> {
        let pixels = width.saturating_mul(height);
        if pixels <= self.0 {
            return Ok(());
        }
        let (megapixels, limit) = (pixels as f64 / 1e6, self.0 as f64 / 1e6);
        Err(format!(
            "has {width}×{height} pixels ({megapixels:.1} megapixels), and {limit} megapixels are \
             allowed: raise the limit with --max-pixels {pixels}"
        ))
    }

    /// As [`check`](Self::check), for a picture that is about to be decoded: the memory for it must
    /// be there too. Decoders cannot tell that it is not, and abort.
    fn room(self, width: u32, height: u32) -> Result<(), Reason> {
        self.check(width.into(), height.into())?;
        let pixels = u64::from(width) * u64::from(height);
        let bytes = pixels.saturating_mul(BYTES_PER_PIXEL);
        let enough = usize::try_from(bytes)
            .is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
        if enough {
            return Ok(());
        }
        Err(format!(
            "needs {} MB of memory to be decoded ({width}×{height} pixels), which are not there",
            bytes / 1_000_000
        ))
    }
}

/// Reads a picture; its content tells the format, not its name.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(path: &Path, limit: MaxPixels) -> Result<Still, Reason> {
    let bytes = read_limited(path, LARGEST).map_err(|e| format!("cannot be read: {}", e.why))?;
    catch_unwind(|| decode(&bytes, limit)).unwrap_or_else(|_| Err(damaged("its decoder panics")))
}

/// Decodes the bytes of a picture.
///
/// # Errors
/// Why they cannot be decoded.
pub(super) fn decode(bytes: &[u8], limit: MaxPixels) -> Result<Still, Reason> {
    let cursor = Cursor::new(bytes);
    let (codec, pixels) = match bytes {
        [0xff, 0xd8, 0xff, ..] => ("JPEG", jpeg::decode(bytes, limit)),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => {
            ("TIFF", tiff::decode(bytes, limit))
        }
        [0x89, b'P', b'N', b'G', ..] => ("PNG", png(cursor, limit)),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            ("WEBP", webp(cursor, limit))
        }
        [b'B', b'M', ..] => {
            ("BMP", BmpDecoder::new(cursor).map_err(damaged).and_then(|d| rest(d, limit)))
        }
        [b'P', b'1'..=b'7', ..] => {
            ("PNM", PnmDecoder::new(cursor).map_err(damaged).and_then(|d| rest(d, limit)))
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => ("HEIF", heif::decode(bytes, limit)),
        _ => {
            return Err("is no picture of a kind that can be read (JPEG, PNG, WebP, BMP, TIFF, \
                        PNM, HEIC, AVIF)"
                .into());
        }
    };
    let Pixels { mut pixels, orientation, animated } = pixels?;
    pixels.apply_orientation(orientation);
    let rgb = pixels.into_rgb8();
    let (width, height) = rgb.dimensions();
    let image = Image::rgb(width, height, rgb.into_raw()).map_err(damaged)?;
    let decoded = Decoded {
        width,
        height,
        pixels: Arc::new(image),
        pts: None,
        end: 0.0,
        duration: Duration::ZERO,
        fps: 0.0,
        taken: None,
    };
    Ok(Still { decoded, codec, animated, focal: lens::written(bytes, width, height) })
}

/// The reason for a decoder's error.
fn damaged(error: impl Display) -> Reason {
    let text = error.to_string();
    format!(
        "cannot be decoded: it is damaged or of a rare kind ({}); save it anew as PNG",
        text.trim().trim_end_matches('.')
    )
}

fn png(cursor: Cursor<&[u8]>, limit: MaxPixels) -> Result<Pixels, Reason> {
    let decoder = PngDecoder::with_limits(cursor, image::Limits::no_limits()).map_err(damaged)?;
    let animated = decoder.is_apng().map_err(damaged)?;
    Ok(Pixels { animated, ..rest(decoder, limit)? })
}

fn webp(cursor: Cursor<&[u8]>, limit: MaxPixels) -> Result<Pixels, Reason> {
    let decoder = WebPDecoder::new(cursor).map_err(damaged)?;
    let animated = decoder.has_animation();
    Ok(Pixels { animated, ..rest(decoder, limit)? })
}

/// Decodes with a decoder that has read the header.
fn rest(mut decoder: impl ImageDecoder, limit: MaxPixels) -> Result<Pixels, Reason> {
    let (width, height) = decoder.dimensions();
    limit.room(width, height)?;
    // The size is checked above. Formats that nest data must not ask for more than that.
    let mut limits = image::Limits::no_limits();
    let pixels = u64::from(width) * u64::from(height);
    limits.max_alloc = Some(pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(64 << 20));
    decoder.set_limits(limits).map_err(damaged)?;
    // A picture whose orientation is not readable is shown as it is stored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let pixels = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    Ok(Pixels::still(pixels, orientation))
}

/// The picture of packed R, G, B bytes.
fn rgb(width: u32, height: u32, bytes: Vec<u8>) -> Result<DynamicImage, Reason> {
    RgbImage::from_raw(width, height, bytes)
        .map(DynamicImage::ImageRgb8)
        .ok_or_else(|| damaged("fewer pixels than its header says"))
}

#[cfg(test)]
mod tests;

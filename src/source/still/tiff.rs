//! TIFF, by `image`, and by `tiff` what `image` leaves out: Y'CbCr, as JPEG in TIFF has it.

use std::io::Cursor;

use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use mmface::image::{Colour, Matrix};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{MaxPixels, Pixels, Reason, damaged, rest, rgb};

/// Y'CbCr in TIFF has the full range unless it says otherwise, which nobody does.
const COLOUR: Colour = Colour { matrix: Matrix::Bt601, full_range: true };

/// Decodes the first picture of a TIFF.
pub(super) fn decode(bytes: &[u8], limit: MaxPixels) -> Result<Pixels, Reason> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    limit.room(width, height)?;
    match decoder.colortype().map_err(damaged)? {
        ColorType::YCbCr(8) => ycbcr(decoder, width, height),
        _ => {
            let decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
            rest(decoder, limit)
        }
    }
}

fn ycbcr(mut decoder: Decoder<Cursor<&[u8]>>, width: u32, height: u32) -> Result<Pixels, Reason> {
    let orientation = orientation(&mut decoder).map_err(damaged)?;
    // The size is checked already.
    let mut decoder = decoder.with_limits(Limits::unlimited());
    let DecodingResult::U8(mut pixels) = decoder.read_image().map_err(damaged)? else {
        return Err(damaged("Y'CbCr with samples that are no bytes"));
    };
    let to_rgb = COLOUR.to_rgb();
    for pixel in pixels.as_chunks_mut().0 {
        *pixel = to_rgb.apply(*pixel);
    }
    Ok(Pixels::still(rgb(width, height, pixels)?, orientation))
}

fn orientation(decoder: &mut Decoder<Cursor<&[u8]>>) -> Result<Orientation, TiffError> {
    let value = decoder.find_tag(Tag::Orientation)?.map(|value| value.into_u16()).transpose()?;
    Ok(value
        .and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?))
        .unwrap_or(Orientation::NoTransforms))
}

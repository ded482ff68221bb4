//! JPEG, by `zune-jpeg`. It reads some samplings wrong without saying so, so the header is checked
//! first.

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{MaxPixels, Pixels, Reason, damaged, rgb};

/// What a JPEG says about itself before its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Header {
    pub(in crate::source) width: u16,
    pub(in crate::source) height: u16,
    /// Horizontal and vertical sampling factor of each component.
    sampling: Vec<(u8, u8)>,
    /// Whether it is coded in several passes over the picture.
    progressive: bool,
    /// Number of components in the first scan.
    interleaved: usize,
    /// Where the first scan begins.
    scan: usize,
}

impl Header {
    /// Reads the segments up to the first scan; `None` if they are damaged.
    pub(in crate::source) fn read(bytes: &[u8]) -> Option<Self> {
        let mut at = 2;
        let mut header = None;
        loop {
            if *bytes.get(at)? != 0xff {
                return None;
            }
            // Any number of fill bytes may stand before a marker.
            while *bytes.get(at + 1)? == 0xff {
                at += 1;
            }
            let marker = *bytes.get(at + 1)?;
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                at += 2;
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?));
            let segment = bytes.get(at + 4..at + 2 + length)?;
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    let [_, h1, h0, w1, w0, count] = *segment.first_chunk()?;
                    let components = segment.get(6..6 + 3 * usize::from(count))?;
                    header = Some(Self {
                        width: u16::from_be_bytes([w1, w0]),
                        height: u16::from_be_bytes([h1, h0]),
                        sampling: components.chunks(3).map(|c| (c[1] >> 4, c[1] & 15)).collect(),
                        progressive: marker == 0xc2,
                        interleaved: 0,
                        scan: 0,
                    });
                }
                0xda => {
                    let interleaved = usize::from(*segment.first()?);
                    return header.map(|header| Self { interleaved, scan: at, ..header });
                }
                _ => {}
            }
            at += 2 + length;
        }
    }

    /// Whether the samplings are among those that are compared with libjpeg.
    fn is_common(&self) -> bool {
        let chroma = |pair: &[(u8, u8)]| pair.iter().all(|&factors| factors == (1, 1));
        let luma =
            |&(x, y): &(u8, u8)| matches!((x, y), (1, 1) | (2, 1) | (1, 2) | (2, 2) | (4, 1));
        let sampled = match self.sampling.as_slice() {
            // A single component has no sampling, whatever its factors say.
            [_] => return true,
            [first, rest @ ..] if rest.len() == 2 => luma(first) && chroma(rest),
            [first, rest @ .., black] if rest.len() == 2 => {
                luma(first)
                    && chroma(rest)
                    && (black == first || *first == (1, 1) && *black == (1, 1))
            }
            _ => false,
        };
        sampled && (self.progressive || self.interleaved == self.sampling.len())
    }

    /// Whether GStreamer's decoder reads the sampling right too.
    pub(in crate::source) fn is_usual(&self) -> bool {
        let usual = |&(x, y): &(u8, u8)| x <= 2 && y <= 2;
        self.sampling.len() <= 3 && self.sampling.iter().all(usual) && self.is_common()
    }

    /// The sampling in words: `4x1,1x1,1x1`.
    pub(in crate::source) fn words(&self) -> String {
        let words: Vec<_> = self.sampling.iter().map(|(x, y)| format!("{x}x{y}")).collect();
        words.join(",")
    }
}

/// Decodes a JPEG.
pub(super) fn decode(bytes: &[u8], limit: MaxPixels) -> Result<Pixels, Reason> {
    let header = Header::read(bytes).ok_or_else(|| damaged("its header cannot be read"))?;
    limit.room(header.width.into(), header.height.into())?;
    if !header.is_common() {
        return Err(damaged(format!("JPEG with components sampled {}", header.words())));
    }
    // What is missing at the end would come out grey, unless the decoder is strict.
    let ends = bytes[header.scan..].windows(2).any(|pair| pair == [0xff, 0xd9]);
    let options = DecoderOptions::default()
        .set_strict_mode(!ends)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("it has no size"))?;
    let size = |side: usize| u32::try_from(side).map_err(damaged);
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    Ok(Pixels::still(rgb(size(width)?, size(height)?, pixels)?, orientation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let frame = b"\xff\xd8\xff\xff\xc0\0\x11\x08\0\x10\0\x20\x03\x01\x41\0\x02\x11\0\x03\x11\0";
        let scan = b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0";
        let bytes = [&frame[..], scan].concat();
        let header = Header::read(&bytes).expect("a header");
        assert_eq!((header.width, header.height), (32, 16));
        assert_eq!(header.words(), "4x1,1x1,1x1");
        assert!(header.is_common());
        let odd = Header { sampling: vec![(2, 2), (2, 1), (1, 1)], ..header.clone() };
        assert!(!odd.is_common());
        let apart = Header { interleaved: 1, ..header };
        assert!(!apart.is_common());
        for end in 0..bytes.len() {
            assert_eq!(Header::read(&bytes[..end]), None, "{end} bytes");
        }
    }
}

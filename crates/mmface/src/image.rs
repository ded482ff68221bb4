//! Images: pixels in memory, borrowed or owned, in the pixel layouts of decoders and cameras.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// How the pixels of an [`Image`] are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Three planes: Y at full size, Cb and Cr at half width and half height (rounded up).
    I420,
    /// Two planes: Y at full size, then interleaved Cb and Cr at half width and half height
    /// (rounded up).
    Nv12,
    /// One plane, three bytes per pixel: R, G, B.
    Rgb,
    /// One plane, three bytes per pixel: B, G, R.
    Bgr,
    /// One plane, one byte per pixel.
    Grey,
}

/// Size of one plane in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneSize {
    /// Bytes of one row that hold samples.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Where the samples of one channel (R, G, B or Y, Cb, Cr) lie in the planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Index of the plane.
    pub plane: usize,
    /// Bytes from the start of the plane to the first sample.
    pub offset: usize,
    /// Bytes from a sample to its right neighbour.
    pub pitch: usize,
    /// Samples in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Layout {
    /// Whether pixels are Y'CbCr with chroma at half resolution in both directions.
    #[must_use]
    pub const fn is_yuv(self) -> bool {
        matches!(self, Self::I420 | Self::Nv12)
    }

    /// Sizes of the planes of a `width` × `height` image.
    #[must_use]
    pub fn planes(self, width: u32, height: u32) -> Vec<PlaneSize> {
        let plane = |row: u32, rows: u32| PlaneSize { row: row as usize, rows: rows as usize };
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        match self {
            Self::I420 => {
                let chroma = plane(half_width, half_height);
                vec![plane(width, height), chroma, chroma]
            }
            Self::Nv12 => vec![plane(width, height), plane(2 * half_width, half_height)],
            Self::Rgb | Self::Bgr => vec![plane(3 * width, height)],
            Self::Grey => vec![plane(width, height)],
        }
    }

    /// The channels R, G, B or Y, Cb, Cr of a `width` × `height` image. A grey image has the same
    /// channel three times.
    #[must_use]
    pub fn channels(self, width: u32, height: u32) -> [Channel; 3] {
        let full = |offset, pitch| Channel { plane: 0, offset, pitch, width, height };
        let half = |plane, offset, pitch| {
            let (width, height) = (width.div_ceil(2), height.div_ceil(2));
            Channel { plane, offset, pitch, width, height }
        };
        match self {
            Self::I420 => [full(0, 1), half(1, 0, 1), half(2, 0, 1)],
            Self::Nv12 => [full(0, 1), half(1, 0, 2), half(1, 1, 2)],
            Self::Rgb => [0, 1, 2].map(|offset| full(offset, 3)),
            Self::Bgr => [2, 1, 0].map(|offset| full(offset, 3)),
            Self::Grey => [full(0, 1); 3],
        }
    }
}

/// The matrix that converts between Y'CbCr and R'G'B'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: standard definition.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

impl Matrix {
    /// Weights K_R and K_B of red and blue in luma (ITU-R BT.601-7 and BT.709-6).
    #[must_use]
    pub const fn weights(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
        }
    }
}

/// How the samples of a Y'CbCr image are coded. Ignored for R'G'B' and grey images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// The conversion matrix.
    pub matrix: Matrix,
    /// Whether samples use the full range 0…255 (as in JPEG) instead of 16…235 for luma and 16…240
    /// for chroma.
    pub full_range: bool,
}

/// Factors of the conversion from Y'CbCr to R'G'B', all values 0…255:
/// `R = luma (Y − black) + red (Cr − 128)`,
/// `G = luma (Y − black) + green · (Cb − 128, Cr − 128)`,
/// `B = luma (Y − black) + blue (Cb − 128)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToRgb {
    /// Y' of black.
    pub black: f64,
    /// Factor of Y' in all three channels.
    pub luma: f64,
    /// Factor of Cr in red.
    pub red: f64,
    /// Factors of Cb and Cr in green; both are negative.
    pub green: [f64; 2],
    /// Factor of Cb in blue.
    pub blue: f64,
}

impl ToRgb {
    /// Converts one pixel in floating point. The reference for the fixed-point conversions.
    #[must_use]
    pub fn apply(&self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let y = self.luma * (f64::from(y) - self.black);
        let (cb, cr) = (f64::from(cb) - 128.0, f64::from(cr) - 128.0);
        let green = y + self.green[0] * cb + self.green[1] * cr;
        // `as` saturates, and adding 0.5 rounds positive values.
        [y + self.red * cr, green, y + self.blue * cb].map(|v| (v + 0.5) as u8)
    }
}

impl Colour {
    /// BT.601 with limited range: assumed for a stream that does not say.
    pub const BT601: Self = Self { matrix: Matrix::Bt601, full_range: false };

    /// The conversion factors (ITU-R BT.601-7 and BT.709-6, section 3).
    #[must_use]
    pub fn to_rgb(self) -> ToRgb {
        let (kr, kb) = self.matrix.weights();
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma) =
            if self.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        let (red, blue) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        ToRgb { black, luma, red, green: [-blue * kb / kg, -red * kr / kg], blue }
    }
}

/// The bytes of one plane. The default is empty: a plane that the layout does not have.
#[derive(Clone, Default)]
pub struct Plane<'a> {
    /// Rows, [`stride`](Self::stride) bytes apart. The padding of the last row may be missing.
    pub bytes: Cow<'a, [u8]>,
    /// Bytes from the start of one row to the start of the next.
    pub stride: usize,
}

impl<'a> Plane<'a> {
    /// A plane of borrowed (`&[u8]`) or owned (`Vec<u8>`) bytes.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>, stride: usize) -> Self {
        Self { bytes: bytes.into(), stride }
    }
}

/// An image: a view of borrowed pixels, or owned pixels (`Image<'static>`).
///
/// Pixel coordinates everywhere in this library: x to the right, y down, (0, 0) is the centre of
/// the top left pixel.
#[derive(Clone)]
pub struct Image<'a> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How pixels are stored.
    pub layout: Layout,
    /// How the samples of a Y'CbCr image are coded.
    pub colour: Colour,
    /// The pixels; planes that the layout does not have are empty.
    pub planes: [Plane<'a>; 3],
}

impl std::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{} {:?})", self.width, self.height, self.layout)
    }
}

impl<'a> Image<'a> {
    /// An image of `planes`, one for each plane of the layout; Y'CbCr is taken for
    /// [`Colour::BT601`].
    ///
    /// # Errors
    /// [`Error::Image`] if width or height is 0 or over 2²⁰, or if a plane is missing or too short
    /// for the size and its stride.
    pub fn new(
        layout: Layout,
        width: u32,
        height: u32,
        planes: impl IntoIterator<Item = Plane<'a>>,
    ) -> Result<Self> {
        let mut given = planes.into_iter();
        let planes = std::array::from_fn(|_| given.next().unwrap_or_default());
        let image = Self { width, height, layout, colour: Colour::BT601, planes };
        image.check()?;
        Ok(image)
    }

    /// An image of packed R, G, B bytes, shape [height, width, 3].
    ///
    /// # Errors
    /// [`Error::Image`] if there are too few bytes, or for a size that [`new`](Self::new) refuses.
    pub fn rgb(width: u32, height: u32, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        Self::new(Layout::Rgb, width, height, [Plane::new(bytes, 3 * width as usize)])
    }

    /// An image of packed B, G, R bytes (OpenCV's order), shape [height, width, 3].
    ///
    /// # Errors
    /// [`Error::Image`] if there are too few bytes, or for a size that [`new`](Self::new) refuses.
    pub fn bgr(width: u32, height: u32, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        Self::new(Layout::Bgr, width, height, [Plane::new(bytes, 3 * width as usize)])
    }

    /// An image of packed grey bytes, shape [height, width].
    ///
    /// # Errors
    /// [`Error::Image`] if there are too few bytes, or for a size that [`new`](Self::new) refuses.
    pub fn grey(width: u32, height: u32, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        Self::new(Layout::Grey, width, height, [Plane::new(bytes, width as usize)])
    }

    /// The same pixels with another coding of Y'CbCr; without this call it is [`Colour::BT601`].
    #[must_use]
    pub fn with_colour(self, colour: Colour) -> Self {
        Self { colour, ..self }
    }

    /// Checks that every plane holds what the size and its stride require. [`new`](Self::new) has
    /// done so; a caller may have changed the public fields since.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check(&self) -> Result<()> {
        let (width, height, layout) = (self.width, self.height, self.layout);
        // The limit is far beyond any camera, and keeps sizes in bytes from overflowing.
        if width == 0 || height == 0 || width > 1 << 20 || height > 1 << 20 {
            return Err(Error::Image(format!("an image cannot be {width}x{height}")));
        }
        for (index, (size, plane)) in
            layout.planes(width, height).iter().zip(&self.planes).enumerate()
        {
            let needed = plane.stride.saturating_mul(size.rows - 1).saturating_add(size.row);
            if plane.stride < size.row || plane.bytes.len() < needed {
                let (length, stride) = (plane.bytes.len(), plane.stride);
                return Err(Error::Image(format!(
                    "plane {index} of an image of {width}x{height} ({layout:?}) has {length} bytes \
                     in rows of {stride}; it needs {needed} in rows of at least {}",
                    size.row
                )));
            }
        }
        Ok(())
    }

    /// The samples of a plane without padding between rows: borrowed if there is none, else copied.
    /// `None` for a plane that the layout does not have or that is too short.
    #[must_use]
    pub fn packed(&self, plane: usize) -> Option<Cow<'_, [u8]>> {
        let size = *self.layout.planes(self.width, self.height).get(plane)?;
        let Plane { bytes, stride } = self.planes.get(plane)?;
        if *stride == size.row {
            return bytes.get(..size.row * size.rows).map(Cow::Borrowed);
        }
        let mut packed = Vec::with_capacity(size.row * size.rows);
        for y in 0..size.rows {
            packed.extend_from_slice(bytes.get(y * stride..)?.get(..size.row)?);
        }
        Some(Cow::Owned(packed))
    }

    /// The three channels of the image; see [`Layout::channels`].
    #[must_use]
    pub fn channels(&self) -> [Channel; 3] {
        self.layout.channels(self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_that_are_too_short_are_refused() {
        assert!(Image::rgb(4, 2, vec![0; 24]).is_ok());
        let error = Image::rgb(4, 2, vec![0; 23]).expect_err("a byte short").to_string();
        assert!(error.contains("plane 0") && error.contains("23 bytes"), "{error}");
        let luma = [0; 35];
        let i420 = |chroma: &'static [u8]| {
            let planes = [Plane::new(&luma[..], 7), Plane::new(chroma, 4), Plane::new(chroma, 4)];
            Image::new(Layout::I420, 7, 5, planes)
        };
        assert!(i420(&[0; 12]).is_ok(), "halves are rounded up");
        assert!(i420(&[0; 11]).is_err());
        assert!(Image::new(Layout::Nv12, 7, 5, [Plane::new(&luma[..], 7)]).is_err(), "no chroma");
        assert!(Image::grey(0, 5, vec![]).is_err());
        assert!(Image::grey(u32::MAX, u32::MAX, vec![]).is_err());
        let narrow = Plane::new(vec![0; 100], 6);
        assert!(Image::new(Layout::Grey, 7, 5, [narrow]).is_err(), "rows overlap");
    }

    #[test]
    fn the_last_row_may_end_with_its_last_sample() {
        let plane = Plane::new(vec![0; 10 * 4 + 7], 10);
        assert!(Image::new(Layout::Grey, 7, 5, [plane]).is_ok());
    }

    #[test]
    fn packed_rows_have_no_gaps() {
        let image = |bytes: &'static [u8], stride| {
            Image::new(Layout::Grey, 2, 2, [Plane::new(bytes, stride)]).expect("fits")
        };
        let tight = image(&[1, 2, 3, 4], 2);
        assert!(matches!(tight.packed(0), Some(Cow::Borrowed([1, 2, 3, 4]))));
        assert_eq!(image(&[1, 2, 9, 3, 4], 3).packed(0).as_deref(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(tight.packed(1), None);
    }

    #[test]
    fn a_pixel_is_the_same_in_every_layout() {
        let sample = |image: &Image, channel: usize| {
            let Channel { plane, offset, pitch, .. } = image.channels()[channel];
            image.planes[plane].bytes[offset + pitch]
        };
        let rgb = Image::rgb(2, 1, vec![0, 0, 0, 1, 2, 3]).expect("a pixel");
        let bgr = Image::bgr(2, 1, vec![0, 0, 0, 3, 2, 1]).expect("a pixel");
        let grey = Image::grey(2, 1, vec![0, 9]).expect("a pixel");
        assert_eq!([0, 1, 2].map(|c| sample(&rgb, c)), [1, 2, 3]);
        assert_eq!([0, 1, 2].map(|c| sample(&bgr, c)), [1, 2, 3]);
        assert_eq!([0, 1, 2].map(|c| sample(&grey, c)), [9, 9, 9]);
    }

    #[test]
    fn white_black_and_red_are_what_the_standards_say() {
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            let to_rgb = |full_range| Colour { matrix, full_range }.to_rgb();
            assert_eq!(to_rgb(false).apply([16, 128, 128]), [0, 0, 0]);
            assert_eq!(to_rgb(false).apply([235, 128, 128]), [255, 255, 255]);
            assert_eq!(to_rgb(true).apply([77, 128, 128]), [77, 77, 77]);
        }
        assert_eq!(Colour::BT601.to_rgb().apply([81, 90, 240]), [254, 0, 0]);
    }

    #[test]
    fn the_factors_are_those_of_the_standards() {
        let bt601 = Colour::BT601.to_rgb();
        for (found, expected) in [
            (bt601.luma, 1.164),
            (bt601.red, 1.596),
            (bt601.green[0], -0.392),
            (bt601.green[1], -0.813),
            (bt601.blue, 2.017),
        ] {
            assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
        }
    }
}

//! Converts a frame to a canvas; fast for Y'CbCr.

use std::borrow::Cow;

use mmface::Image;
use mmface::image::{Channel, Colour};

use super::canvas::Canvas;

impl Canvas {
    /// A copy of a frame. Rows without data stay black.
    pub(super) fn of(image: &Image) -> Self {
        let mut canvas = Self::black(image.width as usize, image.height as usize);
        if image.layout.is_yuv() {
            canvas.copy_yuv(image);
        } else {
            canvas.copy_rgb(image);
        }
        canvas
    }

    /// Copies an image with R, G, B in any order, or grey.
    fn copy_rgb(&mut self, image: &Image) {
        let [red, green, blue] = image.channels();
        let plane = &image.planes[0];
        for (out, row) in self.rows_mut().zip(plane.bytes.chunks(plane.stride.max(1))) {
            for (out, pixel) in out.iter_mut().zip(row.chunks_exact(red.pitch)) {
                *out = [pixel[red.offset], pixel[green.offset], pixel[blue.offset], 255];
            }
        }
    }

    fn copy_yuv(&mut self, image: &Image) {
        let channels = image.channels();
        let rows = |channel: usize| samples(image, channels[channel]);
        let converter = Converter::new(image.colour);
        // R, G, B of one row, and what chroma adds to them (rows of even length).
        let mut tints = [(); 3].map(|()| vec![0; self.width.next_multiple_of(2)]);
        let mut colours = [(); 3].map(|()| vec![0; self.width]);
        let mut chroma = rows(1).zip(rows(2));
        for (y, (out, luma)) in self.rows_mut().zip(rows(0)).enumerate() {
            if y % 2 == 0
                && let Some((cb, cr)) = chroma.next()
            {
                converter.tints(&cb, &cr, &mut tints);
            }
            for (colour, tint) in colours.iter_mut().zip(&tints) {
                converter.colours(&luma, tint, colour);
            }
            let [red, green, blue] = &colours;
            for (out, ((r, g), b)) in out.iter_mut().zip(red.iter().zip(green).zip(blue)) {
                *out = [*r, *g, *b, 255];
            }
        }
    }
}

/// The rows of a channel, borrowed if its samples are contiguous.
fn samples<'a>(image: &'a Image, channel: Channel) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let plane = &image.planes[channel.plane];
    plane.bytes.chunks(plane.stride.max(1)).map(move |row| match channel.pitch {
        1 => Cow::Borrowed(row),
        pitch => row.iter().skip(channel.offset).step_by(pitch).copied().collect(),
    })
}

/// Converts Y'CbCr to R'G'B' with 16-bit integers and 5 fraction bits, which the compiler
/// vectorises to eight pixels at a time. Factors have 13 fraction bits, because values are shifted
/// to the top of their 16 bits and the upper half of the product is used.
struct Converter {
    luma: u16,
    black: i16,
    red: i16,
    green: [i16; 2],
    blue: i16,
}

/// Fraction bits of values.
const FRACTION: u32 = 5;

impl Converter {
    fn new(colour: Colour) -> Self {
        let factors = colour.to_rgb();
        let whole = |v: f64| (v * f64::from(1 << (FRACTION + 8))).round();
        // Half a step is included, so that truncation rounds to nearest.
        let black = factors.black * factors.luma * f64::from(1 << FRACTION);
        let black = (black - f64::from(1 << (FRACTION - 1))).round();
        Self {
            luma: whole(factors.luma) as u16,
            black: black as i16,
            red: whole(factors.red) as i16,
            green: factors.green.map(|v| whole(v) as i16),
            blue: whole(factors.blue) as i16,
        }
    }

    /// What a row of chroma samples adds to R, G and B; each value twice, because two pixels share
    /// a sample.
    fn tints(&self, cb: &[u8], cr: &[u8], [red, green, blue]: &mut [Vec<i16>; 3]) {
        let times = |value: u8, factor: i16| {
            let top = (i16::from(value) - 128) << 8;
            ((i32::from(top) * i32::from(factor)) >> 16) as i16
        };
        for (out, &cr) in red.as_chunks_mut().0.iter_mut().zip(cr) {
            *out = [times(cr, self.red); 2];
        }
        for ((out, &cb), &cr) in green.as_chunks_mut().0.iter_mut().zip(cb).zip(cr) {
            *out = [times(cb, self.green[0]) + times(cr, self.green[1]); 2];
        }
        for (out, &cb) in blue.as_chunks_mut().0.iter_mut().zip(cb) {
            *out = [times(cb, self.blue); 2];
        }
    }

    /// One channel of a row.
    fn colours(&self, luma: &[u8], tint: &[i16], out: &mut [u8]) {
        for ((out, &y), &tint) in out.iter_mut().zip(luma).zip(tint) {
            let top = u32::from(u16::from(y) << 8);
            let level = ((top * u32::from(self.luma)) >> 16) as i16 - self.black;
            *out = ((level + tint) >> FRACTION).clamp(0, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use mmface::image::{Layout, Matrix, Plane};

    use super::*;

    /// A plane with padded rows, and nothing after the last one, as decoders leave them.
    fn plane(width: usize, height: usize, padding: usize, factor: usize) -> Plane<'static> {
        let stride = width + padding;
        let size = stride * (height - 1) + width;
        Plane::new((0..size).map(|i| (i * factor % 256) as u8).collect::<Vec<u8>>(), stride)
    }

    #[test]
    fn colours_are_those_of_the_reference() {
        for (width, height, padding) in [(64usize, 48usize, 0), (63, 47, 5), (1, 1, 0), (2, 3, 2)] {
            let (half_w, half_h) = (width.div_ceil(2), height.div_ceil(2));
            let planes = [
                plane(width, height, padding, 7),
                plane(half_w, half_h, padding, 37),
                plane(half_w, half_h, padding, 101),
            ];
            let at = |p: usize, x: usize, y: usize| planes[p].bytes[y * planes[p].stride + x];
            // The same pixels with chroma in turns.
            let both =
                (0..half_h).flat_map(|y| (0..half_w).flat_map(move |x| [1, 2].map(|p| (p, x, y))));
            let both: Vec<u8> = both.map(|(p, x, y)| at(p, x, y)).collect();
            let both = Plane::new(both, 2 * half_w);
            for (matrix, full_range) in [
                (Matrix::Bt601, false),
                (Matrix::Bt601, true),
                (Matrix::Bt709, false),
                (Matrix::Bt709, true),
            ] {
                let colour = Colour { matrix, full_range };
                let image = |layout, planes: Vec<Plane<'static>>| {
                    let image = Image::new(layout, width as u32, height as u32, planes);
                    image.expect("fits").with_colour(colour)
                };
                let mut canvas = Canvas::of(&image(Layout::I420, planes.to_vec()));
                for y in 0..height {
                    for (x, pixel) in canvas.row_mut(y).iter().enumerate() {
                        let want = [at(0, x, y), at(1, x / 2, y / 2), at(2, x / 2, y / 2)];
                        let want = colour.to_rgb().apply(want);
                        let near = pixel.iter().zip(want).all(|(a, b)| a.abs_diff(b) <= 1);
                        assert!(near, "{x} {y} {colour:?}: {pixel:?}, not {want:?}");
                    }
                }
                let nv12 = Canvas::of(&image(Layout::Nv12, vec![planes[0].clone(), both.clone()]));
                assert_eq!(nv12.bytes, canvas.bytes);
            }
        }
    }

    #[test]
    fn rgb_is_copied() {
        let image = Image::rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).expect("fits");
        assert_eq!(Canvas::of(&image).bytes, [1, 2, 3, 255, 4, 5, 6, 255]);
        let image = Image::bgr(1, 1, vec![1, 2, 3]).expect("fits");
        assert_eq!(Canvas::of(&image).bytes, [3, 2, 1, 255]);
    }
}

//! A frame's picture becomes a canvas: Y'CbCr to R'G'B', fast.

use super::canvas::Canvas;
use crate::frame::{Image, Layout, Matrix};

impl Canvas {
    /// A copy of a frame's picture. Rows that the frame promises but does not have stay black.
    pub fn of(image: &Image) -> Self {
        let mut canvas = Self::black(image.width as usize, image.height as usize);
        match image.layout {
            Layout::Rgb => canvas.copy_rgb(image),
            Layout::I420 => canvas.copy_yuv(image),
        }
        canvas
    }

    fn copy_rgb(&mut self, image: &Image) {
        let source = image.planes.plane(0).chunks(image.planes.stride(0).max(1));
        for (out, row) in self.rows_mut().zip(source) {
            for (out, &[r, g, b]) in out.iter_mut().zip(row.as_chunks().0) {
                *out = [r, g, b, 255];
            }
        }
    }

    fn copy_yuv(&mut self, image: &Image) {
        let rows = |plane| image.planes.plane(plane).chunks(image.planes.stride(plane).max(1));
        let converter = Converter::new(image.matrix, image.full_range);
        // R, G, B of one row, and what its chroma adds to them; of even length.
        let mut tints = [(); 3].map(|()| vec![0; self.width.next_multiple_of(2)]);
        let mut colours = [(); 3].map(|()| vec![0; self.width]);
        let mut chroma = rows(1).zip(rows(2));
        for (y, (out, luma)) in self.rows_mut().zip(rows(0)).enumerate() {
            if y % 2 == 0
                && let Some((cb, cr)) = chroma.next()
            {
                converter.tints(cb, cr, &mut tints);
            }
            for (colour, tint) in colours.iter_mut().zip(&tints) {
                converter.colours(luma, tint, colour);
            }
            let [red, green, blue] = &colours;
            for (out, ((r, g), b)) in out.iter_mut().zip(red.iter().zip(green).zip(blue)) {
                *out = [*r, *g, *b, 255];
            }
        }
    }
}

/// Y'CbCr to R'G'B' in 16-bit whole numbers with 5 bits of fraction, so that the compiler makes
/// eight pixels at a time of it. Factors carry 13 bits, because values are moved to the top of
/// their 16 bits before the upper half of the product is taken.
struct Converter {
    luma: u16,
    black: i16,
    red: i16,
    green: [i16; 2],
    blue: i16,
}

const FRACTION: u32 = 5;

impl Converter {
    fn new(matrix: Matrix, full_range: bool) -> Self {
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (luma, chroma) = if full_range { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let factor = |f: f64| (f * f64::from(1 << (FRACTION + 8))).round();
        // Half a step is added so that cutting the fraction off rounds.
        let black = if full_range { 0.0 } else { 16.0 * luma };
        let black = (black * f64::from(1 << FRACTION) - f64::from(1 << (FRACTION - 1))).round();
        Self {
            luma: factor(luma) as u16,
            black: black as i16,
            red: factor(2.0 * (1.0 - kr) * chroma) as i16,
            green: [
                factor(-2.0 * kb * (1.0 - kb) / kg * chroma) as i16,
                factor(-2.0 * kr * (1.0 - kr) / kg * chroma) as i16,
            ],
            blue: factor(2.0 * (1.0 - kb) * chroma) as i16,
        }
    }

    /// What a row of chroma samples adds to R, G and B, twice each: two pixels share a sample.
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

    /// A row of one colour.
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
    use std::sync::Arc;

    use super::*;
    use crate::crop::to_rgb;
    use crate::frame::Planes;

    /// Planes with padded rows, and nothing after the last one, as decoders leave them.
    struct Padded([(Vec<u8>, usize); 3]);

    impl Planes for Padded {
        fn plane(&self, index: usize) -> &[u8] {
            &self.0[index].0
        }
        fn stride(&self, index: usize) -> usize {
            self.0[index].1
        }
    }

    fn plane(width: usize, height: usize, padding: usize, factor: usize) -> (Vec<u8>, usize) {
        let stride = width + padding;
        let size = stride * (height - 1) + width;
        ((0..size).map(|i| (i * factor % 256) as u8).collect(), stride)
    }

    #[test]
    fn colours_are_those_of_the_reference() {
        for (width, height, padding) in [(64usize, 48usize, 0), (63, 47, 5), (1, 1, 0), (2, 3, 2)] {
            for matrix in [Matrix::Bt601, Matrix::Bt709] {
                for full_range in [false, true] {
                    let (half_w, half_h) = (width.div_ceil(2), height.div_ceil(2));
                    let planes = [
                        plane(width, height, padding, 7),
                        plane(half_w, half_h, padding, 37),
                        plane(half_w, half_h, padding, 101),
                    ];
                    let expected = |x: usize, y: usize| {
                        let at = |p: usize, x: usize, y: usize| {
                            f32::from(planes[p].0[y * planes[p].1 + x])
                        };
                        to_rgb(
                            [at(0, x, y), at(1, x / 2, y / 2), at(2, x / 2, y / 2)],
                            matrix,
                            full_range,
                        )
                    };
                    let mut canvas = Canvas::of(&Image {
                        width: width as u32,
                        height: height as u32,
                        layout: Layout::I420,
                        matrix,
                        full_range,
                        planes: Arc::new(Padded(planes.clone())),
                    });
                    for y in 0..height {
                        for (x, pixel) in canvas.row_mut(y).iter().enumerate() {
                            let want = expected(x, y);
                            let near = pixel.iter().zip(want).all(|(a, b)| a.abs_diff(b) <= 1);
                            assert!(
                                near,
                                "{x} {y} {matrix:?} {full_range}: {pixel:?}, not {want:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rgb_is_copied() {
        let image = Image::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).expect("sizes fit");
        assert_eq!(Canvas::of(&image).bytes, [1, 2, 3, 255, 4, 5, 6, 255]);
    }
}

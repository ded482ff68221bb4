//! The picture that is drawn on: conversion from a frame, blending, lines, plates.

use crate::frame::{Image, Layout, Matrix};

/// A picture of four bytes a pixel: R, G, B and one that nobody reads.
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
}

impl Canvas {
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, bytes: vec![0; width * height * 4] }
    }

    /// A copy of a frame's picture. Rows that the frame promises but does not have stay black.
    pub fn of(image: &Image) -> Self {
        let mut canvas = Self::black(image.width as usize, image.height as usize);
        match image.layout {
            Layout::Rgb => canvas.copy_rgb(image),
            Layout::I420 => canvas.copy_yuv(image),
        }
        canvas
    }

    fn rows_mut(&mut self) -> impl Iterator<Item = &mut [[u8; 4]]> {
        let width = self.width.max(1);
        self.bytes.as_chunks_mut().0.chunks_exact_mut(width)
    }

    /// Row `y`, empty below the picture.
    pub fn row_mut(&mut self, y: usize) -> &mut [[u8; 4]] {
        let pixels = self.bytes.as_chunks_mut().0;
        pixels.get_mut(y * self.width..(y + 1) * self.width).unwrap_or_default()
    }

    fn row(&self, y: usize) -> &[[u8; 4]] {
        let pixels = self.bytes.as_chunks().0;
        pixels.get(y * self.width..(y + 1) * self.width).unwrap_or_default()
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
        let mut tint = vec![[0; 3]; self.width.div_ceil(2)];
        let mut chroma = rows(1).zip(rows(2));
        for (y, (out, luma)) in self.rows_mut().zip(rows(0)).enumerate() {
            if y % 2 == 0
                && let Some((cb, cr)) = chroma.next()
            {
                converter.tints(cb, cr, &mut tint);
            }
            converter.pixels(luma, &tint, out);
        }
    }

    /// This picture with another size: the same shape as large as it fits, black around. A row or a
    /// column that is too many is cut off instead.
    pub fn fitted(self, width: usize, height: usize) -> Self {
        let mut out = Self::black(width, height);
        if self.width.wrapping_sub(width) <= 1 && self.height.wrapping_sub(height) <= 1 {
            for (y, row) in out.rows_mut().enumerate() {
                row.copy_from_slice(&self.row(y)[..width]);
            }
            return out;
        }
        let (w, h) = (self.width as f32, self.height as f32);
        let scale = (width as f32 / w).min(height as f32 / h);
        let left = ((width as f32 - w * scale) / 2.0).round();
        let top = ((height as f32 - h * scale) / 2.0).round();
        for (y, row) in out.rows_mut().enumerate() {
            let v = (y as f32 - top + 0.5) / scale - 0.5;
            for (x, pixel) in row.iter_mut().enumerate() {
                let u = (x as f32 - left + 0.5) / scale - 0.5;
                if (-0.5..w - 0.5).contains(&u) && (-0.5..h - 0.5).contains(&v) {
                    *pixel = self.sample(u.clamp(0.0, w - 1.0), v.clamp(0.0, h - 1.0));
                }
            }
        }
        out
    }

    /// Bilinear value at a place inside the picture.
    fn sample(&self, u: f32, v: f32) -> [u8; 4] {
        let (x, y) = (u as usize, v as usize);
        let (ax, ay) = (u.fract(), v.fract());
        let (top, bottom) = (self.row(y), self.row((y + 1).min(self.height - 1)));
        let right = (x + 1).min(self.width - 1);
        std::array::from_fn(|c| {
            let mix =
                |a: [u8; 4], b: [u8; 4], t: f32| f32::from(a[c]) * (1.0 - t) + f32::from(b[c]) * t;
            let (t, b) = (mix(top[x], top[right], ax), mix(bottom[x], bottom[right], ax));
            (t + (b - t) * ay).round() as u8
        })
    }

    /// Colours every pixel of a box by how much of it (0…1) `coverage` says is covered.
    fn cover(
        &mut self,
        [x0, y0, x1, y1]: [f32; 4],
        colour: Colour,
        coverage: impl Fn(f32, f32) -> f32,
    ) {
        let columns = inside(x0, x1, self.width);
        for y in inside(y0, y1, self.height) {
            let row = &mut self.row_mut(y)[columns.clone()];
            for (x, pixel) in columns.clone().zip(row) {
                blend(pixel, colour, coverage(x as f32, y as f32));
            }
        }
    }

    /// A line with round ends; a dot where both ends are the same.
    pub fn line(&mut self, a: [f32; 2], b: [f32; 2], width: f32, colour: Colour) {
        let radius = width / 2.0;
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length2 = (dx * dx + dy * dy).max(1e-9);
        let reach = radius + 1.0;
        let bounds = [
            a[0].min(b[0]) - reach,
            a[1].min(b[1]) - reach,
            a[0].max(b[0]) + reach,
            a[1].max(b[1]) + reach,
        ];
        self.cover(bounds, colour, |x, y| {
            let (px, py) = (x - a[0], y - a[1]);
            let along = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
            let distance = (px - along * dx).hypot(py - along * dy);
            (radius + 0.5 - distance).clamp(0.0, 1.0) * (width.min(1.0))
        });
    }

    /// A filled dot.
    pub fn dot(&mut self, at: [f32; 2], diameter: f32, colour: Colour) {
        self.line(at, at, diameter, colour);
    }

    /// A filled box (x, y, width, height) with round corners.
    pub fn plate(&mut self, [x, y, width, height]: [f32; 4], radius: f32, colour: Colour) {
        let (half_w, half_h) = (width / 2.0, height / 2.0);
        let (cx, cy) = (x + half_w, y + half_h);
        self.cover([x - 1.0, y - 1.0, x + width + 1.0, y + height + 1.0], colour, |px, py| {
            let (dx, dy) = ((px - cx).abs() - half_w + radius, (py - cy).abs() - half_h + radius);
            let distance = dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - radius;
            (0.5 - distance).clamp(0.0, 1.0)
        });
    }
}

/// A colour and how much of it there is, 0…1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour {
    pub rgb: [f32; 3],
    pub alpha: f32,
}

impl Colour {
    /// `rgb` is 0…255 each.
    pub const fn new(rgb: [f32; 3], alpha: f32) -> Self {
        Self { rgb, alpha }
    }
}

/// Lays `coverage` (0…1) of a colour over a pixel.
#[inline]
pub fn blend(pixel: &mut [u8; 4], colour: Colour, coverage: f32) {
    let alpha = colour.alpha * coverage;
    if alpha > 0.0 {
        for (below, over) in pixel.iter_mut().zip(colour.rgb) {
            let b = f32::from(*below);
            *below = (b + (over - b) * alpha + 0.5) as u8;
        }
    }
}

/// Whole numbers from `low` to `high` that lie in 0…`size`; none where they are not numbers.
pub fn inside(low: f32, high: f32, size: usize) -> std::ops::Range<usize> {
    // `as` saturates and turns NaN into 0.
    let end = ((high.floor() + 1.0) as usize).min(size);
    (low.ceil() as usize).min(end)..end
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

    /// What a row of chroma samples adds to R, G and B.
    fn tints(&self, cb: &[u8], cr: &[u8], out: &mut [[i16; 3]]) {
        let times = |value: u8, factor: i16| {
            let top = (i16::from(value) - 128) << 8;
            ((i32::from(top) * i32::from(factor)) >> 16) as i16
        };
        for ((out, &cb), &cr) in out.iter_mut().zip(cb).zip(cr) {
            let green = times(cb, self.green[0]) + times(cr, self.green[1]);
            *out = [times(cr, self.red), green, times(cb, self.blue)];
        }
    }

    /// A row of pixels, two to a tint.
    fn pixels(&self, luma: &[u8], tints: &[[i16; 3]], out: &mut [[u8; 4]]) {
        let level = |y: u8| {
            let top = u32::from(y) << 8;
            ((top * u32::from(self.luma)) >> 16) as i16 - self.black
        };
        let pixel = |y: u8, tint: &[i16; 3]| {
            let y = level(y);
            let [r, g, b] = tint.map(|t| ((y + t) >> FRACTION).clamp(0, 255) as u8);
            [r, g, b, 255]
        };
        let (pairs, rest) = out.as_chunks_mut::<2>();
        let (luma_pairs, luma_rest) = luma.as_chunks::<2>();
        for ((out, luma), tint) in pairs.iter_mut().zip(luma_pairs).zip(tints) {
            *out = [pixel(luma[0], tint), pixel(luma[1], tint)];
        }
        // The odd column; where rows are padded, its luma is in a pair that nobody took.
        let last = luma_pairs.get(tints.len() - 1).map(|p| p[0]).or(luma_rest.first().copied());
        if let (Some(out), Some(y), Some(tint)) = (rest.first_mut(), last, tints.last()) {
            *out = pixel(y, tint);
        }
    }
}

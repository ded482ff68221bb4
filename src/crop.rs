//! Crop maps: where in a frame a network looks, and the reference sampler that cuts it out.
//!
//! One similarity per face. Pixels are counted as everywhere in this project: x right, y down,
//! (0, 0) is the centre of the top left pixel.

use crate::frame::{Image, Layout, Matrix};

/// Side of a crop, in pixels.
pub const CROP: usize = 256;

/// How a crop lies around 68 landmarks; comes with the weights, because the networks were trained
/// on crops laid the same way.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
pub struct CropRule {
    /// Side of a crop in pixels; always 256.
    pub size: u32,
    /// Side of the crop in units of the longer side of the upright landmark box.
    pub scale: f32,
    /// How far the centre lies above that of the box, in the same units.
    pub raise: f32,
}

/// A similarity that takes crop pixels to frame pixels:
/// `frame = centre + scale · Rot(angle) · (crop − 127.5)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropMap {
    /// Frame pixel that lies in the middle of the crop.
    pub centre: [f32; 2],
    /// Frame pixels per crop pixel.
    pub scale: f32,
    /// Direction of the crop's x axis in the frame: radians, clockwise as seen (y is down).
    pub angle: f32,
}

const MIDDLE: f32 = (CROP as f32 - 1.0) / 2.0;

impl CropMap {
    /// A map onto a square of `side` frame pixels.
    #[must_use]
    pub fn square(centre: [f32; 2], side: f32, angle: f32) -> Self {
        Self { centre, scale: side / CROP as f32, angle }
    }

    /// The crop of a face from its landmarks (frame pixels) and the angle at which it stands:
    /// the landmarks turned upright, their box, enlarged and raised as `rule` says.
    #[must_use]
    pub fn around(landmarks: &[[f32; 2]], angle: f32, rule: &CropRule) -> Self {
        let (sin, cos) = angle.sin_cos();
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for &[x, y] in landmarks {
            for (k, v) in [cos * x + sin * y, cos * y - sin * x].into_iter().enumerate() {
                low[k] = low[k].min(v);
                high[k] = high[k].max(v);
            }
        }
        let longer = (high[0] - low[0]).max(high[1] - low[1]);
        let (x, y) = ((low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0 - rule.raise * longer);
        Self::square([cos * x - sin * y, sin * x + cos * y], rule.scale * longer, angle)
    }

    /// Crop pixel → frame pixel.
    #[must_use]
    pub fn to_frame(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.angle.sin_cos();
        let (u, v) = (self.scale * (u - MIDDLE), self.scale * (v - MIDDLE));
        [self.centre[0] + cos * u - sin * v, self.centre[1] + sin * u + cos * v]
    }

    /// Frame pixel → crop pixel.
    #[must_use]
    pub fn to_crop(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.angle.sin_cos();
        let (x, y) = ((x - self.centre[0]) / self.scale, (y - self.centre[1]) / self.scale);
        [MIDDLE + cos * x + sin * y, MIDDLE + cos * y - sin * x]
    }

    /// Whether the numbers can be sampled at all: finite, a positive size that is not absurd.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        self.centre.iter().all(|c| c.is_finite() && c.abs() < 1e5)
            && self.angle.is_finite()
            && self.scale.is_finite()
            && (1e-3..1e3).contains(&self.scale)
    }
}

/// Cuts a crop out of an image: bilinear, black outside the frame.
///
/// `out` becomes 3×256×256 bytes: the planes R, G, B. Y'CbCr is interpolated before it is turned
/// into R'G'B'; chroma samples lie on every second luma column and between two rows (the siting of
/// MPEG-2 and H.264).
///
/// # Panics
/// If `out` is not 3·256·256 long.
pub fn sample(image: &Image, map: &CropMap, out: &mut [u8]) {
    assert_eq!(out.len(), 3 * CROP * CROP, "a crop is 3×256×256 bytes");
    let (red, rest) = out.split_at_mut(CROP * CROP);
    let (green, blue) = rest.split_at_mut(CROP * CROP);
    let (sin, cos) = map.angle.sin_cos();
    let step = [map.scale * cos, map.scale * sin];
    let pixels = Pixels::new(image);
    for v in 0..CROP {
        let [x0, y0] = map.to_frame([0.0, v as f32]);
        let row = v * CROP..(v + 1) * CROP;
        let (red, green, blue) =
            (&mut red[row.clone()], &mut green[row.clone()], &mut blue[row.clone()]);
        for (u, ((r, g), b)) in red.iter_mut().zip(green).zip(blue).enumerate() {
            [*r, *g, *b] = pixels.at(x0 + step[0] * u as f32, y0 + step[1] * u as f32);
        }
    }
}

/// One plane of bytes, `pitch` bytes from a pixel to its right neighbour.
struct Plane<'a> {
    bytes: &'a [u8],
    stride: usize,
    pitch: usize,
    offset: usize,
    width: usize,
    height: usize,
}

impl Plane<'_> {
    /// Bilinear value at (x, y). `EDGE` outside: `None` lets the border pixels go on for ever.
    #[inline(always)]
    fn at(&self, x: f32, y: f32, outside: Option<f32>) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (ax, ay) = (x - fx, y - fy);
        let (ix, iy) = (fx as i32, fy as i32);
        if ix >= 0 && iy >= 0 && (ix as usize) + 1 < self.width && (iy as usize) + 1 < self.height {
            let at = iy as usize * self.stride + ix as usize * self.pitch + self.offset;
            let (Some(top), Some(bottom)) = (
                self.bytes.get(at..at + self.pitch + 1),
                self.bytes.get(at + self.stride..at + self.stride + self.pitch + 1),
            ) else {
                return outside.unwrap_or(0.0);
            };
            let left = f32::from(top[0]) + ay * (f32::from(bottom[0]) - f32::from(top[0]));
            let (t, b) = (f32::from(top[self.pitch]), f32::from(bottom[self.pitch]));
            let right = t + ay * (b - t);
            return left + ax * (right - left);
        }
        let tap = |ix: i32, iy: i32| -> f32 {
            let inside =
                ix >= 0 && iy >= 0 && (ix as usize) < self.width && (iy as usize) < self.height;
            if let (false, Some(value)) = (inside, outside) {
                return value;
            }
            let ix = ix.clamp(0, self.width as i32 - 1) as usize;
            let iy = iy.clamp(0, self.height as i32 - 1) as usize;
            let at = iy * self.stride + ix * self.pitch + self.offset;
            self.bytes.get(at).copied().map_or(0.0, f32::from)
        };
        let left = tap(ix, iy) * (1.0 - ay) + tap(ix, iy + 1) * ay;
        let right = tap(ix + 1, iy) * (1.0 - ay) + tap(ix + 1, iy + 1) * ay;
        left + ax * (right - left)
    }
}

enum Pixels<'a> {
    Rgb([Plane<'a>; 3]),
    Yuv { planes: [Plane<'a>; 3], full_range: bool, matrix: Matrix },
}

impl<'a> Pixels<'a> {
    fn new(image: &'a Image) -> Self {
        let plane = |index: usize, pitch, offset, width, height| Plane {
            bytes: image.planes.plane(index),
            stride: image.planes.stride(index),
            pitch,
            offset,
            width,
            height,
        };
        let (w, h) = (image.width as usize, image.height as usize);
        match image.layout {
            Layout::Rgb => Self::Rgb([0, 1, 2].map(|c| plane(0, 3, c, w, h))),
            Layout::I420 => {
                let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
                Self::Yuv {
                    planes: [plane(0, 1, 0, w, h), plane(1, 1, 0, cw, ch), plane(2, 1, 0, cw, ch)],
                    full_range: image.full_range,
                    matrix: image.matrix,
                }
            }
        }
    }

    #[inline(always)]
    fn at(&self, x: f32, y: f32) -> [u8; 3] {
        match self {
            Self::Rgb(planes) => [0, 1, 2].map(|c| planes[c].at(x, y, Some(0.0)).round() as u8),
            Self::Yuv { planes: [luma, cb, cr], full_range, matrix } => {
                let black = if *full_range { 0.0 } else { 16.0 };
                let (w, h) = (luma.width as f32, luma.height as f32);
                if x <= -1.0 || y <= -1.0 || x >= w || y >= h {
                    return [0; 3];
                }
                let luma = luma.at(x, y, Some(black));
                let (cx, cy) = (x * 0.5, (y - 0.5) * 0.5);
                to_rgb([luma, cb.at(cx, cy, None), cr.at(cx, cy, None)], *matrix, *full_range)
            }
        }
    }
}

/// Y'CbCr (0…255 each) to R'G'B', ITU-R BT.601 and BT.709.
#[inline(always)]
#[must_use]
pub fn to_rgb([y, cb, cr]: [f32; 3], matrix: Matrix, full_range: bool) -> [u8; 3] {
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let kg = 1.0 - kr - kb;
    let (y, chroma) =
        if full_range { (y, 1.0) } else { ((y - 16.0) * (255.0 / 219.0), 255.0 / 224.0) };
    let (cb, cr) = ((cb - 128.0) * chroma, (cr - 128.0) * chroma);
    let red = y + 2.0 * (1.0 - kr) * cr;
    let blue = y + 2.0 * (1.0 - kb) * cb;
    let green = y - 2.0 * (kb * (1.0 - kb) * cb + kr * (1.0 - kr) * cr) / kg;
    // `as` saturates; +0.5 rounds what is positive.
    [(red + 0.5) as u8, (green + 0.5) as u8, (blue + 0.5) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: CropRule = CropRule { size: 256, scale: 1.45, raise: 0.06 };

    proptest! {
        #[test]
        fn crop_and_frame_are_inverse(
            cx in -500f32..3000.0, cy in -500f32..3000.0, scale in 0.05f32..20.0,
            angle in -4f32..4.0, u in -50f32..300.0, v in -50f32..300.0,
        ) {
            let map = CropMap { centre: [cx, cy], scale, angle };
            let back = map.to_crop(map.to_frame([u, v]));
            prop_assert!((back[0] - u).abs() < 0.05 && (back[1] - v).abs() < 0.05, "{back:?}");
        }

        #[test]
        fn a_turned_face_gives_the_same_crop(angle in -3f32..3.0, dx in -100f32..100.0) {
            let points = [[10.0, 20.0], [110.0, 30.0], [60.0, 150.0], [55.0, 80.0]];
            let (sin, cos) = angle.sin_cos();
            let turned = points.map(|[x, y]| [cos * x - sin * y + dx, sin * x + cos * y]);
            let (a, b) = (CropMap::around(&points, 0.0, &RULE), CropMap::around(&turned, angle, &RULE));
            for (p, q) in points.iter().zip(&turned) {
                let (p, q) = (a.to_crop(*p), b.to_crop(*q));
                prop_assert!((p[0] - q[0]).abs() < 0.05 && (p[1] - q[1]).abs() < 0.05);
            }
        }
    }

    #[test]
    fn the_crop_is_the_documented_square() {
        let map = CropMap::around(&[[100.0, 100.0], [200.0, 180.0]], 0.0, &RULE);
        assert!((map.scale * 256.0 - 145.0).abs() < 1e-3);
        assert!((map.centre[0] - 150.0).abs() < 1e-3 && (map.centre[1] - 134.0).abs() < 1e-3);
    }

    #[test]
    fn sampling_is_bilinear_and_black_outside() {
        let image = Image::from_rgb(2, 1, vec![0, 100, 200, 100, 200, 100]).expect("sizes fit");
        let mut out = vec![7; 3 * CROP * CROP];
        // One crop pixel is one frame pixel; crop column 128 lies half way between the two.
        sample(&image, &CropMap { centre: [0.0, 0.0], scale: 1.0, angle: 0.0 }, &mut out);
        let at = |c: usize, u: usize, v: usize| out[c * CROP * CROP + v * CROP + u];
        // v = 127.5 is row 0 of the image: rows 127 and 128 are half image, half black.
        assert_eq!([at(0, 128, 128), at(1, 128, 128), at(2, 128, 128)], [25, 75, 75]);
        assert_eq!(at(1, 0, 0), 0);
    }

    #[test]
    fn grey_stays_grey() {
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            assert_eq!(to_rgb([16.0, 128.0, 128.0], matrix, false), [0, 0, 0]);
            assert_eq!(to_rgb([235.0, 128.0, 128.0], matrix, false), [255, 255, 255]);
            assert_eq!(to_rgb([77.0, 128.0, 128.0], matrix, true), [77, 77, 77]);
        }
        // BT.601 red: Y' = 81, Cb = 90, Cr = 240.
        assert_eq!(to_rgb([81.0, 90.0, 240.0], Matrix::Bt601, false), [254, 0, 0]);
    }
}

//! Crop maps: where in a frame a network looks, and the reference sampler that cuts it out.
//!
//! One similarity per face. Pixels are counted as everywhere in this project: x right, y down,
//! (0, 0) is the centre of the top left pixel.

use crate::image::{self, Colour, Image};

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

/// From a detector's box to the crop that the landmarks in it would give, in units of the longer
/// side of the box: measured for each detector.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct DetectorRule {
    /// Shift of the centre, y down, in the upright frame.
    pub centre: [f32; 2],
    /// Side of the crop.
    pub scale: f32,
}

impl DetectorRule {
    /// The first crop of a face that was just detected: `bounds` [x, y, w, h] in pixels, `angle`
    /// the tilt of the head if the detector knows it.
    #[must_use]
    pub fn crop(&self, bounds: [f32; 4], angle: f32) -> CropMap {
        let [x, y, w, h] = bounds;
        let longer = w.max(h);
        let [dx, dy] = turned(self.centre.map(|c| c * longer), angle);
        CropMap::square([x + w / 2.0 + dx, y + h / 2.0 + dy], self.scale * longer, angle)
    }
}

/// A similarity that takes crop pixels to frame pixels:
/// `frame = centre + scale · Rot(angle) · M · (crop − 127.5)`, where M turns x round if the crop is
/// mirrored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropMap {
    /// Frame pixel that lies in the middle of the crop.
    pub centre: [f32; 2],
    /// Frame pixels per crop pixel.
    pub scale: f32,
    /// Direction of the crop's x axis (of the picture's, if it is mirrored) in the frame: radians,
    /// clockwise as seen (y is down).
    pub angle: f32,
    /// Whether the crop shows the face as in a mirror.
    pub mirrored: bool,
}

const MIDDLE: f32 = (CROP as f32 - 1.0) / 2.0;

/// A vector in the picture, turned clockwise by an angle in radians.
pub(crate) fn turned([x, y]: [f32; 2], angle: f32) -> [f32; 2] {
    let (sin, cos) = angle.sin_cos();
    [cos * x - sin * y, sin * x + cos * y]
}

impl CropMap {
    /// A map onto a square of `side` frame pixels.
    #[must_use]
    pub fn square(centre: [f32; 2], side: f32, angle: f32) -> Self {
        Self { centre, scale: side / CROP as f32, angle, mirrored: false }
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
        Self::square(turned([x, y], angle), rule.scale * longer, angle)
    }

    /// The same place looked at a little differently: moved by parts of the crop's side, enlarged,
    /// turned (radians).
    #[must_use]
    pub fn nudged(&self, [dx, dy]: [f32; 2], enlarged: f32, turned: f32) -> Self {
        let side = CROP as f32;
        Self {
            centre: self.to_frame([MIDDLE + dx * side, MIDDLE + dy * side]),
            scale: self.scale * enlarged,
            angle: self.angle + turned,
            mirrored: self.mirrored,
        }
    }

    /// The same place, seen as in a mirror.
    #[must_use]
    pub fn mirror(&self) -> Self {
        Self { mirrored: !self.mirrored, ..*self }
    }

    /// Frame pixels per crop pixel along the crop's x axis, which points the other way in a mirror.
    pub(crate) fn across(&self) -> f32 {
        if self.mirrored { -self.scale } else { self.scale }
    }

    /// Crop pixel → frame pixel.
    #[must_use]
    pub fn to_frame(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        // Not `turned`: the GPU's kernel adds up in this order, and agrees to the last bit.
        let (sin, cos) = self.angle.sin_cos();
        let (u, v) = (self.across() * (u - MIDDLE), self.scale * (v - MIDDLE));
        [self.centre[0] + cos * u - sin * v, self.centre[1] + sin * u + cos * v]
    }

    /// What one crop pixel to the right is in the frame, with [`POINT`] bits after the point.
    pub(crate) fn step(&self) -> [i64; 2] {
        let (sin, cos) = f64::from(self.angle).sin_cos();
        [cos, sin].map(|v| fixed(v * f64::from(self.across())))
    }

    /// Frame pixel → crop pixel.
    #[must_use]
    pub fn to_crop(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [u, v] = turned([x - self.centre[0], y - self.centre[1]], -self.angle);
        [MIDDLE + u / self.across(), MIDDLE + v / self.scale]
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

/// Fixed point: bits after the point of a coordinate, and of a value between two bytes.
const POINT: u32 = 16;
const FRACTION: u32 = 8;

fn fixed(v: f64) -> i64 {
    (v * f64::from(1u32 << POINT)).round() as i64
}

/// Cuts a crop out of an image: bilinear, black outside the frame.
///
/// `out` becomes 3×256×256 bytes: the planes R, G, B. Y'CbCr is interpolated before it is turned
/// into R'G'B'; chroma samples lie on every second luma column and between two rows (the siting of
/// MPEG-2 and H.264). Positions are rounded to 1/256 of a pixel.
///
/// # Panics
/// If `out` is not 3·256·256 long.
pub fn sample(image: &Image, map: &CropMap, out: &mut [u8]) {
    assert_eq!(out.len(), 3 * CROP * CROP, "a crop is 3×256×256 bytes");
    let pixels = Pixels::new(image);
    let step = map.step();
    let (red, rest) = out.split_at_mut(CROP * CROP);
    let (green, blue) = rest.split_at_mut(CROP * CROP);
    let rows = red
        .chunks_exact_mut(CROP)
        .zip(green.chunks_exact_mut(CROP))
        .zip(blue.chunks_exact_mut(CROP));
    for (v, ((red, green), blue)) in rows.enumerate() {
        let [mut x, mut y] = map.to_frame([0.0, v as f32]).map(|c| fixed(f64::from(c)));
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            [*r, *g, *b] = pixels.at(x, y);
            x += step[0];
            y += step[1];
        }
    }
}

/// R, G, B of an image at some places, interpolated as [`sample`] does; black outside.
#[must_use]
pub fn colours(image: &Image, places: impl Iterator<Item = [f32; 2]>) -> Vec<[u8; 3]> {
    let pixels = Pixels::new(image);
    places.map(|p| p.map(|v| fixed(f64::from(v)))).map(|[x, y]| pixels.at(x, y)).collect()
}

/// The samples of one channel: bytes `pitch` apart.
struct Channel<'a> {
    bytes: &'a [u8],
    stride: usize,
    pitch: usize,
    width: i64,
    height: i64,
}

impl<'a> Channel<'a> {
    fn new(image: &'a Image, channel: image::Channel) -> Self {
        let plane = &image.planes[channel.plane];
        Self {
            bytes: plane.bytes.get(channel.offset..).unwrap_or_default(),
            stride: plane.stride,
            pitch: channel.pitch,
            width: i64::from(channel.width),
            height: i64::from(channel.height),
        }
    }
}

impl Channel<'_> {
    /// Bilinear value at (x, y), with [`FRACTION`] bits after the point. Outside the channel lies
    /// `outside`; where that is `None`, its border goes on for ever.
    #[inline(always)]
    fn at(&self, x: i64, y: i64, outside: Option<i32>) -> i32 {
        let (ix, iy) = (x >> POINT, y >> POINT);
        let part = |v: i64| ((v >> (POINT - FRACTION)) & ((1 << FRACTION) - 1)) as i32;
        let (ax, ay) = (part(x), part(y));
        let mix = |a: i32, b: i32, part: i32| (a << FRACTION) + part * (b - a);
        let blend = |[a, b, c, d]: [i32; 4]| {
            mix(a, b, ax) + ((ay * (mix(c, d, ax) - mix(a, b, ax))) >> FRACTION)
        };
        if ix >= 0 && iy >= 0 && ix + 1 < self.width && iy + 1 < self.height {
            let at = iy as usize * self.stride + ix as usize * self.pitch;
            let row = |at: usize| self.bytes.get(at..=at + self.pitch);
            if let (Some([a, .., b]), Some([c, .., d])) = (row(at), row(at + self.stride)) {
                return blend([a, b, c, d].map(|v| i32::from(*v)));
            }
        }
        let tap = |ix: i64, iy: i64| {
            let inside = (0..self.width).contains(&ix) && (0..self.height).contains(&iy);
            if let (false, Some(value)) = (inside, outside) {
                return value;
            }
            let (ix, iy) = (ix.clamp(0, self.width - 1), iy.clamp(0, self.height - 1));
            let at = iy as usize * self.stride + ix as usize * self.pitch;
            self.bytes.get(at).copied().map_or(0, i32::from)
        };
        blend([tap(ix, iy), tap(ix + 1, iy), tap(ix, iy + 1), tap(ix + 1, iy + 1)])
    }

    /// Whether nothing of the channel comes into the value at (x, y).
    #[inline(always)]
    fn is_far(&self, x: i64, y: i64) -> bool {
        let one = 1 << POINT;
        x <= -one || y <= -one || x >= self.width << POINT || y >= self.height << POINT
    }
}

enum Pixels<'a> {
    Rgb([Channel<'a>; 3]),
    Yuv { channels: [Channel<'a>; 3], black: i32, conversion: Conversion },
}

impl<'a> Pixels<'a> {
    fn new(image: &'a Image) -> Self {
        let channels = image.channels().map(|channel| Channel::new(image, channel));
        if !image.layout.is_yuv() {
            return Self::Rgb(channels);
        }
        let black = if image.colour.full_range { 0 } else { 16 };
        Self::Yuv { channels, black, conversion: Conversion::new(image.colour) }
    }

    #[inline(always)]
    fn at(&self, x: i64, y: i64) -> [u8; 3] {
        match self {
            Self::Rgb(channels) => [0, 1, 2].map(|c| {
                ((channels[c].at(x, y, Some(0)) + (1 << (FRACTION - 1))) >> FRACTION) as u8
            }),
            Self::Yuv { channels: [luma, cb, cr], black, conversion } => {
                if luma.is_far(x, y) {
                    return [0; 3];
                }
                let (cx, cy) = (x >> 1, (y - (1 << (POINT - 1))) >> 1);
                let luma = luma.at(x, y, Some(*black));
                conversion.rgb([luma, cb.at(cx, cy, None), cr.at(cx, cy, None)])
            }
        }
    }
}

/// [`ToRgb`](image::ToRgb) in whole numbers: factors with [`FACTOR`] bits after the point.
pub(crate) struct Conversion {
    /// Y' of black, with [`FRACTION`] bits after the point.
    pub(crate) black: i32,
    pub(crate) luma: i32,
    /// Of Cr.
    pub(crate) red: i32,
    /// Of Cb and Cr, both subtracted.
    pub(crate) green: [i32; 2],
    /// Of Cb.
    pub(crate) blue: i32,
}

/// Bits after the point of a conversion's factors.
const FACTOR: u32 = 12;

impl Conversion {
    pub(crate) fn new(colour: Colour) -> Self {
        let factors = colour.to_rgb();
        let whole = |v: f64, bits: u32| (v * f64::from(1 << bits)).round() as i32;
        Self {
            black: whole(factors.black, FRACTION),
            luma: whole(factors.luma, FACTOR),
            red: whole(factors.red, FACTOR),
            green: factors.green.map(|v| whole(-v, FACTOR)),
            blue: whole(factors.blue, FACTOR),
        }
    }

    /// The colour of one pixel.
    #[inline]
    pub(crate) fn rgb_of_bytes(&self, samples: [u8; 3]) -> [u8; 3] {
        self.rgb(samples.map(|v| i32::from(v) << FRACTION))
    }

    #[inline(always)]
    fn rgb(&self, [y, cb, cr]: [i32; 3]) -> [u8; 3] {
        let y = self.luma * (y - self.black);
        let (cb, cr) = (cb - (128 << FRACTION), cr - (128 << FRACTION));
        let bytes = |v: i32| {
            let half = 1 << (FACTOR + FRACTION - 1);
            ((v + half) >> (FACTOR + FRACTION)).clamp(0, 255) as u8
        };
        let green = y - self.green[0] * cb - self.green[1] * cr;
        [bytes(y + self.red * cr), bytes(green), bytes(y + self.blue * cb)]
    }
}

#[cfg(test)]
mod tests;

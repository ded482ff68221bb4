//! Crops: where in a frame the networks look, and the reference sampler that cuts a crop out.
//!
//! Each crop is related to the frame by a similarity transform. Pixel coordinates: x to the right,
//! y down, (0, 0) is the centre of the top left pixel.

use crate::image::{self, Colour, Image};

/// Side of a crop in pixels.
pub const CROP: usize = 256;

/// How a crop is placed around the 68 landmarks. Part of the weights' manifest, because the
/// networks were trained on crops placed in the same way.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
pub struct CropRule {
    /// Side of a crop in pixels; always 256.
    pub size: u32,
    /// Side of the crop in units of the longer side of the upright box around the landmarks.
    pub scale: f32,
    /// How far the crop's centre lies above the centre of that box, in the same units.
    pub raise: f32,
}

/// How a first crop is placed around a detector's box, so that it is close to the crop that the
/// landmarks would give. In units of the longer side of the box; measured for each detector.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct DetectorRule {
    /// Shift of the centre along the axes of the upright head, y down.
    pub centre: [f32; 2],
    /// Side of the crop.
    pub scale: f32,
}

impl DetectorRule {
    /// The first crop of a detected face. `bounds`: [x, y, width, height] in pixels; `angle`: tilt
    /// of the head in radians, clockwise as seen, 0 if unknown.
    #[must_use]
    pub fn crop(&self, bounds: [f32; 4], angle: f32) -> CropMap {
        let [x, y, w, h] = bounds;
        let longer = w.max(h);
        let [dx, dy] = rotated(self.centre.map(|c| c * longer), angle);
        CropMap::square([x + w / 2.0 + dx, y + h / 2.0 + dy], self.scale * longer, angle)
    }
}

/// A similarity transform from crop pixels to frame pixels:
/// `frame = centre + scale · Rot(angle) · M · (crop − 127.5)`, where M negates x if the crop is
/// mirrored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropMap {
    /// Frame pixel at the centre of the crop.
    pub centre: [f32; 2],
    /// Frame pixels per crop pixel.
    pub scale: f32,
    /// Direction of the crop's x axis in the frame (before mirroring): radians, clockwise as seen
    /// (y is down).
    pub angle: f32,
    /// Whether the crop shows the face mirrored.
    pub mirrored: bool,
}

/// Coordinate of the crop's centre.
const MIDDLE: f32 = (CROP as f32 - 1.0) / 2.0;

/// Rotates a vector in the image by an angle in radians, clockwise as seen.
pub(crate) fn rotated([x, y]: [f32; 2], angle: f32) -> [f32; 2] {
    turned([x, y], angle.sin_cos())
}

/// The same with sine and cosine of the angle.
pub(crate) fn turned([x, y]: [f32; 2], (sin, cos): (f32, f32)) -> [f32; 2] {
    [cos * x - sin * y, sin * x + cos * y]
}

impl CropMap {
    /// A map from a square of `side` frame pixels around `centre`.
    #[must_use]
    pub fn square(centre: [f32; 2], side: f32, angle: f32) -> Self {
        Self { centre, scale: side / CROP as f32, angle, mirrored: false }
    }

    /// The crop of a face, from its landmarks (frame pixels) and its in-plane angle: the box around
    /// the upright landmarks, enlarged and raised as `rule` says.
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
        Self::square(rotated([x, y], angle), rule.scale * longer, angle)
    }

    /// A slightly different view of the same place: shifted by parts of the crop's side, enlarged
    /// by a factor, and rotated by radians.
    #[must_use]
    pub fn nudged(&self, [dx, dy]: [f32; 2], enlarged: f32, rotation: f32) -> Self {
        let side = CROP as f32;
        Self {
            centre: self.frame_from_crop([MIDDLE + dx * side, MIDDLE + dy * side]),
            scale: self.scale * enlarged,
            angle: self.angle + rotation,
            mirrored: self.mirrored,
        }
    }

    /// The same crop, mirrored.
    #[must_use]
    pub fn mirror(&self) -> Self {
        Self { mirrored: !self.mirrored, ..*self }
    }

    /// Frame pixels per crop pixel along the crop's x axis; negative if the crop is mirrored.
    pub(crate) fn across(&self) -> f32 {
        if self.mirrored { -self.scale } else { self.scale }
    }

    /// Maps a crop pixel to a frame pixel.
    #[must_use]
    pub fn frame_from_crop(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        // Not `rotated`: this order of operations is that of the GPU's kernel, to the last bit.
        let (sin, cos) = self.angle.sin_cos();
        let (u, v) = (self.across() * (u - MIDDLE), self.scale * (v - MIDDLE));
        [self.centre[0] + cos * u - sin * v, self.centre[1] + sin * u + cos * v]
    }

    /// The step in the frame for one crop pixel to the right, in fixed point with [`POINT`]
    /// fraction bits.
    pub(crate) fn step(&self) -> [i64; 2] {
        let (sin, cos) = f64::from(self.angle).sin_cos();
        [cos, sin].map(|v| fixed(v * f64::from(self.across())))
    }

    /// Maps a frame pixel to a crop pixel.
    #[must_use]
    pub fn crop_from_frame(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [u, v] = rotated([x - self.centre[0], y - self.centre[1]], -self.angle);
        [MIDDLE + u / self.across(), MIDDLE + v / self.scale]
    }

    /// Whether the map is finite and of a size and place that the sampler can handle.
    #[must_use]
    pub fn is_sane(&self) -> bool {
        self.centre.iter().all(|c| c.is_finite() && c.abs() < 1e5)
            && self.angle.is_finite()
            && self.scale.is_finite()
            && (1e-3..1e3).contains(&self.scale)
    }
}

/// Fraction bits of a fixed-point coordinate.
const POINT: u32 = 16;
/// Fraction bits of an interpolation weight and of an interpolated sample.
const FRACTION: u32 = 8;

pub(crate) fn fixed(v: f64) -> i64 {
    (v * f64::from(1u32 << POINT)).round() as i64
}

/// Cuts a crop out of an image: bilinear interpolation, black outside the image.
///
/// `out` becomes the planes R, G, B, shape [3, 256, 256]. Y'CbCr is interpolated before it is
/// converted to R'G'B'; chroma samples lie on every second luma column and half way between two
/// luma rows (the siting of MPEG-2 and H.264). Positions are rounded to 1/256 of a pixel.
///
/// # Panics
/// If `out` is not 3·256·256 bytes long.
pub fn sample(image: &Image, map: &CropMap, out: &mut [u8]) {
    assert_eq!(out.len(), 3 * CROP * CROP, "a crop is 3×256×256 bytes");
    let sampler = Sampler::new(image);
    let step = map.step();
    let (red, rest) = out.split_at_mut(CROP * CROP);
    let (green, blue) = rest.split_at_mut(CROP * CROP);
    let rows = red
        .chunks_exact_mut(CROP)
        .zip(green.chunks_exact_mut(CROP))
        .zip(blue.chunks_exact_mut(CROP));
    for (v, ((red, green), blue)) in rows.enumerate() {
        sampler.row(map.frame_from_crop([0.0, v as f32]), step, [red, green, blue]);
    }
}

/// Cuts rows out of an image, interpolated as in [`sample`]; black outside.
pub(crate) struct Sampler<'a>(Pixels<'a>);

impl<'a> Sampler<'a> {
    pub(crate) fn new(image: &'a Image) -> Self {
        Self(Pixels::new(image))
    }

    /// R, G, B at places of the image, the first at `start` and each a fixed-point `step` from the
    /// one before. The three rows are of one length, [`CROP`] at most.
    pub(crate) fn row(&self, start: [f32; 2], step: [i64; 2], [red, green, blue]: [&mut [u8]; 3]) {
        let start = start.map(|c| fixed(f64::from(c)));
        if self.0.row(start, step, [&mut *red, &mut *green, &mut *blue]) {
            return;
        }
        let [mut x, mut y] = start;
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            [*r, *g, *b] = self.0.at(x, y);
            x += step[0];
            y += step[1];
        }
    }
}

/// R, G, B of an image at the given places (pixels), interpolated as in [`sample`]; black outside.
#[must_use]
pub fn colours(image: &Image, places: impl Iterator<Item = [f32; 2]>) -> Vec<[u8; 3]> {
    let pixels = Pixels::new(image);
    places.map(|p| p.map(|v| fixed(f64::from(v)))).map(|[x, y]| pixels.at(x, y)).collect()
}

/// The samples of one channel, `pitch` bytes apart in a row.
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
    /// The bilinear value at (x, y), with [`FRACTION`] fraction bits. A sample outside the channel
    /// is `outside`, or the nearest border sample if that is `None`.
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

    /// Whether the bilinear values at all places between these two need samples of the channel only.
    fn holds(&self, from: [i64; 2], to: [i64; 2]) -> bool {
        [from, to].iter().all(|[x, y]| {
            let (ix, iy) = (x >> POINT, y >> POINT);
            ix >= 0 && iy >= 0 && ix + 1 < self.width && iy + 1 < self.height
        })
    }

    /// [`Self::at`] for a row of places that the channel [holds](Self::holds). Samples are collected
    /// first and blended then, because the compiler makes vector instructions of the second half:
    /// together they take less than half the time.
    fn row(&self, places: impl Iterator<Item = [i64; 2]>) -> [i32; CROP] {
        let [mut a, mut b, mut c, mut d] = [[0u8; CROP]; 4];
        let [mut across, mut down] = [[0u8; CROP]; 2];
        for (k, [x, y]) in places.take(CROP).enumerate() {
            let at = (y >> POINT) as usize * self.stride + (x >> POINT) as usize * self.pitch;
            if let Some(taps) = self.bytes.get(at..=at + self.stride + self.pitch) {
                [a[k], b[k]] = [taps[0], taps[self.pitch]];
                [c[k], d[k]] = [taps[self.stride], taps[self.stride + self.pitch]];
            }
            [across[k], down[k]] = [x, y].map(|v| (v >> (POINT - FRACTION)) as u8);
        }
        let (top, bottom) = (mixed(&a, &b, &across), mixed(&c, &d, &across));
        let mut values = [0; CROP];
        for (((value, top), bottom), down) in values.iter_mut().zip(&top).zip(&bottom).zip(&down) {
            let (top, bottom, down) = (u32::from(*top), u32::from(*bottom), u32::from(*down));
            *value = ((top * (ONE - down) + bottom * down) >> FRACTION) as i32;
        }
        values
    }

    /// Whether (x, y) is so far outside that no sample of the channel contributes.
    #[inline(always)]
    fn is_far(&self, x: i64, y: i64) -> bool {
        let one = 1 << POINT;
        x <= -one || y <= -one || x >= self.width << POINT || y >= self.height << POINT
    }
}

/// 1 with [`FRACTION`] fraction bits.
const ONE: u32 = 1 << FRACTION;

/// Each sample of `a` and the one of `b`, mixed by `part` of 256. In 16 bits, which every processor
/// multiplies eight at a time.
fn mixed(a: &[u8; CROP], b: &[u8; CROP], part: &[u8; CROP]) -> [u16; CROP] {
    let mut values = [0; CROP];
    for (((value, a), b), part) in values.iter_mut().zip(a).zip(b).zip(part) {
        let (a, b, part) = (u16::from(*a), u16::from(*b), u16::from(*part));
        *value = a * (ONE as u16 - part) + b * part;
    }
    values
}

/// The place in the chroma planes of a place in the luma plane.
#[inline(always)]
fn chroma([x, y]: [i64; 2]) -> [i64; 2] {
    [x >> 1, (y - (1 << (POINT - 1))) >> 1]
}

/// A byte of a value with [`FRACTION`] fraction bits.
#[inline(always)]
fn rounded(value: i32) -> u8 {
    ((value + (1 << (FRACTION - 1))) >> FRACTION) as u8
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

    /// A row of at most [`CROP`] places, as [`Self::at`] gives them one by one. `false`, and nothing is
    /// written, if part of it lies outside the image.
    fn row(&self, start: [i64; 2], step: [i64; 2], [red, green, blue]: [&mut [u8]; 3]) -> bool {
        let place = |k: i64| [0, 1].map(|axis| start[axis] + k * step[axis]);
        let count = red.len().min(CROP) as i64;
        let places = || (0..count).map(place);
        let last = place(count - 1);
        let out = red.iter_mut().zip(green).zip(blue);
        match self {
            Self::Rgb(channels) => {
                if !channels.iter().all(|channel| channel.holds(start, last)) {
                    return false;
                }
                let rows = channels.each_ref().map(|channel| channel.row(places()));
                for (k, ((r, g), b)) in out.enumerate() {
                    [*r, *g, *b] = rows.each_ref().map(|row| rounded(row[k]));
                }
            }
            Self::Yuv { channels: [luma, cb, cr], conversion, .. } => {
                let holds = |c: &Channel| c.holds(chroma(start), chroma(last));
                if !(luma.holds(start, last) && holds(cb) && holds(cr)) {
                    return false;
                }
                let luma = luma.row(places());
                let [cb, cr] = [cb, cr].map(|channel| channel.row(places().map(chroma)));
                for (k, ((r, g), b)) in out.enumerate() {
                    [*r, *g, *b] = conversion.rgb([luma[k], cb[k], cr[k]]);
                }
            }
        }
        true
    }

    #[inline(always)]
    fn at(&self, x: i64, y: i64) -> [u8; 3] {
        match self {
            Self::Rgb(channels) => [0, 1, 2].map(|c| rounded(channels[c].at(x, y, Some(0)))),
            Self::Yuv { channels: [luma, cb, cr], black, conversion } => {
                if luma.is_far(x, y) {
                    return [0; 3];
                }
                let [cx, cy] = chroma([x, y]);
                let luma = luma.at(x, y, Some(*black));
                conversion.rgb([luma, cb.at(cx, cy, None), cr.at(cx, cy, None)])
            }
        }
    }
}

/// [`ToRgb`](image::ToRgb) in integers: factors with [`FACTOR`] fraction bits.
pub(crate) struct Conversion {
    /// Y' of black, with [`FRACTION`] fraction bits.
    pub(crate) black: i32,
    pub(crate) luma: i32,
    /// Factor of Cr.
    pub(crate) red: i32,
    /// Factors of Cb and Cr, both subtracted.
    pub(crate) green: [i32; 2],
    /// Factor of Cb.
    pub(crate) blue: i32,
}

/// Fraction bits of a conversion's factors.
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

    /// Converts one pixel.
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

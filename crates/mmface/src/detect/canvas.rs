//! Canvases: the small copies of images that detectors work on.

use std::f32::consts::FRAC_PI_2;

use fast_image_resize::images::{Image as Scaled, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Detection;
use crate::crop::Conversion;
use crate::error::{Error, Result};
use crate::image::{Channel, Image, PlaneSize};

/// How an image is scaled and placed on a canvas: at the top left, the rest is black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// Width and height of the image.
    pub image: [u32; 2],
    /// Width and height of the scaled image, both even.
    pub scaled: [i32; 2],
    /// Width and height of the canvas: multiples of 32, because the network halves its input five
    /// times.
    pub canvas: [i32; 2],
}

impl Scaling {
    /// Scales the longer side of the image to at most `size` pixels; by default to a third of it,
    /// but within 512 and 960. A face 40 pixels wide in 1080p is then still 13 pixels wide, and a
    /// detection in 720p costs no more than the networks on two frames. Images are never enlarged.
    #[must_use]
    pub fn new(width: u32, height: u32, size: Option<u32>) -> Self {
        let longer = width.max(height);
        let size = size.unwrap_or((longer / 3).clamp(512, 960));
        let scale = (f64::from(size) / f64::from(longer)).min(1.0);
        let even = |v: u32| (((f64::from(v) * scale / 2.0).round() as i32) * 2).max(2);
        let scaled = [even(width), even(height)];
        Self { image: [width, height], scaled, canvas: scaled.map(|v| (v + 31) / 32 * 32) }
    }

    /// Converts detections from canvas pixels (measured from the canvas's corner) to image pixels
    /// (measured from the centre of the top left pixel).
    #[must_use]
    pub fn to_image(&self, found: Vec<Detection>) -> Vec<Detection> {
        let scale =
            |axis: usize, v: f32| v * self.image[axis] as f32 / self.scaled[axis] as f32 - 0.5;
        let bounds = |[x, y, w, h]: [f32; 4]| {
            let ([x0, y0], [x1, y1]) =
                ([scale(0, x), scale(1, y)], [scale(0, x + w), scale(1, y + h)]);
            [x0, y0, x1 - x0, y1 - y0]
        };
        found.into_iter().map(|one| Detection { bounds: bounds(one.bounds), ..one }).collect()
    }
}

/// The input of a detector.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// How the image lies on the canvas.
    pub scaling: Scaling,
    /// Pixels without padding, shape [height, width, channels]. Channels: R, G, B, or grey.
    pub pixels: Vec<u8>,
}

impl Canvas {
    /// The canvas turned clockwise by a quarter. Its scaling says no more where the image lies.
    pub(super) fn turned(&self) -> Self {
        let [width, height] = self.scaling.canvas.map(|v| v as usize);
        let channels = self.pixels.len() / (width * height).max(1);
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for x in 0..width {
            for y in (0..height).rev() {
                let at = (y * width + x) * channels;
                pixels.extend_from_slice(&self.pixels[at..at + channels]);
            }
        }
        let [width, height] = self.scaling.canvas;
        Self { scaling: Scaling { canvas: [height, width], ..self.scaling }, pixels }
    }

    /// A detection on the [turned](Self::turned) canvas, as it lies on this one.
    pub(super) fn turned_back(&self, found: Detection) -> Detection {
        let [x, y, width, height] = found.bounds;
        let bounds = [y, self.scaling.canvas[1] as f32 - x - width, height, width];
        Detection { bounds, angle: found.angle - FRAC_PI_2, ..found }
    }
}

/// Scales an image by area averaging, which avoids flicker, and puts it on a black canvas as R, G,
/// B.
///
/// # Errors
/// [`Error::Image`](crate::Error::Image) for an image whose planes are too short.
pub(super) fn rgb(image: &Image, scaling: Scaling) -> Result<Canvas> {
    image.check()?;
    let [width, height] = scaling.scaled.map(|v| v as u32);
    let planes = scaled_planes(image, width, height)?;
    let channels = image.layout.channels(width, height);
    // In Y'CbCr two pixels share a chroma sample, across and down.
    let halved = if image.layout.is_yuv() { [1, 2, 2] } else { [1, 1, 1] };
    let conversion = image.layout.is_yuv().then(|| Conversion::new(image.colour));
    let [canvas_width, canvas_height] = scaling.canvas.map(|v| v as usize);
    let mut pixels = vec![0; canvas_width * canvas_height * 3];
    let rows = pixels.chunks_exact_mut(canvas_width * 3).take(height as usize);
    for (y, row) in rows.enumerate() {
        for (x, pixel) in row.as_chunks_mut().0.iter_mut().take(width as usize).enumerate() {
            let samples = [0, 1, 2].map(|c| {
                let Channel { plane, offset, pitch, width, .. } = channels[c];
                let place = y / halved[c] * width as usize + x / halved[c];
                planes[plane][place * pitch + offset]
            });
            *pixel = match &conversion {
                Some(conversion) => conversion.rgb_of_bytes(samples),
                None => samples,
            };
        }
    }
    Ok(Canvas { scaling, pixels })
}

/// The planes of the image, scaled to those of a `width` × `height` image (both even), without
/// padding.
fn scaled_planes(image: &Image, width: u32, height: u32) -> Result<Vec<Vec<u8>>> {
    let from = image.layout.planes(image.width, image.height);
    let to = image.layout.planes(width, height);
    let scaled = from.iter().zip(to).enumerate().map(|(index, (from, to))| {
        let of_plane = |channel: &&Channel| channel.plane == index;
        let pitch = image.channels().iter().find(of_plane).map_or(1, |channel| channel.pitch);
        let packed = image.packed(index).unwrap_or_default();
        resize(&packed, *from, to, pitch)
    });
    scaled.collect()
}

/// Scales a plane, whose pixels are `pitch` bytes wide, by area averaging.
fn resize(packed: &[u8], from: PlaneSize, to: PlaneSize, pitch: usize) -> Result<Vec<u8>> {
    let pixel = match pitch {
        1 => PixelType::U8,
        2 => PixelType::U8x2,
        _ => PixelType::U8x3,
    };
    let failed = |e: &dyn std::fmt::Display| Error::Bug(format!("an image cannot be scaled: {e}"));
    let side = |bytes: usize| (bytes / pitch) as u32;
    let source =
        ImageRef::new(side(from.row), from.rows as u32, packed, pixel).map_err(|e| failed(&e))?;
    let mut scaled = Scaled::new(side(to.row), to.rows as u32, pixel);
    let by_area = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
    Resizer::new().resize(&source, &mut scaled, &by_area).map_err(|e| failed(&e))?;
    Ok(scaled.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Layout, Plane};

    #[test]
    fn images_are_scaled_by_area_onto_a_black_canvas() {
        // Columns in turns black and white become grey; the canvas is larger than the image.
        let pixels: Vec<u8> = (0..200 * 100).map(|i| if i % 2 == 0 { 0 } else { 200 }).collect();
        let image = Image::grey(200, 100, pixels).expect("an image");
        let scaling = Scaling::new(200, 100, Some(100));
        assert_eq!((scaling.scaled, scaling.canvas), ([100, 50], [128, 64]));
        let canvas = rgb(&image, scaling).expect("a canvas");
        assert_eq!(canvas.pixels.len(), 128 * 64 * 3);
        let at = |x: usize, y: usize| &canvas.pixels[(y * 128 + x) * 3..][..3];
        assert_eq!(
            (at(0, 0), at(99, 49), at(100, 0), at(0, 50)),
            (&[100; 3][..], &[100; 3][..], &[0; 3][..], &[0; 3][..])
        );
    }

    #[test]
    fn every_layout_gives_the_same_colours() {
        let scaling = Scaling::new(64, 48, Some(64));
        let first = |image: &Image| rgb(image, scaling).expect("a canvas").pixels[..3].to_vec();
        let rgb_bytes = [250u8, 120, 10].repeat(64 * 48);
        let bgr_bytes = [10u8, 120, 250].repeat(64 * 48);
        assert_eq!(first(&Image::rgb(64, 48, rgb_bytes).expect("fits")), [250, 120, 10]);
        assert_eq!(first(&Image::bgr(64, 48, bgr_bytes).expect("fits")), [250, 120, 10]);
        // BT.601's red.
        let luma = || Plane::new(vec![81; 64 * 48], 64);
        let chroma = |value: u8| Plane::new(vec![value; 32 * 24], 32);
        let i420 = Image::new(Layout::I420, 64, 48, [luma(), chroma(90), chroma(240)]);
        let both = Plane::new([90, 240].repeat(32 * 24), 64);
        let nv12 = Image::new(Layout::Nv12, 64, 48, [luma(), both]);
        assert_eq!(first(&i420.expect("fits")), [254, 0, 0]);
        assert_eq!(first(&nv12.expect("fits")), [254, 0, 0]);
    }

    #[test]
    fn a_canvas_turns_clockwise_and_boxes_turn_back() {
        let scaling = Scaling::new(64, 32, None);
        let pixels: Vec<u8> = (0..64 * 32 * 3).map(|i| (i / 3 % 251) as u8).collect();
        let canvas = Canvas { scaling, pixels };
        let turned = canvas.turned();
        assert_eq!(turned.scaling.canvas, [32, 64]);
        // What lay at the bottom left lies at the top left.
        assert_eq!(turned.pixels[..3], canvas.pixels[31 * 64 * 3..][..3]);
        let four_times = canvas.turned().turned().turned().turned();
        assert_eq!(four_times.pixels, canvas.pixels);
        // A box at the top left of the turned canvas lies at the bottom left of this one.
        let found = Detection { bounds: [0.0, 0.0, 4.0, 6.0], score: 1.0, angle: 0.0 };
        let back = canvas.turned_back(found);
        assert_eq!((back.bounds, back.angle), ([0.0, 28.0, 6.0, 4.0], -FRAC_PI_2));
    }

    #[test]
    fn boxes_come_back_to_the_image() {
        let scaling = Scaling::new(1280, 720, None);
        assert_eq!((scaling.scaled, scaling.canvas), ([512, 288], [512, 288]));
        let on_canvas = Detection { bounds: [51.2, 28.8, 102.4, 57.6], score: 1.0, angle: 0.0 };
        let [x, y, w, h] = scaling.to_image(vec![on_canvas])[0].bounds;
        for (found, expected) in [x, y, w, h].into_iter().zip([127.5, 71.5, 256.0, 144.0]) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }
}

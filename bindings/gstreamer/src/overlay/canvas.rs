//! Draws shapes into a video frame of any format with 8 bits a sample.

use ::mmface::image::Matrix;
use gstreamer as gst;
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoColorMatrix, VideoFrameRef, VideoInfo};

/// Where the samples of one component (R, G, B or Y, Cb, Cr) lie in memory.
#[derive(Debug, Clone, Copy)]
struct Component {
    plane: usize,
    /// Bytes from the start of the plane to the first sample.
    offset: usize,
    /// Bytes from a sample to its right neighbour.
    pitch: usize,
    /// Bytes from a sample to the one below.
    stride: usize,
    /// Samples in a row, and rows.
    size: [usize; 2],
    /// Pixels that a sample stands for, across and down.
    pixels: [usize; 2],
}

/// A frame to draw on.
pub(super) struct Canvas<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    planes: [&'a mut [u8]; 4],
    /// One for a grey frame, else three.
    components: Vec<Component>,
    coding: Coding,
}

/// A colour, 0…255 each, with its opacity, 0…1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour {
    pub(super) rgb: [f32; 3],
    pub(super) alpha: f32,
}

impl Colour {
    pub(super) const fn new(rgb: [f32; 3], alpha: f32) -> Self {
        Self { rgb, alpha }
    }
}

impl<'a> Canvas<'a> {
    pub(super) fn new(frame: &'a mut VideoFrameRef<&mut gst::BufferRef>, info: &VideoInfo) -> Self {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let format = frame.format_info();
        let natural = |value: i32| usize::try_from(value).unwrap_or_default();
        let strides: Vec<usize> = frame.plane_stride().iter().map(|s| natural(*s)).collect();
        let component = |index: usize| {
            let plane = *format.plane().get(index)? as usize;
            let pixels = [*format.w_sub().get(index)?, *format.h_sub().get(index)?].map(|s| 1 << s);
            Some(Component {
                plane,
                offset: *format.poffset().get(index)? as usize,
                pitch: natural(*format.pixel_stride().get(index)?),
                stride: *strides.get(plane)?,
                size: [width.div_ceil(pixels[0]), height.div_ceil(pixels[1])],
                pixels,
            })
        };
        // A fourth component is opacity.
        let count = format.n_components().min(3) as usize;
        let components = (0..count).filter_map(component).collect();
        let coding = Coding::new(info);
        Self { width, height, planes: frame.planes_data_mut(), components, coding }
    }

    /// Blends a colour over the pixels of a box [left, top, right, bottom]; `coverage` tells the
    /// covered share (0…1) of a pixel at x, y.
    pub(super) fn cover(
        &mut self,
        [left, top, right, bottom]: [f32; 4],
        colour: Colour,
        coverage: impl Fn(f32, f32) -> f32,
    ) {
        let values = self.coding.values(colour.rgb);
        for (component, value) in self.components.iter().zip(values) {
            let Component { plane, offset, pitch, stride, size, pixels } = *component;
            let Some(bytes) = self.planes.get_mut(plane) else { continue };
            let [across, down] = pixels.map(|n| n as f32);
            // Sample i stands for the pixels from i·n on; their middle:
            let middle = |index: usize, n: f32| (index as f32 + 0.5) * n - 0.5;
            for row in inside(top / down - 0.5, bottom / down + 0.5, size[1]) {
                let y = middle(row, down);
                for column in inside(left / across - 0.5, right / across + 0.5, size[0]) {
                    let alpha = colour.alpha * coverage(middle(column, across), y);
                    let at = offset + row * stride + column * pitch;
                    if alpha > 0.0
                        && let Some(byte) = bytes.get_mut(at)
                    {
                        let below = f32::from(*byte);
                        *byte = (below + (value - below) * alpha + 0.5) as u8;
                    }
                }
            }
        }
    }

    /// A line with round ends.
    pub(super) fn line(&mut self, a: [f32; 2], b: [f32; 2], width: f32, colour: Colour) {
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
            (radius + 0.5 - distance).clamp(0.0, 1.0) * width.min(1.0)
        });
    }

    /// A filled dot.
    pub(super) fn dot(&mut self, at: [f32; 2], diameter: f32, colour: Colour) {
        self.line(at, at, diameter, colour);
    }

    /// The outline of a box [x, y, width, height].
    pub(super) fn frame(&mut self, [x, y, w, h]: [f32; 4], width: f32, colour: Colour) {
        let half = width / 2.0;
        let (cx, cy, half_w, half_h) = (x + w / 2.0, y + h / 2.0, w / 2.0, h / 2.0);
        // Four strips, so that the inside of a large face is not visited.
        let reach = half + 1.0;
        let (left, right, top, bottom) = (x - reach, x + w + reach, y - reach, y + h + reach);
        let strips = [
            [left, top, right, y + reach],
            [left, bottom - 2.0 * reach, right, bottom],
            [left, y + reach + 1.0, x + reach, bottom - 2.0 * reach - 1.0],
            [right - 2.0 * reach, y + reach + 1.0, right, bottom - 2.0 * reach - 1.0],
        ];
        for strip in strips {
            self.cover(strip, colour, |px, py| {
                let (dx, dy) = ((px - cx).abs() - half_w, (py - cy).abs() - half_h);
                let distance = dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0);
                (half + 0.5 - distance.abs()).clamp(0.0, 1.0)
            });
        }
    }

    /// A filled box [x, y, width, height].
    pub(super) fn fill(&mut self, [x, y, w, h]: [f32; 4], colour: Colour) {
        self.cover([x, y, x + w - 1.0, y + h - 1.0], colour, |_, _| 1.0);
    }
}

/// How colours are written into the samples of a format.
#[derive(Debug, Clone, Copy)]
enum Coding {
    Rgb,
    /// Weights of red and blue in luma; black and reach of the three components.
    Yuv {
        weights: [f32; 2],
        black: [f32; 3],
        reach: [f32; 3],
    },
}

impl Coding {
    fn new(info: &VideoInfo) -> Self {
        if info.is_rgb() {
            return Self::Rgb;
        }
        let matrix = match info.colorimetry().matrix() {
            VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => Matrix::Bt601,
            _ => Matrix::Bt709,
        };
        let (red, blue) = matrix.weights();
        let (black, reach) = info.range_offsets(info.colorimetry().range());
        let three = |values: [i32; 4]| [values[0], values[1], values[2]].map(|v| v as f32);
        Self::Yuv { weights: [red as f32, blue as f32], black: three(black), reach: three(reach) }
    }

    /// The samples of a colour.
    fn values(&self, rgb: [f32; 3]) -> [f32; 3] {
        let Self::Yuv { weights: [red, blue], black, reach } = *self else { return rgb };
        let [r, g, b] = rgb.map(|v| v / 255.0);
        let y = red * r + (1.0 - red - blue) * g + blue * b;
        let yuv = [y, (b - y) / (2.0 * (1.0 - blue)), (r - y) / (2.0 * (1.0 - red))];
        std::array::from_fn(|i| black[i] + reach[i] * yuv[i])
    }
}

/// The integers from `low` to `high` within 0…`size`; empty if a limit is NaN.
fn inside(low: f32, high: f32, size: usize) -> std::ops::Range<usize> {
    // `as` saturates and turns NaN into 0.
    let end = ((high.floor() + 1.0) as usize).min(size);
    (low.ceil() as usize).min(end)..end
}

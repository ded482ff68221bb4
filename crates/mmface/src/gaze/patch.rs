//! Patches: where the gaze network looks for an iris, cut from the image at its own resolution.

use crate::crop::{CROP, Sampler, fixed, turned};
use crate::image::Image;

/// Size of a patch in pixels.
pub(crate) const ROWS: usize = 48;
pub(crate) const COLUMNS: usize = 64;
/// Most pixels of the image, across, whose mean is one pixel of a patch.
const MOST_TAPS: f32 = 8.0;

/// A similarity transform from the pixels of a patch to those of the image, as
/// [`CropMap`](crate::crop::CropMap).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct PatchMap {
    /// The image's pixel at the middle of the patch.
    pub centre: [f32; 2],
    /// Pixels of the image per pixel of the patch.
    pub scale: f32,
    /// Direction of the patch's x axis in the image: radians, clockwise as seen.
    pub angle: f32,
    /// Whether the patch shows the eye mirrored.
    pub mirrored: bool,
}

impl PatchMap {
    /// Whether the map is finite, and of a size and place that the sampler can handle.
    pub(super) fn is_sane(&self) -> bool {
        self.centre.iter().all(|c| c.is_finite() && c.abs() < 1e5)
            && self.angle.is_finite()
            && (1e-3..1e3).contains(&self.scale)
    }

    /// Pixels of the image per pixel of the patch along its rows: negative if mirrored.
    fn across(&self) -> f32 {
        if self.mirrored { -self.scale } else { self.scale }
    }

    /// Maps a pixel of the patch to a pixel of the image.
    pub(crate) fn image_from_patch(&self, pixel: [f32; 2]) -> [f32; 2] {
        self.placed(pixel, self.angle.sin_cos())
    }

    /// The step in the image from one of `taps` samples in a pixel of the patch to the next on its
    /// right, in fixed point.
    fn step(&self, taps: usize) -> [i64; 2] {
        let (sin, cos) = f64::from(self.angle).sin_cos();
        [cos, sin].map(|v| fixed(v * f64::from(self.across()) / taps as f64))
    }

    /// The same with sine and cosine of the angle, for many pixels.
    fn placed(&self, [u, v]: [f32; 2], turn: (f32, f32)) -> [f32; 2] {
        let middle = |size: usize| (size as f32 - 1.0) / 2.0;
        let arm = [self.across() * (u - middle(COLUMNS)), self.scale * (v - middle(ROWS))];
        let [x, y] = turned(arm, turn);
        [self.centre[0] + x, self.centre[1] + y]
    }
}

/// Cuts a patch out of an image: planes R, G, B of [`ROWS`]×[`COLUMNS`] bytes, black outside the
/// image. Where a pixel of the patch covers several of the image, it is their mean.
pub(crate) fn sample(image: &Image, map: &PatchMap, out: &mut [u8]) {
    let taps = map.scale.round().clamp(1.0, MOST_TAPS) as usize;
    // Offsets within a pixel: 0 for one tap, ±¼ for two …
    let offset = |tap: usize| (tap as f32 + 0.5) / taps as f32 - 0.5;
    let turn = map.angle.sin_cos();
    let step = map.step(taps);
    let sampler = Sampler::new(image);
    // Columns of the patch that a row of the sampler holds.
    let columns = (CROP / taps).min(COLUMNS);
    let mut fine = [[0; CROP]; 3];
    for row in 0..ROWS {
        let mut sums = [[0_u32; COLUMNS]; 3];
        for first in (0..COLUMNS).step_by(columns) {
            let count = columns.min(COLUMNS - first);
            for down in 0..taps {
                let start = [first as f32 + offset(0), row as f32 + offset(down)];
                let rows = fine.each_mut().map(|row| &mut row[..count * taps]);
                sampler.row(map.placed(start, turn), step, rows);
                for (sums, fine) in sums.iter_mut().zip(&fine) {
                    let sums = sums[first..first + count].iter_mut();
                    for (sum, taps) in sums.zip(fine.chunks_exact(taps)) {
                        *sum += taps.iter().map(|value| u32::from(*value)).sum::<u32>();
                    }
                }
            }
        }
        let count = (taps * taps) as u32;
        for (channel, sums) in sums.iter().enumerate() {
            let at = (channel * ROWS + row) * COLUMNS;
            for (byte, sum) in out.iter_mut().skip(at).zip(sums) {
                *byte = ((sum + count / 2) / count) as u8;
            }
        }
    }
}

//! Patches: where the gaze network looks for an iris, cut from the image at its own resolution.

use crate::crop::{colours, turned};
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

    /// Maps a pixel of the patch to a pixel of the image.
    pub(crate) fn image_from_patch(&self, pixel: [f32; 2]) -> [f32; 2] {
        self.placed(pixel, self.angle.sin_cos())
    }

    /// The same with sine and cosine of the angle, for many pixels.
    fn placed(&self, [u, v]: [f32; 2], turn: (f32, f32)) -> [f32; 2] {
        let across = if self.mirrored { -self.scale } else { self.scale };
        let middle = |size: usize| (size as f32 - 1.0) / 2.0;
        let [x, y] =
            turned([across * (u - middle(COLUMNS)), self.scale * (v - middle(ROWS))], turn);
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
    let places = (0..ROWS * COLUMNS).flat_map(|at| {
        let (u, v) = ((at % COLUMNS) as f32, (at / COLUMNS) as f32);
        (0..taps * taps)
            .map(move |tap| map.placed([u + offset(tap % taps), v + offset(tap / taps)], turn))
    });
    let count = taps * taps;
    for (at, taps) in colours(image, places).chunks_exact(count).enumerate() {
        for channel in 0..3 {
            let sum: usize = taps.iter().map(|tap| usize::from(tap[channel])).sum();
            if let Some(byte) = out.get_mut(channel * ROWS * COLUMNS + at) {
                *byte = ((sum + count / 2) / count) as u8;
            }
        }
    }
}

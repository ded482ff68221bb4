//! Scene cut detection: whether a frame shows another scene than the frame before.

use crate::image::Image;

/// Size of a thumbnail.
const COLUMNS: usize = 32;
const ROWS: usize = 18;
/// Below this correlation of two successive thumbnails the scene has changed. Frames of one scene
/// stay far above it, even if the light flashes, because mean and contrast are normalised.
const LIMIT: f32 = 0.35;
/// Standard deviation of luma below which a frame has no structure to compare (black, fog); such
/// frames are skipped.
const FLAT: f32 = 3.0;

/// Compares the thumbnail of each frame with that of the last frame that had structure.
#[derive(Default)]
pub(crate) struct CutDetector {
    last: Option<Vec<f32>>,
}

impl CutDetector {
    /// Whether `image` starts a new scene.
    pub(crate) fn is_cut(&mut self, image: &Image) -> bool {
        let next = thumbnail(image);
        let cut = match (&self.last, &next) {
            (Some(last), Some(next)) => {
                last.iter().zip(next).map(|(a, b)| a * b).sum::<f32>() < LIMIT
            }
            _ => false,
        };
        if next.is_some() {
            self.last = next;
        }
        cut
    }

    /// Forgets the last frame.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

/// Luma (or green) on a coarse grid, each cell the mean of 4×4 samples, normalised to mean 0 and
/// length 1. `None` if the frame has no structure.
fn thumbnail(image: &Image) -> Option<Vec<f32>> {
    let [first, second, _] = image.channels();
    let channel = if image.layout.is_yuv() { first } else { second };
    let plane = &image.planes[channel.plane];
    let sample = |i: usize, n: usize, size: u32| (2 * i + 1) * size as usize / (2 * n);
    let cell = |row: usize, column: usize| -> f32 {
        let mut sum = 0u32;
        for j in 0..16 {
            let y = sample(4 * row + j / 4, 4 * ROWS, image.height);
            let x = sample(4 * column + j % 4, 4 * COLUMNS, image.width);
            let at = channel.offset + y * plane.stride + x * channel.pitch;
            sum += u32::from(plane.bytes.get(at).copied().unwrap_or(0));
        }
        sum as f32 / 16.0
    };
    let mut cells: Vec<f32> = (0..ROWS * COLUMNS).map(|i| cell(i / COLUMNS, i % COLUMNS)).collect();
    let mean = cells.iter().sum::<f32>() / cells.len() as f32;
    cells.iter_mut().for_each(|c| *c -= mean);
    let length = cells.iter().map(|c| c * c).sum::<f32>().sqrt();
    if length / (cells.len() as f32).sqrt() < FLAT {
        return None;
    }
    cells.iter_mut().for_each(|c| *c /= length);
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(value: impl Fn(u32, u32) -> u32) -> Image<'static> {
        let pixels = (0..90 * 160).flat_map(|i| [value(i % 160, i / 160) as u8; 3]);
        Image::rgb(160, 90, pixels.collect::<Vec<u8>>()).expect("sizes fit")
    }

    #[test]
    fn another_scene_is_a_cut_a_pan_or_a_flash_is_not() {
        let scene = |dx: u32| {
            move |x: u32, y: u32| 60 + 50 * u32::from(((x + dx) / 40).is_multiple_of(2)) + y / 2
        };
        let mut cuts = CutDetector::default();
        assert!(!cuts.is_cut(&picture(scene(0))));
        assert!(!cuts.is_cut(&picture(scene(3))), "a pan");
        assert!(!cuts.is_cut(&picture(move |x, y| scene(3)(x, y) + 70)), "a flash");
        assert!(!cuts.is_cut(&picture(|_, _| 0)), "black");
        assert!(cuts.is_cut(&picture(|x, y| (y / 15 % 2) * 120 + x / 4)), "another scene");
    }
}

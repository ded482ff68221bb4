//! Whether a frame shows another scene than the frame before, and whether something moves in it.

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
/// Something moves if at least so many cells of the thumbnail differ by more than so many levels of
/// luma, apart from a change of all of them. Noise, averaged over a cell, stays below.
const MOVED_CELLS: usize = 2;
const MOVED_LEVELS: f32 = 12.0;

/// What has changed since the last frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// A new scene begins.
    pub(crate) is_cut: bool,
    /// Something moves, or the camera does.
    pub(crate) moves: bool,
}

/// Compares the thumbnail of each frame with those before.
#[derive(Default)]
pub(crate) struct CutDetector {
    /// That of the last frame.
    last: Option<Vec<f32>>,
    /// That of the last frame that had structure, with length 1.
    last_scene: Option<Vec<f32>>,
}

impl CutDetector {
    /// Compares `image` with the frames before it.
    pub(crate) fn compare(&mut self, image: &Image) -> Change {
        let cells = thumbnail(image);
        let moved = |last: &Vec<f32>| {
            let far = last.iter().zip(&cells).filter(|(a, b)| (*a - *b).abs() > MOVED_LEVELS);
            far.count() >= MOVED_CELLS
        };
        let moves = self.last.as_ref().is_some_and(moved);
        let length = cells.iter().map(|c| c * c).sum::<f32>().sqrt();
        let mut is_cut = false;
        if length / (cells.len() as f32).sqrt() >= FLAT {
            let scene: Vec<f32> = cells.iter().map(|cell| cell / length).collect();
            let correlation =
                |last: &Vec<f32>| last.iter().zip(&scene).map(|(a, b)| a * b).sum::<f32>();
            is_cut = self.last_scene.as_ref().is_some_and(|last| correlation(last) < LIMIT);
            self.last_scene = Some(scene);
        }
        self.last = Some(cells);
        Change { is_cut, moves }
    }

    /// Forgets the last frames.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Luma (or green) on a coarse grid, each cell the mean of 4×4 samples, less the mean of all cells.
fn thumbnail(image: &Image) -> Vec<f32> {
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
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(value: impl Fn(u32, u32) -> u32) -> Image<'static> {
        let pixels = (0..90 * 160).flat_map(|i| [value(i % 160, i / 160) as u8; 3]);
        Image::rgb(160, 90, pixels.collect::<Vec<u8>>()).expect("sizes fit")
    }

    fn is_cut(cuts: &mut CutDetector, image: &Image) -> bool {
        cuts.compare(image).is_cut
    }

    #[test]
    fn what_moves_is_told_from_noise_and_light() {
        let room = |x: u32, y: u32| 60 + 50 * u32::from((x / 40).is_multiple_of(2)) + y / 2;
        let person = |x: u32, y: u32| {
            if (70..85).contains(&x) && (30..60).contains(&y) { 190 } else { room(x, y) }
        };
        let noise = |x: u32, y: u32| room(x, y) + (x * 7919 + y * 104_729) % 17;
        let mut cuts = CutDetector::default();
        let mut moves = |image: Image| cuts.compare(&image).moves;
        assert!(!moves(picture(room)), "the first frame");
        assert!(!moves(picture(noise)));
        assert!(!moves(picture(move |x, y| room(x, y) + 30)), "light");
        assert!(moves(picture(person)));
        assert!(!moves(picture(person)), "a person who stands still");
    }

    #[test]
    fn another_scene_is_a_cut_a_pan_or_a_flash_is_not() {
        let scene = |dx: u32| {
            move |x: u32, y: u32| 60 + 50 * u32::from(((x + dx) / 40).is_multiple_of(2)) + y / 2
        };
        let mut cuts = CutDetector::default();
        assert!(!is_cut(&mut cuts, &picture(scene(0))));
        assert!(!is_cut(&mut cuts, &picture(scene(3))), "a pan");
        assert!(!is_cut(&mut cuts, &picture(move |x, y| scene(3)(x, y) + 70)), "a flash");
        assert!(!is_cut(&mut cuts, &picture(|_, _| 0)), "black");
        assert!(is_cut(&mut cuts, &picture(|x, y| (y / 15 % 2) * 120 + x / 4)), "another scene");
    }
}

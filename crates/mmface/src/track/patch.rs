//! How a face looks, coarsely: colours of its crop on a small grid.

use crate::crop::{CROP, CropMap, Sampler};
use crate::image::Image;

/// Cells along each side of the grid.
const SIDE: usize = 16;
/// Samples along each side of a cell.
const FINE: usize = 2;
/// Added to colours (0…255) before they divide, so that noise in the dark does not count.
const DARK: f32 = 8.0;
/// Centre and half axes, in cells, of the ellipse that holds the face without hair and background.
const CENTRE: [f32; 2] = [8.0, 8.8];
const HALF_AXES: [f32; 2] = [4.5, 5.4];

/// The crop of a face on a grid of 16×16 cells.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    /// Mean R, G, B of each cell, divided by the mean luma of all, so that exposure cancels.
    cells: Vec<[f32; 3]>,
    /// ln(R/G) and ln(B/G) of the mean colour of the face without hair and background.
    chroma: [f32; 2],
}

impl Patch {
    /// The patch of the face that lies in the crop `map` of an image.
    pub(super) fn new(image: &Image, map: &CropMap) -> Self {
        const ROW: usize = SIDE * FINE;
        let mut cells = vec![[0.0; 3]; SIDE * SIDE];
        if !map.is_sane() {
            return Self::of(cells);
        }
        let apart = CROP / ROW;
        let at = |i: usize| (i as f32 + 0.5) * apart as f32 - 0.5;
        let (sampler, step) = (Sampler::new(image), map.step().map(|v| v * apart as i64));
        for (row, cells) in cells.chunks_exact_mut(SIDE).enumerate() {
            for fine in 0..FINE {
                let mut rgb = [[0; ROW]; 3];
                let start = map.frame_from_crop([at(0), at(row * FINE + fine)]);
                sampler.row(start, step, rgb.each_mut().map(|row| &mut row[..]));
                for (channel, row) in rgb.iter().enumerate() {
                    for (cell, values) in cells.iter_mut().zip(row.chunks_exact(FINE)) {
                        let sum: f32 = values.iter().map(|value| f32::from(*value)).sum();
                        cell[channel] += sum / (FINE * FINE) as f32;
                    }
                }
            }
        }
        Self::of(cells)
    }

    /// The patch of cells with values 0…255.
    fn of(mut cells: Vec<[f32; 3]>) -> Self {
        let [red, green, blue] = mean(cells.iter().enumerate().filter(|(i, _)| is_face(*i)));
        let against = |value: f32| ((value + DARK) / (green + DARK)).ln();
        let chroma = [against(red), against(blue)];
        let [red, green, blue] = mean(cells.iter().enumerate());
        let luma = 0.299 * red + 0.587 * green + 0.114 * blue + DARK;
        cells.iter_mut().flatten().for_each(|value| *value /= luma);
        Self { cells, chroma }
    }

    /// Mean absolute difference of the cells' colours, in units of the mean luma.
    pub(super) fn difference(&self, other: &Self) -> f32 {
        let pairs = self.cells.iter().flatten().zip(other.cells.iter().flatten());
        pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / (3 * SIDE * SIDE) as f32
    }

    /// Distance of the faces' mean colours, whatever their brightness.
    pub(super) fn chroma_difference(&self, other: &Self) -> f32 {
        let [a, b] = [0, 1].map(|k| self.chroma[k] - other.chroma[k]);
        a.hypot(b)
    }

    /// Moves this patch by a part of the way to another: a running mean.
    pub(super) fn approach(&mut self, other: &Self, part: f32) {
        let to = |a: &mut f32, b: &f32| *a += part * (b - *a);
        let cells = self.cells.iter_mut().flatten().zip(other.cells.iter().flatten());
        cells.for_each(|(a, b)| to(a, b));
        self.chroma.iter_mut().zip(&other.chroma).for_each(|(a, b)| to(a, b));
    }
}

/// Whether a cell lies on the face.
fn is_face(cell: usize) -> bool {
    let place = [cell % SIDE, cell / SIDE].map(|v| v as f32 + 0.5);
    let [x, y] = [0, 1].map(|k| (place[k] - CENTRE[k]) / HALF_AXES[k]);
    x * x + y * y < 1.0
}

fn mean<'a>(cells: impl Iterator<Item = (usize, &'a [f32; 3])>) -> [f32; 3] {
    let (mut sum, mut count) = ([0.0; 3], 0.0);
    for (_, cell) in cells {
        sum.iter_mut().zip(cell).for_each(|(sum, value)| *sum += value);
        count += 1.0;
    }
    sum.map(|v| v / f32::max(count, 1.0))
}

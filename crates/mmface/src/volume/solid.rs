//! The solid inside a closed mesh, on the grid of a volume.

use super::Volume;
use crate::crop::{CROP, CropMap};

/// For each column of voxels behind a crop, the extent between a mesh's front and back. Hollows in
/// between count as filled, as in the volumes that the networks were trained on.
#[derive(Debug, Clone)]
pub struct Solid {
    map: CropMap,
    resolution: usize,
    /// [front, back] of each column, row by row: depth in voxels from the centre toward the camera.
    /// front < back in a column without the mesh.
    columns: Vec<[f32; 2]>,
}

impl Solid {
    /// The solid of a mesh in the crop `map`. `points` in pixels of the frame; `triangles` are
    /// indices into `points`.
    #[must_use]
    pub fn new(
        points: &[[f32; 3]],
        triangles: &[[u32; 3]],
        map: &CropMap,
        resolution: usize,
    ) -> Self {
        let step = CROP as f32 / resolution as f32;
        let place = |p: &[f32; 3]| {
            let [u, v] = map.crop_from_frame([p[0], p[1]]);
            [(u + 0.5) / step - 0.5, (v + 0.5) / step - 0.5, p[2] / (map.scale * step)]
        };
        let placed: Vec<_> = points.iter().map(place).collect();
        let mut columns = vec![[f32::MIN, f32::MAX]; resolution * resolution];
        for triangle in triangles {
            let corners = triangle.map(|i| placed.get(i as usize).copied());
            let [Some(a), Some(b), Some(c)] = corners else { continue };
            let area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
            let range = |k: usize| {
                let low = a[k].min(b[k]).min(c[k]).max(0.0).ceil() as usize;
                let high = (a[k].max(b[k]).max(c[k]).max(-1.0) + 1.0).floor();
                low..high.min(resolution as f32) as usize
            };
            for (x, y) in range(1).flat_map(|y| range(0).map(move |x| (x, y))) {
                let (dx, dy) = (x as f32 - a[0], y as f32 - a[1]);
                let v = (dx * (c[1] - a[1]) - (c[0] - a[0]) * dy) / area;
                let w = ((b[0] - a[0]) * dy - dx * (b[1] - a[1])) / area;
                if v >= 0.0 && w >= 0.0 && v + w <= 1.0 {
                    let z = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2]);
                    let [front, back] = &mut columns[y * resolution + x];
                    (*front, *back) = (front.max(z), back.min(z));
                }
            }
        }
        Self { map: *map, resolution, columns }
    }

    /// For each voxel the depth below the surface, in voxels; negative outside. In the order slice,
    /// row, column.
    pub fn depths(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.resolution).flat_map(|slice| self.slice(slice))
    }

    fn slice(&self, slice: usize) -> impl Iterator<Item = f32> + '_ {
        let depth = (self.resolution as f32 - 1.0) / 2.0 - slice as f32;
        self.columns.iter().map(move |[front, back]| (front - depth).min(depth - back))
    }

    /// For each voxel, whether it is filled. In the order slice, row, column.
    pub fn filled(&self) -> impl Iterator<Item = bool> + '_ {
        self.depths().map(|depth| depth >= 0.0)
    }

    /// The solid as a volume. A voxel that the surface cuts in depth is partially filled.
    #[must_use]
    pub fn volume(&self) -> Volume {
        // Rounds to nearest; the cast saturates at 0 and 255.
        let part = |depth: f32| (255.0 * (depth + 0.5) + 0.5) as u8;
        let r = self.resolution;
        let mut values = Vec::with_capacity(r * r * r);
        // One slice at a time, so that the inner loop is simple enough for the compiler to
        // vectorise.
        (0..r).for_each(|slice| values.extend(self.slice(slice).map(part)));
        Volume { resolution: r, values, map: self.map }
    }

    /// Share of the r³ voxels, 0…1, whose occupancy differs from `there` (a volume in the same
    /// crop). `None` if `there` has another number of voxels.
    #[must_use]
    pub fn mismatch(&self, there: impl Iterator<Item = bool>) -> Option<f64> {
        let (mut here, mut differ, mut count) = (self.filled(), 0usize, 0usize);
        for theirs in there {
            differ += usize::from(here.next()? != theirs);
            count += 1;
        }
        (count > 0 && here.next().is_none()).then(|| differ as f64 / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: CropMap =
        CropMap { centre: [400.0, 300.0], scale: 2.0, angle: 0.3, mirrored: false };

    /// A box in the crop's own axes, from `low` to `high` (crop pixels, depth toward the camera).
    fn cuboid(low: [f32; 3], high: [f32; 3]) -> (Vec<[f32; 3]>, Vec<[u32; 3]>) {
        let corner = |i: usize| {
            let at: [f32; 3] =
                std::array::from_fn(|k| if i >> k & 1 == 1 { high[k] } else { low[k] });
            let [x, y] = MAP.frame_from_crop([at[0], at[1]]);
            [x, y, MAP.scale * at[2]]
        };
        let side = |a: u32, b: u32, c: u32, d: u32| [[a, b, c], [b, d, c]];
        let sides = [
            side(0, 1, 2, 3),
            side(4, 5, 6, 7),
            side(0, 1, 4, 5),
            side(2, 3, 6, 7),
            side(0, 2, 4, 6),
        ];
        ((0..8).map(corner).collect(), sides.concat())
    }

    #[test]
    fn a_box_fills_what_it_covers() {
        // Voxels of 4 pixels: 16 columns, 8 rows, 24 slices whose centres lie inside.
        let (points, triangles) = cuboid([64.0, 96.0, -48.0], [128.0, 128.0, 48.0]);
        let solid = Solid::new(&points, &triangles, &MAP, 64);
        assert_eq!(solid.depths().filter(|d| *d >= 0.0).count(), 16 * 8 * 24);
        let values = solid.volume().values().to_vec();
        let volume = |values: Vec<u8>| Volume::new(values, MAP).expect("a cube");
        let mismatch = |values| solid.mismatch(volume(values).filled());
        assert_eq!(mismatch(values.clone()), Some(0.0));
        assert!(values.iter().all(|v| *v == 0 || *v == 255), "its faces lie between voxels");
        // The first slice of the box left out, and a voxel outside filled.
        let mut wrong = values;
        let first = wrong.iter().position(|v| *v > 0).expect("filled") / 4096;
        assert_eq!(first, 20);
        wrong[first * 4096..(first + 1) * 4096].fill(0);
        wrong[0] = 200;
        let share = mismatch(wrong).expect("the same resolution");
        assert!((share - 129.0 / 262_144.0).abs() < 1e-12, "{share}");
        assert_eq!(mismatch(vec![0; 27]), None);
    }

    #[test]
    fn nothing_fills_nothing() {
        let solid = Solid::new(&[[f32::NAN; 3]], &[[0, 0, 0], [0, 1, 2]], &MAP, 8);
        assert!(solid.depths().all(|d| d < 0.0));
    }
}

//! The volume of a face: which voxels of a cube around it are filled.

mod icp;
mod solid;
mod surface;

pub use icp::{Aligner, Distance};
pub use solid::Solid;
pub use surface::surface;

use crate::crop::{CROP, CropMap};

/// Occupancy of r×r×r voxels around a face, and their place in the frame.
///
/// The voxel in slice k, row j and column i is centred at the crop pixel
/// `((i + ½) 256/r − ½, (j + ½) 256/r − ½)` and at the depth `128 − (k + ½) 256/r`, in crop pixels
/// toward the camera. So the first slice is the nearest. Depth 0 is the centre of the face's
/// volume; `t_z` uses the same origin.
#[derive(Debug, Clone)]
pub struct Volume {
    resolution: usize,
    values: Vec<u8>,
    map: CropMap,
}

impl Volume {
    /// A volume seen in the crop `map`. `values`: r·r·r bytes, 255 times the probability that a
    /// voxel is filled, in the order slice, row, column. `None` if their number is not that of a
    /// cube with 1 ≤ r ≤ 1024.
    #[must_use]
    pub fn new(values: Vec<u8>, map: CropMap) -> Option<Self> {
        let resolution = (1..=1024).find(|r: &usize| r.pow(3) >= values.len())?;
        (resolution.pow(3) == values.len()).then_some(Self { resolution, values, map })
    }

    /// Number of voxels along each side.
    #[must_use]
    pub fn resolution(&self) -> usize {
        self.resolution
    }

    /// The crop in which the volume was seen.
    #[must_use]
    pub fn map(&self) -> &CropMap {
        &self.map
    }

    /// 255 times the probability that a voxel is filled, in the order slice, row, column.
    #[must_use]
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// For each voxel, whether it is filled: whether the probability is at least ½.
    pub fn filled(&self) -> impl Iterator<Item = bool> + '_ {
        self.values.iter().map(|value| *value >= 128)
    }

    /// The mean of several views of a face, resampled in the crop of the first view. `None` if
    /// there are no views or their resolutions differ.
    #[must_use]
    pub fn mean(mut views: Vec<Self>) -> Option<Self> {
        let (resolution, map) = views.first().map(|view| (view.resolution, view.map))?;
        if views.iter().any(|view| view.resolution != resolution) {
            return None;
        }
        if views.len() > 1 {
            let mut sum = vec![0.0; resolution.pow(3)];
            views.iter().for_each(|view| view.add_to(&mut sum, &map));
            let part = 1.0 / views.len() as f32;
            let values = sum.iter().map(|sum| (sum * part).round() as u8).collect();
            return Some(Self { resolution, values, map });
        }
        views.pop()
    }

    /// Resamples this volume (trilinear) in the crop `map` at the same resolution and adds the
    /// values to `sum`. Outside the cube the border values are repeated.
    fn add_to(&self, sum: &mut [f32], map: &CropMap) {
        let r = self.resolution;
        let side = CROP as f32 / r as f32;
        let last = (r - 1) as f32;
        let split = |at: f32| {
            let at = at.clamp(0.0, last);
            let below = (at as usize).min(r.saturating_sub(2));
            (below, at - below as f32)
        };
        let (right, below) = (usize::from(r > 1), if r > 1 { r } else { 0 });
        // For each voxel of a slice: where its centre lies in a slice of this volume.
        let centre = |index: usize| (index as f32 + 0.5) * side - 0.5;
        let index = |pixel: f32| (pixel + 0.5) / side - 0.5;
        let taps: Vec<(usize, f32, f32)> = (0..r * r)
            .map(|i| {
                let [x, y] =
                    self.map.crop_from_frame(map.frame_from_crop([centre(i % r), centre(i / r)]));
                let ((column, across), (row, down)) = (split(index(x)), split(index(y)));
                (row * r + column, across, down)
            })
            .collect();
        let deeper = map.scale / self.map.scale;
        let mut between = vec![0.0; r * r];
        for (k, sums) in sum.chunks_exact_mut(r * r).enumerate() {
            let middle = r as f32 / 2.0;
            let (slice, share) = split((k as f32 + 0.5 - middle) * deeper + middle - 0.5);
            let (front, back) = self.values[slice * r * r..].split_at(r * r);
            for (i, value) in between.iter_mut().enumerate() {
                let (a, b) = (f32::from(front[i]), f32::from(*back.get(i).unwrap_or(&front[i])));
                *value = a + share * (b - a);
            }
            for (sum, &(at, across, down)) in sums.iter_mut().zip(&taps) {
                let (above, under) = (&between[at..], &between[at + below..]);
                let a = above[0] + across * (above[right] - above[0]);
                let b = under[0] + across * (under[right] - under[0]);
                *sum += a + down * (b - a);
            }
        }
    }

    /// Side of a voxel in pixels of the frame.
    #[must_use]
    pub fn step(&self) -> f32 {
        self.map.scale * CROP as f32 / self.resolution as f32
    }

    /// Place of a voxel: x, y in pixels of the frame, z in pixels toward the camera. Indices
    /// [slice, row, column] need not be whole.
    #[must_use]
    pub fn place(&self, [slice, row, column]: [f32; 3]) -> [f32; 3] {
        let side = CROP as f32 / self.resolution as f32;
        let across = |index: f32| (index + 0.5) * side - 0.5;
        let [x, y] = self.map.frame_from_crop([across(column), across(row)]);
        [x, y, self.map.scale * (CROP as f32 / 2.0 - (slice + 0.5) * side)]
    }

    /// [`place`](Self::place) as a matrix: [x, y, z] = matrix · [slice, row, column, 1].
    #[must_use]
    pub fn affine(&self) -> [[f32; 4]; 3] {
        let origin = self.place([0.0; 3]);
        let steps = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|one| self.place(one));
        std::array::from_fn(|axis| {
            let along = |step: [f32; 3]| step[axis] - origin[axis];
            [along(steps[0]), along(steps[1]), along(steps[2]), origin[axis]]
        })
    }

    /// The values as a NumPy file, format 1.0: u8, shape (r, r, r), C order. See
    /// <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
    #[must_use]
    pub fn to_npy(&self) -> Vec<u8> {
        let r = self.resolution;
        let text =
            format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({r}, {r}, {r}), }}");
        // Magic, version, length and header text together fill whole blocks of 64 bytes. The header
        // text ends with a line feed.
        let before = 10;
        let length = (before + text.len() + 1).next_multiple_of(64) - before;
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((length as u16).to_le_bytes());
        file.extend(format!("{text:<width$}\n", width = length - 1).bytes());
        file.extend(&self.values);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: CropMap =
        CropMap { centre: [400.0, 300.0], scale: 2.0, angle: 0.3, mirrored: false };

    /// A ball with a soft edge of 8 frame pixels about a point of the frame, at 64, in some crop.
    fn ball(map: CropMap) -> Volume {
        let empty = Volume { resolution: 64, values: vec![], map };
        let value = |i: usize| {
            let at = empty.place([i / 4096, i / 64 % 64, i % 64].map(|v| v as f32));
            let off = [at[0] - 430.0, at[1] - 280.0, at[2] - 20.0];
            let distance = off.iter().map(|v| v * v).sum::<f32>().sqrt();
            (127.5 + 127.5 * ((120.0 - distance) / 8.0).clamp(-1.0, 1.0)).round() as u8
        };
        Volume { values: (0..64usize.pow(3)).map(value).collect(), ..empty }
    }

    #[test]
    fn views_of_one_solid_agree_in_the_crop_of_the_first() {
        let first = ball(MAP);
        // The mirror's voxels lie on those of the crop.
        let twice = Volume::mean(vec![first.clone(), ball(MAP.mirror())]).expect("a mean");
        assert_eq!((twice.values(), twice.map()), (first.values(), &MAP));
        // Those of a crop that was moved, enlarged and turned lie between.
        for map in
            [MAP.nudged([0.03, -0.02], 1.04, 0.06), MAP.nudged([0.0, 0.03], 0.96, -0.06).mirror()]
        {
            let mut seen = vec![0.0; first.values.len()];
            ball(map).add_to(&mut seen, &MAP);
            let off = seen.iter().zip(first.values()).map(|(a, b)| (a - f32::from(*b)).abs());
            assert!(off.clone().fold(0.0, f32::max) < 40.0, "{}", off.fold(0.0, f32::max));
            let filled = |value: f32| value >= 127.5;
            let wrong = seen.iter().zip(first.filled()).filter(|(a, b)| filled(**a) != *b).count();
            assert!(wrong < first.filled().filter(|f| *f).count() / 500, "{wrong}");
        }
        let empty = Volume::new(vec![0; 64 * 64 * 64], MAP).expect("a cube");
        let half = Volume::mean(vec![first.clone(), empty]).expect("a mean");
        assert!(half.values().iter().zip(first.values()).all(|(h, f)| h.abs_diff(f / 2) <= 1));
    }

    #[test]
    fn only_volumes_of_one_resolution_have_a_mean() {
        let cube = |r: usize| Volume::new(vec![9; r.pow(3)], MAP).expect("a cube");
        assert!(Volume::mean(vec![]).is_none());
        assert!(Volume::mean(vec![cube(4), cube(5)]).is_none());
        let one = Volume::mean(vec![cube(1), cube(1)]).expect("a mean");
        assert_eq!(one.values(), [9]);
    }

    #[test]
    fn only_cubes_are_volumes() {
        assert_eq!(Volume::new(vec![0; 64 * 64 * 64], MAP).map(|v| v.resolution()), Some(64));
        for count in [0, 2, 7, 9, 63 * 64 * 64] {
            assert!(Volume::new(vec![0; count], MAP).is_none(), "{count}");
        }
    }

    #[test]
    fn voxels_lie_where_they_were_trained() {
        // The first voxel of a volume as fine as the crop is the crop's first pixel, in front.
        let fine = Volume { resolution: 256, values: vec![], map: MAP };
        let corner = fine.place([0.0; 3]);
        assert_eq!([corner[0], corner[1]], MAP.frame_from_crop([0.0; 2]));
        assert_eq!(corner[2], 2.0 * 127.5);
        // The middle of every volume is the middle of the crop at depth 0.
        for resolution in [64, 128, 192] {
            let volume = Volume { resolution, values: vec![], map: MAP };
            let middle = volume.place([(resolution as f32 - 1.0) / 2.0; 3]);
            for (found, expected) in middle.iter().zip([400.0, 300.0, 0.0]) {
                assert!((found - expected).abs() < 1e-3, "{middle:?}");
            }
            let affine = volume.affine();
            let place = volume.place([3.0, 5.0, 7.0]);
            for (row, expected) in affine.iter().zip(place) {
                let found = 3.0 * row[0] + 5.0 * row[1] + 7.0 * row[2] + row[3];
                assert!((found - expected).abs() < 1e-3, "{found} {expected}");
            }
            assert!((volume.step() - 512.0 / resolution as f32).abs() < 1e-6);
        }
    }

    #[test]
    fn the_header_is_numpys() {
        let values: Vec<u8> = (0..27).collect();
        let file = Volume::new(values.clone(), MAP).expect("a cube").to_npy();
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([file[8], file[9]]));
        assert_eq!((10 + length) % 64, 0);
        let text = std::str::from_utf8(&file[10..10 + length]).expect("ASCII");
        assert!(text.starts_with("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 3, 3), }"));
        assert!(text.ends_with('\n'));
        assert_eq!(&file[10 + length..], values);
    }
}

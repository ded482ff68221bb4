//! The volume of a face: which part of the space about it is filled, slice by slice in depth.

mod icp;
mod solid;
mod surface;

pub use icp::{Aligner, Distance};
pub use solid::Solid;
pub use surface::surface;

use crate::crop::{CROP, CropMap};

/// Occupancy of r×r×r voxels about a face, and where they lie.
///
/// Voxel (slice k, row j, column i) is centred at the crop pixel `((i + ½) 256/r − ½, (j + ½) 256/r − ½)`
/// and at the depth `128 − (k + ½) 256/r` in crop pixels, toward the camera: the first slice is the
/// nearest. Depth 0 is the middle of the face's volume, where `t_z` puts it too.
#[derive(Debug, Clone)]
pub struct Volume {
    resolution: usize,
    values: Vec<u8>,
    map: CropMap,
}

impl Volume {
    /// A volume seen in the crop of `map`: r·r·r values, 255 times the probability that a voxel is
    /// filled. `None` where the count is that of no cube.
    #[must_use]
    pub fn new(values: Vec<u8>, map: CropMap) -> Option<Self> {
        let resolution = (1..=1024).find(|r: &usize| r.pow(3) >= values.len())?;
        (resolution.pow(3) == values.len()).then_some(Self { resolution, values, map })
    }

    /// Voxels along each side.
    #[must_use]
    pub fn resolution(&self) -> usize {
        self.resolution
    }

    /// The crop that it was seen in.
    #[must_use]
    pub fn map(&self) -> &CropMap {
        &self.map
    }

    /// 255 times the probability that a voxel is filled; slices, in them rows, in them columns.
    #[must_use]
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Which voxels are filled: more likely so than not.
    pub fn filled(&self) -> impl Iterator<Item = bool> + '_ {
        self.values.iter().map(|value| *value >= 128)
    }

    /// The same solid, as it is seen in the mirrored crop.
    #[must_use]
    pub fn mirror(mut self) -> Self {
        self.values.chunks_exact_mut(self.resolution.max(1)).for_each(<[u8]>::reverse);
        Self { map: self.map.mirror(), ..self }
    }

    /// Takes the mean with another volume of the same crop and resolution; of others, nothing.
    pub fn blend(&mut self, other: &Self) {
        if (other.resolution, other.map) == (self.resolution, self.map) {
            for (value, theirs) in self.values.iter_mut().zip(&other.values) {
                *value = value.midpoint(*theirs);
            }
        }
    }

    /// Side of a voxel in frame pixels.
    #[must_use]
    pub fn step(&self) -> f32 {
        self.map.scale * CROP as f32 / self.resolution as f32
    }

    /// Where a voxel lies, which may be between voxels: [slice, row, column] → x, y in frame pixels,
    /// z in pixels toward the camera.
    #[must_use]
    pub fn place(&self, [slice, row, column]: [f32; 3]) -> [f32; 3] {
        let side = CROP as f32 / self.resolution as f32;
        let across = |index: f32| (index + 0.5) * side - 0.5;
        let [x, y] = self.map.to_frame([across(column), across(row)]);
        [x, y, self.map.scale * (CROP as f32 / 2.0 - (slice + 0.5) * side)]
    }

    /// [`place`](Self::place) as a matrix: [x, y, z] = rows · [slice, row, column, 1].
    #[must_use]
    pub fn affine(&self) -> [[f32; 4]; 3] {
        let origin = self.place([0.0; 3]);
        let steps = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|one| self.place(one));
        std::array::from_fn(|axis| {
            let along = |step: [f32; 3]| step[axis] - origin[axis];
            [along(steps[0]), along(steps[1]), along(steps[2]), origin[axis]]
        })
    }

    /// The values as a file of NumPy's format 1.0: u8, shape (r, r, r), C order.
    ///
    /// <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
    #[must_use]
    pub fn to_npy(&self) -> Vec<u8> {
        let r = self.resolution;
        let text =
            format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({r}, {r}, {r}), }}");
        // Magic, version, length and text fill whole blocks of 64 bytes; the text ends a line.
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

    #[test]
    fn a_mirror_shows_the_same_solid() {
        let values = (0..64).map(|i| i * 3).collect();
        let volume = Volume::new(values, MAP).expect("a cube");
        let mirrored = volume.clone().mirror();
        // The voxel at one end of a row is found at the other, and lies where it was.
        assert_eq!((volume.values()[5], mirrored.values()[6]), (15, 15));
        let (here, there) = (volume.place([0.0, 1.0, 1.0]), mirrored.place([0.0, 1.0, 2.0]));
        assert!((0..3).all(|k| (here[k] - there[k]).abs() < 1e-3), "{here:?} {there:?}");
        let mut both = mirrored.mirror();
        both.blend(&volume);
        assert_eq!(both.values(), volume.values());
        both.blend(&Volume::new(vec![0; 64], MAP).expect("a cube"));
        assert_eq!(both.values()[5], 7);
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
        assert_eq!([corner[0], corner[1]], MAP.to_frame([0.0; 2]));
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

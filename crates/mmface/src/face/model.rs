//! The 3D morphable face model: mean shape, modes, triangles and landmarks.

mod reader;

use std::path::Path;

use reader::Reader;

use super::eyes::EyeModel;
use super::{Eye, Params, rotation};
use crate::crop::rotated;
use crate::error::{Error, Result};

/// Number of labelled points of a face (Multi-PIE's scheme, as used by i·bug and 300-W).
pub const LANDMARKS: usize = 68;

/// For each landmark, the index of its counterpart in the mirrored face.
#[rustfmt::skip]
const MIRROR: [usize; LANDMARKS] = [
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
];

/// A 3D morphable face model: vertices are a mean shape plus a weighted sum of modes. Lengths are
/// in model units (centimetres for the model that ships). Axes: x to the subject's left, y up, z
/// out of the face.
pub struct FaceModel {
    /// Name of the model.
    pub name: String,
    /// Number of identity modes.
    pub identities: usize,
    /// Names of the expression modes; ARKit's names where ARKit has them.
    pub expressions: Vec<String>,
    /// Vertex indices of the triangles, counter-clockwise as seen from outside.
    pub triangles: Vec<[u32; 3]>,
    /// For each triangle, an index into [`regions`](Self::regions).
    pub triangle_region: Vec<u8>,
    /// Names of the regions.
    pub regions: Vec<String>,
    pub(super) vertices: Basis,
    yaw_bins: Vec<f32>,
    landmarks: Vec<Basis>,
    pub(super) landmarks3d: Basis,
    /// `None` for a model without eyeballs.
    eyes: Option<EyeModel>,
    /// Centre of a face's volume, model space.
    volume_centre: [f32; 3],
    /// How mirroring acts on the modes: the sign of each identity mode, and the index of each
    /// expression's counterpart.
    mirror: (Vec<f32>, Vec<usize>),
}

/// Points that depend linearly on the weights. `mean`: 3·points values; `modes`: the identity
/// modes, then the expression modes, 3·points values each.
pub(super) struct Basis {
    pub(super) mean: Vec<f32>,
    pub(super) modes: Vec<f32>,
}

impl Basis {
    /// mean + Σ weight · mode: 3·points values.
    pub(super) fn shape<'a>(&self, weights: impl Iterator<Item = &'a f32>) -> Vec<f32> {
        let mut shape = self.mean.clone();
        for (mode, &weight) in self.modes.chunks_exact(self.mean.len()).zip(weights) {
            if weight != 0.0 {
                shape.iter_mut().zip(mode).for_each(|(s, m)| *s += weight * m);
            }
        }
        shape
    }

    /// The same for some of the points only.
    pub(super) fn picked(&self, which: &[usize]) -> Self {
        let pick = |flat: &[f32]| -> Vec<f32> {
            which.iter().flat_map(|at| flat[3 * at..3 * at + 3].iter().copied()).collect()
        };
        let modes = self.modes.chunks_exact(self.mean.len()).flat_map(pick).collect();
        Self { mean: pick(&self.mean), modes }
    }
}

pub(super) fn points(flat: &[f32]) -> Vec<[f32; 3]> {
    flat.as_chunks().0.to_vec()
}

impl FaceModel {
    /// Reads the model from the bytes of a safetensors file. `path` is used in messages only.
    ///
    /// # Errors
    /// [`Error::Models`] if a tensor is missing, has a wrong shape or type, or holds indices out of
    /// range.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        Reader::new(bytes)
            .and_then(|reader| reader.model())
            .map_err(|why| Error::Models(format!("the face model {} {why}", path.display())))
    }

    /// Number of vertices.
    #[must_use]
    pub fn vertex_count(&self) -> usize {
        self.vertices.mean.len() / 3
    }

    /// The mesh's vertices in model space.
    #[must_use]
    pub fn shape(&self, params: &Params) -> Vec<[f32; 3]> {
        points(&self.vertices.shape(params.identity.iter().chain(&params.expression)))
    }

    /// The mesh's vertices: x, y in pixels, z in pixels toward the camera.
    #[must_use]
    pub fn vertices(&self, params: &Params) -> Vec<[f32; 3]> {
        params.project(&self.shape(params))
    }

    /// The 68 landmarks in pixels, as i·bug labels them: the contour follows the visible outline.
    /// Landmarks are tabulated for a number of yaw angles and interpolated linearly between
    /// neighbouring tables, then moved by [`Params::landmark_offsets`].
    #[must_use]
    pub fn landmarks(&self, params: &Params) -> Vec<[f32; 2]> {
        self.landmarks_cached(params, &mut LandmarkShapes::default())
    }

    /// As [`landmarks`](Self::landmarks). `shapes` caches what depends on identity and expression
    /// only, for other poses of the same face.
    pub(crate) fn landmarks_cached(
        &self,
        params: &Params,
        shapes: &mut LandmarkShapes,
    ) -> Vec<[f32; 2]> {
        // The yaw of the head after its in-plane rotation is undone; otherwise a part of the pitch
        // of a tilted head would count as yaw.
        let angle = rotation::upright_angle(&params.rotation);
        let upright = rotation::rotated_in_plane(&params.rotation, -angle);
        let turn = rotation::matrix(&upright)[(0, 2)].clamp(-1.0, 1.0).asin().to_degrees();
        let (bin, part) = between(&self.yaw_bins, turn);
        let mut shape = shapes.of_bin(self, params, bin).to_vec();
        if part > 0.0 {
            let next = shapes.of_bin(self, params, bin + 1);
            shape.iter_mut().zip(next).for_each(|(a, b)| *a += part * (b - *a));
        }
        let mut landmarks: Vec<_> =
            params.project(&points(&shape)).into_iter().map(|[x, y, _]| [x, y]).collect();
        for (landmark, offset) in landmarks.iter_mut().zip(&params.landmark_offsets) {
            let [x, y] = rotated(*offset, angle);
            *landmark = [landmark[0] + params.f * x, landmark[1] + params.f * y];
        }
        landmarks
    }

    /// Sets the parameters' [landmark offsets](Params::landmark_offsets): landmarks move from the
    /// mesh's places towards `seen`, the 68 points that the network sees directly (same pixels as
    /// `params`). They go the part `weight` of the way on a face that looks into the camera, and
    /// less on a turned face (times cos² of the angle), because hidden points cannot be seen.
    /// Reason: a mesh with few modes cannot reach every place where people see a landmark. The
    /// offsets are cleared if `seen` is empty or not finite.
    #[must_use]
    pub fn with_seen_landmarks(&self, params: Params, seen: &[[f32; 2]], weight: f32) -> Params {
        self.with_seen_landmarks_cached(params, seen, weight, &mut LandmarkShapes::default())
    }

    /// As [`with_seen_landmarks`](Self::with_seen_landmarks); `shapes` is a cache as for
    /// [`landmarks_cached`](Self::landmarks_cached).
    pub(crate) fn with_seen_landmarks_cached(
        &self,
        mut params: Params,
        seen: &[[f32; 2]],
        weight: f32,
        shapes: &mut LandmarkShapes,
    ) -> Params {
        params.landmark_offsets.clear();
        if seen.len() != LANDMARKS || !seen.iter().flatten().all(|v| v.is_finite()) {
            return params;
        }
        let weight = weight * rotation::facing(&params.rotation) / params.f;
        let angle = rotation::upright_angle(&params.rotation);
        let mesh = self.landmarks_cached(&params, shapes);
        let off = |([x, y], [u, v]): (&[f32; 2], &[f32; 2])| [weight * (x - u), weight * (y - v)];
        params.landmark_offsets =
            seen.iter().zip(&mesh).map(off).map(|offset| rotated(offset, -angle)).collect();
        params
    }

    /// Sets t_z. A camera without perspective does not determine depth, so t_z is a convention:
    /// `t_z = −f (R c)_z` with the centre *c* of the face's volume, which puts that centre at depth
    /// 0.
    #[must_use]
    pub fn centred(&self, mut params: Params) -> Params {
        params.t[2] = 0.0;
        params.t[2] = -params.project(&[self.volume_centre])[0][2];
        params
    }

    /// The parameters of the mirrored face: left and right change places in identity, expression
    /// and rotation. f and t are kept: they are a matter of the crop's position, see
    /// [`Params::into_frame`].
    #[must_use]
    pub fn mirrored(&self, params: Params) -> Params {
        let (signs, counterparts) = &self.mirror;
        let expression = |other: &usize| params.expression.get(*other).copied().unwrap_or(0.0);
        Params {
            rotation: rotation::mirrored(&params.rotation),
            identity: params.identity.iter().zip(signs).map(|(value, sign)| value * sign).collect(),
            expression: counterparts.iter().map(expression).collect(),
            landmark_offsets: if params.landmark_offsets.is_empty() {
                Vec::new()
            } else {
                MIRROR
                    .map(|other| {
                        [-params.landmark_offsets[other][0], params.landmark_offsets[other][1]]
                    })
                    .to_vec()
            },
            ..params
        }
    }

    /// The subject's right eye and left eye in model space, with eyeballs `size` times as large as
    /// the model's. `None` if the model has no eyeballs.
    #[must_use]
    pub fn eyes(&self, params: &Params, size: f32) -> Option<[Eye; 2]> {
        Some(self.eyes.as_ref()?.of(params, size))
    }

    /// The 68 landmarks as points fixed on the mesh, hidden ones included: x, y in pixels, z in
    /// pixels toward the camera.
    #[must_use]
    pub fn landmarks3d(&self, params: &Params) -> Vec<[f32; 3]> {
        let shape = self.landmarks3d.shape(params.identity.iter().chain(&params.expression));
        params.project(&points(&shape))
    }
}

/// A cache of a face's landmark tables in model space. They do not depend on the pose, and
/// evaluating them is most of the work of [`FaceModel::landmarks`].
#[derive(Default)]
pub(crate) struct LandmarkShapes {
    identity: Vec<f32>,
    expression: Vec<f32>,
    /// Index of a yaw bin, and its table: 68 × [x, y, z].
    bins: Vec<(usize, Vec<f32>)>,
}

impl LandmarkShapes {
    fn of_bin(&mut self, model: &FaceModel, params: &Params, bin: usize) -> &[f32] {
        if self.identity != params.identity || self.expression != params.expression {
            self.identity.clone_from(&params.identity);
            self.expression.clone_from(&params.expression);
            self.bins.clear();
        }
        let known = self.bins.iter().position(|(known, _)| *known == bin);
        let at = known.unwrap_or_else(|| {
            let weights = params.identity.iter().chain(&params.expression);
            self.bins.push((bin, model.landmarks[bin].shape(weights)));
            self.bins.len() - 1
        });
        &self.bins[at].1
    }
}

/// Position of `value` in ascending `bins`: the index of the bin below it, and the fraction of the
/// way to the next bin. Clamped at both ends.
fn between(bins: &[f32], value: f32) -> (usize, f32) {
    let after = bins.partition_point(|b| *b <= value);
    if after == 0 || after == bins.len() {
        return (after.saturating_sub(1), 0.0);
    }
    (after - 1, (value - bins[after - 1]) / (bins[after] - bins[after - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MODEL;

    /// How far the contour of the visible outline lies from that of AFLW2000-3D's `pt3d_68`, on a
    /// face that looks into the camera: x, y, z of points 0 to 8 in % of √(box area), the mean of
    /// eight labelled faces.
    const CONTOUR: [[f32; 9]; 3] = [
        [0.7, 0.1, -0.9, -1.3, -1.1, -0.5, 1.7, 2.7, 0.0],
        [4.2, 4.8, 4.4, 2.7, 2.3, 1.2, -1.3, -2.6, -1.4],
        [14.5, 16.7, 18.7, 20.1, 17.3, 12.5, 6.7, 4.0, 3.2],
    ];

    #[test]
    fn the_contour_in_3d_lies_where_aflw2000_has_it() {
        let frontal = MODEL.yaw_bins.iter().position(|yaw| *yaw == 0.0).expect("a frontal bin");
        let outline = points(&MODEL.landmarks[frontal].shape([].iter()));
        let fixed = points(&MODEL.landmarks3d.shape([].iter()));
        let extent = |axis: usize| {
            let values = outline.iter().map(|p| p[axis]);
            values.clone().fold(f32::MIN, f32::max) - values.fold(f32::MAX, f32::min)
        };
        let percent = 100.0 / (extent(0) * extent(1)).sqrt();
        for (point, (seen, fixed)) in outline.iter().zip(&fixed).enumerate() {
            for axis in 0..3 {
                let expected = match point {
                    0..=8 => CONTOUR[axis][point],
                    // The other side is the mirror image.
                    9..=16 if axis == 0 => -CONTOUR[axis][16 - point],
                    9..=16 => CONTOUR[axis][16 - point],
                    _ => 0.0,
                };
                let moved = (seen[axis] - fixed[axis]) * percent;
                assert!((moved - expected).abs() < 0.05, "point {point}: {moved}, not {expected}");
            }
        }
    }

    #[test]
    fn a_value_between_bins_is_interpolated() {
        let bins = [-60.0, 0.0, 60.0];
        assert_eq!(between(&bins, -90.0), (0, 0.0));
        assert_eq!(between(&bins, -30.0), (0, 0.5));
        assert_eq!(between(&bins, 15.0), (1, 0.25));
        assert_eq!(between(&bins, 60.0), (2, 0.0));
        assert_eq!(between(&bins, 80.0), (2, 0.0));
    }

    #[test]
    fn landmarks_of_a_tilted_head_are_the_tilted_landmarks() {
        let model = &*MODEL;
        let (identity, expression) =
            (vec![0.0; model.identities], vec![0.0; model.expressions.len()]);
        let pose = [8.0, 25.0, 20.0, 0.0, 127.5, 127.5, 0.0];
        let params = Params::from_outputs(pose, &identity, &expression).expect("finite");
        let map = crate::crop::CropMap::square([127.5; 2], 256.0, 0.8);
        let upright = model.landmarks(&params);
        let tilted = model.landmarks(&params.into_frame(&map));
        for (a, b) in upright.iter().zip(&tilted) {
            let [x, y] = map.frame_from_crop(*a);
            assert!((x - b[0]).abs() < 0.01 && (y - b[1]).abs() < 0.01, "{:?} {b:?}", [x, y]);
        }
    }

    #[test]
    fn depth_puts_the_middle_of_the_volume_at_0() {
        let model = &*MODEL;
        let pose = [9.0, 20.0, -50.0, 10.0, 120.0, 130.0, 77.0];
        let seen = Params::from_outputs(pose, &[], &[]).expect("finite");
        let centred = model.centred(seen.clone());
        // The shipped model's middle is 3 cm in front of its origin.
        let [x, y, z] = centred.project(&[[0.0, 0.0, 3.0]])[0];
        assert!(z.abs() < 1e-4, "{z}");
        let [u, v, _] = seen.project(&[[0.0, 0.0, 3.0]])[0];
        assert_eq!(([x, y], centred.f), ([u, v], seen.f));
    }

    #[test]
    fn a_mirror_shows_the_face_mirrored() {
        let model = &*MODEL;
        let identity: Vec<_> = (0..model.identities).map(|i| (i as f32).sin()).collect();
        let expression: Vec<_> =
            (0..model.expressions.len()).map(|i| 0.5 + 0.5 * (i as f32).cos()).collect();
        // Seen in a mirrored crop, the parameters of the mirror image come out …
        let map = crate::crop::CropMap::square([200.0, 150.0], 300.0, 0.3).mirror();
        let pose = [8.0, 8.0, 25.0, 10.0, 120.0, 130.0, 3.0];
        let seen = Params::from_outputs(pose, &identity, &expression).expect("finite");
        // … and put where they belong they are the face itself.
        let found = model.landmarks(&model.mirrored(seen.clone()).into_frame(&map));
        // i·bug's order, from right to left, starts at the other end in a mirror: the nose's ridge stays.
        for (i, j) in (27..31).zip(27..31).chain([(36, 45), (39, 42), (48, 54), (8, 8), (0, 16)]) {
            let [x, y] = map.frame_from_crop(model.landmarks(&seen)[i]);
            let [u, v] = found[j];
            assert!((x - u).abs() < 0.3 && (y - v).abs() < 0.3, "{i}: {:?} {:?}", [x, y], [u, v]);
        }
        let back = model.mirrored(model.mirrored(seen.clone()));
        assert_eq!((back.identity, back.expression), (seen.identity, seen.expression));
    }

    #[test]
    fn landmarks_go_towards_what_is_seen_beside_them() {
        let model = &*MODEL;
        let params = |yaw| Params::from_outputs([8.0, 5.0, yaw, 12.0, 120.0, 130.0, 0.0], &[], &[]);
        let (ahead, profile) = (params(10.0).expect("finite"), params(80.0).expect("finite"));
        let seen = |params: &Params| -> Vec<[f32; 2]> {
            let mesh = model.landmarks(params);
            mesh.iter().zip(0..).map(|([x, y], i)| [x + 4.0, y - (i % 5) as f32]).collect()
        };
        let part = |params: &Params| {
            let with = model.with_seen_landmarks(params.clone(), &seen(params), 0.5);
            let (before, after) = (model.landmarks(params)[4], model.landmarks(&with)[4]);
            assert!(((after[1] - before[1]) + (after[0] - before[0])).abs() < 1e-3, "towards it");
            (after[0] - before[0]) / 4.0
        };
        // cos² 5° cos² 10°.
        assert!((part(&ahead) - 0.5 * 0.962).abs() < 1e-3, "{}", part(&ahead));
        assert!(part(&profile) < 0.02, "{}", part(&profile));

        // What lies beside a face goes where the face goes, also out of a mirrored crop.
        let here = model.with_seen_landmarks(ahead.clone(), &seen(&ahead), 0.5);
        let map = crate::crop::CropMap::square([200.0, 150.0], 300.0, 0.7);
        for (a, b) in
            model.landmarks(&here).iter().zip(model.landmarks(&here.clone().into_frame(&map)))
        {
            let [x, y] = map.frame_from_crop(*a);
            assert!((x - b[0]).abs() < 0.01 && (y - b[1]).abs() < 0.01, "{:?} {b:?}", [x, y]);
        }
        let there = model.landmarks(&model.mirrored(here.clone()).into_frame(&map.mirror()));
        let bare = Params { landmark_offsets: vec![], ..here.clone() };
        let bare_there = model.landmarks(&model.mirrored(bare.clone()).into_frame(&map.mirror()));
        for (i, other) in MIRROR.into_iter().enumerate() {
            let moved = |to: &[[f32; 2]], from: &[[f32; 2]], i: usize| {
                [0, 1].map(|k| to[i][k] - from[i][k])
            };
            let [x, y] = moved(&model.landmarks(&here), &model.landmarks(&bare), other);
            let (a, b) =
                (map.mirror().frame_from_crop([x, y]), map.mirror().frame_from_crop([0.0; 2]));
            let found = moved(&there, &bare_there, i);
            assert!((found[0] - a[0] + b[0]).abs() < 0.01 && (found[1] - a[1] + b[1]).abs() < 0.01);
        }

        let nonsense = vec![[f32::NAN; 2]; LANDMARKS];
        assert!(
            model.with_seen_landmarks(here.clone(), &nonsense, 0.5).landmark_offsets.is_empty()
        );
        assert_eq!(model.with_seen_landmarks(here, &[], 0.5), ahead);
    }

    #[test]
    fn garbage_is_refused_with_a_sentence() {
        let error = FaceModel::from_bytes(b"not a model", Path::new("x.safetensors"));
        let message = error.err().expect("refused").to_string();
        assert!(message.starts_with("the face model x.safetensors is not a safetensors file"));
    }
}

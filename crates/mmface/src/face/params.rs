//! **p** = [f, r, t, α_id, α_exp]: the parameters of one face (MMFace, Yi et al., CVPR 2019).

use nalgebra::{Quaternion, UnitQuaternion};

use super::rotation;
use crate::crop::CropMap;

/// The parameters of one face under weak perspective:
/// `pixel = f · P · R · (S̄ + A_id α_id + A_exp α_exp) + t`, where P drops z and turns y downwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Scale f: pixels per model unit.
    pub f: f32,
    /// Rotation R from model space to camera space (x right, y up, z toward the camera).
    pub rotation: UnitQuaternion<f32>,
    /// Translation t: x, y are the pixel of the model's origin; z shifts depths (pixels toward the
    /// camera) so that the centre of the face's volume has depth 0.
    pub t: [f32; 3],
    /// Identity weights α_id, in standard deviations.
    pub identity: Vec<f32>,
    /// Expression weights α_exp, 0…1.
    pub expression: Vec<f32>,
    /// Offsets of the 68 landmarks from their places on the mesh, towards where the network sees
    /// them: [right, down] in model units, in the image rotated so that the head is upright. Empty
    /// if unknown.
    pub landmark_offsets: Vec<[f32; 2]>,
}

impl Params {
    /// The mean face, looking into the camera: f is 1, everything else 0. `identity` and
    /// `expression` are empty; missing coefficients count as 0.
    #[must_use]
    pub fn neutral() -> Self {
        Self {
            f: 1.0,
            rotation: UnitQuaternion::identity(),
            t: [0.0; 3],
            identity: Vec::new(),
            expression: Vec::new(),
            landmark_offsets: Vec::new(),
        }
    }

    /// Parameters from the parametric network's outputs. `pose` is [f, pitch, yaw, roll, t_x, t_y,
    /// t_z] in crop pixels and degrees. `None` if a number is not finite or f is not positive.
    #[must_use]
    pub fn from_outputs(pose: [f32; 7], identity: &[f32], expression: &[f32]) -> Option<Self> {
        let numbers = pose.iter().chain(identity).chain(expression);
        if pose[0] <= 0.0 || !numbers.clone().all(|v| v.is_finite()) {
            return None;
        }
        Some(Self {
            f: pose[0],
            rotation: rotation::from_angles([pose[1], pose[2], pose[3]]),
            t: [pose[4], pose[5], pose[6]],
            identity: identity.to_vec(),
            expression: expression.to_vec(),
            landmark_offsets: Vec::new(),
        })
    }

    /// Converts parameters from a crop to the frame from which it was cut. For a mirrored crop,
    /// call [`mirrored`](super::FaceModel::mirrored) first.
    #[must_use]
    pub fn into_frame(mut self, map: &CropMap) -> Self {
        let [x, y] = map.frame_from_crop([self.t[0], self.t[1]]);
        self.t = [x, y, self.t[2] * map.scale];
        self.f *= map.scale;
        self.rotation = rotation::rotated_in_plane(&self.rotation, map.angle);
        self
    }

    /// The mean of several fits of one face in one frame: the geometric mean of scales, and the
    /// normalised sum of quaternions (a good approximation for rotations close to each other).
    /// `None` if there are no fits.
    #[must_use]
    pub fn mean(fits: &[Self]) -> Option<Self> {
        let (first, count) = (fits.first()?, fits.len() as f32);
        let average = |of: &dyn Fn(&Self) -> f32| fits.iter().map(of).sum::<f32>() / count;
        let sum = fits.iter().fold(Quaternion::default(), |sum, fit| {
            let q = fit.rotation.into_inner();
            // A quaternion and its negative are the same rotation.
            if q.dot(first.rotation.quaternion()) < 0.0 { sum - q } else { sum + q }
        });
        let each = |list: &dyn Fn(&Self) -> &[f32]| -> Vec<f32> {
            (0..list(first).len()).map(|i| average(&|fit| list(fit)[i])).collect()
        };
        let known = fits.iter().map(|fit| fit.landmark_offsets.len()).min().unwrap_or_default();
        Some(Self {
            f: average(&|fit| fit.f.ln()).exp(),
            rotation: UnitQuaternion::from_quaternion(sum),
            t: [0, 1, 2].map(|k| average(&|fit| fit.t[k])),
            identity: each(&|fit| &fit.identity),
            expression: each(&|fit| &fit.expression),
            landmark_offsets: (0..known)
                .map(|i| [0, 1].map(|k| average(&|fit| fit.landmark_offsets[i][k])))
                .collect(),
        })
    }

    /// Projects points of model space: x, y in pixels, z in pixels toward the camera.
    #[must_use]
    pub fn project(&self, points: &[[f32; 3]]) -> Vec<[f32; 3]> {
        let r = rotation::matrix(&self.rotation) * self.f;
        let [tx, ty, tz] = self.t;
        points
            .iter()
            .map(|&[x, y, z]| {
                [
                    r[(0, 0)] * x + r[(0, 1)] * y + r[(0, 2)] * z + tx,
                    ty - (r[(1, 0)] * x + r[(1, 1)] * y + r[(1, 2)] * z),
                    r[(2, 0)] * x + r[(2, 1)] * y + r[(2, 2)] * z + tz,
                ]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Projecting in the crop and mapping the pixel is the same as mapping the parameters.
        #[test]
        fn mapping_parameters_is_mapping_pixels(
            angles in prop::array::uniform3(-80f32..80.0), tx in 0f32..256.0, f in 2f32..20.0,
            angle in -3f32..3.0, scale in 0.1f32..10.0, point in prop::array::uniform3(-10f32..10.0),
        ) {
            let pose = [f, angles[0], angles[1], angles[2], tx, 120.0, 3.0];
            let params = Params::from_outputs(pose, &[], &[]).expect("finite");
            let map = CropMap { centre: [400.0, 300.0], scale, angle, mirrored: false };
            let there = params.project(&[point])[0];
            let there = map.frame_from_crop([there[0], there[1]]);
            let here = params.into_frame(&map).project(&[point])[0];
            let tolerance = 1e-3 * scale * 256.0;
            prop_assert!((there[0] - here[0]).abs() < tolerance && (there[1] - here[1]).abs() < tolerance);
        }
    }

    #[test]
    fn the_mean_lies_between() {
        let fit = |f: f32, yaw: f32, x: f32| {
            Params::from_outputs([f, 0.0, yaw, 0.0, x, 5.0, 0.0], &[x], &[0.5]).expect("finite")
        };
        assert!(Params::mean(&[]).is_none());
        let mut other = fit(8.0, 30.0, 4.0);
        other.rotation = UnitQuaternion::new_unchecked(-other.rotation.into_inner());
        let mean = Params::mean(&[fit(2.0, 10.0, 2.0), other]).expect("two fits");
        assert!((mean.f - 4.0).abs() < 1e-4 && (mean.t[0] - 3.0).abs() < 1e-4);
        assert!((rotation::to_angles(&mean.rotation)[1] - 20.0).abs() < 0.01);
        assert_eq!((mean.identity, mean.expression), (vec![3.0], vec![0.5]));
    }

    #[test]
    fn nonsense_is_no_face() {
        assert!(Params::from_outputs([f32::NAN; 7], &[], &[]).is_none());
        assert!(Params::from_outputs([-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[], &[]).is_none());
        let pose = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(Params::from_outputs(pose, &[f32::INFINITY], &[]).is_none());
    }
}

//! Where a head is in the space of a camera whose focal length is known.
//!
//! Weak perspective has no place in space, and its rotation is that to the ray on which the head
//! lies: a face at the edge of a wide picture that looks straight ahead is seen from the side. So the
//! head is taken as seen by a camera of the same focal length that looks right at it, and then turned
//! with that camera. Near the edge of a picture the scale is larger by 1/cos θ across the ray's
//! direction and by 1/cos² θ along it (the derivative of the projection); the mean of both counts.

use nalgebra::{UnitQuaternion, Vector3};

use super::model::points;
use super::{FaceModel, Params};

/// No point of a head is nearer to the camera, centimetres.
const NEAREST: f32 = 1.0;

/// A camera without distortion, whose axis meets the middle of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Focal length in pixels.
    pub focal: f32,
    /// Where the axis meets the picture: [x, y] in pixels.
    pub middle: [f32; 2],
}

/// Pose of a head in camera space: x right, y up, z toward the camera; the camera is at the origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CameraPose {
    /// Rotation from model space to camera space.
    pub rotation: UnitQuaternion<f32>,
    /// Place of the model's origin in centimetres, for a head of average size. z is negative in
    /// front of the camera.
    pub translation: [f32; 3],
}

impl Camera {
    /// A camera with a focal length in pixels, for pictures of this size.
    #[must_use]
    pub fn of_focal(focal: f32, width: u32, height: u32) -> Self {
        let middle = [width, height].map(|side| (side.max(1) - 1) as f32 / 2.0);
        Self { focal: focal.max(1.0), middle }
    }

    /// A camera that sees so many degrees from the left to the right edge of a picture of this
    /// size.
    #[must_use]
    pub fn of_view(degrees: f32, width: u32, height: u32) -> Self {
        let half = (degrees / 2.0).to_radians().tan().max(1e-3);
        Self::of_focal(width as f32 / 2.0 / half, width, height)
    }

    /// The pixel at which a point in camera space (centimetres) is seen.
    #[must_use]
    pub fn project(&self, [x, y, z]: [f32; 3]) -> [f32; 2] {
        let depth = (-z).max(NEAREST);
        [self.middle[0] + self.focal * x / depth, self.middle[1] - self.focal * y / depth]
    }
}

impl FaceModel {
    /// Where a head is in the space of a camera, by its parameters under weak perspective.
    ///
    /// A picture does not tell a large head from a near one. So the distance is that of a head of
    /// average size; it is wrong by as much as this head is larger or smaller. Among adults, the
    /// standard deviation of the distance between the eyes is 6 % (Dodgson, Proc. SPIE 5291, 2004);
    /// children are smaller, and seem farther away.
    #[must_use]
    pub fn pose_in(&self, params: &Params, camera: &Camera) -> CameraPose {
        let (middle, size) = self.landmarks_middle(params);
        let seen = params.project(&[middle.into()])[0];
        let x = (seen[0] - camera.middle[0]) / camera.focal;
        let y = (camera.middle[1] - seen[1]) / camera.focal;
        let ray = Vector3::new(x, y, -1.0).normalize();
        let turn = UnitQuaternion::rotation_between(&-Vector3::z(), &ray).unwrap_or_default();
        let rotation = turn * params.rotation;
        let away = camera.focal / params.f / size * (-ray.z).powf(-1.5);
        CameraPose { rotation, translation: (ray * away - rotation * middle / size).into() }
    }

    /// The middle of a face's landmarks in model space, and how many times as large as the average
    /// face the face is. The expression changes neither, so that an open mouth does not move the
    /// head.
    fn landmarks_middle(&self, params: &Params) -> (Vector3<f32>, f32) {
        let of = |identity: &[f32]| {
            let flat = self.landmarks3d.shape(identity.iter());
            let points: Vec<_> = points(&flat).into_iter().map(Vector3::from).collect();
            let middle = points.iter().sum::<Vector3<f32>>() / points.len().max(1) as f32;
            let size = points.iter().map(|p| (p - middle).norm_squared()).sum::<f32>().sqrt();
            (middle, size.max(1e-6))
        };
        let ((middle, size), (_, average)) = (of(&params.identity), of(&[]));
        (middle, size / average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::rotation;
    use crate::testing::MODEL;

    /// What weak perspective makes of a head far away in a known place is where it was.
    #[test]
    fn far_heads_are_where_they_are() {
        let model = &*MODEL;
        let camera = Camera::of_view(30.0, 1280, 720);
        for (place, angles) in [
            ([0.0, 0.0, -300.0], [0.0, 0.0, 0.0]),
            ([60.0, -20.0, -400.0], [10.0, -30.0, 5.0]),
            ([-80.0, 40.0, -500.0], [-20.0, 40.0, -15.0]),
        ] {
            let truth = rotation::from_angles(angles);
            let origin = Vector3::from(place);
            let (middle, _) = model.landmarks_middle(&Params::neutral());
            let at = truth * middle + origin;
            let ray = at.normalize();
            // The fit: seen along the ray, at the size that the distance gives.
            let turn = UnitQuaternion::rotation_between(&-Vector3::z(), &ray).expect("not behind");
            let mut params = Params {
                f: camera.focal / at.norm() * (-ray.z).powf(-1.5),
                rotation: turn.inverse() * truth,
                ..Params::neutral()
            };
            let seen = params.project(&[middle.into()])[0];
            let there = camera.project(at.into());
            params.t = [there[0] - seen[0], there[1] - seen[1], 0.0];
            let pose = model.pose_in(&params, &camera);
            assert!(pose.rotation.angle_to(&truth).to_degrees() < 0.1, "{place:?}");
            let miss = (Vector3::from(pose.translation) - origin).norm();
            assert!(miss < 0.1, "{place:?}: {:?}", pose.translation);
        }
    }

    #[test]
    fn large_heads_are_not_near_ones() {
        let model = &*MODEL;
        let camera = Camera::of_focal(1000.0, 1280, 720);
        let mut params = Params { f: 20.0, t: [639.5, 359.5, 0.0], ..Params::neutral() };
        let away = |params: &Params| -model.pose_in(params, &camera).translation[2];
        // The origin lies behind the landmarks.
        assert!((50.0..62.0).contains(&away(&params)), "{}", away(&params));
        let before = away(&params);
        params.identity = vec![2.0; model.identities];
        let (_, size) = model.landmarks_middle(&params);
        params.f /= size;
        assert!((away(&params) / before - 1.0).abs() < 0.02, "the same picture, the same place");
    }
}

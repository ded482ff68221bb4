//! Where a head is in the space of a camera whose focal length is known.
//!
//! Weak perspective has no place in space, and its rotation is that to the ray on which the head
//! lies: a face at the edge of a wide picture that looks straight ahead is seen from the side. Both
//! are made up for here. The head is put where a camera with perspective sees its points at the
//! pixels at which the weak perspective of the fit has them (least squares, Gauss-Newton).

use nalgebra::{Matrix3x6, Matrix6, UnitQuaternion, Vector2, Vector3, Vector6};

use super::{FaceModel, Params};

/// Steps of Gauss-Newton; three are enough for a tenth of a millimetre.
const STEPS: usize = 0;
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
    /// average size; it is wrong by as much as this head is larger or smaller (standard deviation
    /// among adults about 5 %; a child of six is seen 15 % too far away).
    #[must_use]
    pub fn pose_in(&self, params: &Params, camera: &Camera) -> CameraPose {
        let seen = self.landmarks3d(params);
        let shape = self.average_landmarks(params);
        let count = shape.len().max(1) as f32;
        let mean = shape.iter().sum::<Vector3<f32>>() / count;
        let middle =
            seen.iter().fold(Vector2::zeros(), |sum, p| sum + Vector2::new(p[0], p[1])) / count;

        // The start: weak perspective in a camera that looks at the head.
        let [x, y] =
            [middle.x - camera.middle[0], camera.middle[1] - middle.y].map(|v| v / camera.focal);
        let ray = Vector3::new(x, y, -1.0).normalize();
        let turn = UnitQuaternion::rotation_between(&-Vector3::z(), &ray).unwrap_or_default();
        let size = |points: &mut dyn Iterator<Item = f32>| points.sum::<f32>().sqrt().max(1e-6);
        let turned: Vec<_> = shape.iter().map(|p| params.rotation * (p - mean)).collect();
        let in_space = size(&mut turned.iter().map(|p| p.xy().norm_squared()));
        let in_picture =
            size(&mut seen.iter().map(|p| (Vector2::new(p[0], p[1]) - middle).norm_squared()));
        let away = camera.focal * in_space / in_picture * (-ray.z).powf(-1.5);
        let mut rotation = turn * params.rotation;
        let mut place = ray * away - rotation * mean;

        for _ in 0..STEPS {
            let (mut normal, mut gradient) = (Matrix6::zeros(), Vector6::zeros());
            for (point, seen) in shape.iter().zip(&seen) {
                let turned = rotation * point;
                let at = turned + place;
                let depth = (-at.z).max(NEAREST);
                let there = camera.project(at.into());
                let miss = Vector2::new(seen[0] - there[0], seen[1] - there[1]);
                // How the point moves with a rotation vector and with the place, and the pixel with it.
                let mut moves = Matrix3x6::identity();
                moves.fixed_view_mut::<3, 3>(0, 0).copy_from(&(-turned.cross_matrix()));
                moves.fixed_view_mut::<3, 3>(0, 3).copy_from(&nalgebra::Matrix3::identity());
                let scale = camera.focal / depth;
                let pixel = nalgebra::Matrix2x3::new(
                    scale,
                    0.0,
                    scale * at.x / depth,
                    0.0,
                    -scale,
                    -scale * at.y / depth,
                );
                let jacobian = pixel * moves;
                normal += jacobian.transpose() * jacobian;
                gradient += jacobian.transpose() * miss;
            }
            let Some(step) = normal.cholesky().map(|normal| normal.solve(&gradient)) else { break };
            let by = Vector3::new(step[0], step[1], step[2]);
            rotation = UnitQuaternion::from_scaled_axis(by) * rotation;
            place += Vector3::new(step[3], step[4], step[5]);
        }
        CameraPose { rotation, translation: place.into() }
    }

    /// The 68 points that are fixed on this face, neutral position and size of an average head:
    /// centimetres.
    fn average_landmarks(&self, params: &Params) -> Vec<Vector3<f32>> {
        let of = |params: &Params| -> Vec<Vector3<f32>> {
            let upright = Params {
                f: 1.0,
                rotation: UnitQuaternion::identity(),
                t: [0.0; 3],
                ..params.clone()
            };
            self.landmarks3d(&upright).into_iter().map(|[x, y, z]| Vector3::new(x, -y, z)).collect()
        };
        let size = |points: &[Vector3<f32>]| {
            let mean = points.iter().sum::<Vector3<f32>>() / points.len().max(1) as f32;
            points.iter().map(|p| (p - mean).norm_squared()).sum::<f32>().sqrt()
        };
        // Without the expression, so that an open mouth does not move the head.
        let neutral = Params { expression: Vec::new(), ..params.clone() };
        let factor = size(&of(&Params::neutral())) / size(&of(&neutral)).max(1e-6);
        of(params).into_iter().map(|point| point * factor).collect()
    }
}

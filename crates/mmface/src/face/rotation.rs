//! Rotations: conversion from and to 300W-LP's angles, quaternions, in-plane rotation.
//!
//! The order is that of 300W-LP's `Pose_Para` (3DDFA's `angle2matrix`):
//! `R = Rx(pitch) · Ry(yaw) · Rz(roll)`, where each factor rotates by the *negative* angle in the
//! usual right-handed sense. R takes model space to camera space (x right, y up, z toward the
//! camera).

use nalgebra::{Matrix3, Quaternion, Rotation3, UnitQuaternion, Vector3};

/// The rotation from `[pitch, yaw, roll]` in degrees, in 300W-LP's convention.
#[must_use]
pub fn from_angles([pitch, yaw, roll]: [f32; 3]) -> UnitQuaternion<f32> {
    let about = |axis, degrees: f32| UnitQuaternion::from_axis_angle(&axis, -degrees.to_radians());
    about(Vector3::x_axis(), pitch) * about(Vector3::y_axis(), yaw) * about(Vector3::z_axis(), roll)
}

/// `[pitch, yaw, roll]` in degrees; the inverse of [`from_angles`]. Yaw is within ±90°. At ±90°
/// pitch and roll are not separable (gimbal lock), and roll is 0.
#[must_use]
pub fn to_angles(rotation: &UnitQuaternion<f32>) -> [f32; 3] {
    let r = rotation.to_rotation_matrix();
    let yaw = (-r[(0, 2)]).clamp(-1.0, 1.0).asin();
    let (pitch, roll) = if r[(0, 2)].abs() < 0.999_999 {
        (r[(1, 2)].atan2(r[(2, 2)]), r[(0, 1)].atan2(r[(0, 0)]))
    } else {
        ((-r[(2, 1)]).atan2(r[(1, 1)]), 0.0)
    };
    [pitch, yaw, roll].map(f32::to_degrees)
}

/// The quaternion `[w, x, y, z]`, with w ≥ 0.
#[must_use]
pub fn to_wxyz(rotation: &UnitQuaternion<f32>) -> [f32; 4] {
    let q = if rotation.w < 0.0 { -rotation.into_inner() } else { rotation.into_inner() };
    [q.w, q.i, q.j, q.k]
}

/// The in-plane angle of a head (radians, clockwise as seen): that of its upward axis in the image.
/// It is well defined for every pose except one that looks straight up or down. Pitch and roll are
/// not: near a yaw of 90° they are interchangeable.
#[must_use]
pub fn upright_angle(rotation: &UnitQuaternion<f32>) -> f32 {
    let up = rotation * Vector3::y();
    up.x.atan2(up.y)
}

/// cos² of the angle between the face's forward axis and the direction to the camera; 0 for a face
/// that looks away.
#[must_use]
pub fn facing(rotation: &UnitQuaternion<f32>) -> f32 {
    matrix(rotation)[(2, 2)].max(0.0).powi(2)
}

/// Rotates a pose in the image plane by `angle` radians, clockwise as seen: from a crop rotated by
/// that angle to the frame.
#[must_use]
pub fn rotated_in_plane(rotation: &UnitQuaternion<f32>, angle: f32) -> UnitQuaternion<f32> {
    UnitQuaternion::from_axis_angle(&Vector3::z_axis(), -angle) * rotation
}

/// The rotation of the mirrored head (x is negated in model space and in camera space).
#[must_use]
pub fn mirrored(rotation: &UnitQuaternion<f32>) -> UnitQuaternion<f32> {
    let q = rotation.into_inner();
    UnitQuaternion::new_unchecked(Quaternion::new(q.w, q.i, -q.j, -q.k))
}

/// The rotation as a matrix, which is faster for many points.
#[must_use]
pub fn matrix(rotation: &UnitQuaternion<f32>) -> Matrix3<f32> {
    Rotation3::from(*rotation).into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn angles_and_quaternions_are_inverse(p in -89f32..89.0, y in -89f32..89.0, r in -179f32..179.0) {
            let back = to_angles(&from_angles([p, y, r]));
            for (a, b) in back.iter().zip([p, y, r]) {
                prop_assert!((a - b).abs() < 0.05, "{back:?}");
            }
        }

        #[test]
        fn the_quaternion_has_positive_w_and_unit_length(p in -180f32..180.0, y in -90f32..90.0, r in -180f32..180.0) {
            let q = to_wxyz(&from_angles([p, y, r]));
            prop_assert!(q[0] >= 0.0);
            prop_assert!((q.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-4);
        }

        #[test]
        fn the_crop_of_a_tilted_head_is_upright(p in -60f32..60.0, y in -90f32..90.0, tilt in -3f32..3.0) {
            let upright = from_angles([p, y, 0.0]);
            prop_assert!(upright_angle(&upright).abs() < 1e-3);
            let difference = (upright_angle(&rotated_in_plane(&upright, tilt)) - tilt).sin().abs();
            prop_assert!(difference < 1e-3, "{difference}");
        }

        #[test]
        fn yaw_of_a_full_turn_is_ninety(p in -80f32..80.0, sign in prop::bool::ANY) {
            let yaw = if sign { 90.0 } else { -90.0 };
            let rotation = from_angles([p, yaw, 0.0]);
            let back = to_angles(&rotation);
            prop_assert!((back[1] - yaw).abs() < 0.2, "{back:?}");
            prop_assert!(rotation.angle_to(&from_angles(back)) < 0.01);
        }
    }

    #[test]
    fn the_matrix_is_that_of_300w_lp() {
        // `angle2matrix_3ddfa` written out for pitch 10°, yaw 20°, roll 30°.
        let (sx, cx) = 10f32.to_radians().sin_cos();
        let (sy, cy) = 20f32.to_radians().sin_cos();
        let (sz, cz) = 30f32.to_radians().sin_cos();
        let expected = Matrix3::new(1.0, 0.0, 0.0, 0.0, cx, sx, 0.0, -sx, cx)
            * Matrix3::new(cy, 0.0, -sy, 0.0, 1.0, 0.0, sy, 0.0, cy)
            * Matrix3::new(cz, sz, 0.0, -sz, cz, 0.0, 0.0, 0.0, 1.0);
        assert!((matrix(&from_angles([10.0, 20.0, 30.0])) - expected).norm() < 1e-5);
    }
}

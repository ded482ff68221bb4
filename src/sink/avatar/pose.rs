//! What a sender sends: coefficients and the head's pose, and the conversions that several
//! protocols share.

use std::time::SystemTime;

use mmface::face::{Params, rotation};
use mmface::gaze;
use nalgebra::UnitQuaternion;

use super::arkit::{self, Coefficients};

/// How sure it is that there is a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is seen, or was until a moment ago and its last pose is on the way to rest.
    Seen,
    /// There is none. The pose is that of rest.
    Gone,
}

/// A frame for an avatar. All of it is mirrored if the user wants a mirror.
#[derive(Debug, Clone)]
pub struct Pose {
    /// Whether there is a face.
    pub presence: Presence,
    /// Id of the face that was seen last; 0 before the first.
    pub id: u64,
    /// ARKit's coefficients.
    pub coefficients: Coefficients,
    /// From model space (x to the subject's left, y up, z out of the face) to camera space (x
    /// right, y up, z toward the camera).
    pub rotation: UnitQuaternion<f32>,
    /// Place of the head in centimetres: to the right in the picture and up, both from its middle;
    /// and the distance from the camera.
    pub position: [f32; 3],
    /// The face model's parameters of the same pose, once a face was seen.
    pub params: Option<Params>,
    /// Width and height of the frame in pixels.
    pub size: [f32; 2],
    /// Time in seconds of the stream.
    pub pts: f64,
    /// Wall clock time of the frame.
    pub time: SystemTime,
}

/// [yaw, pitch, roll] in degrees as they are applied to a head: it is turned to its own left by
/// yaw, then looks up by pitch, then tilts towards its own right shoulder by roll, each about the
/// axes that it then has.
#[must_use]
pub fn yaw_pitch_roll(turned: &UnitQuaternion<f32>) -> [f32; 3] {
    let r = rotation::matrix(turned);
    let pitch = r[(1, 2)].clamp(-1.0, 1.0).asin();
    // Straight up or down yaw and roll are the same motion: all of it is called yaw.
    let (yaw, roll) = if r[(1, 2)].abs() < 0.999_999 {
        (r[(0, 2)].atan2(r[(2, 2)]), r[(1, 0)].atan2(r[(1, 1)]))
    } else {
        ((-r[(2, 0)]).atan2(r[(0, 0)]), 0.0)
    };
    [yaw, pitch, roll].map(f32::to_degrees)
}

/// The rotation as Unity's quaternion [x, y, z, w] for an avatar that looks along +z: x to its
/// right, y up, left-handed.
#[must_use]
pub fn unity(turned: &UnitQuaternion<f32>) -> [f32; 4] {
    let [w, x, y, z] = rotation::to_wxyz(turned);
    [x, -y, -z, w]
}

/// Degrees that an eye turns at a coefficient of 1, sideways and up or down. Taken from packets of
/// iFacialMocap, which hold both.
const EYE_DEGREES: [f32; 2] = [40.0, 35.0];

/// ARKit's `eyeLook…` of those of the face model, whose eyes turn less at a coefficient of 1.
#[must_use]
pub(super) fn with_arkit_turns(mut coefficients: Coefficients) -> Coefficients {
    for (value, name) in coefficients.iter_mut().zip(arkit::NAMES) {
        let Some(degrees) = gaze::full_turn(name) else { continue };
        let sideways = name.contains("In") || name.contains("Out");
        *value *= degrees / EYE_DEGREES[usize::from(!sideways)];
    }
    coefficients
}

/// One side of the face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The subject's left.
    Left,
    /// The subject's right.
    Right,
}

/// Where an eye looks, from its `eyeLook…` coefficients: degrees to the subject's own left, and up.
#[must_use]
pub fn eye(coefficients: &Coefficients, side: Side) -> [f32; 2] {
    let (name, outwards) = match side {
        Side::Left => ("Left", 1.0),
        Side::Right => ("Right", -1.0),
    };
    let of = |what: &str| arkit::value(coefficients, &format!("eyeLook{what}{name}"));
    let [sideways, up] = EYE_DEGREES;
    [(of("Out") - of("In")) * outwards * sideways, (of("Up") - of("Down")) * up]
}

#[cfg(test)]
mod tests {
    use nalgebra::Vector3;
    use proptest::prelude::*;

    use super::*;

    /// A rotation about an axis of the usual right-handed sense, in degrees.
    fn about(axis: Vector3<f32>, degrees: f32) -> UnitQuaternion<f32> {
        UnitQuaternion::from_axis_angle(&nalgebra::Unit::new_normalize(axis), degrees.to_radians())
    }

    fn near<const N: usize>(a: [f32; N], b: [f32; N], most: f32) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < most)
    }

    #[test]
    fn signs_are_as_they_are_called() {
        // The nose goes to the subject's left, which is model space's +x and right in the picture.
        let left = about(Vector3::y(), 20.0);
        assert!((left * Vector3::z()).x > 0.0);
        assert!(near(yaw_pitch_roll(&left), [20.0, 0.0, 0.0], 1e-3));
        let up = about(Vector3::x(), -20.0);
        assert!((up * Vector3::z()).y > 0.0);
        assert!(near(yaw_pitch_roll(&up), [0.0, 20.0, 0.0], 1e-3));
        // The top of the head goes to the subject's right.
        let tilted = about(Vector3::z(), 20.0);
        assert!((tilted * Vector3::y()).x < 0.0);
        assert!(near(yaw_pitch_roll(&tilted), [0.0, 0.0, 20.0], 1e-3));
        // 300W-LP's yaw is negative for a face that turns to the right of the picture.
        assert!(yaw_pitch_roll(&rotation::from_angles([0.0, -20.0, 0.0]))[0] > 19.9);
    }

    proptest! {
        #[test]
        fn angles_give_the_rotation_back(y in -170f32..170.0, p in -85f32..85.0, r in -170f32..170.0) {
            let turned = about(Vector3::y(), y) * about(Vector3::x(), -p) * about(Vector3::z(), r);
            prop_assert!(near(yaw_pitch_roll(&turned), [y, p, r], 0.1), "{:?}", yaw_pitch_roll(&turned));
        }

        #[test]
        fn unity_turns_the_same_head(y in -170f32..170.0, p in -85f32..85.0, r in -170f32..170.0, v in prop::array::uniform3(-1f32..1.0)) {
            let turned = about(Vector3::y(), y) * about(Vector3::x(), -p) * about(Vector3::z(), r);
            // The formula for q v q⁻¹ is the same for every handedness, and Unity uses it.
            let [x, y, z, w] = unity(&turned);
            let there = UnitQuaternion::from_quaternion(nalgebra::Quaternion::new(w, x, y, z));
            // A place on the head, in Unity's axes: x to the right instead of to the left.
            let flip = |v: Vector3<f32>| Vector3::new(-v.x, v.y, v.z);
            let v = Vector3::from(v);
            prop_assert!((flip(there * flip(v)) - turned * v).norm() < 1e-4);
        }
    }

    #[test]
    fn straight_up_is_no_nonsense() {
        let up = about(Vector3::y(), 30.0) * about(Vector3::x(), -90.0);
        assert!(near(yaw_pitch_roll(&up), [30.0, 90.0, 0.0], 0.2), "{:?}", yaw_pitch_roll(&up));
    }

    #[test]
    fn eyes_look_where_their_coefficients_say() {
        let mut coefficients = [0.0; arkit::COUNT];
        coefficients[arkit::index("eyeLookOutRight").expect("a name")] = 0.5;
        coefficients[arkit::index("eyeLookInLeft").expect("a name")] = 0.5;
        coefficients[arkit::index("eyeLookDownLeft").expect("a name")] = 0.2;
        // Both to the subject's right.
        assert!(near(eye(&coefficients, Side::Right), [-20.0, 0.0], 1e-4));
        assert!(near(eye(&coefficients, Side::Left), [-20.0, -7.0], 1e-4));
    }
}

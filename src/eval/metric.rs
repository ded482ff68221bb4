//! Landmark and pose errors.
//!
//! Landmark errors are in % of the face's size, which is the square root of the area of the box
//! around its labelled points. The *raw* error is the plain distance. Annotators have systematic
//! habits of placing the 68 points, so for the *free* error each point's mean offset is subtracted
//! first. That mean is computed over the other half of the people, so that a face does not
//! contribute to its own correction.

use nalgebra::{Matrix2, Vector2};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use mmface::face::{LANDMARKS, rotation};

/// 68 points [x, y].
pub(super) type Points = [[f64; 2]; LANDMARKS];

/// Index of the first inner point: all points but the jaw.
const INNER: usize = 17;
/// Points of the eye on the left side of the image (of an upright face), and of the other eye.
const EYES: [std::ops::Range<usize>; 2] = [36..42, 42..48];

/// Mean distances over the points of a face, in % of its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Error {
    /// Over the 51 points from index 17 on.
    #[serde(serialize_with = "digits")]
    pub inner: f64,
    /// Over all 68 points.
    #[serde(serialize_with = "digits")]
    pub all: f64,
}

/// Serialises with four decimals.
pub(super) fn digits<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64((value * 1e4).round() / 1e4)
}

/// As [`digits`], or null.
pub(super) fn digits_if_any<S: Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => digits(value, s),
        None => s.serialize_none(),
    }
}

/// √(width × height) of the box around the points.
pub(super) fn size(points: &Points) -> f64 {
    let side = |k: usize| {
        let all = || points.iter().map(|p| p[k]);
        all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min)
    };
    (side(0) * side(1)).sqrt()
}

/// The vector from the centre of the left eye (in the image) to that of the right eye.
pub(super) fn eye_line(points: &Points) -> Vector2<f64> {
    let middle = |eye: &std::ops::Range<usize>| {
        let sum: Vector2<f64> = points[eye.clone()].iter().map(|p| Vector2::from(*p)).sum();
        sum / eye.len() as f64
    };
    middle(&EYES[1]) - middle(&EYES[0])
}

/// Offset of each found point from its labelled place, in coordinates in which the labelled eyes
/// are level, in % of the labelled size.
pub(super) fn offsets(found: &Points, label: &Points) -> Points {
    let along = eye_line(label).normalize();
    let upright = Matrix2::new(along.x, along.y, -along.y, along.x) * (100.0 / size(label));
    std::array::from_fn(|i| (upright * (Vector2::from(found[i]) - Vector2::from(label[i]))).into())
}

/// Mean distances of a face's points.
pub(super) fn distance(offsets: &Points) -> Error {
    let mean = |points: &[[f64; 2]]| {
        points.iter().map(|[x, y]| x.hypot(*y)).sum::<f64>() / points.len() as f64
    };
    Error { inner: mean(&offsets[INNER..]), all: mean(offsets) }
}

/// Assigns a person to one of two halves, by a hash of the name.
pub(super) fn second_half(person: &str) -> bool {
    Sha256::digest(person).first().is_some_and(|byte| byte % 2 == 1)
}

/// Subtracts from the offsets of each face the mean offsets of the other half of the people. Each
/// face comes with the half that its person belongs to. If the other half is empty, nothing is
/// subtracted.
pub(super) fn free(faces: &[(Points, bool)]) -> Vec<Points> {
    let habits = [false, true].map(|half| {
        let mut mean = [[0.0; 2]; LANDMARKS];
        let of_half = faces.iter().filter(|(_, other)| *other == half);
        let count = of_half.clone().count().max(1) as f64;
        for (offsets, _) in of_half {
            for (sum, offset) in mean.iter_mut().zip(offsets) {
                *sum = [sum[0] + offset[0] / count, sum[1] + offset[1] / count];
            }
        }
        mean
    });
    let without = |(offsets, half): &(Points, bool)| {
        let habit = &habits[usize::from(!half)];
        std::array::from_fn(|i| [offsets[i][0] - habit[i][0], offsets[i][1] - habit[i][1]])
    };
    faces.iter().map(without).collect()
}

/// Differences of two poses [pitch, yaw, roll] in degrees: the absolute difference of each angle,
/// and the angle of the rotation from one pose to the other.
pub(super) fn between(a: [f64; 3], b: [f64; 3]) -> [f64; 4] {
    let [pitch, yaw, roll] = [0, 1, 2].map(|k| {
        let turn = (a[k] - b[k]).rem_euclid(360.0);
        turn.min(360.0 - turn)
    });
    let [a, b] = [a, b].map(|pose| rotation::from_angles(pose.map(|angle| angle as f32)));
    [pitch, yaw, roll, f64::from(a.angle_to(&b).to_degrees())]
}

/// Least intersection over union of the boxes around found and labelled landmarks; below it a face
/// counts as missed.
pub(super) const MIN_OVERLAP: f32 = 0.3;

/// The box [x, y, width, height] around points.
pub(super) fn box_of(points: &Points) -> [f32; 4] {
    mmface::bounds::around(&points.map(|point| point.map(|v| v as f32)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A face of no particular beauty: level eyes, in a box of 40 × 90.
    pub(crate) fn face() -> Points {
        std::array::from_fn(|i| match i {
            36..42 => [10.0, 30.0],
            42..48 => [30.0, 30.0],
            0 => [0.0, 0.0],
            1 => [40.0, 90.0],
            _ => [20.0, 50.0 + i as f64 / 4.0],
        })
    }

    /// Shifted, turned about the origin and enlarged.
    fn moved(points: &Points, by: [f64; 2], angle: f64, scale: f64) -> Points {
        let (s, c) = angle.sin_cos();
        points.map(|[x, y]| [scale * (c * x - s * y) + by[0], scale * (s * x + c * y) + by[1]])
    }

    #[test]
    fn a_shift_is_its_length_in_parts_of_the_size() {
        let found = moved(&face(), [3.0, 4.0], 0.0, 1.0);
        let error = distance(&offsets(&found, &face()));
        // √(40 × 90) = 60, and 5 of 60 are 8.333 %.
        assert!((size(&face()) - 60.0).abs() < 1e-12);
        assert!((error.all - 25.0 / 3.0).abs() < 1e-12 && (error.inner - 25.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_jaw_counts_in_all_but_not_in_inner() {
        let mut found = face();
        (0..17).for_each(|i| found[i][0] += 6.0);
        let error = distance(&offsets(&found, &face()));
        assert!(error.inner == 0.0 && (error.all - 10.0 * 17.0 / 68.0).abs() < 1e-12, "{error:?}");
    }

    #[test]
    fn a_tilted_larger_face_has_the_same_offsets() {
        let mut found = face();
        found[30] = [22.0, 51.0];
        let upright = offsets(&found, &face());
        // The box of a turned face is another one, so it is turned by a right angle.
        for (angle, scale) in [(0.0, 3.0), (std::f64::consts::FRAC_PI_2, 0.5)] {
            let to = |points| moved(&points, [700.0, -20.0], angle, scale);
            let tilted = offsets(&to(found), &to(face()));
            for (a, b) in tilted.iter().zip(&upright) {
                assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn free_takes_off_what_the_other_half_shows() {
        let all = |x: f64| [[x, 0.0]; LANDMARKS];
        let faces = [(all(1.0), false), (all(3.0), false), (all(5.0), true)];
        assert_eq!(free(&faces), [all(-4.0), all(-2.0), all(3.0)]);
        assert_eq!(free(&faces[..2]), [all(1.0), all(3.0)], "nothing is known of the habit");
    }

    #[test]
    fn people_are_halved_by_the_first_byte_of_a_hash() {
        // printf anna | sha256sum: 55…; printf emil | sha256sum: 06…
        assert!(second_half("anna") && !second_half("emil"));
    }

    #[test]
    fn poses_differ_by_angles_and_by_one_turn() {
        let [pitch, yaw, roll, turn] = between([170.0, 10.0, -5.0], [-170.0, 40.0, -5.0]);
        assert_eq!((pitch, yaw, roll), (20.0, 30.0, 0.0));
        assert!(turn > 30.0 && turn < 40.0, "{turn}");
        let [.., turn] = between([0.0, 30.0, 0.0], [0.0, -15.0, 0.0]);
        assert!((turn - 45.0).abs() < 1e-3, "{turn}");
    }
}

//! VTube Studio's input parameters from a pose.
//!
//! Left and right are the avatar's. Positive angles and places are those of VTube Studio's default
//! mappings to a Live2D model: the head turns to its own left, looks up, leans to its own left
//! shoulder; eyes are positive to the avatar's own right.

use super::super::arkit;
use super::super::pose::{Pose, yaw_pitch_roll};
use crate::place::USUAL_DISTANCE;

/// Number of parameters that every VTube Studio has.
const STANDARD: usize = 21;

/// The parameters that every VTube Studio has.
pub(super) fn standard(pose: &Pose) -> [(&'static str, f32); STANDARD] {
    let c = &pose.coefficients;
    let of = |name: &str| arkit::value(c, name);
    let [yaw, pitch, roll] = yaw_pitch_roll(&pose.rotation);
    let [right, up, away] = pose.position;
    let brow = |side: &str| {
        of("browInnerUp").max(of(&format!("browOuterUp{side}"))) - of(&format!("browDown{side}"))
    };
    let (left_brow, right_brow) = (brow("Left"), brow("Right"));
    // A relaxed mouth, and relaxed brows, are in the middle.
    let around_half = |value: f32| (0.5 + 0.5 * value).clamp(0.0, 1.0);
    let corners =
        arkit::both(c, "mouthSmile") - arkit::both(c, "mouthFrown").max(of("mouthPucker"));
    let (smile, open) = (around_half(corners), of("jawOpen") * (1.0 - of("mouthClose")));
    let look = |eye: &str, plus: &str, minus: &str| {
        of(&format!("eyeLook{plus}{eye}")) - of(&format!("eyeLook{minus}{eye}"))
    };
    [
        ("FaceAngleX", yaw),
        ("FaceAngleY", pitch),
        ("FaceAngleZ", -roll),
        ("FacePositionX", right),
        ("FacePositionY", up),
        ("FacePositionZ", away - USUAL_DISTANCE),
        ("EyeOpenLeft", 1.0 - of("eyeBlinkLeft")),
        ("EyeOpenRight", 1.0 - of("eyeBlinkRight")),
        ("EyeLeftX", look("Left", "In", "Out")),
        ("EyeLeftY", look("Left", "Up", "Down")),
        ("EyeRightX", look("Right", "Out", "In")),
        ("EyeRightY", look("Right", "Up", "Down")),
        ("Brows", around_half((left_brow + right_brow) / 2.0)),
        ("BrowLeftY", around_half(left_brow)),
        ("BrowRightY", around_half(right_brow)),
        ("MouthOpen", open),
        ("MouthSmile", smile),
        ("MouthX", of("mouthLeft") - of("mouthRight")),
        ("CheekPuff", of("cheekPuff")),
        // Many models take their mouth from these, which otherwise listen to the microphone.
        ("VoiceVolumePlusMouthOpen", open),
        ("VoiceFrequencyPlusMouthSmile", smile),
    ]
}

/// The parameters that are created for ARKit's coefficients, each with the coefficient's place:
/// the names with a large first letter, without those that every VTube Studio has.
pub(super) fn arkit_parameters() -> Vec<(String, usize)> {
    let is_new = |name: &&str| !["cheekPuff", "tongueOut"].contains(name);
    let names = arkit::NAMES.iter().enumerate().filter(|(_, name)| is_new(name));
    names.map(|(at, name)| (arkit::pascal(name), at)).collect()
}

#[cfg(test)]
mod tests {
    use mmface::face::rotation::from_angles;

    use super::super::super::tests::pose;
    use super::*;

    fn of(pose: &Pose, name: &str) -> f32 {
        standard(pose).iter().find(|(known, _)| *known == name).expect(name).1
    }

    fn with(coefficients: &[(&str, f32)]) -> Pose {
        let mut pose = pose();
        for (name, value) in coefficients {
            pose.coefficients[arkit::index(name).expect("a name")] = *value;
        }
        pose
    }

    #[test]
    fn the_head_turns_as_the_default_mappings_expect() {
        // 300W-LP's angles: this head turns to its own left, looks up, and leans to its own right.
        let turned = Pose { rotation: from_angles([0.0, -20.0, 0.0]), ..pose() };
        assert!((of(&turned, "FaceAngleX") - 20.0).abs() < 1e-3);
        let up = Pose { rotation: from_angles([12.0, 0.0, 0.0]), ..pose() };
        let nose = up.rotation * nalgebra::Vector3::z();
        assert!((of(&up, "FaceAngleY") - nose.y.asin().to_degrees()).abs() < 1e-3);
        let leaning = Pose { rotation: from_angles([0.0, 0.0, 10.0]), ..pose() };
        let top = leaning.rotation * nalgebra::Vector3::y();
        // The top of the head to the right in the picture is its own left.
        assert!((of(&leaning, "FaceAngleZ") - top.x.asin().to_degrees()).abs() < 1e-3);
        let moved = Pose { position: [3.0, -2.0, USUAL_DISTANCE + 5.0], ..pose() };
        let place = ["FacePositionX", "FacePositionY", "FacePositionZ"].map(|n| of(&moved, n));
        assert_eq!(place, [3.0, -2.0, 5.0]);
    }

    #[test]
    fn a_relaxed_face_is_in_the_middle_and_strong_ones_at_the_ends() {
        let relaxed = pose();
        for name in ["Brows", "BrowLeftY", "BrowRightY", "MouthSmile"] {
            assert_eq!(of(&relaxed, name), 0.5, "{name}");
        }
        assert_eq!((of(&relaxed, "EyeOpenLeft"), of(&relaxed, "MouthOpen")), (1.0, 0.0));
        let smile = with(&[("mouthSmileLeft", 1.0), ("mouthSmileRight", 1.0), ("jawOpen", 0.4)]);
        assert_eq!((of(&smile, "MouthSmile"), of(&smile, "MouthOpen")), (1.0, 0.4));
        let frown = with(&[("mouthFrownLeft", 1.0), ("mouthFrownRight", 1.0)]);
        assert_eq!(of(&frown, "MouthSmile"), 0.0);
        let one = with(&[("browDownLeft", 1.0), ("eyeBlinkRight", 1.0), ("mouthRight", 0.7)]);
        assert_eq!((of(&one, "BrowLeftY"), of(&one, "BrowRightY")), (0.0, 0.5));
        assert_eq!((of(&one, "EyeOpenLeft"), of(&one, "EyeOpenRight")), (1.0, 0.0));
        assert_eq!(of(&one, "MouthX"), -0.7);
    }

    #[test]
    fn both_eyes_look_to_the_same_side() {
        // To the avatar's own right, and up.
        let right = with(&[
            ("eyeLookInLeft", 0.5),
            ("eyeLookOutRight", 0.5),
            ("eyeLookUpLeft", 0.3),
            ("eyeLookUpRight", 0.3),
        ]);
        let seen = ["EyeLeftX", "EyeRightX", "EyeLeftY", "EyeRightY"].map(|name| of(&right, name));
        assert_eq!(seen, [0.5, 0.5, 0.3, 0.3]);
    }

    #[test]
    fn names_are_what_vtube_studio_takes() {
        let mut all: Vec<String> = standard(&pose()).map(|(name, _)| name.into()).into();
        all.extend(arkit_parameters().into_iter().map(|(name, _)| name));
        for name in &all {
            assert!((4..=32).contains(&name.len()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "each name once");
        assert_eq!(arkit_parameters()[0], ("EyeBlinkLeft".into(), 0));
    }
}

//! What smoothing does and does not do, whatever its strength.

use proptest::prelude::*;

use super::{Smoother, Strength};
use crate::face::{Params, rotation};
use crate::testing::MODEL;

/// An average face that looks into the camera, with a little of every expression.
pub(super) fn face() -> Params {
    Params {
        f: 8.0,
        rotation: rotation::from_angles([0.0; 3]),
        t: [300.0, 200.0, 0.0],
        identity: vec![0.0; MODEL.identities],
        expression: vec![0.3; MODEL.expressions.len()],
        landmark_offsets: vec![],
    }
}

/// Where an expression stands.
pub(super) fn expression(name: &str) -> usize {
    MODEL.expressions.iter().position(|e| e == name).expect("an expression of the face model")
}

fn smoother(strength: Strength) -> Smoother {
    Smoother::new(strength, MODEL.clone())
}

/// Mean distance of the landmarks, in pixels.
fn distance(a: &Params, b: &Params) -> f32 {
    let points = MODEL.landmarks3d(a).into_iter().zip(MODEL.landmarks3d(b));
    points.map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).sum::<f32>() / 68.0
}

fn any_face() -> impl Strategy<Value = Params> {
    let angles = (-30f32..30.0, -70f32..70.0, -40f32..40.0);
    let place = (-100f32..2000.0, -100f32..1200.0, -50f32..50.0);
    let identity = prop::collection::vec(-3f32..3.0, MODEL.identities);
    let expression = prop::collection::vec(0f32..=1.0, MODEL.expressions.len());
    let landmark_offsets = prop::collection::vec(prop::array::uniform2(-1f32..1.0), 68);
    (1f32..60.0, angles, place, identity, expression, landmark_offsets).prop_map(
        |(f, (pitch, yaw, roll), (x, y, z), identity, expression, landmark_offsets)| Params {
            f,
            rotation: rotation::from_angles([pitch, yaw, roll]),
            t: [x, y, z],
            identity,
            expression,
            landmark_offsets,
        },
    )
}

fn any_strength() -> impl Strategy<Value = Strength> {
    prop::sample::select(vec![
        Strength::Light,
        Strength::Medium,
        Strength::Strong,
        Strength::Avatar,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the clock does, the answer is a face.
    #[test]
    fn odd_time_stamps_do_no_harm(
        strength in any_strength(),
        views in prop::collection::vec((any_face(), -1f64..1.0, 0f32..1.0, prop::bool::ANY), 1..12),
    ) {
        let (mut smoother, mut pts) = (smoother(strength), 5.0);
        for (raw, step, confidence, odd) in views {
            pts += step;
            let (pts, confidence) = if odd { (f64::NAN, f32::NAN) } else { (pts, confidence) };
            let smooth = smoother.apply(1, pts, &raw, confidence, false);
            let numbers = smooth.t.iter().chain(&smooth.identity).chain([&smooth.f]);
            prop_assert!(numbers.chain(&rotation::to_wxyz(&smooth.rotation)).all(|v| v.is_finite()));
            prop_assert!(smooth.f > 0.0 && smooth.expression.iter().all(|e| (0.0..=1.0).contains(e)));
        }
    }

    /// Speeds are in face sizes: the same motion seen twice as large is smoothed the same.
    #[test]
    fn near_and_far_faces_are_smoothed_alike(
        strength in any_strength(), zoom in 0.2f32..5.0, steps in prop::collection::vec(-20f32..20.0, 3..10),
    ) {
        let (mut near, mut far) = (smoother(strength), smoother(strength));
        for (frame, step) in steps.iter().enumerate() {
            let pts = frame as f64 / 25.0;
            let mut raw = face();
            raw.t = [300.0 + step, 200.0 - 0.5 * step, 0.1 * step];
            raw.f *= (0.01 * step).exp();
            let zoomed = Params { f: raw.f * zoom, t: raw.t.map(|t| t * zoom), ..raw.clone() };
            let (a, b) = (far.apply(1, pts, &raw, 1.0, false), near.apply(1, pts, &zoomed, 1.0, false));
            prop_assert!((a.f * zoom / b.f - 1.0).abs() < 1e-4);
            prop_assert!(a.t.iter().zip(b.t).all(|(a, b)| (a * zoom - b).abs() < 1e-2 * zoom));
        }
    }

    /// A quaternion and its negative are one rotation.
    #[test]
    fn the_sign_of_a_quaternion_does_not_matter(
        strength in any_strength(), angles in prop::collection::vec(prop::array::uniform3(-80f32..80.0), 2..10),
    ) {
        let (mut plain, mut mixed) = (smoother(strength), smoother(strength));
        for (frame, angles) in angles.into_iter().enumerate() {
            let pts = frame as f64 / 30.0;
            let raw = Params { rotation: rotation::from_angles(angles), ..face() };
            let mut other = raw.clone();
            if frame % 2 == 1 {
                other.rotation = nalgebra::UnitQuaternion::new_unchecked(-other.rotation.into_inner());
            }
            let (a, b) = (plain.apply(1, pts, &raw, 1.0, false), mixed.apply(1, pts, &other, 1.0, false));
            prop_assert!(a.rotation.angle_to(&b.rotation) < 1e-3);
        }
    }

    /// What does not change is not changed, at any frame rate.
    #[test]
    fn a_still_face_stays(strength in any_strength(), raw in any_face(), fps in 1f64..240.0) {
        let mut smoother = smoother(strength);
        for frame in 0..10 {
            let smooth = smoother.apply(1, f64::from(frame) / fps, &raw, 0.8, false);
            prop_assert!(distance(&smooth, &raw) < 0.01, "{}", distance(&smooth, &raw));
        }
    }

    /// Averaging identity moves the face in the picture as little as its shape allows.
    #[test]
    fn another_identity_stays_in_place(raw in any_face(), other in any_face()) {
        let moved = super::identity::with_identity(&raw, &other.identity, &MODEL);
        let plain = Params { identity: other.identity.clone(), ..raw.clone() };
        let square = |face: &Params| -> f32 {
            let points = MODEL.landmarks3d(face).into_iter().zip(MODEL.landmarks3d(&raw));
            points.map(|(a, b)| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sum()
        };
        prop_assert!(square(&moved) <= square(&plain) * 1.001 + 0.01);
        for worse in [
            Params { f: moved.f * 1.01, ..moved.clone() },
            Params { t: [moved.t[0] + 0.01 * moved.f, moved.t[1], moved.t[2]], ..moved.clone() },
        ] {
            prop_assert!(square(&moved) <= square(&worse) * 1.001 + 0.01);
        }
    }
}

#[test]
fn off_changes_nothing() {
    let mut smoother = smoother(Strength::Off);
    for frame in 0..3 {
        let mut raw = face();
        raw.identity[0] = frame as f32;
        raw.expression[0] = 1.5;
        assert_eq!(smoother.apply(1, 0.1 * f64::from(frame), &raw, 0.5, false), raw);
    }
}

#[test]
fn a_repeated_time_stamp_repeats_the_answer() {
    let mut smoother = smoother(Strength::Medium);
    smoother.apply(1, 1.0, &face(), 1.0, false);
    let moved = Params { t: [320.0, 200.0, 0.0], ..face() };
    let first = smoother.apply(1, 1.04, &moved, 1.0, false);
    assert_eq!(smoother.apply(1, 1.04, &face(), 1.0, false), first);
    assert_eq!(smoother.apply(1, 1.0, &face(), 1.0, false), first);
}

#[test]
fn a_gap_restarts_the_pose_but_keeps_who_it_is() {
    let mut smoother = smoother(Strength::Strong);
    for frame in 0..60 {
        smoother.apply(1, f64::from(frame) / 30.0, &face(), 1.0, false);
    }
    let mut back = Params { t: [500.0, 300.0, 0.0], ..face() };
    back.identity[5] = 2.0;
    let smooth = smoother.apply(1, 5.0, &back, 1.0, false);
    assert!((smooth.t[0] - 500.0).abs() < 5.0 && smooth.identity[5] < 0.1);
    let fresh = smoother.apply(1, 5.03, &back, 1.0, true);
    assert_eq!((fresh.t, fresh.identity[5]), (back.t, 2.0));
}

#[test]
fn faces_do_not_mix_and_are_forgotten() {
    let mut smoother = smoother(Strength::Medium);
    let other = Params { t: [600.0, 200.0, 0.0], ..face() };
    smoother.apply(1, 0.0, &face(), 1.0, false);
    assert_eq!(smoother.apply(2, 0.03, &other, 1.0, false).t, other.t);
    smoother.forget_before(0.03);
    assert_eq!(smoother.apply(1, 0.06, &other, 1.0, false).t, other.t);
    smoother.reset();
    assert_eq!(smoother.apply(2, 0.06, &face(), 1.0, false).t, face().t);
}

/// A network that cannot tell a nearer head from a larger one says something else at each blink.
#[test]
fn a_blink_does_not_move_the_head() {
    let mut smoother = smoother(Strength::Medium);
    let lid = expression("eyeBlinkLeft");
    for frame in 0..90 {
        let mut raw = face();
        let blinks = (60..64).contains(&frame);
        if blinks {
            raw.expression[lid] = 0.9;
            let mut larger = raw.identity.clone();
            larger[0] = 1.0;
            raw = super::identity::with_identity(&raw, &larger, &MODEL);
        }
        let smooth = smoother.apply(1, f64::from(frame) / 30.0, &raw, 1.0, false);
        assert!((smooth.f / 8.0 - 1.0).abs() < 0.01, "{frame}: f {}", smooth.f);
        assert!(smooth.identity[0] < 0.08 && (smooth.t[1] - 200.0).abs() < 1.0);
        assert!(!blinks || (raw.f / 8.0 - 1.0).abs() > 0.02, "the raw head must jump: {}", raw.f);
    }
}

/// After a second the mean is near; a wrong beginning is forgotten; a profile says little.
#[test]
fn identity_is_found_soon_and_not_for_ever() {
    let mut smoother = smoother(Strength::Medium);
    let mut see = |seconds: std::ops::Range<u32>, value: f32, yaw: f32| {
        let mut raw = Params { rotation: rotation::from_angles([0.0, yaw, 0.0]), ..face() };
        raw.identity[3] = value;
        let frames = seconds.start * 30..seconds.end * 30;
        frames.fold(0.0, |_, frame| {
            // Every other frame is off by one to either side.
            raw.identity[3] = value + if frame % 2 == 0 { 1.0 } else { -1.0 };
            smoother.apply(1, f64::from(frame) / 30.0, &raw, 1.0, false).identity[3]
        })
    };
    assert!((see(0..1, 1.0, 0.0) - 1.0).abs() < 0.1);
    let settled = see(1..12, 1.0, 0.0);
    assert!((settled - 1.0).abs() < 0.05);
    assert!((see(12..13, -1.0, 80.0) - settled).abs() < 0.05, "a profile says little");
    let later = see(13..33, -1.0, 0.0);
    assert!(later < -0.5, "{later}");
}

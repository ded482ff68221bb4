use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use mmface::face::rotation::from_angles;

use super::*;
use crate::testing::{self, face_model};

static MODEL: LazyLock<Arc<FaceModel>> = LazyLock::new(face_model);

const SIZE: [f32; 2] = [640.0, 480.0];

/// Marks are asked of the whole process: tests that could see another's come one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn neutrals(source: Source, after: Option<f64>) -> Neutrals {
    Neutrals::open(Settings { source, after }, &MODEL).expect("opened")
}

fn at(name: &str) -> usize {
    MODEL.expressions.iter().position(|known| known == name).expect(name)
}

/// A face with these expressions, turned, in the picture's right half.
fn face(id: u64, expressions: &[(&str, f32)]) -> Face {
    let mut params = Params::neutral();
    params.expression = vec![0.0; MODEL.expressions.len()];
    expressions.iter().for_each(|(name, value)| params.expression[at(name)] = *value);
    params.rotation = from_angles([8.0, -15.0, 3.0]);
    (params.f, params.t) = (8.0, [400.0, 200.0, 0.0]);
    testing::face(id, params)
}

/// Shows a face for some seconds at 30 frames a second, from `start`; what became of the last frame.
fn show(neutrals: &mut Neutrals, face: &Face, start: f64, seconds: f64) -> Option<Params> {
    let frames = (seconds * 30.0) as usize;
    let pts = |frame: usize| start + frame as f64 / 30.0;
    let faces = std::slice::from_ref(face);
    (0..frames).map(|n| neutrals.frame(faces, pts(n), SIZE).remove(0)).last().flatten()
}

#[test]
fn what_is_marked_becomes_zero_and_full_stays_full() {
    let _alone = alone();
    let mut neutrals = neutrals(Source::Off, None);
    let resting = face(1, &[("mouthSmileLeft", 0.8), ("browInnerUpLeft", 0.1)]);
    assert_eq!(show(&mut neutrals, &resting, 0.0, 1.0), None, "nothing was asked for");
    mark();
    let marked = show(&mut neutrals, &resting, 1.0, 1.0).expect("a neutral face");
    assert!(marked.expression.iter().all(|value| value.abs() < 1e-6));
    assert!(marked.rotation.angle() < 1e-3);
    let [x, y, away] = position(&marked, SIZE);
    assert!(x.abs() < 1e-3 && y.abs() < 1e-3 && (away - USUAL_DISTANCE).abs() < 1e-3);
    // From there on, other faces and places are seen from it.
    let mut smiling = face(1, &[("mouthSmileLeft", 1.0), ("jawOpen", 0.5)]);
    smiling.params.rotation *= from_angles([0.0, -20.0, 0.0]);
    let seen = show(&mut neutrals, &smiling, 2.0, 0.1).expect("known");
    assert_eq!(seen.expression[at("mouthSmileLeft")], 1.0);
    assert_eq!(seen.expression[at("jawOpen")], 0.5);
    let turned = from_angles([0.0, -20.0, 0.0]);
    assert!(seen.rotation.angle_to(&turned).to_degrees() < 0.1, "by its own axes");
    // Somebody else is not at rest yet.
    assert_eq!(show(&mut neutrals, &face(2, &[]), 2.2, 0.1), None);
}

#[test]
fn leaning_towards_where_one_looked_is_coming_nearer() {
    let marked = face(1, &[]);
    let neutral = Neutral {
        expression: vec![],
        head: Some((marked.params.rotation, position(&marked.params, SIZE))),
    };
    let mut nearer = marked.params.clone();
    let [x, y, away] = position(&nearer, SIZE);
    let ahead = nearer.rotation * Vector3::z() * 10.0;
    place_at(&mut nearer, [x + ahead.x, y + ahead.y, away - ahead.z], SIZE);
    let [x, y, away] = position(&neutral.relative(&nearer, SIZE), SIZE);
    assert!(x.abs() < 1e-2 && y.abs() < 1e-2, "{x} {y}");
    assert!((away - (USUAL_DISTANCE - 10.0)).abs() < 1e-2, "{away}");
}

#[test]
fn a_new_face_is_marked_after_its_seconds() {
    let _alone = alone();
    let mut neutrals = neutrals(Source::Off, Some(2.0));
    let resting = face(1, &[("mouthFrownLeft", 0.3)]);
    assert_eq!(show(&mut neutrals, &resting, 0.0, 1.9), None);
    let marked = show(&mut neutrals, &resting, 1.9, 1.0).expect("marked");
    assert_eq!(marked.expression[at("mouthFrownLeft")], 0.0);
    // Once: what it shows later is no rest.
    let later = show(&mut neutrals, &face(1, &[("mouthFrownLeft", 0.9)]), 3.0, 5.0).expect("known");
    assert!(later.expression[at("mouthFrownLeft")] > 0.8);
}

#[test]
fn rest_is_learnt_while_somebody_talks_and_blinks() {
    let _alone = alone();
    let mut neutrals = neutrals(Source::Auto, None);
    let mut last = None;
    for frame in 0..30 * 30 {
        // The mouth rests at 0.15 for half of the time; each fourth second has a blink of four frames.
        let talks = (frame / 15) % 2 == 1;
        let blinks = frame % 120 < 4;
        let jaw = if talks { 0.15 + 0.4 * f32::from(frame as u8 % 8) / 8.0 } else { 0.15 };
        let shown = face(
            4,
            &[
                ("jawOpen", jaw),
                ("eyeBlinkLeft", if blinks { 0.9 } else { 0.1 }),
                ("eyeLookDownLeft", 0.3),
            ],
        );
        last = neutrals.frame(&[shown], f64::from(frame) / 30.0, SIZE).remove(0);
        assert_eq!(last.is_some(), frame >= 90, "{frame}");
    }
    let seen = show(
        &mut neutrals,
        &face(4, &[("jawOpen", 0.15), ("eyeBlinkLeft", 0.9), ("eyeLookDownLeft", 0.3)]),
        30.0,
        0.1,
    )
    .expect("learnt");
    assert!(last.is_some() && seen.expression[at("jawOpen")] < 0.03);
    assert!(seen.expression[at("eyeBlinkLeft")] > 0.87, "a blink stays one");
    assert!((seen.expression[at("eyeLookDownLeft")] - 0.3).abs() < 1e-6, "gaze has no rest");
    assert_eq!(seen.rotation, face(4, &[]).params.rotation, "where somebody looks is not learnt");
}

#[test]
fn a_face_that_is_held_is_not_taken_for_rest_altogether() {
    let _alone = alone();
    let mut neutrals = neutrals(Source::Auto, None);
    let seen =
        show(&mut neutrals, &face(1, &[("mouthSmileLeft", 0.9)]), 0.0, 60.0).expect("learnt");
    let smile = seen.expression[at("mouthSmileLeft")];
    assert!((smile - 0.8).abs() < 0.02, "{smile}");
}

#[test]
fn the_file_is_written_and_used_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("me.toml");
    let source = || Source::File(path.clone());
    let resting = face(1, &[("mouthSmileRight", 0.25)]);
    let mut first = neutrals(source(), Some(0.5));
    show(&mut first, &resting, 0.0, 2.0).expect("marked");
    first.finish();
    let mut second = neutrals(source(), None);
    let seen = show(&mut second, &resting, 0.0, 0.1).expect("known from the first frame on");
    assert!(seen.expression[at("mouthSmileRight")] < 1e-3 && seen.rotation.angle() < 1e-3);
    // Without a mark what was learnt is written at the end, without a pose.
    std::fs::remove_file(&path).expect("there");
    let mut third = neutrals(source(), None);
    show(&mut third, &resting, 0.0, 20.0).expect("learnt");
    assert!(!path.exists());
    third.finish();
    let text = std::fs::read_to_string(&path).expect("written");
    assert!(text.contains("mouthSmileRight = 0.2") && !text.contains("[head]"), "{text}");
}

#[test]
fn what_is_wrong_in_a_file_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("me.toml");
    for (text, why) in [
        ("[expression]\nmouthSmleLeft = 0.1", "no expression mouthSmleLeft"),
        ("[expression]\njawOpen = 1.5", "jawOpen = 1.5 is not within 0 to 1"),
        ("[head]\nq = [0, 0, 0, 0]\nplace = [0, 0, 60]", "its head is none"),
        ("[head]\nq = [1, 0, 0, 0]\nplace = [0, 0, -60]", "its head is none"),
        ("nose = 1", "unknown field"),
        ("[expression", ""),
    ] {
        std::fs::write(&path, text).expect("written");
        let settings = Settings { source: Source::File(path.clone()), after: None };
        let error = Neutrals::open(settings, &MODEL).err().expect(text);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

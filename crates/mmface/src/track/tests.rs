use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::face::rotation;
use crate::image::Image;
use crate::testing::MODEL;

fn tracker(max_faces: usize) -> Tracks {
    let settings = Settings {
        max_faces,
        detect_every: 1.0,
        reidentify: 3.0,
        presence: 0.5,
        points: 0.5,
        immediate: false,
        crop: CropRule { size: 256, scale: 1.45, raise: 0.06 },
        detector: DetectorRule { centre: [0.0, 0.0], scale: 1.5 },
    };
    Tracks::new(settings, MODEL.clone())
}

/// A grey image: everybody in it looks alike, so that only the identity tells people apart.
static GREY: LazyLock<Image> =
    LazyLock::new(|| Image::rgb(1200, 800, vec![128; 3 * 1200 * 800]).expect("sizes fit"));

/// What the networks say of a crop of the one face there is: 8 pixels a centimetre, looking ahead,
/// its origin at (350, 165).
fn output(map: &CropMap, presence: f32) -> Output {
    output_at(350.0, map, presence)
}

/// The same of a face elsewhere.
fn output_at(x: f32, map: &CropMap, presence: f32) -> Output {
    person_at(0.0, x, map, presence)
}

/// The same of somebody else, whose identity coefficients are all `who`.
fn person_at(who: f32, x: f32, map: &CropMap, presence: f32) -> Output {
    let [x, y] = map.crop_from_frame([x, 165.0]);
    let roll = map.angle.to_degrees();
    let pose = [8.0 / map.scale, 0.0, 0.0, -roll, x, y, 0.0];
    Output { pose, identity: vec![who; 60], expression: vec![0.0; 53], presence, points: vec![] }
}

fn detection(x: f32, score: f32) -> Detection {
    Detection { bounds: [x, 100.0, 100.0, 120.0], score, angle: 0.0 }
}

/// One frame: detections, if any, then the networks, which see a face in every crop or in none.
fn frame(tracker: &mut Tracks, pts: f64, found: &[Detection], presence: f32) -> Vec<Tracked> {
    frame_of(tracker, pts, found, |map| output(map, presence))
}

/// The same with what the networks say of each crop.
fn frame_of(
    tracker: &mut Tracks,
    pts: f64,
    found: &[Detection],
    mut says: impl FnMut(&CropMap) -> Output,
) -> Vec<Tracked> {
    let detected = tracker.candidates(found);
    let outputs = detected.iter().map(|(map, _)| says(map)).collect();
    let candidates = tracker.recrop(pts, &detected, outputs);
    let outputs = candidates.iter().map(|(map, _)| says(map)).collect();
    tracker.start_tracks(pts, &GREY, &candidates, outputs);
    let crops = tracker.crops(pts);
    let outputs = crops.iter().map(|(_, map)| says(map)).collect();
    tracker.update(pts, &GREY, &crops, outputs)
}

#[test]
fn a_sure_face_is_shown_at_once_and_keeps_its_id() {
    let mut tracker = tracker(4);
    let first = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.95);
    assert_eq!(first.len(), 1);
    assert!(first[0].fresh);
    for i in 1..30 {
        let shown = frame(&mut tracker, f64::from(i) / 30.0, &[detection(300.0, 0.9)], 0.95);
        assert_eq!(shown.iter().map(|f| f.id).collect::<Vec<_>>(), [first[0].id]);
        assert!(!shown[0].fresh);
    }
}

#[test]
fn a_newcomer_is_looked_at_again_where_its_first_fit_lies() {
    let tracker = tracker(4);
    // Two detections beside the one face, from which it looks off to either side, and one of nothing.
    let detected = tracker.candidates(&[270.0, 330.0, 900.0].map(|x| detection(x, 0.9)));
    let presence = [0.9, 0.9, 0.1];
    let outputs = detected.iter().zip(presence).map(|((map, _), p)| output(map, p)).collect();
    let recrop = tracker.recrop(0.0, &detected, outputs);
    let [(a, _), (b, _)] = recrop[..] else { panic!("{recrop:?}") };
    assert!((a.centre[0] - b.centre[0]).hypot(a.centre[1] - b.centre[1]) < 0.1, "{a:?} {b:?}");
    assert!((a.scale / b.scale - 1.0).abs() < 1e-3);
    assert!((detected[0].0.centre[0] - detected[1].0.centre[0]).abs() > 50.0);
}

#[test]
fn a_doubtful_face_has_to_prove_itself() {
    let mut tracker = tracker(4);
    assert!(frame(&mut tracker, 0.0, &[detection(300.0, 0.4)], 0.9).is_empty());
    assert!(frame(&mut tracker, 0.033, &[], 0.9).is_empty());
    assert_eq!(frame(&mut tracker, 0.066, &[], 0.9).len(), 1);
    // One that the networks stop seeing while on probation never existed.
    tracker.reset();
    assert!(frame(&mut tracker, 1.0, &[detection(300.0, 0.4)], 0.9).is_empty());
    assert!(frame(&mut tracker, 1.033, &[], 0.0).is_empty());
    assert!(frame(&mut tracker, 1.066, &[], 0.9).is_empty());
    assert_eq!(tracker.next_id, 2, "one id was given");
}

#[test]
fn a_lost_face_leaves_within_half_a_second_and_comes_back_under_its_id() {
    let mut tracker = tracker(4);
    let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    assert_eq!(frame(&mut tracker, 0.1, &[], 0.0).len(), 1, "a moment is held");
    assert!(frame(&mut tracker, 0.56, &[], 0.0).is_empty(), "then it is gone");
    assert!(tracker.wants_detection(0.6, false), "and looked for");
    let back = frame(&mut tracker, 1.5, &[detection(320.0, 0.9)], 0.9);
    assert_eq!(back.iter().map(|f| (f.id, f.fresh)).collect::<Vec<_>>(), [(id, true)]);
}

#[test]
fn ids_are_never_used_again() {
    let mut tracker = tracker(4);
    let first = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    frame(&mut tracker, 0.1, &[], 0.0);
    frame(&mut tracker, 4.0, &[], 0.0);
    let second = frame(&mut tracker, 4.1, &[detection(300.0, 0.9)], 0.9)[0].id;
    assert!(second > first);
}

#[test]
fn more_faces_asked_for_than_in_view_do_not_cost_detections() {
    let mut tracker = tracker(8);
    let mut detections = 0;
    for i in 0..300 {
        let pts = f64::from(i) / 30.0;
        let wanted = tracker.wants_detection(pts, false);
        detections += u32::from(wanted);
        let found = if wanted { vec![detection(300.0, 0.9)] } else { Vec::new() };
        assert_eq!(frame(&mut tracker, pts, &found, 0.9).len(), 1);
    }
    assert!((9..=12).contains(&detections), "{detections} in ten seconds");
}

#[test]
fn a_full_house_needs_no_detection() {
    let mut tracker = tracker(1);
    assert!(tracker.wants_detection(0.0, false));
    frame(&mut tracker, 0.0, &[detection(300.0, 0.9), detection(600.0, 0.9)], 0.9);
    assert!((1..100).all(|i| !tracker.wants_detection(f64::from(i), false)));
}

#[test]
fn two_tracks_on_one_face_become_one() {
    let mut tracker = tracker(4);
    // Two detections far enough apart to be two, whose fits are the same face.
    let candidates = tracker.candidates(&[detection(300.0, 0.9), detection(300.0, 0.8)]);
    let outputs = candidates.iter().map(|(map, _)| output(map, 0.9)).collect();
    tracker.start_tracks(0.0, &GREY, &candidates, outputs);
    let crops = tracker.crops(0.0);
    let outputs = crops.iter().map(|(_, map)| output(map, 0.9)).collect();
    assert_eq!(tracker.update(0.0, &GREY, &crops, outputs).len(), 1);
}

#[test]
fn nonsense_from_the_networks_is_no_face() {
    let mut tracker = tracker(4);
    let candidates = tracker.candidates(&[detection(300.0, 0.9)]);
    let nonsense = Output { pose: [f32::NAN; 7], ..output(&candidates[0].0, f32::NAN) };
    assert!(tracker.recrop(0.0, &candidates, vec![nonsense.clone()]).is_empty());
    tracker.start_tracks(0.0, &GREY, &candidates, vec![nonsense]);
    assert!(tracker.crops(0.0).is_empty());
    let absurd = Detection { bounds: [f32::INFINITY, 0.0, 1e30, f32::NAN], score: 1.0, angle: 0.0 };
    assert!(tracker.candidates(&[absurd]).is_empty());
}

#[test]
fn a_cut_ends_a_face_unless_it_stayed_where_it_was() {
    let mut tracker = tracker(4);
    let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    tracker.cut(0.04);
    assert!(tracker.is_blind(0.04) && tracker.wants_detection(0.04, false));
    let same = frame(&mut tracker, 0.04, &[detection(300.0, 0.9)], 0.9);
    assert_eq!(same.iter().map(|f| (f.id, f.fresh)).collect::<Vec<_>>(), [(id, true)]);
}

#[test]
fn after_a_cut_another_face_is_another_person() {
    let mut tracker = tracker(4);
    for number in 1..200 {
        let pts = f64::from(number) / 30.0;
        tracker.reset();
        let id = frame(&mut tracker, pts - 0.1, &[detection(300.0, 0.9)], 0.9)[0].id;
        if number % 2 == 0 {
            frame(&mut tracker, pts - 0.05, &[], 0.0); // missed already
        }
        tracker.cut(pts);
        assert!(tracker.is_blind(pts) && tracker.crops(pts).is_empty());
        // In the same place, or beside it.
        let beside = if number % 3 == 0 { 60.0 } else { 0.0 };
        let shown = frame_of(&mut tracker, pts, &[detection(300.0 + beside, 0.9)], |map| {
            person_at(1.0, 350.0 + beside, map, 0.9)
        });
        assert!(shown.len() == 1 && shown[0].id != id && shown[0].fresh, "{pts}: {shown:?}");
    }
}

#[test]
fn after_a_cut_the_same_person_elsewhere_keeps_the_id() {
    let mut tracker = tracker(4);
    let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    tracker.cut(0.04);
    let found = [detection(700.0, 0.9)];
    let shown = frame_of(&mut tracker, 0.04, &found, |map| output_at(750.0, map, 0.9));
    assert_eq!(shown.iter().map(|f| (f.id, f.fresh)).collect::<Vec<_>>(), [(id, true)]);
}

#[test]
fn a_jump_to_somebody_else_is_a_new_face_without_a_cut() {
    let mut tracker = tracker(4);
    let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    frame(&mut tracker, 0.033, &[], 0.9);
    // Somebody else in the same place, then the first person again.
    let mut ids = Vec::new();
    for (number, who) in [(2, 1.2), (3, 1.2), (4, 0.0), (5, 0.0)] {
        let pts = f64::from(number) / 30.0;
        let shown = frame_of(&mut tracker, pts, &[], |map| person_at(who, 350.0, map, 0.9));
        assert_eq!(shown.len(), 1, "nobody is missing for a frame");
        assert!(shown[0].crop.is_some() && shown[0].fresh == (number % 2 == 0), "{shown:?}");
        ids.push(shown[0].id);
    }
    assert!(ids[0] > id && ids == [ids[0], ids[0], id, id], "{ids:?}");
}

#[test]
fn somebody_a_little_different_is_suspected_first() {
    // 1.0 a coefficient: beyond what a covered face shows, but not clearly.
    for (seconds, same) in [(0.1, true), (0.5, false)] {
        let mut tracker = tracker(4);
        let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
        let mut pts = 0.0;
        while pts < seconds {
            pts += 1.0 / 30.0;
            frame_of(&mut tracker, pts, &[], |map| person_at(1.0, 350.0, map, 0.9));
        }
        let last = tracker.next_id - 1;
        assert_eq!(last == id, same, "{seconds}");
        // The first one again is taken for the second as long as that one was for the first.
        let end = pts + 0.5;
        let mut shown = Vec::new();
        while pts < end {
            pts += 1.0 / 30.0;
            shown = frame_of(&mut tracker, pts, &[], |map| person_at(0.0, 350.0, map, 0.9));
        }
        assert_eq!(shown.iter().map(|face| face.id).collect::<Vec<_>>(), [id], "{seconds}");
    }
}

#[test]
fn identity_that_wavers_does_not_end_a_face() {
    let mut tracker = tracker(4);
    let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    for number in 1..60 {
        let pts = f64::from(number) / 30.0;
        let who = [0.4, -0.4, 0.0][number as usize % 3];
        let shown = frame_of(&mut tracker, pts, &[], |map| person_at(who, 350.0, map, 0.9));
        assert_eq!(shown.iter().map(|f| f.id).collect::<Vec<_>>(), [id], "{pts}");
    }
}

#[test]
fn ids_go_with_the_tiles_of_a_call_that_swap() {
    let mut tracker = tracker(4);
    // The tiles' people lie closer together than what ends a face that is alone.
    let tile = |map: &CropMap, left: f32, right: f32| {
        let is_left = map.centre[0] < 550.0;
        let (who, x) = if is_left { (left, 350.0) } else { (right, 750.0) };
        person_at(who, x, map, 0.9)
    };
    let found = [detection(300.0, 0.9), detection(700.0, 0.9)];
    let before = frame_of(&mut tracker, 0.0, &found, |map| tile(map, 0.0, 0.8));
    frame_of(&mut tracker, 0.033, &[], |map| tile(map, 0.0, 0.8));
    let after = frame_of(&mut tracker, 0.066, &[], |map| tile(map, 0.8, 0.0));
    let place = |faces: &[Tracked], id: u64| {
        faces.iter().find(|f| f.id == id).map(|f| f.params.t[0].round())
    };
    assert_eq!((before.len(), after.len()), (2, 2));
    for face in &before {
        let other = if face.params.t[0] < 550.0 { 750.0 } else { 350.0 };
        assert_eq!(place(&after, face.id), Some(other));
    }
}

/// The ids of a face that is seen, then away for a time, and of the one who is there then.
fn ids_around_absence(reidentify: f64, away: f64, x: f32, who: f32) -> [u64; 2] {
    let mut tracker = tracker(4);
    tracker.settings.reidentify = reidentify;
    let before = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    for tenth in 1..(away * 10.0) as u32 {
        frame(&mut tracker, f64::from(tenth) / 10.0, &[], 0.0);
    }
    let found = [detection(x - 50.0, 0.9)];
    let after = frame_of(&mut tracker, away, &found, |map| person_at(who, x, map, 0.9));
    [before, after[0].id]
}

#[test]
fn who_comes_back_in_time_gets_the_old_id_and_nobody_else_does() {
    for (reidentify, away, x, who, same) in [
        (3.0, 2.0, 350.0, 0.0, true),
        (3.0, 2.0, 800.0, 0.0, true),
        (3.0, 2.0, 350.0, 1.0, false),
        (3.0, 5.0, 350.0, 0.0, false),
        (60.0, 5.0, 350.0, 0.0, true),
        (60.0, 20.0, 800.0, 0.0, true),
        (60.0, 20.0, 350.0, 1.0, false),
        (60.0, 70.0, 350.0, 0.0, false),
        (0.0, 0.4, 350.0, 0.0, true), // hidden for a moment, and still followed
        (0.0, 1.0, 350.0, 0.0, false),
    ] {
        let [before, after] = ids_around_absence(reidentify, away, x, who);
        let case = (reidentify, away, x, who);
        assert_eq!(before == after, same, "{case:?}");
    }
}

#[test]
fn nobody_is_remembered_over_a_cut_if_so_wanted() {
    let mut tracker = tracker(4);
    tracker.settings.reidentify = 0.0;
    let id = frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9)[0].id;
    tracker.cut(0.04);
    assert_ne!(frame(&mut tracker, 0.04, &[detection(300.0, 0.9)], 0.9)[0].id, id);
}

#[test]
fn who_is_remembered_for_long_is_not_looked_for_all_the_time() {
    let mut tracker = tracker(4);
    tracker.settings.reidentify = 3600.0;
    let both = [detection(300.0, 0.9), detection(700.0, 0.9)];
    let at = |map: &CropMap| if map.centre[0] < 550.0 { 350.0 } else { 750.0 };
    frame_of(&mut tracker, 0.0, &both, |map| output_at(at(map), map, 0.9));
    let mut detections = 0;
    for i in 1..900 {
        let pts = f64::from(i) / 30.0;
        detections += u32::from(tracker.wants_detection(pts, false));
        frame_of(&mut tracker, pts, &[], |map| {
            output_at(at(map), map, if at(map) < 550.0 { 0.9 } else { 0.0 })
        });
    }
    // Ten a second for three seconds, then one.
    assert!((45..=62).contains(&detections), "{detections}");
}

#[test]
fn an_empty_room_is_searched_once_a_second() {
    let mut tracker = tracker(4);
    let mut detections = |nothing_happens: bool, range: std::ops::Range<u32>| {
        let times = range.map(|i| f64::from(i) / 30.0);
        times.filter(|&pts| tracker.wants_detection(pts, nothing_happens)).count()
    };
    assert!((70..=101).contains(&detections(false, 0..300)), "up to ten a second else");
    assert!((9..=11).contains(&detections(true, 300..600)));
    assert_eq!(detections(false, 600..604), 1, "and at once when something moves");
}

#[test]
fn a_doubtful_fit_does_not_lead_the_crop_away() {
    let mut tracker = tracker(4);
    frame(&mut tracker, 0.0, &[detection(300.0, 0.9)], 0.9);
    let before = tracker.crops(0.033);
    // Something in front of the face: the fit is half unsure and a little off.
    let off = |map: &CropMap| {
        let sure = output(map, 0.4);
        Output {
            pose: {
                let mut p = sure.pose;
                p[4] += 15.0;
                p
            },
            ..sure
        }
    };
    let outputs = before.iter().map(|(_, map)| off(map)).collect();
    let shown = tracker.update(0.033, &GREY, &before, outputs);
    assert_eq!(shown.len(), 1, "it is still shown");
    assert_eq!(tracker.crops(0.066)[0].1.centre, before[0].1.centre, "but not followed");
    assert!(tracker.wants_detection(0.2, false), "and the detector is asked");
}

#[test]
fn every_view_of_a_picture_shows_the_same_face() {
    let mut tracker = tracker(4);
    tracker.settings.immediate = true;
    let model = tracker.model.clone();
    let name = |name: &str| model.expressions.iter().position(|e| e == name);
    let left = name("eyeBlinkLeft").expect("a left eye");
    let right = name("eyeBlinkRight").expect("a right eye");
    // A head that looks aside and winks with its left eye, which in a mirror is the other one.
    let head = rotation::from_angles([5.0, 20.0, -10.0]);
    let wink = |map: &CropMap| {
        let seen = rotation::rotated_in_plane(&head, -map.angle);
        let seen = if map.mirrored { rotation::mirrored(&seen) } else { seen };
        let mut output = output(map, 0.9);
        output.pose[1..4].copy_from_slice(&rotation::to_angles(&seen));
        output.expression[if map.mirrored { right } else { left }] = 1.0;
        // The points are seen 3 pixels right of the mesh's landmarks and 2 above.
        let params = Params::from_outputs(output.pose, &output.identity, &output.expression);
        let (from, to) = (map.crop_from_frame([0.0; 2]), map.crop_from_frame([3.0, -2.0]));
        let off = |[x, y]: [f32; 2]| [x + to[0] - from[0], y + to[1] - from[1]];
        output.points = model.landmarks(&params.expect("finite")).into_iter().map(off).collect();
        output
    };
    let candidates = tracker.candidates(&[detection(300.0, 0.9)]);
    let outputs = candidates.iter().map(|(map, _)| wink(map)).collect();
    tracker.start_tracks(0.0, &GREY, &candidates, outputs);
    let crops = tracker.crops(0.0);
    assert_eq!((crops.len(), crops.iter().filter(|(_, map)| map.mirrored).count()), (6, 3));
    let outputs = crops.iter().map(|(_, map)| wink(map)).collect();
    let shown = tracker.update(0.0, &GREY, &crops, outputs);
    let [Tracked { params, .. }] = &shown[..] else { panic!("{} faces", shown.len()) };
    assert!(params.rotation.angle_to(&head) < 1e-3, "{:?}", params.rotation);
    assert!((params.t[0] - 350.0).abs() < 0.01 && (params.t[1] - 165.0).abs() < 0.01);
    let mesh = model.landmarks(&Params { landmark_offsets: vec![], ..params.clone() });
    let part = tracker.settings.points * rotation::facing(&head);
    for (seen, mesh) in model.landmarks(params).iter().zip(&mesh) {
        let off = [seen[0] - mesh[0] - 3.0 * part, seen[1] - mesh[1] + 2.0 * part];
        assert!(off.iter().all(|v| v.abs() < 0.02), "{off:?}");
    }
    assert_eq!([left, right].map(|eye| (params.expression[eye] * 100.0).round()), [100.0, 0.0]);
}

/// What happens in a frame of the property test.
#[derive(Debug, Clone)]
struct Step {
    /// Seconds since the frame before; may be negative.
    seconds: f64,
    before: Before,
    detections: Vec<Detection>,
    /// Said of one crop after the other, again from the first where there are more crops.
    says: Vec<Says>,
}

#[derive(Debug, Clone)]
enum Before {
    Nothing,
    Cut,
    Reset,
}

/// What the networks say of a crop.
#[derive(Debug, Clone)]
enum Says {
    /// A face near the middle of it: off by crop pixels, scaled.
    Face { off: [f32; 2], scale: f32, presence: f32 },
    /// Anything.
    Noise { pose: [f32; 7], coefficient: f32, presence: f32, points: Vec<[f32; 2]> },
}

impl Says {
    fn output(&self) -> Output {
        let (pose, coefficient, presence, points) = match self {
            Self::Face { off: [x, y], scale, presence } => {
                let pose = [9.0 * scale, 0.0, 0.0, 0.0, 128.0 + x, 128.0 + y, 0.0];
                (pose, 0.1, *presence, Vec::new())
            }
            Self::Noise { pose, coefficient, presence, points } => {
                (*pose, *coefficient, *presence, points.clone())
            }
        };
        let identity = vec![coefficient; MODEL.identities];
        let expression = vec![coefficient; MODEL.expressions.len()];
        Output { pose, identity, expression, presence, points }
    }
}

/// Numbers as they should be, and now and then one that should not be.
fn number(sane: std::ops::Range<f32>) -> impl Strategy<Value = f32> {
    let odd = prop::sample::select(vec![f32::NAN, f32::INFINITY, -1.0, 0.0, 1e-30, 3e38]);
    prop_oneof![20 => sane, 1 => odd]
}

fn any_detection() -> impl Strategy<Value = Detection> {
    let place = (number(-100.0..1400.0), number(-100.0..800.0));
    let size = (number(20.0..400.0), number(20.0..400.0));
    (place, size, number(0.3..1.0), number(-3.2..3.2))
        .prop_map(|((x, y), (w, h), score, angle)| Detection { bounds: [x, y, w, h], score, angle })
}

fn any_says() -> impl Strategy<Value = Says> {
    let off = [-40f32..40.0, -40f32..40.0];
    let presence = || number(0.0..1.0);
    let face = (off, 0.7f32..1.4, prop_oneof![3 => Just(0.95), 1 => presence()])
        .prop_map(|(off, scale, presence)| Says::Face { off, scale, presence });
    let point = [number(-50.0..300.0), number(-50.0..300.0)];
    let points = prop_oneof![Just(vec![]), point.prop_map(|point| vec![point; 68])];
    let pose = prop::array::uniform7(number(-200.0..300.0));
    let noise = (pose, number(-3.0..3.0), presence(), points).prop_map(
        |(pose, coefficient, presence, points)| Says::Noise { pose, coefficient, presence, points },
    );
    prop_oneof![4 => face, 1 => noise]
}

fn any_step() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![12 => 0.01f64..0.1, 2 => 0.0..5.0, 1 => -5.0f64..0.0, 1 => Just(0.0)];
    let before =
        prop_oneof![12 => Just(Before::Nothing), 1 => Just(Before::Cut), 1 => Just(Before::Reset)];
    let detections =
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(any_detection(), 0..6)];
    (seconds, before, detections, prop::collection::vec(any_says(), 1..8))
        .prop_map(|(seconds, before, detections, says)| Step { seconds, before, detections, says })
}

proptest! {
    /// Whatever detector and networks say, and whatever the clock does: no more faces than asked for,
    /// none twice, finite, and every new id is higher than all before.
    #[test]
    fn faces_are_counted_and_ids_go_up_whatever_comes(
        max_faces in 1usize..5, immediate in prop::bool::weighted(0.2),
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut tracker = tracker(max_faces);
        tracker.settings.immediate = immediate;
        let (mut pts, mut highest) = (0.0, 0);
        let mut known = std::collections::BTreeSet::new();
        for step in steps {
            pts += step.seconds;
            match step.before {
                Before::Nothing => {}
                Before::Cut => tracker.cut(pts),
                Before::Reset => {
                    tracker.reset();
                    // Nobody of before comes back.
                    known.clear();
                }
            }
            let mut says = step.says.iter().cycle();
            let mut next = |_: &CropMap| says.next().map(Says::output).expect("never empty");
            let shown = frame_of(&mut tracker, pts, &step.detections, &mut next);
            prop_assert!(shown.len() <= max_faces, "{} faces of {max_faces}", shown.len());
            for (place, face) in shown.iter().enumerate() {
                prop_assert!(shown[..place].iter().all(|other| other.id < face.id), "ids in order");
                if known.insert(face.id) {
                    prop_assert!(face.id > highest, "{} after {highest}", face.id);
                    highest = face.id;
                }
                let Params { f, t, .. } = &face.params;
                let numbers = t.iter().chain([f, &face.confidence]);
                let mut numbers = numbers.chain(face.landmarks.iter().flatten());
                prop_assert!(numbers.all(|v| v.is_finite()), "{face:?}");
            }
        }
    }
}

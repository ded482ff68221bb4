//! Trackers on real clips and pictures.

use std::collections::BTreeSet;

use mmface::face::Params;
use mmface::{FrameResult, Image, Mode, Tracker, TrackerOptions};

use crate::common::{Clip, picture, runtime, runtime_in};

fn options(mode: Mode) -> TrackerOptions {
    TrackerOptions { mode, ..TrackerOptions::default() }
}

fn tracker(mode: Mode) -> Tracker {
    runtime().tracker(options(mode)).unwrap()
}

/// The ids in each frame of a clip within these seconds.
fn ids(frames: &[(f64, FrameResult)], seconds: std::ops::Range<f64>) -> Vec<Vec<u64>> {
    let within = frames.iter().filter(|(pts, _)| seconds.contains(pts));
    within.map(|(_, seen)| seen.faces.iter().map(|face| face.id).collect()).collect()
}

/// A whole clip.
fn watch(name: &str) -> Vec<(f64, FrameResult)> {
    let mut tracker = tracker(Mode::Recording);
    Clip::open(name).map(|(pts, image)| (pts, tracker.process(&image, pts).unwrap())).collect()
}

/// At least 98 % of the frames show one face, always the same.
fn one_face(frames: &[Vec<u64>]) {
    let ids: BTreeSet<_> = frames.iter().flatten().collect();
    assert_eq!(ids.len(), 1, "ids {ids:?}");
    let with = frames.iter().filter(|ids| ids.len() == 1).count();
    let all = frames.len();
    assert!(with * 100 >= all * 98, "a face in {with} of {all} frames");
}

#[test]
fn one_face_keeps_its_id() {
    one_face(&ids(&watch("single_face.mp4"), 0.0..f64::MAX));
}

#[test]
fn no_face_is_no_face() {
    let seen = watch("no_face.mp4");
    assert_eq!(seen.len(), 96);
    assert!(ids(&seen, 0.0..f64::MAX).concat().is_empty());
}

/// The scene changes after 2.4 s: before that a face, then a sky.
#[test]
fn a_face_that_is_gone_leaves_within_half_a_second() {
    let seen = watch("face_noface.mov");
    assert_eq!(seen.len(), 169);
    one_face(&ids(&seen, 0.0..2.4));
    assert!(ids(&seen, 2.9..f64::MAX).concat().is_empty());
}

/// The same the other way round: the face comes at 4.0 s and stays to 6.3 s.
#[test]
fn a_face_that_appears_is_soon_seen() {
    let seen = watch("noface_face.mov");
    assert_eq!(seen.len(), 169);
    assert!(ids(&seen, 0.0..3.9).concat().is_empty());
    one_face(&ids(&seen, 4.2..6.3));
}

/// All that a face is made of, to the last bit.
fn bits(seen: &FrameResult) -> Vec<(u64, u32, Vec<u32>)> {
    let of = |params: &Params| -> Vec<u32> {
        let Params { f, rotation, t, identity, expression, landmark_offsets } = params;
        let pose = rotation.coords.iter().chain(t).chain([f]);
        let shape = identity.iter().chain(expression).chain(landmark_offsets.iter().flatten());
        pose.chain(shape).map(|v| v.to_bits()).collect()
    };
    let faces = seen.faces.iter();
    let numbers = faces.map(|face| {
        let landmarks = face.landmarks.iter().flatten().map(|v| v.to_bits());
        let all = [of(&face.params), of(&face.raw), landmarks.collect()].concat();
        (face.id, face.confidence.to_bits(), all)
    });
    numbers.collect()
}

/// What a recording gives does not depend on who else uses the runtime.
#[test]
fn two_trackers_of_a_runtime_give_what_each_gives_alone() {
    // In the fastest precision of this CPU, which rounds the most.
    let runtime = runtime_in(None);
    // Two clips and two sizes, and one of them twice from different frames on.
    let streams = [("WolfgangLanger_Pexels.mp4", 0), ("single_face.mp4", 0)];
    let streams = streams.into_iter().chain([("WolfgangLanger_Pexels.mp4", 40)]);
    let streams: Vec<Vec<_>> =
        streams.map(|(name, skip)| Clip::open(name).skip(skip).take(60).collect()).collect();
    assert!(streams.iter().all(|frames| frames.len() == 60));
    let follow = |frames: &[(f64, Image)]| -> Vec<_> {
        let mut tracker = runtime.tracker(options(Mode::Recording)).unwrap();
        frames.iter().map(|(pts, image)| bits(&tracker.process(image, *pts).unwrap())).collect()
    };
    let alone: Vec<_> = streams.iter().map(|frames| follow(frames)).collect();
    for frames in &alone {
        let with = frames.iter().filter(|faces| faces.len() == 1).count();
        assert!(with > 50, "a face in {with} of 60 frames");
    }
    for _ in 0..2 {
        let together: Vec<_> = std::thread::scope(|scope| {
            let follow = &follow;
            let threads: Vec<_> =
                streams.iter().map(|frames| scope.spawn(move || follow(frames))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (stream, (alone, together)) in alone.iter().zip(&together).enumerate() {
            let other = alone.iter().zip(together).position(|(a, b)| a != b);
            assert_eq!(other, None, "stream {stream} gives other faces from that frame on");
        }
    }
}

#[test]
fn a_reset_never_uses_an_id_again() {
    let mut tracker = tracker(Mode::Recording);
    let frames: Vec<_> = Clip::open("single_face.mp4").take(10).collect();
    let mut last = BTreeSet::new();
    for round in 0..4 {
        // Time begins anew too, as after a jump.
        let mut now = BTreeSet::new();
        for (pts, image) in &frames {
            now.extend(tracker.process(image, *pts).unwrap().faces.iter().map(|face| face.id));
        }
        assert_eq!(now.len(), 1, "round {round}: {now:?}");
        assert!(now.first() > last.last(), "round {round}: {now:?} after {last:?}");
        last = now;
        tracker.reset();
    }
}

#[test]
fn the_same_picture_gives_the_same_faces_twice() {
    let mut tracker = tracker(Mode::Stills);
    let pictures = ["astronaut.png", "multi_face.jpg"].map(picture);
    let mut all = BTreeSet::new();
    let mut look = |tracker: &mut Tracker, image: &Image, pts| {
        let seen = tracker.process(image, pts).unwrap();
        assert!(seen.faces.iter().all(|face| all.insert(face.id)), "pictures share no id");
        let without_ids = bits(&seen).into_iter().map(|(_, confidence, bits)| (confidence, bits));
        without_ids.collect::<Vec<_>>()
    };
    let first = [0, 1].map(|at| look(&mut tracker, &pictures[at], at as f64));
    assert_eq!(first.each_ref().map(Vec::len), [1, 4], "the four largest of five");
    // In another order, and at a time that stands still.
    let again = [1, 0].map(|at| look(&mut tracker, &pictures[at], 7.0));
    assert!(first[1] == again[0] && first[0] == again[1]);
    let other = runtime().tracker(options(Mode::Stills)).unwrap().process(&pictures[0], 3.0);
    assert!(bits(&other.unwrap())[0].2 == first[0][0].1, "another runtime says the same");
}

#[test]
fn an_image_that_is_too_short_is_refused_and_harms_nobody() {
    let mut tracker = tracker(Mode::Recording);
    let mut image = picture("astronaut.png");
    assert_eq!(tracker.process(&image, 0.0).unwrap().faces.len(), 1);
    let height = std::mem::replace(&mut image.height, 10_000);
    let refused = tracker.process(&image, 0.1);
    assert!(matches!(refused, Err(mmface::Error::Image(_))));
    image.height = height;
    assert_eq!(tracker.process(&image, 0.2).unwrap().faces.len(), 1);
}

#[test]
fn an_empty_room_is_searched_seldom_and_a_face_in_it_found() {
    let mut tracker = tracker(Mode::Live);
    let (width, height) = (640, 360);
    let grey = vec![90; (width * height) as usize];
    let room = Image::grey(width, height, &grey[..]).unwrap();
    let mut searched = [0, 0];
    for frame in 0..100 {
        let pts = f64::from(frame) / 10.0;
        let seen = tracker.process(&room, pts).unwrap();
        searched[usize::from(pts > 6.0)] += u32::from(seen.detect_ms > 0.0);
        // The detector looks meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(searched[0] > 8 && (1..=5).contains(&searched[1]), "{searched:?}");
    let face = picture("single_face.jpg");
    let found = (100..160).any(|frame| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        !tracker.process(&face, f64::from(frame) / 10.0).unwrap().faces.is_empty()
    });
    assert!(found, "whoever comes in is found");
}

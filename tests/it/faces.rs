//! Faces of clips and pictures, as the records tell of them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::program::{records, run};
use crate::common::{clip, media};
use crate::records::TALK;

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
    one_face(&TALK.ids_within(0.0..f64::MAX));
}

/// Landmarks lie where the picture shows them: mouth under nose under eyes, the face in the frame and
/// as large as it is. (Its chin leaves the frame at times.)
#[test]
fn landmarks_lie_on_the_face() {
    for face in TALK.faces() {
        let points = face.landmarks.as_ref().unwrap();
        let mean = |range: std::ops::Range<usize>, k: usize| {
            points[range.clone()].iter().map(|p| p[k]).sum::<f32>() / range.len() as f32
        };
        let (brows, eyes) = (mean(17..27, 1), mean(36..48, 1));
        let (nose, mouth, chin) = (mean(31..36, 1), mean(48..68, 1), points[8][1]);
        let heights = [brows, eyes, nose, mouth, chin];
        assert!(heights.is_sorted(), "{heights:?}");
        assert!(mean(36..42, 0) < mean(42..48, 0), "points 36 to 41 are the eye on the left");
        let [x, y] = points[30];
        assert!((350.0..550.0).contains(&x) && (140.0..360.0).contains(&y), "nose at {x}, {y}");
        assert!((180.0..300.0).contains(&face.bounds[3]), "{:?}", face.bounds);
    }
}

/// Pictures that show a face, as their names tell, and how many.
const PICTURES: [(&str, usize); 6] = [
    ("0-f1-su-ph.jpg", 1),
    ("15-f13-anc-ph.jpg", 1),
    ("astronaut.png", 1),
    ("chelsea.png", 0),
    ("multi_face.jpg", 5),
    ("single_face.jpg", 1),
];

#[test]
fn pictures_of_a_folder_stand_for_themselves() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in PICTURES {
        std::fs::copy(clip(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("b-broken.jpg"), "no picture").unwrap();
    std::fs::copy(clip("single_face.mp4"), folder.path().join("c.mp4")).unwrap();
    let folder = folder.path().to_str().unwrap();
    let done = run(["--images", folder, "--landmarks", "--faces", "8"]);
    assert!(done.stderr.contains("b-broken.jpg"), "{}", done.stderr);
    let seen = done.records();
    let names: Vec<_> = seen.frames.iter().map(|f| f.file.as_deref().unwrap()).collect();
    assert_eq!(names, PICTURES.map(|(name, _)| name));
    assert_eq!((seen.end.frames.decoded, seen.end.frames.dropped.damaged), (6, 1));
    assert_eq!(seen.header.smoothing, "off");
    let ids: BTreeSet<_> = seen.faces().map(|face| face.id).collect();
    assert_eq!(ids.len(), seen.faces().count(), "pictures share no id");
    let counts: Vec<_> = seen.frames.iter().map(|f| f.faces.len()).collect();
    assert_eq!(counts, PICTURES.map(|(_, faces)| faces));
}

#[test]
fn no_more_faces_than_asked_for() {
    let picture = clip("multi_face.jpg");
    let done = run(["--file", picture.to_str().unwrap(), "--faces", "2"]);
    assert_eq!(done.records().frames[0].faces.len(), 2);
    // Whoever asked for fewer than there are is told.
    assert!(done.stderr.contains("at most 2 are followed"), "{}", done.stderr);
}

#[test]
fn haar_finds_a_frontal_face_too() {
    let picture = clip("astronaut.png");
    let seen = records(["--file", picture.to_str().unwrap(), "--detector", "haar"]);
    // Haar is no more than a fallback: it may see faces where the networks are not sure either.
    let found = seen.faces().any(|face| {
        let [x, y, w, h] = face.bounds;
        (x + w / 2.0 - 225.0).hypot(y + h / 2.0 - 125.0) < 30.0 && (70.0..130.0).contains(&h)
    });
    assert!(found);
}

/// Sizes that no camera has.
#[test]
fn absurd_sizes_are_frames_without_faces() {
    for size in
        ["width=1,height=1", "width=16,height=16", "width=641,height=361", "width=2,height=999"]
    {
        let text = format!("videotestsrc num-buffers=3 ! video/x-raw,{size}");
        let seen = records(["--pipeline", &text]);
        assert_eq!((seen.frames.len(), seen.faces().count()), (3, 0), "{size}");
    }
}

#[test]
fn a_large_picture_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = media::picture(&folder.path().join("large.jpg"), 7680, 4320);
    let seen = records([Path::new("--file"), &path]);
    assert_eq!((seen.streams[0].width, seen.streams[0].height), (7680, 4320));
    assert_eq!(seen.frames.len(), 1);
}

/// All kinds of pixels that a PNG can have show the same face.
#[test]
fn grey_transparent_and_deep_pictures_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["GRAY8", "RGBA", "GRAY16_BE"] {
        media::run(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format={format} \
             ! pngenc ! filesink location={}/{format}.png",
            clip("astronaut.png").display(),
            folder.path().display()
        ));
    }
    let seen = records([Path::new("--images"), folder.path()]);
    assert_eq!(seen.frames.len(), 3);
    assert!(seen.frames.iter().all(|frame| frame.faces.len() == 1));
}

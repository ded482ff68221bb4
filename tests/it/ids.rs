//! Who keeps an id: clips of several people, cut together on the spot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::program::{Records, records};
use crate::common::{clip, media};

/// Portraits of three people in the same place of the picture.
const PEOPLE: [&str; 3] = ["0-f1-su-ph.jpg", "15-f13-anc-ph.jpg", "45-m7-di-ph.jpg"];
/// Frames of a scene, ten a second.
const SCENE: u32 = 12;

/// A still scene, for `gst-launch`; it is to be linked to something.
fn portrait(name: &str) -> String {
    format!(
        "filesrc location={} ! jpegdec ! videoconvert ! videoscale \
         ! video/x-raw,format=I420,width=480,height=480,pixel-aspect-ratio=1/1 \
         ! imagefreeze num-buffers={SCENE} ! video/x-raw,framerate=10/1",
        clip(name).display()
    )
}

/// An empty room.
fn nobody(seconds: u32) -> String {
    format!(
        "videotestsrc pattern=gradient num-buffers={} \
         ! video/x-raw,format=I420,width=480,height=480,framerate=10/1",
        10 * seconds
    )
}

/// A video of scenes, one after the other.
fn video(path: &Path, scenes: &[String]) -> PathBuf {
    let scenes: String = scenes.iter().map(|scene| format!(" {scene} ! joined.")).collect();
    media::run(&format!(
        "concat name=joined ! x264enc bframes=0 speed-preset=ultrafast ! h264parse ! qtmux \
         ! filesink location={}{scenes}",
        path.display()
    ));
    path.to_owned()
}

/// The ids of each scene of as many frames as `scenes` says; the first frames are left out,
/// because where the picture hides a cut, a face is suspected for a quarter of a second.
fn ids(seen: &Records, scenes: &[u32]) -> Vec<BTreeSet<u64>> {
    let mut frames = seen.frames.iter();
    let scene = |length: &u32| {
        let scene = frames.by_ref().take(*length as usize);
        scene.skip(4).flat_map(|frame| frame.faces.iter().map(|face| face.id)).collect()
    };
    scenes.iter().map(scene).collect()
}

#[test]
fn a_cut_to_somebody_else_in_the_same_place_is_a_new_id_and_back_is_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let order = [0, 1, 2, 1, 0];
    let scenes = order.map(|person: usize| portrait(PEOPLE[person]));
    let path = video(&folder.path().join("cuts.mp4"), &scenes);
    let seen = records(["--file", path.to_str().unwrap(), "--reidentify", "10"]);
    let ids = ids(&seen, &[SCENE; 5]);
    assert!(ids.iter().all(|ids| ids.len() == 1), "{ids:?}");
    for (scene, person) in order.iter().enumerate() {
        for (other, other_person) in order.iter().enumerate() {
            assert_eq!(ids[scene] == ids[other], person == other_person, "{ids:?}");
        }
    }
    assert_eq!(seen.end.faces, 3);
}

#[test]
fn ids_go_with_the_tiles_of_a_call_that_swap() {
    let folder = tempfile::tempdir().unwrap();
    let call = |name: &str, left: &str, right: &str| {
        format!(
            "{} ! {name}.sink_0 {} ! {name}.sink_1 compositor name={name} sink_1::xpos=480 \
             ! videoconvert ! video/x-raw,format=I420,width=960,height=480,framerate=10/1",
            portrait(left),
            portrait(right)
        )
    };
    let [one, two, _] = PEOPLE;
    let path = video(&folder.path().join("call.mp4"), &[call("a", one, two), call("b", two, one)]);
    let seen = records([Path::new("--file"), &path]);
    let sides = |frame: usize| {
        let mut faces: Vec<_> =
            seen.frames[frame].faces.iter().map(|face| (face.t[0] > 480.0, face.id)).collect();
        faces.sort_unstable();
        faces.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    let (before, after) = (sides(SCENE as usize - 1), sides(2 * SCENE as usize - 1));
    assert_eq!(before.len(), 2);
    assert_eq!(after, [before[1], before[0]]);
}

#[test]
fn who_comes_back_later_gets_the_old_id_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, _] = PEOPLE;
    let scenes = [portrait(one), nobody(5), portrait(two), portrait(one)];
    let path = video(&folder.path().join("back.mp4"), &scenes);
    for (remembered, same) in [("3", false), ("60", true)] {
        let seen = records(["--file", path.to_str().unwrap(), "--reidentify", remembered]);
        let ids = ids(&seen, &[SCENE, 50, SCENE, SCENE]);
        assert!([0, 2, 3].iter().all(|scene| ids[*scene].len() == 1), "{ids:?}");
        assert_ne!(ids[0], ids[2]);
        assert_eq!(ids[0] == ids[3], same, "remembered for {remembered} s: {ids:?}");
    }
}

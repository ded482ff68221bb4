//! What VTube Studio gets, while the real program plays real media.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mmface::record::Packets;
use nalgebra::{Quaternion, UnitQuaternion, Vector3};

use crate::common::clip;
use crate::common::program::{Done, Records, Running, command};
use crate::common::vts::{Injection, Studio, TOKEN, VTubeStudio};

/// A stream that does not end.
const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=30/1";

/// Starts the program with a configuration folder of its own, and all that it could log.
fn start(configuration: &Path, arguments: &[&str]) -> Running {
    let mut command = command(arguments);
    command.env("XDG_CONFIG_HOME", configuration).env("RUST_LOG", "trace");
    Running::start(command)
}

fn packets(seen: &Records) -> (Packets, u64) {
    let sink = seen.end.sinks.iter().find(|sink| sink.name == "vts").unwrap();
    (sink.packets.unwrap(), sink.dropped)
}

fn end(program: Running) -> Done {
    program.signal("TERM");
    let done = program.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done
}

/// Nobody who reads what the program says learns the token.
fn keeps_the_token(done: &Done) {
    assert!(!done.stderr.contains(TOKEN) && !String::from_utf8_lossy(&done.stdout).contains(TOKEN));
}

/// [left, up, leaning to the left] of each recorded face's head, as a receiver would see it.
fn angles(seen: &Records) -> Vec<[f64; 3]> {
    let of = |face: &mmface::record::FaceRecord| {
        let [w, x, y, z] = face.q;
        let turned = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
        let nose = turned * Vector3::z();
        // The head's own left, after it has turned and looked up: level, unless it leans.
        let left = turned * Vector3::x();
        let level = Vector3::y().cross(&nose).normalize();
        let up = nose.cross(&level);
        let lean = -left.dot(&up).atan2(left.dot(&level));
        [nose.x.atan2(nose.z), nose.y.asin(), lean].map(|a| f64::from(a.to_degrees()))
    };
    seen.frames.iter().filter_map(|frame| frame.faces.first().map(of)).collect()
}

/// Each injection with a face is a recorded one, in the same order.
fn compare(injections: &[Injection], recorded: &[[f64; 3]]) -> usize {
    let mut recorded = recorded.iter();
    let mut found = 0;
    for injection in injections.iter().filter(|injection| injection.found) {
        let of = |name: &str| injection.values[name];
        let seen = ["FaceAngleX", "FaceAngleY", "FaceAngleZ"].map(of);
        let is_seen = |angles: &&[f64; 3]| {
            angles.iter().zip(seen).all(|(a, b): (&f64, f64)| (a - b).abs() < 0.1)
        };
        // A lost face is held and eased to rest; those frames have no record to compare with.
        if recorded.clone().any(|angles| is_seen(&angles)) {
            recorded.by_ref().find(is_seen);
            found += 1;
        }
    }
    found
}

#[test]
fn the_user_is_asked_once_and_the_head_turns_as_recorded() {
    let home = tempfile::tempdir().unwrap();
    let studio = VTubeStudio::start(Studio::default());
    let clip = clip("single_face.mp4");
    let url = format!("ws://127.0.0.1:{}", studio.port);
    let arguments = ["--file", clip.to_str().unwrap(), "--vts-parameters", "arkit", "--vts", &url];
    for run in 1..=2 {
        let done = start(home.path(), &arguments).finish();
        keeps_the_token(&done);
        assert_eq!(done.stderr.contains("click Allow"), run == 1, "{}", done.stderr);
        assert!(done.stderr.contains("takes the face"), "{}", done.stderr);
        let seen = done.records();
        let seen_there = std::mem::take(&mut studio.studio().injections);
        let compared = compare(&seen_there, &angles(&seen));
        assert!(compared > 30, "{compared} of {}", seen_there.len());
        let (packets, dropped) = packets(&seen);
        // The connection takes a moment, and a run has no time to wait for it.
        assert!(packets.sent > 30, "{packets:?}");
        assert!(packets.sent + packets.failed + dropped <= seen.end.frames.processed);
        let blink = |i: &Injection| 1.0 - i.values["EyeOpenLeft"] - i.values["EyeBlinkLeft"];
        assert!(seen_there.iter().all(|injection| blink(injection).abs() < 1e-5));
    }
    let there = studio.studio();
    assert_eq!((there.asked, there.created.len()), (1, 50));
    assert!(there.refused.is_empty() && there.nonsense.is_empty(), "{:?}", there.refused);
    let file = home.path().join("mmface-live/vts-tokens.json");
    assert!(std::fs::read_to_string(&file).unwrap().contains(TOKEN));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn it_comes_goes_and_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut program = start(
        home.path(),
        &["--json", "/dev/null", "--pipeline", LIVE, "--vts", &port.to_string()],
    );
    for round in 0..2 {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let studio = VTubeStudio::on(listener, Studio::default());
        program.wait_until(|| studio.studio().injections.len() > 10);
        let there = studio.studio();
        assert_eq!(there.asked, usize::from(round == 0), "the token is kept");
        assert!(there.injections.iter().all(|injection| !injection.found));
    }
    let done = end(program);
    keeps_the_token(&done);
    for once in ["nobody listens there yet", "the connection is lost"] {
        assert!(done.stderr.matches(once).count() <= 1, "{}", done.stderr);
    }
    assert_eq!(done.stderr.matches("takes the face").count(), 2, "{}", done.stderr);
}

#[test]
fn what_stands_in_the_way_is_said_once() {
    let home = tempfile::tempdir().unwrap();
    let off = Studio { switched_off: true, ..Studio::default() };
    let studio = VTubeStudio::start(off);
    let port = studio.port.to_string();
    let mut program =
        start(home.path(), &["--json", "/dev/null", "--pipeline", LIVE, "--vts", &port]);
    program.wait_until(|| studio.studio().refused.len() > 1);
    // Its user switches the API on, but denies access.
    (studio.studio().switched_off, studio.studio().denies) = (false, true);
    program.wait_until(|| studio.studio().asked > 0);
    let done = end(program);
    assert_eq!(done.stderr.matches("switch it on in its settings").count(), 1, "{}", done.stderr);
    assert_eq!(done.stderr.matches("start again to be asked again").count(), 1);
    assert_eq!(studio.studio().asked, 1, "nobody is asked twice");
    assert!(studio.studio().injections.is_empty());
}

#[test]
fn a_token_that_is_taken_back_is_asked_for_again() {
    let home = tempfile::tempdir().unwrap();
    let studio = VTubeStudio::start(Studio::default());
    let port = studio.port.to_string();
    let mut program =
        start(home.path(), &["--json", "/dev/null", "--pipeline", LIVE, "--vts", &port]);
    program.wait_until(|| studio.studio().injections.len() > 3);
    studio.studio().revoked = true;
    program.wait_until(|| studio.studio().asked == 2);
    studio.studio().injections.clear();
    program.wait_until(|| studio.studio().injections.len() > 3);
    let done = end(program);
    keeps_the_token(&done);
    assert_eq!(done.stderr.matches("has taken its permission back").count(), 1, "{}", done.stderr);
}

#[test]
fn the_last_frame_is_sent_again_while_none_comes() {
    let home = tempfile::tempdir().unwrap();
    let studio = VTubeStudio::start(Studio::default());
    let port = studio.port.to_string();
    // A frame every four seconds.
    let slow = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=1/4";
    let mut program =
        start(home.path(), &["--json", "/dev/null", "--pipeline", slow, "--vts", &port]);
    program.wait_until(|| studio.studio().injections.len() > 8);
    let done = end(program);
    let injections = &studio.studio().injections;
    let repeated = injections.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(repeated > 5, "{repeated} of {}: {}", injections.len(), done.stderr);
}

#[test]
fn what_is_no_vtube_studio_is_refused_or_told() {
    let home = tempfile::tempdir().unwrap();
    for wrong in ["wss://127.0.0.1:8001", "http://me:s3cret@127.0.0.1", "ws://a b"] {
        let arguments = ["--pipeline", LIVE, "--vts", wrong];
        let done = start(home.path(), &arguments).finish();
        assert!(done.failure(2).contains("--vts"), "{}", done.stderr);
        assert!(!done.stderr.contains("s3cret"), "{}", done.stderr);
    }
    let done = start(home.path(), &["--pipeline", LIVE, "--vts-parameters", "arkit"]).finish();
    assert!(done.failure(2).contains("add --vts"), "{}", done.stderr);
}

//! Streams in which nothing happens.

use mmface::record::Record;

use crate::common::clip;
use crate::common::program::{Running, command};
use crate::common::rtsp::RtspServer;

/// What comes behind the pictures of a stream: a key frame every second.
const SENT: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 \
    ! rtph264pay name=pay0 pt=96";
const FORMAT: &str =
    "video/x-raw,format=I420,width=640,height=360,framerate=15/1,pixel-aspect-ratio=1/1";

/// A picture with nobody in it, so many times.
fn nobody(count: u32) -> String {
    format!("videotestsrc num-buffers={count} pattern=gradient ! {FORMAT}")
}

/// A face that does not move, so many times.
fn face(count: u32) -> String {
    format!(
        "filesrc location={} ! decodebin ! videoconvert ! videoscale add-borders=true \
         ! imagefreeze num-buffers={count} ! {FORMAT}",
        clip("single_face.jpg").display()
    )
}

fn frames(program: &mut Running, mut enough: impl FnMut(&mmface::record::Frame) -> bool) {
    program.read_until(|record| matches!(record, Record::Frame(frame) if enough(frame)));
}

#[test]
fn only_key_frames_of_an_idle_stream_are_decoded() {
    let server = RtspServer::start(&format!("{} ! {SENT}", nobody(900)), 0, None);
    let mut program = Running::start(command(["--rtsp", &server.url(""), "--idle", "keyframes"]));
    // It takes some seconds until nothing has happened for long enough.
    let mut left_out = 0;
    frames(&mut program, |frame| {
        left_out += frame.dropped.idle;
        left_out >= 28
    });
    program.signal("TERM");
    let done = program.finish().records();
    let dropped = done.end.frames.dropped;
    assert!(dropped.idle >= 28, "{dropped:?}");
    assert_eq!((dropped.damaged, dropped.lost), (0, 0), "what was left out is not damaged");
}

#[test]
fn a_face_keeps_a_stream_awake() {
    let server = RtspServer::start(&format!("{} ! {SENT}", face(900)), 0, None);
    let mut program = Running::start(command(["--rtsp", &server.url(""), "--idle", "keyframes"]));
    let mut first = None;
    frames(&mut program, |frame| frame.pts - *first.get_or_insert(frame.pts) > 8.0);
    program.signal("TERM");
    let done = program.finish().records();
    assert_eq!(done.end.frames.dropped.idle, 0);
    assert!(done.faces().count() > 10);
}

#[test]
fn a_face_wakes_a_stream_and_nothing_of_it_is_missed() {
    let (before, after) = (nobody(165), face(600));
    let description = format!("concat name=all ! {SENT} {before} ! all. {after} ! all.");
    let server = RtspServer::start(&description, 0, None);
    let mut program = Running::start(command(["--rtsp", &server.url(""), "--idle", "keyframes"]));
    let mut seen = 0;
    frames(&mut program, |frame| {
        seen += u32::from(!frame.faces.is_empty());
        seen > 10
    });
    program.signal("TERM");
    let done = program.finish().records();
    assert!(done.end.frames.dropped.idle >= 28, "{:?}", done.end.frames);
    assert_eq!(done.end.frames.dropped.damaged, 0);
    let first = done.frames.iter().position(|frame| !frame.faces.is_empty()).unwrap();
    let later = done.frames[first + 1..].iter().map(|frame| frame.dropped.idle);
    assert_eq!(later.sum::<u64>(), 0, "frames behind the first face were left out");
}

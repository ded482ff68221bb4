//! Live sources: RTSP over loopback, and files played at their own speed.

use std::time::Duration;

use mmface::record::Record;

use crate::common::clip;
use crate::common::program::{Running, command, records, run};
use crate::common::rtsp::{LIVE, RtspServer};

/// Reads until so many frames have come over one connection.
fn read_frames(program: &mut Running, mut count: u32) {
    program.read_until(|record| {
        count -= u32::from(matches!(record, Record::Frame(_)));
        count == 0
    });
}

#[test]
fn rtsp_gives_records_and_keeps_the_password() {
    let server = RtspServer::start(LIVE, 0, Some(("me", "s3cret")));
    let mut command = command(["--rtsp", &server.url("me:s3cret@")]);
    command.env("RUST_LOG", "trace");
    let mut program = Running::start(command);
    read_frames(&mut program, 10);
    program.signal("INT");
    let done = program.finish();
    let seen = done.records();
    assert_eq!(seen.end.reason, "stopped");
    assert_eq!(seen.header.source, format!("rtsp://me:***@127.0.0.1:{}/live", server.port()));
    assert_eq!((seen.streams.len(), seen.streams[0].connection), (1, 1));
    assert!(!done.stderr.contains("s3cret"), "{}", done.stderr);
    assert!(!String::from_utf8_lossy(&done.stdout).contains("s3cret"));
}

#[test]
fn a_wrong_password_is_not_shown_either() {
    let server = RtspServer::start(LIVE, 0, Some(("me", "right")));
    let mut command = command(["--rtsp", &server.url("me:s3cret@")]);
    command.env("RUST_LOG", "trace");
    let done = Running::start(command).finish();
    assert!(done.failure(3).contains("me:***@"), "{}", done.stderr);
    assert!(!done.stderr.contains("s3cret"), "{}", done.stderr);
    assert!(!String::from_utf8_lossy(&done.stdout).contains("s3cret"));
}

#[test]
fn a_stream_that_was_away_leaves_a_gap() {
    let server = RtspServer::start(LIVE, 0, None);
    let (url, port) = (server.url(""), server.port());
    let mut program = Running::start(command(["--rtsp", &url, "--stream", "door"]));
    read_frames(&mut program, 5);
    drop(server);
    std::thread::sleep(Duration::from_millis(300));
    let _server = RtspServer::start(LIVE, port, None);
    program.read_until(|record| matches!(record, Record::Gap(_)));
    read_frames(&mut program, 5);
    program.signal("TERM");
    let seen = program.finish().records();
    assert_eq!(seen.end.reconnects, 1);
    let connections: Vec<_> = seen.streams.iter().map(|s| s.connection).collect();
    assert_eq!(connections, [1, 2]);
    let gaps =
        seen.all.iter().filter_map(|r| if let Record::Gap(gap) = r { Some(gap) } else { None });
    let [gap] = &gaps.collect::<Vec<_>>()[..] else { panic!("not one gap") };
    assert!(gap.connection == 2 && gap.from < gap.to && !gap.reason.is_empty(), "{gap:?}");
}

#[test]
fn a_stream_that_never_was_is_a_failure() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("rtsp://me:s3cret@127.0.0.1:{port}/live");
    let done = run(["--rtsp", &url]);
    assert!(done.failure(3).contains("cannot be reached"), "{}", done.stderr);
    assert!(!done.stderr.contains("s3cret"));
}

/// Ten times as fast as any machine computes: most frames must be dropped, and all be counted.
#[test]
fn a_file_in_real_time_drops_and_counts() {
    let text = format!(
        "filesrc location={} ! decodebin ! videorate ! video/x-raw,framerate=960/1",
        clip("single_face.mp4").display()
    );
    let seen = records(["--pipeline", &text, "--realtime"]);
    let counted: u64 = seen.frames.iter().map(|frame| frame.dropped.busy).sum();
    assert!(counted > 0);
    // Those behind the last record are in the total alone.
    assert!(counted <= seen.end.frames.dropped.busy);
}

#[test]
fn a_file_in_real_time_ends_like_a_file() {
    let clip = clip("single_face.mp4");
    let seen = records(["--file", clip.to_str().unwrap(), "--realtime"]);
    assert_eq!((seen.end.frames.decoded, seen.end.reason.as_str()), (72, "end of stream"));
}

#[test]
fn frames_between_are_left_out_and_counted() {
    let clip = clip("single_face.mp4");
    let seen = records(["--file", clip.to_str().unwrap(), "--max-fps", "10"]);
    let frames = seen.end.frames;
    assert_eq!((frames.decoded, frames.processed + frames.dropped.skipped), (72, 72));
    assert_eq!(seen.frames.len() as u64, frames.processed);
    let gaps = seen.frames.windows(2).map(|pair| pair[1].pts - pair[0].pts);
    assert!(gaps.clone().all(|gap| gap > 0.065), "{:?}", gaps.collect::<Vec<_>>());
    let length = seen.frames.last().unwrap().pts - seen.frames[0].pts;
    let fps = (seen.frames.len() - 1) as f64 / length;
    assert!((9.0..=10.01).contains(&fps), "{fps}");
    assert!(seen.frames.iter().all(|frame| frame.faces.len() == 1));
}

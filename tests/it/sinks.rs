//! Where records and drawn frames go.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mmface::record::Record;

use crate::common::program::{Records, Running, command, records, run, shell};
use crate::common::{clip, decoded, media};

/// Sizes of all frames of a video.
fn frames(path: &Path) -> Vec<(u32, u32)> {
    decoded(path).iter().map(|frame| (frame.image().width, frame.image().height)).collect()
}

struct Outputs {
    folder: tempfile::TempDir,
}

impl Outputs {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn an_overlay_has_every_frame_and_a_file_every_record() {
    let out = Outputs::new();
    let (json, overlay) = (out.path("faces.jsonl"), out.path("drawn.mp4"));
    let clip = clip("single_face.mp4");
    let done = run([
        Path::new("--file"),
        &clip,
        Path::new("--json"),
        &json,
        Path::new("--overlay"),
        &overlay,
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.is_empty(), "records go to the file alone");
    let seen = Records::read(&std::fs::read(&json).unwrap());
    assert_eq!(seen.frames.len(), 72);
    assert_eq!(frames(&overlay), [(640, 360); 72]);
}

#[test]
fn every_kind_of_overlay_can_be_decoded() {
    let out = Outputs::new();
    for name in ["a.mkv", "a.webm", "a.MP4"] {
        let path = out.path(name);
        let text = "videotestsrc num-buffers=9 ! video/x-raw,width=161,height=121";
        let seen =
            records(["--pipeline", text, "--json", "-", "--overlay", path.to_str().unwrap()]);
        assert_eq!(seen.frames.len(), 9);
        assert_eq!(frames(&path), [(160, 120); 9], "{name}");
    }
    for name in ["a.png", "a.jpg"] {
        let path = out.path(name);
        records([Path::new("--file"), &clip("single_face.jpg"), Path::new("--overlay"), &path]);
        assert_eq!(frames(&path), [(572, 562)], "{name}");
    }
}

#[test]
fn a_stream_that_changes_its_size_is_drawn_to_its_end() {
    let out = Outputs::new();
    for (index, size) in ["320,height=240", "200,height=300"].into_iter().enumerate() {
        media::run(&format!(
            "videotestsrc num-buffers=15 ! video/x-raw,framerate=30/1,width={size} \
             ! x264enc bframes=0 key-int-max=1 ! video/x-h264,stream-format=byte-stream \
             ! filesink location={}",
            out.path(&format!("{index}.h264")).display()
        ));
    }
    let mut joined = std::fs::read(out.path("0.h264")).unwrap();
    joined.extend(std::fs::read(out.path("1.h264")).unwrap());
    std::fs::write(out.path("joined.h264"), joined).unwrap();
    let overlay = out.path("drawn.mp4");
    let seen =
        records([Path::new("--file"), &out.path("joined.h264"), Path::new("--overlay"), &overlay]);
    let sizes: Vec<_> = seen.streams.iter().map(|s| (s.width, s.height)).collect();
    assert_eq!(sizes, [(320, 240), (200, 300)]);
    assert_eq!(seen.frames.len(), 30);
    assert_eq!(frames(&overlay), [(320, 240); 30]);
}

#[test]
fn a_reader_that_leaves_ends_the_run_well() {
    let out = Outputs::new();
    let overlay = out.path("drawn.mp4");
    let mut program = Running::start(command([
        "--pipeline",
        "videotestsrc",
        "--overlay",
        overlay.to_str().unwrap(),
    ]));
    program.read_until(|_| true);
    program.stop_reading();
    let done = program.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let summary = "the reader of the records has gone: ";
    assert!(done.stderr.contains(summary), "there is a summary: {}", done.stderr);
    assert!(!frames(&overlay).is_empty());
}

#[test]
fn a_refused_run_leaves_what_was_there() {
    let (out, clip) = (Outputs::new(), clip("astronaut.png"));
    let [json, report, drawn] = ["a.jsonl", "a.html", "none/a.png"].map(|name| out.path(name));
    for path in [&json, &report] {
        std::fs::write(path, "of yesterday").unwrap();
    }
    let flags = ["--file", "--json", "--report", "--overlay"].map(Path::new);
    let files = [&clip, &json, &report, &drawn].map(PathBuf::as_path);
    let done = run(flags.into_iter().zip(files).flat_map(|(flag, file)| [flag, file]));
    assert!(done.failure(6).contains("none/a.png"));
    for path in [&json, &report] {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "of yesterday", "{}", path.display());
    }
    // Where it runs, nothing of a longer file is left.
    std::fs::write(&json, "x".repeat(1 << 20)).unwrap();
    run([Path::new("--file"), &clip, Path::new("--json"), &json]);
    Records::read(&std::fs::read(&json).unwrap());
}

#[test]
fn frames_too_small_for_a_video_are_told() {
    let out = Outputs::new();
    let [picture, video] = ["small.png", "small.mp4"].map(|name| out.path(name));
    media::picture(&picture, 8, 6);
    let done = run([Path::new("--file"), &picture, Path::new("--overlay"), &video]);
    assert!(done.failure(6).contains("8×6 are too small"));
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let program = command(["--pipeline", "videotestsrc num-buffers=300"]);
    let mut program = Running::start(shell("trap '' HUP; exec \"$0\" \"$@\"", &program));
    program.read_until(|record| matches!(record, Record::Frame(_)));
    program.signal("HUP");
    let seen = program.finish().records();
    assert_eq!((seen.frames.len(), &*seen.end.reason), (300, "end of stream"));
}

#[test]
fn a_signal_ends_the_run_with_everything_written() {
    for signal in ["INT", "TERM"] {
        let out = Outputs::new();
        let overlay = out.path("drawn.mp4");
        let mut program = Running::start(command([
            "--pipeline",
            "videotestsrc",
            "--overlay",
            overlay.to_str().unwrap(),
        ]));
        let mut lines = 0;
        program.read_until(|_| {
            lines += 1;
            lines > 5
        });
        // Twice at once is what `timeout` does: it signals the program, then its process group.
        program.signal(signal);
        program.signal(signal);
        let seen = program.finish().records();
        assert_eq!(seen.end.reason, "stopped");
        assert_eq!(frames(&overlay).len(), seen.frames.len(), "every processed frame is drawn");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_what_hangs() {
    let out = Outputs::new();
    let pipe = out.path("nobody-reads");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let program =
        Running::start(command(["--pipeline", "videotestsrc", "--json", pipe.to_str().unwrap()]));
    // Signals are caught from the start; what hangs begins when the networks are there.
    std::thread::sleep(Duration::from_secs(2));
    program.signal("INT");
    std::thread::sleep(Duration::from_secs(1));
    program.signal("INT");
    assert_eq!(program.finish().code, Some(130));
}

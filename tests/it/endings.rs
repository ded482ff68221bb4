//! How a run ends that somebody or something hinders: signals while outputs block, outputs that
//! fail, and outputs of two processes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::program::{Records, Running, command, run};
use crate::common::{clip, decoded};

/// What a signal may take at most, and what a busy machine may add.
const AT_MOST: Duration = Duration::from_millis(3500);
/// No step of a test takes so long; whatever does hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A program whose standard output nobody reads. Dropping it kills it.
struct Unread {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Unread {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Self { child, stdout, stderr }
    }

    /// Waits until `enough`; the program must not end before.
    fn wait_until(&mut self, what: &str, enough: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !enough() {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before {what}");
            assert!(Instant::now() < deadline, "{what} does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal, waits for the end and returns its code, what it said, and what lay in its
    /// standard output.
    fn end_by(mut self, signal: &str) -> (Option<i32>, String, Vec<u8>) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let since = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(since.elapsed() < AT_MOST, "it does not end after a signal");
            std::thread::sleep(Duration::from_millis(5));
        };
        let (mut said, mut written) = (String::new(), Vec::new());
        self.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        self.stdout.take().unwrap().read_to_end(&mut written).unwrap();
        assert!(!said.contains("panic"), "{said}");
        (code, said, written)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Outputs(tempfile::TempDir);

impl Outputs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |file| file.len())
}

/// All lines of it are whole, but for the last one, which must be if `whole`.
fn lines(bytes: &[u8]) -> (usize, bool) {
    let whole = bytes.is_empty() || bytes.ends_with(b"\n");
    let lines: Vec<_> = bytes.split_inclusive(|b| *b == b'\n').collect();
    for line in lines.iter().filter(|line| line.ends_with(b"\n")) {
        serde_json::from_slice::<Value>(line).unwrap();
    }
    (lines.len(), whole)
}

const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1";
const RECORDED: &str = "videotestsrc ! video/x-raw,width=320,height=240,framerate=30/1";

/// The number before `records could not be written`.
fn unwritten(said: &str) -> u64 {
    let before = said.split(" records could not be written").next().unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{said}"))
}

#[test]
fn a_reader_that_stands_still_stops_neither_the_overlay_nor_the_end() {
    let out = Outputs::new();
    let overlay = out.path("drawn.mp4");
    // Records with vertices have 100 kB a face: the first one fills the pipe.
    let clip = clip("single_face.mp4");
    let mut program = Unread::start(command([
        "--file",
        clip.to_str().unwrap(),
        "--realtime",
        "--vertices",
        "--overlay",
        overlay.to_str().unwrap(),
    ]));
    program.wait_until("a second of video", || size(&overlay) > 0);
    let since = Instant::now();
    program.wait_until("a while", || since.elapsed() > Duration::from_millis(1700));
    let (code, said, written) = program.end_by("TERM");
    assert_eq!(code, Some(6), "{said}");
    assert!(unwritten(&said) >= 1, "{said}");
    let (count, whole) = lines(&written);
    assert!(count >= 2, "{count}");
    assert!(!whole && said.contains("broken off"), "{said}");
    // It went on while nobody read, and has its end.
    let seconds = decoded(&overlay).last().unwrap().pts;
    assert!(seconds > 1.2, "{seconds} s");
}

#[test]
fn one_signal_ends_a_run_whose_pipe_nobody_opens() {
    for (source, signal) in [(LIVE, "TERM"), (RECORDED, "INT")] {
        let out = Outputs::new();
        let (pipe, overlay) = (out.pipe("records"), out.path("drawn.mkv"));
        let mut program = Unread::start(command([
            "--pipeline",
            source,
            "--json",
            pipe.to_str().unwrap(),
            "--overlay",
            overlay.to_str().unwrap(),
        ]));
        program.wait_until("drawn frames", || size(&overlay) > 10_000);
        let (code, said, _) = program.end_by(signal);
        assert_eq!(code, Some(6), "{said}");
        assert!(said.contains("nobody reads it"), "{said}");
        assert!(unwritten(&said) > 2, "{said}");
        assert!(decoded(&overlay).len() > 2);
    }
}

#[test]
fn one_signal_ends_a_run_whose_overlay_or_report_nobody_reads() {
    for flag in ["--overlay", "--report"] {
        let out = Outputs::new();
        let pipe = out.pipe(if flag == "--overlay" { "drawn.mkv" } else { "page.html" });
        let json = out.path("a.jsonl");
        let mut program = Unread::start(command([
            "--pipeline",
            LIVE,
            "--json",
            json.to_str().unwrap(),
            flag,
            pipe.to_str().unwrap(),
        ]));
        program.wait_until("records", || size(&json) > 3000);
        let (code, said, _) = program.end_by("TERM");
        assert_eq!(code, Some(6), "{flag}: {said}");
        assert!(said.contains("it blocks"), "{flag}: {said}");
        // The records are whole, with their end.
        let seen = Records::read(&std::fs::read(&json).unwrap());
        assert_eq!(seen.end.reason, "stopped");
    }
}

#[test]
fn one_signal_ends_a_program_that_loads_or_waits_for_its_source() {
    // Before the networks are there, and somewhere on the way.
    for wait in [30, 200, 500] {
        let program = Unread::start(command(["--pipeline", RECORDED, "--json", "/dev/null"]));
        std::thread::sleep(Duration::from_millis(wait));
        let (code, said, _) = program.end_by("TERM");
        // `None`: before it could catch the signal.
        assert!(matches!(code, Some(0) | None), "{code:?} {said}");
    }
    // A server that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://127.0.0.1:{}/a", silent.local_addr().unwrap().port());
    let program = Unread::start(command(["--rtsp", &url, "--silence", "60"]));
    let (_connection, _) = silent.accept().unwrap();
    let (code, said, written) = program.end_by("TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(String::from_utf8(written).unwrap().contains("\"reason\":\"stopped\""), "{said}");
}

#[test]
fn a_reader_that_comes_late_gets_whole_lines_and_the_losses_are_told() {
    let out = Outputs::new();
    let pipe = out.pipe("records");
    let program = Running::start(command([
        "--pipeline",
        &LIVE.replace("is-live=true", "is-live=true num-buffers=300"),
        "--json",
        pipe.to_str().unwrap(),
        "--report",
        out.path("page.html").to_str().unwrap(),
    ]));
    std::thread::sleep(Duration::from_secs(8));
    let seen = std::fs::read(&pipe).unwrap();
    let done = program.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let values: Vec<Value> = seen
        .split_inclusive(|b| *b == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let (first, last) = (&values[0], values.last().unwrap());
    assert_eq!((first["type"].as_str(), last["type"].as_str()), (Some("header"), Some("end")));
    let frames = values.iter().filter(|value| value["type"] == "frame").count() as u64;
    let dropped = last["sinks"][0]["dropped"].as_u64().unwrap();
    assert_eq!(last["sinks"][0]["name"], "records");
    assert!(dropped > 0);
    assert_eq!(frames + dropped, last["frames"]["processed"].as_u64().unwrap());
    assert!(done.stderr.contains(&format!("{dropped} frames came too fast for the records")));
}

#[test]
fn two_processes_do_not_write_one_output() {
    let out = Outputs::new();
    let (json, overlay) = (out.path("a.jsonl"), out.path("a.mkv"));
    let (page, meshes) = (out.path("a.html"), out.path("meshes"));
    let outputs = [("--json", &json), ("--overlay", &overlay), ("--report", &page)];
    let outputs: Vec<_> =
        outputs.into_iter().chain([("--mesh", &meshes), ("--volume-out", &meshes)]).collect();
    let given = outputs.iter().flat_map(|(flag, path)| [*flag, path.to_str().unwrap()]);
    let mut first = Running::start(command(["--pipeline", LIVE].into_iter().chain(given)));
    first.wait_until(|| size(&json) > 2000 && size(&overlay) > 2000);
    for (flag, path) in &outputs {
        let second =
            run(["--pipeline", "videotestsrc num-buffers=3", flag, path.to_str().unwrap()]);
        let sentence = second.failure(6);
        assert!(sentence.contains("another run is writing to it"), "{flag}: {sentence}");
        assert!(sentence.contains(path.to_str().unwrap()), "{flag}: {sentence}");
    }
    first.signal("TERM");
    let done = first.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    Records::read(&std::fs::read(&json).unwrap());
    // Devices are for everybody, and a file is free again.
    let again = run(["--pipeline", "videotestsrc num-buffers=3", "--json", json.to_str().unwrap()]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
}

#[test]
fn a_video_survives_a_kill_from_its_first_second_on() {
    let out = Outputs::new();
    let overlay = out.path("drawn.mp4");
    let mut program = Running::start(command([
        "--file",
        clip("single_face.mp4").to_str().unwrap(),
        "--realtime",
        "--overlay",
        overlay.to_str().unwrap(),
    ]));
    // A second fragment has begun, so the first, half a second long, is whole: however slow the machine is.
    let fragments = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(4).filter(|name| name == b"moof").count()
    };
    program.wait_until(|| fragments(&overlay) >= 2);
    program.signal("KILL");
    assert_eq!(program.finish().code, None);
    let frames = decoded(&overlay);
    let last = frames.last().expect("the first fragment can be played").pts;
    assert!(last > 0.3, "{} frames are left, the last of {last} s", frames.len());
}

#[test]
fn a_full_disk_ends_the_others_or_not_as_asked() {
    let out = Outputs::new();
    let full = out.path("full.mkv");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    for (how, all) in [("drop", true), ("end", false)] {
        let page = out.path("page.html");
        let done = run([
            "--pipeline",
            "videotestsrc num-buffers=400 ! video/x-raw,width=320,height=240,framerate=30/1",
            "--overlay",
            full.to_str().unwrap(),
            "--report",
            page.to_str().unwrap(),
            "--sink-failure",
            how,
        ]);
        let sentence = done.failure(6);
        assert!(sentence.contains("the disk is full"), "{sentence}");
        let seen = Records::read(&done.stdout);
        assert_eq!(seen.frames.len() == 400, all, "{how}: {}", seen.frames.len());
        assert_eq!(seen.end.reason == "end of stream", all, "{how}: {}", seen.end.reason);
        let [lost] = &seen.end.sinks[..] else { panic!("{:?}", seen.end.sinks) };
        assert_eq!(lost.name, "overlay");
        assert!(lost.failure.as_ref().unwrap().contains("the disk is full"));
        assert!(size(&page) > 1000, "the report is written");
    }
}

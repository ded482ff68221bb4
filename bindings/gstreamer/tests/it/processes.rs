//! The plugin in other processes: loaded from its file, as users load it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::common::{Running, media, portrait, root};

/// A folder with the plugin alone. Cargo has built it beside this test.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gst-plugin");
    std::fs::create_dir_all(&folder).unwrap();
    let built = std::env::current_exe().unwrap().with_file_name("libgstmmface.so");
    assert!(built.exists(), "{} is not there", built.display());
    let link = folder.join("libgstmmface.so");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(built, link).unwrap();
    folder
});

/// A command that finds the plugin by `GST_PLUGIN_PATH`, away from the checkout.
fn command(program: &str) -> Command {
    root();
    let mut command = Command::new(program);
    command
        .current_dir("/")
        .env("GST_PLUGIN_PATH", &*FOLDER)
        .env("GST_REGISTRY", FOLDER.join("registry.bin"));
    for name in ["MMFACE_ENGINES", "MMFACE_OPENVINO", "MMFACE_DETECTOR_MODEL", "GST_DEBUG"] {
        command.env_remove(name);
    }
    command
}

/// What a command writes to both of its outputs. It must succeed.
fn output(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

fn launch(description: &str) -> Command {
    let mut command = command("gst-launch-1.0");
    command.args(["-m", "-e"]).args(description.split_whitespace());
    command
}

#[test]
fn gst_inspect_shows_everything() {
    let mut inspect = command("gst-inspect-1.0");
    inspect.arg("mmface");
    let text = output(inspect);
    for part in ["engines", "faces", "smooth", "post-messages", "stats", "(2): medium", "GRAY8"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("CRITICAL") && !text.contains("WARNING"), "{text}");
}

#[test]
fn gst_launch_runs_it_and_nothing_leaks() {
    let mut launch = launch(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! tee name=t \
         t. ! queue ! mmface ! mmfaceoverlay ! fakesink t. ! queue ! mmface smooth=off ! fakesink",
        media("single_face.mp4")
    ));
    launch.envs([
        ("GST_TRACERS", "leaks"),
        ("GST_DEBUG", "GST_TRACER:7"),
        ("GST_DEBUG_NO_COLOR", "1"),
    ]);
    let text = output(launch);
    // A flush-less end: one record for each frame and element.
    let frames = text.matches("type=(string)frame").count();
    assert_eq!(frames, 2 * 72, "{text}");
    // The tracer also declares what its lines look like, with %s for the values.
    let is_leak = |line: &&str| line.contains("object-alive, type-name=") && !line.contains("%s");
    let alive: Vec<_> = text.lines().filter(is_leak).collect();
    assert!(alive.is_empty(), "{alive:#?}");
}

/// The example of `docs/gstreamer.md`.
const SCRIPT: &str = include_str!("appsink.py");

#[test]
fn the_example_in_the_documentation_is_the_one_that_is_tested() {
    assert!(include_str!("../../../../docs/gstreamer.md").contains(SCRIPT));
}

#[test]
fn python_reads_the_faces() {
    // The python3 of Debian, where its package of GStreamer's bindings is.
    let python = "/usr/bin/python3";
    let imports = ["-c", "import gi; gi.require_version('GstVideo', '1.0')"];
    if !Command::new(python).args(imports).output().is_ok_and(|o| o.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3-gi is missing: run `make setup`");
        eprintln!("left out: {python} has no python3-gi");
        return;
    }
    let mut script = command(python);
    script.args(["-c", SCRIPT, &media("single_face.mp4")]);
    let text = output(script);
    let lines: Vec<_> = text.lines().filter(|line| line.contains("face 1")).collect();
    assert!(lines.len() > 60, "{text}");
}

/// A line of `/proc/self/status`, in its unit.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

/// A thousand times to PLAYING and back in a process of its own, where nobody else allocates.
#[test]
fn a_thousand_state_changes_leave_nothing() {
    root();
    let this = std::env::current_exe().unwrap();
    let mut again = Command::new(this);
    again.args(["--exact", "processes::change_states", "--ignored", "--nocapture"]);
    // glibc gives new threads heaps of their own, up to eight for each core, and keeps them.
    again.env("MALLOC_ARENA_MAX", "2");
    output(again);
}

#[test]
#[ignore = "a_thousand_state_changes_leave_nothing runs it"]
fn change_states() {
    let source = portrait(1, "format=I420,width=160,height=120,pixel-aspect-ratio=1/1");
    let measuring = Running::new(&format!("{source} ! mmface ! mmfaceoverlay ! fakesink"));
    let empty = Running::new("appsrc is-live=true ! mmface ! mmfaceoverlay ! fakesink async=false");
    let cycle = |running: &Running| {
        running.pipeline.set_state(gst::State::Playing).unwrap();
        let limit = gst::ClockTime::from_seconds(60);
        let (changed, ..) = running.pipeline.state(limit);
        assert!(changed.is_ok(), "{changed:?}");
        running.pipeline.set_state(gst::State::Null).unwrap();
        running.no_error();
        running.bus.set_flushing(true);
        running.bus.set_flushing(false);
    };
    let round = || {
        (0..20).for_each(|_| cycle(&measuring));
        (0..180).for_each(|_| cycle(&empty));
        (status("VmRSS"), status("Threads"))
    };
    let rounds: Vec<_> = (0..5).map(|_| round()).collect();
    println!("{rounds:?}");
    let [_, (before, threads), .., (after, last)] = rounds[..] else { panic!("{rounds:?}") };
    assert!(after < before + 8 * 1024, "kB after each round: {rounds:?}");
    // GLib keeps some idle threads for a while.
    assert!(last < threads + 10, "threads after each round: {rounds:?}");
}

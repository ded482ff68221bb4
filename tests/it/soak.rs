//! Hours in minutes: several streams, one of which is lost again and again, and nothing may grow.
//! Run by `make soak MINUTES=60`.

use std::path::Path;
use std::time::{Duration, Instant};

use mmface::record::Record;

use crate::common::clip;
use crate::common::program::{Running, command};
use crate::common::rtsp::RtspServer;

/// How often the process is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// Growth of resident memory that is no leak: heaps of threads that came late, in megabytes.
const MAY_GROW: f64 = 24.0;
/// Threads and descriptors may differ by those of a connection that is just being made.
const MAY_DIFFER: f64 = 12.0;
/// How long the flickering server is up, and how long it is down.
const UP: Duration = Duration::from_secs(6);
const DOWN: Duration = Duration::from_secs(2);

/// A face that moves a little, 15 frames a second at 1280×720, as a `gst-launch` description.
fn face() -> String {
    format!(
        "filesrc location={} ! decodebin ! videoconvert ! videoscale add-borders=true \
         ! video/x-raw,format=I420,width=1280,height=720,pixel-aspect-ratio=1/1 \
         ! imagefreeze is-live=true ! video/x-raw,framerate=15/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=2000 \
         ! rtph264pay name=pay0 pt=96",
        clip("single_face.jpg").display()
    )
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    megabytes: f64,
    threads: f64,
    descriptors: f64,
}

impl Held {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
        Self {
            megabytes: number("VmRSS:") / 1024.0,
            threads: number("Threads:"),
            descriptors: descriptors.unwrap().count() as f64,
        }
    }
}

fn median(samples: &[Held], of: impl Fn(&Held) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "takes MINUTES (default 5): make soak"]
fn nothing_grows() {
    let minutes = std::env::var("MINUTES").ok().and_then(|m| m.parse().ok()).unwrap_or(5.0);
    let steady = RtspServer::start(&face(), 0, None);
    let mut flickering = Some(RtspServer::start(&face(), 0, None));
    let port = flickering.as_ref().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("streams.toml");
    let table =
        |name: &str, url: &str| format!("[[stream]]\nname = \"{name}\"\nrtsp = \"{url}\"\n");
    let text = (0..3).map(|i| table(&format!("steady{i}"), &steady.url(""))).collect::<String>()
        + &table("flickering", &format!("rtsp://127.0.0.1:{port}/live"));
    std::fs::write(&config, text).unwrap();
    let mut program = Running::start(command(["--config", config.to_str().unwrap()]));
    let mut all = std::collections::BTreeSet::new();
    program.read_until(|record| {
        if let Record::Frame(frame) = record {
            all.insert(frame.stream.clone());
        }
        all.len() == 4
    });
    let started = Instant::now();
    let length = Duration::from_secs_f64(60.0 * minutes);
    let (mut switched, mut looked) = (started, started);
    let mut samples = Vec::new();
    while started.elapsed() < length {
        program.read_until(|record| matches!(record, Record::Frame(_)));
        program.forget();
        match flickering.take() {
            Some(server) if switched.elapsed() > UP => {
                drop(server);
                switched = Instant::now();
            }
            None if switched.elapsed() > DOWN => {
                flickering = Some(RtspServer::start(&face(), port, None));
                switched = Instant::now();
            }
            same => flickering = same,
        }
        if looked.elapsed() > INTERVAL {
            looked = Instant::now();
            let held = Held::of(program.id());
            println!("{:5.0} s  {held:?}", started.elapsed().as_secs_f64());
            samples.push(held);
        }
    }
    program.signal("TERM");
    let done = program.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // The first quarter warms up; what the last quarter holds is held against the second.
    let quarter = samples.len() / 4;
    assert!(quarter > 3, "too short to tell");
    let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let grown = |of: fn(&Held) -> f64| median(late, of) - median(early, of);
    let megabytes = grown(|held| held.megabytes);
    println!("grown by {megabytes:.1} MB in half of {minutes} minutes");
    assert!(megabytes < MAY_GROW, "memory grew by {megabytes:.0} MB");
    assert!(grown(|held| held.threads).abs() < MAY_DIFFER, "threads");
    assert!(grown(|held| held.descriptors).abs() < MAY_DIFFER, "descriptors");
}

//! Fleets on real servers of NATS: several workers, and what becomes of them.

mod faults;
mod proxy;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::common::nats::{Server, Stored, check, wait};
use crate::common::program::{Running, command, run};

/// A lease that is short enough for tests.
const LEASE: &str = "2";

/// A fleet: its server's URL, and a folder for everything.
struct Fleet {
    url: String,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn new(url: String) -> Self {
        Self { url, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes these the wanted streams; returns what it said.
    fn apply(&self, text: &str) -> String {
        self.apply_with(text, &[])
    }

    fn apply_with(&self, text: &str, more: &[&str]) -> String {
        let path = self.path("cameras.toml");
        std::fs::write(&path, text).unwrap();
        self.ask(&[&["apply", path.to_str().unwrap(), "--lease", LEASE], more].concat())
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let done = run([&["fleet"], arguments, &["--nats", &self.url]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        String::from_utf8(done.stdout).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ask(&["status", "--json"])).unwrap()
    }

    /// The same while servers may be away.
    fn try_status(&self) -> Option<Value> {
        let done = run(["fleet", "status", "--json", "--nats", &self.url]);
        (done.code == Some(0)).then(|| serde_json::from_slice(&done.stdout).unwrap())
    }

    /// Each stream with its worker and its state.
    fn streams(&self) -> BTreeMap<String, (String, String)> {
        streams(&self.status())
    }

    /// Waits until all streams are up on these workers, and on each of them.
    fn wait_for_all_on(&self, workers: &[&str]) {
        wait(|| {
            let streams = streams(&self.try_status()?);
            let is_up = |(worker, state): &(String, String)| {
                state == "up" && workers.contains(&worker.as_str())
            };
            let used = |name: &&str| streams.values().any(|(worker, _)| worker == *name);
            (streams.values().all(is_up) && workers.iter().all(used)).then_some(())
        });
    }

    fn worker_at(&self, url: &str, name: &str) -> Running {
        Running::start(self.command(url, name))
    }

    fn worker(&self, name: &str) -> Running {
        self.worker_at(&self.url, name)
    }

    fn command(&self, url: &str, name: &str) -> Command {
        let spool = self.path(&format!("spool-{name}"));
        let arguments =
            ["worker", "--nats", url, "--name", name, "--capacity", "20", "--lease", LEASE];
        let mut command = command(arguments);
        command.args(["--device", "cpu", "--threads", "1", "--faces", "1", "--spool"]).arg(spool);
        command
    }
}

/// Each stream with its worker and its state.
fn streams(status: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of =
        |stream: &Value| (text(&stream["name"]), (text(&stream["worker"]), text(&stream["state"])));
    status["streams"].as_array().unwrap().iter().map(of).collect()
}

/// A live picture without faces, five times a second.
fn picture(name: &str) -> String {
    format!(
        "[[stream]]\nname = \"{name}\"\npipeline = \"videotestsrc is-live=true ! \
         video/x-raw,width=160,height=120,framerate=5/1\"\n"
    )
}

/// Checks the records of all runs, and that runs of a stream come one after the other: a run with a
/// higher number begins after the frames of those before.
fn check_runs(stored: &[Stored]) -> BTreeMap<(String, u64), usize> {
    let runs = check(stored);
    let mut begun = BTreeMap::<String, u64>::new();
    for one in stored.iter().filter(|one| one.record["type"] == "header") {
        let name = one.record["stream"].as_str().unwrap().to_owned();
        let before = begun.insert(name, one.revision);
        assert!(before.is_none_or(|before| before < one.revision), "{}", one.id);
    }
    runs
}

#[test]
fn streams_run_on_all_workers_and_go_on_when_one_dies_or_leaves() {
    let server = Server::start();
    let fleet = Fleet::new(server.url());
    let text: String = ["a.1", "b", "c", "d"].map(picture).concat();
    assert_eq!(fleet.apply(&text), "4 new, 0 changed, 0 removed, 0 as they were\n");
    assert_eq!(fleet.streams()["b"].1, "unowned");
    let one = fleet.worker("one");
    let two = fleet.worker("two");
    fleet.wait_for_all_on(&["one", "two"]);

    one.signal("KILL");
    fleet.wait_for_all_on(&["two"]);
    let three = fleet.worker("three");
    wait(|| (fleet.status()["workers"].as_array().unwrap().len() == 2).then_some(()));
    // It gives its streams away, and gets them back when the other leaves.
    fleet.ask(&["drain", "two"]);
    fleet.wait_for_all_on(&["three"]);
    fleet.ask(&["drain", "two", "--undo"]);
    three.signal("TERM");
    let done = three.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    fleet.wait_for_all_on(&["two"]);

    // Another list: one stream goes, one changes, one comes.
    let text: String = ["a.1", "b", "e"].map(picture).concat() + &picture("c") + "faces = 2\n";
    assert_eq!(fleet.apply(&text), "1 new, 1 changed, 1 removed, 2 as they were\n");
    fleet.wait_for_all_on(&["two"]);
    assert_eq!(fleet.streams().into_keys().collect::<Vec<_>>(), ["a.1", "b", "c", "e"]);
    two.signal("TERM");
    let done = two.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);

    let runs = check_runs(&server.stored("mmface.records.>"));
    let count = |name: &str| runs.keys().filter(|(stream, _)| stream == name).count();
    assert!(count("a.1") >= 3 && count("d") >= 3 && count("e") == 1, "{runs:?}");
    let status = fleet.status();
    assert_eq!(status["workers"].as_array().unwrap().len(), 0);
    assert_eq!(status["streams"][0]["reason"], "there is no worker");
}

#[test]
fn a_stream_that_fails_says_why_and_a_finished_one_is_not_started_again() {
    let server = Server::start();
    let fleet = Fleet::new(server.url());
    let clip = crate::common::clip("no_face.mp4");
    fleet.apply(&format!(
        "[[stream]]\nname = \"bad\"\nfile = \"/not/there.mp4\"\n\
         [[stream]]\nname = \"secret\"\nrtsp = \"rtsp://me:${{MMFACE_NOT_SET}}@127.0.0.1:1/x\"\n\
         [[stream]]\nname = \"clip\"\nfile = \"{}\"\n",
        clip.display()
    ));
    let worker = fleet.worker("one");
    let status = wait(|| {
        let status = fleet.status();
        let streams = status["streams"].as_array().unwrap();
        let states: Vec<_> = streams.iter().map(|s| s["state"].as_str().unwrap()).collect();
        (states == ["waiting", "ended", "waiting"]).then_some(status)
    });
    let reason = |at: usize| status["streams"][at]["reason"].as_str().unwrap().to_owned();
    assert!(reason(0).contains("/not/there.mp4"), "{}", reason(0));
    assert!(reason(2).contains("MMFACE_NOT_SET is not set on this worker"), "{}", reason(2));
    let table = fleet.ask(&["status"]);
    assert!(table.contains("one     3/20") || table.contains("2/20"), "{table}");
    assert!(table.contains("in a row"), "{table}");
    worker.signal("TERM");
    let done = worker.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let stored = server.stored("mmface.records.clip");
    assert_eq!(check(&stored).len(), 1);
    assert_eq!(stored.iter().filter(|one| one.record["type"] == "frame").count(), 96);

    let tail =
        ["tail", "mmface.records.clip", "--since", "1h", "--no-follow", "--nats", &fleet.url];
    let done = run(tail);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let lines = done.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert!(lines.iter().eq(stored.iter().map(|one| &one.record)));
}

#[test]
fn what_is_wrong_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    std::fs::write(&path, "[[stream]]\nname = \"a\"\nrtsp = \"rtsp://me:hush-hush@h/1\"\n")
        .unwrap();
    let path = path.to_str().unwrap();
    for (arguments, code, why) in [
        (&["fleet", "apply", path][..], 2, "the password of a stands in it"),
        (&["fleet", "status", "--nats", "nats://127.0.0.1:1"], 6, "cannot be reached"),
        (&["worker", "--capacity", "many"], 2, "--capacity many is no number"),
        (&["worker", "--rtsp", "rtsp://h/1"], 2, "a worker gets its streams from the fleet"),
        (&["tail", "--since", "yesterday"], 2, "write 90s, 15m, 1h, 2d or all"),
    ] {
        let done = run(arguments);
        let failure = done.failure(code);
        assert!(failure.contains(why) && !failure.contains("hush-hush"), "{failure}");
    }
}

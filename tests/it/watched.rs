//! Being watched: metrics, health, records over HTTP, systemd, Prometheus.

mod live;
mod page;
mod prometheus;
mod rude;
mod service;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::common::clip;
use crate::common::http::{Answer, get};
use crate::common::program::{Done, Running, command, shell};

/// A live picture that never ends, without faces.
const LIVE: &str =
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1";

/// A program with `--listen 0`, and its address.
struct Watched {
    running: Running,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Watched {
    /// Starts a run with these arguments.
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments, &[])
    }

    /// Starts streams with this configuration.
    fn configured(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streams.toml");
        std::fs::write(&path, text).unwrap();
        Self::start_in(folder, &["--config", path.to_str().unwrap()], &[])
    }

    fn start_in(
        folder: tempfile::TempDir,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let log = folder.path().join("log");
        let arguments = ["--listen", "0"].iter().chain(arguments);
        let mut shell = shell("exec \"$0\" \"$@\" 2>\"$LOG\"", &command(arguments));
        shell.env("LOG", &log).envs(environment.iter().copied());
        let mut running = Running::start(shell);
        running.wait_until(|| address(&log).is_some());
        Self { running, address: address(&log).unwrap(), folder }
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, path)
    }

    /// The value of a metric, with its labels as they stand on the page.
    fn metric(&self, name: &str) -> Option<f64> {
        metric(&self.get("/metrics").body, name)
    }

    /// Waits until this holds; the program must not end before.
    fn wait_until(&mut self, enough: impl Fn(SocketAddr) -> bool) {
        let address = self.address;
        self.running.wait_until(|| enough(address));
    }

    /// Changes the configuration and makes the program read it.
    fn reconfigure(&self, text: &str) {
        std::fs::write(self.folder.path().join("streams.toml"), text).unwrap();
        self.running.signal("HUP");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits for the end.
    fn finish(self) -> Done {
        let done = self.running.finish();
        let stderr = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        assert!(!stderr.contains("panic"), "{stderr}");
        Done { stderr, ..done }
    }

    /// Ends the program with a signal.
    fn end(self) -> Done {
        self.running.signal("TERM");
        self.finish()
    }
}

/// The address in a log.
fn address(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    text.split_once("listening on http://")?.1.split_once('/')?.0.parse().ok()
}

/// The value of a metric on a page.
fn metric(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// A `[[stream]]` table.
fn table(name: &str, lines: &str) -> String {
    format!("[[stream]]\nname = \"{name}\"\n{lines}\n")
}

/// A `[[stream]]` table of a live picture that never ends.
fn camera(name: &str, lines: &str) -> String {
    table(name, &format!("pipeline = \"{LIVE}\"\n{lines}"))
}

/// A `[[stream]]` table of a clip with a face, as fast as the machine can.
fn talk(name: &str, lines: &str) -> String {
    table(name, &format!("file = \"{}\"\n{lines}", clip("single_face.mp4").display()))
}

/// A file of Prometheus's.
fn prometheus_program(name: &str) -> PathBuf {
    let unpacked = crate::common::root().join("vendor/prometheus/usr/bin").join(name);
    if unpacked.exists() { unpacked } else { name.into() }
}

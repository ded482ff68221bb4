//! systemd: notifications, and a unit that works after `make install`.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mmface::record::Record;

use super::{Watched, camera};
#[cfg(feature = "fleet")]
use crate::common::program::{Running, command};
use crate::common::root;

/// No message takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays the service manager.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// With the socket on which it listens.
    fn new(socket: &Path) -> Self {
        let socket = UnixDatagram::bind(socket).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// As [`hear`](Self::hear), but what was heard already counts too.
    fn hear_ever(&mut self, beginning: &str) -> String {
        let known = self.heard.iter().find(|message| message.starts_with(beginning)).cloned();
        known.unwrap_or_else(|| self.hear(beginning))
    }

    /// Waits for a message that begins like this; what comes before it is heard too.
    fn hear(&mut self, beginning: &str) -> String {
        let mut bytes = [0; 4096];
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no {beginning} came, but {:?}", self.heard);
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|e| {
                panic!("no {beginning} came ({e}), but {:?}", self.heard);
            });
            let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.heard.push(message.clone());
            if message.starts_with(beginning) {
                return message;
            }
        }
    }
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let mut manager = Manager::new(&socket);
    let config = folder.path().join("streams.toml");
    std::fs::write(&config, camera("door", "")).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut watched =
        Watched::start_in(folder, &["--config", config.to_str().unwrap()], &environment);
    manager.hear("READY=1");
    watched.running.read_until(|record| matches!(record, Record::Frame(_)));
    assert_eq!(watched.get("/readyz").status, 200, "it was ready when it said so");
    manager.hear_ever("STATUS=the stream is up\n");
    manager.hear("WATCHDOG=1");
    manager.hear("WATCHDOG=1");

    // Nobody listens on a port that was just given back.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead =
        format!("[[stream]]\nname = \"dead\"\nrtsp = \"rtsp://me:s3cret@127.0.0.1:{nobody}/\"\n");
    watched.reconfigure(&(camera("door", "") + &dead));
    let reloading = manager.hear("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hear("READY=1");
    // It may come before the list is said to hold.
    let status = manager.hear_ever("STATUS=1 of 2 streams are up; dead: down");
    assert!(status.contains("cannot be reached") && status.matches('\n').count() == 1, "{status}");
    // A camera that is away is no reason to be restarted.
    manager.hear("WATCHDOG=1");
    watched.reconfigure("nonsense");
    manager.hear("RELOADING=1");
    manager.hear("READY=1");
    watched.running.signal("TERM");
    manager.hear("STOPPING=1");
    watched.finish();
    let said = manager.heard.concat();
    assert!(!said.contains("s3cret"), "{said}");
    assert!(said.find("WATCHDOG=1").is_some() && said.matches("STOPPING=1").count() == 1, "{said}");
}

/// A process that is stopped makes no progress, and does not say that it does.
#[test]
fn a_process_that_stands_still_is_not_alive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::new(&path);
    let config = folder.path().join("streams.toml");
    std::fs::write(&config, camera("door", "")).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let watched = Watched::start_in(folder, &["--config", config.to_str().unwrap()], &environment);
    manager.hear("READY=1");
    watched.running.signal("STOP");
    // What was sent before the signal may still wait.
    manager.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut bytes = [0; 4096];
    while manager.socket.recv(&mut bytes).is_ok() {}
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    watched.running.signal("CONT");
    manager.hear("WATCHDOG=1");
    watched.end();
}

/// A worker waits for its servers as other services wait for their cameras.
#[cfg(feature = "fleet")]
#[test]
fn a_worker_whose_servers_are_away_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let mut manager = Manager::new(&socket);
    // Nobody listens on a port that was just given back.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut worker = command(["worker", "--nats", &format!("nats://{nobody}")]);
    worker.env("NOTIFY_SOCKET", &socket);
    let worker = Running::start(worker);
    manager.hear("READY=1");
    worker.signal("TERM");
    manager.hear("STOPPING=1");
    worker.finish();
}

#[test]
fn the_installed_unit_is_one_that_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("usr");
    let done = Command::new("make")
        .current_dir(root())
        .arg("install")
        .arg(format!("PREFIX={}", prefix.display()))
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_mmface-live")))
        .arg("PLUGIN=")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let unit = prefix.join("lib/systemd/system/mmface-live.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    let program = prefix.join("bin/mmface-live");
    assert!(
        text.contains(&format!("ExecStart={} --wait forever --config", program.display())),
        "{text}"
    );
    assert!(!text.contains("@PREFIX@"), "{text}");
    let manual = text.lines().find_map(|line| line.strip_prefix("Documentation=file:")).unwrap();
    assert!(std::path::Path::new(manual).exists(), "{manual}");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let verified = verified.expect("systemd-analyze of Debian's package systemd: run `make setup`");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
    for file in ["alerts.yml", "dashboard.json"] {
        assert!(prefix.join("share/mmface-live/service").join(file).exists(), "{file}");
    }
}

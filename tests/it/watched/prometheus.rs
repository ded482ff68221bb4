//! A real Prometheus scrapes the program, and checks the alert rules.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use mmface::record::{End, Record};
use serde_json::Value;

use super::{Watched, camera, prometheus_program, talk};
use crate::common::http::get;
use crate::common::root;

/// A Prometheus that scrapes one program twice a second. Dropping it kills it.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = root().join("scripts/service/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: mmface\n    static_configs: [{{targets: [\"{target}\"]}}]\n",
            rules.display().to_string()
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        // It cannot choose a port by itself; one that was just given back is free.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(prometheus_program("prometheus"))
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus: run `make setup-test`");
        Self { process, address, _folder: folder }
    }

    /// Whether it answers.
    fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(self.address).is_ok()
            && get(self.address, "/-/ready").status == 200
    }

    /// The only value of a query, if there is one.
    fn value(&self, query: &str) -> Option<f64> {
        let escaped: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={escaped}")).json();
        let results: &Vec<Value> = answer["data"]["result"].as_array()?;
        results.first()?["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn prometheus_has_the_numbers_of_the_end_record() {
    let mut watched = Watched::configured(&(talk("talk", "") + &camera("door", "")));
    let prometheus = Prometheus::start(watched.address);
    watched.wait_until(|_| prometheus.is_ready());
    let mut ended: Option<End> = None;
    watched.running.read_until(|record| match record {
        Record::End(end) if end.stream == "talk" => {
            ended = Some(end.clone());
            true
        }
        _ => false,
    });
    let end = ended.unwrap();
    watched.wait_until(|_| prometheus.value("up{job=\"mmface\"}") == Some(1.0));
    // A scrape after the end.
    watched.wait_until(|_| prometheus.value("mmface_stream_ended{stream=\"talk\"}") == Some(1.0));
    let value = |name: &str| prometheus.value(&format!("{name}{{job=\"mmface\",stream=\"talk\"}}"));
    assert_eq!(value("mmface_frames_decoded_total"), Some(end.frames.decoded as f64));
    assert_eq!(value("mmface_frames_processed_total"), Some(end.frames.processed as f64));
    assert_eq!(value("mmface_face_ids_total"), Some(end.faces as f64));
    assert_eq!(value("mmface_reconnects_total"), Some(end.reconnects.into()));
    assert_eq!(value("mmface_stream_up"), Some(0.0));
    let count = value("mmface_capture_to_record_seconds_count");
    assert_eq!(count, Some(end.frames.processed as f64));
    let all = "mmface_capture_to_record_seconds_bucket{stream=\"talk\",le=\"+Inf\"}";
    assert_eq!(prometheus.value(all), count);
    let busy = "mmface_frames_dropped_total{stream=\"talk\",cause=\"busy\"}";
    assert_eq!(prometheus.value(busy), Some(end.frames.dropped.busy as f64));
    // The rules of the alerts run on these names.
    assert_eq!(prometheus.value("mmface_stream_up{stream=\"door\"}"), Some(1.0));
    assert_eq!(prometheus.value("count(ALERTS{alertname=\"MmfaceStreamDown\"})"), None);
    let version = format!("mmface_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(prometheus.value(&version), Some(1.0));
    watched.end();
}

#[test]
fn the_alerts_fire_when_they_should() {
    for arguments in [
        ["check", "rules", "scripts/service/alerts.yml"],
        ["test", "rules", "tests/data/alerts_test.yml"],
    ] {
        let done = Command::new(prometheus_program("promtool"))
            .args(arguments)
            .current_dir(root())
            .output()
            .expect("promtool: run `make setup-test`");
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

//! A real server of NATS, and a reader of what it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures_util::StreamExt;
use serde_json::Value;

use super::program::SCHEMA;

/// No answer of a test takes so long; whatever does hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// The server's program.
pub fn program() -> PathBuf {
    let unpacked = super::root().join("vendor/nats/nats-server");
    if unpacked.exists() { unpacked } else { "nats-server".into() }
}

/// A server with JetStream on loopback. Dropping it kills it.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    more: Vec<String>,
}

impl Server {
    /// Starts a server at any port that is free.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let more: Vec<_> = more.iter().map(|text| (*text).to_owned()).collect();
        let child = spawn(folder.path(), 0, &more);
        let ports = folder.path().join(format!("nats-server_{}.ports", child.id()));
        let port = wait(|| {
            let text = std::fs::read(&ports).ok()?;
            let ports: Value = serde_json::from_slice(&text).ok()?;
            ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        });
        Self { child, folder, port, more }
    }

    /// Three servers that are one.
    pub fn cluster() -> Vec<Self> {
        // Each has to know the others' ports; those that were just given back are free.
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let free: Vec<_> = (0..3).map(|_| free()).collect();
        let urls: Vec<_> =
            free.iter().map(|one| format!("nats://{}", one.local_addr().unwrap())).collect();
        drop(free);
        let routes = urls.join(",");
        let start = |(n, url): (usize, &String)| {
            let name = format!("server-{n}");
            let of_cluster = ["--cluster_name", "test", "--cluster", url, "--routes", &routes];
            Self::start_with(&[&["-n", &name][..], &of_cluster].concat())
        };
        let servers: Vec<_> = urls.iter().enumerate().map(start).collect();
        // JetStream needs a leader before it takes anything.
        wait(|| {
            block_on(async {
                let client = async_nats::connect(servers[0].url()).await.ok()?;
                async_nats::jetstream::new(client).query_account().await.ok()
            })
        });
        servers
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a power failure does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port, with what it kept.
    pub fn again(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &self.more);
        wait(|| std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// What it keeps of a subject, in its order.
    pub fn stored(&self, subject: &str) -> Vec<Stored> {
        read(&self.url(), subject)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: u16, more: &[String]) -> Child {
    let port = if port == 0 { "-1".into() } else { port.to_string() };
    Command::new(program())
        .args(["-js", "-a", "127.0.0.1", "-p", &port, "-l"])
        .arg(folder.join("log"))
        .arg("-sd")
        .arg(folder.join("store"))
        .arg("--ports_file_dir")
        .arg(folder)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server: run `make setup-test`")
}

/// Waits until there is something.
pub fn wait<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(what) = what() {
            return what;
        }
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A record as it is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    pub id: String,
    pub revision: u64,
    /// Its place within its run; none for those that tell of losses.
    pub sequence: Option<u64>,
    pub record: Value,
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("it hangs") })
}

/// Everything that a server keeps of a subject.
pub fn read(url: &str, subject: &str) -> Vec<Stored> {
    block_on(async {
        let client = async_nats::connect(url).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let Ok(stream) = jetstream.get_stream("MMFACE").await else { return Vec::new() };
        let config = pull::OrderedConfig {
            filter_subject: subject.into(),
            deliver_policy: DeliverPolicy::All,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.unwrap();
        let mut left = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.unwrap();
        let mut all = Vec::new();
        while left > 0 {
            let message = messages.next().await.unwrap().unwrap();
            let headers = message.headers.as_ref().unwrap();
            let number = |name: &str| headers.get(name).and_then(|n| n.as_str().parse().ok());
            let record: Value = serde_json::from_slice(&message.payload).unwrap();
            if let Err(error) = SCHEMA.validate(&record) {
                panic!("{error}: {record}");
            }
            all.push(Stored {
                id: headers.get("Nats-Msg-Id").unwrap().to_string(),
                revision: number("Mmface-Revision").unwrap(),
                sequence: number("Mmface-Sequence"),
                record,
            });
            left = message.info().unwrap().pending;
        }
        all
    })
}

/// Checks the records of every run: each is there once, and of those from the first to the last
/// none is missing but those that are told to be lost. Returns the runs.
pub fn check(stored: &[Stored]) -> BTreeMap<(String, u64), usize> {
    let mut runs = BTreeMap::<(String, u64), (Vec<u64>, u64)>::new();
    let mut ids = BTreeSet::new();
    for one in stored {
        assert!(ids.insert(&one.id), "{} is there twice", one.id);
        let stream = one.record["stream"].as_str().unwrap().to_owned();
        let run = runs.entry((stream, one.revision)).or_default();
        run.0.extend(one.sequence);
        if one.record["type"] == "lost" {
            run.1 += one.record["records"].as_u64().unwrap();
        }
        if one.record["type"] == "frame" {
            assert!(one.id.ends_with(&format!("/{}/{}", one.revision, one.record["frame"])));
        }
    }
    let counted = runs.into_iter().map(|(run, (mut sequences, lost))| {
        sequences.sort_unstable();
        let all = sequences.last().map_or(0, |last| last + 1);
        assert_eq!(sequences.len() as u64 + lost, all, "{run:?}: {sequences:?}");
        (run, sequences.len())
    });
    counted.collect()
}

//! What several tests need.

pub mod http;
pub mod media;
#[cfg(feature = "fleet")]
pub mod nats;
pub mod program;
pub mod rtsp;
pub mod seen;
pub mod vts;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mmface::Models;
use mmface_live::counters::Counters;
use mmface_live::frame::Frame;
use mmface_live::source::{Input, Options, Source};

/// A clip or picture that the set-up unpacked.
pub fn clip(name: &str) -> PathBuf {
    let path = root().join("vendor/media").join(name);
    assert!(path.exists(), "{} is not there: run `make setup`", path.display());
    path
}

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Certificate and key of a server on loopback, which nobody trusts by himself.
pub fn certificate() -> [PathBuf; 2] {
    ["certificate.pem", "key.pem"].map(|name| root().join("tests/data/tls").join(name))
}

/// The models that ship.
pub fn models() -> Models {
    Models::open(&root().join("engines")).unwrap()
}

/// No clip of a test is so long that it takes longer to decode; whatever does hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// All frames of a file.
pub fn decoded(path: &Path) -> Vec<Frame> {
    let options = Options::new(Input::File(path.into()));
    let source = Source::open(options, Arc::new(Counters::default())).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let mut frames = Vec::new();
    loop {
        match source.frames.recv_deadline(deadline) {
            Ok(frame) => frames.push(frame),
            Err(e) if e.is_disconnected() => return frames,
            Err(_) => panic!("{} does not end", path.display()),
        }
    }
}

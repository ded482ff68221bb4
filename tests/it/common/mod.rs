//! What several tests need.

pub mod media;
pub mod program;
pub mod rtsp;

use std::path::{Path, PathBuf};

use mmface_live::nets::Engines;

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

/// The engines that ship.
pub fn engines() -> Engines {
    Engines::open(&root().join("engines")).unwrap()
}

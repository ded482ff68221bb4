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

/// Whether the networks have learnt what a face is. Tests that need it fail where they have not,
/// unless `MMFACE_ALLOW_UNTRAINED` is set.
pub fn needs_trained() -> bool {
    let trained = engines().variant("mmface-lite").unwrap().trained;
    let allowed = std::env::var_os("MMFACE_ALLOW_UNTRAINED").is_some();
    assert!(trained || allowed, "the networks in engines/ are untrained");
    if !trained {
        println!("skipped: the networks in engines/ are untrained");
    }
    trained
}

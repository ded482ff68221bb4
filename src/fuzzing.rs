//! What readers guarantee for any input. The fuzz targets of `tests/fuzz` and the test that replays
//! their corpus call these functions, which panic if a guarantee is broken. Not part of the public
//! interface.

use std::path::Path;

use crate::cli::{self, Config};
pub use crate::eval::fuzzing::{label_lines, matlab, obj};
use crate::sink::report::Digest;
pub use crate::source::fuzzing::picture;

/// A configuration file: accepted settings are within range.
///
/// # Panics
/// If a guarantee is broken.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(args) = cli::config::parse(text, Path::new("fuzzed.toml")) else { return };
    let Ok(Config { runtime, run, .. }) = Config::new(args) else { return };
    assert!(runtime.threads.is_none_or(|threads| (1..=1024).contains(&threads)));
    assert!(run.volumes.is_none_or(|volumes| (16..=256).contains(&volumes.resolution)));
    assert!((1..=64).contains(&run.tracker.faces));
    assert!(run.tracker.detect_size.is_none_or(|size| (64..=4096).contains(&size)));
    assert!((0.05..=3600.0).contains(&run.tracker.detect_every));
    assert!((0.0..=86_400.0).contains(&run.tracker.reidentify));
    assert!((0.5..=3600.0).contains(&run.source.silence.as_secs_f64()));
    assert!(run.source.rtsp_latency_ms <= 60_000);
    assert!(!run.sinks.is_empty());
}

/// Records of a run as `view` reads them: faces have as many coefficients as the header says.
///
/// # Panics
/// If a guarantee is broken.
pub fn records(bytes: &[u8]) {
    let mut digest = Digest::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Some(record)) = mmface::record::parse(line) else { continue };
        let _ = digest.add(&record);
    }
    let Some(header) = &digest.header else {
        assert!(digest.frames == 0 && digest.tracks.is_empty());
        return;
    };
    assert!(digest.main.iter().all(|&k| k < header.face_model.expressions.len()));
    for track in digest.tracks.values() {
        assert_eq!(track.identity.len(), header.face_model.identity);
        assert!(track.first <= track.last);
    }
}

//! What a user of the program sees, with real media.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing of a test is reachable")]

mod avatars;
mod common;
mod endings;
mod engines;
mod evaluation;
mod faces;
mod failures;
mod files;
#[cfg(feature = "fleet")]
mod fleet;
mod fuzz_corpus;
mod gaze;
mod idle;
mod ids;
mod live;
mod manifests;
mod manual;
mod meshes;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "fleet")]
mod nats;
mod paper;
mod records;
mod report;
mod rtsp_faults;
mod runs;
mod sinks;
mod soak;
mod source;
mod streams;
mod tables;
mod vts;
mod watched;

//! What a user of the program sees, with real media.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing of a test is reachable")]

mod common;
mod endings;
mod engines;
mod evaluation;
mod faces;
mod failures;
mod fuzz_corpus;
mod ids;
mod live;
mod manifests;
mod meshes;
mod paper;
mod records;
mod report;
mod runs;
mod sinks;
mod source;
mod streams;

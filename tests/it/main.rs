//! What a user of the library and of the program sees, with real media.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod engines;
mod evaluation;
mod faces;
mod failures;
mod gpu;
mod kernel;
mod live;
mod meshes;
mod networks;
mod paper;
mod records;
mod report;
mod sinks;
mod slots;
mod source;

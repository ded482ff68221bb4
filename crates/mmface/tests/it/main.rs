//! What a user of the library sees, with real media, networks and libraries.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing of a test is reachable")]

mod common;
mod detectors;
#[cfg(feature = "cuda")]
mod engines;
mod expressions;
mod gpu;
mod kernel;
mod layouts;
mod networks;
mod paper;
mod perspective;
mod slots;
mod trackers;

//! The elements in harnesses, in pipelines of this process, and in other processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing of a test is reachable")]

mod common;
mod element;
mod overlay;
mod pipelines;
mod processes;

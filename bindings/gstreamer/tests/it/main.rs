//! The elements in harnesses, in pipelines of this process, and in other processes.

#![allow(unreachable_pub, reason = "nothing of a test is reachable")]

mod common;
mod element;
mod overlay;
mod pipelines;
mod processes;

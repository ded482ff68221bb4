//! `mmface-live`: parameters of a 3D morphable face model from cameras, RTSP streams and files.
//!
//! The engine is the crate `mmface`. Here is what brings frames to it and takes faces from it. Data flows
//! one way: [`source`] → [`run`] (a tracker of `mmface`) → [`sink`]s. Each module knows only those below
//! it: [`cli`] makes a run of flags, [`eval`] judges a run, [`run`] wires sources, tracker and sinks.

pub mod cli;
pub mod counters;
mod error;
pub mod eval;
pub mod frame;
mod histogram;
pub mod run;
pub mod sink;
pub mod source;
#[cfg(test)]
mod testing;

pub use error::{Error, Result};

//! `mmface-live`: parameters of a 3D morphable face model from cameras, RTSP streams and files.
//!
//! The library `mmface` finds and fits faces; this crate provides frames and handles the results.
//! Data flows one way: [`source`] → [`run`] (a tracker of `mmface`) → [`sink`]s. [`run`] connects
//! source, tracker and sinks; [`cli`] turns flags into a run; [`eval`] evaluates a run against
//! labels.

pub mod cli;
pub mod counters;
#[doc(hidden)]
pub mod ending;
mod error;
pub mod eval;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod histogram;
pub mod run;
pub mod sink;
pub mod source;
#[cfg(test)]
mod testing;

pub use error::{Error, Result};

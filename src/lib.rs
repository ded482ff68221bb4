//! `mmface-live`: parameters of a 3D morphable face model from cameras, RTSP streams and files.
//!
//! The library `mmface` finds and fits faces; this crate provides frames and handles the results.
//! Data flows one way: [`source`] → [`run`] (a tracker of `mmface`) → [`sink`]s. [`run`] connects
//! source, tracker and sinks; [`cli`] turns flags into a run; [`eval`] evaluates a run against
//! labels; [`watch`] tells others how the streams are doing.

pub mod board;
pub mod cli;
mod cores;
pub mod counters;
#[doc(hidden)]
pub mod ending;
mod error;
pub mod eval;
#[cfg(feature = "fleet")]
pub mod fleet;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod histogram;
pub mod lens;
#[cfg(feature = "fleet")]
pub mod nats;
pub mod neutral;
mod packed;
mod place;
pub mod run;
mod secrets;
pub mod sink;
pub mod source;
pub mod status;
#[cfg(test)]
mod testing;
pub mod watch;

pub use error::{Error, Result};

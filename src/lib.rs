//! Real-time parameters of a 3D morphable face model from cameras, RTSP streams and files.
//!
//! Data flows one way: [`source`] → [`track`] → [`nets`] → [`face`] → [`smooth`] → [`sink`]s. Each
//! module knows only the types of those below it; [`pipeline`] wires them.

pub mod cli;
pub mod config;
pub mod crop;
pub mod detect;
pub mod error;
pub mod eval;
pub mod face;
pub mod frame;
mod locate;
pub mod mesh;
mod metrics;
pub mod nets;
pub mod pipeline;
pub mod record;
pub mod sink;
pub mod smooth;
pub mod source;
pub mod track;
pub mod volume;

pub use error::{Error, Result};

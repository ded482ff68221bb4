//! What several tests need.

pub mod media;
pub mod rtsp;

//! Where results go.

pub mod json;
pub mod overlay;
pub mod report;

//! Where results go.

pub mod json;
pub mod overlay;

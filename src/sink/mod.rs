//! Where results go.

pub mod overlay;

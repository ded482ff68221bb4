//! The 3D morphable face model: parameters, rotation, mesh, landmarks.

mod camera;
mod eyes;
mod model;
mod params;
pub mod rotation;

pub use camera::{Camera, CameraPose};
pub use eyes::{CORNERS, Eye};
pub(crate) use model::LandmarkShapes;
pub use model::{FaceModel, LANDMARKS};
pub use params::Params;

#[cfg(test)]
mod tests;

//! Fits the parameters of a 3D morphable face model to images: pixels and a timestamp in, faces
//! out.
//!
//! ```
//! use mmface::{Device, Image, Models, Runtime, TrackerOptions};
//!
//! # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).expect("the checkout");
//! # let (bytes, pts) = (vec![0; 640 * 480 * 3], 0.0);
//! let models = Models::open("engines".as_ref())?;
//! let runtime = Runtime::builder(models).device(Device::Auto).threads(2).build()?;
//! let mut tracker = runtime.tracker(TrackerOptions::default())?; // one for each stream
//! let image = Image::rgb(640, 480, &bytes)?;
//! for face in tracker.process(&image, pts)?.faces {
//!     println!("{}: {:?}", face.id, mmface::face::rotation::to_angles(&face.params.rotation));
//! }
//! # Ok::<(), mmface::Error>(())
//! ```
//!
//! A [`Runtime`] holds what all streams share (networks, detector, face model); a [`Tracker`]
//! follows the faces of one stream. Data flows one way: [`image`] → [`detect`], [`crop`] →
//! [`backend`] → tracks → [`gaze`], [`smooth`] → [`Face`]. For axes and signs see `docs/conventions.md` in
//! the repository.

pub mod backend;
pub mod bounds;
pub mod crop;
pub mod detect;
mod error;
pub mod face;
#[doc(hidden)]
pub mod fuzzing;
pub mod gaze;
pub mod image;
pub mod limited;
pub mod locate;
pub mod mesh;
pub mod models;
pub mod record;
mod runtime;
pub mod smooth;
#[cfg(test)]
mod testing;
mod track;
mod tracker;
pub mod volume;

pub use backend::{Device, Precision};
pub use error::{Error, Result};
pub use image::Image;
pub use models::Models;
pub use runtime::{Runtime, RuntimeBuilder};
pub use tracker::{
    Crowd, Face, Fitter, FrameResult, Mode, Observation, Observer, Shows, Tracker, TrackerOptions,
};

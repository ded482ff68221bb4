//! Face detectors: OpenCV behind one trait.

mod centerface;
mod haar;
mod picture;
mod worker;

use std::path::Path;

pub use worker::{Answer, Worker};

use crate::frame::Image;
use crate::{Error, Result, locate};

/// A face as a detector sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// [x, y, width, height], frame pixels.
    pub bounds: [f32; 4],
    /// How sure the detector is, 0…1.
    pub score: f32,
    /// How far the head is tilted (radians, clockwise as seen); 0 where the detector cannot tell.
    pub angle: f32,
}

/// Finds faces in a picture.
pub trait Detector: Send {
    /// The faces, surest first, none twice.
    ///
    /// # Errors
    /// [`Error::Device`] if OpenCV fails.
    fn detect(&mut self, image: &Image) -> Result<Vec<Detection>>;
}

/// Which detector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A network (CenterFace) that finds turned, tilted and small faces.
    #[default]
    Centerface,
    /// OpenCV's Haar cascade: upright frontal faces only, for machines without the network's file.
    Haar,
}

impl Kind {
    /// Its name in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Centerface => "centerface",
            Self::Haar => "haar",
        }
    }
}

/// Opens a detector that looks at pictures scaled down to at most `size` pixels a side (by default a
/// third of the frame's longer side, within 512 and 960: a face of 40 pixels in 1080p is still one
/// of 13, and a detection in 720p does not cost more than two frames);
/// `model` names its file where it is not in its usual place.
///
/// # Errors
/// [`Error::Engine`] if its file is missing or OpenCV cannot read it.
pub fn open(kind: Kind, model: Option<&Path>, size: Option<u32>) -> Result<Box<dyn Detector>> {
    Ok(match kind {
        Kind::Centerface => {
            let names =
                ["share/mmface-live/models/centerface.onnx", "vendor/models/centerface.onnx"];
            let cure =
                "run `make setup`, name the file with --detector-model, or use --detector haar";
            Box::new(centerface::CenterFace::open(
                &locate::find(model, "MMFACE_DETECTOR_MODEL", &names, cure)?,
                size,
            )?)
        }
        Kind::Haar => {
            let names = [
                "share/opencv4/haarcascades/haarcascade_frontalface_default.xml",
                "/usr/share/opencv4/haarcascades/haarcascade_frontalface_default.xml",
            ];
            let cure = "install the package opencv-data or name the file with --detector-model";
            let path = locate::find(model, "MMFACE_DETECTOR_MODEL", &names, cure)?;
            Box::new(haar::Haar::open(&path, size)?)
        }
    })
}

/// OpenCV's version.
#[must_use]
pub fn version() -> String {
    opencv::core::get_version_string().unwrap_or_else(|_| "unknown version".into())
}

/// Intersection over union of two boxes [x, y, w, h].
#[must_use]
pub fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |k: usize| (a[k] + a[k + 2]).min(b[k] + b[k + 2]) - a[k].max(b[k]);
    let shared = side(0).max(0.0) * side(1).max(0.0);
    let union = a[2] * a[3] + b[2] * b[3] - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

/// Keeps the surest of those that overlap by more than `limit`.
fn without_doubles(mut found: Vec<Detection>, limit: f32) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for one in found {
        if kept.iter().all(|k| overlap(k.bounds, one.bounds) <= limit) {
            kept.push(one);
        }
    }
    kept
}

fn failed(error: &opencv::Error) -> Error {
    Error::Device(format!("OpenCV failed at detecting faces: {}", error.message.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_shared_by_joint_area() {
        assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]), 2.0 / 6.0);
        assert_eq!(overlap([0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]), 0.0);
        assert_eq!(overlap([0.0; 4], [0.0; 4]), 0.0);
    }

    #[test]
    fn of_doubles_the_surest_stays() {
        let at = |x: f32, score| Detection { bounds: [x, 0.0, 10.0, 10.0], score, angle: 0.0 };
        let kept = without_doubles(vec![at(0.0, 0.6), at(1.0, 0.9), at(50.0, 0.5)], 0.3);
        assert_eq!(kept.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.5]);
    }
}

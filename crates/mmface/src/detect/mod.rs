//! Face detection: a common trait for the detectors, and one thread that serves all streams.
//!
//! A detector works on a small copy of the image, a [`Canvas`]. The copy is made during the call
//! that passes the image, so the image need not outlive that call.

mod canvas;
mod centerface;
#[cfg(feature = "opencv")]
mod opencv;
mod openvino;
mod service;

use std::path::Path;

pub use canvas::{Canvas, Scaling};
#[cfg(feature = "opencv")]
pub use opencv::version as opencv_version;
pub(crate) use service::{Client, Service};

use crate::backend::library;
use crate::bounds::{intersection, iou};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::limited::read_limited;
use crate::locate;

/// A detected face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Box [x, y, width, height]: pixels of the image, or of the canvas where [`Detector`] says so.
    pub bounds: [f32; 4],
    /// Confidence, 0…1.
    pub score: f32,
    /// Tilt of the head in the image plane: radians, clockwise as seen; 0 if the detector does not
    /// measure it.
    pub angle: f32,
}

/// A face detector.
pub trait Detector: Send {
    /// Finds the faces on a canvas, after non-max suppression, highest score first. Boxes are in
    /// canvas pixels, measured from the canvas's corner.
    ///
    /// # Errors
    /// [`Error::Device`] if the library that runs the detector fails.
    fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>>;
}

/// Scales an image onto a canvas; each detector's library has its own function for this.
pub type Prepare = fn(&Image, Scaling) -> Result<Canvas>;

/// A detector, ready for use.
pub struct Opened {
    /// The detector.
    pub detector: Box<dyn Detector>,
    /// Makes its canvases.
    pub prepare: Prepare,
}

impl Opened {
    /// Finds the faces in an image, whose longer side is scaled to at most `size` pixels (see
    /// [`Scaling::new`]). Boxes are in pixels of the image.
    ///
    /// # Errors
    /// [`Error::Image`] for an image whose planes are too short, [`Error::Device`] if scaling or
    /// the detector fails.
    pub fn detect(&mut self, image: &Image, size: Option<u32>) -> Result<Vec<Detection>> {
        let canvas = (self.prepare)(image, Scaling::new(image.width, image.height, size))?;
        let found = self.detector.detect(&canvas)?;
        Ok(canvas.scaling.to_image(found))
    }
}

/// The available detectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CenterFace, run by OpenCV: finds rotated, tilted and small faces.
    #[cfg(feature = "opencv")]
    CenterFaceOpenCv,
    /// CenterFace, run by OpenVINO like the other networks.
    CenterFaceOpenVino,
    /// OpenCV's Haar cascade: finds upright frontal faces only; for machines without CenterFace's
    /// file.
    #[cfg(feature = "opencv")]
    Haar,
}

impl Default for Kind {
    #[cfg(feature = "opencv")]
    fn default() -> Self {
        Self::CenterFaceOpenCv
    }
    #[cfg(not(feature = "opencv"))]
    fn default() -> Self {
        Self::CenterFaceOpenVino
    }
}

impl Kind {
    /// The detector's name in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CenterFaceOpenVino => "centerface",
            #[cfg(feature = "opencv")]
            Self::CenterFaceOpenCv => "centerface",
            #[cfg(feature = "opencv")]
            Self::Haar => "haar",
        }
    }
}

/// Options of a detector.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The detector.
    pub kind: Kind,
    /// Its file, if that is not in the usual place.
    pub file: Option<std::path::PathBuf>,
    /// Number of CPU threads; `None` uses all cores. Ignored by OpenCV, which has one setting for
    /// the whole process.
    pub threads: Option<u32>,
}

/// Least and greatest longest side of a canvas that can be asked for, pixels.
pub const MIN_SIZE: u32 = 64;
/// See [`MIN_SIZE`].
pub const MAX_SIZE: u32 = 4096;

/// Detections of several canvases whose intersection over union is greater show the same face.
const SAME_FACE: f32 = 0.3;
/// A detection of which a greater share lies within a surer one is a part of that face.
const PART: f32 = 0.7;

/// Most bytes of a detector's file.
const LARGEST: u64 = 256 << 20;

/// Opens a detector.
///
/// # Errors
/// [`Error::Detector`] if its file is missing or cannot be read, [`Error::Library`] if OpenVINO is
/// missing.
pub fn open(options: &Options) -> Result<Opened> {
    let find = |names: &[&str], cure: &str| {
        locate::find(options.file.as_deref(), "MMFACE_DETECTOR_MODEL", names)
            .map_err(|why| Error::Detector(format!("{why}; {cure}")))
    };
    let centerface = || {
        let names = ["share/mmface-live/models/centerface.onnx", "vendor/models/centerface.onnx"];
        let path = find(&names, "run `make setup`, name the file, or use another detector")?;
        let bytes =
            read_limited(&path, LARGEST).map_err(|e| unusable(&path, &e.why.to_string()))?;
        Ok::<_, Error>((path, bytes))
    };
    match options.kind {
        Kind::CenterFaceOpenVino => {
            let (path, bytes) = centerface()?;
            let core = library::core()?;
            let detector = openvino::CenterFace::open(core, &bytes, options.threads)
                .map_err(|why| unusable(&path, &why))?;
            Ok(Opened { detector: Box::new(detector), prepare: canvas::rgb })
        }
        #[cfg(feature = "opencv")]
        Kind::CenterFaceOpenCv => {
            let (path, bytes) = centerface()?;
            let detector = opencv::CenterFace::open(bytes).map_err(|why| unusable(&path, &why))?;
            Ok(Opened { detector: Box::new(detector), prepare: opencv::rgb })
        }
        #[cfg(feature = "opencv")]
        Kind::Haar => {
            let names = [
                "share/opencv4/haarcascades/haarcascade_frontalface_default.xml",
                "/usr/share/opencv4/haarcascades/haarcascade_frontalface_default.xml",
            ];
            let path = find(&names, "install the package opencv-data, or name the file")?;
            crate::limited::open_limited(&path, LARGEST)
                .map_err(|e| unusable(&path, &e.why.to_string()))?;
            let detector = opencv::Haar::open(&path).map_err(|why| unusable(&path, &why))?;
            Ok(Opened { detector: Box::new(detector), prepare: opencv::grey })
        }
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    let path = path.display();
    Error::Detector(format!(
        "the detector's file {path} cannot be used ({why}); restore it with `make setup`"
    ))
}

/// Greedy non-max suppression: of detections whose intersection over union exceeds `limit`, keeps
/// the one with the highest score. Returns them sorted by score, highest first.
fn non_max_suppression(mut found: Vec<Detection>, limit: f32) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for one in found {
        if kept.iter().all(|k| iou(k.bounds, one.bounds) <= limit) {
            kept.push(one);
        }
    }
    kept
}

/// The faces that were found on several canvases of one image, each once. A detection most of which
/// lies within a surer one is a part of that face: an eye, a mouth.
fn merged(found: Vec<Detection>) -> Vec<Detection> {
    let mut kept: Vec<Detection> = Vec::new();
    for one in non_max_suppression(found, SAME_FACE) {
        let [_, _, width, height] = one.bounds;
        let is_part = |k: &Detection| intersection(k.bounds, one.bounds) > PART * width * height;
        if !kept.iter().any(is_part) {
            kept.push(one);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_face_is_no_face() {
        let at = |bounds, score| Detection { bounds, score, angle: 0.0 };
        let face = at([0.0, 0.0, 100.0, 120.0], 0.9);
        let (mouth, same) = (at([30.0, 80.0, 40.0, 30.0], 0.6), at([2.0, 1.0, 98.0, 125.0], 0.8));
        let neighbour = at([90.0, 10.0, 30.0, 40.0], 0.5);
        assert_eq!(merged(vec![mouth, same, neighbour, face]), [face, neighbour]);
        // A surer face within a box stays: the box may hold several people.
        let group = at([0.0, 0.0, 400.0, 300.0], 0.4);
        assert_eq!(merged(vec![group, face]), [face, group]);
    }

    #[test]
    fn of_overlapping_detections_the_surest_stays() {
        let at = |x: f32, score| Detection { bounds: [x, 0.0, 10.0, 10.0], score, angle: 0.0 };
        let kept = non_max_suppression(vec![at(0.0, 0.6), at(1.0, 0.9), at(50.0, 0.5)], 0.3);
        assert_eq!(kept.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.5]);
    }
}

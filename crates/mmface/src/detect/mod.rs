//! Face detectors behind one trait, and the thread that runs one for all streams.
//!
//! A detector looks at a small copy of the image, a [`Canvas`]. The copy is made in the call that
//! hands the image over, so nothing of the image is kept beyond it.

mod canvas;
mod centerface;
#[cfg(feature = "opencv")]
mod opencv;
mod openvino;
mod service;

use std::path::Path;

pub use canvas::{Canvas, Fit};
#[cfg(feature = "opencv")]
pub use opencv::version as opencv_version;
pub(crate) use service::{Client, Service};

use crate::bounds::iou;
use crate::image::Image;
use crate::{Error, Result, locate};

/// A face as a detector sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// [x, y, width, height], pixels of the image.
    pub bounds: [f32; 4],
    /// How sure the detector is, 0…1.
    pub score: f32,
    /// How far the head is tilted (radians, clockwise as seen); 0 where the detector cannot tell.
    pub angle: f32,
}

/// Finds faces in canvases.
pub trait Detector: Send {
    /// The faces in pixels of the canvas from its corner, surest first, none twice.
    ///
    /// # Errors
    /// [`Error::Device`] if the library that runs it fails.
    fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>>;
}

/// Makes a canvas of an image; each detector has its own way to scale.
pub type Prepare = fn(&Image, Fit) -> Result<Canvas>;

/// An open detector.
pub struct Opened {
    /// It.
    pub detector: Box<dyn Detector>,
    /// How its canvases are made.
    pub prepare: Prepare,
}

impl Opened {
    /// The faces of an image, looked at with its longer side scaled to at most `size` pixels; see
    /// [`Fit::new`].
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub fn detect(&mut self, image: &Image, size: Option<u32>) -> Result<Vec<Detection>> {
        let canvas = (self.prepare)(image, Fit::new(image.width, image.height, size))?;
        let found = self.detector.detect(&canvas)?;
        Ok(canvas.fit.in_image(found))
    }
}

/// Which detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CenterFace, run by OpenCV: finds turned, tilted and small faces.
    #[cfg(feature = "opencv")]
    CenterFaceOpenCv,
    /// The same network, run by OpenVINO as the other networks are.
    CenterFaceOpenVino,
    /// OpenCV's Haar cascade: upright frontal faces only, for machines without the network's file.
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
    /// Its name in the manifest.
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

/// What to detect with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which detector.
    pub kind: Kind,
    /// Its file, where it is not in its usual place.
    pub file: Option<std::path::PathBuf>,
    /// Threads of the CPU; `None` takes all cores. OpenCV has its own setting for the whole process.
    pub threads: Option<u32>,
}

/// Opens a detector.
///
/// # Errors
/// [`Error::Detector`] if its file is missing or cannot be read, [`Error::Library`] if what runs it is
/// missing.
pub fn open(options: &Options) -> Result<Opened> {
    let find = |names: &[&str], cure: &str| {
        locate::find(options.file.as_deref(), "MMFACE_DETECTOR_MODEL", names)
            .map_err(|why| Error::Detector(format!("{why}; {cure}")))
    };
    let centerface = || {
        let names = ["share/mmface-live/models/centerface.onnx", "vendor/models/centerface.onnx"];
        let path = find(&names, "run `make setup`, name the file, or use another detector")?;
        let bytes = std::fs::read(&path).map_err(|e| unusable(&path, &e.to_string()))?;
        Ok::<_, Error>((path, bytes))
    };
    match options.kind {
        Kind::CenterFaceOpenVino => {
            let (path, bytes) = centerface()?;
            let detector = openvino::CenterFace::open(bytes, options.threads)
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
            let detector = opencv::Haar::open(&path).map_err(|why| unusable(&path, &why))?;
            Ok(Opened { detector: Box::new(detector), prepare: opencv::grey })
        }
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    let path = path.display();
    Error::Detector(format!("the detector's file {path} cannot be used ({why}); restore it"))
}

/// Of detections that overlap by more than `limit` (intersection over union), keeps the surest.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_overlapping_detections_the_surest_stays() {
        let at = |x: f32, score| Detection { bounds: [x, 0.0, 10.0, 10.0], score, angle: 0.0 };
        let kept = non_max_suppression(vec![at(0.0, 0.6), at(1.0, 0.9), at(50.0, 0.5)], 0.3);
        assert_eq!(kept.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.5]);
    }
}

//! OpenCV's Haar cascade (Viola and Jones, 2001): a fallback that needs no network file.

use std::path::Path;

use opencv::core::{Mat, Rect, Size, Vector};
use opencv::imgproc;
use opencv::objdetect::CascadeClassifier;
use opencv::prelude::*;

use super::failed;
use crate::detect::{Canvas, Detection, Detector, non_max_suppression};
use crate::error::Result;

/// Score of every detection: a cascade gives none.
const SCORE: f32 = 0.6;
/// Two detections whose intersection over union is greater show the same face.
const OVERLAP: f32 = 0.3;

pub(crate) struct Haar {
    cascade: CascadeClassifier,
}

impl Haar {
    /// Reads the cascade. The error is a reason, to be used within a sentence.
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, String> {
        let cascade = CascadeClassifier::new(path).map_err(|e| e.message.trim().to_string())?;
        Ok(Self { cascade })
    }

    fn run(&mut self, canvas: &Canvas) -> opencv::Result<Vec<Detection>> {
        let [width, height] = canvas.scaling.scaled;
        let grey = Mat::new_rows_cols_with_bytes::<u8>(height, width, &canvas.pixels)?;
        let mut even = Mat::default();
        imgproc::equalize_hist(&grey, &mut even)?;
        let mut found = Vector::<Rect>::new();
        let any = Size::new(0, 0);
        self.cascade.detect_multi_scale(&even, &mut found, 1.15, 5, 0, Size::new(24, 24), any)?;
        let found = found.iter().map(|r| Detection {
            bounds: [r.x, r.y, r.width, r.height].map(|v| v as f32),
            score: SCORE,
            angle: 0.0,
        });
        Ok(found.collect())
    }
}

impl Detector for Haar {
    fn detect(&mut self, canvas: &Canvas) -> Result<Vec<Detection>> {
        Ok(non_max_suppression(self.run(canvas).map_err(|e| failed(&e))?, OVERLAP))
    }
}

//! OpenCV's Haar cascade (Viola and Jones): the fallback that needs no network file.

use std::path::Path;

use opencv::core::{Mat, Size, Vector};
use opencv::objdetect::CascadeClassifier;
use opencv::prelude::*;
use opencv::{core::Rect, imgproc};

use super::picture::{self, Fit};
use super::{Detection, Detector, failed, without_doubles};
use crate::frame::Image;
use crate::{Error, Result};

/// A cascade says yes or no; its yes is worth this.
const SCORE: f32 = 0.6;

pub struct Haar {
    cascade: CascadeClassifier,
    size: Option<u32>,
}

impl Haar {
    pub fn open(path: &Path, size: Option<u32>) -> Result<Self> {
        let cascade = CascadeClassifier::new(path).map_err(|e| {
            let why = e.message.trim().to_string();
            Error::Engine(format!("the Haar cascade {} cannot be used ({why})", path.display()))
        })?;
        Ok(Self { cascade, size })
    }

    fn run(&mut self, image: &Image) -> opencv::Result<Vec<Detection>> {
        let fit = Fit::new(image.width, image.height, self.size);
        let mut even = Mat::default();
        imgproc::equalize_hist(&picture::grey(image, &fit)?, &mut even)?;
        let mut found = Vector::<Rect>::new();
        let any = Size::new(0, 0);
        self.cascade.detect_multi_scale(&even, &mut found, 1.15, 5, 0, Size::new(24, 24), any)?;
        let found = found.iter().map(|r| Detection {
            bounds: fit.bounds(image, [r.x, r.y, r.width, r.height].map(|v| v as f32)),
            score: SCORE,
            angle: 0.0,
        });
        Ok(found.collect())
    }
}

impl Detector for Haar {
    fn detect(&mut self, image: &Image) -> Result<Vec<Detection>> {
        Ok(without_doubles(self.run(image).map_err(|e| failed(&e))?, 0.3))
    }
}

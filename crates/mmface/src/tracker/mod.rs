//! The door: images and times of one stream in, faces out.

mod fitter;
mod observer;

pub use fitter::Fitter;
pub use observer::{Observation, Observer};

use std::sync::Arc;

use crate::Result;
use crate::face::Params;
use crate::image::Image;
use crate::smooth::Strength;
use crate::volume::Volume;

/// What images a tracker gets, and how it treats time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Images of a live stream: never waits for a detection.
    #[default]
    Live,
    /// Images of a recording: the same images and times give the same faces, to the last bit.
    Recording,
    /// Each image stands for itself: nobody is followed, nothing is smoothed, every image is searched
    /// for faces, and every face is looked at in several views.
    Stills,
}

/// How to follow the faces of one stream.
#[derive(Debug, Clone)]
pub struct TrackerOptions {
    /// What images come.
    pub mode: Mode,
    /// At most so many faces.
    pub faces: usize,
    /// Longest side of the copy that the detector looks at, pixels; `None` goes by the image's size
    /// (see [`Fit`](crate::detect::Fit::new)).
    pub detect_size: Option<u32>,
    /// Seconds between looks for new faces while there is room for one more.
    pub detect_every: f64,
    /// How much is smoothed over time; stills are not.
    pub smoothing: Strength,
    /// Aligns the pose to the surface of the volume, before smoothing (iterative closest points). Needs
    /// a runtime with a [volume head](crate::RuntimeBuilder::volume).
    pub refine: bool,
    /// Whether faces carry what the volume head saw. Needs a runtime with a volume head.
    pub volumes: bool,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            faces: 4,
            detect_size: None,
            detect_every: 1.0,
            smoothing: Strength::default(),
            refine: false,
            volumes: false,
        }
    }
}

/// One face of one image. Places and lengths in pixels of the image, (0, 0) being the centre of the
/// first.
#[derive(Debug, Clone)]
pub struct Face {
    /// Who: stays with a face for as long as it is followed, never used again.
    pub id: u64,
    /// How sure the presence head is that this is a face, 0…1; falls while the face is only held.
    pub confidence: f32,
    /// [x, y, width, height] around the landmarks.
    pub bounds: [f32; 4],
    /// Parameters, smoothed.
    pub params: Params,
    /// Parameters as the networks gave them: neither refined nor smoothed.
    pub raw: Params,
    /// 68 points of the smoothed parameters (i·bug: the contour follows the visible outline).
    pub landmarks: Vec<[f32; 2]>,
    /// What the volume head saw, if it was asked for and the face is in sight.
    pub volume: Option<Arc<Volume>>,
}

/// More faces than are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// How many faces the detector saw.
    pub seen: usize,
    /// How many are followed at most.
    pub most: usize,
}

/// The faces of one image.
#[derive(Debug, Clone, Default)]
pub struct FrameResult {
    /// By id.
    pub faces: Vec<Face>,
    /// The detection whose result was used on this image, milliseconds; 0 for most images.
    pub detect_ms: f64,
    /// Crops and networks, milliseconds.
    pub infer_ms: f64,
    /// Where more faces are surely in view than are followed.
    pub crowd: Option<Crowd>,
}

/// Follows the faces of one stream.
pub struct Tracker {
    observer: Observer,
    fitter: Fitter,
}

impl Tracker {
    pub(crate) fn new(observer: Observer, fitter: Fitter) -> Self {
        Self { observer, fitter }
    }

    /// The faces of the next image, which was taken `pts` seconds after the stream's beginning.
    ///
    /// Nothing of the image is kept beyond the call but a small copy for the detector.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) for an image whose planes are too short,
    /// [`Error::Device`](crate::Error::Device) or [`Error::Gpu`](crate::Error::Gpu) if the device
    /// fails.
    pub fn process(&mut self, image: &Image, pts: f64) -> Result<FrameResult> {
        let observation = self.observer.observe(image, pts, None)?;
        Ok(self.fitter.fit(observation))
    }

    /// Forgets everybody: what comes next has nothing to do with what was before, as after a gap or a
    /// jump. Ids are still never used again.
    pub fn reset(&mut self) {
        self.observer.reset();
        self.fitter.reset();
    }

    /// The two halves, for two threads: while one fits the faces of an image, the other observes the
    /// next.
    #[must_use]
    pub fn split(self) -> (Observer, Fitter) {
        (self.observer, self.fitter)
    }
}

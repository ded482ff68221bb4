//! The public interface: images and timestamps of one stream in, faces out.

mod eyes;
mod fitter;
mod observer;

pub(crate) use eyes::Eyes;
pub use fitter::Fitter;
pub use observer::{Observation, Observer, Shows};

pub use crate::track::Crowd;

use std::sync::Arc;

use crate::error::Result;
use crate::face::Params;
use crate::gaze::Gaze;
use crate::image::Image;
use crate::smooth::Strength;
use crate::volume::Volume;

/// Which kind of images a tracker gets. It decides whether the tracker waits for detections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Frames of a live stream: never waits for a detection.
    #[default]
    Live,
    /// Frames of a recording: waits for detections, so that the same images and times give the same
    /// faces, to the last bit.
    Recording,
    /// Stills that have nothing to do with each other: every image goes to the detector, nobody is
    /// followed from one image to the next, nothing is smoothed, and the networks see every face in
    /// several views.
    Stills,
}

/// How to follow the faces of one stream.
#[derive(Debug, Clone)]
pub struct TrackerOptions {
    /// The kind of images.
    pub mode: Mode,
    /// Most faces to follow.
    pub faces: usize,
    /// Longest side of the detector's canvas in pixels; `None` derives it from the image's size
    /// (see [`Scaling`](crate::detect::Scaling::new)).
    pub detect_size: Option<u32>,
    /// Seconds between detections while every known face is in sight and more could be followed.
    pub detect_every: f64,
    /// Seconds for which somebody who is out of sight is remembered. Who comes back within this
    /// time gets the old id if it is surely the same person. 0: nobody is remembered.
    pub reidentify: f64,
    /// Strength of the smoothing over time; ignored for stills.
    pub smoothing: Strength,
    /// Whether the pose is aligned to the surface of the volume before smoothing (iterative closest
    /// point). Needs a runtime with a [volume head](crate::RuntimeBuilder::volume).
    pub refine: bool,
    /// Whether faces carry the volume head's output. Needs a runtime with a volume head.
    pub volumes: bool,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            faces: 4,
            detect_size: None,
            detect_every: 1.0,
            reidentify: 3.0,
            smoothing: Strength::default(),
            refine: false,
            volumes: false,
        }
    }
}

/// One face in one image. Places and lengths are in pixels of the image; (0, 0) is the centre of
/// the top left pixel.
#[derive(Debug, Clone)]
pub struct Face {
    /// Id of the face: constant for as long as it is followed, never reused.
    pub id: u64,
    /// Probability that this is a face, fitted well, 0…1: what the presence head says, less where
    /// mesh, points and picture do not agree. Falls while the face is out of sight and its last fit
    /// is repeated.
    pub confidence: f32,
    /// Box around the landmarks: [x, y, width, height].
    pub bounds: [f32; 4],
    /// Smoothed parameters.
    pub params: Params,
    /// Parameters as the networks gave them, neither refined nor smoothed.
    pub raw: Params,
    /// The 68 landmarks of the smoothed parameters in i·bug's order; the contour follows the
    /// visible outline.
    pub landmarks: Vec<[f32; 2]>,
    /// Where the eyes look; `None` if the models have no gaze network.
    pub gaze: Option<Gaze>,
    /// The volume head's output, if it was requested and the face is in sight.
    pub volume: Option<Arc<Volume>>,
}

/// The faces of one image.
#[derive(Debug, Clone, Default)]
pub struct FrameResult {
    /// Sorted by id.
    pub faces: Vec<Face>,
    /// Time of the detection whose result was used on this image, milliseconds; 0 if none was.
    pub detect_ms: f64,
    /// Time of crops and networks, milliseconds.
    pub infer_ms: f64,
    /// Set if the detector is sure of more faces than are followed.
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

    /// The faces in the next image, taken `pts` seconds after the start of the stream.
    ///
    /// The image is not kept after the call; the detector works on a small copy.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) for an image whose planes are too short,
    /// [`Error::Device`](crate::Error::Device) or [`Error::Gpu`](crate::Error::Gpu) if the device
    /// fails.
    pub fn process(&mut self, image: &Image, pts: f64) -> Result<FrameResult> {
        let observation = self.observer.observe(image, pts, None)?;
        Ok(self.fitter.fit(observation))
    }

    /// Forgets all faces, as is right after a gap or a seek. Ids are not reused.
    pub fn reset(&mut self) {
        self.observer.reset();
        self.fitter.reset();
    }

    /// Splits the tracker into its two halves, for two threads: the observer can process the next
    /// image while the fitter processes the current one.
    #[must_use]
    pub fn split(self) -> (Observer, Fitter) {
        (self.observer, self.fitter)
    }
}

//! The second half of a tracker: turns the networks' outputs into smoothed faces.

use std::sync::Arc;

use super::{Face, FrameResult, Observation};
use crate::bounds::around;
use crate::face::FaceModel;
use crate::smooth::{Smoother, Strength};
use crate::track::Tracked;
use crate::volume::{Aligner, Volume};

/// Seconds without a sighting after which the smoothing filters of a face are dropped.
const FORGET: f64 = 10.0;

/// Refines and smooths parameters, and computes landmarks.
pub struct Fitter {
    model: Arc<FaceModel>,
    aligner: Option<Aligner>,
    smoother: Smoother,
}

impl Fitter {
    pub(crate) fn new(model: &Arc<FaceModel>, smoothing: Strength, refine: bool) -> Self {
        Self {
            aligner: refine.then(|| Aligner::new(model.clone())),
            smoother: Smoother::new(smoothing, model.clone()),
            model: model.clone(),
        }
    }

    /// The faces of an observation. Observations must be passed in the order in which they were
    /// made.
    pub fn fit(&mut self, observation: Observation) -> FrameResult {
        let Observation { pts, faces, volumes, detect_ms, infer_ms, crowd, .. } = observation;
        let seen = faces.into_iter().zip(volumes);
        let faces = seen.map(|(face, volume)| self.face(pts, face, volume)).collect();
        self.smoother.forget_before(pts - FORGET);
        FrameResult { faces, detect_ms, infer_ms, crowd }
    }

    fn face(&mut self, pts: f64, face: Tracked, volume: Option<Arc<Volume>>) -> Face {
        let Tracked { id, confidence, params: raw, landmarks, fresh, .. } = face;
        let refined = match (&self.aligner, &volume) {
            (Some(aligner), Some(volume)) => aligner.align(&raw, volume),
            _ => None,
        };
        let refined = refined.as_ref().unwrap_or(&raw);
        let params = self.smoother.apply(id, pts, refined, confidence, fresh);
        // Without smoothing these are the landmarks that tracking has already computed.
        let landmarks = if params == raw { landmarks } else { self.model.landmarks(&params) };
        Face { id, confidence, bounds: around(&landmarks), params, raw, landmarks, volume }
    }

    /// Forgets all faces.
    pub fn reset(&mut self) {
        self.smoother.reset();
    }
}

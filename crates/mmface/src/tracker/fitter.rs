//! The second half of a tracker: turns the networks' outputs into smoothed faces.

use std::sync::Arc;

use super::{Face, FrameResult, Observation};
use crate::bounds::around;
use crate::face::FaceModel;
use crate::gaze::{self, Filter, GazeRule, Sight};
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
    gaze: Filter,
    /// `None` without a gaze network.
    gaze_rule: Option<GazeRule>,
}

impl Fitter {
    pub(crate) fn new(model: &Arc<FaceModel>, smoothing: Strength, refine: bool) -> Self {
        Self {
            aligner: refine.then(|| Aligner::new(model.clone())),
            smoother: Smoother::new(smoothing, model.clone()),
            gaze: Filter::new(smoothing),
            gaze_rule: None,
            model: model.clone(),
        }
    }

    /// The same fitter, for observations of eyes.
    pub(crate) fn with_gaze(self, gaze_rule: Option<GazeRule>) -> Self {
        Self { gaze_rule, ..self }
    }

    /// The faces of an observation. Observations must be passed in the order in which they were
    /// made.
    pub fn fit(&mut self, observation: Observation) -> FrameResult {
        let Observation { pts, faces, volumes, sights, detect_ms, infer_ms, crowd, .. } =
            observation;
        let seen = faces.into_iter().zip(volumes).zip(sights);
        let faces =
            seen.map(|((face, volume), sights)| self.face(pts, face, volume, sights)).collect();
        self.smoother.forget_before(pts - FORGET);
        self.gaze.forget_before(pts - FORGET);
        FrameResult { faces, detect_ms, infer_ms, crowd }
    }

    fn face(
        &mut self,
        pts: f64,
        face: Tracked,
        volume: Option<Arc<Volume>>,
        sights: Option<[Sight; 2]>,
    ) -> Face {
        let Tracked { id, confidence, params: raw, landmarks, fresh, .. } = face;
        let refined = match (&self.aligner, &volume) {
            (Some(aligner), Some(volume)) => aligner.align(&raw, volume),
            _ => None,
        };
        let refined = refined.as_ref().unwrap_or(&raw);
        let mut params = self.smoother.apply(id, pts, refined, confidence, fresh);
        // Without smoothing these are the landmarks that tracking has already computed.
        let landmarks = if params == raw { landmarks } else { self.model.landmarks(&params) };
        let gaze = self.gaze_rule.map(|rule| {
            let seen = sights
                .map_or([None; 2], |sights| gaze::directions(&self.model, &raw, &sights, &rule));
            let gaze = self.gaze.next(id, pts, &params, (sights, seen), fresh);
            gaze::turn_eyes(&self.model, &mut params, &gaze);
            gaze
        });
        let bounds = around(&landmarks);
        Face { id, confidence, bounds, params, raw, landmarks, gaze, volume }
    }

    /// Forgets all faces.
    pub fn reset(&mut self) {
        self.smoother.reset();
        self.gaze.reset();
    }
}

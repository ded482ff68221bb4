//! Smoothing over time: filters for each face and each group of parameters.
//!
//! f, t, rotation and each expression go through a One-Euro filter with real time steps. Identity
//! is a slow weighted mean over the track, and f and t are re-aligned to it, so that neither a
//! blink nor a head turn changes the identity. Speeds are measured in face sizes, radians and full
//! expressions per second, never in pixels or frames: the same motion is smoothed alike near and
//! far, at 30 and at 60 frames per second.

mod identity;
#[cfg(test)]
mod measured;
mod one_euro;
mod predict;
mod preset;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub use identity::with_identity;
pub use predict::Predictor;
pub use preset::Strength;

use crate::face::{FaceModel, Params};
use identity::IdentityMean;
use one_euro::{OneEuro, OneEuroRotation};
use preset::Preset;

/// Seconds without a face after which pose and expression start anew.
const GAP: f64 = 0.5;
/// Timestamps closer than this (seconds) count as the same: speeds are divided by their difference.
const SAME_TIME: f64 = 1e-4;
/// Seconds for which the first view of a face counts in its mean identity.
const FIRST_VIEW: f32 = 1.0 / 30.0;

/// The filters of all faces of a stream, by id.
pub struct Smoother {
    /// `None`: no smoothing.
    preset: Option<Preset>,
    model: Arc<FaceModel>,
    /// Face size: √(width × height) of the box around the mean face's landmarks, model units.
    size: f32,
    /// For each expression, whether it is one that moves quickly.
    quick: Vec<bool>,
    faces: HashMap<u64, Face>,
}

impl Smoother {
    /// A smoother without any faces.
    #[must_use]
    pub fn new(strength: Strength, model: Arc<FaceModel>) -> Self {
        Self {
            preset: Preset::of(strength),
            size: face_size(&model),
            quick: model.expressions.iter().map(|name| preset::is_quick(name)).collect(),
            faces: HashMap::new(),
            model,
        }
    }

    /// Smooths the parameters of face `id` at `pts` seconds. `raw` is in pixels of the frame,
    /// finite and with f > 0, as [`Params::from_outputs`] guarantees.
    ///
    /// `confidence` (0…1) is the weight of this view in the face's mean identity. `fresh` (a new
    /// face, a gap, a scene cut) restarts everything. Without it, a gap of more than half a second,
    /// or a timestamp that jumps back as far, restarts pose and expression but keeps the identity.
    /// A timestamp that repeats or goes back less repeats the last result.
    pub fn apply(
        &mut self,
        id: u64,
        pts: f64,
        raw: &Params,
        confidence: f32,
        fresh: bool,
    ) -> Params {
        let Some(preset) = &self.preset else { return raw.clone() };
        let weight = identity::weight(raw, confidence);
        let known = if fresh { None } else { self.faces.get_mut(&id) };
        let Some(face) = known else {
            let face = Face {
                pts,
                identity: IdentityMean::new(&raw.identity, weight * FIRST_VIEW),
                filters: Filters::new(raw),
            };
            let smooth = face.params();
            self.faces.insert(id, face);
            return smooth;
        };

        let dt = pts - face.pts;
        if (-GAP..SAME_TIME).contains(&dt) {
            return face.params();
        }
        let follows = (SAME_TIME..=GAP).contains(&dt);
        face.pts = pts;
        face.identity.add(&raw.identity, weight * if follows { dt as f32 } else { FIRST_VIEW });
        let raw = identity::with_identity(raw, face.identity.value(), &self.model);
        if follows {
            face.filters.next(&raw, self.size, dt as f32, preset, &self.quick);
        } else {
            face.filters = Filters::new(&raw);
        }
        face.params()
    }

    /// Drops the faces last seen before `pts` seconds.
    pub fn forget_before(&mut self, pts: f64) {
        self.faces.retain(|_, face| face.pts >= pts);
    }

    /// Drops all faces.
    pub fn reset(&mut self) {
        self.faces.clear();
    }
}

/// The filters of one face.
struct Face {
    /// Time of the last view, seconds.
    pts: f64,
    identity: IdentityMean,
    filters: Filters,
}

impl Face {
    fn params(&self) -> Params {
        let Filters { place, depth, log_scale, rotation, expression, landmark_offsets } =
            &self.filters;
        let ([x, y], [z]) = (place.value(), depth.value());
        Params {
            f: log_scale.value()[0].exp(),
            rotation: rotation.value(),
            t: [x, y, z],
            identity: self.identity.value().to_vec(),
            expression: expression.iter().map(|e| e.value()[0].clamp(0.0, 1.0)).collect(),
            landmark_offsets: landmark_offsets.iter().map(OneEuro::value).collect(),
        }
    }
}

struct Filters {
    /// t_x, t_y in pixels.
    place: OneEuro<2>,
    /// t_z in pixels.
    depth: OneEuro<1>,
    /// ln f: makes the filter independent of the face's size in the image.
    log_scale: OneEuro<1>,
    rotation: OneEuroRotation,
    expression: Vec<OneEuro<1>>,
    /// Model units.
    landmark_offsets: Vec<OneEuro<2>>,
}

impl Filters {
    fn new(raw: &Params) -> Self {
        let [x, y, z] = raw.t;
        Self {
            place: OneEuro::new([x, y]),
            depth: OneEuro::new([z]),
            log_scale: OneEuro::new([raw.f.ln()]),
            rotation: OneEuroRotation::new(raw.rotation),
            expression: raw.expression.iter().map(|e| OneEuro::new([*e])).collect(),
            landmark_offsets: raw.landmark_offsets.iter().map(|d| OneEuro::new(*d)).collect(),
        }
    }

    /// Filters the next view. `size`: face size in model units; `quick`: for each expression,
    /// whether it moves quickly.
    fn next(&mut self, raw: &Params, size: f32, dt: f32, preset: &Preset, quick: &[bool]) {
        let [x, y, z] = raw.t;
        let pixels = size * raw.f;
        self.place.next([x, y], pixels, dt, &preset.place);
        self.depth.next([z], pixels, dt, &preset.place);
        self.log_scale.next([raw.f.ln()], 1.0, dt, &preset.place);
        self.rotation.next(raw.rotation, dt, &preset.rotation);
        for ((filter, raw), quick) in self.expression.iter_mut().zip(&raw.expression).zip(quick) {
            filter.next([*raw], 1.0, dt, if *quick { &preset.quick } else { &preset.slow });
        }
        // Without offsets in this frame the last ones are kept.
        for (filter, raw) in self.landmark_offsets.iter_mut().zip(&raw.landmark_offsets) {
            filter.next(*raw, size, dt, &preset.place);
        }
    }
}

/// √(width × height) of the box around the 68 landmarks of the mean face, model units.
fn face_size(model: &FaceModel) -> f32 {
    let points = model.landmarks3d(&Params::neutral());
    let side = |axis: usize| {
        let values = || points.iter().map(|p| p[axis]);
        values().fold(f32::MIN, f32::max) - values().fold(f32::MAX, f32::min)
    };
    // Speeds are divided by the size.
    (side(0) * side(1)).sqrt().max(f32::EPSILON)
}

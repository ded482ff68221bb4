//! The mean identity of a face over its track, and the pose that goes with it.

use crate::face::{FaceModel, Params, rotation};

/// Largest weight of the mean, in seconds of a confident frontal view. Up to it the mean is over
/// the whole track; then older views fade, so that a wrong start is forgotten.
const MAX_WEIGHT: f32 = 10.0;
/// Least weight of a view, so that a face seen only from the side gets an identity too.
const MIN_WEIGHT: f32 = 0.01;

/// A weighted running mean.
#[derive(Debug, Clone)]
pub(super) struct IdentityMean {
    value: Vec<f32>,
    /// Total weight of the views, in seconds.
    weight: f32,
}

impl IdentityMean {
    /// The mean of a single view of weight `weight` > 0.
    pub(super) fn new(identity: &[f32], weight: f32) -> Self {
        Self { value: identity.to_vec(), weight: weight.min(MAX_WEIGHT) }
    }

    pub(super) fn add(&mut self, identity: &[f32], weight: f32) {
        self.weight = (self.weight + weight).min(MAX_WEIGHT);
        let step = (weight / self.weight).min(1.0);
        self.value.iter_mut().zip(identity).for_each(|(mean, new)| *mean += step * (new - *mean));
    }

    pub(super) fn value(&self) -> &[f32] {
        &self.value
    }
}

/// Weight of a view per second: confidence × cos² of the angle between the face's forward axis and
/// the direction to the camera. Never 0, not even if the confidence is NaN.
pub(super) fn weight(params: &Params, confidence: f32) -> f32 {
    (confidence.clamp(0.0, 1.0) * rotation::facing(&params.rotation)).max(MIN_WEIGHT)
}

/// Replaces the identity of `raw`, and adapts f and t so that the face's landmarks stay in place as
/// well as possible.
///
/// Networks trade identity (whose first mode is mostly the head's size) for f and t, so an averaged
/// identity with the raw f and t would not fit the image. f' = k f and t' are the least-squares
/// solution of Σ |f' P R s'ᵢ + t' − (f P R sᵢ + t)|² over the 68 points fixed on the mesh (s with
/// the raw identity, s' with the new one); t_z keeps the points' mean depth.
pub fn with_identity(raw: &Params, identity: &[f32], model: &FaceModel) -> Params {
    let mut face = Params { identity: identity.to_vec(), ..raw.clone() };
    let (from, to) = (model.landmarks3d(&face), model.landmarks3d(raw));
    let (from_centre, to_centre) = (centre(&from), centre(&to));
    let (mut across, mut square) = (0.0, 0.0);
    for (a, b) in from.iter().zip(&to) {
        for axis in 0..2 {
            let a = a[axis] - from_centre[axis];
            across += a * (b[axis] - to_centre[axis]);
            square += a * a;
        }
    }
    // Without any extent of the points there is no best scale.
    let k = if across > 0.0 && square > 0.0 { across / square } else { 1.0 };
    face.f *= k;
    for axis in 0..3 {
        face.t[axis] = to_centre[axis] - k * (from_centre[axis] - raw.t[axis]);
    }
    face
}

fn centre(points: &[[f32; 3]]) -> [f32; 3] {
    let sum = points.iter().fold([0.0; 3], |[x, y, z], p| [x + p[0], y + p[1], z + p[2]]);
    sum.map(|v| v / points.len().max(1) as f32)
}

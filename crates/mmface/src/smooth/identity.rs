//! Identity is a constant of a person: its mean over a track, and the pose that goes with it.

use crate::face::{FaceModel, Params, rotation};

/// Weight that the mean can gather, in seconds of a confident frontal view: an average of
/// everything at first, then a memory of so long, so that a wrong beginning is forgotten.
const MEMORY: f32 = 10.0;
/// Least weight: a face that is only ever seen from the side still has an identity.
const FLOOR: f32 = 0.01;

/// A weighted running mean.
#[derive(Debug, Clone)]
pub(super) struct IdentityMean {
    value: Vec<f32>,
    /// Weight so far: seconds.
    weight: f32,
}

impl IdentityMean {
    /// The mean of one view that counts for `weight` > 0.
    pub(super) fn new(identity: &[f32], weight: f32) -> Self {
        Self { value: identity.to_vec(), weight: weight.min(MEMORY) }
    }

    pub(super) fn add(&mut self, identity: &[f32], weight: f32) {
        self.weight = (self.weight + weight).min(MEMORY);
        let step = (weight / self.weight).min(1.0);
        self.value.iter_mut().zip(identity).for_each(|(mean, new)| *mean += step * (new - *mean));
    }

    pub(super) fn value(&self) -> &[f32] {
        &self.value
    }
}

/// What a view says about identity, per second: confidence × cos² of the angle between the face's
/// forward axis and the camera. Never 0, also where the confidence is not a number.
pub(super) fn weight(params: &Params, confidence: f32) -> f32 {
    (confidence.clamp(0.0, 1.0) * rotation::facing(&params.rotation)).max(FLOOR)
}

/// `raw` with another identity, and the f and t with which that one looks most like it.
///
/// Networks trade identity (its first mode is mostly the size of the head) for f and t; an averaged
/// identity with the f and t of the raw one would not fit the picture. So f' = k f and t' are the
/// least-squares solution of Σ |f' P R s'ᵢ + t' − (f P R sᵢ + t)|² over the 68 points fixed on the
/// face (s with the raw identity, s' with the new one); t_z keeps the points' mean depth.
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
    // An identity whose points fall together has no best scale.
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

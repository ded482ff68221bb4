//! Prediction: where a face will be a moment later, to make up for a known latency.

use nalgebra::{UnitQuaternion, Vector3};

use super::{GAP, SAME_TIME};
use crate::face::Params;

/// Cutoff of the low-pass on the speeds, in Hz. Lower is calmer, and later where motion turns.
const SPEED_CUTOFF: f32 = 3.0;

/// Continues the motion of a face's head. Expressions are left as they are: a blink is over before
/// its speed is known.
#[derive(Debug, Clone)]
pub struct Predictor {
    /// Seconds.
    ahead: f32,
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    id: u64,
    pts: f64,
    place: Vector3<f32>,
    log_scale: f32,
    rotation: UnitQuaternion<f32>,
    speed: Speed,
}

/// Changes a second.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    place: Vector3<f32>,
    log_scale: f32,
    rotation: Vector3<f32>,
}

impl Predictor {
    /// Predicts by `ahead` seconds; 0 changes nothing.
    #[must_use]
    pub fn new(ahead: f32) -> Self {
        Self { ahead, last: None }
    }

    /// The parameters of face `id`, which are `seen` at `pts` seconds, a moment later. Another id, a
    /// gap, and a clock that jumps start anew, with a head that does not move.
    pub fn apply(&mut self, id: u64, pts: f64, seen: Params) -> Params {
        if self.ahead <= 0.0 {
            return seen;
        }
        let (place, log_scale) = (Vector3::from(seen.t), seen.f.ln());
        let rotation = seen.rotation;
        let last = self.last.take().filter(|last| last.id == id);
        let speed = match last {
            Some(last) if (SAME_TIME..=GAP).contains(&(pts - last.pts)) => {
                let dt = (pts - last.pts) as f32;
                last.speed.towards(
                    Speed {
                        place: (place - last.place) / dt,
                        log_scale: (log_scale - last.log_scale) / dt,
                        rotation: (last.rotation.inverse() * rotation).scaled_axis() / dt,
                    },
                    super::one_euro::alpha(SPEED_CUTOFF, dt),
                )
            }
            // The same frame again.
            Some(last) if (pts - last.pts).abs() < SAME_TIME => last.speed,
            _ => Speed::default(),
        };
        self.last = Some(Last { id, pts, place, log_scale, rotation, speed });
        let ahead = self.ahead;
        Params {
            t: (place + speed.place * ahead).into(),
            f: (log_scale + speed.log_scale * ahead).exp(),
            rotation: rotation * UnitQuaternion::from_scaled_axis(speed.rotation * ahead),
            ..seen
        }
    }
}

impl Speed {
    /// A part of the way to another speed.
    fn towards(self, other: Self, part: f32) -> Self {
        Self {
            place: self.place + (other.place - self.place) * part,
            log_scale: self.log_scale + (other.log_scale - self.log_scale) * part,
            rotation: self.rotation + (other.rotation - self.rotation) * part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::face;
    use super::*;
    use crate::face::rotation;

    /// A head that turns and moves steadily.
    fn moving(time: f32) -> Params {
        let mut params = face();
        params.rotation = rotation::from_angles([0.0, 30.0 * time, 0.0]);
        params.t = [300.0 + 100.0 * time, 200.0, 0.0];
        params.f *= (0.1 * time).exp();
        params
    }

    #[test]
    fn steady_motion_is_continued() {
        let mut predictor = Predictor::new(0.05);
        let mut seen = moving(0.0);
        for frame in 0..30 {
            let time = frame as f32 / 30.0;
            seen = predictor.apply(1, f64::from(time), moving(time));
        }
        let truth = moving(29.0 / 30.0 + 0.05);
        assert!((seen.t[0] - truth.t[0]).abs() < 0.1, "{} for {}", seen.t[0], truth.t[0]);
        assert!((seen.f / truth.f - 1.0).abs() < 1e-3);
        assert!(seen.rotation.angle_to(&truth.rotation).to_degrees() < 0.05);
    }

    #[test]
    fn whoever_is_new_or_comes_back_does_not_move() {
        let mut predictor = Predictor::new(0.05);
        for frame in 0..30 {
            predictor.apply(1, f64::from(frame) / 30.0, moving(frame as f32 / 30.0));
        }
        assert_eq!(predictor.apply(2, 1.0, moving(0.0)), moving(0.0), "somebody else");
        predictor.apply(2, 1.03, moving(0.03));
        assert_eq!(predictor.apply(2, 5.0, moving(0.4)).t, moving(0.4).t, "after a gap");
        assert_eq!(
            predictor.apply(2, 1.0, moving(0.1)).t,
            moving(0.1).t,
            "a clock that jumps back"
        );
        assert_eq!(Predictor::new(0.0).apply(1, 0.0, moving(0.2)), moving(0.2));
    }
}

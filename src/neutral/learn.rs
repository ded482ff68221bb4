//! Two ways to a neutral face: learning it over time, and marking it in a moment.

use mmface::Face;
use nalgebra::{Quaternion, UnitQuaternion};

use super::Neutral;
use crate::place::position;

/// Number of steps into which 0…1 is divided.
const STEPS: usize = 50;
/// The share of the time for which an expression is lower than at rest. People who talk or smile
/// are at rest for a part of the time only.
const SHARE: f32 = 0.2;
/// Seconds of a face before anything is taken off.
const FIRST: f64 = 3.0;
/// Seconds after which what was seen counts half.
const HALF: f64 = 60.0;
/// No more than this of an expression is learnt as rest: somebody may hold a face for long.
const MOST: f32 = 0.5;
/// A longer step of time between two frames counts as this.
const LONGEST_STEP: f64 = 0.5;
/// Seconds over which what is learnt takes effect, so that nothing jumps.
const EASE: f64 = 2.0;

/// Learns how low each expression of a face goes.
pub(super) struct Learner {
    /// For each expression, for how many seconds it was within each step; none for gaze, which has
    /// no rest.
    seen: Vec<Option<[f32; STEPS]>>,
    /// What is taken off now.
    rest: Vec<f32>,
    /// Seconds of the face, and how many of them count.
    seconds: f64,
    counted: f64,
}

impl Learner {
    pub(super) fn new(names: &[String]) -> Self {
        let seen = |name: &String| (!name.starts_with("eyeLook")).then_some([0.0; STEPS]);
        Self {
            seen: names.iter().map(seen).collect(),
            rest: vec![0.0; names.len()],
            seconds: 0.0,
            counted: 0.0,
        }
    }

    /// Adds a frame, `step` seconds after the last.
    pub(super) fn add(&mut self, expression: &[f32], step: f64) {
        let step = step.clamp(0.0, LONGEST_STEP);
        self.seconds += step;
        self.counted += step;
        let forgets = self.counted > 2.0 * HALF;
        if forgets {
            self.counted /= 2.0;
        }
        let part = (step / EASE).min(1.0) as f32;
        let ready = self.seconds >= FIRST;
        for ((seen, value), rest) in self.seen.iter_mut().zip(expression).zip(&mut self.rest) {
            let Some(seen) = seen else { continue };
            seen[((value * STEPS as f32) as usize).min(STEPS - 1)] += step as f32;
            if forgets {
                seen.iter_mut().for_each(|seconds| *seconds /= 2.0);
            }
            if ready {
                *rest += (low(seen).min(MOST) - *rest) * part;
            }
        }
    }

    /// Seconds of the face so far.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// What was learnt, as soon as that is enough.
    pub(super) fn neutral(&self) -> Option<Neutral> {
        (self.seconds >= FIRST).then(|| Neutral { expression: self.rest.clone(), head: None })
    }
}

/// The value below which it was for [`SHARE`] of the time.
fn low(seen: &[f32; STEPS]) -> f32 {
    let mut left = seen.iter().sum::<f32>() * SHARE;
    for (step, seconds) in seen.iter().enumerate() {
        if *seconds > 0.0 && left <= *seconds {
            return (step as f32 + left / seconds) / STEPS as f32;
        }
        left -= seconds;
    }
    1.0
}

/// Seconds that marking takes: long enough for a steady mean, short enough to hold still.
const MOMENT: f64 = 0.5;
/// Fewest and most frames of it.
const FRAMES: std::ops::RangeInclusive<usize> = 3..=64;

/// Collects the frames of a moment.
pub(super) struct Marking {
    since: f64,
    expressions: Vec<Vec<f32>>,
    rotations: Vec<UnitQuaternion<f32>>,
    places: Vec<[f32; 3]>,
}

impl Marking {
    pub(super) fn new(pts: f64) -> Self {
        Self { since: pts, expressions: vec![], rotations: vec![], places: vec![] }
    }

    /// Adds a frame; the neutral face, when there are enough.
    pub(super) fn add(&mut self, face: &Face, pts: f64, size: [f32; 2]) -> Option<Neutral> {
        self.expressions.push(face.params.expression.clone());
        self.rotations.push(face.params.rotation);
        self.places.push(position(&face.params, size));
        let count = self.expressions.len();
        let enough = count >= *FRAMES.start() && pts - self.since >= MOMENT;
        if !enough && count < *FRAMES.end() {
            return None;
        }
        let of = |values: &dyn Fn(usize) -> f32| median((0..count).map(values).collect());
        let expressions = 0..self.expressions[0].len();
        let place = [0, 1, 2].map(|axis| of(&|frame| self.places[frame][axis]));
        Some(Neutral {
            // A blink in this moment is no part of the median.
            expression: expressions.map(|k| of(&|frame| self.expressions[frame][k])).collect(),
            head: Some((mean(&self.rotations), place)),
        })
    }
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The mean of rotations that are near to each other.
fn mean(rotations: &[UnitQuaternion<f32>]) -> UnitQuaternion<f32> {
    let first = rotations[0].into_inner();
    let sum = rotations.iter().fold(Quaternion::default(), |sum, rotation| {
        let q = rotation.into_inner();
        // A quaternion and its negative are one rotation.
        if q.dot(&first) < 0.0 { sum - q } else { sum + q }
    });
    UnitQuaternion::new_normalize(sum)
}

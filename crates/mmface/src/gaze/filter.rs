//! Gaze over time. Eyes rest on something and then jump: a fixation is steadied, a jump passes in
//! the frame in which it happens. A filter for heads, which do not jump, would draw it out.

use std::collections::HashMap;

use nalgebra::Vector3;

use super::{EyeGaze, Gaze, SURE, Sight};
use crate::face::{Params, rotation};
use crate::smooth::Strength;

/// Seconds for which the last direction is held when no iris is in sight.
const HOLD: f64 = 0.4;
/// Time constant in seconds of the return to straight ahead after that.
const RETURN: f64 = 0.25;
/// Seconds without the face after which nothing is held.
const GAP: f64 = 0.5;

/// How strongly fixations are steadied.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    /// Time constant in seconds at rest.
    rest: f32,
    /// A change of so many degrees is a jump.
    jump: f32,
}

impl Tuning {
    /// `None`: not at all.
    fn of(strength: Strength) -> Option<Self> {
        match strength {
            Strength::Off => None,
            Strength::Light | Strength::Avatar => Some(Self { rest: 0.05, jump: 4.0 }),
            Strength::Medium => Some(Self { rest: 0.12, jump: 6.0 }),
            Strength::Strong => Some(Self { rest: 0.3, jump: 8.0 }),
        }
    }

    /// The part of the way to a new direction that is gone at once.
    fn part(self, from: &Vector3<f32>, to: &Vector3<f32>, seconds: f32) -> f32 {
        let apart = from.angle(to).to_degrees() / self.jump;
        (apart * apart).max(1.0 - (-seconds / self.rest).exp()).min(1.0)
    }
}

/// The gaze of all faces of a stream, by id.
pub(crate) struct Filter {
    tuning: Option<Tuning>,
    faces: HashMap<u64, Memory>,
}

/// What is remembered of one face.
#[derive(Debug, Clone, Copy)]
struct Memory {
    pts: f64,
    /// When an iris was last in sight.
    seen: f64,
    /// Of the right eye, the left, and both; camera space.
    directions: [Vector3<f32>; 3],
}

impl Filter {
    pub(crate) fn new(strength: Strength) -> Self {
        Self { tuning: Tuning::of(strength), faces: HashMap::new() }
    }

    /// Takes in what is seen of face `id` at `pts` seconds: sights and directions of the right eye
    /// and the left; no sights while the face itself is out of sight. `params` say where straight
    /// ahead is, `fresh` that there is no continuity with earlier frames.
    pub(crate) fn next(
        &mut self,
        id: u64,
        pts: f64,
        params: &Params,
        (sights, seen): (Option<[Sight; 2]>, [Option<Vector3<f32>>; 2]),
        fresh: bool,
    ) -> Gaze {
        let ahead = rotation::matrix(&params.rotation).column(2).into_owned();
        let known = self.faces.get(&id).copied();
        let known = known.filter(|last| !fresh && (0.0..=GAP).contains(&(pts - last.pts)));
        let last = known.unwrap_or(Memory { pts, seen: pts - HOLD, directions: [ahead; 3] });
        let dt = (pts - last.pts) as f32;
        let weight = |side: usize| sights.map_or(0.0, |s| s[side].confidence);
        let both = seen.iter().enumerate().filter_map(|(side, d)| Some((*d)? * weight(side)));
        let both = both.reduce(|a, b| a + b).and_then(|sum| sum.try_normalize(1e-6));
        let mut memory = Memory { pts, ..last };
        if let Some(both) = both {
            memory.seen = pts;
            // A wink says nothing; the other eye does.
            for (at, new) in
                [seen[0].unwrap_or(both), seen[1].unwrap_or(both), both].into_iter().enumerate()
            {
                let part = match (self.tuning, known) {
                    (Some(tuning), Some(_)) => tuning.part(&last.directions[at], &new, dt),
                    _ => 1.0,
                };
                memory.directions[at] = towards(&last.directions[at], &new, part);
            }
        } else if pts - last.seen >= HOLD {
            let part = if known.is_some() { 1.0 - (-f64::from(dt) / RETURN).exp() } else { 1.0 };
            memory.directions =
                last.directions.map(|direction| towards(&direction, &ahead, part as f32));
        }
        self.faces.insert(id, memory);
        let eye = |side: usize| EyeGaze {
            iris: sights
                .filter(|s| s[side].confidence >= SURE && seen[side].is_some())
                .map(|s| s[side].iris),
            direction: memory.directions[side].into(),
            confidence: if seen[side].is_some() {
                weight(side)
            } else {
                weight(side).min(SURE / 2.0)
            },
        };
        let (right, left) = (eye(0), eye(1));
        Gaze {
            left,
            right,
            direction: memory.directions[2].into(),
            confidence: right.confidence.max(left.confidence),
        }
    }

    /// Drops the faces last seen before `pts` seconds.
    pub(crate) fn forget_before(&mut self, pts: f64) {
        self.faces.retain(|_, face| face.pts >= pts);
    }

    /// Drops all faces.
    pub(crate) fn reset(&mut self) {
        self.faces.clear();
    }
}

/// A unit vector on the way from one to another; the second if they are opposite.
fn towards(from: &Vector3<f32>, to: &Vector3<f32>, part: f32) -> Vector3<f32> {
    from.lerp(to, part).try_normalize(1e-3).unwrap_or(*to)
}

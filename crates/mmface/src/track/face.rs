//! The state of one track: last fits, motion, and how long the face has been out of sight.

use std::f32::consts::PI;

use crate::bounds::around;
use crate::crop::{CROP, CropMap, CropRule};
use crate::face::{Params, rotation};

use super::patch::Patch;
use super::same_person::{Look, Person};
use crate::image::Image;

/// The fit of one face in one frame.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub pts: f64,
    pub params: Params,
    /// See [`agreement`](super::agreement).
    pub confidence: f32,
    /// Box [x, y, width, height] around the landmarks.
    pub bounds: [f32; 4],
    pub landmarks: Vec<[f32; 2]>,
    angle: f32,
}

impl Sighting {
    pub(super) fn new(pts: f64, params: Params, confidence: f32, landmarks: Vec<[f32; 2]>) -> Self {
        let angle = rotation::upright_angle(&params.rotation);
        Self { pts, confidence, bounds: around(&landmarks), landmarks, angle, params }
    }

    /// The crop around this fit's landmarks.
    pub(super) fn crop(&self, rule: &CropRule) -> CropMap {
        CropMap::around(&self.landmarks, self.angle, rule)
    }

    /// What the fit, and the image around it, tell of the person.
    pub(super) fn look(&self, image: &Image, rule: &CropRule) -> Look {
        Look { identity: self.params.identity.clone(), patch: Patch::new(image, &self.crop(rule)) }
    }

    /// How much the fit tells of the person if it stands for `seconds`: less if it is unsure or
    /// turned away.
    fn weight(&self, seconds: f32) -> f32 {
        self.confidence * rotation::facing(&self.params.rotation) * seconds.clamp(0.0, LONGEST_VIEW)
    }

    /// √(width × height) of the box, at least 1 pixel.
    fn size(&self) -> f32 {
        (self.bounds[2] * self.bounds[3]).max(0.0).sqrt().max(1.0)
    }

    fn middle(&self) -> [f32; 2] {
        [self.bounds[0] + self.bounds[2] / 2.0, self.bounds[1] + self.bounds[3] / 2.0]
    }

    /// Distance between the centres of two boxes, in units of the larger box's size.
    pub(super) fn distance(&self, other: &Self) -> f32 {
        let (a, b) = (self.middle(), other.middle());
        (a[0] - b[0]).hypot(a[1] - b[1]) / self.size().max(other.size())
    }
}

/// The next crop: on the way from the last crop `from` to the wanted crop `to`. It moves by a
/// smaller part of the way the closer the two are; see [`FULL_STEP`] and [`MIN_STEP`].
fn damped(from: CropMap, to: CropMap) -> CropMap {
    let side = CROP as f32 * from.scale;
    let [dx, dy] = [0, 1].map(|k| to.centre[k] - from.centre[k]);
    let grown = (to.scale / from.scale).ln();
    let rotation = (to.angle - from.angle + PI).rem_euclid(2.0 * PI) - PI;
    let apart = (dx.hypot(dy) / side).max(grown.abs()).max(rotation.abs());
    let part = (apart / FULL_STEP).clamp(MIN_STEP, 1.0);
    CropMap {
        centre: [from.centre[0] + part * dx, from.centre[1] + part * dy],
        scale: from.scale * (part * grown).exp(),
        angle: from.angle + part * rotation,
        mirrored: to.mirrored,
    }
}

/// A face that is followed, whether it is shown or not.
#[derive(Debug)]
pub(super) struct Track {
    pub key: u64,
    /// `None` until the track has enough sightings to be shown.
    pub id: Option<u64>,
    /// The last fit, which is shown.
    pub last: Sighting,
    /// The last fit with enough confidence. The next crop lies around it, so that a hand in
    /// front of the face does not pull the crop away.
    sure: Sighting,
    pub sightings: u32,
    pub confidence: f32,
    pub missing_since: Option<f64>,
    /// Whether the last sighting has no continuity with earlier ones (new, found again, after a
    /// cut).
    pub fresh: bool,
    /// Whether the face was lost in a cut.
    pub cut: bool,
    /// What is known of the person.
    pub person: Person,
    /// Since when the face has looked like somebody else.
    pub suspected_since: Option<f64>,
    /// Pixels of the frame per second.
    velocity: [f32; 2],
    /// The crop of the last sure fit; `None` right after the first fit.
    last_crop: Option<CropMap>,
}

/// A crop that would move by at least this part of its side, grow by this factor (natural
/// logarithm) or turn by this angle in radians goes the whole way.
const FULL_STEP: f32 = 0.06;
/// A smaller step is reduced in proportion, but at least to this part of the way. Reason: a fit
/// depends slightly on its crop, and a crop that follows every fit at once can oscillate between
/// two positions for ever.
const MIN_STEP: f32 = 0.15;

/// Seconds for which the first view of a face counts.
const FIRST_VIEW: f32 = 1.0 / 30.0;
/// Most seconds for which a view counts.
const LONGEST_VIEW: f32 = 0.5;

impl Track {
    /// A new track. With `strong` evidence a single further sighting is enough to show it.
    pub(super) fn new(key: u64, first: Sighting, look: Look, strong: bool) -> Self {
        Self {
            key,
            person: Person::new(look, first.weight(FIRST_VIEW)),
            suspected_since: None,
            id: None,
            confidence: first.confidence,
            sure: first.clone(),
            last: first,
            sightings: if strong { super::MIN_SIGHTINGS - 1 } else { 0 },
            missing_since: None,
            fresh: true,
            cut: false,
            velocity: [0.0; 2],
            last_crop: None,
        }
    }

    /// Whether the face was in sight within the last `seconds`, in the current scene.
    pub(super) fn was_in_sight(&self, pts: f64, seconds: f64) -> bool {
        !self.cut && self.missing_since.is_none_or(|since| pts - since < seconds)
    }

    /// The crop for the frame at `pts`: around the landmarks of the last sure fit, extrapolated
    /// along their motion, damped while the face is still.
    pub(super) fn next_crop(&self, pts: f64, rule: &CropRule) -> CropMap {
        let mut map = self.sure.crop(rule);
        // Motion is extrapolated for at most 0.1 s and half the face's size.
        let ahead = (pts - self.sure.pts).clamp(0.0, 0.1) as f32;
        let limit = self.sure.size() / 2.0;
        for k in 0..2 {
            map.centre[k] += (self.velocity[k] * ahead).clamp(-limit, limit);
        }
        self.last_crop.map_or(map, |last_crop| damped(last_crop, map))
    }

    /// Whether `next` can be the same face: it is not too far away, and its size has not changed
    /// too much. The limits are tighter for a doubtful fit.
    pub(super) fn is_plausible(&self, next: &Sighting, doubtful: bool) -> bool {
        let (reach, growth) = if doubtful { (0.4, 1.4) } else { (0.8, 2.0) };
        let ratio = next.size() / self.sure.size();
        self.sure.distance(next) < reach && (1.0 / growth..growth).contains(&ratio)
    }

    /// Takes in the fit of the next frame, seen in the crop `map`. A `doubtful` one is shown, but
    /// neither steers the next crop nor tells of the person; `look` is `None` if it does not either.
    pub(super) fn seen(
        &mut self,
        next: Sighting,
        look: Option<Look>,
        map: CropMap,
        doubtful: bool,
    ) {
        self.confidence = next.confidence;
        self.sightings = self.sightings.saturating_add(1);
        self.missing_since = None;
        if !doubtful {
            let dt = (next.pts - self.sure.pts) as f32;
            let (before, now) = (self.sure.middle(), next.middle());
            for k in 0..2 {
                let measured = if dt > 1e-4 { (now[k] - before[k]) / dt } else { 0.0 };
                // Exponential mean over about two frames: fast enough to keep up, slow enough not
                // to shake.
                self.velocity[k] = 0.5 * (self.velocity[k] + measured);
            }
            if let Some(look) = look {
                self.person.add(look, next.weight(dt));
            }
            self.sure = next.clone();
            self.last_crop = Some(map);
        }
        self.last = next;
    }

    /// Notes whether the face looks like somebody else at `pts`; returns whether it does not.
    pub(super) fn suspect(&mut self, pts: f64, suspected: bool) -> bool {
        self.suspected_since = if suspected { self.suspected_since.or(Some(pts)) } else { None };
        !suspected
    }

    /// Continues the track with a sighting elsewhere or later: motion and last crop no longer
    /// apply.
    pub(super) fn found_again(&mut self, next: Sighting, look: Look) {
        self.person.add(look, next.weight(FIRST_VIEW));
        self.velocity = [0.0; 2];
        self.last_crop = None;
        self.confidence = next.confidence;
        self.sure = next.clone();
        self.last = next;
        self.suspected_since = None;
        self.fresh = true;
        self.cut = false;
        self.missing_since = None;
    }

    /// The face was not seen in the frame at `pts`.
    pub(super) fn lose(&mut self, pts: f64) {
        self.missing_since.get_or_insert(pts);
        self.suspected_since = None;
        self.velocity = [0.0; 2];
        // A fit that is only repeated loses confidence.
        self.confidence = self.confidence.min(0.5) * 0.9;
        self.sightings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(x: f32, scale: f32, angle: f32) -> CropMap {
        CropMap { centre: [100.0 + x, 80.0], scale, angle, mirrored: false }
    }

    #[test]
    fn far_crops_are_reached_and_near_ones_approached() {
        let from = map(0.0, 2.0, 3.0);
        // A tenth of the side; a tenth larger; turned across ±π.
        for to in [map(51.2, 2.0, 3.0), map(0.0, 2.2, 3.0), map(0.0, 2.0, -3.1)] {
            let next = damped(from, to);
            let turn = (next.angle - to.angle).rem_euclid(2.0 * PI);
            assert!((next.centre[0] - to.centre[0]).abs() < 1e-3, "{next:?}");
            assert!((next.scale - to.scale).abs() < 1e-3 && turn.min(2.0 * PI - turn) < 1e-3);
        }
        let next = damped(from, map(5.12, 2.0, 3.0));
        assert!((next.centre[0] - 100.0 - 5.12 / 6.0).abs() < 1e-3, "{next:?}");
        assert_eq!(damped(from, from), from);
    }

    #[test]
    fn a_fit_that_answers_its_crop_does_not_swing_for_ever() {
        // The network sees the face 0.4 pixels to the left for each pixel that its crop lies right.
        let (mut crop, mut fit, mut velocity) = (map(12.0, 2.0, 0.0), 0.0, 0.0);
        for _ in 0..100 {
            let seen = -0.4 * (crop.centre[0] - 100.0);
            velocity = 0.5 * (velocity + seen - fit);
            fit = seen;
            crop = damped(crop, map(fit + velocity, 2.0, 0.0));
        }
        assert!((crop.centre[0] - 100.0).abs() < 0.1 && fit.abs() < 0.1, "{crop:?}, {fit}");
    }
}

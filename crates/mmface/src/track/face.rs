//! One followed face: where it was, how it moves, how long it has been missed.

use std::f32::consts::PI;

use crate::bounds::around;
use crate::crop::{CROP, CropMap, CropRule};
use crate::face::{FaceModel, Params, rotation};

/// A fit of one frame.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub pts: f64,
    pub params: Params,
    pub presence: f32,
    /// [x, y, w, h] around the landmarks.
    pub bounds: [f32; 4],
    pub landmarks: Vec<[f32; 2]>,
    angle: f32,
}

impl Sighting {
    pub(super) fn new(pts: f64, params: Params, presence: f32, model: &FaceModel) -> Self {
        let landmarks = model.landmarks(&params);
        let angle = rotation::upright_angle(&params.rotation);
        Self { pts, presence, bounds: around(&landmarks), landmarks, angle, params }
    }

    /// Where to look for the same face again.
    pub(super) fn crop(&self, rule: &CropRule) -> CropMap {
        CropMap::around(&self.landmarks, self.angle, rule)
    }

    fn size(&self) -> f32 {
        (self.bounds[2] * self.bounds[3]).max(0.0).sqrt().max(1.0)
    }

    fn middle(&self) -> [f32; 2] {
        [self.bounds[0] + self.bounds[2] / 2.0, self.bounds[1] + self.bounds[3] / 2.0]
    }

    /// How far another one is, in sizes of the larger of the two.
    pub(super) fn distance(&self, other: &Self) -> f32 {
        let (a, b) = (self.middle(), other.middle());
        (a[0] - b[0]).hypot(a[1] - b[1]) / self.size().max(other.size())
    }
}

/// From one crop on the way to another, which is the farther to go the farther it lies.
fn calmed(from: CropMap, to: CropMap) -> CropMap {
    let side = CROP as f32 * from.scale;
    let [dx, dy] = [0, 1].map(|k| to.centre[k] - from.centre[k]);
    let grown = (to.scale / from.scale).ln();
    let turned = (to.angle - from.angle + PI).rem_euclid(2.0 * PI) - PI;
    let apart = (dx.hypot(dy) / side).max(grown.abs()).max(turned.abs());
    let part = (apart / CALM).clamp(CALMEST, 1.0);
    CropMap {
        centre: [from.centre[0] + part * dx, from.centre[1] + part * dy],
        scale: from.scale * (part * grown).exp(),
        angle: from.angle + part * turned,
        mirrored: to.mirrored,
    }
}

/// A face that is followed, shown or not.
#[derive(Debug)]
pub(super) struct Followed {
    pub key: u64,
    /// None while on probation.
    pub id: Option<u64>,
    /// The last fit: what is shown.
    pub last: Sighting,
    /// The last fit that was beyond doubt: where the next crop lies. A hand before the face must
    /// not lead the crop away with it.
    sure: Sighting,
    pub sightings: u32,
    pub confidence: f32,
    pub missing_since: Option<f64>,
    /// What was before says nothing about the last sighting.
    pub fresh: bool,
    /// Lost to a scene cut.
    pub cut: bool,
    /// Frame pixels a second.
    velocity: [f32; 2],
    /// The crop of the last sure fit, unless it was a first one.
    looked: Option<CropMap>,
}

/// A crop that would move by this part of its side (or grow by it, or turn by it in radians) moves all
/// the way; one that would move less moves a smaller part of the way, but at least …
const CALM: f32 = 0.06;
/// … this: a fit depends a little on its crop, and a crop that follows every fit at once can swing to
/// and fro between two of them for ever.
const CALMEST: f32 = 0.15;

impl Followed {
    /// Someone new; `strong` evidence counts as probation passed.
    pub(super) fn new(key: u64, first: Sighting, strong: bool) -> Self {
        Self {
            key,
            id: None,
            confidence: first.presence,
            sure: first.clone(),
            last: first,
            sightings: if strong { super::PROBATION - 1 } else { 0 },
            missing_since: None,
            fresh: true,
            cut: false,
            velocity: [0.0; 2],
            looked: None,
        }
    }

    /// Whether it was in sight within the last `seconds`, in this scene.
    pub(super) fn is_near(&self, pts: f64, seconds: f64) -> bool {
        !self.cut && self.missing_since.is_none_or(|since| pts - since < seconds)
    }

    /// Where to look next: around the last sure landmarks, moved on as they were moving; calmly while
    /// the face is still.
    pub(super) fn next_crop(&self, pts: f64, rule: &CropRule) -> CropMap {
        let mut map = self.sure.crop(rule);
        // Motion is believed for a tenth of a second and half a face: longer is guessing.
        let ahead = (pts - self.sure.pts).clamp(0.0, 0.1) as f32;
        let limit = self.sure.size() / 2.0;
        for k in 0..2 {
            map.centre[k] += (self.velocity[k] * ahead).clamp(-limit, limit);
        }
        self.looked.map_or(map, |looked| calmed(looked, map))
    }

    /// Whether the next fit can be the same face: it neither jumped away nor changed its size
    /// beyond reason; a doubtful one may do less of both.
    pub(super) fn is_plausible(&self, next: &Sighting, doubtful: bool) -> bool {
        let (reach, growth) = if doubtful { (0.4, 1.4) } else { (0.8, 2.0) };
        let ratio = next.size() / self.sure.size();
        self.sure.distance(next) < reach && (1.0 / growth..growth).contains(&ratio)
    }

    /// Takes in the fit of the next frame, seen in the crop of `map`.
    pub(super) fn seen(&mut self, next: Sighting, map: CropMap, doubtful: bool) {
        self.confidence = next.presence;
        self.sightings = self.sightings.saturating_add(1);
        self.missing_since = None;
        if !doubtful {
            let dt = (next.pts - self.sure.pts) as f32;
            let (before, now) = (self.sure.middle(), next.middle());
            for k in 0..2 {
                let measured = if dt > 1e-4 { (now[k] - before[k]) / dt } else { 0.0 };
                // Averaged over two frames or so: quick enough to keep up, slow enough not to shake.
                self.velocity[k] = 0.5 * (self.velocity[k] + measured);
            }
            self.sure = next.clone();
            self.looked = Some(map);
        }
        self.last = next;
    }

    pub(super) fn found_again(&mut self, next: Sighting) {
        self.velocity = [0.0; 2];
        self.looked = None;
        self.confidence = next.presence;
        self.sure = next.clone();
        self.last = next;
        self.fresh = true;
        self.cut = false;
        self.missing_since = None;
    }

    pub(super) fn lose(&mut self, pts: f64) {
        self.missing_since.get_or_insert(pts);
        self.velocity = [0.0; 2];
        // Held faces say how little is known of them.
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
            let next = calmed(from, to);
            let turn = (next.angle - to.angle).rem_euclid(2.0 * PI);
            assert!((next.centre[0] - to.centre[0]).abs() < 1e-3, "{next:?}");
            assert!((next.scale - to.scale).abs() < 1e-3 && turn.min(2.0 * PI - turn) < 1e-3);
        }
        let next = calmed(from, map(5.12, 2.0, 3.0));
        assert!((next.centre[0] - 100.0 - 5.12 / 6.0).abs() < 1e-3, "{next:?}");
        assert_eq!(calmed(from, from), from);
    }

    #[test]
    fn a_fit_that_answers_its_crop_does_not_swing_for_ever() {
        // The network sees the face 0.4 pixels to the left for each pixel that its crop lies right.
        let (mut crop, mut fit, mut velocity) = (map(12.0, 2.0, 0.0), 0.0, 0.0);
        for _ in 0..100 {
            let seen = -0.4 * (crop.centre[0] - 100.0);
            velocity = 0.5 * (velocity + seen - fit);
            fit = seen;
            crop = calmed(crop, map(fit + velocity, 2.0, 0.0));
        }
        assert!((crop.centre[0] - 100.0).abs() < 0.1 && fit.abs() < 0.1, "{crop:?}, {fit}");
    }
}

//! Who is who: follows faces from fit to fit, gives them ids, says where to look next and when to
//! detect again.
//!
//! A face, once found, is followed by its own last fit: the next crop lies around its last
//! landmarks, moved on by their motion. A detection that lies on a followed face belongs to it;
//! one that lies on none begins a new one, which has to prove itself before it gets an id. All
//! times are seconds of the stream, never frames: a camera at 15 frames a second forgets as fast
//! as one at 60.

mod cut;
mod face;

use std::sync::Arc;

pub(crate) use cut::CutDetector;
use face::{Followed, Sighting};

use crate::backend::Output;
use crate::bounds::iou;
use crate::crop::{CropMap, CropRule, DetectorRule};
use crate::detect::Detection;
use crate::face::{FaceModel, Params};
use crate::tracker::Crowd;

/// A face without a sighting keeps its last fit in the records for this long …
const HOLD: f64 = 0.45;
/// … is looked for in every frame for this long …
const SEARCH: f64 = 0.6;
/// … and gets its id back if it is found again within this time.
const REMEMBER: f64 = 3.0;
/// Sightings that make a face of a weak detection; a strong one needs no second.
const PROBATION: u32 = 3;
const STRONG: f32 = 0.7;
/// How soon after a detection the next may follow when a face is being looked for.
const RETRY: f64 = 0.1;
/// A newcomer's crops lie roughly: of the presence that makes a face, this part is enough in them.
const ROUGH: f32 = 0.6;
/// A detection overlapping a face's landmark box by this much belongs to that face.
const SAME: f32 = 0.3;
/// After a cut, only a face that overlaps this much with where it was is taken for the same.
const SAME_AFTER_CUT: f32 = 0.6;
/// Two followed faces that overlap by more than this are one.
const SAME_FACE: f32 = 0.55;

/// How a picture's face is looked at besides the crop itself: shift (parts of the side),
/// enlargement, turn (radians), in a mirror or not. The networks' errors differ from view to view, so
/// their mean errs less; a video has the next frame instead.
const VIEWS: [([f32; 2], f32, f32, bool); 5] = [
    ([0.0, 0.0], 1.0, 0.0, true),
    ([0.03, 0.0], 1.04, 0.06, false),
    ([-0.03, 0.0], 0.96, -0.06, true),
    ([0.0, 0.03], 0.96, 0.06, false),
    ([0.0, -0.03], 1.04, -0.06, true),
];

/// What tracks have to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// At most this many faces.
    pub max_faces: usize,
    /// Seconds between detections while there is room for one more face.
    pub detect_every: f64,
    /// From which presence on a crop counts as a face.
    pub presence: f32,
    /// How much points count beside the mesh's landmarks.
    pub points: f32,
    /// Every sighting counts at once: for pictures, which have no next frame.
    pub immediate: bool,
    /// How crops lie around landmarks.
    pub crop: CropRule,
    /// How first crops lie around detections.
    pub detector: DetectorRule,
}

/// One face of one frame, as the networks see it.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    /// Never reused.
    pub id: u64,
    /// Presence, 0…1.
    pub confidence: f32,
    /// Raw parameters in frame pixels.
    pub params: Params,
    /// Their 68 landmarks, frame pixels.
    pub landmarks: Vec<[f32; 2]>,
    /// Whether what was before says nothing about it: new, found again, or after a cut.
    pub fresh: bool,
    /// The first of this frame's crops that showed it; `None` while it is only held.
    pub crop: Option<usize>,
}

/// Follows the faces of one stream.
pub(crate) struct Tracks {
    settings: Settings,
    model: Arc<FaceModel>,
    faces: Vec<Followed>,
    next_id: u64,
    next_key: u64,
    last_detection: Option<f64>,
}

/// Names a face between [`Tracks::crops`] and [`Tracks::update`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Tracks {
    /// Tracks of nobody yet.
    #[must_use]
    pub(crate) fn new(settings: Settings, model: Arc<FaceModel>) -> Self {
        Self { settings, model, faces: Vec::new(), next_id: 1, next_key: 0, last_detection: None }
    }

    /// Forgets everybody; ids go on.
    pub(crate) fn reset(&mut self) {
        self.faces.clear();
        self.last_detection = None;
    }

    /// The scene has changed: nobody is expected where they were, and a detection is due.
    pub(crate) fn cut(&mut self, pts: f64) {
        self.faces.retain(|f| f.id.is_some());
        for face in &mut self.faces {
            face.lose(pts);
            face.cut = true;
        }
        self.last_detection = None;
    }

    /// Whether nobody can be followed until a detection says where they are.
    #[must_use]
    pub(crate) fn is_blind(&self, pts: f64) -> bool {
        !self.faces.iter().any(|f| f.is_near(pts, SEARCH))
    }

    /// Whether a detection is due, which is then taken to happen. Often while a face is lost or
    /// none is followed, now and then while there is room for more, else never.
    pub(crate) fn wants_detection(&mut self, pts: f64) -> bool {
        let since = self.last_detection.map_or(f64::INFINITY, |last| (pts - last).abs());
        let seen = self.faces.iter().filter(|f| self.is_sure(f)).count();
        let due = if seen == 0 || (seen < self.faces.len() && seen < self.settings.max_faces) {
            RETRY.min(self.settings.detect_every)
        } else if seen < self.settings.max_faces {
            self.settings.detect_every
        } else {
            f64::INFINITY
        };
        let wants = since >= due;
        if wants {
            self.last_detection = Some(pts);
        }
        wants
    }

    /// In sight, and not in doubt.
    fn is_sure(&self, face: &Followed) -> bool {
        face.missing_since.is_none() && face.confidence >= self.settings.presence
    }

    /// Whether more faces are surely in view than may be followed, and how many are seen.
    #[must_use]
    pub(crate) fn crowd(&self, detections: &[Detection]) -> Option<Crowd> {
        let sure = detections.iter().filter(|d| d.score >= STRONG).count();
        let most = self.settings.max_faces;
        (sure > most).then_some(Crowd { seen: detections.len(), most })
    }

    /// First crops for the detections that lie on nobody who is surely in sight, with the detections;
    /// the largest and surest where there is not room for all.
    #[must_use]
    pub(crate) fn newcomers(&self, detections: &[Detection]) -> Vec<(CropMap, Detection)> {
        let in_sight = self.faces.iter().filter(|f| self.is_sure(f));
        let room = self.settings.max_faces.saturating_sub(in_sight.clone().count());
        let weight = |d: &Detection| d.score * (d.bounds[2] * d.bounds[3]).sqrt();
        let mut sorted = detections.to_vec();
        sorted.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        sorted
            .iter()
            .filter(|d| !in_sight.clone().any(|f| belongs(d.bounds, f.last.bounds)))
            .map(|d| (self.settings.detector.crop(d.bounds, d.angle), *d))
            .filter(|(map, _)| map.is_sane())
            .take(room)
            .collect()
    }

    /// Those newcomers in whose first crops the networks see a face, with crops around that fit: what
    /// the detector says of the place is rough.
    #[must_use]
    pub(crate) fn nearer(
        &self,
        pts: f64,
        newcomers: &[(CropMap, Detection)],
        outputs: Vec<Output>,
    ) -> Vec<(CropMap, Detection)> {
        let seen = newcomers.iter().zip(outputs).filter_map(|((map, detection), output)| {
            let sighting = self.sighting(pts, std::iter::once((map, output)), ROUGH)?;
            Some((sighting.crop(&self.settings.crop), *detection))
        });
        seen.filter(|(map, _)| map.is_sane()).collect()
    }

    /// Takes up those newcomers that the networks also see. One that lies near where a face was
    /// lost is that face.
    pub(crate) fn admit(
        &mut self,
        pts: f64,
        newcomers: &[(CropMap, Detection)],
        outputs: Vec<Output>,
    ) {
        for ((map, detection), output) in newcomers.iter().zip(outputs) {
            let view = std::iter::once((map, output));
            let Some(sighting) = self.sighting(pts, view, ROUGH) else { continue };
            let known = |f: &Followed| {
                let same = iou(f.last.bounds, sighting.bounds) > SAME_FACE;
                same && (self.is_sure(f)
                    || f.missing_since.is_none() && f.confidence >= sighting.presence)
            };
            if self.faces.iter().any(known) {
                continue;
            }
            let strong =
                self.settings.immediate || detection.score >= STRONG && sighting.presence >= STRONG;
            if let Some(lost) = self.lost_here(&sighting) {
                self.faces[lost].found_again(sighting);
            } else {
                self.next_key += 1;
                self.faces.push(Followed::new(self.next_key, sighting, strong));
            }
        }
    }

    /// The lost face that a newcomer is: the nearest within two sizes of where it was last seen;
    /// after a cut only one that stayed where it was (the cut was none: a flash, say).
    fn lost_here(&self, sighting: &Sighting) -> Option<usize> {
        let lost = self.faces.iter().enumerate().filter(|(_, f)| !self.is_sure(f));
        lost.map(|(i, f)| (i, f.last.distance(sighting)))
            .filter(|(i, distance)| {
                let face = &self.faces[*i];
                let same_place = iou(face.last.bounds, sighting.bounds) > SAME_AFTER_CUT;
                if face.cut { same_place } else { *distance < 2.0 }
            })
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(i, _)| i)
    }

    /// Where to look in the frame at `pts`: one crop for each face, several if it is a picture.
    #[must_use]
    pub(crate) fn crops(&self, pts: f64) -> Vec<(Key, CropMap)> {
        let views = if self.settings.immediate { &VIEWS[..] } else { &[] };
        self.faces
            .iter()
            .filter(|f| f.is_near(pts, SEARCH))
            .map(|f| (Key(f.key), f.next_crop(pts, &self.settings.crop)))
            .filter(|(_, map)| map.is_sane())
            .take(self.settings.max_faces)
            .flat_map(|(key, map)| {
                let nudged = views.iter().map(move |&(by, size, turn, mirrored)| {
                    let view = map.nudged(by, size, turn);
                    if mirrored { view.mirror() } else { view }
                });
                std::iter::once(map).chain(nudged).map(move |map| (key, map))
            })
            .collect()
    }

    /// Takes in what the networks saw in the crops of this frame; hands out the faces that are
    /// shown, by id.
    pub(crate) fn update(
        &mut self,
        pts: f64,
        crops: &[(Key, CropMap)],
        outputs: Vec<Output>,
    ) -> Vec<Tracked> {
        let mut outputs = outputs.into_iter();
        let (mut first, mut seen) = (0, Vec::new());
        for views in crops.chunk_by(|a, b| a.0 == b.0) {
            let outputs: Vec<Output> = outputs.by_ref().take(views.len()).collect();
            let crop = first;
            first += views.len();
            let Some(at) = self.faces.iter().position(|f| f.key == views[0].0.0) else { continue };
            // Who is followed already is not dropped for a moment's doubt.
            let known = self.faces[at].id.is_some() || self.settings.immediate;
            let maps = views.iter().map(|(_, map)| map);
            let sighting = self.sighting(pts, maps.zip(outputs), if known { 0.5 } else { 1.0 });
            let face = &mut self.faces[at];
            let doubtful = sighting.as_ref().is_some_and(|s| s.presence < self.settings.presence);
            match sighting {
                Some(s) if face.is_plausible(&s, doubtful) => {
                    seen.push((face.key, crop));
                    face.seen(s, views[0].1, doubtful);
                }
                _ => face.lose(pts),
            }
        }
        self.drop_duplicates();
        self.faces.retain(|f| match f.missing_since {
            Some(since) => f.id.is_some() && (0.0..REMEMBER).contains(&(pts - since)),
            None => true,
        });
        let mut shown = Vec::new();
        for face in &mut self.faces {
            if face.id.is_none() && face.missing_since.is_none() && face.sightings >= PROBATION {
                face.id = Some(self.next_id);
                self.next_id += 1;
            }
            if let (Some(id), true) = (face.id, face.is_near(pts, HOLD)) {
                shown.push(Tracked {
                    id,
                    confidence: face.confidence,
                    params: face.last.params.clone(),
                    landmarks: face.last.landmarks.clone(),
                    fresh: std::mem::take(&mut face.fresh),
                    crop: seen.iter().find(|(key, _)| *key == face.key).map(|(_, crop)| *crop),
                });
            }
        }
        shown.sort_by_key(|f| f.id);
        shown
    }

    /// What the networks see in one or several views of a face; `mild` lowers the threshold of
    /// presence.
    fn sighting<'a>(
        &self,
        pts: f64,
        views: impl Iterator<Item = (&'a CropMap, Output)>,
        mild: f32,
    ) -> Option<Sighting> {
        let (mut fits, mut presence, mut count) = (Vec::new(), 0.0, 0.0);
        for (map, output) in views {
            let params = Params::from_outputs(output.pose, &output.identity, &output.expression);
            let plain = |p| if map.mirrored { self.model.mirrored(p) } else { p };
            let beside = |p| self.model.beside(p, &output.points, self.settings.points);
            fits.extend(params.map(|p| plain(beside(p)).in_frame(map)));
            presence += output.presence;
            count += 1.0;
        }
        let (presence, params) = (presence / count, self.model.centred(Params::mean(&fits)?));
        // A presence that is no number is none.
        let seen = presence >= self.settings.presence * mild;
        seen.then(|| Sighting::new(pts, params, presence, &self.model))
    }

    /// Two tracks that have come to lie on one face are one; the older stays.
    fn drop_duplicates(&mut self) {
        let key = |f: &Followed| (f.id.is_none(), f.id, f.key);
        self.faces.sort_by_key(key);
        let mut kept: Vec<Followed> = Vec::new();
        for face in self.faces.drain(..) {
            let double = kept.iter().any(|k| {
                let both = k.missing_since.is_none() && face.missing_since.is_none();
                both && iou(k.last.bounds, face.last.bounds) > SAME_FACE
            });
            if !double {
                kept.push(face);
            }
        }
        self.faces = kept;
    }
}

/// Whether a detector's box and a landmark box are of one face: they overlap, or the middle of
/// one lies well inside the other.
fn belongs(detection: [f32; 4], face: [f32; 4]) -> bool {
    let middle = |b: [f32; 4]| [b[0] + b[2] / 2.0, b[1] + b[3] / 2.0];
    let (a, b) = (middle(detection), middle(face));
    let near = (0..2).all(|k| (a[k] - b[k]).abs() < 0.3 * face[k + 2].max(detection[k + 2]));
    near || iou(detection, face) > SAME
}

#[cfg(test)]
mod tests;

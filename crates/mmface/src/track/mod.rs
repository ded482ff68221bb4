//! Tracking: links fits from frame to frame, gives faces their ids, chooses the next crops and
//! decides when the detector runs.
//!
//! A face, once found, is followed by its own last fit: the next crop lies around its last
//! landmarks, moved on by their motion. A detection on a followed face belongs to that face; any
//! other detection starts a new track, which gets an id after enough sightings. All times are
//! seconds of the stream, never frames, so that the frame rate does not matter.

mod agreement;
mod cut;
mod face;
mod follow;
mod patch;
mod same_person;

use std::sync::Arc;

pub(crate) use cut::{Change, CutDetector};
use face::{Sighting, Track};

use crate::backend::Output;
use crate::bounds::iou;
use crate::crop::{CropMap, CropRule, DetectorRule};
use crate::detect::Detection;
use crate::face::{FaceModel, LandmarkShapes, Params};

/// Seconds for which a face that is out of sight is still shown, with its last fit.
const HOLD: f64 = 0.45;
/// Seconds for which it is still searched for, in every frame.
const SEARCH: f64 = 0.6;
/// Seconds for which the detector looks for it often, and for which somebody near its last place is
/// taken for it unless the evidence is against that.
const REMEMBER: f64 = 3.0;
/// Sightings after which a track gets an id. A track that starts with a strong detection needs only
/// one.
const MIN_SIGHTINGS: u32 = 3;
/// From this detector score and this confidence on, a detection is strong.
const STRONG: f32 = 0.7;
/// Shortest time in seconds between two detections while a face is searched for.
const RETRY: f64 = 0.1;
/// The same where nobody has been seen for seconds and nothing moves.
const QUIET_RETRY: f64 = 1.0;
/// The threshold of the confidence is multiplied by this for the crops of a candidate, which are only
/// roughly right.
const CANDIDATE_FACTOR: f32 = 0.6;
/// A detection whose intersection over union with a face's landmark box is greater belongs to that
/// face.
const DETECTION_OVERLAP: f32 = 0.3;
/// Two tracks whose intersection over union is greater follow the same face.
const DUPLICATE_OVERLAP: f32 = 0.55;

/// Further views of each face in a still: shift in parts of the crop's side, enlargement, rotation
/// in radians, and whether the view is mirrored. The networks' errors differ from view to view, so
/// the mean of the views is more accurate. In a video, successive frames have that effect.
const VIEWS: [([f32; 2], f32, f32, bool); 5] = [
    ([0.0, 0.0], 1.0, 0.0, true),
    ([0.03, 0.0], 1.04, 0.06, false),
    ([-0.03, 0.0], 0.96, -0.06, true),
    ([0.0, 0.03], 0.96, 0.06, false),
    ([0.0, -0.03], 1.04, -0.06, true),
];

/// Settings of [`Tracks`].
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Most faces to follow.
    pub max_faces: usize,
    /// Seconds between detections while every known face is in sight and more could be followed.
    pub detect_every: f64,
    /// Seconds for which a face that is out of sight is remembered.
    pub reidentify: f64,
    /// Confidence from which on a crop counts as showing a face.
    pub presence: f32,
    /// Weight of the points that the network sees directly, against the mesh's landmarks; see
    /// [`FaceModel::with_seen_landmarks`].
    pub points: f32,
    /// Whether a single sighting is enough: for stills, which have no next frame.
    pub immediate: bool,
    /// How crops are placed around landmarks.
    pub crop: CropRule,
    /// How first crops are placed around detections.
    pub detector: DetectorRule,
}

/// One face of one frame, as the networks see it.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    /// The face's id, never reused.
    pub id: u64,
    /// Probability that this is a face, fitted well, 0…1 ([`agreement`]); falls while it is out of
    /// sight.
    pub confidence: f32,
    /// Parameters before smoothing, in pixels of the frame.
    pub params: Params,
    /// The 68 landmarks of the parameters, pixels of the frame.
    pub landmarks: Vec<[f32; 2]>,
    /// Whether this sighting has no continuity with earlier ones: new, found again, or after a cut.
    pub fresh: bool,
    /// Index of the first of this frame's crops that showed the face; `None` if it is out of sight.
    pub crop: Option<usize>,
}

/// Counts of an image that shows more faces than are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Number of faces that the detector found.
    pub seen: usize,
    /// Most faces to follow ([`TrackerOptions::faces`](crate::TrackerOptions::faces)).
    pub most: usize,
}

/// Follows the faces of one stream.
pub(crate) struct Tracks {
    settings: Settings,
    model: Arc<FaceModel>,
    faces: Vec<Track>,
    next_id: u64,
    next_key: u64,
    last_detection: Option<f64>,
}

/// Identifies a track between [`Tracks::crops`] and [`Tracks::update`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Tracks {
    /// No tracks yet.
    #[must_use]
    pub(crate) fn new(settings: Settings, model: Arc<FaceModel>) -> Self {
        Self { settings, model, faces: Vec::new(), next_id: 1, next_key: 0, last_detection: None }
    }

    /// Drops all tracks; ids are not reused.
    pub(crate) fn reset(&mut self) {
        self.faces.clear();
        self.last_detection = None;
    }

    /// The scene has changed: all faces count as lost, and a detection is due.
    pub(crate) fn cut(&mut self, pts: f64) {
        self.faces.retain(|f| f.id.is_some() && self.settings.reidentify > 0.0);
        for face in &mut self.faces {
            face.lose(pts);
            face.cut = true;
        }
        self.last_detection = None;
    }

    /// Whether no face is being followed, so that only a detection can find one.
    #[must_use]
    pub(crate) fn is_blind(&self, pts: f64) -> bool {
        !self.faces.iter().any(|f| f.was_in_sight(pts, SEARCH))
    }

    /// Whether a detection is due; if so, it is assumed to happen at `pts`. Detections are frequent
    /// while a face is lost or none is followed, follow at `detect_every` while more faces could be
    /// followed, and stop otherwise. Where `nothing_happens`, they are seldom.
    pub(crate) fn wants_detection(&mut self, pts: f64, nothing_happens: bool) -> bool {
        let since = self.last_detection.map_or(f64::INFINITY, |last| (pts - last).abs());
        let seen = self.faces.iter().filter(|f| self.is_sure(f)).count();
        let is_lost = |f: &Track| {
            !self.is_sure(f) && f.missing_since.is_none_or(|since| pts - since < REMEMBER)
        };
        let any_lost = self.faces.iter().any(is_lost);
        let due = if nothing_happens {
            QUIET_RETRY
        } else if seen == 0 || (any_lost && seen < self.settings.max_faces) {
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

    /// Whether the face is in sight with a confidence above the threshold.
    fn is_sure(&self, face: &Track) -> bool {
        face.missing_since.is_none() && face.confidence >= self.settings.presence
    }

    /// Set if the detector is sure of more faces than may be followed.
    #[must_use]
    pub(crate) fn crowd(&self, detections: &[Detection]) -> Option<Crowd> {
        let sure = detections.iter().filter(|d| d.score >= STRONG).count();
        let most = self.settings.max_faces;
        (sure > most).then_some(Crowd { seen: detections.len(), most })
    }

    /// The detections that do not belong to a face in sight, each with a first crop. If there is
    /// not room for all, the largest with the highest scores are kept.
    #[must_use]
    pub(crate) fn candidates(&self, detections: &[Detection]) -> Vec<(CropMap, Detection)> {
        let in_sight = self.faces.iter().filter(|f| self.is_sure(f));
        let room = self.settings.max_faces.saturating_sub(in_sight.clone().count());
        let weight = |d: &Detection| d.score * (d.bounds[2] * d.bounds[3]).sqrt();
        let mut sorted = detections.to_vec();
        sorted.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        sorted
            .iter()
            .filter(|d| !in_sight.clone().any(|f| is_on_face(d.bounds, f.last.bounds)))
            .map(|d| (self.settings.detector.crop(d.bounds, d.angle), *d))
            .filter(|(map, _)| map.is_sane())
            .take(room)
            .collect()
    }

    /// The candidates in whose first crops the networks see a face, with new crops around that fit.
    /// A crop around a detection is only roughly right.
    #[must_use]
    pub(crate) fn recrop(
        &self,
        pts: f64,
        candidates: &[(CropMap, Detection)],
        outputs: Vec<Output>,
    ) -> Vec<(CropMap, Detection)> {
        let seen = candidates.iter().zip(outputs).filter_map(|((map, detection), output)| {
            let sighting = self.sighting(pts, std::iter::once((map, output)), CANDIDATE_FACTOR)?;
            Some((sighting.crop(&self.settings.crop), *detection))
        });
        seen.filter(|(map, _)| map.is_sane()).collect()
    }

    /// The crops for the frame at `pts`: one for each face, several if the image is a still.
    #[must_use]
    pub(crate) fn crops(&self, pts: f64) -> Vec<(Key, CropMap)> {
        let views = if self.settings.immediate { &VIEWS[..] } else { &[] };
        self.faces
            .iter()
            .filter(|f| f.was_in_sight(pts, SEARCH))
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

    /// Combines the networks' outputs for one or several views of a face. `None` if the mean
    /// confidence is below the threshold times `factor`.
    fn sighting<'a>(
        &self,
        pts: f64,
        views: impl Iterator<Item = (&'a CropMap, Output)>,
        factor: f32,
    ) -> Option<Sighting> {
        let (mut fits, mut confidence, mut count) = (Vec::new(), 0.0, 0.0);
        let mut shapes = LandmarkShapes::default();
        for (map, output) in views {
            let params = Params::from_outputs(output.pose, &output.identity, &output.expression);
            let confident = params.as_ref().map(|p| self.confidence(p, &output, &mut shapes));
            let plain = |p| if map.mirrored { self.model.mirrored(p) } else { p };
            let weight = self.settings.points;
            let mut with_points =
                |p| self.model.with_seen_landmarks_cached(p, &output.points, weight, &mut shapes);
            fits.extend(params.map(|p| plain(with_points(p)).into_frame(map)));
            confidence += confident.unwrap_or(0.0);
            count += 1.0;
        }
        let params = self.model.centred(Params::mean(&fits)?);
        let confidence: f32 = confidence / count;
        // False if the confidence is NaN.
        let seen = confidence >= self.settings.presence * factor;
        let landmarks = self.model.landmarks_cached(&params, &mut shapes);
        seen.then(|| Sighting::new(pts, params, confidence, landmarks))
    }
}

/// Whether a detector's box and a landmark box show the same face: they overlap, or their centres
/// are close.
fn is_on_face(detection: [f32; 4], face: [f32; 4]) -> bool {
    let middle = |b: [f32; 4]| [b[0] + b[2] / 2.0, b[1] + b[3] / 2.0];
    let (a, b) = (middle(detection), middle(face));
    let near = (0..2).all(|k| (a[k] - b[k]).abs() < 0.3 * face[k + 2].max(detection[k + 2]));
    near || iou(detection, face) > DETECTION_OVERLAP
}

#[cfg(test)]
mod tests;

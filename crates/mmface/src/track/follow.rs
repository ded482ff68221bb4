//! Who is who: takes in what the networks saw, and gives faces their ids.

use super::face::{Sighting, Track};
use super::same_person::{Look, choose};
use super::{
    CANDIDATE_FACTOR, DUPLICATE_OVERLAP, HOLD, Key, MIN_SIGHTINGS, REMEMBER, SEARCH, STRONG,
    Tracked, Tracks,
};
use crate::backend::Output;
use crate::bounds::iou;
use crate::crop::CropMap;
use crate::detect::Detection;
use crate::image::Image;

/// Distance in face sizes up to which a face is near the place where one was lost.
const NEAR: f32 = 2.0;
/// Most people to remember.
const MOST_REMEMBERED: usize = 100;

/// What the [evidence](super::same_person) must exceed for a face to keep or get back an id: less
/// where it was followed from frame to frame, more where it only appears again.
mod asked {
    /// Followed without a gap: below this, a jump of appearance and identity ends the id at once.
    pub(super) const AT_ONCE: f32 = -4.0;
    /// The same, if it stays below for [`SUSPECTED`](super::SUSPECTED) seconds.
    pub(super) const FOLLOWED: f32 = -1.0;
    /// The same, if another face of the frame fits better by [`BETTER`].
    pub(super) const DOUBTED: f32 = 3.0;
    /// See [`DOUBTED`].
    pub(super) const BETTER: f32 = 4.0;
    /// Lost in this scene moments ago, and now near that place.
    pub(super) const NEAR: f32 = -1.0;
    /// Lost in a cut moments ago, wherever: people stand elsewhere in the next scene.
    pub(super) const AFTER_CUT: f32 = 1.0;
    /// Elsewhere in the same scene, or later.
    pub(super) const ANYWHERE: f32 = 2.0;
}

/// Seconds for which a followed face may look like somebody else, because something covers it.
const SUSPECTED: f64 = 0.25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    /// It may be somebody else, or covered.
    Suspect,
    Other,
}

/// What the networks saw of one face in this frame.
struct View {
    /// Index of the face's track.
    at: usize,
    /// Index of its first crop, and the crop.
    crop: (usize, CropMap),
    seen: Option<(Sighting, Look)>,
    /// Whether the confidence is below the threshold.
    doubtful: bool,
}

impl Tracks {
    /// Starts tracks for the candidates in which the networks still see a face. A candidate who is
    /// somebody that was lost continues that track.
    pub(crate) fn start_tracks(
        &mut self,
        pts: f64,
        image: &Image,
        candidates: &[(CropMap, Detection)],
        outputs: Vec<Output>,
    ) {
        for ((map, detection), output) in candidates.iter().zip(outputs) {
            let view = std::iter::once((map, output));
            let Some(sighting) = self.sighting(pts, view, CANDIDATE_FACTOR) else { continue };
            let known = |f: &Track| {
                let same = iou(f.last.bounds, sighting.bounds) > DUPLICATE_OVERLAP;
                same && (self.is_sure(f)
                    || f.missing_since.is_none() && f.confidence >= sighting.confidence)
            };
            if self.faces.iter().any(known) {
                continue;
            }
            let strong = self.settings.immediate
                || detection.score >= STRONG && sighting.confidence >= STRONG;
            let look = sighting.look(image, &self.settings.crop);
            self.welcome(pts, sighting, look, strong);
        }
    }

    /// Continues the track of whoever a sighting shows, or starts a new one; returns its key.
    fn welcome(&mut self, pts: f64, sighting: Sighting, look: Look, strong: bool) -> u64 {
        let lost = self.faces.iter().enumerate().filter(|(_, f)| !self.is_sure(f));
        let margins: Vec<_> = lost
            .map(|(i, f)| (i, f.person.evidence(&look) - asked_of(f, &sighting, pts)))
            .collect();
        if let Some(at) = choose(&margins) {
            self.faces[at].found_again(sighting, look);
            return self.faces[at].key;
        }
        self.next_key += 1;
        self.faces.push(Track::new(self.next_key, sighting, look, strong));
        self.next_key
    }

    /// Takes in the networks' outputs for the crops of this frame and returns the faces that are
    /// shown, sorted by id.
    pub(crate) fn update(
        &mut self,
        pts: f64,
        image: &Image,
        crops: &[(Key, CropMap)],
        outputs: Vec<Output>,
    ) -> Vec<Tracked> {
        let views = self.views(pts, image, crops, outputs);
        let verdicts = self.verdicts(pts, &views);
        let (mut seen, mut newcomers) = (Vec::new(), Vec::new());
        for (view, verdict) in views.into_iter().zip(verdicts) {
            let face = &mut self.faces[view.at];
            let (crop, map) = view.crop;
            match view.seen {
                Some((sighting, look)) if verdict == Verdict::Other => {
                    tracing::debug!(pts, id = face.id, "somebody else is in a face's place");
                    face.lose(pts);
                    face.cut = true;
                    newcomers.push((crop, sighting, look));
                }
                Some((sighting, look)) => {
                    seen.push((face.key, crop));
                    let look = face.suspect(pts, verdict == Verdict::Suspect).then_some(look);
                    face.seen(sighting, look, map, view.doubtful);
                }
                None => face.lose(pts),
            }
        }
        for (crop, sighting, look) in newcomers {
            let key = self.welcome(pts, sighting, look, true);
            seen.push((key, crop));
            // This is the further sighting that strong evidence needs.
            let face = self.faces.iter_mut().find(|f| f.key == key);
            face.into_iter().for_each(|f| f.sightings += 1);
        }
        self.drop_duplicates();
        self.forget(pts);
        self.shown(pts, &seen)
    }

    /// What the networks saw of each face with a crop. A fit that cannot be that face is none.
    fn views(
        &self,
        pts: f64,
        image: &Image,
        crops: &[(Key, CropMap)],
        outputs: Vec<Output>,
    ) -> Vec<View> {
        let mut outputs = outputs.into_iter();
        let (mut first, mut views) = (0, Vec::new());
        for of_face in crops.chunk_by(|a, b| a.0 == b.0) {
            let outputs: Vec<Output> = outputs.by_ref().take(of_face.len()).collect();
            let crop = (first, of_face[0].1);
            first += of_face.len();
            let Some(at) = self.faces.iter().position(|f| f.key == of_face[0].0.0) else {
                continue;
            };
            // A face that already has an id tolerates a lower confidence.
            let known = self.faces[at].id.is_some() || self.settings.immediate;
            let maps = of_face.iter().map(|(_, map)| map);
            let sighting = self.sighting(pts, maps.zip(outputs), if known { 0.5 } else { 1.0 });
            let doubtful = sighting.as_ref().is_some_and(|s| s.confidence < self.settings.presence);
            let seen = sighting.filter(|s| self.faces[at].is_plausible(s, doubtful)).map(|s| {
                let look = s.look(image, &self.settings.crop);
                (s, look)
            });
            views.push(View { at, crop, seen, doubtful });
        }
        views
    }

    /// For each view, whether it still shows the face in whose place it was taken.
    fn verdicts(&self, pts: f64, views: &[View]) -> Vec<Verdict> {
        let evidence = |at: usize, look: &Look| self.faces[at].person.evidence(look);
        let verdict = |view: &View| {
            // A still shows everybody once, and a doubtful view tells nothing.
            let asks = !self.settings.immediate && !view.doubtful;
            let Some((_, look)) = view.seen.as_ref().filter(|_| asks) else { return Verdict::Same };
            let own = evidence(view.at, look);
            let better = |other: &View| {
                other.at != view.at && evidence(other.at, look) > own + asked::BETTER
            };
            let suspected_for = self.faces[view.at].suspected_since.map(|since| pts - since);
            if own < asked::AT_ONCE
                || own < asked::FOLLOWED && suspected_for.is_some_and(|time| time >= SUSPECTED)
                || own < asked::DOUBTED && views.iter().any(better)
            {
                Verdict::Other
            } else if own < asked::FOLLOWED {
                Verdict::Suspect
            } else {
                Verdict::Same
            }
        };
        views.iter().map(verdict).collect()
    }

    /// Of tracks that follow the same face, keeps the oldest.
    fn drop_duplicates(&mut self) {
        let key = |f: &Track| (f.id.is_none(), f.id, f.key);
        self.faces.sort_by_key(key);
        let mut kept: Vec<Track> = Vec::new();
        for face in self.faces.drain(..) {
            let double = kept.iter().any(|k| {
                let both = k.missing_since.is_none() && face.missing_since.is_none();
                both && iou(k.last.bounds, face.last.bounds) > DUPLICATE_OVERLAP
            });
            if !double {
                kept.push(face);
            }
        }
        self.faces = kept;
    }

    /// Forgets those who have been lost for too long, and if they are too many, the longest lost.
    fn forget(&mut self, pts: f64) {
        let memory = self.settings.reidentify.max(SEARCH);
        self.faces.retain(|f| match f.missing_since {
            Some(since) => f.id.is_some() && (0.0..memory).contains(&(pts - since)),
            None => true,
        });
        let mut since: Vec<f64> = self.faces.iter().filter_map(|f| f.missing_since).collect();
        if let Some(surplus) = since.len().checked_sub(MOST_REMEMBERED).filter(|n| *n > 0) {
            since.sort_by(f64::total_cmp);
            let oldest = since[surplus - 1];
            self.faces.retain(|f| f.missing_since.is_none_or(|since| since > oldest));
        }
    }

    /// Gives ids to those who have earned one, and lists the faces to show. `seen`: the keys of the
    /// faces in sight, each with the index of its first crop.
    fn shown(&mut self, pts: f64, seen: &[(u64, usize)]) -> Vec<Tracked> {
        let mut shown = Vec::new();
        for face in &mut self.faces {
            if face.id.is_none() && face.missing_since.is_none() && face.sightings >= MIN_SIGHTINGS
            {
                face.id = Some(self.next_id);
                self.next_id += 1;
            }
            if let (Some(id), true) = (face.id, face.was_in_sight(pts, HOLD)) {
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
        // If time jumps back there may be more faces than `max_faces`; those in sight are
        // preferred.
        shown.sort_by_key(|f: &Tracked| (f.crop.is_none(), f.id));
        shown.truncate(self.settings.max_faces);
        shown.sort_by_key(|f| f.id);
        shown
    }
}

/// What the evidence must exceed for a sighting to continue the track of a lost face.
fn asked_of(face: &Track, sighting: &Sighting, pts: f64) -> f32 {
    let just_lost = face.missing_since.is_none_or(|since| pts - since < REMEMBER);
    match (just_lost, face.cut) {
        (true, true) => asked::AFTER_CUT,
        (true, false) if face.last.distance(sighting) < NEAR => asked::NEAR,
        _ => asked::ANYWHERE,
    }
}

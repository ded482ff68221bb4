//! Neutral faces: what the networks see in a face at rest, and where its head is then. Taken off,
//! so that at rest all is zero.
//!
//! There are two ways to a neutral face, and one thing that becomes of it. It is *learnt*, from how
//! low each expression goes over time; or it is *marked*: the user looks ahead with a relaxed face
//! and asks for it ([`mark`]: a key in the overlay's window, SIGUSR1), or has it done some seconds
//! after a face appears. What is marked holds also for the head's pose. `Neutral::relative` then
//! gives the parameters as seen from there. What was fitted, and all that is drawn or measured from
//! it, stays as it is.

mod file;
mod learn;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use mmface::Face;
use mmface::face::{FaceModel, Params};
use nalgebra::{UnitQuaternion, Vector3};

use self::learn::{Learner, Marking};
use crate::place::{USUAL_DISTANCE, place_at, position};
use crate::{Error, Result};

/// How often neutral faces were asked for in this process.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// Asks for the neutral faces of all who are in sight, in all streams: they look ahead with relaxed
/// faces now.
pub fn mark() {
    MARKS.fetch_add(1, Ordering::Relaxed);
}

/// Where neutral faces come from, unless they are marked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Nowhere.
    #[default]
    Off,
    /// Each face's is learnt.
    Auto,
    /// This file has one for everybody; if it is not there, they are learnt, and it is written.
    File(PathBuf),
}

/// Settings of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Where neutral faces come from.
    pub source: Source,
    /// Seconds after which each new face is marked.
    pub after: Option<f64>,
}

/// A face at rest.
#[derive(Debug, Clone, PartialEq)]
struct Neutral {
    /// What the networks see in each expression.
    expression: Vec<f32>,
    /// Rotation and place of the head (as [`position`] has it), if it was marked.
    head: Option<(UnitQuaternion<f32>, [f32; 3])>,
}

/// No more than this of an expression is taken off, so that the rest can still be told apart.
const MOST: f32 = 0.9;

impl Neutral {
    /// The parameters as seen from the neutral face. `size`: width and height of the frame.
    ///
    /// An expression of this strength becomes 0, and a full one stays 1. The camera is turned so
    /// that the head looks ahead: turning and moving then go by the person's own axes.
    fn relative(&self, params: &Params, size: [f32; 2]) -> Params {
        let mut relative = params.clone();
        for (value, rest) in relative.expression.iter_mut().zip(&self.expression) {
            let rest = rest.clamp(0.0, MOST);
            *value = ((*value - rest) / (1.0 - rest)).clamp(0.0, 1.0);
        }
        let Some((rotation, at)) = self.head else { return relative };
        let back = rotation.inverse();
        relative.rotation = back * params.rotation;
        let [x, y, away] = position(params, size);
        let moved = back * Vector3::new(x - at[0], y - at[1], at[2] - away);
        // Nobody is behind the camera.
        let away = (USUAL_DISTANCE - moved.z).max(1.0);
        place_at(&mut relative, [moved.x, moved.y, away], size);
        relative
    }
}

/// What is known of a face.
struct Known {
    /// When it was seen first and last, seconds of the stream.
    first: f64,
    last: f64,
    learner: Learner,
    marking: Option<Marking>,
    marked: Option<Neutral>,
    /// Whether it was marked because of [`Settings::after`].
    was_due: bool,
}

/// Seconds for which a face that is gone is remembered.
const REMEMBERED: f64 = 60.0;

/// The neutral faces of a stream.
pub(crate) struct Neutrals {
    settings: Settings,
    names: Vec<String>,
    /// The one for everybody, from the file.
    shared: Option<Neutral>,
    /// The last that was marked or, without a mark, learnt for longest.
    best: Option<(f64, Neutral)>,
    faces: HashMap<u64, Known>,
    marks: u64,
}

impl Neutrals {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong in it.
    pub(crate) fn open(settings: Settings, model: &FaceModel) -> Result<Self> {
        let shared = match &settings.source {
            Source::File(path) => file::read(path, &model.expressions)
                .map_err(|why| Error::Usage(format!("--neutral {}: {why}", path.display())))?,
            Source::Off | Source::Auto => None,
        };
        Ok(Self {
            settings,
            names: model.expressions.clone(),
            shared,
            best: None,
            faces: HashMap::new(),
            marks: MARKS.load(Ordering::Relaxed),
        })
    }

    /// Looks at the faces of a frame. For each, its parameters as seen from its neutral face, if it
    /// has one.
    pub(crate) fn frame(
        &mut self,
        faces: &[Face],
        pts: f64,
        size: [f32; 2],
    ) -> Vec<Option<Params>> {
        let asked = MARKS.load(Ordering::Relaxed) != self.marks;
        if asked && !faces.is_empty() {
            self.marks = MARKS.load(Ordering::Relaxed);
        }
        self.faces.retain(|_, known| (0.0..REMEMBERED).contains(&(pts - known.last)));
        faces.iter().map(|face| self.face(face, pts, size, asked)).collect()
    }

    fn face(&mut self, face: &Face, pts: f64, size: [f32; 2], asked: bool) -> Option<Params> {
        let names = &self.names;
        let known = self.faces.entry(face.id).or_insert_with(|| Known {
            first: pts,
            last: pts,
            learner: Learner::new(names),
            marking: None,
            marked: None,
            was_due: false,
        });
        let is_due = self.settings.after.is_some_and(|after| pts - known.first >= after);
        if asked || (is_due && !std::mem::replace(&mut known.was_due, true)) {
            known.marking = Some(Marking::new(pts));
        }
        if let Some(marking) = &mut known.marking
            && let Some(neutral) = marking.add(face, pts, size)
        {
            tracing::info!("the neutral face of id {} is taken", face.id);
            (known.marking, known.marked) = (None, Some(neutral.clone()));
            self.best = Some((f64::INFINITY, neutral));
            self.save();
        }
        let known = self.faces.get_mut(&face.id)?;
        let learns = match &self.settings.source {
            Source::Off => false,
            Source::Auto => true,
            Source::File(_) => self.shared.is_none(),
        };
        if learns && known.marked.is_none() {
            known.learner.add(&face.params.expression, pts - known.last);
        }
        known.last = pts;
        let learnt = known.learner.neutral();
        if let Some(neutral) = &learnt {
            let seconds = known.learner.seconds();
            if self.best.as_ref().is_none_or(|(best, _)| seconds >= *best) {
                self.best = Some((seconds, neutral.clone()));
            }
        }
        let neutral = known.marked.as_ref().or(self.shared.as_ref()).or(learnt.as_ref())?;
        Some(neutral.relative(&face.params, size))
    }

    /// Writes the file, if the user has named one.
    fn save(&self) {
        let (Source::File(path), Some((_, neutral))) = (&self.settings.source, &self.best) else {
            return;
        };
        match file::write(path, neutral, &self.names) {
            Ok(()) => tracing::info!("the neutral face is in {}", path.display()),
            Err(e) => tracing::warn!("{} cannot be written: {e}", path.display()),
        }
    }

    /// Writes what was learnt, if there was no file.
    pub(crate) fn finish(&self) {
        if self.shared.is_none() && self.best.as_ref().is_some_and(|(best, _)| best.is_finite()) {
            self.save();
        }
    }
}

#[cfg(test)]
mod tests;

//! The first half of a tracker: detects and follows faces and runs the networks on their crops.

use std::sync::Arc;
use std::time::Instant;

use super::{Eyes, Mode};
use crate::backend::{Batch, Inference, Output, Session};
use crate::crop::CropMap;
use crate::detect::{Client, Detection};
use crate::error::{Error, Result};
use crate::gaze::Sight;
use crate::image::Image;
use crate::track::{Change, Crowd, CutDetector, Key, Tracked, Tracks};
use crate::volume::Volume;

/// In a recording, the number of images between a request for a detection and its use. The detector
/// works in parallel meanwhile; the fixed number keeps the results of a recording reproducible.
const DETECTION_DELAY: u32 = 6;

/// A live stream in which for so many seconds nobody was seen and nothing moved is searched less
/// often.
const QUIET: f64 = 5.0;

/// What the networks saw in one image; a [`Fitter`](super::Fitter) turns it into faces.
pub struct Observation {
    pub(super) pts: f64,
    pub(super) faces: Vec<Tracked>,
    /// The volume of each of `faces`.
    pub(super) volumes: Vec<Option<Arc<Volume>>>,
    /// What is seen of the eyes of each of `faces`.
    pub(super) sights: Vec<Option<[Sight; 2]>>,
    pub(super) detect_ms: f64,
    pub(super) infer_ms: f64,
    pub(super) crowd: Option<Crowd>,
    shows: Shows,
}

/// What an image shows, as far as it decides whether the next ones are worth a look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shows {
    /// A face that is followed, was in sight a moment ago, or may be one.
    pub face: bool,
    /// Something that moves, or another scene.
    pub motion: bool,
}

impl Observation {
    /// What the image shows.
    #[must_use]
    pub fn shows(&self) -> Shows {
        self.shows
    }
}

/// Detects faces, follows them from image to image and runs the networks on their crops.
pub struct Observer {
    tracks: Tracks,
    session: Box<dyn Session>,
    /// `None` without a gaze network.
    eyes: Option<Eyes>,
    detector: Client,
    mode: Mode,
    /// Whether a call waits for the detector if nobody is followed, live too.
    patient: bool,
    /// Whether volumes are requested.
    volumes: bool,
    cuts: CutDetector,
    /// Number of images so far.
    frame: u64,
    /// Number of images since the last request to the detector.
    waited: u32,
    /// When a face was seen last, or something moved; `None` before the first image.
    last_event: Option<f64>,
    /// Whether the running detection looks at an image from before a cut or a reset; its result is
    /// ignored.
    is_outdated: bool,
}

impl Observer {
    pub(crate) fn new(
        tracks: Tracks,
        session: Box<dyn Session>,
        detector: Client,
        mode: Mode,
        volumes: bool,
    ) -> Self {
        Self {
            tracks,
            session,
            eyes: None,
            detector,
            mode,
            patient: false,
            volumes,
            cuts: CutDetector::default(),
            frame: 0,
            waited: 0,
            last_event: None,
            is_outdated: false,
        }
    }

    /// The same observer, which also looks at eyes.
    pub(crate) fn with_gaze(self, eyes: Option<Eyes>) -> Self {
        Self { eyes, ..self }
    }

    /// Observes the next image, taken at `pts` seconds. `next` is the image of the following call
    /// if it is already known: a GPU copies it while it computes, so its pixels must not change
    /// until then.
    ///
    /// # Errors
    /// As [`Tracker::process`](super::Tracker::process).
    pub fn observe(
        &mut self,
        image: &Image,
        pts: f64,
        next: Option<&Image>,
    ) -> Result<Observation> {
        image.check()?;
        self.frame += 1;
        let mut change = Change::default();
        if self.mode == Mode::Stills {
            self.reset();
        } else {
            change = self.cuts.compare(image);
        }
        if change.is_cut {
            tracing::debug!(pts, "scene cut");
            self.tracks.cut(pts);
            self.is_outdated = self.detector.is_busy();
        }
        if change.moves || change.is_cut {
            self.last_event = Some(pts);
        }
        let (found, detect_ms) = self.detections(image, pts)?;
        let started = Instant::now();
        self.start_tracks(image, pts, &found)?;
        let crops = self.tracks.crops(pts);
        let maps: Vec<CropMap> = crops.iter().map(|(_, map)| *map).collect();
        let seen = self.infer(image, &maps, self.volumes, next)?;
        let (outputs, volumes): (Vec<_>, Vec<_>) =
            seen.into_iter().map(|Inference { output, volume }| (output, volume)).unzip();
        let volumes = mean_volumes(&crops, volumes)?;
        let faces = self.tracks.update(pts, image, &crops, outputs);
        let sights = faces.iter().map(|face| match &self.eyes {
            Some(eyes) => eyes.look(image, face),
            None => Ok(None),
        });
        let sights = sights.collect::<Result<_>>()?;
        let volume_of = |face: &Tracked| {
            let crop = face.crop?;
            volumes.iter().find(|(first, _)| *first == crop).map(|(_, volume)| volume.clone())
        };
        let shows = Shows {
            face: !self.tracks.is_blind(pts) || !found.is_empty(),
            motion: change.moves || change.is_cut,
        };
        if shows.face {
            self.last_event = Some(pts);
        }
        Ok(Observation {
            pts,
            volumes: faces.iter().map(volume_of).collect(),
            faces,
            sights,
            detect_ms,
            infer_ms: started.elapsed().as_secs_f64() * 1e3,
            crowd: self.tracks.crowd(&found),
            shows,
        })
    }

    /// Whether it helps to pass `next` to [`observe`](Self::observe).
    #[must_use]
    pub fn looks_ahead(&self) -> bool {
        self.session.looks_ahead()
    }

    /// Switches to [`Mode::Live`]: from now on no call waits for a detection.
    pub fn go_live(&mut self) {
        self.mode = Mode::Live;
    }

    /// For live images that come seldom: while set, a call waits for the detector if nobody is
    /// followed, so that a face is seen in the first image that shows it.
    pub fn set_patient(&mut self, patient: bool) {
        self.patient = patient;
    }

    /// Forgets all faces; ids are not reused.
    pub fn reset(&mut self) {
        self.tracks.reset();
        self.cuts.reset();
        self.last_event = None;
        self.is_outdated = self.detector.is_busy();
    }

    /// Starts tracks for those detections in which the networks see a face too. The networks run
    /// twice: first on a crop around the detection, which is only roughly right, and turned if that
    /// shows no upright face; then on a crop around that first fit.
    fn start_tracks(&mut self, image: &Image, pts: f64, found: &[Detection]) -> Result<()> {
        let mut detected = self.tracks.candidates(found);
        let mut outputs = self.look(image, &detected)?;
        let turned = self.tracks.turned(&detected, &outputs);
        let maps: Vec<CropMap> = turned.iter().map(|(_, map)| *map).collect();
        let seen = self.look_at(image, &maps)?;
        self.tracks.take_best(&mut detected, &mut outputs, &turned, seen);
        let candidates = self.tracks.recrop(pts, &detected, outputs);
        let outputs = self.look(image, &candidates)?;
        self.tracks.start_tracks(pts, image, &candidates, outputs);
        Ok(())
    }

    /// Runs the networks on candidates.
    fn look(&mut self, image: &Image, candidates: &[(CropMap, Detection)]) -> Result<Vec<Output>> {
        let maps: Vec<CropMap> = candidates.iter().map(|(map, _)| *map).collect();
        self.look_at(image, &maps)
    }

    fn look_at(&mut self, image: &Image, crops: &[CropMap]) -> Result<Vec<Output>> {
        let seen = self.infer(image, crops, false, None)?;
        Ok(seen.into_iter().map(|seen| seen.output).collect())
    }

    fn infer(
        &mut self,
        image: &Image,
        crops: &[CropMap],
        volumes: bool,
        next: Option<&Image>,
    ) -> Result<Vec<Inference>> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        self.session.infer(&Batch { image, frame: self.frame, crops, volumes, next })
    }

    /// The detections to use on this image, and how long they took in milliseconds. The detector
    /// works in parallel with the networks; a call waits for it only if no face is being followed.
    fn detections(&mut self, image: &Image, pts: f64) -> Result<(Vec<Detection>, f64)> {
        let blind = self.tracks.is_blind(pts);
        let since_event = pts - *self.last_event.get_or_insert(pts);
        let quiet = self.mode == Mode::Live && !self.patient && since_event >= QUIET;
        let waits = self.mode == Mode::Recording || self.patient;
        let mut answer = None;
        if self.detector.is_busy() {
            self.waited += 1;
            answer = match self.mode {
                // Its image was another one, perhaps seconds ago.
                Mode::Live if self.patient => {
                    self.detector.wait()?;
                    self.is_outdated = false;
                    None
                }
                Mode::Live => self.detector.poll()?,
                _ if self.waited >= DETECTION_DELAY || blind || self.is_outdated => {
                    self.detector.wait()?
                }
                _ => None,
            };
            if answer.is_some() && std::mem::take(&mut self.is_outdated) {
                answer = None;
            }
        }
        if answer.is_none() && !self.detector.is_busy() && self.tracks.wants_detection(pts, quiet) {
            self.detector.ask(image)?;
            self.waited = 0;
            if self.mode == Mode::Stills || (waits && blind) {
                answer = self.detector.wait()?;
            }
        }
        Ok(answer.map_or_else(|| (Vec::new(), 0.0), |a| (a.faces, a.took_ms)))
    }
}

/// The volume of each face, the mean over its views. Each comes with the index of the face's first
/// crop.
fn mean_volumes(
    crops: &[(Key, CropMap)],
    volumes: Vec<Option<Vec<u8>>>,
) -> Result<Vec<(usize, Arc<Volume>)>> {
    let mut views = Vec::with_capacity(volumes.len());
    for (values, (_, map)) in volumes.into_iter().zip(crops) {
        let Some(values) = values else { return Ok(Vec::new()) };
        let volume = Volume::new(values, *map);
        views.push(volume.ok_or_else(|| Error::Models("the volume head gives no cube".into()))?);
    }
    let (mut means, mut first) = (Vec::new(), 0);
    let mut views = views.into_iter();
    for crops in crops.chunk_by(|a, b| a.0 == b.0) {
        let mean = Volume::mean(views.by_ref().take(crops.len()).collect());
        means.extend(mean.map(|volume| (first, Arc::new(volume))));
        first += crops.len();
    }
    Ok(means)
}

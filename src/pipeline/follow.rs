//! The loop that turns frames into tracked faces: detect, crop, infer, track.

use std::sync::Arc;
use std::time::Instant;

use crate::detect::{Detection, Worker};
use crate::frame::Frame;
use crate::nets::{Backend, MAX_BATCH, Output};
use crate::track::{CutDetector, Tracked, Tracker};
use crate::volume::Volume;
use crate::{Error, Result, crop::CropMap};

/// Frames of a file between asking for a detection and using it: time for the detector to work
/// beside the networks, and a fixed number, so that a file gives the same records every time.
const DETECTION_DELAY: u32 = 6;

/// How a follower treats time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Never waits for a detection.
    Live,
    /// Every run of the same file gives the same result.
    File,
    /// Each frame is a picture for itself.
    Pictures,
}

/// What became of a frame.
pub struct Followed {
    /// The faces, by id.
    pub faces: Vec<Tracked>,
    /// Their volumes, if they are asked for and the face is in sight.
    pub volumes: Vec<Option<Arc<Volume>>>,
    /// The detection that was used, milliseconds.
    pub detect_ms: f64,
    /// Crops and networks, milliseconds.
    pub infer_ms: f64,
}

/// By the places of their crops.
type Volumes = Vec<(usize, Arc<Volume>)>;

/// Detector, networks and tracker of one stream.
pub struct Follower {
    pub tracker: Tracker,
    pub backend: Box<dyn Backend>,
    pub detector: Worker,
    pub pace: Pace,
    /// Whether anybody wants volumes.
    pub volumes: bool,
    cuts: CutDetector,
    connection: u32,
    /// Frames since the detector was asked.
    waited: u32,
    /// What it was asked about is no longer true.
    stale: bool,
    /// Somebody was told that there are more faces than are followed.
    told: bool,
}

impl Follower {
    pub fn new(tracker: Tracker, backend: Box<dyn Backend>, detector: Worker, pace: Pace) -> Self {
        let cuts = CutDetector::default();
        Self {
            tracker,
            backend,
            detector,
            pace,
            volumes: false,
            cuts,
            connection: 0,
            waited: 0,
            stale: false,
            told: false,
        }
    }

    /// The faces of one frame; `next` comes after it, if that is known yet.
    pub fn follow(&mut self, frame: &Frame, next: Option<&Frame>) -> Result<Followed> {
        let pts = frame.pts;
        if self.pace == Pace::Pictures || frame.connection != self.connection {
            self.connection = frame.connection;
            self.tracker.reset();
            self.cuts.reset();
            self.stale = self.detector.is_busy();
        } else if self.cuts.is_cut(&frame.image) {
            tracing::debug!(frame = frame.number, "scene cut");
            self.tracker.cut(pts);
            self.stale = self.detector.is_busy();
        }
        let (found, detect_ms) = self.detections(frame)?;
        let started = Instant::now();
        if let Some(most) = self.tracker.crowd(&found).filter(|_| !self.told) {
            let (seen, number) = (found.len(), frame.number);
            tracing::warn!(
                "{seen} faces in frame {number}, and at most {most} are followed: the smaller ones \
                 are left out, here and wherever there are more; --faces N follows more"
            );
            self.told = true;
        }
        let detected = self.tracker.newcomers(&found);
        let outputs = self.look(frame, &detected)?;
        let newcomers = self.tracker.nearer(pts, &detected, outputs);
        let outputs = self.look(frame, &newcomers)?;
        self.tracker.admit(pts, &newcomers, outputs);
        let crops = self.tracker.crops(pts);
        let maps: Vec<CropMap> = crops.iter().map(|(_, map)| *map).collect();
        let (outputs, views) = self.infer(frame, next, &maps, self.volumes)?;
        // Several crops show one face only in a picture: its volume lies where the first of them does.
        let (mut volumes, mut views, mut first) = (Volumes::new(), views.into_iter(), 0);
        for crops in crops.chunk_by(|a, b| a.0 == b.0) {
            let volume = Volume::mean(views.by_ref().take(crops.len()).collect());
            volumes.extend(volume.map(|volume| (first, Arc::new(volume))));
            first += crops.len();
        }
        let faces = self.tracker.update(pts, &crops, outputs);
        let volume = |face: &Tracked| {
            let crop = face.crop?;
            volumes.iter().find(|(at, _)| *at == crop).map(|(_, volume)| volume.clone())
        };
        let volumes = faces.iter().map(volume).collect();
        let infer_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Followed { faces, volumes, detect_ms, infer_ms })
    }

    /// What the networks say of newcomers.
    fn look(&mut self, frame: &Frame, newcomers: &[(CropMap, Detection)]) -> Result<Vec<Output>> {
        let maps: Vec<CropMap> = newcomers.iter().map(|(map, _)| *map).collect();
        Ok(self.infer(frame, None, &maps, false)?.0)
    }

    /// What the networks say of all crops, and the volumes in them if they are wanted.
    fn infer(
        &mut self,
        frame: &Frame,
        mut next: Option<&Frame>,
        maps: &[CropMap],
        volumes: bool,
    ) -> Result<(Vec<Output>, Vec<Volume>)> {
        let (mut outputs, mut seen) = (Vec::new(), Vec::new());
        for batch in maps.chunks(MAX_BATCH) {
            let ticket = self.backend.submit(&frame.image, batch)?;
            if let Some(next) = next.take() {
                self.backend.prefetch(&next.image)?;
            }
            outputs.extend(self.backend.collect(ticket)?);
            // The features of a batch are there until the next one is submitted.
            for (i, map) in batch.iter().enumerate().filter(|_| volumes) {
                let volume = Volume::new(self.backend.volume(i)?, *map);
                seen.push(
                    volume.ok_or_else(|| Error::Engine("the volume head gives no cube".into()))?,
                );
            }
        }
        Ok((outputs, seen))
    }

    /// Detections to be used on this frame, and how long they took. The detector works beside the
    /// networks; only who sees nobody waits for it.
    fn detections(&mut self, frame: &Frame) -> Result<(Vec<Detection>, f64)> {
        let blind = self.tracker.is_blind(frame.pts);
        let mut answer = None;
        if self.detector.is_busy() {
            self.waited += 1;
            answer = match self.pace {
                Pace::Live => self.detector.poll()?,
                _ if self.waited >= DETECTION_DELAY || blind || self.stale => {
                    self.detector.wait()?
                }
                _ => None,
            };
            if answer.is_some() && std::mem::take(&mut self.stale) {
                answer = None;
            }
        }
        if answer.is_none() && !self.detector.is_busy() && self.tracker.wants_detection(frame.pts) {
            self.detector.ask(&frame.image);
            self.waited = 0;
            if self.pace == Pace::Pictures || (self.pace == Pace::File && blind) {
                answer = self.detector.wait()?;
            }
        }
        Ok(answer.map_or_else(|| (Vec::new(), 0.0), |a| (a.faces, a.took_ms)))
    }
}

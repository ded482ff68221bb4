//! The end of the line: align, smooth, make the record, write it, hand the frame to the other sinks.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::Watcher;
use super::follow::Followed;
use super::side::Side;
use crate::config::Config;
use crate::crop::{CropMap, CropRule};
use crate::face::{FaceModel, Params, rotation};
use crate::frame::Frame;
use crate::metrics::Histogram;
use crate::nets::Variant;
use crate::record::{self, Dropped, Record, timestamp};
use crate::sink::meshes::{self, Animated, Meshes};
use crate::sink::volumes::{Origin, Volumes};
use crate::sink::{self, Shot, Sink, json, overlay, report};
use crate::smooth::Smoother;
use crate::track::Tracked;
use crate::volume::{Aligner, Solid, Volume};
use crate::{Error, Result};

/// What reaches the output.
pub enum Message {
    /// A record that needs nothing more.
    Record(Record),
    /// A frame with its faces; a live stream does not wait for the sinks beside the records.
    Frame { frame: Frame, followed: Followed, dropped: Dropped, live: bool },
    /// Nothing more comes.
    End { reason: String, frames: record::FrameCounts, reconnects: u32 },
}

/// Faces unseen for so many seconds of the stream are forgotten by the filters.
const FORGET: f64 = 10.0;

/// Everything behind the networks.
pub struct Output {
    config: Arc<Config>,
    model: Arc<FaceModel>,
    aligner: Option<Aligner>,
    filler: Option<Filler>,
    smoother: Smoother,
    /// None once their reader has gone.
    lines: Option<json::Lines>,
    /// Somebody in this program who reads along.
    reader: Option<Sender<Record>>,
    /// The page about the run, and what it will say.
    report: Option<(report::Page, report::Digest)>,
    /// Overlay, volumes, meshes.
    sides: Vec<Side>,
    /// How the first of them that ended came to its end.
    ended: Result<()>,
    /// Whether any of them needs the mesh.
    needs_mesh: bool,
    /// Stands on every drawn frame.
    warning: &'static str,
    rate: Rate,
    /// Asks the whole run to end.
    stop: Arc<AtomicBool>,
    started: Instant,
    latency: Histogram,
    ids: HashSet<u64>,
    processed: u64,
}

impl Output {
    /// Opens the sinks.
    pub fn open(
        config: &Arc<Config>,
        model: &Arc<FaceModel>,
        variant: &Variant,
        watcher: Option<Watcher>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let lines = json::Lines::open(&config.json)?;
        let page = config.report.as_deref().map(report::Page::create).transpose()?;
        let mut sides = Vec::new();
        let mut side = |name, sink: Box<dyn Sink>| -> Result<()> {
            sides.push(Side::start(name, sink)?);
            Ok(())
        };
        if let Some(target) = &config.overlay {
            side(
                "overlay",
                Box::new(overlay::Overlay::open(target, config.overlay_style, model, 0.0)?),
            )?;
        }
        if let Some(folder) = &config.volume_out {
            side("volumes", Box::new(Volumes::open(folder)?))?;
        }
        match &config.mesh {
            Some(meshes::Target::Folder(folder, format)) => {
                let sink = Meshes::open(folder, *format, config.mesh_from, model)?;
                side("meshes", Box::new(sink))?;
            }
            Some(meshes::Target::Animation(path)) => {
                side("animation", Box::new(Animated::open(path, model)?))?;
            }
            None => {}
        }
        let (reader, watching) = watcher.map(|w| (w.records, w.sink)).unzip();
        let watching = watching.flatten();
        let watched = watching.is_some();
        if let Some(make) = watching {
            side("watcher", make(model))?;
        }
        let drawn = config.vertices || config.overlay.is_some() || config.mesh.is_some();
        Ok(Self {
            report: page.map(|page| (page, report::Digest::default())),
            sides,
            ended: Ok(()),
            needs_mesh: drawn || watched || config.volumes == Some(Origin::Model),
            warning: if variant.trained {
                ""
            } else {
                "NO TRAINED WEIGHTS: THE MESH MEANS NOTHING"
            },
            rate: Rate::default(),
            filler: (config.volumes == Some(Origin::Model)).then(|| Filler {
                model: model.clone(),
                crop: variant.crop,
                resolution: config.volume as usize,
            }),
            aligner: config.icp.then(|| Aligner::new(model.clone())),
            smoother: Smoother::new(config.smooth, model.clone()),
            config: config.clone(),
            model: model.clone(),
            lines: Some(lines),
            reader,
            stop: stop.clone(),
            started: Instant::now(),
            latency: Histogram::default(),
            ids: HashSet::new(),
            processed: 0,
        })
    }

    /// Works until the messages end; whatever happens, the sinks are finished.
    pub fn run(mut self, messages: Receiver<Message>) -> Result<record::End> {
        let mut end = Err(Error::Bug("the run ended without an end".into()));
        for message in messages {
            match self.handle(message) {
                Ok(None) => {}
                Ok(Some(last)) => end = Ok(last),
                Err(error) => {
                    end = Err(error);
                    break;
                }
            }
        }
        for side in std::mem::take(&mut self.sides) {
            self.finish(side);
        }
        let reported =
            self.report.map_or(Ok(()), |(page, digest)| page.write(&digest, Some(&self.model)));
        match self.ended {
            // Closing the window is a way to end a run.
            Ok(()) | Err(Error::ClosedPipe) => reported.and(end),
            Err(error) => Err(error),
        }
    }

    fn finish(&mut self, side: Side) {
        let ended = side.finish();
        // A window that was closed does not hide what failed after it.
        if matches!(self.ended, Ok(()) | Err(Error::ClosedPipe)) && ended.is_err() {
            self.ended = ended;
        }
    }

    fn handle(&mut self, message: Message) -> Result<Option<record::End>> {
        match message {
            Message::Record(record) => self.write(&record)?,
            Message::Frame { frame, followed, dropped, live } => {
                self.frame(frame, followed, dropped, live)?;
            }
            Message::End { reason, frames, reconnects } => {
                let end = self.end(reason, frames, reconnects);
                self.write(&Record::End(end.clone()))?;
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Writes a record. A reader who has gone ends the run as a signal does.
    fn write(&mut self, record: &Record) -> Result<()> {
        if let Some(reader) = &self.reader {
            // Fails where the reader wants no more.
            let _ = reader.send(record.clone());
        }
        if let Some((_, digest)) = &mut self.report {
            digest.add(record).map_err(|why| Error::Bug(format!("a record {why}")))?;
        }
        let Some(lines) = &mut self.lines else { return Ok(()) };
        match lines.write(record) {
            Err(Error::ClosedPipe) => {
                self.lines = None;
                self.stop.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written,
        }
    }

    /// Writes the record of a frame, which then goes on to the other sinks.
    fn frame(
        &mut self,
        frame: Frame,
        followed: Followed,
        dropped: Dropped,
        live: bool,
    ) -> Result<()> {
        let seen = followed.faces.into_iter().zip(followed.volumes);
        let (records, faces): (Vec<_>, Vec<_>) =
            seen.map(|(face, volume)| self.fit(frame.pts, face, volume)).unzip();
        self.smoother.forget_before(frame.pts - FORGET);
        let capture_to_record = frame.arrived.elapsed().as_secs_f64() * 1e3;
        self.latency.add(capture_to_record);
        self.processed += 1;
        self.write(&Record::Frame(record::Frame {
            stream: self.config.stream.clone(),
            frame: frame.number,
            file: frame.file.as_deref().map(str::to_string),
            pts: frame.pts,
            time: timestamp(frame.time),
            latency_ms: record::Latency {
                capture_to_record,
                detect: followed.detect_ms,
                infer: followed.infer_ms,
            },
            dropped,
            faces: records,
        }))?;
        if self.sides.is_empty() {
            return Ok(());
        }
        let time = self.rate.tick().map(|fps| format!("{fps:.1} fps   {:.2} s", frame.pts));
        let status = [time.unwrap_or_default().as_str(), self.warning].join("   ").trim().into();
        let shot = Arc::new(Shot { frame, faces, status });
        let (on, over): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sides)
            .into_iter()
            .map(|mut side| (side.take(shot.clone(), live), side))
            .partition(|(takes_more, _)| *takes_more);
        self.sides = on.into_iter().map(|(_, side)| side).collect();
        for (_, side) in over {
            // The records go on until the source has stopped, so that they have their end.
            self.finish(side);
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fit(
        &mut self,
        pts: f64,
        face: Tracked,
        volume: Option<Arc<Volume>>,
    ) -> (record::Face, sink::Face) {
        let Tracked { id, confidence, params: raw, fresh, .. } = face;
        self.ids.insert(id);
        let refined = match (&self.aligner, &volume) {
            (Some(aligner), Some(volume)) => aligner.align(&raw, volume),
            _ => None,
        };
        let refined = refined.as_ref().unwrap_or(&raw);
        let params = self.smoother.apply(id, pts, refined, confidence, fresh);
        let landmarks = self.model.landmarks(&params);
        let vertices = if self.needs_mesh { self.model.vertices(&params) } else { Vec::new() };
        let config = &self.config;
        let bounds = crate::track::bounds(&landmarks);
        let fill = |filler: &Filler| filler.volume(&params, &landmarks, &vertices);
        let volume = volume.or_else(|| self.filler.as_ref().map(fill).map(Arc::new));
        let placed = volume.as_ref().filter(|_| config.volume_out.is_some());
        let record = record::Face {
            id,
            confidence,
            bounds,
            f: params.f,
            r: rotation::to_angles(&params.rotation),
            q: rotation::to_wxyz(&params.rotation),
            t: params.t,
            identity: params.identity.clone(),
            expression: params.expression.clone(),
            landmarks: config.landmarks.then(|| landmarks.clone()),
            landmarks3d: config.landmarks.then(|| self.model.landmarks3d(&params)),
            vertices: config.vertices.then(|| vertices.clone()),
            raw: config.raw.then(|| record::Raw {
                f: raw.f,
                r: rotation::to_angles(&raw.rotation),
                t: raw.t,
                identity: raw.identity,
                expression: raw.expression,
            }),
            volume: placed.map(|volume| record::Volume {
                resolution: volume.resolution(),
                place: volume.affine(),
            }),
        };
        (record, sink::Face { id, confidence, bounds, params, landmarks, vertices, volume })
    }

    fn end(&self, reason: String, frames: record::FrameCounts, reconnects: u32) -> record::End {
        let seconds = self.started.elapsed().as_secs_f64();
        let reason = match &self.ended {
            Ok(()) => reason,
            Err(Error::ClosedPipe) => "the window was closed".into(),
            Err(error) => error.to_string(),
        };
        record::End {
            stream: self.config.stream.clone(),
            frames: record::FrameCounts { processed: self.processed, ..frames },
            faces: self.ids.len() as u64,
            reconnects,
            seconds,
            fps: self.processed as f64 / seconds.max(1e-9),
            latency_ms: self.latency.percentiles(),
            reason,
        }
    }
}

/// Makes volumes of fitted meshes.
struct Filler {
    model: Arc<FaceModel>,
    crop: CropRule,
    resolution: usize,
}

impl Filler {
    /// In the crop that the networks would see of this face.
    fn volume(&self, params: &Params, landmarks: &[[f32; 2]], vertices: &[[f32; 3]]) -> Volume {
        let angle = rotation::upright_angle(&params.rotation);
        let map = CropMap::around(landmarks, angle, &self.crop);
        Solid::new(vertices, &self.model.triangles, &map, self.resolution).volume()
    }
}

/// Frames a second, smoothed over about a second.
#[derive(Default)]
struct Rate {
    last: Option<Instant>,
    interval: Option<f64>,
}

impl Rate {
    /// None at the first frame, which may be the only one.
    fn tick(&mut self) -> Option<f64> {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let dt = (now - last).as_secs_f64().max(1e-6);
            let part = dt.clamp(0.02, 1.0);
            self.interval = Some(self.interval.map_or(dt, |i| i + part * (dt - i)));
        }
        self.interval.map(|i| 1.0 / i)
    }
}

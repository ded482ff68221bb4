//! The end of the line: smooth, make the record, write it, hand the frame to the overlay.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::follow::Followed;
use crate::config::Config;
use crate::face::{FaceModel, Params, rotation};
use crate::frame::Frame;
use crate::metrics::Histogram;
use crate::record::{self, Dropped, Record, timestamp};
use crate::sink::{json, overlay, report};
use crate::smooth::Smoother;
use crate::track::Tracked;
use crate::{Error, Result};

/// What reaches the output.
pub enum Message {
    /// A record that needs nothing more.
    Record(Record),
    /// A frame with its faces.
    Frame { frame: Frame, followed: Followed, dropped: Dropped },
    /// Nothing more comes.
    End { reason: String, frames: record::FrameCounts, reconnects: u32 },
}

/// Faces unseen for so many seconds of the stream are forgotten by the filters.
const FORGET: f64 = 10.0;

/// Everything behind the networks.
pub struct Output {
    config: Arc<Config>,
    model: Arc<FaceModel>,
    smoother: Smoother,
    /// None once their reader has gone.
    lines: Option<json::Lines>,
    overlay: Option<Overlay>,
    /// Stands on every drawn frame.
    warning: &'static str,
    report: Option<(report::Page, report::Digest)>,
    /// How the overlay came to its end.
    drawn: Result<()>,
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
        trained: bool,
        live: bool,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let lines = json::Lines::open(&config.json)?;
        let open = |target| Overlay::start(target, model, live);
        let page = config.report.as_deref().map(report::Page::create).transpose()?;
        Ok(Self {
            overlay: config.overlay.as_ref().map(open).transpose()?,
            warning: if trained { "" } else { "   NO TRAINED WEIGHTS: THE MESH MEANS NOTHING" },
            report: page.map(|page| (page, report::Digest::default())),
            smoother: Smoother::new(config.smooth, model.clone()),
            config: config.clone(),
            model: model.clone(),
            lines: Some(lines),
            drawn: Ok(()),
            stop: stop.clone(),
            started: Instant::now(),
            latency: Histogram::default(),
            ids: HashSet::new(),
            processed: 0,
        })
    }

    /// Works until the messages end; whatever happens, the overlay is finished.
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
        self.finish_overlay();
        let reported =
            self.report.map_or(Ok(()), |(page, digest)| page.write(&digest, Some(&self.model)));
        match self.drawn.and(reported) {
            // Closing the window is a way to end a run.
            Ok(()) | Err(Error::ClosedPipe) => end,
            Err(error) => Err(error),
        }
    }

    fn finish_overlay(&mut self) {
        if let Some(overlay) = self.overlay.take() {
            self.drawn = overlay.finish();
        }
    }

    fn handle(&mut self, message: Message) -> Result<Option<record::End>> {
        match message {
            Message::Record(record) => self.write(&record)?,
            Message::Frame { frame, followed, dropped } => self.frame(frame, followed, dropped)?,
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

    fn frame(&mut self, frame: Frame, followed: Followed, dropped: Dropped) -> Result<()> {
        let faces: Vec<Fitted> =
            followed.faces.into_iter().map(|f| self.fit(frame.pts, f)).collect();
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
            faces: faces.iter().map(|f| f.record.clone()).collect(),
        }))?;
        if let Some(overlay) = &mut self.overlay
            && !overlay.draw(frame, faces, self.warning)
        {
            // The records go on until the source has stopped, so that they have their end.
            self.finish_overlay();
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fit(&mut self, pts: f64, face: Tracked) -> Fitted {
        let Tracked { id, confidence, params: raw, fresh } = face;
        self.ids.insert(id);
        let params = self.smoother.apply(id, pts, &raw, confidence, fresh);
        let landmarks = self.model.landmarks(&params);
        let wanted = self.config.vertices || self.overlay.is_some();
        let vertices = if wanted { self.model.vertices(&params) } else { Vec::new() };
        let config = &self.config;
        let record = record::Face {
            id,
            confidence,
            bounds: crate::track::bounds(&landmarks),
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
        };
        Fitted { record, params, landmarks, vertices }
    }

    fn end(&self, reason: String, frames: record::FrameCounts, reconnects: u32) -> record::End {
        let seconds = self.started.elapsed().as_secs_f64();
        let reason = match &self.drawn {
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

/// A face as it goes into the record and onto the picture.
struct Fitted {
    record: record::Face,
    params: Params,
    landmarks: Vec<[f32; 2]>,
    vertices: Vec<[f32; 3]>,
}

/// Draws on a thread of its own: encoding must not hold up the records of a live stream.
struct Overlay {
    frames: Sender<(Frame, Vec<Fitted>, String)>,
    thread: JoinHandle<Result<()>>,
    live: bool,
    rate: Rate,
    skipped: u64,
}

impl Overlay {
    fn start(target: &overlay::Target, model: &FaceModel, live: bool) -> Result<Self> {
        let mut overlay = overlay::Overlay::open(target, model, 0.0)?;
        let (frames, waiting) = bounded::<(Frame, Vec<Fitted>, String)>(2);
        let thread = super::spawn("overlay", move || {
            for (frame, faces, status) in waiting {
                let faces: Vec<_> = faces.iter().map(Fitted::drawn).collect();
                overlay.draw(&frame, &faces, &status)?;
            }
            overlay.finish()
        })?;
        Ok(Self { frames, thread, live, rate: Rate::default(), skipped: 0 })
    }

    /// False if it draws no more; [`finish`](Self::finish) knows why.
    fn draw(&mut self, frame: Frame, faces: Vec<Fitted>, warning: &str) -> bool {
        let status = format!("{:.1} fps   {:.2} s{warning}", self.rate.tick(), frame.pts);
        let job = (frame, faces, status);
        if !self.live {
            return self.frames.send(job).is_ok();
        }
        let sent = self.frames.try_send(job);
        self.skipped += u64::from(matches!(sent, Err(TrySendError::Full(_))));
        !matches!(sent, Err(TrySendError::Disconnected(_)))
    }

    fn finish(self) -> Result<()> {
        drop(self.frames);
        if self.skipped > 0 {
            tracing::warn!("the overlay lacks {} frames that came too fast for it", self.skipped);
        }
        super::join(self.thread)
    }
}

impl Fitted {
    fn drawn(&self) -> overlay::Face<'_> {
        overlay::Face {
            id: self.record.id,
            confidence: self.record.confidence,
            box_: self.record.bounds,
            vertices: &self.vertices,
            landmarks: &self.landmarks,
            pose: &self.params,
        }
    }
}

/// Frames a second, smoothed over about a second.
#[derive(Default)]
struct Rate {
    last: Option<Instant>,
    interval: Option<f64>,
}

impl Rate {
    fn tick(&mut self) -> f64 {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let dt = (now - last).as_secs_f64().max(1e-6);
            let part = dt.clamp(0.02, 1.0);
            self.interval = Some(self.interval.map_or(dt, |i| i + part * (dt - i)));
        }
        self.interval.map_or(0.0, |i| 1.0 / i)
    }
}

//! The second of a run's two threads: turns observations into faces and passes them to the sinks.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Receiver;
use mmface::record::{self, Dropped, Latency};
use mmface::{Crowd, Fitter, Observation};

use crate::counters::SinkCounters;
use crate::frame::Frame;
use crate::lens::Lens;
use crate::neutral::Neutrals;
use crate::sink::{Context, Event, Finished, FrameEvent, OnFailure, Plan, SinkThread};
use crate::source::mask;
use crate::{Error, Result};

/// Messages to the output.
pub(super) enum Message {
    /// Everything but frames and the end.
    Event(Event),
    /// An observed frame.
    Frame(Box<Observed>),
    /// The run ends.
    End { reason: String },
}

/// A frame and what was observed in it.
pub(super) struct Observed {
    pub(super) frame: Frame,
    pub(super) observation: Observation,
    /// Frames lost since the last observed one.
    pub(super) dropped: Dropped,
    /// Whether the source is live.
    pub(super) live: bool,
}

/// Everything after the networks.
pub(super) struct Output {
    context: Arc<Context>,
    fitter: Fitter,
    neutrals: Neutrals,
    sinks: Vec<SinkThread>,
    on_failure: OnFailure,
    /// Result of the first sink that ended before the run.
    ended_early: Option<Result<&'static str>>,
    /// Sinks that failed, and why.
    failed: Vec<(&'static str, String)>,
    /// Whether a sink has ended the run.
    stops_early: bool,
    /// Set to end the whole run.
    stop: Arc<AtomicBool>,
    started: Instant,
    rate: Rate,
    ids: HashSet<u64>,
    /// Whether the user was warned that there are more faces than are followed.
    warned_of_crowd: bool,
    /// Whether the user was warned that a picture does not say its focal length.
    warned_of_focal: bool,
    live: bool,
}

impl Output {
    /// Opens the sinks.
    pub(super) fn open(
        plans: Vec<Box<dyn Plan>>,
        on_failure: OnFailure,
        (fitter, neutrals): (Fitter, Neutrals),
        context: &Arc<Context>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let open = |plan: Box<dyn Plan>| {
            let (name, when_slow) = (plan.name(), plan.when_slow());
            Ok((name, when_slow, plan.open(context)?))
        };
        // None is started before all are open: a sink that was started finishes its file, and a run
        // that is refused must leave all files as they were.
        let opened = plans.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        let start = |(name, when_slow, sink)| {
            SinkThread::start(sink, when_slow, context.counters.sink(name))
        };
        Ok(Self {
            sinks: opened.into_iter().map(start).collect::<Result<_>>()?,
            context: context.clone(),
            fitter,
            neutrals,
            on_failure,
            ended_early: None,
            failed: Vec::new(),
            stops_early: false,
            stop: stop.clone(),
            started: Instant::now(),
            rate: Rate::default(),
            ids: HashSet::new(),
            warned_of_crowd: false,
            warned_of_focal: false,
            live: false,
        })
    }

    /// Works until there are no more messages. The sinks are finished in any case.
    pub(super) fn run(mut self, messages: Receiver<Message>) -> Result<record::End> {
        let mut end = Err(Error::Bug("the run ended without an end".into()));
        for message in messages {
            match message {
                Message::Event(event) => self.send(event),
                Message::Frame(observed) => self.frame(*observed),
                Message::End { reason } => {
                    let last = self.end(reason);
                    self.send(Event::End(Arc::new(last.clone())));
                    end = Ok(last);
                }
            }
        }
        self.neutrals.finish();
        // All at once: one that hangs must not keep the others from their ends.
        let ending: Vec<_> =
            std::mem::take(&mut self.sinks).into_iter().map(|s| (s.name(), s.end())).collect();
        for (name, sink) in ending {
            let finished = sink.finish();
            self.note_end(name, finished);
        }
        match self.ended_early {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => end,
        }
    }

    /// Passes an event to all sinks. A sink that does not accept it is finished, and the run is
    /// asked to end.
    fn send(&mut self, event: Event) {
        let (running, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sinks)
            .into_iter()
            .partition(|sink| sink.take(event.clone(), self.live).is_ok());
        self.sinks = running;
        for sink in ended {
            let (name, finished) = (sink.name(), sink.end().finish());
            let fails = finished.is_err();
            self.note_end(name, finished);
            if fails && self.on_failure == OnFailure::Drop && !self.sinks.is_empty() {
                if let Some((name, why)) = self.failed.last() {
                    tracing::warn!("the {name} is left out from here on: {why}");
                }
                continue;
            }
            // The other sinks continue until the source has stopped, so that they get the end
            // event.
            self.stops_early = true;
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Records how a sink ended. A failure takes precedence over an earlier closed window.
    fn note_end(&mut self, name: &'static str, finished: Result<Finished>) {
        let end = match finished {
            Ok(Finished::Done) => return,
            Ok(Finished::Enough(reason)) => Ok(reason),
            Err(error) => {
                self.failed.push((name, error.to_string()));
                Err(error)
            }
        };
        if !matches!(self.ended_early, Some(Err(_))) && (end.is_err() || self.ended_early.is_none())
        {
            self.ended_early = Some(end);
        }
    }

    fn frame(&mut self, observed: Observed) {
        let Observed { frame, observation, dropped, live } = observed;
        let status = &self.context.counters.status;
        status.output.works();
        self.live = live;
        self.context.live.store(live, Ordering::Relaxed);
        let result = self.fitter.fit(observation);
        if let Some(Crowd { seen, most }) = result.crowd.filter(|_| !self.warned_of_crowd) {
            let number = frame.number;
            tracing::warn!(
                "{seen} faces in frame {number}, and at most {most} are followed: the smaller ones \
                 are left out, here and wherever there are more; --faces N follows more"
            );
            self.warned_of_crowd = true;
        }
        if let Some(still) = frame.still.as_ref().filter(|still| still.focal.is_none())
            && self.context.lens == Some(Lens::Exif)
            && !std::mem::replace(&mut self.warned_of_focal, true)
        {
            tracing::warn!(
                "{} does not say its focal length (EXIF): its faces have no pose in camera space, and \
                 so wherever that is missing; --fov and --focal PIXELS hold for all",
                still.name
            );
        }
        for face in &result.faces {
            if self.ids.insert(face.id) {
                self.context.counters.faces.add();
            }
        }
        let latency = Latency {
            capture_to_record: frame.arrived.elapsed().as_secs_f64() * 1e3,
            detect: result.detect_ms,
            infer: result.infer_ms,
        };
        status.faces_seen(result.faces.len());
        self.context.counters.frame_done(latency.capture_to_record);
        let rate = self.rate.tick().map(|fps| format!("{fps:.1} fps   {:.2} s", frame.pts));
        let line = rate.unwrap_or_default();
        let size = frame.image();
        let size = [size.width as f32, size.height as f32];
        let relative = self.neutrals.frame(&result.faces, frame.pts, size);
        let event = FrameEvent::new(frame, result, latency, dropped, line, &self.context);
        let event = event.with_relative(relative);
        // A sink that makes the run wait is not this thread's fault.
        self.context.counters.status.output.waits();
        self.send(Event::Frame(Arc::new(event)));
    }

    /// The sinks that lost something or sent packets so far.
    fn losses(&self) -> Vec<record::SinkEnd> {
        let counters = self.context.counters.sinks();
        let of = |counters: &Arc<SinkCounters>| {
            let name = counters.name;
            let failure = self.failed.iter().find(|(failed, _)| *failed == name);
            let (sent, failed) = (counters.sent.get(), counters.failed.get());
            let (acknowledged, waiting) = (counters.acknowledged.get(), counters.waiting.get());
            record::SinkEnd {
                name: name.into(),
                dropped: counters.dropped.get(),
                failure: failure.map(|(_, why)| mask(why)),
                packets: (sent + failed > 0).then(|| record::Packets {
                    sent,
                    failed,
                    latency_ms: counters.packet_latency(),
                }),
                records: (acknowledged + waiting > 0).then(|| record::Delivery {
                    acknowledged,
                    waiting,
                    dropped: counters.dropped.get(),
                }),
            }
        };
        let is_told = |end: &record::SinkEnd| {
            end.dropped > 0
                || end.failure.is_some()
                || end.packets.is_some()
                || end.records.is_some()
        };
        counters.iter().map(of).filter(is_told).collect()
    }

    fn end(&self, reason: String) -> record::End {
        let counters = &self.context.counters;
        let seconds = self.started.elapsed().as_secs_f64();
        let frames = counters.frames();
        record::End {
            stream: self.context.stream.clone(),
            frames,
            faces: counters.faces.get(),
            reconnects: u32::try_from(counters.reconnects.get()).unwrap_or(u32::MAX),
            seconds,
            fps: frames.processed as f64 / seconds.max(1e-9),
            latency_ms: counters.latency(),
            sinks: self.losses(),
            reason: match &self.ended_early {
                Some(Ok(why)) if self.stops_early => (*why).into(),
                Some(Err(error)) if self.stops_early => mask(&error.to_string()),
                _ => mask(&reason),
            },
        }
    }
}

/// Frames per second, smoothed over about a second.
#[derive(Default)]
struct Rate {
    last: Option<Instant>,
    interval: Option<f64>,
}

impl Rate {
    /// Counts a frame. `None` for the first one.
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

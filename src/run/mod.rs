//! One run: a source, a tracker and sinks, each on threads of its own.
//!
//! ```text
//! source ──▶ observe (detect, crop, networks, follow) ──▶ output (refine, smooth) ──▶ sinks, a
//! thread each
//! ```
//!
//! Bounded queues connect the threads. A live source drops and counts the older queued frame; files
//! wait. If a thread fails, its queue closes, the threads before it stop, and its error becomes the
//! run's.

mod attention;
mod output;
mod progress;
mod reader;
mod streams;

pub use streams::{Group, Over, run_streams};

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Sender, bounded};
use mmface::record::{self, Dropped, timestamp};
use mmface::{Mode, Observer, Runtime, Shows, TrackerOptions};

use crate::counters::Counters;
use crate::frame::StreamInfo;
use crate::lens::Lens;
use crate::neutral;
use crate::neutral::Neutrals;
use crate::sink::{self, Context, OnFailure, Plan, Volumes};
use crate::source::{self, End, Event, Source};
use crate::{Error, Result, ending};
use attention::Attention;
use output::{Message, Observed, Output};
use progress::Progress;
use reader::Reader;

/// Most observed frames queued for the output. A longer queue would only add latency.
const QUEUED: usize = 1;

/// Options of a run.
pub struct Options {
    /// Name of the stream in the records.
    pub stream: String,
    /// Options of the source.
    pub source: source::Options,
    /// Options of the tracker. Its mode is set by the source, except for stills.
    pub tracker: TrackerOptions,
    /// The camera's lens, if it is known.
    pub lens: Option<Lens>,
    /// The volumes, if a sink needs any.
    pub volumes: Option<Volumes>,
    /// Where neutral faces come from.
    pub neutral: neutral::Settings,
    /// The requested sinks.
    pub sinks: Vec<Box<dyn Plan>>,
    /// Whether only key frames of a live stream are decoded while nothing happens in it.
    pub idle_keyframes: bool,
    /// What happens if a sink fails.
    pub sink_failure: OnFailure,
    /// Whether a progress bar may be shown.
    pub progress: bool,
    /// What the run counts.
    pub counters: Arc<Counters>,
}

/// Runs until the source ends, a thread fails or `stop` is set. Everything processed until then is
/// written.
///
/// # Errors
/// The first failure of any thread. What was processed before it is written.
pub fn run(runtime: &Runtime, options: Options, stop: &Arc<AtomicBool>) -> Result<record::End> {
    let counters = options.counters.clone();
    let end = run_to_end(runtime, options, stop);
    let status = &counters.status;
    status.observe.waits();
    match &end {
        Ok(end) => status.ended(&end.reason),
        Err(error) => status.failed(&source::mask(&error.to_string())),
    }
    end
}

fn run_to_end(runtime: &Runtime, options: Options, stop: &Arc<AtomicBool>) -> Result<record::End> {
    let about = runtime.describe();
    tracing::info!("{} on {} in {}", about.backend, about.device, about.precision);
    if !runtime.variant().trained {
        let name = &runtime.variant().name;
        tracing::warn!("the networks of {name} are untrained: their parameters mean nothing");
    }
    let header = header(&options, runtime);
    let Options { stream, source, tracker, volumes, neutral, sinks, .. } = options;
    let Options { lens, idle_keyframes, sink_failure, progress, counters, .. } = options;
    let live = source.input.is_live() || source.realtime;
    let mode = match tracker.mode {
        Mode::Stills => Mode::Stills,
        _ if live => Mode::Live,
        _ => Mode::Recording,
    };
    let (observer, fitter) = runtime.tracker(TrackerOptions { mode, ..tracker })?.split();
    // The source is opened when everything is ready for its frames, but before the sinks, so that a
    // missing source does not truncate the files of an earlier run.
    let source = Source::open(source, counters.clone())?;
    let context = Arc::new(Context {
        stream,
        model: runtime.face_model().clone(),
        crop: runtime.variant().crop,
        trained: runtime.variant().trained,
        lens,
        volumes,
        live: live.into(),
        counters,
    });
    let neutrals = Neutrals::open(neutral, &context.model)?;
    let output = Output::open(sinks, sink_failure, (fitter, neutrals), &context, stop)?;
    ending::writing();
    let (messages, waiting) = bounded(QUEUED);
    let writer = spawn("output", move || output.run(waiting))?;
    let mut observe = Observe {
        source: &source,
        observer,
        mode,
        context: &context,
        messages: &messages,
        progress: Progress::new(progress && mode != Mode::Live),
        attention: idle_keyframes.then(|| Attention::new(Instant::now())),
    };
    let observed = match observe.send(Message::Event(header)) {
        Sent::Yes => observe.until_end(stop),
        Sent::OutputGone => Ok(None),
    };
    let (reason, failure) = match observed {
        Ok(Some(End { reason, error })) => (reason, error),
        // The output has ended and returns the reason itself.
        Ok(None) => (String::new(), None),
        Err(error) => (error.to_string(), Some(error)),
    };
    // Lost only where the output has ended.
    let _ = observe.send(Message::End { reason });
    drop(observe);
    drop(messages);
    let end = join(writer);
    failure.map_or(end, Err)
}

/// Whether a message was received by the output.
enum Sent {
    Yes,
    OutputGone,
}

/// The first of a run's two threads: turns frames into observations.
struct Observe<'a> {
    source: &'a Source,
    observer: Observer,
    mode: Mode,
    context: &'a Context,
    messages: &'a Sender<Message>,
    progress: Progress,
    /// Set if only key frames are wanted while nothing happens.
    attention: Option<Attention>,
}

impl Observe<'_> {
    /// Works until the source ends, and returns how it ended; `None` if the output has ended.
    fn until_end(&mut self, stop: &AtomicBool) -> Result<Option<End>> {
        let mut reader = Reader::new(self.source, stop);
        let (mut before, mut connection) = (Dropped::default(), 0);
        let pulse = &self.context.counters.status.observe;
        loop {
            pulse.waits();
            let (events, frame) = reader.next();
            pulse.works();
            for event in events {
                let message = match event {
                    Event::Connected(info) => self.stream(info),
                    Event::Gap { from, to, reason, connection } => {
                        let stream = self.context.stream.clone();
                        let (from, to) = (timestamp(from), timestamp(to));
                        let gap = record::Gap { stream, from, to, reason, connection };
                        Message::Event(sink::Event::Gap(Arc::new(gap)))
                    }
                    Event::Ended(end) => return Ok(Some(end)),
                };
                if let Sent::OutputGone = self.send(message) {
                    return Ok(None);
                }
            }
            let bug = || Error::Bug("the source ended without an end event".into());
            let frame = frame.ok_or_else(bug)?;
            if ending::is_late_for_frames() {
                self.context.counters.dropped_busy.add();
                continue;
            }
            if self.source.is_live() && self.mode == Mode::Recording {
                self.mode = Mode::Live;
                self.observer.go_live();
            }
            if frame.connection != connection {
                connection = frame.connection;
                self.observer.reset();
            }
            // Fetching ahead would keep a live source from replacing the queued frame.
            let ahead = self.mode == Mode::Recording && self.observer.looks_ahead();
            let next = if ahead { reader.peek() } else { None };
            let next = next.map(|next| next.image());
            let observation = self.observer.observe(&frame.image(), frame.pts, next.as_ref())?;
            self.attend(observation.shows());
            self.progress.frame(frame.pts, self.source.length());
            let now = frame.dropped;
            let dropped = now.since(std::mem::replace(&mut before, now));
            let live = self.mode == Mode::Live;
            let observed = Observed { frame, observation, dropped, live };
            if let Sent::OutputGone = self.send(Message::Frame(Box::new(observed))) {
                return Ok(None);
            }
        }
    }

    /// Takes note of what a frame shows.
    fn attend(&mut self, shows: Shows) {
        let Some(attention) = self.attention.as_mut().filter(|_| self.mode == Mode::Live) else {
            return;
        };
        if let Some(is_idle) = attention.saw(shows, Instant::now()) {
            tracing::debug!(is_idle, "nothing happens, or something happens again");
            self.source.set_idle(is_idle);
            self.observer.set_patient(is_idle);
        }
    }

    fn send(&self, message: Message) -> Sent {
        let pulse = &self.context.counters.status.observe;
        pulse.waits();
        let sent = self.messages.send(message);
        pulse.works();
        if sent.is_ok() { Sent::Yes } else { Sent::OutputGone }
    }

    fn stream(&self, info: StreamInfo) -> Message {
        let StreamInfo { width, height, fps, codec, connection } = info;
        let stream = self.context.stream.clone();
        let stream = record::Stream { stream, width, height, fps, codec, connection };
        Message::Event(sink::Event::Stream(Arc::new(stream)))
    }
}

/// Logs how a run ended.
pub fn log_end(end: &record::End) {
    let record::End { frames, faces, seconds, fps, latency_ms, reason, .. } = end;
    let mut lost = String::new();
    let record::Dropped { busy, damaged, lost: on_the_way, idle, skipped } = frames.dropped;
    for (count, why) in [
        (busy, "lost (too fast)"),
        (damaged, "lost (damaged)"),
        (on_the_way, "lost (on the network)"),
        (idle, "left out (nothing happened)"),
        (skipped, "left out (--max-fps)"),
    ] {
        if count > 0 {
            lost += &format!(", {count} {why}");
        }
    }
    tracing::info!(
        "{reason}: {} {}{lost}, {faces} {} in {seconds:.1} s: {fps:.0} frames a second, {:.1} ms each (95 of 100 within {:.1} ms)",
        frames.processed,
        if frames.processed == 1 { "frame" } else { "frames" },
        if *faces == 1 { "face" } else { "faces" },
        latency_ms.p50,
        latency_ms.p95,
    );
}

fn header(options: &Options, runtime: &Runtime) -> sink::Event {
    let stills = options.tracker.mode == Mode::Stills;
    let smoothing = if stills { mmface::smooth::Strength::Off } else { options.tracker.smoothing };
    let header = record::Header {
        schema: record::SCHEMA,
        program: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        stream: options.stream.clone(),
        source: options.source.input.label(),
        network: runtime.into(),
        face_model: runtime.into(),
        smoothing: smoothing.to_string(),
        refine: options.tracker.refine.then(|| "icp".into()),
        lens: options.lens.map(|lens| lens.to_string()),
        volume: options.volumes.map(|volumes| volumes.resolution),
        volume_from: options.volumes.map(|volumes| volumes.source.to_string()),
        started: timestamp(SystemTime::now()),
        revision: None,
    };
    sink::Event::Header(Arc::new(header))
}

/// Starts a named thread.
fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    // Messages of the thread name the stream, if there are several.
    let span = tracing::Span::current();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || span.in_scope(work))
        .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or("a").to_string();
    thread.join().unwrap_or_else(|_| Err(Error::Bug(format!("the {name} thread panicked"))))
}

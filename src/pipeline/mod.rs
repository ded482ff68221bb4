//! Threads and channels; the only place that knows all stages.
//!
//! ```text
//! source ──▶ follow (track, nets; detect beside it) ──▶ output (ICP, smooth, record, json) ──▶ overlay, meshes, volumes
//! ```
//!
//! Between the stages are bounded channels. Live sources drop the older waiting frame and count
//! it; files wait. When a stage fails, its channel closes, those before it stop, and its error is
//! the run's.

mod follow;
mod output;
mod progress;
mod side;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::config::Config;
use crate::detect::Worker;
use crate::face::FaceModel;
use crate::nets::{self, Backend, Engines, Variant};
use crate::record::{self, Dropped, Record, timestamp};
use crate::sink::Sink;
use crate::sink::volumes::Origin;
use crate::source::{End, Event, Source};
use crate::track::{Settings, Tracker};
use crate::{Error, Result, detect};
use follow::{Follower, Pace};
use output::{Message, Output};
use progress::Progress;

/// Processed frames that wait for the output. One that waits is older by the time it comes out, so of
/// a live source only one does: newer ones are to be had.
const WAITING: usize = 4;
const WAITING_LIVE: usize = 1;
/// How often a waiting run looks whether it should stop.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a source that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Somebody in this program who reads along.
pub struct Watcher {
    /// Takes every record; must not block.
    pub records: Sender<Record>,
    /// Makes what takes every frame with its faces and their meshes.
    pub sink: Option<MakeSink>,
}

/// A sink for faces of one model.
pub type MakeSink = Box<dyn FnOnce(&Arc<FaceModel>) -> Box<dyn Sink>>;

/// Runs until the source ends, a stage fails or `stop` is set. Everything that was processed is
/// written then. A `watcher` gets a copy of every record.
///
/// # Errors
/// The first failure of any stage; records that were made before it are written.
pub fn run(
    config: Config,
    watcher: Option<Watcher>,
    stop: &Arc<AtomicBool>,
) -> Result<record::End> {
    let config = Arc::new(config);
    let engines = Engines::find(config.engines.as_deref())?;
    let variant = engines.variant(&config.variant)?;
    let (model, model_hash) = engines.face_model()?;
    variant.check(&model)?;
    let model = Arc::new(model);
    let backend = nets::open(&engines, &variant, &config.nets)?;
    let detector =
        detect::open(config.detector, config.detector_model.as_deref(), config.detect_size)?;
    let about = backend.describe();
    tracing::info!("{} on {} in {}", about.backend, about.device, about.precision);
    if !variant.trained {
        tracing::warn!(
            "the networks of {} are untrained: their parameters mean nothing",
            variant.name
        );
    }
    // Opened when all is ready to take its frames, but before the sinks are: a missing source must
    // not empty the records of yesterday.
    let source = Source::open(config.source.clone())?;
    let live = config.source.input.is_live() || config.source.realtime;
    let header = Record::Header(Box::new(header(&config, &variant, &*backend, &model, model_hash)));
    let settings = Settings {
        max_faces: config.faces,
        detect_every: config.detect_every,
        presence: variant.presence_threshold,
        points: variant.points_weight,
        immediate: config.pictures,
        crop: variant.crop,
        detector: engines.detector(config.detector.name())?,
    };
    let pace = match (config.pictures, live) {
        (true, _) => Pace::Pictures,
        (_, true) => Pace::Live,
        _ => Pace::File,
    };
    let tracker = Tracker::new(settings, model.clone());
    let mut follower = Follower::new(tracker, backend, Worker::start(detector)?, pace);
    follower.volumes = config.volumes == Some(Origin::Network);
    let output = Output::open(&config, &model, &variant, watcher, stop)?;
    let (messages, waiting) = bounded(if live { WAITING_LIVE } else { WAITING });
    let writer = spawn("output", move || output.run(waiting))?;

    let followed = send(&messages, Message::Record(header))
        .and_then(|()| follow(&config, &source, &mut follower, &messages, stop));
    let (reason, failure) = match followed {
        Ok(End { reason, error }) => (reason, error),
        // The output has gone: it knows why.
        Err(Error::ClosedPipe) => (String::new(), None),
        Err(error) => (error.to_string(), Some(error)),
    };
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &source.counters;
    let frames = record::FrameCounts {
        decoded: load(&counters.decoded),
        processed: 0,
        dropped: Dropped { busy: load(&counters.dropped_busy), damaged: load(&counters.damaged) },
    };
    let reconnects = u32::try_from(load(&counters.reconnects)).unwrap_or(u32::MAX);
    // Fails only where the output has gone.
    let _ = send(&messages, Message::End { reason, frames, reconnects });
    drop(messages);
    let end = join(writer);
    failure.map_or(end, Err)
}

/// Frames through the follower to the output, with the events of the source in between.
fn follow(
    config: &Config,
    source: &Source,
    follower: &mut Follower,
    messages: &Sender<Message>,
    stop: &AtomicBool,
) -> Result<End> {
    let mut progress = Progress::new(config);
    let mut lost = Dropped::default();
    let mut ended = None;
    let mut next = None;
    // Those of frames that still wait.
    let mut events = Vec::new();
    let mut stopping: Option<Instant> = None;
    loop {
        if stop.load(Ordering::Relaxed) && stopping.is_none() {
            stopping = Some(Instant::now());
            source.stop();
        }
        let received = next.take().map_or_else(|| source.frames.recv_timeout(GLANCE), Ok);
        let frame = match received {
            Ok(frame) => Some(frame),
            // A device or a network drive that hangs does not even let go.
            Err(RecvTimeoutError::Timeout) if stopping.is_some_and(|s| s.elapsed() > PATIENCE) => {
                return Ok(End { reason: "stopped".into(), error: None });
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => None,
        };
        events.extend(source.events.try_iter());
        let number = frame.as_ref().map_or(u64::MAX, |frame| frame.number);
        let due = events.iter().take_while(|(first, _)| *first <= number).count();
        for (_, event) in events.drain(..due) {
            match event {
                Event::Connected(info) => send(messages, Message::Record(stream(config, info)))?,
                Event::Gap { from, to, reason, connection } => {
                    let (from, to) = (timestamp(from), timestamp(to));
                    let stream = config.stream.clone();
                    let gap = record::Gap { stream, from, to, reason, connection };
                    send(messages, Message::Record(Record::Gap(gap)))?;
                }
                Event::Ended(end) => ended = Some(end),
            }
        }
        let Some(frame) = frame else {
            let bug = || Error::Bug("the source ended without saying why".into());
            return ended.ok_or_else(bug);
        };
        if source.is_live() && follower.pace == Pace::File {
            follower.pace = Pace::Live;
        }
        // A live source must be free to replace the frame that waits by a newer one.
        if follower.pace == Pace::File && follower.backend.looks_ahead() {
            next = source.frames.try_recv().ok();
        }
        let followed = follower.follow(&frame, next.as_ref())?;
        progress.frame(frame.pts, source);
        let now = Dropped {
            busy: source.counters.dropped_busy.load(Ordering::Relaxed),
            damaged: source.counters.damaged.load(Ordering::Relaxed),
        };
        let dropped = Dropped { busy: now.busy - lost.busy, damaged: now.damaged - lost.damaged };
        lost = now;
        let live = follower.pace == Pace::Live;
        send(messages, Message::Frame { frame, followed, dropped, live })?;
    }
}

fn send(messages: &Sender<Message>, message: Message) -> Result<()> {
    messages.send(message).map_err(|_| Error::ClosedPipe)
}

fn header(
    config: &Config,
    variant: &Variant,
    backend: &dyn Backend,
    model: &crate::face::FaceModel,
    model_hash: String,
) -> record::Header {
    let about = backend.describe();
    record::Header {
        schema: record::SCHEMA,
        program: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        stream: config.stream.clone(),
        source: config.source.input.label(),
        network: record::Network {
            variant: variant.name.clone(),
            hash: variant.hash(),
            backend: about.backend.into(),
            device: about.device.into(),
            precision: about.precision.to_string(),
            trained: variant.trained,
        },
        face_model: record::FaceModel {
            name: model.name.clone(),
            hash: model_hash,
            identity: model.identities,
            expressions: model.expressions.clone(),
        },
        smoothing: config.smooth.to_string(),
        refine: config.icp.then(|| "icp".into()),
        volume: config.volumes.map(|_| config.volume),
        volume_from: config.volumes.map(|from| from.to_string()),
        started: timestamp(SystemTime::now()),
    }
}

fn stream(config: &Config, info: crate::frame::StreamInfo) -> Record {
    let crate::frame::StreamInfo { width, height, fps, codec, connection } = info;
    let stream = config.stream.clone();
    Record::Stream(record::Stream { stream, width, height, fps, codec, connection })
}

/// A thread with a name.
fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or("a").to_string();
    thread.join().unwrap_or_else(|_| Err(Error::Bug(format!("the {name} thread panicked"))))
}

//! Frame sources: cameras, RTSP streams, files, folders of pictures and user-written pipelines.
//!
//! A [`Source`] runs a thread that pulls decoded frames out of GStreamer, monitors the stream and
//! reconnects if a live source is lost. Frames and events come over two bounded channels.

mod attempts;
mod backoff;
mod camera;
mod connection;
mod custom;
mod decoded;
mod decoder_monitor;
mod elements;
mod emitter;
mod ending;
mod failure;
mod file;
pub(crate) mod fuzzing;
mod gaps;
mod gate;
mod health;
mod http;
mod images;
mod keep_alive;
mod ledger;
mod mask;
mod mp4;
mod pace;
mod rtp;
mod rtsp;
mod still;
mod supervisor;
mod timeline;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::counters::Counters;
use crate::frame::{Frame, StreamInfo};
use crate::{Error, Result};
use emitter::{Emitter, Stop};
pub use file::is_picture;
pub use health::health;
pub use mask::{hide, mask, remember};

/// Frames of a file queued for a busy reader. For live sources only the newest frame is queued.
const QUEUED_FRAMES: usize = 3;
/// Most queued events. Each is followed by a frame, and readers fetch all events with every frame.
const QUEUED_EVENTS: usize = 64;
/// How long dropping a [`Source`] waits for its thread before it abandons the thread.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// The input of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A camera: its number, or the path of its device file.
    Camera(String),
    /// The URL of an RTSP stream; may contain user and password.
    Rtsp(String),
    /// The URL of a stream over HTTP: Motion JPEG, HLS or a video; may contain user and password.
    Http(String),
    /// A video in any format that GStreamer reads, or a picture.
    File(PathBuf),
    /// All pictures in a folder, sorted by name.
    Images(PathBuf),
    /// The given pictures in the given order.
    Pictures {
        /// A name for all of them together.
        label: String,
        /// The path of each picture, and its name in the records.
        files: Vec<(PathBuf, Arc<str>)>,
    },
    /// A pipeline as for `gst-launch-1.0`, without a sink or with an `appsink`.
    Pipeline(String),
}

impl Input {
    /// The source's name in records and messages; passwords are masked.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Camera(name) => mask(&camera::device(name).display().to_string()),
            Self::Rtsp(url) | Self::Http(url) => mask::mask_url(url),
            Self::File(path) | Self::Images(path) => mask(&path.display().to_string()),
            Self::Pictures { label, .. } => mask(label),
            Self::Pipeline(description) => mask(description),
        }
    }

    /// Whether frames come at their own pace, so that older ones are dropped. False for pipelines,
    /// whose liveness is known only while they run: see [`Source::is_live`].
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Camera(_) | Self::Rtsp(_))
    }
}

/// Transport of RTSP streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP, or UDP if the camera does not offer TCP.
    #[default]
    Auto,
    /// Interleaved in the RTSP connection: no packet loss, and passes firewalls.
    Tcp,
    /// Separate UDP packets: slightly lower latency, but packets can be lost.
    Udp,
}

/// How long a source on the network that has not worked yet is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For this long, but at least once over each transport.
    For(Duration),
    /// For ever.
    Forever,
}

/// Options of a [`Source`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The input.
    pub input: Input,
    /// Play files in real time; older frames are dropped, as with a camera.
    pub realtime: bool,
    /// Transport of RTSP streams.
    pub rtsp_transport: Transport,
    /// Size of the RTSP jitter buffer in milliseconds: how long packets may wait for late ones.
    pub rtsp_latency_ms: u32,
    /// How long a source on the network is tried at the start, also where its server knows no such
    /// stream yet. `None`: for about ten seconds, and an unknown stream is an error at once.
    pub wait: Option<Wait>,
    /// Reconnect when a live source that has worked is lost.
    pub reconnect: bool,
    /// A live source without a frame for this long counts as lost. Files get four times as long.
    pub silence: Duration,
    /// Most pixels of a picture or frame; larger ones are refused before they are decoded.
    pub max_pixels: u64,
    /// Most frames a second; those between are decoded and left out.
    pub max_fps: Option<f64>,
}

/// Default of [`Options::max_pixels`].
pub const MAX_PIXELS: u64 = 100_000_000;

impl Options {
    /// Default options for `input`.
    #[must_use]
    pub fn new(input: Input) -> Self {
        Self {
            input,
            realtime: false,
            rtsp_transport: Transport::Auto,
            rtsp_latency_ms: 100,
            wait: None,
            reconnect: true,
            silence: Duration::from_secs(5),
            max_pixels: MAX_PIXELS,
            max_fps: None,
        }
    }
}

/// Events of a source other than frames.
#[derive(Debug)]
pub enum Event {
    /// Connected, or size or rate of the frames changed. Comes before the first such frame.
    Connected(StreamInfo),
    /// A live stream was interrupted and is back.
    Gap {
        /// Time of the last frame before the gap.
        from: SystemTime,
        /// Time of the first frame after the gap.
        to: SystemTime,
        /// Why the stream was interrupted.
        reason: String,
        /// Number of the connection that ended the gap.
        connection: u32,
    },
    /// The source has ended. Always the last event.
    Ended(End),
}

/// Why a source ended.
#[derive(Debug)]
pub struct End {
    /// As text: `end of stream`, `stopped`, or the failure.
    pub reason: String,
    /// Set if it is a failure. Frames received before it are valid.
    pub error: Option<Error>,
}

/// Length of the input if known, for progress bars.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Length {
    /// Duration of a video in seconds.
    pub seconds: Option<f64>,
    /// Number of frames (for a video: duration times frame rate) or pictures.
    pub frames: Option<u64>,
}

/// Properties of the stream that become known while it runs; 0 means unknown.
#[derive(Debug, Default)]
struct Facts {
    live: AtomicBool,
    /// Nothing happens in the stream: only key frames need to be decoded.
    idle: AtomicBool,
    milliseconds: AtomicU64,
    frames: AtomicU64,
}

/// An open source. Dropping it stops it.
pub struct Source {
    /// Frames in order. Disconnected at the end, after [`Event::Ended`] was sent.
    pub frames: Receiver<Frame>,
    /// Events, each with the number of the first frame that comes after it. Fetch all queued events
    /// after each frame, and again after the last frame.
    pub events: Receiver<(u64, Event)>,
    facts: Arc<Facts>,
    /// Dropping the sender asks the thread to stop.
    stop: Mutex<Option<Sender<Infallible>>>,
    /// Disconnected when the thread has ended.
    done: Receiver<Infallible>,
}

impl Source {
    /// Opens a source. It counts frames in `counters`. What can be checked quickly (a file, a
    /// device, a URL, a pipeline's syntax) is checked here. Connecting and finding a decoder happen
    /// in the background and are reported by [`Event::Ended`] if they fail.
    ///
    /// # Errors
    /// [`Error::Source`] if the source cannot be opened, [`Error::Usage`] for a pipeline
    /// description that GStreamer cannot parse.
    pub fn open(options: Options, counters: Arc<Counters>) -> Result<Self> {
        gstreamer::init().map_err(|e| {
            Error::Source(format!(
                "GStreamer cannot start ({e}); install it with: apt-get install \
                 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-libav"
            ))
        })?;
        let pace = options.max_fps.map(pace::Pace::new);
        let plan = supervisor::Plan::new(options)?;
        let (frames_in, frames) = bounded(QUEUED_FRAMES);
        let (events_in, events) = bounded(QUEUED_EVENTS);
        let (stop, stopped) = bounded(0);
        let (running, done) = bounded(0);
        let facts = Arc::new(Facts::default());
        plan.expect(&facts);
        let mut emitter = Emitter {
            frames: frames_in,
            waiting: frames.clone(),
            events: events_in,
            stop: Stop(stopped),
            counters,
            facts: facts.clone(),
            pace,
            number: 0,
        };
        let thread = move || {
            let running: Sender<Infallible> = running;
            let end = catch_unwind(AssertUnwindSafe(|| plan.run(&mut emitter)));
            emitter.end(end.unwrap_or_else(|_| End {
                reason: "internal error".into(),
                error: Some(Error::Bug("the source's thread panicked".into())),
            }));
            drop(running);
        };
        let span = tracing::Span::current();
        std::thread::Builder::new()
            .name("source".into())
            .spawn(move || span.in_scope(thread))
            .map_err(|e| Error::Source(format!("no thread can be started for the source: {e}")))?;
        let stop = Mutex::new(Some(stop));
        Ok(Self { frames, events, facts, stop, done })
    }

    /// Asks the source to end. Frames that are already queued can still be fetched.
    pub fn stop(&self) {
        // The lock only guards an assignment, so poisoning can be ignored.
        self.stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }

    /// Whether older frames are dropped. For pipelines this is known from the first frame on.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.facts.live.load(Ordering::Relaxed)
    }

    /// Tells whether nothing happens in the stream. If so, only its key frames are decoded, as far
    /// as it has any.
    pub fn set_idle(&self, idle: bool) {
        self.facts.idle.store(idle, Ordering::Relaxed);
    }

    /// Length of the input, as far as it is known.
    #[must_use]
    pub fn length(&self) -> Length {
        let known = |fact: &AtomicU64| Some(fact.load(Ordering::Relaxed)).filter(|&n| n > 0);
        Length {
            seconds: known(&self.facts.milliseconds).map(|ms| ms as f64 / 1000.0),
            frames: known(&self.facts.frames),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
        let most = crate::ending::left().map_or(DROP_TIMEOUT, |left| left.min(DROP_TIMEOUT));
        if self.done.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
            crate::ending::abandon();
            tracing::warn!("the source does not release its device; it is abandoned");
        }
    }
}

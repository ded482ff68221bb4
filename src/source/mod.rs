//! Frames in: cameras, RTSP streams, files, folders of pictures and hand-written pipelines.
//!
//! A [`Source`] runs a thread of its own that pulls decoded frames out of GStreamer, watches over
//! them, and connects again where a live source is lost. Frames and events come over two bounded
//! channels; nothing queues up in between.

mod backoff;
mod camera;
mod connection;
mod custom;
mod decoded;
mod elements;
mod failure;
mod file;
mod health;
mod images;
mod mask;
mod outlet;
mod rtsp;
mod supervisor;
mod timeline;
mod unseen;

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
pub use file::is_picture;
pub use health::health;
pub use mask::mask;
use outlet::{Outlet, Stop};

/// Frames that wait for a busy reader of a file; live sources never let more than one wait.
const WAITING_FRAMES: usize = 3;
/// Events that wait. Each is followed by a frame, and readers fetch events with every frame.
const WAITING_EVENTS: usize = 64;
/// How long dropping a [`Source`] waits for its thread before leaving it behind.
const PATIENCE_AT_DROP: Duration = Duration::from_secs(5);

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A camera: its number, or the path of its device.
    Camera(String),
    /// The URL of an RTSP stream; may carry user and password.
    Rtsp(String),
    /// A video or a picture, anything that GStreamer reads.
    File(PathBuf),
    /// A folder; every picture in it, in the order of their names.
    Images(PathBuf),
    /// These pictures in this order, each with the name that its records carry.
    Pictures {
        /// What to call all of them together.
        label: String,
        /// Where they are, and their names.
        files: Vec<(PathBuf, Arc<str>)>,
    },
    /// A pipeline as one would give it to `gst-launch-1.0`, without a sink or with an `appsink`.
    Pipeline(String),
}

impl Input {
    /// What to call this source in records and messages; passwords are masked.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Camera(name) => camera::device(name).display().to_string(),
            Self::Rtsp(url) => mask::mask_url(url),
            Self::File(path) | Self::Images(path) => path.display().to_string(),
            Self::Pictures { label, .. } => label.clone(),
            Self::Pipeline(description) => mask(description),
        }
    }

    /// Whether frames come at their own pace, so that the newest wins. A pipeline tells only once it
    /// runs: see [`Source::is_live`].
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Camera(_) | Self::Rtsp(_))
    }
}

/// How RTSP carries its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP; where the camera does not offer it, UDP.
    #[default]
    Auto,
    /// Inside the RTSP connection: loses nothing, passes firewalls.
    Tcp,
    /// Packets of their own: a little faster, and what is lost is lost.
    Udp,
}

/// What to open, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where frames come from.
    pub input: Input,
    /// Play files at their own speed; the newest frame wins, as with a camera.
    pub realtime: bool,
    /// How RTSP carries its packets.
    pub rtsp_transport: Transport,
    /// How long RTSP packets may wait for those that came before them, in milliseconds.
    pub rtsp_latency_ms: u32,
    /// Connect again when a live source that once worked is lost.
    pub reconnect: bool,
    /// A live source without a frame for so long counts as lost. Files are given four times as much.
    pub silence: Duration,
}

impl Options {
    /// The defaults for `input`.
    #[must_use]
    pub fn new(input: Input) -> Self {
        Self {
            input,
            realtime: false,
            rtsp_transport: Transport::Auto,
            rtsp_latency_ms: 100,
            reconnect: true,
            silence: Duration::from_secs(5),
        }
    }
}

/// What happens to a source, apart from frames.
#[derive(Debug)]
pub enum Event {
    /// Connected, or the stream changed its size or speed; comes before the first such frame.
    Connected(StreamInfo),
    /// The stream was away and is back. `from` is the time of the last frame, `to` that of the next,
    /// `connection` the number of the new connection.
    Gap {
        /// When the last frame came.
        from: SystemTime,
        /// When frames came again.
        to: SystemTime,
        /// Why it was away, in words.
        reason: String,
        /// The connection that ended the gap.
        connection: u32,
    },
    /// Nothing more comes. Always the last event.
    Ended(End),
}

/// How a source came to its end.
#[derive(Debug)]
pub struct End {
    /// In words: `end of stream`, `stopped`, or what went wrong.
    pub reason: String,
    /// Set where it is a failure; frames that came before it are good.
    pub error: Option<Error>,
}

/// How much there is to come, where that is known; for progress bars.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Length {
    /// Seconds of video.
    pub seconds: Option<f64>,
    /// Frames (of a video: seconds times frame rate) or pictures.
    pub frames: Option<u64>,
}

/// What is learnt about the stream once it runs; 0 stands for "not known".
#[derive(Debug, Default)]
struct Facts {
    live: AtomicBool,
    milliseconds: AtomicU64,
    frames: AtomicU64,
}

/// An open source. Dropping it ends it.
pub struct Source {
    /// Frames in order. Disconnects at the end, after [`Event::Ended`] was sent.
    pub frames: Receiver<Frame>,
    /// Events, each with the number of the first frame that comes after it; fetch all that wait after
    /// each frame was fetched, and after the frames have ended.
    pub events: Receiver<(u64, Event)>,
    facts: Arc<Facts>,
    /// Dropping the sender is the signal to stop.
    stop: Mutex<Option<Sender<Infallible>>>,
    /// Disconnects when the thread is done.
    done: Receiver<Infallible>,
}

impl Source {
    /// Opens a source, which counts in `counters`. What can be checked at once (a file, a device, a URL, a pipeline's grammar) is
    /// checked here; what takes time (connecting, finding a decoder) goes on in the background, and
    /// fails with [`Event::Ended`].
    ///
    /// # Errors
    /// [`Error::Source`] where the source cannot be opened, [`Error::Usage`] for a pipeline
    /// description that GStreamer does not understand.
    pub fn open(options: Options, counters: Arc<Counters>) -> Result<Self> {
        gstreamer::init().map_err(|e| {
            Error::Source(format!(
                "GStreamer cannot start ({e}); install it with: apt-get install \
                 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-libav"
            ))
        })?;
        let plan = supervisor::Plan::new(options)?;
        let (frames_in, frames) = bounded(WAITING_FRAMES);
        let (events_in, events) = bounded(WAITING_EVENTS);
        let (stop, stopped) = bounded(0);
        let (running, done) = bounded(0);
        let facts = Arc::new(Facts::default());
        plan.expect(&facts);
        let mut outlet = Outlet {
            frames: frames_in,
            waiting: frames.clone(),
            events: events_in,
            stop: Stop(stopped),
            counters,
            facts: facts.clone(),
            number: 0,
        };
        let thread = move || {
            let running: Sender<Infallible> = running;
            let end = catch_unwind(AssertUnwindSafe(|| plan.run(&mut outlet)));
            outlet.end(end.unwrap_or_else(|_| End {
                reason: "internal error".into(),
                error: Some(Error::Bug("the source's thread panicked".into())),
            }));
            drop(running);
        };
        std::thread::Builder::new()
            .name("source".into())
            .spawn(thread)
            .map_err(|e| Error::Source(format!("no thread can be started for the source: {e}")))?;
        let stop = Mutex::new(Some(stop));
        Ok(Self { frames, events, facts, stop, done })
    }

    /// Asks the source to end; frames that wait already can still be fetched.
    pub fn stop(&self) {
        // The lock guards a plain assignment, so even a poisoned one is good.
        self.stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }

    /// Whether the newest frame wins. Of pipelines this is known from the first frame on.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.facts.live.load(Ordering::Relaxed)
    }

    /// How much there is to come, as far as it is known by now.
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
        if self.done.recv_timeout(PATIENCE_AT_DROP) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the source does not let go of its device; leaving it behind");
        }
    }
}

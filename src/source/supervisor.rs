//! Supervises a source: connects, distinguishes end, error and silence, and reconnects.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use gstreamer as gst;

use super::backoff::Backoff;
use super::connection::{Connection, Next};
use super::decoded::Decoded;
use super::emitter::{Emitter, Metadata};
use super::ending::{self, Ending};
use super::failure::{Failure, Kind};
use super::mask::mask;
use super::still::MaxPixels;
use super::timeline::Timeline;
use super::{End, Event, Facts, Input, Options, Transport};
use super::{camera, custom, elements, file, http, images, rtsp};
use crate::frame::StreamInfo;
use crate::{Error, Result};

/// Longest wait for a frame before other conditions are checked.
const TICK: Duration = Duration::from_millis(50);
/// How long connecting to a live source that has never worked is retried.
const FIRST_TRIES: Duration = Duration::from_secs(10);
/// Silence after which a GIF counts as finished, because GStreamer often does not signal its end.
const GIF_SILENCE: Duration = Duration::from_secs(2);
/// The first frame of a connection may take this many times longer than later ones, because some
/// cameras send a key frame only every ten seconds.
const FIRST_FRAME_FACTOR: u32 = 3;
/// A file's decoder may take this many times longer for a frame than a camera.
const FILE_SLOWNESS: u32 = 4;
/// An input that has been checked.
enum Checked {
    Camera(PathBuf),
    Rtsp(rtsp::Address),
    Http(http::Address),
    File(PathBuf),
    Images(Vec<(PathBuf, Arc<str>)>),
    Pipeline(String),
}

/// The source's options after all checks that do not need waiting.
pub(super) struct Plan {
    input: Checked,
    options: Options,
}

/// How a connection ended.
enum Outcome {
    Stopped,
    Finished,
    Lost(Failure),
}

/// State that is kept from one connection to the next.
#[derive(Default)]
struct History {
    /// Number of connections that produced a frame.
    connections: u32,
    /// Time of the last frame.
    last_frame: Option<SystemTime>,
    /// Why the last connection that produced a frame ended.
    lost: String,
    /// Whether the last connection used UDP.
    udp: bool,
}

impl Plan {
    /// Checks the options.
    ///
    /// # Errors
    /// See [`Source::open`](super::Source::open).
    pub(super) fn new(options: Options) -> Result<Self> {
        let input = match &options.input {
            Input::Camera(name) => {
                let device = camera::device(name);
                camera::check(&device)?;
                Checked::Camera(device)
            }
            Input::Rtsp(url) => Checked::Rtsp(rtsp::Address::parse(url)?),
            Input::Http(url) => Checked::Http(http::Address::parse(url)?),
            Input::File(path) => {
                file::check(path)?;
                match file::picture_name(path) {
                    Some(name) => Checked::Images(vec![(path.clone(), name)]),
                    None => Checked::File(path.clone()),
                }
            }
            Input::Images(folder) => Checked::Images(images::list(folder)?),
            Input::Pictures { files, .. } => Checked::Images(files.clone()),
            Input::Pipeline(description) => {
                custom::build(description)?;
                Checked::Pipeline(description.clone())
            }
        };
        Ok(Self { input, options })
    }

    /// Stores what is known before the source runs.
    pub(super) fn expect(&self, facts: &Facts) {
        facts.live.store(self.options.input.is_live() || self.paced(), Ordering::Relaxed);
        if let Checked::Images(paths) = &self.input {
            facts.frames.store(paths.len() as u64, Ordering::Relaxed);
        }
    }

    /// Runs the source until it ends.
    pub(super) fn run(self, emitter: &mut Emitter) -> End {
        if let Checked::Images(paths) = &self.input {
            return images::run(paths, self.limit(), emitter);
        }
        let started = Instant::now();
        let mut history = History::default();
        let mut backoff = Backoff::default();
        for attempt in 0.. {
            let before = history.connections;
            emitter.counters.status.source.works();
            let failure = match self.connect(attempt, emitter, &mut history) {
                Ok(Outcome::Lost(failure)) => failure,
                Ok(Outcome::Finished) => {
                    return End { reason: "end of stream".into(), error: None };
                }
                Ok(Outcome::Stopped) => break,
                Err(error) => return End { reason: error.to_string(), error: Some(error) },
            };
            let text = self.explain(&failure, emitter.number);
            if history.connections > before {
                // Failures of later attempts are not the reason of the interruption.
                history.lost = failure.text.clone();
                backoff.reset();
            }
            let wait = backoff.next();
            // At least two attempts, so that both transports are tried.
            let in_time = attempt == 0 || started.elapsed() + wait < FIRST_TRIES;
            if !self.worth_another_try(&failure, &history, in_time, emitter) {
                return End { error: Some(Error::Source(text.clone())), reason: text };
            }
            emitter.counters.status.down(&mask(&text));
            emitter.counters.status.source.waits();
            tracing::warn!("{text}; trying again in {:.0} s", wait.as_secs_f64());
            if !emitter.stop.sleep(wait) {
                break;
            }
        }
        End { reason: "stopped".into(), error: None }
    }

    /// Connects and plays until the connection ends.
    fn connect(
        &self,
        attempt: u32,
        emitter: &mut Emitter,
        history: &mut History,
    ) -> Result<Outcome> {
        // Until one transport has worked, attempts alternate between the two.
        let udp = match self.options.rtsp_transport {
            Transport::Tcp => false,
            Transport::Udp => true,
            Transport::Auto if history.connections == 0 => attempt % 2 == 1,
            Transport::Auto => history.udp,
        };
        let pipeline = self.pipeline(udp)?;
        elements::limit_pixels(&pipeline, self.limit());
        elements::check_jpeg(&pipeline, self.limit());
        Ok(match Connection::start(pipeline, self.paced(), emitter.counters.clone()) {
            Ok(mut connection) => {
                let outcome = self.play(&mut connection, emitter, history);
                history.udp = udp;
                outcome
            }
            Err(failure) => Outcome::Lost(failure),
        })
    }

    fn pipeline(&self, udp: bool) -> Result<gst::Pipeline> {
        match &self.input {
            Checked::Camera(device) => camera::reader(device),
            Checked::Rtsp(address) => rtsp::receiver(address, udp, self.options.rtsp_latency_ms),
            Checked::Http(address) => http::receiver(address),
            Checked::File(path) => file::decoder(path),
            Checked::Pipeline(description) => custom::build(description),
            Checked::Images(_) => Err(Error::Bug("pictures have no common pipeline".into())),
        }
    }

    fn limit(&self) -> MaxPixels {
        MaxPixels(self.options.max_pixels)
    }

    fn explain(&self, failure: &Failure, frames: u64) -> String {
        if failure.kind == Kind::TooLarge {
            return format!("{} {}", self.options.input.label(), failure.text);
        }
        match &self.input {
            Checked::Camera(device) => camera::explain(device, failure),
            Checked::Rtsp(address) => rtsp::explain(address, failure),
            Checked::Http(address) => http::explain(address, failure),
            Checked::File(path) => file::explain(path, failure, frames),
            Checked::Pipeline(_) | Checked::Images(_) => custom::explain(failure),
        }
    }

    /// Whether a source that has no pace of its own is played in real time.
    fn paced(&self) -> bool {
        let has_no_pace = matches!(self.options.input, Input::File(_) | Input::Pipeline(_));
        self.options.realtime && has_no_pace
    }

    /// Whether to connect again after `failure`. `in_time`: whether a source that has never worked
    /// may still be retried.
    fn worth_another_try(
        &self,
        failure: &Failure,
        history: &History,
        in_time: bool,
        emitter: &Emitter,
    ) -> bool {
        match &self.input {
            Checked::File(_) | Checked::Images(_) => false,
            _ if failure.kind == Kind::TooLarge => false,
            _ if history.connections > 0 => self.options.reconnect && self.has_pace(emitter),
            Checked::Camera(_) | Checked::Pipeline(_) => false,
            Checked::Rtsp(_) | Checked::Http(_) => {
                use Kind::{NoDecoder, NoVideo, NotFound, Refused, UnknownFormat};
                let is_final = matches!(
                    failure.kind,
                    Refused | NotFound | NoDecoder | NoVideo | UnknownFormat
                );
                !is_final && in_time
            }
        }
    }

    /// Passes on frames until the connection ends, fails or falls silent.
    fn play(
        &self,
        connection: &mut Connection,
        emitter: &mut Emitter,
        history: &mut History,
    ) -> Outcome {
        let mut timeline = Timeline::default();
        let mut shape = None;
        let mut reached = 0.0;
        let mut heard = Instant::now();
        let mut patience = self.options.silence * FIRST_FRAME_FACTOR.max(self.slowness(emitter));
        let endless = matches!(&self.options.input, Input::File(path) if file::is_gif(path));
        while !emitter.stop.is_set() {
            emitter.counters.status.source.works();
            match connection.next(TICK) {
                Next::Frame(decoded) => {
                    if let Err(reason) =
                        self.limit().check(decoded.width.into(), decoded.height.into())
                    {
                        return Outcome::Lost(Failure::new(Kind::TooLarge, &reason));
                    }
                    if shape.is_none() {
                        self.arrived(connection, emitter, history, decoded.fps);
                    }
                    let now = (decoded.width, decoded.height, decoded.fps);
                    if shape.replace(now) != Some(now) {
                        announce(connection, emitter, history.connections, &decoded);
                    }
                    patience = if endless {
                        GIF_SILENCE
                    } else {
                        self.options.silence * self.slowness(emitter)
                    };
                    patience += decoded.duration;
                    reached = f64::max(reached, decoded.end);
                    let pts = timeline.next(decoded.pts, decoded.fps);
                    let metadata = Metadata { pts, connection: history.connections, still: None };
                    emitter.frame(decoded, metadata);
                    history.last_frame = Some(SystemTime::now());
                    heard = Instant::now();
                }
                Next::Nothing if heard.elapsed() > patience => {
                    return match endless && shape.is_some() {
                        true => Outcome::Finished,
                        false => Outcome::Lost(Failure::silent(patience)),
                    };
                }
                Next::Nothing => {}
                Next::End if shape.is_none() => {
                    return Outcome::Lost(Failure::new(Kind::NoVideo, "no frame came"));
                }
                Next::End => return self.ended(connection, reached),
                Next::Failed(failure) => return Outcome::Lost(failure),
            }
        }
        Outcome::Stopped
    }

    /// Whether frames come at a pace that this program does not control.
    fn has_pace(&self, emitter: &Emitter) -> bool {
        emitter.facts.live.load(Ordering::Relaxed) && !self.paced()
    }

    /// Factor by which this source may be slower than a camera.
    fn slowness(&self, emitter: &Emitter) -> u32 {
        if self.has_pace(emitter) { 1 } else { FILE_SLOWNESS }
    }

    /// Registers a connection that has produced its first frame, and reports the gap before it.
    fn arrived(&self, connection: &Connection, emitter: &Emitter, history: &mut History, fps: f64) {
        history.connections += 1;
        // What is on a server like a file is played like a file.
        let endless = matches!(self.input, Checked::Http(_)) && connection.duration().is_none();
        let live = self.paced() || self.options.input.is_live() || connection.is_live() || endless;
        emitter.facts.live.store(live, Ordering::Relaxed);
        if let Some(seconds) = connection.duration() {
            emitter.facts.milliseconds.store((seconds * 1e3) as u64, Ordering::Relaxed);
            emitter.facts.frames.store((seconds * fps).round() as u64, Ordering::Relaxed);
        }
        if let Some(from) = history.last_frame {
            emitter.counters.reconnects.add();
            let reason = std::mem::take(&mut history.lost);
            let (to, connection) = (SystemTime::now(), history.connections);
            emitter.event(Event::Gap { from, to, reason, connection });
        }
    }

    /// Interprets the end of a stream after `reached` seconds: a camera has no end, so it is lost;
    /// a recording is finished.
    fn ended(&self, connection: &Connection, reached: f64) -> Outcome {
        let duration = connection.duration();
        let lost = |kind, text: &str| Outcome::Lost(Failure::new(kind, text));
        match (&self.input, duration) {
            (Checked::Camera(_), _) | (Checked::Rtsp(_) | Checked::Http(_), None) => {
                lost(Kind::Ended, "the stream ended")
            }
            (Checked::File(path), _) => match ending::judge(path, connection.played(reached)) {
                Ending::Complete => Outcome::Finished,
                Ending::Short(text) => {
                    tracing::warn!("{}: {text}; is it complete?", path.display());
                    Outcome::Finished
                }
                Ending::Broken(text) => lost(Kind::Other, &text),
            },
            _ => Outcome::Finished,
        }
    }
}

/// Reports size, rate and codec of the stream.
fn announce(connection: &Connection, emitter: &Emitter, number: u32, decoded: &Decoded) {
    emitter.counters.status.rate(decoded.fps);
    emitter.event(Event::Connected(StreamInfo {
        width: decoded.width,
        height: decoded.height,
        fps: decoded.fps,
        codec: connection.codec(),
        connection: number,
    }));
}

//! Supervises a source: connects, distinguishes end, error and silence, and reconnects.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use gstreamer as gst;

use super::attempts::Attempts;
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
/// Silence after which a GIF counts as finished, because GStreamer often does not signal its end.
const GIF_SILENCE: Duration = Duration::from_secs(2);
/// The first frame of a connection may take this many times longer than later ones, because some
/// cameras send a key frame only every ten seconds.
const FIRST_FRAME_FACTOR: u32 = 3;
/// A stream whose frames come, but cannot be decoded because packets are missing, may go on like
/// that this many times longer than one that sends nothing.
const UNDECODED_FACTOR: u32 = 10;
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
    /// Time of the last frame, on both clocks.
    last_frame: Option<(SystemTime, Instant)>,
    /// Why the last connection that produced a frame ended.
    lost: String,
    /// The times of all frames.
    timeline: Timeline,
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
        let mut history = History::default();
        let mut attempts = match &self.input {
            Checked::Rtsp(_) => Attempts::new(self.options.rtsp_transport, self.options.wait),
            _ => Attempts::new(Transport::Tcp, self.options.wait),
        };
        loop {
            let before = history.connections;
            emitter.counters.status.source.works();
            let failure = match self.connect(attempts.transport(), emitter, &mut history) {
                Ok(Outcome::Lost(failure)) => failure,
                Ok(Outcome::Finished) => {
                    return End { reason: "end of stream".into(), error: None };
                }
                Ok(Outcome::Stopped) => break,
                Err(error) => return End { reason: error.to_string(), error: Some(error) },
            };
            let text = self.explain(&failure, &history, emitter.number);
            if history.connections > before {
                // Failures of later attempts are not the reason of the interruption.
                history.lost = failure.text.clone();
                attempts.worked();
            }
            let again = self.is_retried(&failure, &history, emitter);
            let Some(wait) = again.then(|| attempts.failed(failure.kind)).flatten() else {
                return End { error: Some(Error::Source(text.clone())), reason: text };
            };
            if wait.is_zero() {
                tracing::info!(
                    "{} does not send over this transport; trying the other one",
                    self.options.input.label()
                );
                continue;
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
        transport: Transport,
        emitter: &mut Emitter,
        history: &mut History,
    ) -> Result<Outcome> {
        let pipeline = self.pipeline(transport)?;
        elements::limit_pixels(&pipeline, self.limit());
        elements::check_jpeg(&pipeline, self.limit());
        let outcome = match Connection::start(
            pipeline,
            self.paced(),
            emitter.counters.clone(),
            emitter.facts.clone(),
        ) {
            Ok(mut connection) => {
                let outcome = self.play(&mut connection, emitter, history);
                if !matches!(outcome, Outcome::Stopped) {
                    connection.settle();
                }
                outcome
            }
            Err(failure) => Outcome::Lost(failure),
        };
        Ok(match (outcome, &self.input) {
            (Outcome::Lost(failure), Checked::Rtsp(address)) => {
                Outcome::Lost(rtsp::specify(address, failure))
            }
            (outcome, _) => outcome,
        })
    }

    fn pipeline(&self, transport: Transport) -> Result<gst::Pipeline> {
        match &self.input {
            Checked::Camera(device) => camera::reader(device),
            Checked::Rtsp(address) => {
                rtsp::receiver(address, transport, self.options.rtsp_latency_ms)
            }
            Checked::Http(address) => http::receiver(address),
            Checked::File(path) => file::decoder(path),
            Checked::Pipeline(description) => custom::build(description),
            Checked::Images(_) => Err(Error::Bug("pictures have no common pipeline".into())),
        }
    }

    fn limit(&self) -> MaxPixels {
        MaxPixels(self.options.max_pixels)
    }

    fn explain(&self, failure: &Failure, history: &History, frames: u64) -> String {
        let worked = history.connections > 0;
        if failure.kind == Kind::TooLarge {
            return format!("{} {}", self.options.input.label(), failure.text);
        }
        match &self.input {
            Checked::Camera(device) => camera::explain(device, failure),
            Checked::Rtsp(address) => {
                rtsp::explain(address, failure, self.options.rtsp_transport, worked)
            }
            Checked::Http(address) => http::explain(address, failure, worked),
            Checked::File(path) => file::explain(path, failure, frames),
            Checked::Pipeline(_) | Checked::Images(_) => custom::explain(failure),
        }
    }

    /// Whether a source that has no pace of its own is played in real time.
    fn paced(&self) -> bool {
        let has_no_pace = matches!(self.options.input, Input::File(_) | Input::Pipeline(_));
        self.options.realtime && has_no_pace
    }

    /// Whether this source is tried again after `failure`.
    fn is_retried(&self, failure: &Failure, history: &History, emitter: &Emitter) -> bool {
        match &self.input {
            Checked::File(_) | Checked::Images(_) => false,
            _ if failure.kind == Kind::TooLarge => false,
            _ if history.connections > 0 => self.options.reconnect && self.has_pace(emitter),
            Checked::Camera(_) | Checked::Pipeline(_) => false,
            Checked::Rtsp(_) | Checked::Http(_) => true,
        }
    }

    /// Passes on frames until the connection ends, fails or falls silent.
    fn play(
        &self,
        connection: &mut Connection,
        emitter: &mut Emitter,
        history: &mut History,
    ) -> Outcome {
        let mut shape = None;
        let mut reached = 0.0;
        let (mut heard, mut shown) = (Instant::now(), Instant::now());
        let (mut withheld, mut resting) = (0, 0);
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
                    let pts = history.timeline.next(decoded.pts, decoded.fps);
                    let metadata = Metadata { pts, connection: history.connections, still: None };
                    emitter.number += connection.skipped();
                    emitter.frame(decoded, metadata);
                    (heard, shown) = (Instant::now(), Instant::now());
                    history.last_frame = Some((SystemTime::now(), heard));
                }
                // It is not silent, only hard to understand.
                Next::Nothing
                    if connection.withheld() > withheld
                        && shown.elapsed() < patience * UNDECODED_FACTOR =>
                {
                    (heard, withheld) = (Instant::now(), connection.withheld());
                }
                Next::Nothing if connection.resting() > resting => {
                    (heard, resting) = (Instant::now(), connection.resting());
                }
                Next::Nothing if heard.elapsed() > patience => {
                    return match endless && shape.is_some() {
                        true => Outcome::Finished,
                        false => Outcome::Lost(Failure::silent(patience)),
                    };
                }
                Next::Nothing => {}
                Next::End if shape.is_none() && self.options.input.is_live() => {
                    let text = "the stream ended before its first frame";
                    return Outcome::Lost(Failure::new(Kind::Ended, text));
                }
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
        if let Some((from, since)) = history.last_frame {
            history.timeline.go_on_after(since.elapsed());
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

//! Watches over a source: connects, tells end, error and silence apart, connects again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use gstreamer as gst;

use super::backoff::Backoff;
use super::connection::{Connection, Next};
use super::decoded::Decoded;
use super::failure::{Failure, Kind};
use super::outlet::{Label, Outlet};
use super::timeline::Timeline;
use super::{End, Event, Facts, Input, Options, Transport};
use super::{camera, custom, file, images, rtsp};
use crate::frame::{Still, StreamInfo};
use crate::{Error, Result};

/// How often a wait for frames looks at everything else.
const TICK: Duration = Duration::from_millis(50);
/// A live source that never worked is tried again for so long.
const FIRST_TRIES: Duration = Duration::from_secs(10);
/// How long nothing comes after the last frame of a file whose end GStreamer does not tell.
const ENDLESS: Duration = Duration::from_secs(2);
/// The first frame of a connection may take so many times longer than later ones: some cameras send
/// a key frame only every ten seconds.
const FIRST_FRAME: u32 = 3;
/// So much longer than a camera may a decoder of a file take for a frame.
const DECODING: u32 = 4;
/// Seconds by which a video may be shorter than its file, as where the sound is longer.
const TAIL_OF_SOUND: f64 = 1.0;
/// A file whose video ends before this part of it was cut off, or is damaged.
const CUT_OFF: f64 = 0.75;

/// A checked input.
enum Checked {
    Camera(PathBuf),
    Rtsp(rtsp::Address),
    File(PathBuf),
    Images(Vec<(PathBuf, Arc<str>)>),
    Pipeline(String),
}

/// What to do, checked as far as that goes without waiting.
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

/// What is remembered from one connection to the next.
#[derive(Default)]
struct History {
    /// Connections that gave a frame.
    connections: u32,
    /// When the last frame came.
    last_frame: Option<SystemTime>,
    /// Why the last connection that gave a frame ended.
    lost: String,
    /// Whether the last connection ran over UDP.
    udp: bool,
}

impl Plan {
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
            Input::File(path) => {
                file::check(path)?;
                Checked::File(path.clone())
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

    /// Notes what is known before anything runs.
    pub(super) fn expect(&self, facts: &Facts) {
        facts.live.store(self.options.input.is_live() || self.paced(), Ordering::Relaxed);
        if let Checked::Images(paths) = &self.input {
            facts.frames.store(paths.len() as u64, Ordering::Relaxed);
        }
    }

    /// Runs the source to its end.
    pub(super) fn run(self, outlet: &mut Outlet) -> End {
        if let Checked::Images(paths) = &self.input {
            return images::run(paths, self.options.silence * DECODING, outlet);
        }
        let started = Instant::now();
        let mut history = History::default();
        let mut backoff = Backoff::default();
        for attempt in 0.. {
            let before = history.connections;
            let failure = match self.connect(attempt, outlet, &mut history) {
                Ok(Outcome::Lost(failure)) => failure,
                Ok(Outcome::Finished) => {
                    return End { reason: "end of stream".into(), error: None };
                }
                Ok(Outcome::Stopped) => break,
                Err(error) => return End { reason: error.to_string(), error: Some(error) },
            };
            let text = self.explain(&failure, outlet.number);
            if history.connections > before {
                // What failed tries say later is not why the stream went away.
                history.lost = failure.text.clone();
                backoff.reset();
            }
            let wait = backoff.next();
            // Twice at least, so that both ways of transport are tried.
            let in_time = attempt == 0 || started.elapsed() + wait < FIRST_TRIES;
            if !self.worth_another_try(&failure, &history, in_time, outlet) {
                return End { error: Some(Error::Source(text.clone())), reason: text };
            }
            tracing::warn!("{text}; trying again in {:.0} s", wait.as_secs_f64());
            if !outlet.stop.sleep(wait) {
                break;
            }
        }
        End { reason: "stopped".into(), error: None }
    }

    /// Connects and plays until the connection ends.
    fn connect(&self, attempt: u32, outlet: &mut Outlet, history: &mut History) -> Result<Outcome> {
        // Until one of the two has worked, they take turns.
        let udp = match self.options.rtsp_transport {
            Transport::Tcp => false,
            Transport::Udp => true,
            Transport::Auto if history.connections == 0 => attempt % 2 == 1,
            Transport::Auto => history.udp,
        };
        let pipeline = self.pipeline(udp)?;
        Ok(match Connection::start(pipeline, self.paced(), outlet.counters.clone()) {
            Ok(mut connection) => {
                let outcome = self.play(&mut connection, outlet, history);
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
            Checked::File(path) => file::decoder(path),
            Checked::Pipeline(description) => custom::build(description),
            Checked::Images(_) => Err(Error::Bug("pictures have no common pipeline".into())),
        }
    }

    fn explain(&self, failure: &Failure, frames: u64) -> String {
        match &self.input {
            Checked::Camera(device) => camera::explain(device, failure),
            Checked::Rtsp(address) => rtsp::explain(address, failure),
            Checked::File(path) => file::explain(path, failure, frames),
            Checked::Pipeline(_) | Checked::Images(_) => custom::explain(failure),
        }
    }

    /// Whether frames are handed out at the stream's own speed although it could go faster.
    fn paced(&self) -> bool {
        let has_no_pace = matches!(self.options.input, Input::File(_) | Input::Pipeline(_));
        self.options.realtime && has_no_pace
    }

    /// `in_time` tells whether a source that never worked may still be tried.
    fn worth_another_try(
        &self,
        failure: &Failure,
        history: &History,
        in_time: bool,
        outlet: &Outlet,
    ) -> bool {
        match &self.input {
            Checked::File(_) | Checked::Images(_) => false,
            _ if history.connections > 0 => self.options.reconnect && self.has_pace(outlet),
            Checked::Camera(_) | Checked::Pipeline(_) => false,
            Checked::Rtsp(_) => {
                use Kind::{NoDecoder, NoVideo, NotFound, Refused};
                let is_final = matches!(failure.kind, Refused | NotFound | NoDecoder | NoVideo);
                !is_final && in_time
            }
        }
    }

    /// Hands on what a connection gives until it ends, fails or falls silent.
    fn play(
        &self,
        connection: &mut Connection,
        outlet: &mut Outlet,
        history: &mut History,
    ) -> Outcome {
        let still = match &self.input {
            Checked::File(path) => file::picture_name(path).map(|name| Still { index: 0, name }),
            _ => None,
        };
        let mut timeline = Timeline::default();
        let mut shape = None;
        let mut reached = 0.0;
        let mut heard = Instant::now();
        let mut patience = self.options.silence * FIRST_FRAME.max(self.slowness(outlet));
        let endless = matches!(&self.options.input, Input::File(path) if file::is_gif(path));
        while !outlet.stop.is_set() {
            match connection.next(TICK) {
                Next::Frame(decoded) => {
                    if shape.is_none() {
                        self.arrived(connection, outlet, history, decoded.fps);
                    }
                    let now = (decoded.width, decoded.height, decoded.fps);
                    if shape.replace(now) != Some(now) {
                        announce(connection, outlet, history.connections, &decoded);
                    }
                    patience = if endless {
                        ENDLESS
                    } else {
                        self.options.silence * self.slowness(outlet)
                    };
                    patience += decoded.duration;
                    reached = decoded.pts.unwrap_or(reached) + decoded.duration.as_secs_f64();
                    let pts = timeline.next(decoded.pts, decoded.fps);
                    let label =
                        Label { pts, connection: history.connections, still: still.clone() };
                    outlet.frame(decoded, label);
                    if still.is_some() {
                        // Some cameras put a preview behind the picture.
                        return Outcome::Finished;
                    }
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

    /// Whether frames come at a pace that is not ours to choose.
    fn has_pace(&self, outlet: &Outlet) -> bool {
        outlet.facts.live.load(Ordering::Relaxed) && !self.paced()
    }

    /// How many times longer than a camera this source may take for a frame.
    fn slowness(&self, outlet: &Outlet) -> u32 {
        if self.has_pace(outlet) { 1 } else { DECODING }
    }

    /// Takes note of a connection that gives its first frame, and tells of the gap before it.
    fn arrived(&self, connection: &Connection, outlet: &Outlet, history: &mut History, fps: f64) {
        history.connections += 1;
        let live = self.paced() || self.options.input.is_live() || connection.is_live();
        outlet.facts.live.store(live, Ordering::Relaxed);
        if let Some(seconds) = connection.duration() {
            outlet.facts.milliseconds.store((seconds * 1e3) as u64, Ordering::Relaxed);
            outlet.facts.frames.store((seconds * fps).round() as u64, Ordering::Relaxed);
        }
        if let Some(from) = history.last_frame {
            outlet.counters.reconnects.add();
            let reason = std::mem::take(&mut history.lost);
            let (to, connection) = (SystemTime::now(), history.connections);
            outlet.event(Event::Gap { from, to, reason, connection });
        }
    }

    /// What the end of a stream means after `reached` seconds of it: a camera has none, so it is away;
    /// a recording is over.
    fn ended(&self, connection: &Connection, reached: f64) -> Outcome {
        let duration = connection.duration();
        let lost = |kind, text: &str| Outcome::Lost(Failure::new(kind, text));
        match (&self.input, duration) {
            (Checked::Camera(_), _) | (Checked::Rtsp(_), None) => {
                lost(Kind::Ended, "the stream ended")
            }
            // Demuxers take the end of a file that was cut off for the end of the stream.
            (Checked::File(path), Some(total))
                if connection.has_container() && total - reached > TAIL_OF_SOUND =>
            {
                let text = format!("it breaks off at {reached:.1} of {total:.1} seconds");
                if reached < CUT_OFF * total {
                    return lost(Kind::Other, &text);
                }
                tracing::warn!("{}: {text}; is it complete?", path.display());
                Outcome::Finished
            }
            _ => Outcome::Finished,
        }
    }
}

/// Tells what the stream looks like from now on.
fn announce(connection: &Connection, outlet: &Outlet, number: u32, decoded: &Decoded) {
    if decoded.anamorphic {
        tracing::warn!("the stream's pixels are not square; faces are measured as they are stored");
    }
    outlet.event(Event::Connected(StreamInfo {
        width: decoded.width,
        height: decoded.height,
        fps: decoded.fps,
        codec: connection.codec(),
        connection: number,
    }));
}

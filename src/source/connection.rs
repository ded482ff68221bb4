//! One run of a GStreamer pipeline.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

use super::decoded::Decoded;
use super::decoder_monitor::DecoderMonitor;
use super::elements::{DECODER_NAME, FILE_SOURCE, turn_when_told};
use super::ending::Played;
use super::failure::{Failure, Kind};
use super::keep_alive::KeepAlive;
use super::ledger::Missing;
use super::{Facts, mask};
use crate::counters::Counters;

/// After an error, frames decoded before it are still fetched for this long.
const ERROR_GRACE: Duration = Duration::from_secs(1);
/// Longest wait for a pipeline to shut down before it is abandoned.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// A running pipeline. Dropping it shuts it down, or abandons it if it does not react.
pub(super) struct Connection {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: AppSink,
    counters: Arc<Counters>,
    monitor: DecoderMonitor,
    keep_alive: Option<KeepAlive>,
    /// Number of frames about which the decoder posted a warning.
    complaints: u64,
    /// Number of frames that did not come out of the decoder.
    left_out: u64,
    /// Frames that were left out because the decoder is too slow, since they were last asked for.
    skipped: u64,
    /// The decoder that is needed and not installed.
    missing: Option<String>,
    /// The first error.
    failure: Option<Failure>,
    /// Time of the last frame or of the first error.
    heard: Instant,
}

/// Result of [`Connection::next`].
pub(super) enum Next {
    Frame(Decoded),
    /// No frame within the time given.
    Nothing,
    End,
    Failed(Failure),
}

impl Connection {
    /// Starts a pipeline that has an `appsink`. `paced`: plays in real time.
    pub(super) fn start(
        pipeline: gst::Pipeline,
        paced: bool,
        counters: Arc<Counters>,
        facts: Arc<Facts>,
    ) -> std::result::Result<Self, Failure> {
        let broken = |text: &str| Failure::new(Kind::Other, text);
        let sink = pipeline
            .iterate_all_by_element_factory_name("appsink")
            .into_iter()
            .find_map(|sink| sink.ok()?.downcast::<AppSink>().ok())
            .ok_or_else(|| broken("the pipeline has no appsink"))?;
        // One decoded frame is queued here and blocks the decoder until it is fetched. For a live
        // source it never waits long, because the reader drops frames that are not taken.
        sink.set_max_buffers(1);
        sink.set_drop(false);
        sink.set_wait_on_eos(false);
        sink.set_property("enable-last-sample", false);
        // Without sync, live frames come without delay and files are decoded at full speed.
        sink.set_sync(paced);
        turn_when_told(&pipeline);
        let bus = pipeline.bus().ok_or_else(|| broken("the pipeline has no bus"))?;
        let heard = Instant::now();
        let mut this = Self {
            monitor: DecoderMonitor::watch(&pipeline, facts),
            keep_alive: KeepAlive::of(&pipeline),
            pipeline,
            bus,
            sink,
            counters,
            complaints: 0,
            left_out: 0,
            skipped: 0,
            missing: None,
            failure: None,
            heard,
        };
        if this.pipeline.set_state(gst::State::Playing).is_err() {
            this.read_bus();
            return Err(this.failure.take().unwrap_or_else(|| broken("it cannot be started")));
        }
        Ok(this)
    }

    /// Waits up to `wait` for the next frame.
    pub(super) fn next(&mut self, wait: Duration) -> Next {
        self.read_bus();
        if let Some(keep_alive) = self.keep_alive.as_mut().filter(|_| self.monitor.sees_packets()) {
            keep_alive.tick();
        }
        if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::try_from(wait).ok()) {
            self.heard = Instant::now();
            return self.decoded(&sample).map_or(Next::Nothing, Next::Frame);
        }
        let ended = self.sink.is_eos();
        self.read_bus();
        let waited = self.heard.elapsed() > ERROR_GRACE;
        match &self.failure {
            // Without caps no frame has reached the sink, and none will.
            Some(failure) if ended || waited || self.sink_pad_caps().is_none() => {
                Next::Failed(failure.clone())
            }
            None if ended => Next::End,
            None if waited && self.is_idle() => {
                Next::Failed(Failure::new(Kind::Other, "GStreamer gave up on it"))
            }
            _ => Next::Nothing,
        }
    }

    /// The frame in a sample; `None` if it is counted as damaged.
    fn decoded(&mut self, sample: &gst::Sample) -> Option<Decoded> {
        let buffer = sample.buffer()?;
        let time = buffer.pts();
        let is_torn = buffer.flags().contains(gst::BufferFlags::CORRUPTED);
        if is_torn && time.is_some_and(|time| self.monitor.is_open(time)) {
            // It is counted with the next frame.
            return None;
        }
        if let Some(time) = time {
            let missing = self.monitor.frame_out(time);
            self.count(0, missing);
        }
        let Some(mut decoded) = Decoded::from_sample(sample) else {
            self.counters.damaged.add();
            return None;
        };
        decoded.taken = time.and_then(|time| self.monitor.time_of_day(time));
        decoded.pts = decoded.pts.map(|pts| pts - self.monitor.start());
        Some(decoded)
    }

    /// Frames that were left out because the decoder is too slow, since this was last asked.
    pub(super) fn skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// The stream has ended: counts what will not come out any more.
    pub(super) fn settle(&mut self) {
        let missing = self.monitor.end();
        self.count(0, missing);
    }

    /// Frames that came and were not decoded, because something of or before them is missing.
    pub(super) fn withheld(&self) -> u64 {
        self.monitor.withheld()
    }

    /// Frames that came and were not decoded, because nothing happens in the stream.
    pub(super) fn resting(&self) -> u64 {
        self.monitor.resting()
    }

    /// Whether nothing runs any more in a pipeline that decodes a file, so that no frame can come.
    /// The only trace of a demuxer that fails while `decodebin` is still being built: its error
    /// message gets lost (for one in ten truncated MP4 files).
    fn is_idle(&self) -> bool {
        let runs = |pad: &gst::Pad| pad.task_state() == gst::TaskState::Started;
        let rests = |element: gst::Element| !element.pads().iter().any(runs);
        let reads_file = self.pipeline.by_name(FILE_SOURCE).is_some();
        reads_file && self.pipeline.iterate_recurse().into_iter().all(|e| e.is_ok_and(rests))
    }

    /// Processes all messages on the pipeline's bus.
    fn read_bus(&mut self) {
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Error(e) => {
                    let (error, details) = (e.error(), e.debug().unwrap_or_default());
                    tracing::debug!("GStreamer: {}; {}", mask(error.message()), mask(&details));
                    // The first error is the cause, later ones are consequences.
                    let missing = self.missing.as_deref();
                    if self.failure.is_none() {
                        self.failure = Some(Failure::from_gstreamer(&error, &details, missing));
                        self.heard = Instant::now();
                    }
                }
                gst::MessageView::Warning(w) => {
                    tracing::debug!("GStreamer warns: {}", mask(w.error().message()));
                    // Of packets it is known better what became of their frames.
                    let is_news = !self.monitor.sees_packets();
                    if is_news && w.error().matches(gst::StreamError::Decode) {
                        self.count(1, Missing::default());
                    }
                }
                gst::MessageView::Element(e) => {
                    if let Some(s) = e.structure().filter(|s| s.name() == "missing-plugin") {
                        self.missing = s.get("name").ok();
                    }
                }
                _ => {}
            }
        }
    }

    /// Counts missing frames. The decoder warns about some damaged frames, leaves out some, and does
    /// both for others, so the larger of the two numbers is used.
    fn count(&mut self, complaints: u64, missing: Missing) {
        self.counters.lost.add_all(missing.lost);
        self.counters.dropped_idle.add_all(missing.idle);
        // They count as frames that came and made way for newer ones.
        self.skipped += missing.skipped;
        self.counters.decoded.add_all(missing.skipped);
        self.counters.dropped_busy.add_all(missing.skipped);
        let before = self.complaints.max(self.left_out);
        self.complaints += complaints;
        self.left_out += missing.damaged;
        self.counters.damaged.add_all(self.complaints.max(self.left_out) - before);
    }

    /// Caps at the sink; `None` if no frame has reached it.
    fn sink_pad_caps(&self) -> Option<gst::Caps> {
        self.sink.static_pad("sink")?.current_caps()
    }

    /// Name of the codec; `raw` if there is none.
    pub(super) fn codec(&self) -> String {
        let codec = self.tag::<gst::tags::VideoCodec>().or_else(|| self.decoded_caps());
        let codec = codec.unwrap_or_else(|| "raw".into());
        // Drops the profile, as in "H.264 (High Profile)".
        codec.split(" (").next().unwrap_or_default().to_owned()
    }

    /// The codec of streams that do not name it, such as pictures, from the decoder's input caps:
    /// `image/jpeg` gives `JPEG`.
    fn decoded_caps(&self) -> Option<String> {
        self.pipeline.iterate_recurse().into_iter().map_while(|element| element.ok()).find_map(
            |element| {
                let is_decoder = element.factory()?.has_type(gst::ElementFactoryType::DECODER);
                let caps = element.static_pad("sink").filter(|_| is_decoder)?.current_caps()?;
                let name = caps.structure(0)?.name().rsplit(['/', '-']).next()?.to_uppercase();
                Some(name).filter(|_| !element.is::<gst::Bin>())
            },
        )
    }

    /// A tag of the stream. Parsers know more than containers and send their tags later, so the
    /// last one counts.
    fn tag<T: for<'a> gst::Tag<'a, TagType = &'a str>>(&self) -> Option<String> {
        let pad = self.sink.static_pad("sink")?;
        (0..)
            .map_while(|i| pad.sticky_event::<gst::event::Tag>(i))
            .filter_map(|event| event.tag().get::<T>().map(|value| value.get().to_owned()))
            .last()
    }

    /// Whether frames come at their own pace.
    pub(super) fn is_live(&self) -> bool {
        // Asks upstream of the sink, because a sink without sync never reports that it is live.
        let mut query = gst::query::Latency::new();
        let pad = self.sink.static_pad("sink");
        pad.is_some_and(|pad| pad.peer_query(&mut query)) && query.result().0
    }

    /// What is known about the stream after its last frame, which ended at `reached` seconds.
    pub(super) fn played(&self, reached: f64) -> Played {
        let is_contained = self.tag::<gst::tags::ContainerFormat>().is_some();
        let duration = self.duration().filter(|_| is_contained);
        let decoder = self.pipeline.by_name(DECODER_NAME);
        let tracks = decoder.map_or(0, |decoder| decoder.src_pads().len());
        let played = Played { reached, own_end: self.own_end(), duration, has_others: tracks > 1 };
        tracing::debug!("played {played:?}");
        played
    }

    /// The end of the video's own track, if the container's reader says: that of MP4 does.
    fn own_end(&self) -> Option<f64> {
        let event = self.sink.static_pad("sink")?.sticky_event::<gst::event::Segment>(0)?;
        let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
        tracing::debug!("{segment:?}");
        let end = segment.to_stream_time(segment.stop()?)?;
        Some(end.nseconds() as f64 / 1e9)
    }

    /// Duration of the stream in seconds, if it has one.
    pub(super) fn duration(&self) -> Option<f64> {
        let duration = self.pipeline.query_duration::<gst::ClockTime>()?;
        Some(duration.nseconds() as f64 / 1e9).filter(|&seconds| seconds > 0.0)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        let (closing, closed) = bounded::<Infallible>(0);
        let close = move || {
            let _ = pipeline.set_state(gst::State::Null);
            drop(closing);
        };
        let closer = std::thread::Builder::new().name("source-close".into()).spawn(close);
        if closer.is_ok() && closed.recv_timeout(SHUTDOWN_TIMEOUT) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("a GStreamer pipeline does not shut down; it is abandoned");
        }
    }
}

//! One run of a GStreamer pipeline, from its start to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

use super::decoded::Decoded;
use super::elements::FILE;
use super::failure::{Failure, Kind};
use super::mask;
use super::unseen::Unseen;
use crate::counters::Counters;

/// After an error, frames that were decoded before it are still waited for so long.
const GRACE: Duration = Duration::from_secs(1);
/// How long a pipeline may take to shut down before it is left behind.
const CLOSING: Duration = Duration::from_secs(3);

/// A pipeline that plays. Dropping it shuts it down, or leaves it behind if it will not.
pub(super) struct Connection {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: AppSink,
    counters: Arc<Counters>,
    unseen: Unseen,
    /// Frames that the decoder has complained of, and those that it left out.
    complaints: u64,
    left_out: u64,
    /// The decoder that was asked for and is not there.
    missing: Option<String>,
    /// The first error.
    failure: Option<Failure>,
    /// When the last frame or the first error came.
    heard: Instant,
}

/// What [`Connection::next`] found.
pub(super) enum Next {
    Frame(Decoded),
    /// Nothing within the time given.
    Nothing,
    End,
    Failed(Failure),
}

impl Connection {
    /// Starts a pipeline that has an `appsink`. `paced` plays at the stream's own speed.
    pub(super) fn start(
        pipeline: gst::Pipeline,
        paced: bool,
        counters: Arc<Counters>,
    ) -> std::result::Result<Self, Failure> {
        let broken = |text: &str| Failure::new(Kind::Other, text);
        let sink = pipeline
            .iterate_all_by_element_factory_name("appsink")
            .into_iter()
            .find_map(|sink| sink.ok()?.downcast::<AppSink>().ok())
            .ok_or_else(|| broken("the pipeline has no appsink"))?;
        // One decoded frame waits here, and holds the decoder up until it is fetched; it never waits
        // long for a live source, since its reader drops what nobody takes.
        sink.set_max_buffers(1);
        sink.set_drop(false);
        sink.set_wait_on_eos(false);
        sink.set_property("enable-last-sample", false);
        // Live frames are wanted at once, frames of a file as fast as they can be had.
        sink.set_sync(paced);
        let bus = pipeline.bus().ok_or_else(|| broken("the pipeline has no bus"))?;
        let heard = Instant::now();
        let mut this = Self {
            unseen: Unseen::watch(&pipeline),
            pipeline,
            bus,
            sink,
            counters,
            complaints: 0,
            left_out: 0,
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
        if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::try_from(wait).ok()) {
            self.heard = Instant::now();
            let time = sample.buffer().and_then(|buffer| buffer.pts());
            let left_out = time.map_or(0, |time| self.unseen.came(time));
            self.lost(0, left_out);
            return Decoded::from_sample(&sample).map_or_else(
                || {
                    self.counters.damaged.add();
                    Next::Nothing
                },
                Next::Frame,
            );
        }
        let ended = self.sink.is_eos();
        self.read_bus();
        let waited = self.heard.elapsed() > GRACE;
        match &self.failure {
            // Without caps no frame ever came as far as the sink, and none will.
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

    /// Whether nothing in a pipeline that decodes a file runs any more, so that nothing can come. A
    /// demuxer that fails while `decodebin` is still being built leaves no other trace: its error is
    /// lost (one of ten MP4 files without their end).
    fn is_idle(&self) -> bool {
        let runs = |pad: &gst::Pad| pad.task_state() == gst::TaskState::Started;
        let rests = |element: gst::Element| !element.pads().iter().any(runs);
        let reads_file = self.pipeline.by_name(FILE).is_some();
        reads_file && self.pipeline.iterate_recurse().into_iter().all(|e| e.is_ok_and(rests))
    }

    /// Takes note of everything that the pipeline has reported.
    fn read_bus(&mut self) {
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Error(e) => {
                    let (error, details) = (e.error(), e.debug().unwrap_or_default());
                    tracing::debug!("GStreamer: {}; {}", mask(error.message()), mask(&details));
                    // The first error is the cause, those after it are its consequences.
                    let missing = self.missing.as_deref();
                    if self.failure.is_none() {
                        self.failure = Some(Failure::from_gstreamer(&error, missing));
                        self.heard = Instant::now();
                    }
                }
                gst::MessageView::Warning(w) => {
                    tracing::debug!("GStreamer warns: {}", mask(w.error().message()));
                    if w.error().matches(gst::StreamError::Decode) {
                        self.lost(1, 0);
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

    /// Counts frames that the decoder complained of or left out: it does both with some of them.
    fn lost(&mut self, complaints: u64, left_out: u64) {
        let before = self.complaints.max(self.left_out);
        self.complaints += complaints;
        self.left_out += left_out;
        for _ in before..self.complaints.max(self.left_out) {
            self.counters.damaged.add();
        }
    }

    /// The format of what comes out; `None` where nothing ever did.
    fn sink_pad_caps(&self) -> Option<gst::Caps> {
        self.sink.static_pad("sink")?.current_caps()
    }

    /// Name of the encoding, `raw` where there is none.
    pub(super) fn codec(&self) -> String {
        let codec = self.tag::<gst::tags::VideoCodec>().or_else(|| self.decoded_caps());
        let codec = codec.unwrap_or_else(|| "raw".into());
        // "H.264 (High Profile)": what matters is before the bracket.
        codec.split(" (").next().unwrap_or_default().to_owned()
    }

    /// The same for streams that do not name it, such as pictures: what the decoder takes, `image/jpeg`
    /// as `JPEG`.
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

    /// Whether the stream comes in a container, whose duration can be relied on.
    pub(super) fn has_container(&self) -> bool {
        self.tag::<gst::tags::ContainerFormat>().is_some()
    }

    /// What the stream says about itself; parsers know more than containers, and speak later.
    fn tag<T: for<'a> gst::Tag<'a, TagType = &'a str>>(&self) -> Option<String> {
        let pad = self.sink.static_pad("sink")?;
        (0..)
            .map_while(|i| pad.sticky_event::<gst::event::Tag>(i))
            .filter_map(|event| event.tag().get::<T>().map(|value| value.get().to_owned()))
            .last()
    }

    /// Whether frames come at their own pace.
    pub(super) fn is_live(&self) -> bool {
        // Asked before the sink, since a sink that does not wait for the clock never says so.
        let mut query = gst::query::Latency::new();
        let pad = self.sink.static_pad("sink");
        pad.is_some_and(|pad| pad.peer_query(&mut query)) && query.result().0
    }

    /// Seconds from the stream's beginning to its end, if it has one.
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
        if closer.is_ok() && closed.recv_timeout(CLOSING) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a GStreamer pipeline does not shut down; leaving it behind");
        }
    }
}

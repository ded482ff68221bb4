//! Accounts for the frames of one pipeline: those that come to its decoder and those that come out.
//!
//! Decoders of H.264 and H.265 leave out frames that they cannot decode, often without a message, and
//! make up the pixels of frames that depend on missing ones. So the presentation timestamps of the
//! decoder's input are written down and compared with those of its output; and of streams over RTP
//! the decoder gets only frames that are whole, as are all that they depend on.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::Facts;
use super::elements::{DECODER_NAME, RTSP_SOURCE};
use super::gate::Gate;
use super::ledger::{Ledger, Missing};
use super::rtp::{FIRST, Reception, lock};

/// Compares input and output of a pipeline's decoder.
#[derive(Debug, Clone, Default)]
pub(super) struct DecoderMonitor {
    ledger: Arc<Mutex<Ledger>>,
    /// The packets, if there are any.
    reception: Option<Reception>,
    /// Keeps frames from the decoder while nothing happens.
    gate: Option<Gate>,
}

impl DecoderMonitor {
    /// Monitors one of this program's own pipelines. In a user's pipeline nothing is monitored,
    /// because frames may be dropped after the decoder on purpose.
    pub(super) fn watch(pipeline: &gst::Pipeline, facts: Arc<Facts>) -> Self {
        let mut this = Self { gate: Some(Gate::new(facts)), ..Self::default() };
        let decodebin = pipeline.by_name(DECODER_NAME).and_downcast::<gst::Bin>();
        let Some(decodebin) = decodebin else { return this };
        let source = pipeline.by_name(RTSP_SOURCE);
        this.reception = source.map(|source| Reception::watch(&source, this.ledger.clone()));
        let monitor = this.clone();
        decodebin.connect_deep_element_added(move |_, _, element| {
            let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
            let is_decoder = element.factory().is_some_and(|factory| factory.has_type(kind));
            let Some(pad) = element.static_pad("sink").filter(|_| is_decoder) else { return };
            let monitor = monitor.clone();
            pad.add_probe(
                gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
                move |pad, info| match &info.data {
                    Some(gst::PadProbeData::Buffer(buffer)) => monitor.frame_in(pad, buffer),
                    Some(gst::PadProbeData::Event(event)) => {
                        if let gst::EventView::Caps(caps) = event.view() {
                            monitor.format(caps.caps());
                        }
                        gst::PadProbeReturn::Ok
                    }
                    _ => gst::PadProbeReturn::Ok,
                },
            );
        });
        this
    }

    /// The format of the frames that come to the decoder.
    fn format(&self, caps: &gst::CapsRef) {
        let Some(format) = caps.structure(0) else { return };
        let rate = format.get::<gst::Fraction>("framerate").ok();
        let fps = rate.map_or(0.0, |rate| f64::from(rate.numer()) / f64::from(rate.denom().max(1)));
        lock(&self.ledger).format(fps, is_interlaced(format));
    }

    /// A frame comes to the decoder: whether it gets it now.
    fn frame_in(&self, pad: &gst::Pad, buffer: &gst::Buffer) -> gst::PadProbeReturn {
        let Some(gate) = &self.gate else { return self.decide(pad, buffer) };
        let Some(first) = gate.pass(buffer) else {
            if let Some(time) = buffer.pts() {
                lock(&self.ledger).rest(time.nseconds());
            }
            return gst::PadProbeReturn::Handled;
        };
        if !first.is_empty() {
            gate.replay(|| {
                // Each comes through here again. Where one fails, the next frame tells.
                for kept in first {
                    let _ = pad.chain(kept);
                }
            });
        }
        self.decide(pad, buffer)
    }

    /// Whether the decoder gets a frame that comes to it.
    fn decide(&self, pad: &gst::Pad, buffer: &gst::Buffer) -> gst::PadProbeReturn {
        let is_shown = !buffer.flags().contains(gst::BufferFlags::DECODE_ONLY);
        let Some(time) = buffer.pts().filter(|_| is_shown) else { return gst::PadProbeReturn::Ok };
        let wanted = self.reception.is_some() || gives_all(pad);
        if !wanted || lock(&self.ledger).decode(time.nseconds()) {
            gst::PadProbeReturn::Ok
        } else {
            // As Drop; with that gstreamer-rs and GStreamer 1.22 both let go of the buffer.
            gst::PadProbeReturn::Handled
        }
    }

    /// A frame came out: returns the frames missing between it and the one before.
    pub(super) fn frame_out(&self, time: gst::ClockTime) -> Missing {
        lock(&self.ledger).out(time.nseconds())
    }

    /// Whether the frame at `time` is written down and has not come out yet.
    pub(super) fn is_open(&self, time: gst::ClockTime) -> bool {
        lock(&self.ledger).knows(time.nseconds())
    }

    /// The stream has ended: returns the frames that will not come out any more.
    pub(super) fn end(&self) -> Missing {
        lock(&self.ledger).end()
    }

    /// Frames that came and were kept from the decoder because nothing happens.
    pub(super) fn resting(&self) -> u64 {
        lock(&self.ledger).resting()
    }

    /// Frames that came and were not decoded, because something of or before them is missing.
    pub(super) fn withheld(&self) -> u64 {
        lock(&self.ledger).withheld()
    }

    /// Whether every frame of the stream is accounted for by its packets.
    pub(super) fn sees_packets(&self) -> bool {
        lock(&self.ledger).has_packets()
    }

    /// The camera's time of day when it took the frame at `time`, if it tells.
    pub(super) fn time_of_day(&self, time: gst::ClockTime) -> Option<SystemTime> {
        self.reception.as_ref()?.time_of_day(time.nseconds())
    }

    /// Seconds at which the stream starts.
    pub(super) fn start(&self) -> f64 {
        if self.sees_packets() { FIRST as f64 / 1e9 } else { 0.0 }
    }
}

/// Whether the decoder makes one frame of every buffer at this pad. This is not so for fields of
/// interlaced video, nor for the hidden frames of other codecs.
fn gives_all(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps();
    caps.as_ref().and_then(|caps| caps.structure(0)).is_some_and(|format| {
        matches!(&**format.name(), "video/x-h264" | "video/x-h265") && !is_interlaced(format)
    })
}

/// Parsers set the mode if it is not progressive.
fn is_interlaced(format: &gst::StructureRef) -> bool {
    format.get::<&str>("interlace-mode").is_ok_and(|mode| mode != "progressive")
}

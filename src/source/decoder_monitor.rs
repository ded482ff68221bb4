//! Finds frames that go into a decoder and do not come out.
//!
//! Decoders of H.264 and H.265 leave out frames that they cannot decode, often without a message.
//! So the presentation timestamps (PTS) of the decoder's input are compared with those of its
//! output. Frames come out in order of their timestamps: an input timestamp before that of the last
//! output will not come out any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::elements::DECODER_NAME;

/// Nanoseconds by which parsers and decoders may change a timestamp.
const SLACK: u64 = 1_000_000;

/// More frames than any decoder holds. If there are more, timestamps do not match, and the record
/// is cleared.
const MAX_INSIDE: usize = 1000;

/// Compares input and output of a pipeline's decoder.
#[derive(Debug, Clone, Default)]
pub(super) struct DecoderMonitor(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    /// Timestamps of frames inside the decoder, nanoseconds.
    inside: BTreeSet<u64>,
    /// Timestamp of the last frame that came out.
    last: Option<u64>,
}

impl DecoderMonitor {
    /// Monitors the decoder of one of this program's own pipelines. In a user's pipeline nothing is
    /// monitored, because frames may be dropped after the decoder on purpose.
    pub(super) fn watch(pipeline: &gst::Pipeline) -> Self {
        let this = Self::default();
        let decodebin = pipeline.by_name(DECODER_NAME).and_downcast::<gst::Bin>();
        let Some(decodebin) = decodebin else { return this };
        let monitor = this.clone();
        decodebin.connect_deep_element_added(move |_, _, element| {
            let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
            let is_decoder = element.factory().is_some_and(|factory| factory.has_type(kind));
            let Some(pad) = element.static_pad("sink").filter(|_| is_decoder) else { return };
            let monitor = monitor.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let Some(buffer) = info.buffer().filter(|_| gives_all(pad)) {
                    let is_shown = !buffer.flags().contains(gst::BufferFlags::DECODE_ONLY);
                    if let Some(time) = buffer.pts().filter(|_| is_shown) {
                        monitor.times().frame_in(time.nseconds());
                    }
                }
                gst::PadProbeReturn::Ok
            });
        });
        this
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came out: returns the number of frames missing between it and the one before. Frames
    /// before the first output are not counted, because the start of a stream may depend on earlier
    /// frames.
    pub(super) fn frame_out(&self, time: gst::ClockTime) -> u64 {
        self.times().frame_out(time.nseconds())
    }
}

impl Times {
    fn frame_in(&mut self, time: u64) {
        if self.inside.len() > MAX_INSIDE {
            self.inside.clear();
        }
        self.inside.insert(time);
    }

    fn frame_out(&mut self, now: u64) -> u64 {
        let after = self.inside.split_off(&(now + 1));
        let before = std::mem::replace(&mut self.inside, after);
        match self.last.replace(now) {
            // Every frame with a timestamp between the two is lost.
            Some(last) if now > last + 2 * SLACK => {
                before.range(last + SLACK..now - SLACK).count() as u64
            }
            _ => 0,
        }
    }
}

/// Whether the decoder makes one frame of every buffer at this pad. This is not so for fields of
/// interlaced video, nor for the hidden frames of other codecs.
fn gives_all(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps();
    caps.as_ref().and_then(|caps| caps.structure(0)).is_some_and(|format| {
        // Parsers set the mode if it is not progressive.
        let mode = format.get::<&str>("interlace-mode").unwrap_or("progressive");
        matches!(&**format.name(), "video/x-h264" | "video/x-h265") && mode == "progressive"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_counted_once() {
        let mut times = Times::default();
        let put =
            |times: &mut Times, all: &[u64]| times.inside.extend(all.iter().map(|t| t * SLACK));
        // Before the first frame that comes out nothing is missed.
        put(&mut times, &[10, 20, 30, 40, 50, 60]);
        assert_eq!(times.frame_out(30 * SLACK), 0);
        assert_eq!(times.frame_out(40 * SLACK), 0);
        assert_eq!(times.frame_out(60 * SLACK), 1);
        // A parser says 70.4 and the decoder 70.9.
        times.inside.insert(70 * SLACK + 400_000);
        put(&mut times, &[80, 90, 100]);
        assert_eq!(times.frame_out(70 * SLACK + 900_000), 0);
        assert_eq!(times.frame_out(100 * SLACK), 2);
        assert!(times.inside.is_empty());
        // A stream that begins again.
        put(&mut times, &[5, 10, 15]);
        assert_eq!(times.frame_out(10 * SLACK), 0);
        put(&mut times, &[20]);
        assert_eq!((times.frame_out(20 * SLACK), times.frame_out(20 * SLACK)), (1, 0));
    }
}

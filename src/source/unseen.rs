//! Frames that go into a decoder and never come out.
//!
//! Decoders of H.264 and H.265 leave out what they cannot decode, often without a word: what went in
//! is held against what came out, by its time of presentation. Frames come out in the order of these
//! times, so what lies before the frame that came out last will not come any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::elements::DECODER;

/// Nanoseconds by which parsers and decoders move a frame.
const SLACK: u64 = 1_000_000;

/// No decoder holds so many frames: what comes out has lost its times.
const MOST: usize = 1000;

/// What a decoder owes.
#[derive(Debug, Clone, Default)]
pub(super) struct Unseen(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    /// In the decoder, nanoseconds.
    inside: BTreeSet<u64>,
    /// Of the frame that came out last.
    last: Option<u64>,
}

impl Unseen {
    /// Watches what a pipeline of ours will decode with. Of the user's own nothing is known: behind
    /// its decoder frames may be left out on purpose.
    pub(super) fn watch(pipeline: &gst::Pipeline) -> Self {
        let this = Self::default();
        let decodebin = pipeline.by_name(DECODER).and_downcast::<gst::Bin>();
        let Some(decodebin) = decodebin else { return this };
        let unseen = this.clone();
        decodebin.connect_deep_element_added(move |_, _, element| {
            let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
            let is_decoder = element.factory().is_some_and(|factory| factory.has_type(kind));
            let Some(pad) = element.static_pad("sink").filter(|_| is_decoder) else { return };
            let unseen = unseen.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let Some(buffer) = info.buffer().filter(|_| gives_all(pad)) {
                    let is_shown = !buffer.flags().contains(gst::BufferFlags::DECODE_ONLY);
                    if let Some(time) = buffer.pts().filter(|_| is_shown) {
                        unseen.times().went_in(time.nseconds());
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

    /// A frame came out: how many there should have been between it and the one before it. What a
    /// stream begins with may belong to frames before it, and is not missed.
    pub(super) fn came(&self, time: gst::ClockTime) -> u64 {
        self.times().came(time.nseconds())
    }
}

impl Times {
    fn went_in(&mut self, time: u64) {
        if self.inside.len() > MOST {
            self.inside.clear();
        }
        self.inside.insert(time);
    }

    fn came(&mut self, now: u64) -> u64 {
        let after = self.inside.split_off(&(now + 1));
        let before = std::mem::replace(&mut self.inside, after);
        match self.last.replace(now) {
            // All that was to be shown between the two and has not come is lost.
            Some(last) if now > last + 2 * SLACK => {
                before.range(last + SLACK..now - SLACK).count() as u64
            }
            _ => 0,
        }
    }
}

/// Whether a decoder makes a frame of everything that comes into this pad: not of halves of interlaced
/// frames, nor of the hidden frames of other codecs.
fn gives_all(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps();
    caps.as_ref().and_then(|caps| caps.structure(0)).is_some_and(|format| {
        // Parsers name the mode where it is another.
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
        assert_eq!(times.came(30 * SLACK), 0);
        assert_eq!(times.came(40 * SLACK), 0);
        assert_eq!(times.came(60 * SLACK), 1);
        // A parser says 70.4 and the decoder 70.9.
        times.inside.insert(70 * SLACK + 400_000);
        put(&mut times, &[80, 90, 100]);
        assert_eq!(times.came(70 * SLACK + 900_000), 0);
        assert_eq!(times.came(100 * SLACK), 2);
        assert!(times.inside.is_empty());
        // A stream that begins again.
        put(&mut times, &[5, 10, 15]);
        assert_eq!(times.came(10 * SLACK), 0);
        put(&mut times, &[20]);
        assert_eq!((times.came(20 * SLACK), times.came(20 * SLACK)), (1, 0));
    }
}

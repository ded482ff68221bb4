//! Watches the RTP packets of a stream, after GStreamer has put them in order: accounts for their
//! frames, sets times that are those of the camera, and keeps the camera's time of day.

mod clock;
mod packet;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use gstreamer as gst;
use gstreamer::prelude::*;

pub(super) use clock::FIRST;
use clock::{Clock, from_ntp, sender_report};
use packet::{Codec, Content, Header};

use super::ledger::{Ledger, Piece};

/// Time behind the jitter buffer's after which a packet comes too late, because the machine is too
/// slow for the stream.
const TOO_LATE: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// The video stream of an RTSP source.
#[derive(Debug, Clone)]
pub(super) struct Reception(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ledger: Arc<Mutex<Ledger>>,
    stream: Option<Stream>,
    /// The camera's last report of its time of day.
    report: Option<(u64, u32)>,
}

/// What is known of the stream from its first packet on.
#[derive(Debug)]
struct Stream {
    codec: Codec,
    clock: Clock,
    /// Number of the next packet.
    next: u16,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves nothing behind that matters more than going on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reception {
    /// Watches the pads that `source`, an `rtspsrc`, will have.
    pub(super) fn watch(source: &gst::Element, ledger: Arc<Mutex<Ledger>>) -> Self {
        let state = State { ledger, stream: None, report: None };
        let this = Self(Arc::new(Mutex::new(state)));
        let reception = this.clone();
        source.connect_pad_added(move |source, pad| {
            let latency = gst::ClockTime::from_mseconds(source.property::<u32>("latency").into());
            let (reception, source) = (reception.clone(), source.downgrade());
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let Some(buffer) = info.buffer_mut() {
                    let now = source.upgrade().and_then(|source| source.current_running_time());
                    let waited = now.zip(buffer.dts()).map(|(now, came)| now.saturating_sub(came));
                    let is_late = waited.is_some_and(|waited| waited > latency + TOO_LATE);
                    reception.buffer(pad, buffer, is_late);
                }
                gst::PadProbeReturn::Ok
            });
        });
        let reception = this.clone();
        source.connect("new-manager", false, move |arguments| {
            let manager = arguments.get(1)?.get::<gst::Element>().ok()?;
            let reception = reception.clone();
            manager.connect("new-jitterbuffer", false, move |arguments| {
                let buffer = arguments.get(1)?.get::<gst::Element>().ok()?;
                let reception = reception.clone();
                buffer.connect("handle-sync", false, move |arguments| {
                    let said = arguments.get(1)?.get::<gst::Structure>().ok()?;
                    let report = said.get::<gst::Buffer>("sr-buffer").ok()?;
                    let report = sender_report(&report.map_readable().ok()?)?;
                    lock(&reception.0).reported(report);
                    None
                });
                None
            });
            None
        });
        this
    }

    /// The camera's time of day when it took the frame at `time` nanoseconds, if it tells.
    pub(super) fn time_of_day(&self, time: u64) -> Option<SystemTime> {
        let state = lock(&self.0);
        state.stream.as_ref()?.clock.time_of_day(time)
    }

    /// A packet comes through `pad`. Its time becomes that of its frame.
    /// `is_late`: it waited for long, because the decoder is too slow.
    fn buffer(&self, pad: &gst::Pad, buffer: &mut gst::Buffer, is_late: bool) {
        let mut state = lock(&self.0);
        let arrived = buffer.dts_or_pts().map_or(0, gst::ClockTime::nseconds);
        let time = buffer
            .map_readable()
            .ok()
            .and_then(|bytes| state.packet(&bytes, arrived, || description(pad)));
        if is_late && let Some(time) = time {
            lock(&state.ledger).late(time);
        }
        drop(state);
        if let Some(time) = time {
            let buffer = buffer.make_mut();
            buffer.set_pts(gst::ClockTime::from_nseconds(time));
            buffer.set_dts(gst::ClockTime::NONE);
        }
    }
}

impl State {
    fn reported(&mut self, report: (u64, u32)) {
        self.report = Some(report);
        if let Some(stream) = &mut self.stream {
            stream.clock.report(report.0, report.1);
        }
    }

    /// Accounts for a packet; returns the time of its frame, `None` if the stream is of another kind.
    fn packet(
        &mut self,
        bytes: &[u8],
        arrived: u64,
        describe: impl FnOnce() -> Option<(Codec, u32)>,
    ) -> Option<u64> {
        let (header, payload) = Header::parse(bytes)?;
        let mut ledger = lock(&self.ledger);
        if self.stream.is_none() {
            let (codec, rate) = describe()?;
            let (mut clock, next) = (Clock::new(rate), header.sequence);
            if let Some((ntp, stamp)) = self.report {
                clock.report(ntp, stamp);
            }
            self.stream = Some(Stream { codec, clock, next });
        }
        let stream = self.stream.as_mut()?;
        if let Some(ntp) = header.taken.filter(|&ntp| from_ntp(ntp).is_some()) {
            stream.clock.report(ntp, header.timestamp);
        }
        let missing = header.sequence.wrapping_sub(stream.next);
        // A number that was there before: the camera counts anew.
        let missing = (missing < u16::MAX / 2).then_some(missing.into());
        stream.next = header.sequence.wrapping_add(1);
        let content = Content::of(stream.codec, payload);
        let time = stream.clock.time(header.timestamp, arrived);
        ledger.piece(Piece {
            time,
            missing,
            starts_frame: content.starts,
            ends_frame: header.marker,
            picture: content.picture,
            key: content.key,
        });
        Some(time)
    }
}

/// Codec and timestamps a second, as the session describes them. `None` for
/// anything but the video of cameras.
fn description(pad: &gst::Pad) -> Option<(Codec, u32)> {
    let caps = pad.current_caps()?;
    let caps = caps.structure(0)?;
    let codec = Codec::named(caps.get("encoding-name").ok()?)?;
    let rate = u32::try_from(caps.get::<i32>("clock-rate").ok()?).ok()?;
    (rate > 0).then_some((codec, rate))
}

//! Accounts for every frame that a stream sends.
//!
//! Frames are told apart by their timestamps. Each is written down when something of it comes: its
//! first packet, or, where there are no packets to be seen, the whole frame at the decoder. When a
//! frame comes out of the decoder, every frame that is shown before it is settled: it came out as
//! well, or it was lost on the network, or it was damaged.

use std::collections::{BTreeMap, BTreeSet};

use super::gaps::Gaps;

/// Nanoseconds by which parsers and decoders may change a timestamp.
pub(super) const SLACK: u64 = 1_000_000;
/// More frames than wait anywhere. If there are more, the oldest will not come out any more.
const MAX_OPEN: usize = 2000;
/// After so many nanoseconds without a key frame, decoding goes on as it can. Some cameras refresh
/// their pictures bit by bit and never send a key frame.
const PATIENCE: u64 = 10_000_000_000;

/// Frames that did not come out of the decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// Packets of theirs were lost on the network, or all packets.
    pub lost: u64,
    /// They could not be decoded, or only from a lost frame.
    pub damaged: u64,
    /// They came faster than they could be decoded.
    pub skipped: u64,
    /// They were left out because nothing happened in the stream.
    pub idle: u64,
}

/// What became of a frame so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It comes, or waits for the decoder.
    Coming,
    /// Packets of it are missing.
    Torn,
    /// It was kept from the decoder.
    Withheld,
    /// It was kept from the decoder, because that is too slow.
    Skipped,
    /// It is left out because nothing happens in the stream, or waits for that to be known.
    Resting,
    /// It is in the decoder.
    Decoding,
}

/// A frame that has not come out yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    state: State,
    /// Place in the order in which frames come.
    order: u64,
    /// Whether decoding can start at it.
    key: bool,
    /// Whether a part of a picture has come, and not only parameters.
    picture: bool,
}

/// The packet that came last.
#[derive(Debug, Clone, Copy)]
struct Last {
    time: u64,
    ends_frame: bool,
}

/// A packet of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Piece {
    /// Time of the frame, nanoseconds.
    pub time: u64,
    /// Number of packets that are missing before this one; `None` if they cannot be counted.
    pub missing: Option<u32>,
    pub starts_frame: bool,
    pub ends_frame: bool,
    pub picture: bool,
    pub key: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: BTreeMap<u64, Open>,
    orders: u64,
    last: Option<Last>,
    /// Frames, by their order, before which something is missing.
    breaks: BTreeSet<u64>,
    /// Since when frames are withheld because something before them is missing. Outer `None`: they
    /// are not.
    broken: Option<Option<u64>>,
    /// Frames that are shown before this time depend on missing ones.
    floor: u64,
    /// Time of the last frame that came out.
    shown: Option<u64>,
    gaps: Gaps,
    /// Whether packets are seen, and not only whole frames.
    has_packets: bool,
    /// Whether the decoder may make one frame of two, as of the fields of interlaced video.
    merges: bool,
    /// The last frame, by its order, that came too late.
    late: Option<u64>,
    /// Whether what is withheld is so because frames came too late.
    is_slow: bool,
    /// Frames that were kept from the decoder because they cannot be decoded.
    withheld: u64,
    /// Frames that were kept from it because nothing happens.
    resting: u64,
    /// Frames that were settled before one came out.
    carried: Missing,
}

impl Ledger {
    /// A packet came.
    pub(super) fn piece(&mut self, piece: Piece) {
        if !std::mem::replace(&mut self.has_packets, true) {
            // A stream can only be decoded from a key frame on.
            self.broken = Some(None);
        }
        let is_torn = piece.missing != Some(0);
        if let Some(last) = self.last.filter(|last| is_torn && !last.ends_frame) {
            self.tear(last.time);
        }
        let orders = &mut self.orders;
        let frame = self.open.entry(piece.time).or_insert_with(|| {
            *orders += 1;
            Open { state: State::Coming, order: *orders, key: false, picture: false }
        });
        frame.key |= piece.key;
        frame.picture |= piece.picture;
        if is_torn {
            self.breaks.insert(frame.order);
            if !piece.starts_frame {
                frame.state = State::Torn;
            }
            let before = self.last.map_or(piece.time, |last| last.time);
            self.gaps.lost(before, piece.time, piece.missing.unwrap_or(0));
        }
        // Some cameras send parameters under the time of the frame before.
        let is_appendix = |last: Last| last.time == piece.time && last.ends_frame && !piece.picture;
        let ends_frame = piece.ends_frame || self.last.is_some_and(is_appendix);
        self.last = Some(Last { time: piece.time, ends_frame });
        self.limit();
    }

    /// The frame at `time` comes too late to be decoded.
    pub(super) fn late(&mut self, time: u64) {
        if let Some(frame) = self.open.get(&time) {
            self.breaks.insert(frame.order);
            self.late = Some(frame.order);
        }
    }

    /// A whole frame comes to the decoder. Returns whether to decode it.
    pub(super) fn decode(&mut self, time: u64) -> bool {
        if !self.has_packets {
            self.orders += 1;
            let order = self.orders;
            self.open
                .insert(time, Open { state: State::Decoding, order, key: false, picture: true });
            self.limit();
            return true;
        }
        let near = time.saturating_sub(SLACK)..=time + SLACK;
        let Some((&time, frame)) = self.open.range_mut(near).next() else {
            return self.broken.is_none();
        };
        if self.breaks.first().is_some_and(|first| *first <= frame.order) {
            self.breaks = self.breaks.split_off(&(frame.order + 1));
            self.broken = Some(self.broken.flatten());
        }
        if frame.state == State::Torn {
            self.withheld += 1;
            return false;
        }
        let is_late = self.late.is_some_and(|last| frame.order <= last);
        self.is_slow |= is_late;
        if let Some(since) = self.broken {
            let since = since.unwrap_or(time);
            let is_over = frame.key || time.saturating_sub(since) > PATIENCE;
            self.broken = if is_over && !is_late { None } else { Some(Some(since)) };
            self.floor = if frame.key { time } else { 0 };
        }
        let decode = self.broken.is_none() && time >= self.floor;
        self.is_slow &= !decode;
        frame.state = match decode {
            true => State::Decoding,
            false if self.is_slow => State::Skipped,
            false => State::Withheld,
        };
        self.withheld += u64::from(!decode);
        decode
    }

    /// A whole frame is kept from the decoder because nothing happens in the stream.
    pub(super) fn rest(&mut self, time: u64) {
        self.resting += 1;
        let near = time.saturating_sub(SLACK)..=time + SLACK;
        match self.open.range_mut(near).next() {
            // Something of it is lost, whatever happens.
            Some((_, frame)) if frame.state == State::Torn => {}
            Some((_, frame)) => frame.state = State::Resting,
            None if self.has_packets => {}
            None => {
                self.orders += 1;
                let order = self.orders;
                let rests = Open { state: State::Resting, order, key: false, picture: true };
                self.open.insert(time, rests);
                self.limit();
            }
        }
    }

    /// Whether packets are seen, and not only whole frames.
    pub(super) fn has_packets(&self) -> bool {
        self.has_packets
    }

    /// Frames that came to the decoder and were kept from it because they cannot be decoded.
    pub(super) fn withheld(&self) -> u64 {
        self.withheld
    }

    /// Frames that were kept from the decoder because nothing happens in the stream.
    pub(super) fn resting(&self) -> u64 {
        self.resting
    }

    /// Format of the frames: their rate a second, 0 if the stream does not say, and whether the
    /// decoder may make one frame of two.
    pub(super) fn format(&mut self, fps: f64, merges: bool) {
        self.gaps.rate(fps);
        self.merges = merges;
    }

    /// Whether a frame at this time is written down.
    pub(super) fn knows(&self, time: u64) -> bool {
        self.open.range(time.saturating_sub(SLACK)..=time + SLACK).next().is_some()
    }

    /// A frame came out of the decoder: settles those before it. Where only whole frames are seen,
    /// those before the first that comes out are not counted, because the start of a file may depend
    /// on frames that are not in it.
    pub(super) fn out(&mut self, time: u64) -> Missing {
        let later = self.open.split_off(&(time + SLACK));
        let before = std::mem::replace(&mut self.open, later);
        let last = self.shown.replace(time);
        if !self.has_packets {
            // A stream that begins again starts anew.
            let Some(last) = last.filter(|last| time > last + 2 * SLACK) else {
                return Missing::default();
            };
            let between = before.range(last + SLACK..=time - SLACK);
            let (resting, damaged): (Vec<_>, Vec<_>) =
                between.partition(|(_, frame)| frame.state == State::Resting);
            let (idle, damaged) = (resting.len() as u64, damaged.len() as u64);
            return Missing { damaged, idle, ..Missing::default() };
        }
        let has_come = before.last_key_value().is_some_and(|(&at, _)| at + SLACK > time);
        let mut missing = self.settle(&before, time);
        if !has_come {
            missing.lost += self.gaps.frame(time);
        }
        missing
    }

    /// The stream has ended: settles all frames that are left.
    pub(super) fn end(&mut self) -> Missing {
        let left = std::mem::take(&mut self.open);
        if self.has_packets { self.settle(&left, u64::MAX) } else { Missing::default() }
    }

    /// Counts frames, of which the one at `out` has come out.
    fn settle(&mut self, frames: &BTreeMap<u64, Open>, out: u64) -> Missing {
        let mut missing = std::mem::take(&mut self.carried);
        // Parameters alone are no frame.
        for (&at, frame) in frames.iter().filter(|(_, f)| f.picture || f.state == State::Torn) {
            missing.lost += self.gaps.frame(at);
            match frame.state {
                _ if at.saturating_add(SLACK) > out => {}
                State::Torn => missing.lost += 1,
                State::Skipped => missing.skipped += 1,
                State::Resting => missing.idle += 1,
                State::Decoding if self.merges => {}
                State::Coming | State::Withheld | State::Decoding => missing.damaged += 1,
            }
        }
        missing
    }

    fn tear(&mut self, time: u64) {
        if let Some(frame) = self.open.get_mut(&time) {
            frame.state = State::Torn;
            self.breaks.insert(frame.order);
        }
    }

    fn limit(&mut self) {
        if self.open.len() <= MAX_OPEN {
            return;
        }
        if let Some(&middle) = self.open.keys().nth(MAX_OPEN / 2) {
            let newer = self.open.split_off(&middle);
            let older = std::mem::replace(&mut self.open, newer);
            self.carried =
                if self.has_packets { self.settle(&older, u64::MAX) } else { Missing::default() };
        }
    }
}

#[cfg(test)]
mod tests;

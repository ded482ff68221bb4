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
mod tests {
    use super::*;

    /// Numbers that look random and are the same each time.
    struct Chance(u64);

    impl Chance {
        /// A number below `below`.
        fn next(&mut self, below: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// A camera that sends `count` frames over a network that loses packets.
    struct Camera {
        count: u64,
        /// Frames from one key frame to the next.
        group: u64,
        /// Frames between two that others depend on.
        between: u64,
        /// Most packets of a frame.
        packets: u64,
        /// Of a hundred packets are lost.
        loss: u64,
        /// Millionths of a second by which the camera's times are uneven.
        uneven: u64,
    }

    const CAMERA: Camera =
        Camera { count: 600, group: 30, between: 0, packets: 1, loss: 0, uneven: 0 };

    /// What came out of it.
    #[derive(Debug, Default, PartialEq)]
    struct Sum {
        shown: u64,
        lost: u64,
        damaged: u64,
    }

    impl Camera {
        /// Numbers of the frames, in the order in which they are sent: key frames, and others in
        /// groups whose last comes first.
        fn order(&self) -> Vec<u64> {
            let mut order = Vec::new();
            for first in (0..self.count).step_by(self.group as usize) {
                let end = (first + self.group).min(self.count);
                order.push(first);
                let mut next = first + 1;
                while next < end {
                    let last = (next + self.between).min(end - 1);
                    order.push(last);
                    order.extend(next..last);
                    next = last + 1;
                }
            }
            order
        }

        /// Plays everything through a decoder that shows frames in the order of their times. The first
        /// and the last packet come: nobody can know of frames before and after.
        fn play(&self, seed: u64) -> Sum {
            let mut chance = Chance(seed);
            let (mut ledger, mut sum) = (Ledger::default(), Sum::default());
            ledger.format(30.0, false);
            let order = self.order();
            let mut missing = 0;
            // Times of frames in the decoder.
            let mut inside = BTreeSet::new();
            let mut out = |ledger: &mut Ledger, time| {
                let Missing { lost, damaged, .. } = ledger.out(time);
                (sum.shown, sum.lost, sum.damaged) =
                    (sum.shown + 1, sum.lost + lost, sum.damaged + damaged);
            };
            let mut decode = |ledger: &mut Ledger, (time, is_key, is_whole): (u64, bool, bool)| {
                if !ledger.decode(time) {
                    return;
                }
                assert!(is_whole, "a torn frame was decoded");
                if is_key {
                    std::mem::take(&mut inside).iter().for_each(|&time| out(ledger, time));
                }
                inside.insert(time);
                while inside.len() as u64 > self.between + 1 {
                    let first = inside.pop_first().expect("there is one");
                    out(ledger, first);
                }
            };
            // A frame whose last packet did not come is known to be over when the next one begins.
            let mut unfinished: Option<(u64, bool, bool)> = None;
            for (place, number) in order.iter().enumerate() {
                let time =
                    number * 1_000_000_000 / 30 + 1000 * chance.next(1 + self.uneven) + FIRST;
                let packets = 1 + chance.next(self.packets);
                let key = number % self.group == 0;
                let mut came = 0;
                for packet in 0..packets {
                    let is_last = place + 1 == order.len() || number + 1 == self.count;
                    let is_edge = place == 0 && packet == 0 || is_last && packet + 1 == packets;
                    if !is_edge && chance.next(100) < self.loss {
                        missing += 1;
                        continue;
                    }
                    came += 1;
                    ledger.piece(Piece {
                        time,
                        missing: Some(std::mem::take(&mut missing)),
                        starts_frame: packet == 0,
                        ends_frame: packet + 1 == packets,
                        picture: true,
                        key,
                    });
                    if let Some(frame) = unfinished.take().filter(|&(at, ..)| at != time) {
                        decode(&mut ledger, frame);
                    }
                    unfinished = Some((time, key, came == packets));
                    if packet + 1 == packets
                        && let Some(frame) = unfinished.take()
                    {
                        decode(&mut ledger, frame);
                    }
                }
            }
            inside.iter().for_each(|&time| out(&mut ledger, time));
            let Missing { lost, damaged, .. } = ledger.end();
            Sum { lost: sum.lost + lost, damaged: sum.damaged + damaged, ..sum }
        }
    }

    const FIRST: u64 = 1_000_000_000;

    #[test]
    fn nothing_is_missing_where_nothing_is_lost() {
        for between in [0, 1, 3] {
            for packets in [1, 7] {
                let camera = Camera { between, packets, uneven: 9000, ..CAMERA };
                let expected = Sum { shown: 600, ..Sum::default() };
                assert_eq!(camera.play(between + packets), expected);
            }
        }
    }

    #[test]
    fn every_frame_is_accounted_for() {
        for seed in 0..60 {
            for loss in [1, 5, 20] {
                let (between, packets) = (seed % 4, 1 + seed % 5);
                let uneven = if seed % 2 == 0 { 0 } else { 6000 };
                let camera = Camera { between, packets, loss, uneven, ..CAMERA };
                let sum = camera.play(seed);
                assert_eq!(sum.shown + sum.lost + sum.damaged, 600, "{seed}, {loss} %: {sum:?}");
                assert!(sum.lost > 0, "{seed}, {loss} %: {sum:?}");
            }
        }
    }

    /// A camera that leaves out frames by itself loses none.
    #[test]
    fn frames_that_were_not_sent_are_not_lost() {
        let mut ledger = Ledger::default();
        for number in (0..90).filter(|n| n % 7 != 3) {
            let time = FIRST + number * 40_000_000;
            let (key, missing) = (number == 0, Some(0));
            let whole =
                Piece { time, missing, starts_frame: true, ends_frame: true, picture: true, key };
            ledger.piece(whole);
            assert!(ledger.decode(time));
            assert_eq!(ledger.out(time), Missing::default());
        }
    }

    fn whole(time: u64, missing: u32, key: bool) -> Piece {
        let missing = Some(missing);
        Piece { time, missing, starts_frame: true, ends_frame: true, picture: true, key }
    }

    #[test]
    fn a_stream_is_decoded_from_a_key_frame_on() {
        let mut ledger = Ledger::default();
        let times = |range: std::ops::Range<u64>| range.map(|n| FIRST + n * 40_000_000);
        for time in times(0..5) {
            ledger.piece(whole(time, 0, false));
            assert!(!ledger.decode(time));
        }
        let key = FIRST + 6 * 40_000_000;
        ledger.piece(whole(key, 0, true));
        assert!(ledger.decode(key));
        // It comes after the key frame, is shown before it and depends on what was before.
        let leading = FIRST + 5 * 40_000_000;
        ledger.piece(whole(leading, 0, false));
        assert!(!ledger.decode(leading));
        assert_eq!(ledger.out(key), Missing { damaged: 6, ..Missing::default() });
    }

    #[test]
    fn a_camera_without_key_frames_is_shown_after_a_while() {
        let mut ledger = Ledger::default();
        let mut decoded = 0;
        for time in (0..600).map(|n| FIRST + n * 40_000_000) {
            ledger.piece(whole(time, 0, false));
            decoded += u64::from(ledger.decode(time));
        }
        assert_eq!(decoded, 600 - 251);
    }

    /// A machine that is too slow goes on with the next key frame.
    #[test]
    fn what_comes_too_late_is_left_out_up_to_a_key_frame() {
        let mut ledger = Ledger::default();
        let mut decoded = Vec::new();
        let mut missing = Missing::default();
        for number in 0..30 {
            let time = FIRST + number * 40_000_000;
            ledger.piece(whole(time, 0, number % 10 == 0));
            if (5..13).contains(&number) {
                ledger.late(time);
            }
            if ledger.decode(time) {
                decoded.push(number);
                missing.skipped += ledger.out(time).skipped;
            }
        }
        assert_eq!(decoded, [0, 1, 2, 3, 4].into_iter().chain(20..30).collect::<Vec<_>>());
        assert_eq!(
            (missing, ledger.end()),
            (Missing { skipped: 15, ..missing }, Missing::default())
        );
        assert_eq!((missing.lost, missing.damaged), (0, 0));
    }

    /// Parameters may come under the time of the frame before, or under one of their own.
    #[test]
    fn parameters_are_no_frame() {
        let mut ledger = Ledger::default();
        let mut missing = Missing::default();
        for time in (0..20).map(|n| FIRST + n * 40_000_000) {
            ledger.piece(whole(time, 0, true));
            assert!(ledger.decode(time));
            for time in [time, time + 9_000_000] {
                ledger.piece(Piece { ends_frame: false, picture: false, ..whole(time, 0, false) });
            }
            let more = ledger.out(time);
            missing.lost += more.lost;
            missing.damaged += more.damaged;
        }
        assert_eq!(missing, Missing::default());
    }

    #[test]
    fn frames_that_never_come_out_are_counted_in_the_end() {
        let mut ledger = Ledger::default();
        let count = 3 * MAX_OPEN as u64;
        for time in (0..count).map(|n| FIRST + n * 40_000_000) {
            ledger.piece(whole(time, 0, true));
            assert!(ledger.decode(time));
            assert!(ledger.open.len() <= MAX_OPEN);
        }
        assert_eq!(ledger.end(), Missing { damaged: count, ..Missing::default() });
    }

    /// Without packets: what goes into a decoder and does not come out.
    #[test]
    fn what_is_passed_over_is_counted_once() {
        let mut ledger = Ledger::default();
        let put = |ledger: &mut Ledger, all: &[u64]| {
            all.iter().for_each(|time| assert!(ledger.decode(time * SLACK)));
        };
        let out = |ledger: &mut Ledger, time| ledger.out(time).damaged;
        // Before the first frame that comes out nothing is missed.
        put(&mut ledger, &[10, 20, 30, 40, 50, 60]);
        assert_eq!(out(&mut ledger, 30 * SLACK), 0);
        assert_eq!(out(&mut ledger, 40 * SLACK), 0);
        assert_eq!(out(&mut ledger, 60 * SLACK), 1);
        // A parser says 70.4 and the decoder 70.9.
        assert!(ledger.decode(70 * SLACK + 400_000));
        put(&mut ledger, &[80, 90, 100]);
        assert_eq!(out(&mut ledger, 70 * SLACK + 900_000), 0);
        assert_eq!(out(&mut ledger, 100 * SLACK), 2);
        assert!(ledger.open.is_empty());
        // A stream that begins again.
        put(&mut ledger, &[5, 10, 15]);
        assert_eq!(out(&mut ledger, 10 * SLACK), 0);
        put(&mut ledger, &[20]);
        assert_eq!((out(&mut ledger, 20 * SLACK), out(&mut ledger, 20 * SLACK)), (1, 0));
        assert_eq!(ledger.end(), Missing::default());
    }
}

//! The camera's clocks: RTP timestamps, which tell frames apart, and its time of day.

use std::time::{Duration, SystemTime};

const SECOND: i128 = 1_000_000_000;
/// Where the first frame is put, in nanoseconds: there is room for frames that are shown before it
/// and come later.
pub(in crate::source) const FIRST: u64 = 1_000_000_000;
/// A step of a camera's timestamps that is larger than this, and differs by half of it from the
/// time that has passed here, is no time that has passed: the camera has set its clock.
const JUMP: i64 = 4_000_000_000;
/// Seconds from the beginning of NTP's time (1900) to that of Unix (1970).
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// A camera that tells a time before this (2000, in Unix time) has not set its clock.
const UNSET: u64 = 946_684_800;

/// Turns timestamps of 32 bits into nanoseconds that go on for ever, and into times of day.
#[derive(Debug)]
pub(super) struct Clock {
    /// Timestamps in a second.
    rate: u32,
    anchor: Option<Anchor>,
    /// The camera's last report of its time of day: in NTP's format, and as a timestamp.
    report: Option<(u64, u32)>,
}

/// A frame, and what other times are counted from.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    /// Timestamps from the anchor's zero to the last frame.
    ticks: i64,
    /// Nanoseconds of the anchor's zero.
    zero: i64,
    /// Timestamp of the last frame.
    stamp: u32,
    /// When the last frame arrived, nanoseconds.
    arrived: u64,
}

impl Clock {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, anchor: None, report: None }
    }

    /// Nanoseconds for a timestamp that arrived at `arrived` nanoseconds. Timestamps of frames that
    /// are shown earlier and come later go back a little.
    pub(super) fn time(&mut self, stamp: u32, arrived: u64) -> u64 {
        let first = Anchor { ticks: 0, zero: FIRST.cast_signed(), stamp, arrived };
        let mut anchor = self.anchor.unwrap_or(first);
        let step = i64::from(stamp.wrapping_sub(anchor.stamp).cast_signed());
        let before = self.nanoseconds(anchor.ticks);
        let (stated, passed) = (
            self.nanoseconds(anchor.ticks + step) - before,
            arrived.cast_signed().saturating_sub(anchor.arrived.cast_signed()).max(0),
        );
        if stated.abs() > JUMP && (stated - passed).abs() > JUMP / 2 {
            anchor.zero += before + passed;
            anchor.ticks = 0;
        } else {
            anchor.ticks += step;
        }
        if step != 0 {
            (anchor.stamp, anchor.arrived) = (stamp, arrived);
        }
        self.anchor = Some(anchor);
        (anchor.zero + self.nanoseconds(anchor.ticks)).max(0).cast_unsigned()
    }

    /// The camera reports that its clock says `ntp` at a timestamp.
    pub(super) fn report(&mut self, ntp: u64, stamp: u32) {
        self.report = Some((ntp, stamp));
    }

    /// The camera's time of day at `time` nanoseconds, if it has told any.
    pub(super) fn time_of_day(&self, time: u64) -> Option<SystemTime> {
        let (anchor, (ntp, reported)) = self.anchor.zip(self.report)?;
        let past = i128::from(time) - i128::from(anchor.zero + self.nanoseconds(anchor.ticks));
        // The last frame's timestamp is `anchor.stamp`; rounding restores that of this one.
        let ticks = (past * i128::from(self.rate)).div_euclid(SECOND / 2).saturating_add(1) >> 1;
        let ticks = ticks + i128::from(anchor.stamp.wrapping_sub(reported).cast_signed());
        let since = i64::try_from(ticks).ok().map(|ticks| self.nanoseconds(ticks))?;
        let at = from_ntp(ntp)?;
        let distance = Duration::from_nanos(since.unsigned_abs());
        if since < 0 { at.checked_sub(distance) } else { at.checked_add(distance) }
    }

    fn nanoseconds(&self, ticks: i64) -> i64 {
        let exact = i128::from(ticks) * SECOND / i128::from(self.rate.max(1));
        i64::try_from(exact).unwrap_or(i64::MAX)
    }
}

/// A time in NTP's format: seconds since 1900 and a fraction of 32 bits. `None` for a clock that is
/// not set. Ends in 2036, with NTP's first era.
pub(super) fn from_ntp(ntp: u64) -> Option<SystemTime> {
    let seconds = (ntp >> 32).checked_sub(NTP_TO_UNIX).filter(|&seconds| seconds >= UNSET)?;
    let nanoseconds = ((ntp & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

/// The time of day and the timestamp in a sender report (RFC 3550, 6.4.1).
pub(super) fn sender_report(packet: &[u8]) -> Option<(u64, u32)> {
    const SENDER_REPORT: u8 = 200;
    if *packet.get(1)? != SENDER_REPORT {
        return None;
    }
    let ntp = u64::from_be_bytes(*packet.get(8..)?.first_chunk()?);
    Some((ntp, u32::from_be_bytes(*packet.get(16..)?.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 90_000;

    #[test]
    fn frames_that_come_later_are_shown_earlier() {
        let mut clock = Clock::new(RATE);
        let times = [0, 9000, 3000, 6000].map(|t: u32| clock.time(t.wrapping_sub(5000), 0));
        assert_eq!(times.map(|t| t / 1_000_000), [1000, 1100, 1033, 1066]);
    }

    /// A day of a camera whose clock runs 500 millionths too fast, so that its timestamps begin anew
    /// once and half a minute gathers between its clock and ours.
    #[test]
    fn a_clock_that_runs_fast_is_followed_for_a_day() {
        let mut clock = Clock::new(RATE);
        let (fps, day) = (15, 86_400);
        let mut last = 0;
        for frame in 0..fps * day {
            let stamp = (u64::from(u32::MAX) - 7 + frame * 6000) as u32;
            let arrived = frame * 1_000_000_000 / fps * 2000 / 2001;
            let time = clock.time(stamp, arrived);
            assert!(time > last);
            assert_eq!(time, FIRST + frame * 1_000_000_000 / fps);
            last = time;
            if frame % 75 == 0 {
                // The camera's time of day, 2026-01-01 and on, in NTP's format.
                let seconds = NTP_TO_UNIX + 1_767_225_600 + frame / fps;
                clock.report(seconds << 32, stamp);
            }
            let day = clock.time_of_day(time).expect("there is a report");
            let since = day.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            let expected = 1_767_225_600_000_000 + u128::from(frame * 1_000_000 / fps);
            assert!(since.as_micros().abs_diff(expected) <= 1, "{since:?} {expected}");
        }
    }

    #[test]
    fn a_clock_that_is_set_does_not_move_the_stream() {
        let mut clock = Clock::new(RATE);
        clock.time(0, 0);
        let ms = |time: u64| time / 1_000_000;
        assert_eq!(ms(clock.time(1_000_000_000, 40_000_000)), 1040);
        assert_eq!(ms(clock.time(1_000_003_600, 80_000_000)), 1080);
        // A quarter of an hour without a frame is time that has passed.
        assert_eq!(ms(clock.time(1_081_003_600, 900_080_000_000)), 901_080);
        // A network that stood still for a while delivers all at once.
        assert_eq!(ms(clock.time(1_081_007_200, 930_000_000_000)), 901_120);
        assert_eq!(ms(clock.time(1_081_010_800, 930_000_000_000)), 901_160);
    }

    #[test]
    fn a_camera_that_does_not_know_the_time_tells_none() {
        let mut clock = Clock::new(RATE);
        let time = clock.time(5, 0);
        assert_eq!(clock.time_of_day(time), None);
        // Seconds since it was switched on, from 1900 and from 1970.
        for seconds in [100, NTP_TO_UNIX + 100] {
            clock.report(seconds << 32, 5);
            assert_eq!(clock.time_of_day(time), None);
        }
    }

    #[test]
    fn sender_reports_are_read() {
        let mut packet = vec![0x80, 200, 0, 6, 1, 1, 1, 1];
        packet.extend([0, 0, 0, 9, 0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(sender_report(&packet), Some((9 << 32 | 1 << 31, 256)));
        assert_eq!(sender_report(&packet[..19]), None);
        packet[1] = 201;
        assert_eq!(sender_report(&packet), None);
    }
}

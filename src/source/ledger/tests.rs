use super::*;

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    /// A number below `below`.
    fn next(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
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

const CAMERA: Camera = Camera { count: 600, group: 30, between: 0, packets: 1, loss: 0, uneven: 0 };

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
            let time = number * 1_000_000_000 / 30 + 1000 * chance.next(1 + self.uneven) + FIRST;
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
    assert_eq!((missing, ledger.end()), (Missing { skipped: 15, ..missing }, Missing::default()));
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

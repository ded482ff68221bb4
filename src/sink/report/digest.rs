//! Collects what the page needs from the records, in bounded memory.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};

use super::points::Points;
use mmface::record::{Dropped, End, FaceRecord, Frame, Gap, Header, Record, Stream};

/// Most points of all faces together, and most points of the timing, before curves are thinned.
const MAX_POINTS: usize = 32_768;
/// Most gaps that are listed individually.
const MAX_GAPS: usize = 100;
/// Expressions with curves, if the face model has them.
const MAIN: [&str; 10] = [
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "jawOpen",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthPucker",
    "browInnerUpLeft",
    "browInnerUpRight",
    "browDownLeft",
    "browDownRight",
];

/// A condensed form of the records of one run.
#[derive(Debug, Default)]
pub struct Digest {
    /// The header.
    pub header: Option<Header>,
    /// The last stream record.
    pub stream: Option<Stream>,
    /// The first gaps, at most 100.
    pub gaps: Vec<Gap>,
    /// Number of all gaps.
    pub gap_count: usize,
    /// The end record, if there is one yet.
    pub end: Option<End>,
    /// Number of frame records.
    pub frames: u64,
    /// Frames lost so far.
    pub lost: Dropped,
    /// For each frame: latencies capture to record, detect and infer (ms), and frames lost so far
    /// as busy, as damaged and on the network.
    pub timing: Points,
    /// Number of frames per point of `timing`.
    pub timing_stride: u32,
    /// All faces, by id.
    pub tracks: BTreeMap<u64, Track>,
    /// Number of frames per point of a track.
    pub stride: u32,
    /// Indices of the expressions with curves.
    pub main: Vec<usize>,
    points: usize,
    clock: Clock,
}

/// What is collected of one id.
#[derive(Debug)]
pub struct Track {
    /// Time of its first frame, seconds.
    pub first: f64,
    /// Time of its last frame, seconds.
    pub last: f64,
    /// Number of its frames.
    pub frames: u64,
    /// Identity weights α_id in the last frame.
    pub identity: Vec<f32>,
    /// Curves: pitch, yaw, roll (degrees), then the main expressions. Samples: pitch, yaw, roll,
    /// then all expressions. Empty for a face that was seen for less time than one point covers.
    pub points: Points,
}

impl Digest {
    /// Adds the next record.
    ///
    /// # Errors
    /// For a record that cannot follow the earlier ones: the reason, as the second half of a
    /// sentence.
    pub fn add(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Header(_) if self.header.is_some() => {
                return Err("begins a second run: one page shows one".into());
            }
            Record::Header(header) => self.begin(header),
            _ if self.header.is_none() => {
                return Err("comes before the header: the beginning is missing".into());
            }
            Record::Stream(stream) => {
                let before = self.stream.as_ref().map(|s| s.connection);
                self.clock.restarts = before.is_some_and(|before| before != stream.connection);
                self.stream = Some(stream.clone());
            }
            Record::Frame(frame) => return self.frame(frame),
            Record::Gap(gap) => {
                self.gap_count += 1;
                if self.gaps.len() < MAX_GAPS {
                    self.gaps.push(gap.clone());
                }
            }
            Record::Lost(_) => {}
            Record::End(end) => self.end = Some(end.clone()),
        }
        Ok(())
    }

    fn begin(&mut self, header: &Header) {
        let names = &header.face_model.expressions;
        let place = |name: &&str| names.iter().position(|n| n == name);
        self.main = MAIN.iter().filter_map(place).collect();
        if self.main.is_empty() {
            self.main = (0..names.len().min(MAIN.len())).collect();
        }
        self.timing = Points::new(1);
        (self.timing_stride, self.stride) = (1, 1);
        self.header = Some(header.clone());
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), String> {
        let time = self.clock.seconds(frame);
        self.frames += 1;
        self.lost.busy = self.lost.busy.saturating_add(frame.dropped.busy);
        self.lost.damaged = self.lost.damaged.saturating_add(frame.dropped.damaged);
        self.lost.lost = self.lost.lost.saturating_add(frame.dropped.lost);
        let latency = &frame.latency_ms;
        let lost = [self.lost.busy, self.lost.damaged, self.lost.lost].map(|n| n as f32);
        let spent = [latency.capture_to_record, latency.detect, latency.infer].map(|ms| ms as f32);
        self.timing.add(time, &[&spent[..], &lost].concat(), &[]);
        if self.timing.len() > MAX_POINTS {
            self.timing.halve();
            self.timing_stride *= 2;
        }
        frame.faces.iter().try_for_each(|face| self.face(time, face))?;
        if self.points > MAX_POINTS {
            self.thin(time);
        }
        Ok(())
    }

    fn face(&mut self, time: f64, face: &FaceRecord) -> Result<(), String> {
        let model =
            self.header.as_ref().map(|h| (h.face_model.identity, &h.face_model.expressions));
        let wanted = model.map(|(identity, names)| (identity, names.len()));
        if wanted != Some((face.identity.len(), face.expression.len())) {
            return Err("has a face with more or fewer coefficients than the header says".into());
        }
        let main = self.main.iter().map(|&k| face.expression[k]);
        let curves: Vec<f32> = face.r.into_iter().chain(main).collect();
        let sample = [&face.r[..], &face.expression].concat();
        let track = self.tracks.entry(face.id).or_insert_with(|| Track {
            first: time,
            last: time,
            frames: 0,
            identity: Vec::new(),
            points: Points::new(self.stride),
        });
        track.last = time;
        track.frames += 1;
        track.identity.clone_from(&face.identity);
        self.points += usize::from(track.points.add(time, &curves, &sample));
        Ok(())
    }

    /// Halves all curves. A face that is gone and now has less than two points loses its curve.
    fn thin(&mut self, now: f64) {
        self.stride = self.stride.saturating_mul(2);
        for track in self.tracks.values_mut() {
            track.points.halve();
            if track.points.len() < 2 && track.last < now {
                track.points = Points::new(self.stride);
            }
        }
        self.points = self.tracks.values().map(|track| track.points.len()).sum();
    }
}

/// Converts timestamps, which restart with every connection, to continuous seconds of the stream.
#[derive(Debug, Default)]
struct Clock {
    offset: f64,
    last: Option<(f64, Option<DateTime<FixedOffset>>)>,
    restarts: bool,
}

impl Clock {
    fn seconds(&mut self, frame: &Frame) -> f64 {
        let wall = DateTime::parse_from_rfc3339(&frame.time).ok();
        let mut now = frame.pts + self.offset;
        match self.last {
            Some((last, before)) if std::mem::take(&mut self.restarts) || now < last => {
                let away = wall.zip(before).map(|(a, b)| (a - b).as_seconds_f64());
                now = last + away.unwrap_or_default().max(0.0);
                self.offset = now - frame.pts;
            }
            _ => {}
        }
        self.last = Some((now, wall));
        now
    }
}

//! What the page needs of the records, gathered as they come, in bounded memory.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};

use super::points::Points;
use mmface::record::{Dropped, End, FaceRecord, Frame, Gap, Header, Record, Stream};

/// Points of all faces together, and as many of the frames, before curves are thinned.
const POINTS: usize = 32_768;
/// Gaps that are told one by one.
const GAPS: usize = 100;
/// Expressions with a curve of their own, where the face model has them.
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

/// The records of one run, condensed.
#[derive(Debug, Default)]
pub struct Digest {
    /// The first record.
    pub header: Option<Header>,
    /// The last connection.
    pub stream: Option<Stream>,
    /// The first gaps.
    pub gaps: Vec<Gap>,
    /// How many there were.
    pub gap_count: usize,
    /// The last record, if it has come.
    pub end: Option<End>,
    /// Frame records.
    pub frames: u64,
    /// Frames lost so far.
    pub lost: Dropped,
    /// For each frame: capture to record, detect, infer (ms), lost as busy, lost as damaged (so far).
    pub timing: Points,
    /// Frames for which a point of `timing` stands.
    pub timing_stride: u32,
    /// Everyone who was seen.
    pub tracks: BTreeMap<u64, Track>,
    /// Frames for which a point of a track stands.
    pub stride: u32,
    /// Which expressions have curves.
    pub main: Vec<usize>,
    points: usize,
    clock: Clock,
}

/// One id.
#[derive(Debug)]
pub struct Track {
    /// Seconds at which it was first seen.
    pub first: f64,
    /// … and last.
    pub last: f64,
    /// Frames with it.
    pub frames: u64,
    /// α_id, the last one.
    pub identity: Vec<f32>,
    /// Curves: pitch, yaw, roll (degrees), then the main expressions. Samples: pitch, yaw, roll,
    /// then all expressions. Empty for somebody seen for less than a point's time.
    pub points: Points,
}

impl Digest {
    /// Takes in the next record.
    ///
    /// # Errors
    /// The second half of a sentence, for a record that cannot follow the ones before it.
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
                if self.gaps.len() < GAPS {
                    self.gaps.push(gap.clone());
                }
            }
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
        self.lost.busy += frame.dropped.busy;
        self.lost.damaged += frame.dropped.damaged;
        let latency = &frame.latency_ms;
        let lost = [self.lost.busy, self.lost.damaged].map(|n| n as f32);
        let spent = [latency.capture_to_record, latency.detect, latency.infer].map(|ms| ms as f32);
        self.timing.add(time, &[&spent[..], &lost].concat(), &[]);
        if self.timing.len() > POINTS {
            self.timing.halve();
            self.timing_stride *= 2;
        }
        frame.faces.iter().try_for_each(|face| self.face(time, face))?;
        if self.points > POINTS {
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

    /// Halves all curves. Who was seen for less than a point now stands for, and is gone, has none.
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

/// Seconds of the stream, which go on across connections, each of which counts its own.
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

//! One stream of frames between a start and a stop: its tracker and its times.

use std::time::{Duration, Instant, SystemTime};

use ::mmface::image::{Colour, Layout, Matrix, Plane};
use ::mmface::record::{self, Dropped, FaceRecord, Latency};
use ::mmface::{Fitter, FrameResult, Image, Observer};
use gstreamer as gst;
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrameRef, VideoInfo};

/// Seconds by which time may step back, and the least gap that can be a jump. A tracker restarts its
/// smoothing there.
const LEAST_JUMP: f64 = 0.5;

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stats {
    pub(super) processed: u64,
    pub(super) skipped: u64,
    pub(super) faces: u64,
    pub(super) resets: u64,
    pub(super) total: Duration,
    pub(super) worst: Duration,
}

impl Stats {
    pub(super) fn structure(&self) -> gst::Structure {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let average = nanoseconds(self.total) / self.processed.max(1);
        gst::Structure::builder("mmface-stats")
            .field("processed", self.processed)
            .field("skipped", self.skipped)
            .field("faces", self.faces)
            .field("resets", self.resets)
            .field("average-time", average)
            .field("worst-time", nanoseconds(self.worst))
            .build()
    }
}

/// The clock of a tracker: seconds that increase from frame to frame.
#[derive(Debug)]
pub(super) struct Clock {
    last: Option<f64>,
    /// Seconds without a frame after which the stream is another.
    patience: f64,
}

/// A frame's place in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tick {
    pub(super) seconds: f64,
    /// Whether the stream goes on somewhere else than where it was.
    pub(super) jumped: bool,
}

impl Clock {
    /// `reidentify`: seconds for which the tracker remembers people. It finds them again by itself
    /// after a shorter gap.
    pub(super) fn new(reidentify: f64) -> Self {
        Self { last: None, patience: reidentify.max(LEAST_JUMP) }
    }

    /// The tick of a frame. `time`: its stream time in seconds, negative while playing backwards,
    /// so that it increases there too. A frame without a time comes `step` seconds after the last.
    pub(super) fn tick(&mut self, time: Option<f64>, step: f64) -> Tick {
        let seconds = time.unwrap_or_else(|| self.last.map_or(0.0, |last| last + step));
        let jumped = self.last.is_some_and(|last| {
            let passed = seconds - last;
            !(-LEAST_JUMP..=self.patience.max(2.0 * step)).contains(&passed)
        });
        self.last = Some(seconds);
        Tick { seconds, jumped }
    }

    pub(super) fn reset(&mut self) {
        self.last = None;
    }
}

/// The tracker of a stream, and what belongs to its frames.
pub(super) struct Stream {
    observer: Observer,
    fitter: Fitter,
    clock: Clock,
    /// Number of the next frame.
    frame: u64,
    /// Frames that were skipped since the last record.
    skipped: u64,
    /// Highest id so far. Ids are given in ascending order.
    highest: u64,
}

/// A measured frame.
pub(super) struct Measured {
    pub(super) result: FrameResult,
    /// Time of the stream in seconds.
    pub(super) pts: f64,
    pub(super) took: Duration,
    /// People who are new in this frame.
    pub(super) new: u64,
}

impl Stream {
    pub(super) fn new((observer, fitter): (Observer, Fitter), reidentify: f64) -> Self {
        let clock = Clock::new(reidentify);
        Self { observer, fitter, clock, frame: 0, skipped: 0, highest: 0 }
    }

    /// Whether no frame has come yet.
    pub(super) fn is_new(&self) -> bool {
        self.frame == 0
    }

    /// From now on no frame waits for a detection.
    pub(super) fn go_live(&mut self) {
        self.observer.go_live();
    }

    /// Forgets all faces. Ids are not used again.
    pub(super) fn reset(&mut self) {
        self.observer.reset();
        self.fitter.reset();
        self.clock.reset();
    }

    /// The tick of the next frame; forgets all faces if time jumps. Arguments are those of
    /// [`Clock::tick`].
    pub(super) fn tick(&mut self, time: Option<f64>, step: f64) -> Tick {
        let tick = self.clock.tick(time, step);
        if tick.jumped {
            self.observer.reset();
            self.fitter.reset();
        }
        tick
    }

    /// Measures a frame. `seconds` are the tracker's, `pts` those of the record.
    pub(super) fn measure(
        &mut self,
        image: &Image,
        seconds: f64,
        pts: f64,
        started: Instant,
    ) -> ::mmface::Result<Measured> {
        let observation = self.observer.observe(image, seconds, None)?;
        let result = self.fitter.fit(observation);
        let new = result.faces.iter().filter(|face| face.id > self.highest).count();
        self.highest = result.faces.iter().map(|face| face.id).fold(self.highest, u64::max);
        Ok(Measured { result, pts, took: started.elapsed(), new: new as u64 })
    }

    /// The record of a frame.
    pub(super) fn record(
        &mut self,
        stream: String,
        measured: &Measured,
        faces: Vec<FaceRecord>,
    ) -> record::Frame {
        let number = self.frame;
        self.frame += 1;
        let skipped = std::mem::take(&mut self.skipped);
        record::Frame {
            stream,
            frame: number,
            file: None,
            pts: measured.pts,
            time: record::timestamp(SystemTime::now() - measured.took),
            camera_time: None,
            latency_ms: Latency {
                capture_to_record: measured.took.as_secs_f64() * 1e3,
                detect: measured.result.detect_ms,
                infer: measured.result.infer_ms,
            },
            dropped: Dropped { busy: skipped, ..Dropped::default() },
            faces,
        }
    }

    /// Counts a frame that is not measured.
    pub(super) fn skip(&mut self) {
        self.frame += 1;
        self.skipped += 1;
    }
}

/// A frame's pixels, as the library sees them; `None` for a format that it does not know.
pub(super) fn image<'a>(
    frame: &'a VideoFrameRef<&gst::BufferRef>,
    info: &VideoInfo,
) -> Option<Image<'a>> {
    let layout = match frame.format() {
        VideoFormat::I420 => Layout::I420,
        VideoFormat::Nv12 => Layout::Nv12,
        VideoFormat::Rgb => Layout::Rgb,
        VideoFormat::Bgr => Layout::Bgr,
        VideoFormat::Gray8 => Layout::Grey,
        _ => return None,
    };
    let plane = |index: u32| {
        let stride = frame.plane_stride().get(index as usize).copied().unwrap_or_default();
        let bytes = if index < frame.n_planes() { frame.plane_data(index).ok() } else { None };
        Plane::new(bytes.unwrap_or_default(), usize::try_from(stride).unwrap_or_default())
    };
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => Matrix::Bt601,
        // BT.709 is the best approximation of the others (SMPTE 240M, BT.2020).
        _ => Matrix::Bt709,
    };
    Some(Image {
        width: frame.width(),
        height: frame.height(),
        layout,
        colour: Colour { matrix, full_range: colorimetry.range() == VideoColorRange::Range0_255 },
        planes: [0, 1, 2].map(plane),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: f64 = 0.04;

    /// For each time, whether it is a jump.
    fn jumps<const N: usize>(times: [f64; N], step: f64) -> [bool; N] {
        let mut clock = Clock::new(3.0);
        times.map(|time| clock.tick(Some(time), step).jumped)
    }

    #[test]
    fn a_frame_without_a_time_comes_a_step_later() {
        let mut clock = Clock::new(3.0);
        assert_eq!(clock.tick(Some(7.0), STEP), Tick { seconds: 7.0, jumped: false });
        assert_eq!(clock.tick(None, STEP), Tick { seconds: 7.0 + STEP, jumped: false });
    }

    #[test]
    fn only_a_long_gap_or_a_step_back_is_a_jump() {
        assert_eq!(jumps([7.0, 7.04, 7.04, 7.5, 10.4, 10.2], STEP), [false; 6]);
        let far = [1.0, 4.1, 3.5, 0.0, 0.04];
        assert_eq!(jumps(far, STEP), [false, true, true, true, false]);
    }

    #[test]
    fn a_slow_stream_does_not_jump_with_every_frame() {
        assert_eq!(jumps([0.0, 5.0, 10.0, 20.0, 35.0], 5.0), [false, false, false, false, true]);
    }

    #[test]
    fn playing_backwards_goes_on() {
        assert_eq!(jumps([-5.0, -4.96, -4.92], STEP), [false; 3]);
    }
}

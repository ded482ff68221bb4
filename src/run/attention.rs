//! Decides when nothing happens in a live stream, so that only its key frames need to be decoded.

use std::time::{Duration, Instant};

use mmface::Shows;

/// How long a stream is still watched closely after the last face or motion.
const LINGER: Duration = Duration::from_secs(5);

/// Whether something happens in a stream.
pub(super) struct Attention {
    last: Instant,
    is_idle: bool,
}

impl Attention {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, is_idle: false }
    }

    /// Takes note of a frame; returns whether the stream is idle if that has changed.
    pub(super) fn saw(&mut self, shows: Shows, now: Instant) -> Option<bool> {
        if shows.face || shows.motion {
            self.last = now;
        }
        let is_idle = now - self.last >= LINGER;
        (std::mem::replace(&mut self.is_idle, is_idle) != is_idle).then_some(is_idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_idle_some_seconds_after_the_last_face_or_motion() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (nothing, face, motion) = (
            Shows::default(),
            Shows { face: true, motion: false },
            Shows { face: false, motion: true },
        );
        let mut attention = Attention::new(start);
        assert_eq!(attention.saw(nothing, at(4)), None);
        assert_eq!(attention.saw(nothing, at(5)), Some(true));
        assert_eq!(attention.saw(nothing, at(9)), None);
        assert_eq!(attention.saw(motion, at(10)), Some(false));
        assert_eq!(attention.saw(face, at(14)), None);
        assert_eq!(attention.saw(nothing, at(18)), None);
        assert_eq!(attention.saw(nothing, at(19)), Some(true));
    }
}

//! Makes timestamps increase strictly, whatever the stream contains and however often it is lost.

use std::time::Duration;

/// Steps back of at most this many seconds count as disorder, larger ones as a restart of the
/// clock.
const JUMP: f64 = 1.0;
/// Frame rate that is assumed if the stream has none.
const DEFAULT_FPS: f64 = 30.0;

/// Repairs the timestamps of a run with all its connections.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    last: Option<f64>,
    offset: f64,
    /// Seconds between the last frame and the next, if that is of another connection.
    away: Option<f64>,
}

impl Timeline {
    /// The timestamp for a frame with the given `pts` (seconds), always later than the previous
    /// one. `fps` is 0 if unknown.
    pub(super) fn next(&mut self, pts: Option<f64>, fps: f64) -> f64 {
        let step = 1.0 / if fps > 0.0 { fps } else { DEFAULT_FPS };
        if let Some((away, last)) = self.away.take().zip(self.last) {
            self.offset = last + away.max(step) - pts.unwrap_or(0.0);
        }
        let stated = pts.map(|pts| pts + self.offset);
        let time = match (stated, self.last) {
            (Some(stated), Some(last)) if stated <= last => {
                if stated < last - JUMP {
                    // The stream's clock has restarted: continue from the last timestamp.
                    self.offset += last + step - stated;
                }
                last + step
            }
            (Some(stated), _) => stated,
            (None, Some(last)) => last + step,
            (None, None) => 0.0,
        };
        self.last = Some(time);
        time
    }

    /// The next frame is of another connection and comes this long after the last one.
    pub(super) fn go_on_after(&mut self, away: Duration) {
        self.away = Some(away.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(stamps: &[Option<f64>], fps: f64) -> Vec<f64> {
        let mut timeline = Timeline::default();
        stamps.iter().map(|&pts| (timeline.next(pts, fps) * 100.0).round() / 100.0).collect()
    }

    #[test]
    fn good_stamps_stay() {
        assert_eq!(repaired(&[Some(0.5), Some(0.6), Some(3.0)], 10.0), [0.5, 0.6, 3.0]);
    }

    #[test]
    fn missing_and_repeated_stamps_move_by_a_frame() {
        let stamps = [None, None, Some(0.1), Some(0.1), Some(0.5), Some(0.45)];
        assert_eq!(repaired(&stamps, 10.0), [0.0, 0.1, 0.2, 0.3, 0.5, 0.6]);
        assert_eq!(repaired(&[Some(1.0), None], 0.0), [1.0, 1.03]);
    }

    #[test]
    fn a_new_count_is_followed() {
        let stamps = [Some(99.9), Some(100.0), Some(0.0), Some(0.2), Some(0.3)];
        assert_eq!(repaired(&stamps, 10.0), [99.9, 100.0, 100.1, 100.3, 100.4]);
    }

    #[test]
    fn another_connection_goes_on_where_the_last_one_ended() {
        let mut timeline = Timeline::default();
        let mut next = |away: Option<f64>, pts| {
            if let Some(away) = away {
                timeline.go_on_after(Duration::from_secs_f64(away));
            }
            (timeline.next(Some(pts), 10.0) * 100.0).round() / 100.0
        };
        assert_eq!([next(None, 0.2), next(None, 7.0)], [0.2, 7.0]);
        assert_eq!([next(Some(2.5), 0.3), next(None, 0.4)], [9.5, 9.6]);
        // Its times may be later, earlier, or as they were before.
        assert_eq!([next(Some(1.0), 900.0), next(None, 900.1)], [10.6, 10.7]);
        // A gap is never shorter than a frame.
        assert_eq!([next(Some(0.0), 900.1), next(None, 900.2)], [10.8, 10.9]);
    }
}

//! Time stamps that only go up, whatever the stream says.

/// Smaller steps back than this (in seconds) are disorder; larger ones are a new count.
const JUMP: f64 = 1.0;
/// Frame rate for streams that tell none.
const USUAL_FPS: f64 = 30.0;

/// Repairs the time stamps of one connection.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    last: Option<f64>,
    offset: f64,
}

impl Timeline {
    /// The time stamp to use for a frame that says `pts` (seconds), always later than the one before
    /// it. `fps` is 0 where unknown.
    pub(super) fn next(&mut self, pts: Option<f64>, fps: f64) -> f64 {
        let step = 1.0 / if fps > 0.0 { fps } else { USUAL_FPS };
        let told = pts.map(|pts| pts + self.offset);
        let time = match (told, self.last) {
            (Some(told), Some(last)) if told <= last => {
                if told < last - JUMP {
                    // The stream started to count anew; follow it from here.
                    self.offset += last + step - told;
                }
                last + step
            }
            (Some(told), _) => told,
            (None, Some(last)) => last + step,
            (None, None) => 0.0,
        };
        self.last = Some(time);
        time
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
}

//! Thins a stream out to a frame rate.

/// Takes at most so many frames a second, as evenly as the stream's own times allow.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Seconds between frames that are taken.
    interval: f64,
    /// From when on the next one is taken, and of which connection; `None` before the first.
    due: Option<(u32, f64)>,
}

impl Pace {
    pub(super) fn new(max_fps: f64) -> Self {
        Self { interval: 1.0 / max_fps, due: None }
    }

    /// Whether the frame at `pts` seconds is taken.
    pub(super) fn takes(&mut self, pts: f64, connection: u32) -> bool {
        let due = self.due.filter(|&(of, _)| of == connection).map_or(pts, |(_, due)| due);
        // Containers round times, some to a millisecond.
        const ROUNDING: f64 = 1e-3;
        if pts < due - ROUNDING && pts > due - self.interval - ROUNDING {
            return false;
        }
        // What came late does not make the next ones come early. Time that jumps begins anew.
        let on_time = (pts - due).abs() < self.interval;
        self.due = Some((connection, if on_time { due } else { pts } + self.interval));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many frames of a stream are taken, and the shortest time between two of them.
    fn thinned(fps: f64, max_fps: f64, seconds: f64) -> (usize, f64) {
        let mut pace = Pace::new(max_fps);
        let times = (0..(fps * seconds) as u32).map(|n| (1e3 * f64::from(n) / fps).round() / 1e3);
        let taken: Vec<f64> = times.filter(|&pts| pace.takes(pts, 1)).collect();
        let gaps = taken.windows(2).map(|pair| pair[1] - pair[0]);
        (taken.len(), gaps.fold(f64::INFINITY, f64::min))
    }

    #[test]
    fn the_rate_is_kept_and_frames_are_even() {
        assert_eq!(thinned(30.0, 30.0, 10.0).0, 300);
        assert_eq!(thinned(25.0, 60.0, 10.0).0, 250);
        let (taken, shortest) = thinned(30.0, 15.0, 10.0);
        assert!(taken == 150 && shortest > 0.0655, "{taken} {shortest}");
        assert_eq!(thinned(30.0, 1.0, 10.0).0, 10);
        // 24 of 30 frames: no even spacing, but the right number.
        let (taken, _) = thinned(30.0, 24.0, 10.0);
        assert!((239..=241).contains(&taken), "{taken}");
    }

    #[test]
    fn gaps_and_jumps_begin_anew() {
        let mut pace = Pace::new(10.0);
        assert!(pace.takes(5.0, 1) && !pace.takes(5.05, 1) && pace.takes(5.1, 1));
        // A pause earns nothing.
        assert!(pace.takes(9.03, 1) && !pace.takes(9.06, 1) && !pace.takes(9.09, 1));
        assert!(pace.takes(9.13, 1));
        // Another connection, and time that runs back.
        assert!(pace.takes(9.14, 2) && !pace.takes(9.2, 2));
        assert!(pace.takes(1.0, 2) && !pace.takes(1.05, 2) && pace.takes(1.1, 2));
    }
}

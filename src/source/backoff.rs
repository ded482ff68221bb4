//! Waiting times between attempts to reconnect.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Seconds to wait before each attempt; the last value repeats.
const WAITS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Relative random variation of a wait, so that the clients of a server that was restarted do not
/// all reconnect at the same time.
const JITTER: f64 = 0.2;

/// Growing waits between attempts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: usize,
}

impl Backoff {
    /// The time to wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        // The standard library's hasher has a random seed, which is random enough here.
        let chance = RandomState::new().hash_one(self.tries) as f64 / u64::MAX as f64;
        self.wait(chance)
    }

    /// As [`next`](Self::next), for a given random number (0…1).
    fn wait(&mut self, chance: f64) -> Duration {
        let seconds = WAITS[self.tries.min(WAITS.len() - 1)];
        self.tries += 1;
        Duration::from_secs_f64(seconds * (1.0 + JITTER * (2.0 * chance - 1.0)))
    }

    /// An attempt was successful: start with short waits again.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<f64> = (0..6).map(|_| backoff.wait(0.5).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 5.0, 10.0, 10.0, 10.0]);
        backoff.reset();
        assert_eq!(backoff.wait(0.5).as_secs_f64(), 1.0);
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        assert_eq!(Backoff::default().wait(0.0).as_secs_f64(), 0.8);
        assert_eq!(Backoff::default().wait(1.0).as_secs_f64(), 1.2);
        let mut backoff = Backoff::default();
        let wait = backoff.next().as_secs_f64();
        assert!((0.8..=1.2).contains(&wait), "{wait}");
    }
}

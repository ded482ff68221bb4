//! How many streams a worker takes.

use std::time::{Duration, Instant};

use super::runs::Runs;
use crate::watch::process;

/// Part of the processors that may be in use.
const FULL: f64 = 0.8;
/// Part of the frames that may be lost because the machine is too slow.
const LOSSES: f64 = 0.05;
/// Streams on each core until something is known: 15 frames a second with one face each.
const PER_CORE: usize = 2;
/// Most streams on each core.
const MOST: usize = 64;

/// How often the load is measured where the capacity follows it.
const MEASURE: Duration = Duration::from_secs(10);

/// Which part of a machine a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// As many streams as the measured load allows.
    Auto,
    /// So many.
    Streams(usize),
}

/// What was measured over some seconds.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Part of all cores that was in use, 0…1.
    busy: f64,
    /// Part of the frames that was lost because the machine was too slow, 0…1.
    lost: f64,
    /// Streams of which frames came.
    streams: usize,
}

/// The capacity before anything is measured.
fn at_first(cores: usize) -> usize {
    cores.max(1) * PER_CORE
}

/// The next capacity: a step towards what the measured load allows.
fn next(capacity: usize, cores: usize, measured: Measured) -> usize {
    let Measured { busy, lost, streams } = measured;
    if streams == 0 {
        return capacity;
    }
    let fits = (streams as f64 * FULL / busy.max(0.01)) as usize;
    let fits = if lost > LOSSES { fits.min(streams.saturating_sub(1)) } else { fits };
    let fits = fits.clamp(1, cores.max(1) * MOST);
    // One step at a time, and none for a small difference: others count on it.
    match fits {
        more if more > capacity + 1 => capacity + 1,
        less if less < capacity => capacity - 1,
        _ => capacity,
    }
}

/// How much the machine has to do.
pub(super) struct Load {
    pub(super) capacity: usize,
    follows: bool,
    cores: usize,
    at: Instant,
    cpu: f64,
    frames: (u64, u64),
}

impl Load {
    pub(super) fn new(capacity: Capacity) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let streams = match capacity {
            Capacity::Auto => at_first(cores),
            Capacity::Streams(streams) => streams,
        };
        Self {
            capacity: streams,
            follows: capacity == Capacity::Auto,
            cores,
            at: Instant::now(),
            cpu: process::usage().map_or(0.0, |usage| usage.cpu_seconds),
            frames: (0, 0),
        }
    }

    /// A new capacity, if it is time for one.
    pub(super) fn measure(&mut self, runs: &Runs) -> Option<usize> {
        let time = self.at.elapsed();
        if !self.follows || time < MEASURE {
            return None;
        }
        let cpu = process::usage()?.cpu_seconds;
        let (decoded, busy, streams) = runs.frames();
        let (new, lost) =
            (decoded.saturating_sub(self.frames.0), busy.saturating_sub(self.frames.1));
        let measured = Measured {
            busy: (cpu - self.cpu) / time.as_secs_f64() / self.cores as f64,
            lost: lost as f64 / (new + lost).max(1) as f64,
            streams,
        };
        (self.at, self.cpu, self.frames) = (Instant::now(), cpu, (decoded, busy));
        self.capacity = next(self.capacity, self.cores, measured);
        Some(self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(from: usize, measure: impl Fn(usize) -> Measured) -> usize {
        (0..200).fold(from, |capacity, _| next(capacity, 2, measure(capacity)))
    }

    #[test]
    fn it_follows_what_a_stream_costs() {
        // A stream takes a tenth of the machine, and as many run as fit.
        let costs = |each: f64| {
            move |streams: usize| Measured { busy: each * streams as f64, lost: 0.0, streams }
        };
        assert!((7..=8).contains(&settle(at_first(2), costs(0.1))));
        assert!((1..=2).contains(&settle(at_first(2), costs(0.5))));
        assert!((127..=128).contains(&settle(1, costs(0.0001))), "no more than 64 on a core");
        let idle = Measured { busy: 0.0, lost: 0.0, streams: 0 };
        assert_eq!(next(4, 2, idle), 4);
    }

    #[test]
    fn who_loses_frames_takes_less() {
        let measured = Measured { busy: 0.5, lost: 0.2, streams: 4 };
        assert_eq!(next(4, 2, measured), 3);
        assert_eq!(next(1, 2, Measured { streams: 1, ..measured }), 1);
    }
}

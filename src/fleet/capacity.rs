//! How many streams a worker takes, where the user does not say.

/// Part of the processors that may be in use.
const FULL: f64 = 0.8;
/// Part of the frames that may be lost because the machine is too slow.
const LOSSES: f64 = 0.05;
/// Streams on each core until something is known: 15 frames a second with one face each.
const PER_CORE: usize = 2;
/// Most streams on each core.
const MOST: usize = 64;

/// What was measured over some seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// Part of all cores that was in use, 0…1.
    pub(super) busy: f64,
    /// Part of the frames that was lost because the machine was too slow, 0…1.
    pub(super) lost: f64,
    /// Streams of which frames came.
    pub(super) streams: usize,
}

/// The capacity before anything is measured.
pub(super) fn at_first(cores: usize) -> usize {
    cores.max(1) * PER_CORE
}

/// The next capacity: a step towards what the measured load allows.
pub(super) fn next(capacity: usize, cores: usize, measured: Measured) -> usize {
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

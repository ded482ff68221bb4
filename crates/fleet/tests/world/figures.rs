//! What came out.

use std::fmt;

use fleet::Millis;

use super::Scale;

/// What happened, and what it cost.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub kills: usize,
    pub pauses: usize,
    pub partitions: usize,
    pub restarts: usize,
    /// Runs that were started, and those on another worker than the one before.
    pub starts: usize,
    pub moves: usize,
    /// Streams that ran on workers that were killed.
    pub hit: usize,
    /// Times without a run: how many, their sum, and the longest; store restarts not counted.
    pub gaps: usize,
    pub idle: Millis,
    pub longest: Millis,
    /// The longest time including those of the store.
    pub longest_of_all: Millis,
    /// The fullest worker against the mean: the mean over the time.
    pub imbalance: f64,
    samples: usize,
}

impl Figures {
    pub fn lost(&mut self, streams: usize) {
        self.hit += streams;
    }

    pub fn idle(&mut self, counted: Millis, whole: Millis) {
        self.gaps += 1;
        self.idle += counted;
        self.longest = self.longest.max(counted);
        self.longest_of_all = self.longest_of_all.max(whole);
    }

    /// A stream that still waits.
    pub fn waits(&mut self, counted: Millis) {
        self.longest = self.longest.max(counted);
    }

    pub fn balanced(&mut self, streams: impl Iterator<Item = usize>, counts: bool) {
        let streams: Vec<_> = streams.collect();
        let sum: usize = streams.iter().sum();
        if !counts || sum == 0 {
            return;
        }
        let mean = sum as f64 / streams.len() as f64;
        let most = streams.iter().max().map_or(0.0, |most| *most as f64);
        self.samples += 1;
        self.imbalance += (most / mean - self.imbalance) / self.samples as f64;
    }

    /// What must hold.
    pub fn check(&self, scale: Scale) {
        // Twice the lease, the connection, and what a run takes to stop.
        let most = 2 * scale.lease + 2000 + 1000;
        assert!(self.longest <= most, "a stream had no run for {} ms: {self}", self.longest);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, pauses, partitions, restarts, starts, moves, hit, gaps, .. } = self;
        let faults = (kills + pauses + partitions + restarts).max(1);
        write!(
            f,
            "{kills} kills ({hit} streams hit), {pauses} pauses, {partitions} partitions, \
             {restarts} restarts of the store; {starts} starts, {:.1} moves a fault; {gaps} times \
             without a run, {:.1} s each, at most {:.1} s ({:.1} s with restarts of the store); \
             fullest worker {:.2} of the mean",
            *moves as f64 / faults as f64,
            self.idle as f64 / (*gaps).max(1) as f64 / 1e3,
            self.longest as f64 / 1e3,
            self.longest_of_all as f64 / 1e3,
            self.imbalance,
        )
    }
}

//! Histograms of latencies, in fixed memory for runs of any length.

use mmface::record::Percentiles;

/// Ratio of successive bucket limits: quantiles are accurate to 1 %.
const GROWTH: f64 = 1.02;
/// End of the first bucket in milliseconds. The last one ends at more than an hour.
const LOWEST: f64 = 0.01;
const BUCKETS: usize = 1000;

/// Upper limits of the buckets of the metrics, in seconds. What is above the last is counted too.
pub const LIMITS: [f64; 12] =
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Values in the few buckets of the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Buckets {
    /// Values up to each limit and above the one before; last those above all limits.
    pub counts: [u64; LIMITS.len() + 1],
    /// Sum of all values in seconds.
    pub sum: f64,
}

impl Buckets {
    fn add(&mut self, seconds: f64) {
        let bucket = LIMITS.iter().position(|limit| seconds <= *limit);
        self.counts[bucket.unwrap_or(LIMITS.len())] += 1;
        if seconds.is_finite() {
            self.sum += seconds;
        }
    }

    /// Adds the values of another.
    pub fn add_all(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }
}

/// Counts values in milliseconds in buckets of growing width.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    buckets: Buckets,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, buckets: Buckets::default() }
    }
}

impl Histogram {
    /// Adds a value.
    pub(crate) fn add(&mut self, ms: f64) {
        let bucket = (ms / LOWEST).max(1.0).ln() / GROWTH.ln();
        self.counts[(bucket as usize).min(BUCKETS - 1)] += 1;
        self.total += 1;
        self.buckets.add(ms / 1e3);
    }

    /// The same values in the buckets of the metrics.
    pub(crate) fn buckets(&self) -> Buckets {
        self.buckets
    }

    /// The value that the share `part` (0…1) of all values does not exceed; 0 if there are none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (self.total as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map_or(0.0, |b| LOWEST * GROWTH.powf(b as f64 + 0.5))
    }

    /// The reported percentiles.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|part| self.quantile(part));
        Percentiles { p50, p95, p99 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0.0);
        (1..=1000).for_each(|i| histogram.add(f64::from(i) / 10.0));
        for (part, expected) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
            let found = histogram.quantile(part);
            assert!((found / expected - 1.0).abs() < 0.02, "{found} for {expected}");
        }
    }

    #[test]
    fn absurd_values_do_not_matter() {
        let mut histogram = Histogram::default();
        [f64::NAN, -1.0, 0.0, f64::INFINITY].into_iter().for_each(|v| histogram.add(v));
        assert!(histogram.quantile(0.5).is_finite());
        assert!(histogram.buckets().sum.is_finite());
    }

    #[test]
    fn a_bucket_holds_its_upper_limit() {
        let mut histogram = Histogram::default();
        [0.0, 2.5, 2.51, 10_000.0, 10_001.0].into_iter().for_each(|ms| histogram.add(ms));
        let mut buckets = histogram.buckets();
        assert_eq!(buckets.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        buckets.add_all(&histogram.buckets());
        assert_eq!(buckets.counts.iter().sum::<u64>(), 10);
        assert!((buckets.sum - 2.0 * 20.006_01).abs() < 1e-9, "{}", buckets.sum);
    }
}

//! Curves over time in bounded memory. A point covers several frames and keeps their extremes, so
//! that a blink is visible however long the run was.

/// Points of several curves at common times. Each point covers up to `stride` frames.
#[derive(Debug, Default)]
pub struct Points {
    stride: u32,
    /// Number of frames in the last point.
    filled: u32,
    /// Number of curves.
    width: usize,
    /// Time in seconds of each point's first frame.
    pub time: Vec<f32>,
    /// Least value of each curve, [points × curves].
    pub low: Vec<f32>,
    /// Greatest value of each curve, [points × curves].
    pub high: Vec<f32>,
    /// Further values of each point's first frame, [points × values].
    pub sample: Vec<f32>,
}

impl Points {
    /// No points yet; each will cover `stride` frames.
    pub fn new(stride: u32) -> Self {
        Self { stride, ..Self::default() }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Adds a frame; the numbers of curves and of samples must not change. True if it starts a new
    /// point.
    pub fn add(&mut self, time: f64, curves: &[f32], sample: &[f32]) -> bool {
        let begins = self.time.is_empty() || self.filled == self.stride;
        if begins {
            self.width = curves.len();
            self.filled = 1;
            self.time.push(time as f32);
            self.low.extend(curves);
            self.high.extend(curves);
            self.sample.extend(sample);
        } else {
            self.filled += 1;
            let last = self.low.len() - self.width;
            for (k, value) in curves.iter().enumerate() {
                self.low[last + k] = self.low[last + k].min(*value);
                self.high[last + k] = self.high[last + k].max(*value);
            }
        }
        begins
    }

    /// Merges pairs of points: half as many, each covering twice as many frames.
    pub fn halve(&mut self) {
        let count = self.len();
        if count > 0 && count.is_multiple_of(2) {
            self.filled += self.stride;
        }
        self.stride = self.stride.saturating_mul(2);
        self.time = self.time.iter().step_by(2).copied().collect();
        let numbers = self.sample.len() / count.max(1);
        self.sample = firsts(&self.sample, numbers);
        self.low = pairs(&self.low, self.width, f32::min);
        self.high = pairs(&self.high, self.width, f32::max);
    }
}

/// Every other row, starting with the first.
fn firsts(rows: &[f32], width: usize) -> Vec<f32> {
    rows.chunks(width.max(1)).step_by(2).flatten().copied().collect()
}

/// Merges pairs of rows. A last single row is kept.
fn pairs(rows: &[f32], width: usize, join: fn(f32, f32) -> f32) -> Vec<f32> {
    let width = width.max(1);
    let joined = rows.chunks(2 * width).flat_map(|pair| {
        let (a, b) = pair.split_at(width);
        (0..width).map(move |k| b.get(k).map_or(a[k], |b| join(a[k], *b)))
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Thinned on the way or at once, a point is the least and the greatest of its frames.
        #[test]
        fn points_keep_the_extremes(
            values in prop::collection::vec(-9f32..9.0, 1..200), halvings in prop::collection::vec(0usize..200, 0..4),
        ) {
            let mut points = Points::new(1);
            let mut stride = 1;
            for (i, value) in values.iter().enumerate() {
                points.add(i as f64, &[*value, 2.0 * value], &[*value]);
                for _ in halvings.iter().filter(|at| **at == i) {
                    points.halve();
                    stride *= 2;
                }
            }
            prop_assert_eq!(points.len(), values.len().div_ceil(stride));
            for (i, frames) in values.chunks(stride).enumerate() {
                prop_assert_eq!(points.time[i], (i * stride) as f32);
                prop_assert_eq!(points.sample[i], frames[0]);
                prop_assert_eq!(points.low[2 * i], frames.iter().copied().fold(f32::MAX, f32::min));
                prop_assert_eq!(points.high[2 * i + 1], 2.0 * frames.iter().copied().fold(f32::MIN, f32::max));
            }
        }
    }
}

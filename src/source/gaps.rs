//! How many frames are in a gap, of which not a single packet came.
//!
//! Frames come at even distances. Where timestamps of neighbours lie further apart, frames are
//! missing, provided that packets are missing as well: a camera that leaves frames out by itself
//! loses none.

use std::collections::VecDeque;

/// Distances that are remembered.
const KEPT: usize = 64;
/// So many distances are better than what the stream says about its rate.
const ENOUGH: usize = 8;
/// A frame is shown at most so many frames earlier or later than it comes.
const REORDERED: u64 = 16;

/// Packets that are missing between frames at two times.
#[derive(Debug, Clone, Copy)]
struct Gap {
    from: u64,
    to: u64,
    /// Packets that no missing frame is found for yet.
    packets: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: VecDeque<Gap>,
    /// Time of the last frame, in the order in which they are shown.
    last: Option<u64>,
    /// Distances between frames.
    distances: VecDeque<u64>,
    /// The distance according to the stream; 0 if it does not say.
    stated: u64,
}

impl Gaps {
    /// Packets are missing between two that came, of frames at these times.
    pub(super) fn lost(&mut self, before: u64, after: u64, packets: u32) {
        if self.open.len() == KEPT * 16 {
            self.open.pop_front();
        }
        let (from, to) = (before.min(after), before.max(after));
        self.open.push_back(Gap { from, to, packets: packets.into() });
    }

    /// Frames a second, as the stream says.
    pub(super) fn rate(&mut self, fps: f64) {
        self.stated = if fps > 0.0 { (1e9 / fps) as u64 } else { 0 };
    }

    /// The next frame that came, whole or not, in the order in which they are shown. Returns how many
    /// are missing between it and the one before.
    pub(super) fn frame(&mut self, time: u64) -> u64 {
        let Some(last) = self.last.replace(time).filter(|&last| time > last) else { return 0 };
        if self.distances.len() == KEPT {
            self.distances.pop_front();
        }
        self.distances.push_back(time - last);
        let distance = self.distance();
        if self.open.is_empty() || distance == 0 {
            return 0;
        }
        let holes = ((time - last + distance / 2) / distance).saturating_sub(1);
        let reach = REORDERED * distance;
        let mut left = holes;
        for gap in &mut self.open {
            if gap.from < time + reach && gap.to + reach > last {
                let found = left.min(gap.packets);
                gap.packets -= found;
                left -= found;
            }
        }
        self.open.retain(|gap| gap.packets > 0 && gap.to + reach > time);
        holes - left
    }

    /// Nanoseconds from frame to frame; 0 if unknown.
    fn distance(&self) -> u64 {
        if self.stated > 0 && self.distances.len() < ENOUGH {
            return self.stated;
        }
        let mut sorted: Vec<_> = self.distances.iter().copied().collect();
        sorted.sort_unstable();
        // Even where half of all frames are lost, a quarter of the distances are those of neighbours.
        let Some(&usual) = sorted.get(sorted.len() / 4) else { return 0 };
        // Cameras tell uneven times; their mean is even.
        let near = sorted.iter().filter(|d| d.abs_diff(usual) < usual / 2);
        let (sum, count) = near.fold((0, 0), |(sum, count), d| (sum + d, count + 1));
        sum / u64::max(count, 1)
    }
}

//! Keeps all but key frames of a live stream from the decoder while nothing happens in it.
//!
//! The frames behind a key frame are kept until it is known whether the key frame shows anything.
//! If it does, they are decoded and none is lost; if not, they are left out.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;

use super::Facts;
use super::rtp::lock;

/// Most frames that are kept: those of two seconds at 30 a second. What shows in a key frame is
/// known within a tenth of a second.
const MOST_KEPT: usize = 60;
/// A stream whose key frames are farther apart is decoded as it comes: what happens in it would show
/// too late.
const FARTHEST_KEYS: Duration = Duration::from_secs(12);
/// After so long without a key frame none is expected any more.
const NO_KEYS: Duration = Duration::from_secs(60);

/// A gate in front of a decoder, closed while [`Facts::idle`] is set.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    facts: Arc<Facts>,
    state: Arc<Mutex<State<gst::Buffer>>>,
}

impl Gate {
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        Self { facts, state: Arc::default() }
    }

    /// A frame comes. `None` if it is not decoded now; else the frames that were kept and have to be
    /// decoded before it.
    pub(super) fn pass(&self, frame: &gst::Buffer) -> Option<Vec<gst::Buffer>> {
        let is_key = !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let is_idle = self.facts.idle.load(Ordering::Relaxed);
        lock(&self.state).frame(|| frame.clone(), is_key, is_idle, Instant::now())
    }

    /// Lets frames that were kept through while `decode` runs.
    pub(super) fn replay(&self, decode: impl FnOnce()) {
        lock(&self.state).replaying = true;
        decode();
        lock(&self.state).replaying = false;
    }
}

/// Which frames may be decoded.
#[derive(Debug)]
struct State<B> {
    /// Frames behind the last key frame that were held back.
    kept: Vec<B>,
    /// Whether frames are held back. Begins and ends at key frames, or when all that was held back
    /// is decoded after all.
    is_closed: bool,
    /// Whether everything since the last key frame was decoded or is kept.
    is_whole: bool,
    /// Whether frames come from `kept`.
    replaying: bool,
    last_key: Option<Instant>,
}

impl<B> Default for State<B> {
    fn default() -> Self {
        let (is_closed, is_whole, replaying) = (false, true, false);
        Self { kept: Vec::new(), is_closed, is_whole, replaying, last_key: None }
    }
}

impl<B> State<B> {
    /// See [`Gate::pass`].
    fn frame(
        &mut self,
        frame: impl FnOnce() -> B,
        is_key: bool,
        is_idle: bool,
        now: Instant,
    ) -> Option<Vec<B>> {
        if self.replaying {
            return Some(Vec::new());
        }
        let since_key = self.last_key.map(|last| now - last);
        if is_key {
            self.last_key = Some(now);
            self.is_closed = is_idle && since_key.is_some_and(|since| since <= FARTHEST_KEYS);
            self.is_whole = true;
            self.kept.clear();
            return Some(Vec::new());
        }
        let no_keys = since_key.is_none_or(|since| since > NO_KEYS);
        if self.is_closed && (no_keys || (!is_idle && self.is_whole)) {
            self.is_closed = false;
        }
        if !self.is_closed {
            return Some(std::mem::take(&mut self.kept));
        }
        if self.is_whole && self.kept.len() < MOST_KEPT {
            self.kept.push(frame());
        } else {
            // Without the frames before it, no further one can be decoded until a key frame comes.
            self.is_whole = false;
            self.kept.clear();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is decoded of frames that are given as (key?, idle?).
    fn decoded(frames: &[(bool, bool)]) -> Vec<usize> {
        let now = Instant::now();
        let mut state = State::default();
        let mut decoded = Vec::new();
        for (number, &(is_key, is_idle)) in frames.iter().enumerate() {
            if let Some(first) = state.frame(|| number, is_key, is_idle, now) {
                decoded.extend(first);
                decoded.push(number);
            }
        }
        decoded
    }

    const KEY: (bool, bool) = (true, true);
    const IDLE: (bool, bool) = (false, true);
    const AWAKE: (bool, bool) = (false, false);

    #[test]
    fn an_idle_stream_gives_key_frames_and_misses_nothing_when_it_wakes() {
        // How far apart key frames are is known from the second on.
        assert_eq!(decoded(&[KEY, IDLE, KEY, IDLE, IDLE, KEY, IDLE]), vec![0, 1, 2, 5]);
        assert_eq!(decoded(&[KEY, KEY, IDLE, IDLE, AWAKE, AWAKE]), vec![0, 1, 2, 3, 4, 5]);
        let mut long = vec![KEY, KEY];
        long.extend(std::iter::repeat_n(IDLE, MOST_KEPT + 5));
        long.extend([AWAKE, AWAKE, (true, false), AWAKE]);
        let last = long.len() - 1;
        assert_eq!(decoded(&long), vec![0, 1, last - 1, last]);
    }

    #[test]
    fn streams_with_few_key_frames_are_decoded_as_they_come() {
        let mut state = State::default();
        let start = Instant::now();
        let mut passes = |seconds: u64, is_key: bool| {
            let now = start + Duration::from_secs(seconds);
            state.frame(|| seconds, is_key, true, now).is_some()
        };
        assert!(passes(0, false) && passes(1, true) && passes(2, false));
        assert!(passes(14, true) && passes(15, false), "keys every 13 seconds");
        assert!(passes(20, true) && !passes(21, false), "keys every 6 seconds");
        assert!(passes(90, false), "no more keys");
    }

    proptest! {
        #[test]
        fn frames_are_decoded_in_order_and_with_all_they_depend_on(
            frames in prop::collection::vec((prop::bool::weighted(0.05), any::<bool>()), 1..400)
        ) {
            let decoded = decoded(&frames);
            prop_assert!(decoded.windows(2).all(|pair| pair[0] < pair[1]));
            // A frame is decoded only if the one before it was, or if it is a key frame.
            let follows = |n: &usize| *n == 0 || frames[*n].0 || decoded.contains(&(n - 1));
            prop_assert!(decoded.iter().all(follows));
        }
    }
}

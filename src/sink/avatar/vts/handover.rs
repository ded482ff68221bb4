//! Hands the newest frame to the session's thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The parameters of a frame.
#[derive(Debug, PartialEq)]
pub(super) struct Values {
    /// Whether there is a face.
    pub(super) found: bool,
    /// Those that every VTube Studio has, by name.
    pub(super) standard: Vec<(&'static str, f32)>,
    /// Those that are created, in their order.
    pub(super) created: Vec<f32>,
}

/// A place for one frame.
#[derive(Default)]
pub(super) struct Handover {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The newest frame, until it is taken.
    fresh: Option<Arc<Values>>,
    /// Somebody can use frames.
    open: bool,
    /// There will be no more.
    over: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It will be taken.
    Kept,
    /// It will be taken, and the one before it never was.
    Replaced,
    /// Nobody can use it.
    Refused,
}

/// What there is for the session.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// A frame.
    Frame(Arc<Values>),
    /// No frame yet.
    Nothing,
    /// No more frames.
    Over,
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame into the place.
    pub(super) fn put(&self, values: Values) -> Put {
        let mut state = self.lock();
        if !state.open {
            return Put::Refused;
        }
        let before = state.fresh.replace(Arc::new(values));
        self.changed.notify_one();
        if before.is_some() { Put::Replaced } else { Put::Kept }
    }

    /// Whether frames can be used from now on.
    pub(super) fn set_open(&self, open: bool) {
        let mut state = self.lock();
        state.open = open;
        state.fresh = None;
    }

    /// There will be no more frames.
    pub(super) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_one();
    }

    /// The next frame, which is waited for until `patience` is over.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let state = self.lock();
        let nothing = |state: &mut State| state.fresh.is_none() && !state.over;
        let waited = self.changed.wait_timeout_while(state, patience, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.fresh.take() {
            Some(values) => Next::Frame(values),
            None if state.over => Next::Over,
            None => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(value: f32) -> Values {
        Values { found: true, standard: vec![("MouthOpen", value)], created: vec![] }
    }

    #[test]
    fn the_newest_frame_is_taken_once() {
        let handover = Handover::default();
        assert_eq!(handover.put(values(0.0)), Put::Refused);
        assert_eq!(handover.next(Duration::ZERO), Next::Nothing);
        handover.set_open(true);
        assert_eq!(handover.put(values(0.1)), Put::Kept);
        assert_eq!(handover.put(values(0.2)), Put::Replaced);
        handover.end();
        let newest = Next::Frame(Arc::new(values(0.2)));
        assert_eq!(handover.next(Duration::from_secs(60)), newest, "the last one is not lost");
        assert_eq!(handover.next(Duration::from_secs(60)), Next::Over);
    }
}

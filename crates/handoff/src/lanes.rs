//! Equal workers ("lanes") that several threads share.
//!
//! A thread that needs a lane waits in a queue for it, takes one or more, works with them itself
//! and gives them back. There is no server thread. Threads that arrive one after the other are
//! served in that order, so each gets on after at most one turn of every thread before it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use crate::sync::{Condvar, Mutex, lock, wait};

/// A thread panicked while it used a lane, so the lanes cannot be trusted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// Lanes of type `L`, and the queue for them.
pub struct Lanes<L> {
    state: Mutex<State<L>>,
    /// Notified when a lane is given back or the queue moves.
    changed: Condvar,
    count: usize,
}

struct State<L> {
    idle: Vec<L>,
    /// Tickets of the threads that wait for a lane.
    queue: VecDeque<u64>,
    next_ticket: u64,
    /// Number of visitors that are inside.
    inside: usize,
    /// Who came last.
    last_visitor: Option<u64>,
    panicked: bool,
}

impl<L> Lanes<L> {
    /// Shares `lanes`.
    pub fn new(lanes: Vec<L>) -> Self {
        let count = lanes.len();
        let state = State {
            idle: lanes,
            queue: VecDeque::new(),
            next_ticket: 0,
            inside: 0,
            last_visitor: None,
            panicked: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), count }
    }

    /// Announces that `visitor` will soon need lanes. While others are inside, everybody takes a
    /// smaller share.
    pub fn enter(&self, visitor: u64) -> Visit<'_, L> {
        let mut state = lock(&self.state);
        state.inside += 1;
        let came_last = state.last_visitor.replace(visitor).is_none_or(|last| last == visitor);
        drop(state);
        Visit { lanes: self, came_last }
    }

    /// `visitor` will not come again, so whoever comes next is not disturbed by it.
    pub fn forget(&self, visitor: u64) {
        let mut state = lock(&self.state);
        if state.last_visitor == Some(visitor) {
            state.last_visitor = None;
        }
    }
}

/// A visitor of [`Lanes`], from [`Lanes::enter`] on.
pub struct Visit<'a, L> {
    lanes: &'a Lanes<L>,
    /// Whether nobody else came since this visitor's last visit.
    came_last: bool,
}

impl<'a, L> Visit<'a, L> {
    /// Whether nobody else is inside, and nobody came since this visitor's last visit.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.came_last && lock(&self.lanes.state).inside == 1
    }

    /// Waits for lanes: at least one, and at most `most` or this visitor's share of all.
    ///
    /// # Errors
    /// [`Panicked`], now or while it waits.
    pub fn take(&self, most: usize) -> Result<Lease<'a, L>, Panicked> {
        let mut state = lock(&self.lanes.state);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.push_back(ticket);
        while !state.panicked && (state.queue.front() != Some(&ticket) || state.idle.is_empty()) {
            state = wait(&self.lanes.changed, state);
        }
        state.queue.retain(|waiting| *waiting != ticket);
        if state.panicked {
            return Err(Panicked);
        }
        let share = self.lanes.count.div_ceil(state.inside);
        let left = state.idle.len().saturating_sub(most.clamp(1, share.max(1)));
        let taken = state.idle.split_off(left);
        drop(state);
        // The next one in the queue may find a lane too.
        self.lanes.changed.notify_all();
        Ok(Lease { lanes: self.lanes, taken })
    }
}

impl<L> Drop for Visit<'_, L> {
    fn drop(&mut self) {
        lock(&self.lanes.state).inside -= 1;
    }
}

/// Lanes that were taken. Dropping them gives them back.
pub struct Lease<'a, L> {
    lanes: &'a Lanes<L>,
    taken: Vec<L>,
}

impl<L> Deref for Lease<'_, L> {
    type Target = [L];

    fn deref(&self) -> &[L] {
        &self.taken
    }
}

impl<L> DerefMut for Lease<'_, L> {
    fn deref_mut(&mut self) -> &mut [L] {
        &mut self.taken
    }
}

impl<L> Drop for Lease<'_, L> {
    fn drop(&mut self) {
        let mut state = lock(&self.lanes.state);
        state.panicked |= std::thread::panicking();
        state.idle.append(&mut self.taken);
        drop(state);
        self.lanes.changed.notify_all();
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::thread;

    use super::*;
    use crate::sync::Arc;

    fn add(lanes: &Lanes<u32>, visitor: u64, times: u32) {
        let visit = lanes.enter(visitor);
        for _ in 0..times {
            visit.take(1).expect("nobody panics")[0] += 1;
        }
    }

    #[test]
    fn two_threads_share_one_lane_in_every_order() {
        loom::model(|| {
            let lanes = Arc::new(Lanes::new(vec![0]));
            let other = lanes.clone();
            let thread = thread::spawn(move || add(&other, 1, 2));
            add(&lanes, 0, 1);
            thread.join().expect("joined");
            let visit = lanes.enter(0);
            assert_eq!(visit.take(5).expect("nobody panics")[..], [3]);
        });
    }

    #[test]
    fn two_threads_share_two_lanes_in_every_order() {
        loom::model(|| {
            let lanes = Arc::new(Lanes::new(vec![0, 0]));
            let other = lanes.clone();
            let thread = thread::spawn(move || add(&other, 1, 1));
            add(&lanes, 0, 1);
            thread.join().expect("joined");
            let visit = lanes.enter(0);
            assert_eq!(visit.take(5).expect("nobody panics").iter().sum::<u32>(), 2);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Waits until `count` threads are in the queue.
    fn until_waiting<L>(lanes: &Lanes<L>, count: usize) {
        for _ in 0..3000 {
            if lock(&lanes.state).queue.len() == count {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{count} threads never waited");
    }

    #[test]
    fn who_is_gone_disturbs_nobody() {
        let lanes = Lanes::new(vec![()]);
        let came = |visitor: u64| lanes.enter(visitor).is_alone();
        assert!(came(1) && !came(2) && came(2));
        lanes.forget(1);
        assert!(!came(3));
        lanes.forget(3);
        assert!(came(2));
    }

    #[test]
    fn who_is_alone_gets_all_lanes() {
        let lanes = Lanes::new(vec![(); 3]);
        let visit = lanes.enter(7);
        assert!(visit.is_alone());
        assert_eq!(visit.take(5).expect("lanes").len(), 3);
        assert_eq!(visit.take(2).expect("lanes").len(), 2);
        assert_eq!(visit.take(0).expect("lanes").len(), 1);
    }

    #[test]
    fn two_visitors_get_half_of_the_lanes_each_at_the_same_time() {
        let lanes = Lanes::new(vec![(); 4]);
        let (one, other) = (lanes.enter(1), lanes.enter(2));
        assert!(!one.is_alone() && !other.is_alone());
        let first = one.take(9).expect("lanes");
        let second = other.take(9).expect("lanes");
        assert_eq!((first.len(), second.len()), (2, 2));
    }

    #[test]
    fn a_visitor_is_alone_again_once_the_others_stay_away() {
        let lanes = Lanes::new(vec![()]);
        let alone = |visitor| lanes.enter(visitor).is_alone();
        assert_eq!([1, 1, 2, 1, 1].map(alone), [true, true, false, false, true]);
    }

    #[test]
    fn a_large_job_lets_a_small_one_through_after_one_piece() {
        let lanes = Lanes::new(vec![()]);
        let served = Mutex::new(Vec::new());
        let (open, gate) = mpsc::sync_channel::<()>(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let gate = gate;
                let visit = lanes.enter(1);
                for piece in 0..3 {
                    let _lease = visit.take(1).expect("a lane");
                    served.lock().expect("served").push(("large", piece));
                    gate.recv_timeout(Duration::from_secs(30)).expect("the test opens the gate");
                }
            });
            while served.lock().expect("served").is_empty() {
                thread::yield_now();
            }
            scope.spawn(|| {
                let visit = lanes.enter(2);
                let _lease = visit.take(1).expect("a lane");
                served.lock().expect("served").push(("small", 0));
            });
            until_waiting(&lanes, 1);
            for _ in 0..3 {
                open.send(()).expect("the large job waits");
            }
        });
        let served = served.into_inner().expect("served");
        assert_eq!(served, [("large", 0), ("small", 0), ("large", 1), ("large", 2)]);
    }

    #[test]
    fn a_panic_is_told_to_everybody_and_leaves_nobody_waiting() {
        let lanes = Lanes::new(vec![()]);
        let (open, gate) = mpsc::sync_channel::<()>(0);
        thread::scope(|scope| {
            let visit = lanes.enter(1);
            let lease = visit.take(1).expect("a lane");
            let bad = scope.spawn(move || {
                let _lease = lease;
                gate.recv_timeout(Duration::from_secs(30)).expect("the test opens the gate");
                panic!("a panic of the worker");
            });
            let waiting = scope.spawn(|| lanes.enter(2).take(1).map(|lease| lease.len()));
            until_waiting(&lanes, 1);
            open.send(()).expect("sent");
            assert!(bad.join().is_err(), "the panic goes on in its own thread");
            assert_eq!(waiting.join().expect("joined"), Err(Panicked));
            assert_eq!(visit.take(1).map(|lease| lease.len()), Err(Panicked));
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the jobs, every piece is worked on once, no lane by two threads at a time.
        #[test]
        fn nothing_is_lost(
            jobs in prop::collection::vec(0usize..6, 1..6),
            count in 1usize..5,
        ) {
            let lanes = Lanes::new(vec![0; count]);
            thread::scope(|scope| {
                for (visitor, pieces) in jobs.iter().enumerate() {
                    let lanes = &lanes;
                    scope.spawn(move || {
                        let visit = lanes.enter(visitor as u64);
                        let mut left = *pieces;
                        while left > 0 {
                            let mut lease = visit.take(left).expect("lanes");
                            assert!((1..=left).contains(&lease.len()));
                            lease.iter_mut().for_each(|lane| *lane += 1);
                            left -= lease.len();
                        }
                    });
                }
            });
            let done: usize = lanes.enter(0).take(count).expect("lanes").iter().sum();
            prop_assert_eq!(done, jobs.iter().sum::<usize>());
        }
    }
}

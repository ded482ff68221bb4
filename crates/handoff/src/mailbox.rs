//! A bounded queue to one reader that may be slow.
//!
//! The sender chooses for each item what happens if the reader is behind:
//!
//! - [`send`](Sender::send) waits for room (back-pressure); [`send_while`](Sender::send_while) gives
//!   up if it is told to.
//! - [`offer`](Sender::offer) never waits; it drops the oldest offered items still queued (frames
//!   of a live stream).
//! - [`post`](Sender::post) never waits either, and its items are kept (a header, a gap), up to a
//!   bound of 256.
//!
//! Items are received in the order in which they were put in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex, lock, wait, wait_briefly};

/// The other end of the queue was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Most posted items in the queue. Beyond it the oldest is dropped, so that a reader that has
/// stopped
/// reading cannot make the queue grow without bound.
const MAX_POSTS: usize = 256;

/// How often [`Sender::send_while`] asks.
const ASK: Duration = Duration::from_millis(20);

/// Makes a queue. [`Sender::send`] waits while `capacity` (at least 1) items are in it.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), has_sender: true, has_receiver: true };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: Condvar::new(),
        capacity: capacity.max(1),
    });
    (Sender(shared.clone()), Receiver(shared))
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// Notified when an item is added or removed, and when one end is dropped.
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    /// Each item, and whether it was put in by [`Sender::offer`].
    items: VecDeque<(T, bool)>,
    has_sender: bool,
    has_receiver: bool,
}

impl<T> State<T> {
    fn waiting(&self, offered: bool) -> usize {
        self.items.iter().filter(|(_, o)| *o == offered).count()
    }

    fn drop_oldest(&mut self, offered: bool) -> Option<T> {
        let at = self.items.iter().position(|(_, o)| *o == offered)?;
        self.items.remove(at).map(|(item, _)| item)
    }
}

/// The sending end. Dropping it ends the queue: the reader still receives what is queued.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Puts an item into the queue; waits until there is room.
    ///
    /// # Errors
    /// [`Closed`] if the receiver was dropped.
    pub fn send(&self, item: T) -> Result<(), Closed> {
        let mut state = lock(&self.0.state);
        while state.has_receiver && state.items.len() >= self.0.capacity {
            state = wait(&self.0.changed, state);
        }
        self.push(&mut state, item, false)
    }

    /// As [`send`](Self::send), but waits only while `patient` says so; then it returns the item.
    ///
    /// # Errors
    /// [`Closed`] if the receiver was dropped.
    pub fn send_while(&self, item: T, patient: impl Fn() -> bool) -> Result<Option<T>, Closed> {
        let mut state = lock(&self.0.state);
        while state.has_receiver && state.items.len() >= self.0.capacity {
            if !patient() {
                return Ok(Some(item));
            }
            state = wait_briefly(&self.0.changed, state, ASK);
        }
        self.push(&mut state, item, false).map(|()| None)
    }

    /// Puts in an item that newer offers may displace: at most `most` offered items are queued.
    /// Returns the item that was dropped to make room, if any.
    ///
    /// # Errors
    /// [`Closed`] if the receiver was dropped.
    pub fn offer(&self, item: T, most: usize) -> Result<Option<T>, Closed> {
        let mut state = lock(&self.0.state);
        let full = state.waiting(true) >= most.max(1);
        let dropped = if full { state.drop_oldest(true) } else { None };
        self.push(&mut state, item, true).map(|()| dropped)
    }

    /// Puts in an item that is to be kept. Returns the item that was dropped to make room, which
    /// happens only if 256 posted items are queued.
    ///
    /// # Errors
    /// [`Closed`] if the receiver was dropped.
    pub fn post(&self, item: T) -> Result<Option<T>, Closed> {
        let mut state = lock(&self.0.state);
        let full = state.waiting(false) >= MAX_POSTS;
        let dropped = if full { state.drop_oldest(false) } else { None };
        self.push(&mut state, item, false).map(|()| dropped)
    }

    fn push(&self, state: &mut State<T>, item: T, offered: bool) -> Result<(), Closed> {
        if !state.has_receiver {
            return Err(Closed);
        }
        state.items.push_back((item, offered));
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        lock(&self.0.state).has_sender = false;
        self.0.changed.notify_all();
    }
}

/// The receiving end. Dropping it closes the queue.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// Waits for the next item; `None` once the sender was dropped and the queue is empty.
    pub fn recv(&self) -> Option<T> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some((item, _)) = state.items.pop_front() {
                self.0.changed.notify_all();
                return Some(item);
            }
            if !state.has_sender {
                return None;
            }
            state = wait(&self.0.changed, state);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.has_receiver = false;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.0.changed.notify_all();
        // Outside the lock: an item's destructor may run any code.
        drop(left);
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::thread;

    use super::*;

    #[test]
    fn everything_sent_arrives() {
        loom::model(|| {
            let (sender, receiver) = mailbox(1);
            let thread = thread::spawn(move || {
                for n in 0..3 {
                    assert_eq!(sender.send(n), Ok(()));
                }
            });
            for n in 0..3 {
                assert_eq!(receiver.recv(), Some(n));
            }
            assert_eq!(receiver.recv(), None);
            thread.join().expect("joined");
        });
    }

    #[test]
    fn the_newest_offer_arrives_and_every_post() {
        loom::model(|| {
            let (sender, receiver) = mailbox(1);
            let thread = thread::spawn(move || {
                let dropped = [1, 2, 3].map(|n| sender.offer(n, 1).expect("open"));
                assert_eq!(sender.post(4), Ok(None));
                dropped.into_iter().flatten().count()
            });
            let mut seen = Vec::new();
            while let Some(n) = receiver.recv() {
                seen.push(n);
            }
            let dropped = thread.join().expect("joined");
            assert!(seen.is_sorted() && seen.ends_with(&[3, 4]), "{seen:?}");
            assert_eq!(seen.len() + dropped, 4);
        });
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone() {
        loom::model(|| {
            let (sender, receiver) = mailbox(1);
            let thread = thread::spawn(move || drop(receiver));
            let _ = sender.send(1);
            let _ = sender.send(2);
            thread.join().expect("joined");
            assert_eq!(sender.send(3), Err(Closed));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slow_reader_gets_the_newest_frame_and_every_message() {
        let (sender, receiver) = mailbox(1);
        assert_eq!(sender.post("header"), Ok(None));
        assert_eq!(sender.offer("frame 1", 1), Ok(None));
        assert_eq!(sender.post("gap"), Ok(None));
        assert_eq!(sender.offer("frame 2", 1), Ok(Some("frame 1")));
        assert_eq!(sender.post("end"), Ok(None));
        drop(sender);
        let seen: Vec<_> = std::iter::from_fn(|| receiver.recv()).collect();
        assert_eq!(seen, ["header", "gap", "frame 2", "end"]);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let (sender, receiver) = mailbox(1);
        for n in 0..10_000 {
            sender.post(n).expect("open");
            sender.offer(n, 2).expect("open");
        }
        drop(sender);
        assert_eq!(std::iter::from_fn(|| receiver.recv()).count(), MAX_POSTS + 2);
    }

    #[test]
    fn a_sender_that_loses_patience_keeps_its_item() {
        let (sender, receiver) = mailbox(1);
        assert_eq!(sender.send_while(1, || true), Ok(None));
        let asked = std::cell::Cell::new(0);
        let twice = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        assert_eq!(sender.send_while(2, twice), Ok(Some(2)));
        assert_eq!((receiver.recv(), sender.send_while(3, || false)), (Some(1), Ok(None)));
        drop(receiver);
        assert_eq!(sender.send_while(4, || true), Err(Closed));
    }

    #[test]
    fn a_reader_that_is_gone_is_told() {
        let (sender, receiver) = mailbox(1);
        assert_eq!(sender.send(1), Ok(()));
        drop(receiver);
        assert_eq!(sender.send(2), Err(Closed));
        assert_eq!((sender.offer(3, 1), sender.post(4)), (Err(Closed), Err(Closed)));
    }

    proptest! {
        /// Every item comes out once, in order, but for offers that newer ones pushed out.
        #[test]
        fn nothing_is_lost_or_doubled(
            steps in prop::collection::vec((prop::bool::ANY, prop::bool::ANY), 0..200),
            most in 1usize..5,
        ) {
            let (sender, receiver) = mailbox(1);
            let (mut dropped, mut seen) = (Vec::new(), Vec::new());
            for (n, (read, offered)) in steps.iter().enumerate() {
                let pushed_out = if *offered { sender.offer(n, most) } else { sender.post(n) };
                dropped.extend(pushed_out.expect("open"));
                if *read {
                    seen.extend(receiver.recv());
                }
                prop_assert!(lock(&receiver.0.state).waiting(true) <= most);
            }
            drop(sender);
            seen.extend(std::iter::from_fn(|| receiver.recv()));
            prop_assert!(dropped.iter().all(|n| steps[*n].1), "only offers are dropped");
            let mut all = [dropped, seen.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..steps.len()).collect::<Vec<_>>());
            prop_assert!(seen.is_sorted());
        }
    }
}

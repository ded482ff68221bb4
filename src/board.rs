//! The streams of the process: what their counters say, over all their runs.
//!
//! A stream that is started again begins with new counters, because its end record counts that run
//! alone. The board adds up the runs of a name, so that its totals never decrease.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::counters::{Counters, SinkCounters};
use crate::histogram::Buckets;
use crate::status::{Condition, State};

/// What counters say at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Decoded frames.
    pub decoded: u64,
    /// Frames that went through the tracker.
    pub processed: u64,
    /// Lost frames, by the causes in the records.
    pub dropped: BTreeMap<String, u64>,
    /// Number of reconnects.
    pub reconnects: u64,
    /// Number of different face ids.
    pub faces: u64,
    /// Frames that slow sinks left out, by sink.
    pub left_out: BTreeMap<String, u64>,
    /// Records that brokers have acknowledged, by sink.
    pub acknowledged: BTreeMap<String, u64>,
    /// Latencies from capture to record.
    pub latency: Buckets,
}

impl Totals {
    /// The present values.
    #[must_use]
    pub fn of(counters: &Counters) -> Self {
        let frames = counters.frames();
        let sinks = counters.sinks();
        Self {
            decoded: frames.decoded,
            processed: frames.processed,
            dropped: by_cause(&serde_json::to_value(frames.dropped).unwrap_or_default()),
            reconnects: counters.reconnects.get(),
            faces: counters.faces.get(),
            left_out: sinks.iter().map(|sink| (sink.name.into(), sink.dropped.get())).collect(),
            acknowledged: brokers(&sinks, |sink| sink.acknowledged.get()),
            latency: counters.latency_buckets(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.decoded += other.decoded;
        self.processed += other.processed;
        self.reconnects += other.reconnects;
        self.faces += other.faces;
        add_each(&mut self.dropped, &other.dropped);
        add_each(&mut self.left_out, &other.left_out);
        add_each(&mut self.acknowledged, &other.acknowledged);
        self.latency.add_all(&other.latency);
    }
}

/// A number of each sink that sends to a broker.
fn brokers(sinks: &[Arc<SinkCounters>], of: fn(&SinkCounters) -> u64) -> BTreeMap<String, u64> {
    let is_broker = |sink: &&Arc<SinkCounters>| sink.acknowledged.get() + sink.waiting.get() > 0;
    sinks.iter().filter(is_broker).map(|sink| (sink.name.into(), of(sink))).collect()
}

/// The fields of `dropped` in the records, so that the metrics have the same causes.
fn by_cause(dropped: &Value) -> BTreeMap<String, u64> {
    let fields = dropped.as_object().into_iter().flatten();
    fields.filter_map(|(cause, count)| Some((cause.clone(), count.as_u64()?))).collect()
}

fn add_each(sums: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, count) in more {
        *sums.entry(name.clone()).or_default() += count;
    }
}

/// One stream of the board.
struct Entry {
    name: Arc<str>,
    /// Totals of the runs before the current one.
    before: Totals,
    counters: Arc<Counters>,
    listed: bool,
}

/// What the board says about a stream.
#[derive(Debug, Clone)]
pub struct View {
    /// Name of the stream.
    pub name: Arc<str>,
    /// Totals of all its runs.
    pub totals: Totals,
    /// How it is doing.
    pub condition: Condition,
    /// Faces in the last frame.
    pub faces: u64,
    /// Records that wait for brokers, by sink.
    pub waiting: BTreeMap<String, u64>,
    /// Whether it is wanted: a new list may have left it out.
    pub listed: bool,
}

impl View {
    /// Whether frames come.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.condition.state == State::Up
    }
}

/// The fleet that this process works in, as it sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Workers that were heard of lately.
    pub workers: usize,
    /// Streams that are wanted.
    pub wanted: usize,
    /// Streams that nobody runs and somebody should.
    pub unowned: usize,
    /// Streams that this process owns.
    pub own: usize,
    /// Streams that this process takes at most.
    pub capacity: usize,
}

/// A thread that is stuck.
#[derive(Debug, Clone)]
pub struct Stuck {
    /// Name of the stream that it works for.
    pub stream: Arc<str>,
    /// Name of the thread.
    pub thread: &'static str,
    /// How long it has worked on one thing.
    pub time: Duration,
}

/// The streams of the process, by name.
#[derive(Default)]
pub struct Board {
    entries: Mutex<Vec<Entry>>,
    fleet: Mutex<Option<Fleet>>,
    begun: AtomicBool,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.views().iter().map(|view| view.name.clone())).finish()
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Nothing that could panic runs under the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fleet_lock(&self) -> MutexGuard<'_, Option<Fleet>> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the fleet is; `None` while this process is no part of one.
    pub fn set_fleet(&self, fleet: Option<Fleet>) {
        *self.fleet_lock() = fleet;
    }

    /// The fleet, if this process is a worker of one.
    #[must_use]
    pub fn fleet(&self) -> Option<Fleet> {
        *self.fleet_lock()
    }

    /// Puts up a stream that will run, or runs again with new counters.
    pub fn put(&self, name: &str, counters: &Arc<Counters>) {
        let mut entries = self.lock();
        match entries.iter_mut().find(|entry| *entry.name == *name) {
            Some(entry) => {
                if !Arc::ptr_eq(&entry.counters, counters) {
                    entry.before.add(&Totals::of(&entry.counters));
                    entry.counters = counters.clone();
                }
                entry.listed = true;
            }
            None => entries.push(Entry {
                name: name.into(),
                before: Totals::default(),
                counters: counters.clone(),
                listed: true,
            }),
        }
    }

    /// Notes that only these streams are wanted. What the others have counted stays.
    pub fn list_only(&self, names: &[&str]) {
        self.lock().iter_mut().for_each(|entry| entry.listed = names.contains(&&*entry.name));
    }

    /// All streams, also those that are no longer wanted, in the order in which they came.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        let view = |entry: &Entry| {
            let mut totals = entry.before.clone();
            totals.add(&Totals::of(&entry.counters));
            let status = &entry.counters.status;
            View {
                name: entry.name.clone(),
                totals,
                condition: status.condition(),
                faces: status.faces(),
                waiting: brokers(&entry.counters.sinks(), |sink| sink.waiting.get()),
                listed: entry.listed,
            }
        };
        self.lock().iter().map(view).collect()
    }

    /// Notes that the process does what it was started for, although it may have no streams yet.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether the process has begun: a worker has looked for its fleet, or a stream has made its
    /// first attempt, with or without success.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
            || self.lock().iter().any(|entry| entry.counters.status.is_tried())
    }

    /// The threads that are stuck.
    #[must_use]
    pub fn stuck(&self) -> Vec<Stuck> {
        let of = |entry: &Entry| {
            let stream = entry.name.clone();
            let threads = entry.counters.status.stuck().into_iter();
            threads.map(move |(thread, time)| Stuck { stream: stream.clone(), thread, time })
        };
        self.lock().iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_go_on_when_a_stream_begins_again() {
        let board = Board::default();
        let first = Arc::<Counters>::default();
        board.put("door", &first);
        first.decoded.add();
        first.dropped_busy.add();
        first.frame_done(7.0);
        first.sink("overlay").dropped.add();
        let before = board.views().remove(0);
        board.put("door", &first);
        assert_eq!(board.views().remove(0).totals, before.totals, "the same run counts once");

        let second = Arc::<Counters>::default();
        board.put("door", &second);
        assert_eq!(board.views().remove(0).totals, before.totals);
        second.decoded.add();
        second.frame_done(9.0);
        let after = board.views().remove(0).totals;
        assert_eq!((after.decoded, after.processed), (2, 2));
        assert_eq!((after.dropped["busy"], after.left_out["overlay"]), (1, 1));
        assert!((after.latency.sum - 0.016).abs() < 1e-12, "{}", after.latency.sum);
    }

    #[test]
    fn a_stream_that_is_left_out_keeps_its_counts() {
        let board = Board::default();
        let counters = Arc::<Counters>::default();
        board.put("door", &counters);
        counters.decoded.add();
        board.list_only(&["garden"]);
        let view = board.views().remove(0);
        assert!(!view.listed && view.totals.decoded == 1);
        board.put("door", &counters);
        assert!(board.views().remove(0).listed);
    }

    #[test]
    fn causes_are_those_of_the_records() {
        let totals = Totals::of(&Counters::default());
        assert!(totals.dropped.contains_key("busy") && totals.dropped.contains_key("damaged"));
    }
}

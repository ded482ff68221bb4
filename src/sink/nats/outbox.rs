//! Records that wait for the broker: in memory, and on disk where there is a spool.
//!
//! Every letter has a place. With a spool each is written to disk first, and the memory holds the
//! newest again, so that a healthy broker costs no reading. Without one, the memory is all there
//! is. Where there is no room, the oldest are lost, counted, and told of by a letter of their own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mmface::record::{self, Record};
use tokio::sync::Notify;

use super::letter::{About, Letter, Lost};
use super::spool::{Found, Settled, Spool};
use crate::Error;
use crate::counters::SinkCounters;

/// Most bytes of letters in memory.
const MEMORY: u64 = 32 << 20;
/// How often what is settled is written down while letters come.
const NOTE_EVERY: Duration = Duration::from_millis(250);

/// The letters of all streams of the process. Sinks put them in, one sender takes them out.
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something was settled or lost.
    changed: Condvar,
    /// There is something to send.
    pub(super) wake: Notify,
}

struct State {
    memory: VecDeque<Held>,
    bytes: u64,
    most: u64,
    /// The place of the next letter that comes.
    end: u64,
    /// All places before it were taken out or are lost.
    next: u64,
    /// Places from `next` to here are on disk only.
    paged: u64,
    settled: Settled,
    noted: Instant,
    spool: Option<Spool>,
    /// Losses that nobody was told of yet.
    untold: BTreeMap<(String, u64), Lost>,
    counters: BTreeMap<String, Arc<SinkCounters>>,
    /// Why nothing is sent, if nothing is.
    trouble: Option<String>,
    complained: bool,
}

struct Held {
    place: u64,
    letter: Letter,
    on_disk: bool,
}

/// What an earlier process has left in the spool.
pub(super) struct Left {
    /// All places before this one may have been sent already.
    pub(super) end: u64,
    /// The streams of the letters.
    pub(super) streams: Vec<String>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let state = State {
            memory: VecDeque::new(),
            bytes: 0,
            most: MEMORY,
            end: 0,
            next: 0,
            paged: 0,
            settled: Settled::default(),
            noted: Instant::now(),
            spool: None,
            untold: BTreeMap::new(),
            counters: BTreeMap::new(),
            trouble: None,
            complained: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), wake: Notify::new() }
    }

    /// The same with a spool and what an earlier process has left in it.
    pub(super) fn with(spool: Spool, found: Found) -> (Self, Left) {
        let Found { settled, end, streams } = found;
        let waiting: u64 = streams.values().sum();
        if waiting > 0 {
            tracing::info!("{waiting} records wait in {} since an earlier run", spool.name());
        }
        let this = Self::new();
        {
            let mut state = this.lock();
            state.untold = settled
                .lost
                .iter()
                .map(|(name, run, lost)| ((name.clone(), *run), *lost))
                .collect();
            (state.end, state.next, state.paged) = (end, settled.place, end);
            (state.settled, state.spool) = (settled, Some(spool));
        }
        (this, Left { end, streams: streams.into_keys().collect() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a stream's letters with these counters.
    pub(super) fn count(&self, stream: &str, counters: &Arc<SinkCounters>) {
        self.lock().counters.insert(stream.into(), counters.clone());
    }

    /// Puts a letter in; returns its place. Where there is no room, the oldest are lost.
    pub(super) fn put(&self, letter: Letter) -> u64 {
        let place = self.lock().put(letter);
        self.wake.notify_one();
        place
    }

    /// Waits until there is room for another letter without a loss, or until `enough` says that the
    /// wait is over.
    pub(super) fn wait_for_room(&self, enough: impl Fn() -> bool) {
        self.wait(|state| !state.is_full() || enough());
    }

    /// Waits until all letters up to this place are settled; false if `enough` ends the wait before.
    pub(super) fn wait_for(&self, place: u64, enough: impl Fn(&Progress) -> bool) -> bool {
        let mut moved = (Instant::now(), 0);
        self.wait(|state| {
            if state.settled.place != moved.1 {
                moved = (Instant::now(), state.settled.place);
            }
            let progress = Progress { still: moved.0.elapsed(), trouble: state.trouble.is_some() };
            state.settled.place > place || enough(&progress)
        });
        self.lock().settled.place > place
    }

    fn wait(&self, mut is_over: impl FnMut(&State) -> bool) {
        const ASK: Duration = Duration::from_millis(20);
        let mut state = self.lock();
        while !is_over(&state) {
            let waited = self.changed.wait_timeout(state, ASK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes out the next letters, at most so many.
    pub(super) fn take(&self, most: usize) -> Vec<(u64, Letter)> {
        self.lock().take(most)
    }

    /// The broker has the letter at this place, and all before it are settled; by which number, if
    /// it said so.
    pub(super) fn settle(&self, place: u64, about: &About, sequence: Option<u64>) {
        self.lock().settle(place, about, sequence);
        self.changed.notify_all();
    }

    /// A letter that was taken out cannot be sent at all.
    pub(super) fn lose(&self, place: u64, about: &About) {
        let mut state = self.lock();
        state.lose(about);
        state.settled.place = state.settled.place.max(place + 1);
        drop(state);
        self.changed.notify_all();
    }

    /// The broker's number from which on it may have letters that are not settled here.
    pub(super) fn looked_up_from(&self) -> Option<u64> {
        self.lock().settled.sequence
    }

    /// Notes that up to the broker's record `sequence` nothing of ours has to be looked up.
    pub(super) fn begin(&self, sequence: u64) {
        let mut state = self.lock();
        state.settled.sequence = Some(sequence);
        state.note();
    }

    /// Notes why nothing is sent; `None` when it is again.
    pub(super) fn trouble(&self, why: Option<String>) {
        self.lock().trouble = why;
    }

    /// Why nothing is sent, if nothing is.
    pub(super) fn why(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Where the letters wait on disk, if they do.
    pub(super) fn spool_name(&self) -> Option<String> {
        self.lock().spool.as_ref().map(Spool::name)
    }

    /// Letters that are not settled.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        let state = self.lock();
        state.end.saturating_sub(state.settled.place)
    }

    /// Writes down what is settled.
    pub(super) fn close(&self) {
        self.lock().note();
    }
}

/// How far a wait has come.
pub(super) struct Progress {
    /// For how long nothing was settled.
    pub(super) still: Duration,
    /// Whether nothing can be sent.
    pub(super) trouble: bool,
}

impl State {
    fn is_full(&self) -> bool {
        match &self.spool {
            // The oldest segment goes when the limit is passed.
            Some(spool) => spool.is_full(),
            None => self.bytes >= self.most,
        }
    }

    fn put(&mut self, letter: Letter) -> u64 {
        let place = self.end;
        self.end += 1;
        if letter.about.sequence.is_some()
            && let Some(counters) = self.counters.get(&letter.about.stream)
        {
            counters.waiting.add();
        }
        let on_disk = self.write(place, &letter);
        self.bytes += letter.size();
        self.memory.push_back(Held { place, letter, on_disk });
        while self.bytes > self.most && self.shrink() {}
        while let Some((lost, end)) = self.spool.as_mut().and_then(Spool::overflow) {
            let next = self.next;
            for (_, about) in lost.iter().filter(|(place, _)| *place >= next) {
                self.lose(about);
            }
            self.next = self.next.max(end);
            self.paged = self.paged.max(end);
            while self.memory.front().is_some_and(|held| held.place < end) {
                self.forget_front();
            }
        }
        place
    }

    /// Writes a letter to disk, if there is a spool; returns whether it is there.
    fn write(&mut self, place: u64, letter: &Letter) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        match spool.add(place, letter) {
            Ok(()) => {
                self.complained = false;
                true
            }
            Err(e) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(
                        "{} cannot be written: {e}; records wait in memory",
                        spool.name()
                    );
                }
                false
            }
        }
    }

    fn forget_front(&mut self) -> Option<Held> {
        let held = self.memory.pop_front()?;
        self.bytes -= held.letter.size();
        Some(held)
    }

    /// Takes a letter out of the memory, to make room: one that is on disk, or the oldest frame.
    fn shrink(&mut self) -> bool {
        let Some(front) = self.memory.front() else { return false };
        if front.on_disk {
            self.paged = front.place + 1;
            self.forget_front();
            return true;
        }
        let is_frame = |held: &Held| held.letter.is_frame();
        let oldest = self.memory.iter().take(1024).position(is_frame).unwrap_or(0);
        let Some(held) = self.memory.remove(oldest) else { return false };
        self.bytes -= held.letter.size();
        self.lose(&held.letter.about);
        true
    }

    /// Counts a letter that is lost.
    fn lose(&mut self, about: &About) {
        let lost = match (about.lost, about.sequence) {
            // It told of losses, which have to be told of again.
            (Some(lost), _) => lost,
            (None, Some(sequence)) => {
                if let Some(counters) = self.counters.get(&about.stream) {
                    counters.dropped.add();
                    counters.waiting.take();
                }
                Lost::one(sequence)
            }
            (None, None) => return,
        };
        let key = (about.stream.clone(), about.revision);
        self.untold.entry(key).and_modify(|sum| sum.add(lost)).or_insert(lost);
    }

    fn take(&mut self, most: usize) -> Vec<(u64, Letter)> {
        self.tell();
        let mut letters = Vec::new();
        if self.next < self.paged {
            let read = match &mut self.spool {
                Some(spool) => spool.read(self.next, self.paged, most),
                None => Ok(Vec::new()),
            };
            letters = read.unwrap_or_else(|e| {
                tracing::warn!("records on disk cannot be read: {e}");
                Vec::new()
            });
            self.next = match letters.last() {
                Some((place, _)) => place + 1,
                None => self.paged,
            };
            if self.next < self.paged {
                return letters;
            }
        }
        while letters.len() < most
            && let Some(Held { place, letter, .. }) = self.forget_front()
        {
            self.next = place + 1;
            letters.push((place, letter));
        }
        letters
    }

    /// Makes letters that tell of losses.
    fn tell(&mut self) {
        for ((stream, revision), lost) in std::mem::take(&mut self.untold) {
            let record = Record::Lost(record::Lost {
                stream: stream.clone(),
                revision,
                records: lost.records,
                first: lost.first,
                last: lost.last,
                reason:
                    "there was no room for them while the broker was away, or they were too large"
                        .into(),
            });
            let Ok(payload) = serde_json::to_vec(&record) else { continue };
            let name = format!("lost-{}-{}-{}", lost.first, lost.last, self.end);
            let about = About { stream, revision, name, sequence: None, lost: Some(lost) };
            self.put(Letter { about, payload });
        }
    }

    fn settle(&mut self, place: u64, about: &About, sequence: Option<u64>) {
        if about.sequence.is_some()
            && let Some(counters) = self.counters.get(&about.stream)
        {
            counters.acknowledged.add();
            counters.waiting.take();
        }
        self.settled.place = self.settled.place.max(place + 1);
        if let Some(sequence) = sequence {
            self.settled.sequence = Some(self.settled.sequence.unwrap_or(0).max(sequence));
        }
        if let Some(spool) = &mut self.spool {
            spool.settle(self.settled.place);
        }
        let is_all = self.settled.place == self.end;
        if self.noted.elapsed() > NOTE_EVERY || is_all && self.noted.elapsed() > NOTE_EVERY / 10 {
            self.note();
        }
    }

    fn note(&mut self) {
        self.noted = Instant::now();
        let Some(spool) = &self.spool else { return };
        self.settled.lost = self
            .untold
            .iter()
            .map(|((stream, revision), lost)| (stream.clone(), *revision, *lost))
            .collect();
        // An old note only means that more is looked up.
        if let Err(e) = spool.note(&self.settled) {
            tracing::debug!("{} cannot be written: {e}", spool.name());
        }
    }
}

/// The failure of letters that could not be sent before the end.
pub(super) fn unsent(waiting: u64, why: Option<String>) -> Error {
    let why = why.unwrap_or_else(|| "the broker does not acknowledge them in time".into());
    Error::Sink(format!(
        "{waiting} records were not sent before the end: {why}; with --spool DIR they would be kept \
         and sent at the next start"
    ))
}

#[cfg(test)]
mod tests;

//! One worker: what it has heard, what it owns, and what it does next.

mod own;
mod session;
mod share;

use std::collections::BTreeMap;

use crate::Millis;
use crate::values::{Beat, Owner};
use own::{Mine, Phase, Then};
use session::Peer;
pub use share::Census;
use share::Summary;

/// What holds for a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name. No two workers of a fleet may have the same.
    pub name: String,
    /// After this time without a renewal a worker's entry vanishes from the store.
    pub lease: Millis,
    /// A number that no earlier process with this name has used.
    pub session: u64,
}

/// What a worker has to do. Whatever is written is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write the worker's own entry in place of the `expected` revision (0: there is none), and
    /// answer with [`Member::renewed`].
    Renew {
        /// What to write. Its session is named in the answer.
        beat: Beat,
        /// The revision that it replaces.
        expected: u64,
    },
    /// Write a mark where a worker's entry has vanished, and answer with [`Member::buried`].
    Bury {
        /// The worker.
        worker: String,
        /// What to write.
        mark: Beat,
    },
    /// Write a stream's entry in place of the `expected` revision (0: there is none), and answer
    /// with [`Member::wrote`].
    Write {
        /// The stream.
        stream: String,
        /// What to write.
        owner: Owner,
        /// The revision that it replaces.
        expected: u64,
    },
    /// Remove a stream's entry, and answer with [`Member::wrote`].
    Forget {
        /// The stream.
        stream: String,
        /// The revision that is removed.
        expected: u64,
    },
    /// Run a stream under this number with these settings, until it ends or is stopped. Either way
    /// answer with [`Member::run_ended`].
    Start {
        /// The stream.
        stream: String,
        /// Number of the run.
        revision: u64,
        /// Revision of its settings.
        settings: u64,
    },
    /// Stop a stream.
    Stop {
        /// The stream.
        stream: String,
    },
    /// Remove the worker's own entry. Nothing comes after it.
    Leave {
        /// Its revision.
        expected: u64,
    },
}

/// Why something was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The store has another revision.
    Conflict,
    /// Nobody knows whether it was written: there was no answer.
    Unknown,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was stopped.
    Stopped,
    /// It came to its proper end.
    Done,
    /// It failed.
    Failed(String),
}

/// A worker.
#[derive(Debug)]
pub struct Member {
    settings: Settings,
    first_session: u64,
    capacity: usize,
    draining: bool,
    leaving: bool,
    left: bool,
    connected: bool,
    /// Revision of the own entry, while the session lasts.
    entry: Option<u64>,
    /// When the last renewal that was confirmed had been sent.
    renewed: Millis,
    /// When one was sent that is not answered, or the last one.
    asked: Millis,
    is_asked: bool,
    /// The last renewal was not confirmed: the next one comes soon.
    hurries: bool,
    /// The own entry, as the store tells it.
    own: Option<(Beat, u64, Millis)>,
    told: Beat,
    wanted: BTreeMap<String, u64>,
    /// The own streams have to be compared with the wanted ones.
    list_changed: bool,
    owners: BTreeMap<String, Known>,
    peers: BTreeMap<String, Peer>,
    mine: BTreeMap<String, Mine>,
    /// Until then nothing is claimed: others may not have been heard yet.
    quiet_until: Millis,
    /// When the others or their room have changed last.
    changed: Millis,
    gave: Millis,
    claimed: Millis,
    /// Since when streams that could be claimed wait.
    waiting: BTreeMap<String, Millis>,
    summary: Option<Summary>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Known {
    owner: Owner,
    revision: u64,
    seen: Millis,
}

impl Member {
    /// A worker that has not joined yet.
    #[must_use]
    pub fn new(settings: Settings, capacity: usize) -> Self {
        Self {
            first_session: settings.session,
            settings,
            capacity,
            draining: false,
            leaving: false,
            left: false,
            connected: false,
            entry: None,
            renewed: 0,
            asked: 0,
            is_asked: false,
            hurries: false,
            own: None,
            told: Beat::default(),
            wanted: BTreeMap::new(),
            list_changed: false,
            owners: BTreeMap::new(),
            peers: BTreeMap::new(),
            mine: BTreeMap::new(),
            quiet_until: 0,
            changed: 0,
            gave: 0,
            claimed: 0,
            waiting: BTreeMap::new(),
            summary: None,
            actions: Vec::new(),
        }
    }

    fn lease(&self) -> Millis {
        self.settings.lease
    }

    /// Until when the worker may write under the numbers of its runs; 0 if it is no member. The
    /// entry vanishes a fifth of the lease later at the earliest.
    #[must_use]
    pub fn valid_until(&self) -> Millis {
        if self.entry.is_some() { self.renewed + self.lease() / 5 * 4 } else { 0 }
    }

    /// The session, which changes whenever the worker joins anew.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.settings.session
    }

    /// The streams that it owns, and until when each waits for its next attempt.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &Owner, Option<Millis>)> {
        self.mine.iter().map(|(name, mine)| {
            let waits = match mine.phase {
                Phase::Waiting(until) => Some(until),
                _ => None,
            };
            (name.as_str(), &mine.owner, waits)
        })
    }

    /// Whether the worker has given everything back.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.left
    }

    /// Sets how many streams it can run.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Gives its streams away, or takes some again.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Gives all streams back and leaves.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// The store can be reached, and everything in it is told anew.
    pub fn connected(&mut self, now: Millis) {
        self.connected = true;
        self.is_asked = false;
        self.own = None;
        self.quiet_until = now + self.lease() / 3;
        self.changed = now;
        // Nobody could be heard meanwhile.
        self.peers.values_mut().for_each(|peer| peer.heard = now);
    }

    /// The store cannot be reached.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// A stream is wanted with settings of this revision, or no longer.
    pub fn wanted(&mut self, stream: &str, settings: Option<u64>) {
        match settings {
            Some(settings) => self.wanted.insert(stream.into(), settings),
            None => self.wanted.remove(stream),
        };
        (self.summary, self.list_changed) = (None, true);
    }

    /// A stream's entry has changed; `None`: it was removed.
    pub fn owned(&mut self, now: Millis, stream: &str, entry: Option<(Owner, u64)>) {
        let Some((owner, revision)) = entry else {
            self.owners.remove(stream);
            self.summary = None;
            return;
        };
        let known = self.owners.get(stream);
        if known.is_some_and(|known| known.revision >= revision) {
            return;
        }
        // Where a worker only goes on with what it has, nothing follows for the others.
        let is_same = |known: &Known| {
            owner.worker.is_some()
                && known.owner.worker == owner.worker
                && known.owner.session == owner.session
        };
        if !known.is_some_and(is_same) {
            self.summary = None;
        }
        let name = owner.worker.clone();
        let is_mine = self.is_mine(&owner);
        if let Some(name) = name.filter(|name| *name != self.settings.name)
            && self.peers.get(&name).is_none_or(|peer| peer.beat.session < owner.session)
        {
            // It has to be heard of within a lease.
            let beat = Beat { session: owner.session, ..Beat::default() };
            self.peers.insert(name, Peer { beat, heard: now, asked: 0 });
        }
        if let Some(mine) = self.mine.get(stream)
            && !is_mine
            && revision > mine.revision
        {
            // Another worker has it.
            let runs = matches!(mine.phase, Phase::Running | Phase::Stopping(_));
            let writes = matches!(mine.phase, Phase::Writing(Then::Gone));
            if runs {
                self.actions.push(Action::Stop { stream: stream.into() });
            }
            if !writes {
                self.mine.remove(stream);
            }
        }
        self.owners.insert(stream.into(), Known { owner, revision, seen: now });
    }

    /// A worker's entry has changed; `None`: it was removed.
    pub fn peer(&mut self, now: Millis, worker: &str, entry: Option<(&Beat, u64)>) {
        if worker == self.settings.name {
            self.own = entry.map(|(beat, revision)| (beat.clone(), revision, now));
            // A renewal whose answer was lost.
            if let (Some(own), Some((beat, revision))) = (self.entry, entry)
                && self.is_own(beat)
            {
                self.entry = Some(own.max(revision));
            }
            return;
        }
        let Some((beat, _)) = entry else {
            self.peers.remove(worker);
            (self.summary, self.changed) = (None, now);
            return;
        };
        match self.peers.get_mut(worker) {
            Some(known) if known.beat == *beat => known.heard = now,
            Some(known) if known.beat.session > beat.session => {}
            _ => {
                (self.summary, self.changed) = (None, now);
                let beat = beat.clone();
                self.peers.insert(worker.into(), Peer { beat, heard: now, asked: 0 });
            }
        }
    }

    /// Lets time pass; returns what has to be done.
    pub fn tick(&mut self, now: Millis) -> Vec<Action> {
        if self.entry.is_some() && now >= self.valid_until() {
            self.lose();
        }
        if self.connected && !self.left {
            self.renew(now);
            if self.entry.is_some() {
                self.look_after(now);
                self.bury(now);
                self.claim(now);
                self.balance(now);
            }
            if self.leaving && self.mine.is_empty() {
                self.left = true;
                let expected = self.entry.take();
                self.actions.extend(expected.map(|expected| Action::Leave { expected }));
            }
        }
        std::mem::take(&mut self.actions)
    }
}

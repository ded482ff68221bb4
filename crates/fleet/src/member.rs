//! One worker: what it has heard, what it owns, and what it does next.

use std::collections::{BTreeMap, HashMap};

use crate::Millis;
use crate::plan::{Plan, STARTS, Worker};
use crate::values::{Beat, Owner};

/// How often in a row a stream may fail on a worker before another one tries it.
const FAILURES: u32 = 2;
/// On how many workers a stream that fails is tried. Then it stays where it is.
const TRIED: usize = 3;
/// How long to wait after a failure before the next attempt: the first, and at most.
const WAIT: (Millis, Millis) = (2_000, 300_000);
/// A run that lasted this long was no failure from the beginning.
const HEALTHY: Millis = 300_000;

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

#[derive(Debug)]
struct Peer {
    beat: Beat,
    heard: Millis,
    asked: Millis,
}

#[derive(Debug)]
struct Mine {
    revision: u64,
    owner: Owner,
    since: Millis,
    started: Millis,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Something is being written; then it goes on.
    Writing(Then),
    /// Nobody knows whether it was written.
    Unsure(Millis),
    Running,
    /// It is tried again then.
    Waiting(Millis),
    /// The run ends; then it goes on.
    Stopping(Then),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Start,
    Wait(Millis),
    Gone,
}

/// What follows from all entries.
#[derive(Debug)]
struct Summary {
    /// Streams of each worker.
    counts: HashMap<String, usize>,
    /// Streams that nobody runs, and when they may be claimed.
    free: Vec<(String, Millis)>,
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

    /// The answer to an [`Action::Renew`] that was `sent` then, with this session.
    pub fn renewed(
        &mut self,
        now: Millis,
        sent: Millis,
        session: u64,
        answer: Result<u64, Refusal>,
    ) {
        if sent == self.asked {
            self.is_asked = false;
        }
        if session != self.settings.session {
            return;
        }
        self.hurries = answer.is_err();
        match answer {
            Ok(revision) => {
                if self.entry.is_none() {
                    self.quiet_until = now + self.lease() / 3;
                    self.changed = now;
                    self.summary = None;
                }
                self.renewed = self.renewed.max(sent);
                self.entry = self.entry.max(Some(revision));
            }
            // What was known of the own entry has vanished.
            Err(Refusal::Conflict) if self.entry.is_none() => self.own = None,
            // What the store tells of the own entry decides what it means.
            Err(_) => {}
        }
    }

    /// The answer to [`Action::Bury`].
    pub fn buried(&mut self, now: Millis, worker: &str, answer: Result<u64, Refusal>) {
        let lease = self.lease();
        let Some(peer) = self.peers.get_mut(worker) else { return };
        match answer {
            Ok(_) => {
                peer.beat.buried = true;
                (self.summary, self.changed) = (None, now);
            }
            // It is there: it will be heard of, or is asked about again.
            Err(Refusal::Conflict) => peer.heard = now.saturating_sub(lease / 2),
            Err(Refusal::Unknown) => {}
        }
    }

    /// The answer to [`Action::Write`] and [`Action::Forget`].
    pub fn wrote(&mut self, now: Millis, stream: &str, answer: Result<u64, Refusal>) {
        // The list may have changed while it was written.
        (self.summary, self.list_changed) = (None, true);
        let unsure = now + self.lease() / 3;
        let Some(mine) = self.mine.get_mut(stream) else { return };
        let Phase::Writing(then) = mine.phase else { return };
        match answer {
            Ok(revision) => {
                mine.revision = revision;
                let owner = mine.owner.clone();
                match then {
                    Then::Start => {
                        (mine.phase, mine.started) = (Phase::Running, now);
                        let (stream, settings) = (stream.into(), owner.settings);
                        self.actions.push(Action::Start { stream, revision, settings });
                    }
                    Then::Wait(time) => mine.phase = Phase::Waiting(now + time),
                    Then::Gone => drop(self.mine.remove(stream)),
                }
                if self.owners.get(stream).is_none_or(|known| known.revision < revision) {
                    self.owners.insert(stream.into(), Known { owner, revision, seen: now });
                }
            }
            Err(Refusal::Conflict) => drop(self.mine.remove(stream)),
            Err(Refusal::Unknown) => mine.phase = Phase::Unsure(unsure),
        }
    }

    /// A run has ended.
    pub fn run_ended(&mut self, now: Millis, stream: &str, revision: u64, ended: Ended) {
        let Some(mine) = self.mine.get(stream).filter(|mine| mine.revision == revision) else {
            return;
        };
        let mut owner = mine.owner.clone();
        let lasted = now.saturating_sub(mine.started);
        let then = match (mine.phase, ended) {
            (Phase::Stopping(then), _) => then,
            (Phase::Running, Ended::Done) => {
                owner = Owner { done: true, ..free(owner) };
                Then::Gone
            }
            (Phase::Running, Ended::Stopped) => Then::Wait(WAIT.0),
            (Phase::Running, Ended::Failed(reason)) => {
                self.failed(&mut owner, reason, lasted);
                if owner.worker.is_some() { Then::Wait(owner.wait) } else { Then::Gone }
            }
            _ => return,
        };
        if then == Then::Gone && owner.worker.is_some() {
            owner = free(owner);
        }
        self.write(stream, owner, then);
    }

    /// What follows from a failure: another attempt here, or on another worker.
    fn failed(&self, owner: &mut Owner, reason: String, lasted: Millis) {
        if lasted >= HEALTHY {
            (owner.failures, owner.tried) = (0, Vec::new());
        }
        owner.failures += 1;
        owner.reason = Some(reason);
        owner.wait = (WAIT.0 << (owner.failures - 1).min(20)).min(WAIT.1);
        let own = &self.settings.name;
        let is_untried =
            |(name, peer): (&String, &Peer)| !owner.tried.contains(name) && self.takes(peer);
        let is_tried_enough = owner.tried.len() + 1 >= TRIED;
        let passes = owner.failures >= FAILURES
            && !owner.tried.contains(own)
            && !is_tried_enough
            && self.peers.iter().any(is_untried);
        if passes {
            owner.tried.push(own.clone());
            *owner = Owner { failures: 0, ..free(owner.clone()) };
        }
    }

    fn takes(&self, peer: &Peer) -> bool {
        let beat = &peer.beat;
        !beat.buried && !beat.draining && beat.capacity > 0
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

    /// The session is over: nothing may run any more.
    fn lose(&mut self) {
        for (stream, mine) in std::mem::take(&mut self.mine) {
            if matches!(mine.phase, Phase::Running | Phase::Stopping(_)) {
                self.actions.push(Action::Stop { stream });
            }
        }
        self.entry = None;
        self.settings.session += 1;
        self.summary = None;
    }

    fn is_own(&self, beat: &Beat) -> bool {
        beat.session == self.settings.session && !beat.buried
    }

    /// Whether an entry is that of an earlier session of this process.
    fn was_own(&self, beat: &Beat) -> bool {
        (self.first_session..=self.settings.session).contains(&beat.session)
    }

    fn renew(&mut self, now: Millis) {
        let lease = self.lease();
        // Someone has buried this worker, or another one has its name.
        if self.entry.is_some()
            && self.own.as_ref().is_some_and(|(beat, revision, _)| {
                !self.is_own(beat) && self.entry.is_some_and(|entry| *revision > entry)
            })
        {
            self.lose();
        }
        let beat = Beat {
            session: self.settings.session,
            capacity: self.capacity,
            draining: self.draining || self.leaving,
            buried: false,
        };
        let since = now.saturating_sub(self.asked);
        let is_soon = self.entry.is_none() || self.hurries || beat != self.told;
        let pause = if is_soon { lease / 10 } else { lease / 3 };
        // An answer that does not come is not waited for.
        if (self.is_asked && since < lease / 4) || (self.asked > 0 && since < pause) {
            return;
        }
        let expected = match (self.entry, &self.own) {
            (Some(entry), _) => entry,
            (None, Some((beat, revision, _))) if beat.buried || self.was_own(beat) => *revision,
            // It may be an earlier process of this name: its entry vanishes.
            (None, Some((_, _, heard))) if now < heard + lease => return,
            (None, _) => 0,
        };
        if self.leaving && self.entry.is_none() {
            return;
        }
        (self.asked, self.is_asked) = (now, true);
        self.told = beat.clone();
        self.actions.push(Action::Renew { beat, expected });
    }

    /// Goes on with the own streams.
    fn look_after(&mut self, now: Millis) {
        let changed = std::mem::take(&mut self.list_changed);
        let is_due = |(name, mine): &(&String, &Mine)| {
            let is_other = || changed && self.wanted.get(*name) != Some(&mine.owner.settings);
            match mine.phase {
                Phase::Running => is_other(),
                Phase::Waiting(until) => now >= until || is_other(),
                Phase::Unsure(until) => now >= until,
                Phase::Writing(_) | Phase::Stopping(_) => false,
            }
        };
        let due: Vec<_> = self.mine.iter().filter(is_due).map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(mine) = self.mine.get(&name) else { continue };
            let wanted = self.wanted.get(&name).copied();
            let is_right = wanted == Some(mine.owner.settings);
            match mine.phase {
                Phase::Running => {
                    let then = if wanted.is_some() { Then::Start } else { Then::Gone };
                    self.stop(&name, then);
                }
                Phase::Waiting(_) => match wanted {
                    Some(_) if is_right => {
                        let owner = mine.owner.clone();
                        self.write(&name, owner, Then::Start);
                    }
                    Some(settings) => {
                        let owner = self.fresh(settings);
                        self.write(&name, owner, Then::Start);
                    }
                    None => self.write(&name, Owner::default(), Then::Gone),
                },
                Phase::Unsure(_) => {
                    self.mine.remove(&name);
                    self.summary = None;
                    let known = self.owners.get(&name);
                    if let Some(Known { owner, revision, .. }) = known
                        && self.is_mine(owner)
                    {
                        let (owner, revision) = (owner.clone(), *revision);
                        self.take(now, &name, owner, revision);
                    }
                }
                _ => {}
            }
        }
    }

    fn is_mine(&self, owner: &Owner) -> bool {
        owner.worker.as_ref() == Some(&self.settings.name) && owner.session == self.settings.session
    }

    /// The entry of a stream that is claimed with these settings.
    fn fresh(&self, settings: u64) -> Owner {
        let (worker, session) = (Some(self.settings.name.clone()), self.settings.session);
        Owner { worker, session, settings, ..Owner::default() }
    }

    /// Begins to own a stream.
    fn take(&mut self, now: Millis, stream: &str, owner: Owner, revision: u64) {
        let phase = Phase::Writing(Then::Start);
        let mine = Mine { revision, owner: owner.clone(), since: now, started: now, phase };
        self.mine.insert(stream.into(), mine);
        self.write(stream, owner, Then::Start);
    }

    fn write(&mut self, stream: &str, owner: Owner, then: Then) {
        let Some(mine) = self.mine.get_mut(stream) else { return };
        mine.phase = Phase::Writing(then);
        mine.owner = owner.clone();
        let (expected, stream) = (mine.revision, stream.to_owned());
        self.summary = None;
        self.actions.push(if self.wanted.contains_key(&stream) || then != Then::Gone {
            Action::Write { stream, owner, expected }
        } else {
            Action::Forget { stream, expected }
        });
    }

    fn stop(&mut self, stream: &str, then: Then) {
        let settings = self.wanted.get(stream).copied();
        let fresh = settings.map(|settings| self.fresh(settings));
        let Some(mine) = self.mine.get_mut(stream) else { return };
        mine.phase = Phase::Stopping(then);
        if let (Some(fresh), Then::Start) = (fresh, then) {
            mine.owner = fresh;
        }
        self.actions.push(Action::Stop { stream: stream.into() });
    }

    /// Gives a stream away.
    fn give(&mut self, stream: &str) {
        let Some(mine) = self.mine.get_mut(stream) else { return };
        match mine.phase {
            Phase::Running => self.stop(stream, Then::Gone),
            Phase::Stopping(_) => mine.phase = Phase::Stopping(Then::Gone),
            Phase::Waiting(_) => {
                let owner = free(mine.owner.clone());
                self.write(stream, owner, Then::Gone);
            }
            Phase::Writing(_) | Phase::Unsure(_) => {}
        }
    }

    /// Buries those who have not been heard of for too long.
    fn bury(&mut self, now: Millis) {
        let lease = self.lease();
        let late = lease + lease / 10;
        let is_late = |peer: &Peer| !peer.beat.buried && now >= peer.heard + late;
        if !self.peers.values().any(is_late) {
            return;
        }
        let plan = self.plan(now);
        for (name, peer) in &mut self.peers {
            if !is_late(peer) || now < peer.asked + lease / 8 {
                continue;
            }
            let rank = plan.rank(name, &self.settings.name) as Millis;
            if now >= peer.heard + late + rank * (lease / 8) {
                peer.asked = now;
                let mark = Beat { session: peer.beat.session, buried: true, ..Beat::default() };
                self.actions.push(Action::Bury { worker: name.clone(), mark });
            }
        }
    }

    fn summary(&mut self) -> &Summary {
        if self.summary.is_none() {
            self.summary = Some(self.summarize());
        }
        self.summary.get_or_insert_with(|| Summary { counts: HashMap::new(), free: Vec::new() })
    }

    fn summarize(&self) -> Summary {
        // How many streams each worker has, and in which session; who is gone has none.
        let alive = self.peers.iter().filter(|(_, peer)| !peer.beat.buried);
        let mut counts: HashMap<&str, (u64, usize)> =
            alive.map(|(name, peer)| (name.as_str(), (peer.beat.session, 0))).collect();
        let own = self.entry.is_some().then_some((self.settings.session, 0));
        counts.extend(own.map(|own| (self.settings.name.as_str(), own)));
        let mut free = Vec::new();
        // All three are in the order of the streams' names.
        let (mut owners, mut mine) = (self.owners.iter().peekable(), self.mine.keys().peekable());
        for (stream, settings) in &self.wanted {
            while owners.next_if(|(name, _)| *name < stream).is_some() {}
            while mine.next_if(|name| *name < stream).is_some() {}
            if mine.next_if(|name| *name == stream).is_some() {
                if let Some((_, count)) = counts.get_mut(self.settings.name.as_str()) {
                    *count += 1;
                }
                continue;
            }
            let Some((_, known)) = owners.next_if(|(name, _)| *name == stream) else {
                free.push((stream.clone(), 0));
                continue;
            };
            let owner = &known.owner;
            let worker = owner.worker.as_deref().and_then(|worker| counts.get_mut(worker));
            match worker.filter(|(session, _)| *session == owner.session) {
                Some((_, count)) => *count += 1,
                None if owner.worker.is_some() || owner.settings != *settings => {
                    free.push((stream.clone(), 0));
                }
                None if owner.done => {}
                None if owner.wait > 0 => free.push((stream.clone(), known.seen + owner.wait)),
                None => free.push((stream.clone(), 0)),
            }
        }
        let counts = counts.into_iter().map(|(name, (_, count))| (name.into(), count));
        Summary { counts: counts.collect(), free }
    }

    /// The workers as the plan sees them.
    fn plan(&mut self, now: Millis) -> Plan {
        let lease = self.lease();
        let counts = self.summary().counts.clone();
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let own = Worker {
            name: self.settings.name.clone(),
            capacity: self.capacity,
            streams: count(&self.settings.name),
            draining: self.draining || self.leaving,
            awake: true,
        };
        let alive = self.peers.iter().filter(|(_, peer)| !peer.beat.buried);
        let others = alive.map(|(name, peer)| Worker {
            name: name.clone(),
            capacity: peer.beat.capacity,
            streams: count(name),
            draining: peer.beat.draining,
            awake: now < peer.heard + lease / 2 + lease / 10,
        });
        let mut workers: Vec<_> = std::iter::once(own).chain(others).collect();
        workers.sort_by(|a, b| a.name.cmp(&b.name));
        Plan { workers }
    }

    fn claim(&mut self, now: Millis) {
        // A few at a time: to start a stream is work.
        let is_early = now < self.quiet_until || now < self.claimed + self.lease() / 12;
        if is_early || self.draining || self.leaving {
            return;
        }
        if !self.summary().free.iter().any(|(_, from)| now >= *from) {
            self.waiting.clear();
            return;
        }
        let plan = self.plan(now);
        let due: Vec<String> = {
            let free = self.summary().free.iter();
            free.filter(|(_, from)| now >= *from).map(|(stream, _)| stream.clone()).collect()
        };
        let free: Vec<_> = due
            .iter()
            .map(|stream| {
                let owner = self.owners.get(stream).map(|known| &known.owner);
                let last = owner.and_then(|owner| owner.worker.as_deref());
                let tried = owner.map_or(&[][..], |owner| &owner.tried);
                (stream.as_str(), last, tried)
            })
            .collect();
        let mut claims: Vec<_> =
            plan.claims(&free, &self.settings.name).into_iter().map(str::to_owned).collect();
        // `due` is in the order of names.
        self.waiting.retain(|stream, _| due.binary_search(stream).is_ok());
        for stream in &due {
            let since = *self.waiting.entry(stream.clone()).or_insert(now);
            // Whose turn it is may not know of it.
            let late = since + self.lease() / 2;
            if now < late {
                continue;
            }
            let rank = plan.rank(stream, &self.settings.name) as Millis;
            let is_next = now >= late + rank * (self.lease() / 8);
            if is_next && claims.len() < STARTS && !claims.contains(stream) && self.has_room() {
                claims.push(stream.clone());
            }
        }
        if !claims.is_empty() {
            self.claimed = now;
        }
        for stream in claims {
            let Some(settings) = self.wanted.get(&stream).copied() else { continue };
            let known = self.owners.get(&stream);
            let revision = known.map_or(0, |known| known.revision);
            let mut owner = self.fresh(settings);
            if let Some(before) = known.map(|known| &known.owner)
                && before.settings == settings
            {
                // Where it failed, and how often, is not forgotten.
                owner.tried.clone_from(&before.tried);
                (owner.failures, owner.reason) = (before.failures, before.reason.clone());
            }
            self.take(now, &stream, owner, revision);
        }
    }

    fn has_room(&self) -> bool {
        self.mine.len() < self.capacity
    }

    /// Gives streams away, if others have less to do.
    fn balance(&mut self, now: Millis) {
        let (lease, drains) = (self.lease(), self.draining);
        let pause = if drains { lease / 6 } else { lease };
        let is_calm = now >= self.changed + 2 * lease && now >= self.quiet_until;
        if self.leaving {
            for name in self.mine.keys().cloned().collect::<Vec<_>>() {
                self.give(&name);
            }
            return;
        }
        if now < self.gave + pause || !(is_calm || drains) || self.mine.is_empty() {
            return;
        }
        self.gave = now;
        let has_free = self.summary().free.iter().any(|(_, from)| now >= *from);
        if has_free && !drains {
            return;
        }
        let count = self.plan(now).gives(&self.settings.name);
        if count == 0 {
            return;
        }
        let movable = |mine: &&Mine| matches!(mine.phase, Phase::Running | Phase::Waiting(_));
        let mut streams: Vec<_> = self
            .mine
            .iter()
            .filter(|(_, mine)| movable(mine))
            .map(|(name, mine)| (mine.since, name.clone()))
            .collect();
        // The youngest go first: those that have been here for long stay.
        streams.sort_by(|a, b| b.cmp(a));
        for (_, stream) in streams.into_iter().take(count) {
            self.give(&stream);
        }
    }
}

/// The entry without an owner.
fn free(owner: Owner) -> Owner {
    Owner { worker: None, session: 0, ..owner }
}

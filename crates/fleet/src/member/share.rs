//! The worker's share: which free streams it claims, and which it gives to others.

use std::collections::HashMap;

use super::Member;
use super::own::{Mine, Phase};
use crate::Millis;
use crate::plan::{Plan, STARTS, Worker};

/// A fleet at one moment, as one of its workers sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Workers that were heard of lately, this one among them.
    pub workers: usize,
    /// Streams that are wanted.
    pub wanted: usize,
    /// Streams that nobody runs and somebody should, those that wait after a failure among them.
    pub unowned: usize,
    /// Streams that this worker owns.
    pub own: usize,
    /// Streams that this worker can run.
    pub capacity: usize,
}

/// What follows from all entries.
#[derive(Debug)]
pub(super) struct Summary {
    /// Streams of each worker.
    pub(super) counts: HashMap<String, usize>,
    /// Streams that nobody runs, and when they may be claimed.
    pub(super) free: Vec<(String, Millis)>,
}

impl Member {
    /// The fleet as it is now; `None` while this worker is no member, and so knows nothing.
    pub fn census(&mut self, now: Millis) -> Option<Census> {
        self.entry?;
        let plan = self.plan(now);
        Some(Census {
            workers: plan.workers.iter().filter(|worker| worker.awake).count(),
            wanted: self.wanted.len(),
            unowned: self.summary().free.len(),
            own: self.mine.len(),
            capacity: self.capacity,
        })
    }

    pub(super) fn summary(&mut self) -> &Summary {
        if self.summary.is_none() {
            self.summary = Some(self.summarize());
        }
        self.summary.get_or_insert_with(|| Summary { counts: HashMap::new(), free: Vec::new() })
    }

    pub(super) fn summarize(&self) -> Summary {
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
    pub(super) fn plan(&mut self, now: Millis) -> Plan {
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

    pub(super) fn claim(&mut self, now: Millis) {
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

    pub(super) fn has_room(&self) -> bool {
        self.mine.len() < self.capacity
    }

    /// Gives streams away, if others have less to do.
    pub(super) fn balance(&mut self, now: Millis) {
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

//! The streams that the worker owns: from the claim over runs and failures until they are given away.

use super::session::Peer;
use super::{Action, Ended, Known, Member, Refusal};
use crate::Millis;
use crate::values::Owner;

/// How often in a row a stream may fail on a worker before another one tries it.
const FAILURES: u32 = 2;
/// On how many workers a stream that fails is tried. Then it stays where it is.
const TRIED: usize = 3;
/// How long to wait after a failure before the next attempt: the first, and at most.
const WAIT: (Millis, Millis) = (2_000, 300_000);
/// A run that lasted this long was no failure from the beginning.
const HEALTHY: Millis = 300_000;

/// A stream that is owned, or about to be.
#[derive(Debug)]
pub(super) struct Mine {
    pub(super) revision: u64,
    pub(super) owner: Owner,
    pub(super) since: Millis,
    pub(super) started: Millis,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
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
pub(super) enum Then {
    Start,
    Wait(Millis),
    Gone,
}

impl Member {
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
    pub(super) fn failed(&self, owner: &mut Owner, reason: String, lasted: Millis) {
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

    pub(super) fn takes(&self, peer: &Peer) -> bool {
        let beat = &peer.beat;
        !beat.buried && !beat.draining && beat.capacity > 0
    }

    /// Goes on with the own streams.
    pub(super) fn look_after(&mut self, now: Millis) {
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

    pub(super) fn is_mine(&self, owner: &Owner) -> bool {
        owner.worker.as_ref() == Some(&self.settings.name) && owner.session == self.settings.session
    }

    /// The entry of a stream that is claimed with these settings.
    pub(super) fn fresh(&self, settings: u64) -> Owner {
        let (worker, session) = (Some(self.settings.name.clone()), self.settings.session);
        Owner { worker, session, settings, ..Owner::default() }
    }

    /// Begins to own a stream.
    pub(super) fn take(&mut self, now: Millis, stream: &str, owner: Owner, revision: u64) {
        let phase = Phase::Writing(Then::Start);
        let mine = Mine { revision, owner: owner.clone(), since: now, started: now, phase };
        self.mine.insert(stream.into(), mine);
        self.write(stream, owner, Then::Start);
    }

    pub(super) fn write(&mut self, stream: &str, owner: Owner, then: Then) {
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

    pub(super) fn stop(&mut self, stream: &str, then: Then) {
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
    pub(super) fn give(&mut self, stream: &str) {
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
}

/// The entry without an owner.
fn free(owner: Owner) -> Owner {
    Owner { worker: None, session: 0, ..owner }
}

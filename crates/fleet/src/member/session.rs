//! The worker's own entry, and those of the others: renewing, losing, burying.

use super::{Action, Member, Phase, Refusal};
use crate::Millis;
use crate::values::Beat;

/// Another worker.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) beat: Beat,
    pub(super) heard: Millis,
    pub(super) asked: Millis,
}

impl Member {
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

    /// The session is over: nothing may run any more.
    pub(super) fn lose(&mut self) {
        for (stream, mine) in std::mem::take(&mut self.mine) {
            if matches!(mine.phase, Phase::Running | Phase::Stopping(_)) {
                self.actions.push(Action::Stop { stream });
            }
        }
        self.entry = None;
        self.settings.session += 1;
        self.summary = None;
    }

    pub(super) fn is_own(&self, beat: &Beat) -> bool {
        beat.session == self.settings.session && !beat.buried
    }

    /// Whether an entry is that of an earlier session of this process.
    pub(super) fn was_own(&self, beat: &Beat) -> bool {
        (self.first_session..=self.settings.session).contains(&beat.session)
    }

    pub(super) fn renew(&mut self, now: Millis) {
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

    /// Buries those who have not been heard of for too long.
    pub(super) fn bury(&mut self, now: Millis) {
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
}

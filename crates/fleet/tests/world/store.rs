//! The store: entries with revisions, as NATS keeps them.

use std::collections::BTreeMap;

use fleet::{Beat, Member, Millis, Owner, Refusal};

pub enum Change {
    Peer(String, Beat, u64),
    Owner(String, Owner, u64),
}

pub struct Store {
    lease: Millis,
    revision: u64,
    /// Each with its revision and the time at which it was written.
    beats: BTreeMap<String, (Beat, u64, Millis)>,
    owners: BTreeMap<String, (Owner, u64)>,
    /// What was written, and when.
    pub log: Vec<(Millis, Change)>,
}

impl Store {
    pub fn new(lease: Millis) -> Self {
        let (beats, owners) = (BTreeMap::new(), BTreeMap::new());
        Self { lease, revision: 0, beats, owners, log: Vec::new() }
    }

    /// Entries of workers vanish without a word.
    pub fn expire(&mut self, now: Millis) {
        let lease = self.lease;
        self.beats.retain(|_, (_, _, written)| now < *written + lease);
    }

    pub fn beat(
        &mut self,
        now: Millis,
        name: &str,
        beat: Beat,
        expected: u64,
    ) -> Result<u64, Refusal> {
        if self.beats.get(name).map_or(0, |(_, revision, _)| *revision) != expected {
            return Err(Refusal::Conflict);
        }
        self.revision += 1;
        self.beats.insert(name.into(), (beat.clone(), self.revision, now));
        self.log.push((now, Change::Peer(name.into(), beat, self.revision)));
        Ok(self.revision)
    }

    pub fn bury(&mut self, now: Millis, name: &str, mark: Beat) -> Result<u64, Refusal> {
        self.beat(now, name, mark, 0)
    }

    pub fn own(
        &mut self,
        now: Millis,
        stream: &str,
        owner: Owner,
        expected: u64,
    ) -> Result<u64, Refusal> {
        if self.owners.get(stream).map_or(0, |(_, revision)| *revision) != expected {
            return Err(Refusal::Conflict);
        }
        self.revision += 1;
        self.owners.insert(stream.into(), (owner.clone(), self.revision));
        self.log.push((now, Change::Owner(stream.into(), owner, self.revision)));
        Ok(self.revision)
    }

    pub fn owner(&self, stream: &str) -> Option<String> {
        self.owners.get(stream).and_then(|(owner, _)| owner.worker.clone())
    }

    /// The streams that a worker owns.
    pub fn owned_by(&self, name: &str) -> Vec<String> {
        let is_its =
            |(_, (owner, _)): &(&String, &(Owner, u64))| owner.worker.as_deref() == Some(name);
        self.owners.iter().filter(is_its).map(|(stream, _)| stream.clone()).collect()
    }

    /// Tells a worker that has just connected everything there is.
    pub fn tell_all(&self, member: &mut Member, local: Millis, streams: &[String]) {
        streams.iter().for_each(|stream| member.wanted(stream, Some(1)));
        for (name, (beat, revision, _)) in &self.beats {
            member.peer(local, name, Some((beat, *revision)));
        }
        for (stream, (owner, revision)) in &self.owners {
            member.owned(local, stream, Some((owner.clone(), *revision)));
        }
    }
}

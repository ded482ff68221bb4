//! Workers, a store and a network, all simulated.

mod figures;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use fleet::{Action, Ended, Member, Millis, Refusal, Settings};

pub use figures::Figures;
use store::{Change, Store};

/// How large a fleet is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub workers: usize,
    pub streams: usize,
    /// Streams that a worker can run.
    pub capacity: usize,
    pub lease: Millis,
}

/// How often something goes wrong: the mean time between two faults, in the whole fleet; 0: never.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub kill: Millis,
    pub pause: Millis,
    pub partition: Millis,
    pub restart: Millis,
    /// How many streams can never be opened.
    pub broken: usize,
}

impl Faults {
    pub fn none() -> Self {
        Self { kill: 0, pause: 0, partition: 0, restart: 0, broken: 0 }
    }

    pub fn often() -> Self {
        let minutes = |n: Millis| n * 60_000;
        Self {
            kill: minutes(15),
            pause: minutes(15),
            partition: minutes(15),
            restart: minutes(40),
            broken: 1,
        }
    }

    pub fn of_a_day() -> Self {
        let minutes = |n: Millis| n * 60_000;
        Self {
            kill: minutes(20),
            pause: minutes(15),
            partition: minutes(15),
            restart: minutes(240),
            broken: 20,
        }
    }
}

/// Xorshift: the same numbers in every run.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }

    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something happens in this step, that happens once in `mean`.
    fn happens(&mut self, step: Millis, mean: Millis) -> bool {
        mean > 0 && self.below(mean) < step
    }
}

/// A process.
struct Node {
    member: Member,
    name: String,
    /// How fast its clock runs, in millionths, and where it began.
    speed: u64,
    offset: u64,
    /// It does nothing until then.
    paused_until: Millis,
    /// It cannot reach the store until then.
    cut_until: Millis,
    is_connected: bool,
    /// When it notices that it is cut off.
    notices: Millis,
    /// How much of the store's log it has heard.
    heard: usize,
    delay: Millis,
    answers: Vec<(Millis, Answer)>,
    runs: BTreeMap<String, Run>,
    /// Streams that are to start when the old run has ended.
    queued: BTreeMap<String, (u64, Millis)>,
}

struct Run {
    /// The number in the stream's name.
    number: usize,
    fails: bool,
    revision: u64,
    /// Frames come from then on.
    begins: Millis,
    /// It is to end then.
    ends: Option<Millis>,
    /// Until when it may write, by the worker's clock; a session has its own.
    session: u64,
    fence: Millis,
}

enum Answer {
    Renewed { sent: Millis, session: u64, answer: Result<u64, Refusal> },
    Buried(String, Result<u64, Refusal>),
    Wrote(String, Result<u64, Refusal>),
}

pub struct World {
    scale: Scale,
    faults: Faults,
    random: Random,
    now: Millis,
    store: Store,
    nodes: Vec<Node>,
    /// When the killed ones come back.
    returns: Vec<Millis>,
    named: usize,
    streams: Vec<String>,
    broken: BTreeSet<String>,
    figures: Figures,
    /// Since when each stream has not run, and who ran it last.
    idle: Vec<Option<Millis>>,
    last: BTreeMap<String, String>,
    /// When something has happened to the owner of each stream: its time counts from there anew.
    hit: Vec<Millis>,
    /// The latest time at which the store or the whole fleet was not to be counted on.
    excused: Millis,
    started: BTreeSet<(String, u64)>,
}

impl World {
    pub fn new(scale: Scale, faults: Faults, seed: u64) -> Self {
        let streams: Vec<_> = (0..scale.streams).map(|n| format!("camera-{n:04}")).collect();
        let broken = streams.iter().take(faults.broken).cloned().collect();
        let mut world = Self {
            scale,
            faults,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: 1000,
            store: Store::new(scale.lease),
            nodes: Vec::new(),
            returns: Vec::new(),
            named: 0,
            idle: vec![Some(0); streams.len()],
            hit: vec![0; streams.len()],
            streams,
            broken,
            figures: Figures::default(),
            last: BTreeMap::new(),
            // The fleet needs a while to form.
            excused: 3 * scale.lease,
            started: BTreeSet::new(),
        };
        for _ in 0..scale.workers {
            world.join();
        }
        world
    }

    fn join(&mut self) {
        self.named += 1;
        let name = format!("worker-{}", self.named);
        let lease = self.scale.lease;
        let session = self.named as u64 * 1_000_000;
        let settings = Settings { name: name.clone(), lease, session };
        self.nodes.push(Node {
            member: Member::new(settings, self.scale.capacity),
            name,
            speed: 980_000 + self.random.below(40_000),
            offset: self.random.below(1 << 40),
            paused_until: 0,
            cut_until: 0,
            is_connected: false,
            notices: 0,
            heard: 0,
            delay: self.random.within(1, 50),
            answers: Vec::new(),
            runs: BTreeMap::new(),
            queued: BTreeMap::new(),
        });
    }

    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Millis) {
        let end = self.now + time;
        let step = self.scale.lease / 16;
        let mut look = 0;
        while self.now < end {
            self.now += step;
            self.store.expire(self.now);
            self.break_something(step);
            let mut nodes = std::mem::take(&mut self.nodes);
            // In an order of chance: nobody is always first.
            let first = self.random.below(nodes.len() as u64) as usize;
            for at in 0..nodes.len() {
                let at = (at + first) % nodes.len();
                self.work(&mut nodes[at]);
            }
            self.nodes = nodes;
            self.look();
            look += 1;
            if look % 60 == 0 {
                self.figures.balanced(
                    self.nodes.iter().map(|node| node.runs.len()),
                    self.now > self.excused,
                );
            }
        }
    }

    fn break_something(&mut self, step: Millis) {
        let (faults, lease) = (self.faults, self.scale.lease);
        let count = self.nodes.len() as u64;
        if self.random.happens(step, faults.kill) && count > 2 {
            let at = self.random.below(count) as usize;
            let node = self.nodes.swap_remove(at);
            node.runs.keys().for_each(|stream| self.stopped(stream));
            self.hits(&node.name);
            self.figures.kills += 1;
            self.figures.lost(node.runs.len());
            self.returns.push(self.now + self.random.within(lease / 2, 60 * lease));
        }
        let (now, back) = (self.now, self.returns.len());
        self.returns.retain(|at| *at > now);
        (self.returns.len()..back).for_each(|_| self.join());
        let count = self.nodes.len() as u64;
        if self.random.happens(step, faults.pause) {
            let at = self.random.below(count) as usize;
            self.nodes[at].paused_until = self.now + self.random.within(lease / 4, 6 * lease);
            let name = self.nodes[at].name.clone();
            self.hits(&name);
            self.figures.pauses += 1;
        }
        if self.random.happens(step, faults.partition) {
            let at = self.random.below(count) as usize;
            self.nodes[at].cut_until = self.now + self.random.within(lease / 4, 12 * lease);
            self.nodes[at].notices = self.now + 4000;
            let name = self.nodes[at].name.clone();
            self.hits(&name);
            self.figures.partitions += 1;
        }
        if self.random.happens(step, faults.restart) {
            let back = self.now + self.random.within(lease / 10, 3 * lease);
            for node in &mut self.nodes {
                node.cut_until = node.cut_until.max(back);
                node.notices = self.now;
            }
            self.excused = self.excused.max(back);
            self.figures.restarts += 1;
        }
    }

    /// Something has happened to a worker.
    fn hits(&mut self, name: &str) {
        for stream in self.store.owned_by(name) {
            self.hit[number(&stream)] = self.now;
        }
    }

    /// One process does what it has to.
    fn work(&mut self, node: &mut Node) {
        let now = self.now;
        if now < node.paused_until {
            return;
        }
        let is_cut = now < node.cut_until;
        let local = node.local(now);
        if is_cut && node.is_connected && now >= node.notices {
            node.is_connected = false;
            node.member.disconnected();
        }
        if !is_cut && !node.is_connected {
            node.is_connected = true;
            node.member.connected(local);
            self.store.tell_all(&mut node.member, local, &self.streams);
            node.heard = self.store.log.len();
        }
        if !is_cut {
            while let Some((at, change)) = self.store.log.get(node.heard) {
                if at + node.delay > now {
                    break;
                }
                match change {
                    Change::Peer(name, beat, revision) => {
                        node.member.peer(local, name, Some((beat, *revision)));
                    }
                    Change::Owner(name, owner, revision) => {
                        node.member.owned(local, name, Some((owner.clone(), *revision)));
                    }
                }
                node.heard += 1;
            }
        }
        let due: Vec<_> = {
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut node.answers).into_iter().partition(|(at, _)| *at <= now);
            node.answers = later;
            due
        };
        for (_, answer) in due {
            match answer {
                Answer::Renewed { sent, session, answer } => {
                    node.member.renewed(local, sent, session, answer);
                }
                Answer::Buried(name, answer) => node.member.buried(local, &name, answer),
                Answer::Wrote(stream, answer) => node.member.wrote(local, &stream, answer),
            }
        }
        let session = node.member.session();
        let fence = node.member.valid_until();
        for run in node.runs.values_mut().filter(|run| run.session == session) {
            run.fence = run.fence.max(fence);
        }
        self.end_runs(node, local);
        for action in node.member.tick(local) {
            self.act(node, action, is_cut, local);
        }
    }

    fn end_runs(&mut self, node: &mut Node, local: Millis) {
        let now = self.now;
        let mut ended = Vec::new();
        for (stream, run) in &node.runs {
            let fails = run.fails && now >= run.begins;
            if fails {
                ended.push((
                    stream.clone(),
                    run.revision,
                    Ended::Failed("cannot be opened".into()),
                ));
            } else if run.ends.is_some_and(|at| now >= at) {
                ended.push((stream.clone(), run.revision, Ended::Stopped));
            }
        }
        for (stream, revision, how) in ended {
            node.runs.remove(&stream);
            self.stopped(&stream);
            node.member.run_ended(local, &stream, revision, how);
            if let Some((revision, fence)) = node.queued.remove(&stream) {
                self.start(node, stream, revision, fence);
            }
        }
    }

    fn act(&mut self, node: &mut Node, action: Action, is_cut: bool, local: Millis) {
        let later = self.now + 2 * node.delay;
        let lost = self.now + self.scale.lease / 4;
        // One in a thousand answers is lost although the store has written it.
        let (answered, vanishes) =
            if self.random.below(1000) == 0 { (lost, true) } else { (later, false) };
        let result = |written: Result<u64, Refusal>| match written {
            _ if is_cut => (lost, Err(Refusal::Unknown)),
            _ if vanishes => (answered, Err(Refusal::Unknown)),
            written => (answered, written),
        };
        let now = self.now;
        match action {
            Action::Renew { beat, expected } => {
                let session = beat.session;
                let written =
                    if is_cut { Ok(0) } else { self.store.beat(now, &node.name, beat, expected) };
                let (at, answer) = result(written);
                node.answers.push((at, Answer::Renewed { sent: local, session, answer }));
            }
            Action::Bury { worker, mark } => {
                let written = if is_cut { Ok(0) } else { self.store.bury(now, &worker, mark) };
                let (at, answer) = result(written);
                node.answers.push((at, Answer::Buried(worker, answer)));
            }
            Action::Write { stream, owner, expected } => {
                let owned_before = self.store.owner(&stream);
                let written =
                    if is_cut { Ok(0) } else { self.store.own(now, &stream, owner, expected) };
                if !is_cut && written.is_ok() {
                    self.changes_hands(&stream, owned_before, &node.name);
                }
                let (at, answer) = result(written);
                node.answers.push((at, Answer::Wrote(stream, answer)));
            }
            Action::Start { stream, revision, .. } => {
                let fence = node.member.valid_until();
                if node.runs.contains_key(&stream) {
                    node.queued.insert(stream, (revision, fence));
                } else {
                    self.start(node, stream, revision, fence);
                }
            }
            Action::Stop { stream } => {
                if let Some((revision, _)) = node.queued.remove(&stream) {
                    node.member.run_ended(local, &stream, revision, Ended::Stopped);
                }
                if let Some(run) = node.runs.get_mut(&stream) {
                    run.ends = Some(now + self.random.within(50, 1000));
                }
            }
            Action::Forget { .. } | Action::Leave { .. } => {
                panic!("nothing is taken from this fleet")
            }
        }
    }

    /// A stream gets an owner: nobody else may write to it at this moment.
    fn changes_hands(&mut self, stream: &str, before: Option<String>, to: &str) {
        let Some(before) = before.filter(|before| before != to) else { return };
        let Some(node) = self.nodes.iter().find(|node| node.name == before) else { return };
        let local = node.local(self.now);
        if let Some(run) = node.runs.get(stream) {
            assert!(local >= run.fence, "{before} may write to {stream}, which {to} takes");
        }
    }

    fn start(&mut self, node: &mut Node, stream: String, revision: u64, fence: Millis) {
        self.figures.starts += 1;
        assert!(self.started.insert((stream.clone(), revision)), "{stream}/{revision} twice");
        let begins = self.now + self.random.within(500, 2000);
        let moved = self.last.insert(stream.clone(), node.name.clone());
        if moved.is_some_and(|last| last != node.name) {
            self.figures.moves += 1;
        }
        let session = node.member.session();
        let (number, fails) = (number(&stream), self.broken.contains(&stream));
        let run = Run { number, fails, revision, begins, ends: None, session, fence };
        node.runs.insert(stream, run);
    }

    fn stopped(&mut self, stream: &str) {
        self.idle[number(stream)].get_or_insert(self.now);
    }

    /// Notes which streams run.
    fn look(&mut self) {
        let now = self.now;
        let mut running = vec![false; self.streams.len()];
        for node in self.nodes.iter().filter(|node| now >= node.paused_until) {
            let local = node.local(now);
            for run in node.runs.values() {
                if now >= run.begins && local < run.fence && run.ends.is_none() {
                    running[run.number] = true;
                }
            }
        }
        for (at, running) in running.into_iter().enumerate().skip(self.broken.len()) {
            let hit = self.hit[at].max(self.excused);
            let counted = |since: Millis| now - since.max(hit).min(now);
            if running {
                if let Some(since) = self.idle[at].take() {
                    self.figures.idle(counted(since), now - since);
                }
            } else {
                let since = *self.idle[at].get_or_insert(now);
                self.figures.waits(counted(since));
            }
        }
    }
}

/// The number in a stream's name.
fn number(stream: &str) -> usize {
    stream.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap()
}

impl Node {
    fn local(&self, now: Millis) -> Millis {
        self.offset + now * self.speed / 1_000_000
    }
}

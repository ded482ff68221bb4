//! A worker: does what the assignment says.
//!
//! One thread talks to the store and looks after the runs; it never waits for either. The clock is
//! one that also counts while the machine sleeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::kv::{Entry, Operation, Watch};
use fleet::{Action, Beat, Member, Owner, Refusal, Settings};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use mmface::Runtime;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::capacity::{Capacity, Load};
use super::runs::{Doing, Runs};
use super::store::{Bucket, Made, Store};
use super::wanted::{Wanted, resolved};
use crate::board::{Board, Fleet};
use crate::nats::{Link, Servers, name_of, token};
use crate::run::Options;
use crate::sink::nats::{Fence, Publisher, now};
use crate::{Error, Result, ending};

/// How often runs and clock are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How much of the time after a signal is left for what comes after the worker.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long to wait before a server that does not answer is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a worker needs.
pub struct Work {
    /// Its name; no two workers of a fleet may have the same.
    pub name: String,
    /// The servers.
    pub servers: Servers,
    /// How the buckets are made, if they are not there.
    pub made: Made,
    /// How much it takes.
    pub capacity: Capacity,
    /// What sends the records. What an earlier process has left is sent even without streams.
    pub records: crate::sink::nats::Settings,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What the others have to know.
    #[serde(flatten)]
    pub beat: Beat,
    /// Version of the program.
    pub version: String,
    /// How its streams are doing.
    pub streams: BTreeMap<String, Doing>,
}

/// Turns the settings of a stream into the options of a run.
pub type Make<'a> = dyn Fn(&str, Fence) -> Result<Options> + 'a;

/// An answer of the store.
enum Answer {
    Renewed { sent: u64, session: u64, answer: std::result::Result<u64, Refusal> },
    Buried { worker: String, answer: std::result::Result<u64, Refusal> },
    Wrote { stream: String, answer: std::result::Result<u64, Refusal> },
    Left,
}

struct Worker<'a> {
    work: &'a Work,
    make: &'a Make<'a>,
    store: Store,
    member: Member,
    runs: Runs,
    wanted: BTreeMap<String, Wanted>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Until when the runs of this session may write.
    until: Arc<AtomicU64>,
    session: u64,
    load: Load,
    board: Arc<Board>,
    /// When the board was last told how the fleet is.
    told: u64,
}

/// Works until `stop` is set, and gives everything back.
///
/// # Errors
/// [`Error::Usage`] and [`Error::Device`] before the first stream runs. Servers that are away are
/// waited for.
pub fn run(
    work: &Work,
    runtime: &Runtime,
    board: &Arc<Board>,
    make: &Make<'_>,
    stop: &AtomicBool,
) -> Result<()> {
    let publisher = Publisher::shared(&work.records)?;
    let tokio = crate::nats::runtime()?;
    tokio.block_on(async {
        let opened = connect(work, board, stop).await?;
        let Some((client, link, store)) = opened else { return Ok(()) };
        let session = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let session = session.as_micros() as u64;
        let lease = store.lease.as_millis() as u64;
        let settings = Settings { name: work.name.clone(), lease, session };
        let load = Load::new(work.capacity);
        tracing::info!(
            "worker {} runs at most {} streams for now; its lease is {:?}",
            work.name,
            load.capacity,
            store.lease
        );
        let mut worker = Worker {
            work,
            make,
            store,
            member: Member::new(settings, load.capacity),
            runs: Runs::new(runtime, board),
            wanted: BTreeMap::new(),
            answers: FuturesUnordered::new(),
            until: Arc::default(),
            session,
            load,
            board: board.clone(),
            told: 0,
        };
        worker.work(link, stop).await;
        // The connection lives until everything is given back.
        drop(client);
        Ok::<(), Error>(())
    })?;
    drop(publisher);
    Ok(())
}

/// Connects, and opens the buckets; `None` if `stop` was set before.
async fn connect(
    work: &Work,
    board: &Board,
    stop: &AtomicBool,
) -> Result<Option<(async_nats::Client, watch::Receiver<Link>, Store)>> {
    let mut told = None;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("mmface-live worker {}", work.name);
        let opened = match work.servers.connect(&name).await {
            Ok((client, link)) => {
                Store::open(&client, work.made).await.map(|store| (client, link, store))
            }
            Err(e) => Err(e),
        };
        if !matches!(opened, Err(Error::Usage(_) | Error::Device(_))) {
            board.begin();
        }
        match opened {
            Ok(opened) => return Ok(Some(opened)),
            Err(e @ (Error::Usage(_) | Error::Device(_))) => return Err(e),
            Err(e) => {
                let why = e.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::warn!("{why}; trying again");
                    told = Some(why);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(None)
}

impl Worker<'_> {
    async fn work(&mut self, mut link: watch::Receiver<Link>, stop: &AtomicBool) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watches: Option<(Watch, Watch)> = None;
        let mut again = Instant::now();
        loop {
            if watches.is_none() && is_up(&link) && Instant::now() >= again {
                again = Instant::now() + AGAIN;
                if let Ok(both) = self.watch().await {
                    self.member.connected(now());
                    watches = Some(both);
                }
            }
            let (fleet, workers) =
                watches.as_mut().map(|(fleet, workers)| (fleet, workers)).unzip();
            tokio::select! {
                _ = ticks.tick() => {}
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => self.answered(answer),
                entry = next(fleet) => match entry {
                    Some(entry) => self.heard_of_stream(&entry),
                    None => watches = None,
                },
                entry = next(workers) => match entry {
                    Some(entry) => self.heard_of_worker(&entry),
                    None => watches = None,
                },
                changed = link.changed() => {
                    let up = changed.is_ok() && is_up(&link);
                    if !up {
                        tracing::warn!("the connection to NATS is lost; leases are kept while they last");
                        self.member.disconnected();
                        watches = None;
                    }
                }
            }
            if stop.load(Ordering::Relaxed) {
                self.member.leave();
            }
            self.go_on();
            let is_late = ending::left().is_some_and(|left| left < FAREWELL);
            let is_done = self.member.has_left() && self.runs.is_empty() && self.answers.is_empty();
            if stop.load(Ordering::Relaxed) && (is_done || is_late) {
                return;
            }
        }
    }

    async fn watch(&self) -> Result<(Watch, Watch)> {
        Ok((self.store.watch(Bucket::Fleet).await?, self.store.watch(Bucket::Workers).await?))
    }

    fn heard_of_stream(&mut self, entry: &Entry) {
        let is_there = entry.operation == Operation::Put;
        let Some((kind, name)) = entry.key.split_once('.') else { return };
        let Some(name) = name_of(name) else { return };
        match kind {
            "stream" if is_there => match serde_json::from_slice::<Wanted>(&entry.value) {
                Ok(wanted) => {
                    self.wanted.insert(name.clone(), wanted);
                    self.member.wanted(&name, Some(entry.revision));
                }
                Err(e) => tracing::warn!("the settings of {name} cannot be read: {e}"),
            },
            "stream" => {
                self.wanted.remove(&name);
                self.member.wanted(&name, None);
            }
            "owner" => {
                let owner = serde_json::from_slice::<Owner>(&entry.value).ok();
                let owner = owner.filter(|_| is_there).map(|owner| (owner, entry.revision));
                self.member.owned(now(), &name, owner);
            }
            "drain" if name == self.work.name => {
                if is_there {
                    tracing::info!("this worker is drained: it gives its streams away");
                }
                self.member.set_draining(is_there);
            }
            _ => {}
        }
    }

    fn heard_of_worker(&mut self, entry: &Entry) {
        let Some(name) = name_of(&entry.key) else { return };
        let beat = serde_json::from_slice::<Beat>(&entry.value).ok();
        let beat = beat.filter(|_| entry.operation == Operation::Put);
        self.member.peer(now(), &name, beat.as_ref().map(|beat| (beat, entry.revision)));
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Renewed { sent, session, answer } => {
                self.member.renewed(now(), sent, session, answer);
            }
            Answer::Buried { worker, answer } => {
                if answer.is_ok() {
                    tracing::warn!("worker {worker} is gone; its streams are taken over");
                }
                self.member.buried(now(), &worker, answer);
            }
            Answer::Wrote { stream, answer } => self.member.wrote(now(), &stream, answer),
            Answer::Left => {}
        }
    }

    /// Lets the assignment go on, and does what it says.
    fn go_on(&mut self) {
        if let Some(capacity) = self.load.measure(&self.runs) {
            self.member.set_capacity(capacity);
        }
        for ((stream, revision), ended) in self.runs.reap() {
            self.member.run_ended(now(), &stream, revision, ended);
        }
        let time = now();
        let actions = self.member.tick(time);
        self.tell_board(time);
        if self.member.session() != self.session {
            // What runs under the old session may never write again.
            self.until.store(0, Ordering::Release);
            self.until = Arc::default();
            self.session = self.member.session();
            tracing::warn!("the lease is lost: streams are stopped, and claimed anew");
        }
        self.until.store(self.member.valid_until(), Ordering::Release);
        for action in actions {
            self.act(time, action);
        }
    }

    /// Tells the board once a second how the fleet is.
    fn tell_board(&mut self, time: u64) {
        if time < self.told + 1000 {
            return;
        }
        self.told = time;
        let of = |fleet::Census { workers, wanted, unowned, own, capacity }| Fleet {
            workers,
            wanted,
            unowned,
            own,
            capacity,
        };
        self.board.set_fleet(self.member.census(time).map(of));
    }

    fn act(&mut self, sent: u64, action: Action) {
        let store = self.store.clone();
        let patience = store.lease / 4;
        match action {
            Action::Renew { beat, expected } => {
                let session = beat.session;
                let said = self.said(beat);
                let (key, value) = (token(&self.work.name), json(&said));
                let write = async move {
                    let written = store.write(Bucket::Workers, &key, value, expected);
                    let answer = in_time(patience, written).await;
                    Answer::Renewed { sent, session, answer }
                };
                self.answers.push(write.boxed());
            }
            Action::Bury { worker, mark } => {
                let said = Said { beat: mark, version: String::new(), streams: BTreeMap::new() };
                let value = json(&said);
                let write = async move {
                    let key = token(&worker);
                    let written = store.write(Bucket::Workers, &key, value, 0);
                    let answer = in_time(patience, written).await;
                    Answer::Buried { worker, answer }
                };
                self.answers.push(write.boxed());
            }
            Action::Write { stream, owner, expected } => {
                let value = json(&owner);
                let write = async move {
                    let key = format!("owner.{}", token(&stream));
                    let written = store.write(Bucket::Fleet, &key, value, expected);
                    let answer = in_time(patience, written).await;
                    Answer::Wrote { stream, answer }
                };
                self.answers.push(write.boxed());
            }
            Action::Forget { stream, expected } => {
                let write = async move {
                    let key = format!("owner.{}", token(&stream));
                    let removed = store.remove(Bucket::Fleet, &key, Some(expected));
                    let answer = in_time(patience, removed).await;
                    Answer::Wrote { stream, answer }
                };
                self.answers.push(write.boxed());
            }
            Action::Start { stream, revision, .. } => {
                let fence = Fence { revision, until: self.until.clone() };
                let options = self.options(&stream, fence);
                self.runs.start(&stream, revision, options);
            }
            Action::Stop { stream } => self.runs.stop(&stream),
            Action::Leave { expected } => {
                let key = token(&self.work.name);
                let write = async move {
                    let removed = store.remove(Bucket::Workers, &key, Some(expected));
                    let _ = in_time(patience, removed).await;
                    Answer::Left
                };
                self.answers.push(write.boxed());
            }
        }
    }

    fn options(&self, stream: &str, fence: Fence) -> Result<Options> {
        let gone = || Error::Usage(format!("{stream} is not wanted any more"));
        let wanted = self.wanted.get(stream).ok_or_else(gone)?;
        (self.make)(&resolved(&wanted.settings)?, fence)
    }

    fn said(&mut self, beat: Beat) -> Said {
        let mut streams = self.runs.doing();
        for (name, owner, waits) in self.member.streams() {
            if waits.is_some() {
                let reason = owner.reason.clone();
                let state = "waiting".into();
                streams.insert(name.into(), Doing { state, reason, ..Doing::default() });
            }
        }
        Said { beat, version: env!("CARGO_PKG_VERSION").into(), streams }
    }
}

fn is_up(link: &watch::Receiver<Link>) -> bool {
    *link.borrow() == Link::Up
}

/// The next entry; `None` if the watch has ended. Without a watch nothing comes.
async fn next(watch: Option<&mut Watch>) -> Option<Entry> {
    match watch {
        Some(watch) => watch.next().await.and_then(std::result::Result::ok),
        None => std::future::pending().await,
    }
}

async fn in_time(
    patience: Duration,
    answer: impl Future<Output = std::result::Result<u64, Refusal>>,
) -> std::result::Result<u64, Refusal> {
    tokio::time::timeout(patience, answer).await.unwrap_or(Err(Refusal::Unknown))
}

/// JSON of something that always is JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

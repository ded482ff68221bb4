//! What a fleet looks like from outside: its workers, and who runs which stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fleet::Owner;
use serde::{Deserialize, Serialize};

use super::runs::Doing;
use super::store::{Bucket, Store};
use super::wanted::Wanted;
use super::worker::Said;
use crate::nats::{name_of, token};
use crate::{Error, Result};

/// The state of a fleet at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Seconds after which a worker that is not heard of is gone.
    pub lease: f64,
    /// The workers, by name.
    pub workers: Vec<WorkerStatus>,
    /// The wanted streams, by name.
    pub streams: Vec<StreamStatus>,
}

/// A worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// How many streams it owns, and how many it can run.
    pub streams: usize,
    /// How many streams it can run.
    pub capacity: usize,
    /// Whether it gives its streams away.
    pub draining: bool,
}

/// A stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// The worker that owns it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker: Option<String>,
    /// Revision of its last entry: the number of the run, if it runs.
    pub revision: u64,
    /// How often in a row it has failed on this worker.
    pub failures: u32,
    /// Workers on which it has failed before.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tried: Vec<String>,
    /// How it is doing.
    #[serde(flatten)]
    pub doing: Doing,
}

/// Everything that is in the store.
struct Read {
    workers: BTreeMap<String, Said>,
    wanted: BTreeMap<String, u64>,
    owners: BTreeMap<String, (Owner, u64)>,
    draining: BTreeSet<String>,
}

async fn read(store: &Store) -> Result<Read> {
    let mut read = Read {
        workers: BTreeMap::new(),
        wanted: BTreeMap::new(),
        owners: BTreeMap::new(),
        draining: BTreeSet::new(),
    };
    for (key, entry) in store.all(Bucket::Fleet).await? {
        let Some((kind, name)) = key.split_once('.') else { continue };
        let Some(name) = name_of(name) else { continue };
        match kind {
            "stream" => drop(read.wanted.insert(name, entry.revision)),
            "owner" => {
                if let Ok(owner) = serde_json::from_slice(&entry.value) {
                    read.owners.insert(name, (owner, entry.revision));
                }
            }
            "drain" => drop(read.draining.insert(name)),
            _ => {}
        }
    }
    for (key, entry) in store.all(Bucket::Workers).await? {
        if let (Some(name), Ok(said)) =
            (name_of(&key), serde_json::from_slice::<Said>(&entry.value))
            && !said.beat.buried
        {
            read.workers.insert(name, said);
        }
    }
    Ok(read)
}

/// Reads the state of a fleet.
///
/// # Errors
/// [`Error::Sink`] if the store cannot be read.
pub async fn status(store: &Store) -> Result<Status> {
    let Read { workers, wanted, owners, draining } = read(store).await?;
    let room = workers.iter().any(|(name, said)| {
        let owned = owned_by(&owners, name, said.beat.session);
        !said.beat.draining && owned < said.beat.capacity
    });
    let streams = wanted.iter().map(|(name, settings)| {
        let (owner, revision) = owners.get(name).cloned().unwrap_or_default();
        let doing = doing(name, *settings, &owner, &workers, room);
        let alive = owner.worker.as_ref().is_some_and(|worker| {
            workers.get(worker).is_some_and(|said| said.beat.session == owner.session)
        });
        StreamStatus {
            name: name.clone(),
            worker: owner.worker.filter(|_| alive),
            revision,
            failures: owner.failures,
            tried: owner.tried,
            doing,
        }
    });
    let worker = |(name, said): (&String, &Said)| WorkerStatus {
        name: name.clone(),
        version: said.version.clone(),
        streams: owned_by(&owners, name, said.beat.session),
        capacity: said.beat.capacity,
        draining: said.beat.draining || draining.contains(name),
    };
    Ok(Status {
        lease: store.lease.as_secs_f64(),
        workers: workers.iter().map(worker).collect(),
        streams: streams.collect(),
    })
}

fn owned_by(owners: &BTreeMap<String, (Owner, u64)>, worker: &str, session: u64) -> usize {
    let is_its = |(owner, _): &&(Owner, u64)| {
        owner.worker.as_deref() == Some(worker) && owner.session == session
    };
    owners.values().filter(is_its).count()
}

/// How a stream is doing, by what its owner says and by what has become of that.
fn doing(
    name: &str,
    settings: u64,
    owner: &Owner,
    workers: &BTreeMap<String, Said>,
    room: bool,
) -> Doing {
    let is = |state: &str, reason: Option<String>| Doing {
        state: state.into(),
        reason,
        ..Doing::default()
    };
    let no_room = || {
        let why = if workers.is_empty() { "there is no worker" } else { "no worker has room" };
        is("unowned", Some(why.into()))
    };
    match &owner.worker {
        Some(worker) => match workers.get(worker) {
            Some(said) if said.beat.session == owner.session => {
                said.streams.get(name).cloned().unwrap_or_else(|| is("starting", None))
            }
            _ if !room => no_room(),
            _ => is("unowned", Some(format!("{worker} is gone, and another takes over"))),
        },
        None if owner.done && owner.settings == settings => {
            is("ended", Some("it came to its proper end".into()))
        }
        None if owner.settings == settings && owner.reason.is_some() => {
            is("waiting", owner.reason.clone())
        }
        None if !room => no_room(),
        None => is("unowned", Some("it is about to be claimed".into())),
    }
}

impl Status {
    /// The tables of workers and of streams.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let workers = self.workers.iter().map(|worker| {
            let state = if worker.draining { "draining" } else { "" };
            let streams = format!("{}/{}", worker.streams, worker.capacity);
            [worker.name.clone(), streams, worker.version.clone(), state.into()]
        });
        table(&mut text, ["WORKER", "STREAMS", "VERSION", ""], workers);
        text.push('\n');
        let streams = self.streams.iter().map(|stream| {
            let doing = &stream.doing;
            let some = |value: f64| if value > 0.0 { format!("{value:.1}") } else { "-".into() };
            let last = doing.last_frame.map_or("-".into(), |seconds| format!("{seconds:.1} s"));
            let mut reason = doing.reason.clone().unwrap_or_default();
            if stream.failures > 0 {
                let times = stream.failures;
                let _ = write!(reason, " ({times} failures in a row; it waits between attempts)");
            }
            if !stream.tried.is_empty() {
                let _ = write!(reason, " (failed on {})", stream.tried.join(", "));
            }
            [
                stream.name.clone(),
                stream.worker.clone().unwrap_or_else(|| "-".into()),
                doing.state.clone(),
                some(doing.fps),
                some(doing.latency_ms),
                last,
                doing.waiting.to_string(),
                doing.dropped.to_string(),
                reason.trim().to_owned(),
            ]
        });
        let heads =
            ["STREAM", "WORKER", "STATE", "FPS", "MS", "LAST FRAME", "WAITING", "DROPPED", ""];
        table(&mut text, heads, streams);
        text
    }
}

/// Appends rows, each column as wide as its longest cell.
fn table<const N: usize>(
    text: &mut String,
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(line, "{cell:<width$}  ", width = width(column).unwrap_or(0));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// What `apply` did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// New streams.
    pub new: usize,
    /// Streams with other settings.
    pub changed: usize,
    /// Streams that are not wanted any more.
    pub removed: usize,
    /// Streams that stay as they are.
    pub kept: usize,
}

/// Makes these the wanted streams, and no others.
///
/// # Errors
/// [`Error::Sink`] if the store cannot be written.
pub async fn apply(store: &Store, streams: &[Wanted]) -> Result<Applied> {
    let before = store.all(Bucket::Fleet).await?;
    let mut applied = Applied::default();
    for wanted in streams {
        let key = format!("stream.{}", token(&wanted.name));
        let known =
            before.get(&key).map(|entry| serde_json::from_slice::<Wanted>(&entry.value).ok());
        match known {
            Some(Some(known)) if known == *wanted => {
                applied.kept += 1;
                continue;
            }
            Some(_) => applied.changed += 1,
            None => applied.new += 1,
        }
        let value = serde_json::to_vec(wanted).map_err(|e| Error::Bug(e.to_string()))?;
        store.set(Bucket::Fleet, &key, value).await?;
    }
    for key in before.keys().filter(|key| key.starts_with("stream.")) {
        let is_wanted = |wanted: &Wanted| key.strip_prefix("stream.") == Some(&token(&wanted.name));
        if !streams.iter().any(is_wanted) {
            applied.removed += 1;
            let removed = store.remove(Bucket::Fleet, key, None).await;
            removed.map_err(|_| Error::Sink(format!("{key} cannot be removed: try again")))?;
        }
    }
    Ok(applied)
}

/// Has a worker give its streams away, or take some again.
///
/// # Errors
/// [`Error::Usage`] if there is no such worker, [`Error::Sink`] if the store cannot be written.
pub async fn drain(store: &Store, worker: &str, undo: bool) -> Result<()> {
    let key = format!("drain.{}", token(worker));
    if undo {
        let removed = store.remove(Bucket::Fleet, &key, None).await;
        return removed
            .map(|_| ())
            .map_err(|_| Error::Sink("it cannot be written: try again".into()));
    }
    let workers = read(store).await?.workers;
    if !workers.contains_key(worker) {
        let names: Vec<_> = workers.keys().map(String::as_str).collect();
        let known = if names.is_empty() { "there are none".into() } else { names.join(", ") };
        return Err(Error::Usage(format!("there is no worker {worker}: {known}")));
    }
    store.set(Bucket::Fleet, &key, b"{}".to_vec()).await.map(|_| ())
}

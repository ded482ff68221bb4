//! The streams that a worker runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fleet::Ended;
use mmface::Runtime;
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::counters::Counters;
use crate::run::{Group, Options, Over};
use crate::{Result, source};

/// Name and number of a run.
type Key = (String, u64);

/// The streams that run, and those that wait until an older run has ended.
pub(super) struct Runs {
    group: Group<Key>,
    board: Arc<Board>,
    counters: BTreeMap<String, Watched>,
    queued: BTreeMap<String, (u64, Options)>,
    /// Runs that could not even be started.
    failed: Vec<(Key, Ended)>,
}

/// The counters of a run, and what they said before.
struct Watched {
    counters: Arc<Counters>,
    processed: u64,
    at: Instant,
    fps: f64,
}

/// How a stream is doing, as its worker tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Doing {
    /// `starting`, `up`, `down`, `ended` or `failed`; `waiting` for the next attempt.
    pub state: String,
    /// Records a second.
    #[serde(default)]
    pub fps: f64,
    /// 95 of 100 records of this run were made within so many milliseconds.
    #[serde(default)]
    pub latency_ms: f64,
    /// Seconds since the last frame; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<f64>,
    /// Faces in the last frame.
    #[serde(default)]
    pub faces: u64,
    /// Records that wait for the broker.
    #[serde(default)]
    pub waiting: u64,
    /// Records for which there was no room.
    #[serde(default)]
    pub dropped: u64,
    /// Why it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Runs {
    pub(super) fn new(runtime: &Runtime, board: &Arc<Board>) -> Self {
        Self {
            group: Group::new(runtime, board),
            board: board.clone(),
            counters: BTreeMap::new(),
            queued: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    /// Starts a stream, once an older run of it has ended.
    pub(super) fn start(&mut self, name: &str, revision: u64, options: Result<Options>) {
        match options {
            Ok(options) if self.group.keys().any(|(other, _)| other == name) => {
                self.group.stop(|(other, _)| other == name);
                self.queued.insert(name.into(), (revision, options));
            }
            Ok(options) => self.start_now(name, revision, options),
            Err(error) => self.fails(name, revision, &error),
        }
    }

    fn start_now(&mut self, name: &str, revision: u64, options: Options) {
        let counters = options.counters.clone();
        let watched = Watched { counters, processed: 0, at: Instant::now(), fps: 0.0 };
        self.counters.insert(name.into(), watched);
        if let Err(error) = self.group.start((name.into(), revision), options) {
            self.fails(name, revision, &error);
        }
        self.list();
    }

    fn fails(&mut self, name: &str, revision: u64, error: &crate::Error) {
        tracing::info_span!("stream", name).in_scope(|| tracing::error!("{error}"));
        let reason = source::mask(&error.to_string());
        self.failed.push(((name.into(), revision), Ended::Failed(reason)));
    }

    /// Asks a stream to end.
    pub(super) fn stop(&mut self, name: &str) {
        if let Some((revision, _)) = self.queued.remove(name) {
            self.failed.push(((name.into(), revision), Ended::Stopped));
        }
        self.group.stop(|(other, _)| other == name);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.group.keys().next().is_none() && self.queued.is_empty() && self.failed.is_empty()
    }

    /// The runs that have ended since the last time.
    pub(super) fn reap(&mut self) -> Vec<(Key, Ended)> {
        let mut ended = std::mem::take(&mut self.failed);
        for over in self.group.reap() {
            over.log();
            let Over { key, stopped, end, .. } = over;
            self.counters.remove(&key.0);
            let queued = self.queued.remove(&key.0);
            let how = match end {
                Ok(_) if stopped => Ended::Stopped,
                // Whoever fences a run has ended it.
                Ok(end) if end.reason == crate::sink::nats::FENCED => Ended::Stopped,
                Ok(_) => Ended::Done,
                Err(error) => Ended::Failed(source::mask(&error.to_string())),
            };
            if let Some((revision, options)) = queued {
                self.start_now(&key.0, revision, options);
            }
            ended.push((key, how));
        }
        if !ended.is_empty() {
            self.list();
        }
        ended
    }

    /// Shows those that run as wanted.
    fn list(&self) {
        let names: Vec<_> = self.group.keys().map(|(name, _)| name.as_str()).collect();
        self.board.list_only(&names);
    }

    /// How the streams are doing.
    pub(super) fn doing(&mut self) -> BTreeMap<String, Doing> {
        let doing = |(name, watched): (&String, &mut Watched)| (name.clone(), watched.doing());
        self.counters.iter_mut().map(doing).collect()
    }

    /// Frames so far, and those that were lost because the machine was too slow; streams of which
    /// frames come.
    pub(super) fn frames(&self) -> (u64, u64, usize) {
        let views = self.board.views();
        let sum = |of: fn(&crate::board::View) -> u64| views.iter().map(of).sum();
        let busy = sum(|view| view.totals.dropped.get("busy").copied().unwrap_or(0));
        let up = views.iter().filter(|view| view.listed && view.is_up()).count();
        (sum(|view| view.totals.decoded), busy, up)
    }
}

impl Watched {
    fn doing(&mut self) -> Doing {
        let counters = &self.counters;
        let condition = counters.status.condition();
        let processed = counters.processed.get();
        let time = self.at.elapsed().as_secs_f64();
        if time > 1.0 {
            self.fps = (processed - self.processed) as f64 / time;
            (self.processed, self.at) = (processed, Instant::now());
        }
        let sinks = counters.sinks();
        let nats = sinks.iter().find(|sink| sink.name == crate::sink::nats::NAME);
        Doing {
            state: condition.state.name().into(),
            fps: rounded(self.fps),
            latency_ms: rounded(counters.latency().p95),
            last_frame: condition.last_frame.map(|at| rounded(at.elapsed().as_secs_f64())),
            faces: counters.status.faces(),
            waiting: nats.map_or(0, |sink| sink.waiting.get()),
            dropped: nats.map_or(0, |sink| sink.dropped.get()),
            reason: condition.reason,
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

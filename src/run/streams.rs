//! Several runs side by side on one runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mmface::{Runtime, record};

use super::{Options, join, log_end, run, spawn};
use crate::board::Board;
use crate::{Error, Result};

/// How often streams are looked after.
const TICK: Duration = Duration::from_millis(50);

/// A stream that runs.
struct Running<K> {
    key: K,
    name: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<record::End>>,
}

/// A stream that ran.
pub struct Over<K> {
    /// Its key.
    pub key: K,
    /// Its name.
    pub name: String,
    /// Whether it was asked to end.
    pub stopped: bool,
    /// How it ended.
    pub end: Result<record::End>,
}

/// Streams that run side by side on one runtime, each known by a key.
pub struct Group<K> {
    runtime: Runtime,
    board: Arc<Board>,
    running: Vec<Running<K>>,
}

impl<K> Group<K> {
    /// A group without streams. `board` shows those that are started.
    #[must_use]
    pub fn new(runtime: &Runtime, board: &Arc<Board>) -> Self {
        Self { runtime: runtime.clone(), board: board.clone(), running: Vec::new() }
    }

    /// Starts a stream.
    ///
    /// # Errors
    /// [`Error::Device`] if there are no more threads.
    pub fn start(&mut self, key: K, options: Options) -> Result<()> {
        let name = options.stream.clone();
        self.board.put(&name, &options.counters);
        let span = tracing::info_span!("stream", name);
        let (runtime, stop) = (self.runtime.clone(), Arc::<AtomicBool>::default());
        let flag = stop.clone();
        let thread = span.in_scope(|| spawn("stream", move || run(&runtime, options, &flag)))?;
        self.running.push(Running { key, name, stop, thread });
        Ok(())
    }

    /// The keys of those that run.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.running.iter().map(|stream| &stream.key)
    }

    /// Asks streams to end.
    pub fn stop(&self, which: impl Fn(&K) -> bool) {
        let streams = self.running.iter().filter(|stream| which(&stream.key));
        streams.for_each(|stream| stream.stop.store(true, Ordering::Relaxed));
    }

    /// Ends streams, and waits until they have ended.
    pub fn end(&mut self, which: impl Fn(&K) -> bool) -> Vec<Over<K>> {
        self.stop(&which);
        let all = std::mem::take(&mut self.running);
        let (ended, kept) = all.into_iter().partition(|stream| which(&stream.key));
        self.running = kept;
        let ended: Vec<_> = ended;
        ended.into_iter().map(Running::over).collect()
    }

    /// Takes out the streams that have ended.
    pub fn reap(&mut self) -> Vec<Over<K>> {
        let all = std::mem::take(&mut self.running);
        let (ended, kept) = all.into_iter().partition(|stream| stream.thread.is_finished());
        self.running = kept;
        let ended: Vec<_> = ended;
        ended.into_iter().map(Running::over).collect()
    }
}

impl<K> Running<K> {
    /// Waits for the end.
    fn over(self) -> Over<K> {
        let Self { key, name, stop, thread } = self;
        let end = join(thread);
        Over { key, name, stopped: stop.load(Ordering::Relaxed), end }
    }
}

impl<K> Over<K> {
    /// Tells the log how it ended.
    pub fn log(&self) {
        tracing::info_span!("stream", name = self.name).in_scope(|| match &self.end {
            Ok(end) => log_end(end),
            Err(error) => tracing::error!("{error}"),
        });
    }
}

/// Streams that run, and what became of the others.
struct Streams<K> {
    group: Group<K>,
    /// Settings of the streams that came to their end. They are not started again.
    finished: Vec<K>,
    /// How often one failed, and name and exit code of the first.
    failures: usize,
    first: Option<(String, u8)>,
}

/// Runs streams side by side until all have ended or `stop` is set. A stream that fails ends alone.
///
/// `changes` is asked again and again; it returns a new list when there is one. Streams that are
/// not in it are ended, new ones are started, streams with the same settings go on undisturbed. A
/// stream that failed is started again. `board` shows all of them.
///
/// # Errors
/// [`Error::Streams`] if one failed, after all have ended.
pub fn run_streams<K: PartialEq>(
    runtime: &Runtime,
    streams: Vec<(K, Options)>,
    board: &Arc<Board>,
    stop: &AtomicBool,
    mut changes: impl FnMut() -> Option<Vec<(K, Options)>>,
) -> Result<()> {
    let group = Group::new(runtime, board);
    let mut this = Streams { group, finished: Vec::new(), failures: 0, first: None };
    this.change(streams);
    while this.group.keys().next().is_some() {
        std::thread::sleep(TICK);
        for stream in this.group.reap() {
            this.ended(stream);
        }
        if stop.load(Ordering::Relaxed) {
            this.group.stop(|_| true);
        } else if let Some(streams) = changes() {
            this.change(streams);
        }
    }
    let failed = this.failures;
    this.first.map_or(Ok(()), |(first, code)| Err(Error::Streams { failed, first, code }))
}

impl<K: PartialEq> Streams<K> {
    /// Ends what is not wanted and starts what is new.
    fn change(&mut self, wanted: Vec<(K, Options)>) {
        let names: Vec<_> = wanted.iter().map(|(_, options)| options.stream.as_str()).collect();
        self.group.stop(|key| !wanted.iter().any(|(other, _)| other == key));
        self.group.board.list_only(&names);
        // A changed stream may write to the same files, so the old one has to end first.
        for stream in self.group.end(|key| !wanted.iter().any(|(other, _)| other == key)) {
            self.ended(stream);
        }
        for (key, options) in wanted {
            if self.finished.contains(&key) || self.group.keys().any(|other| *other == key) {
                continue;
            }
            let name = options.stream.clone();
            if let Err(error) = self.group.start(key, options) {
                self.failed(name, &error);
            }
        }
    }

    fn ended(&mut self, stream: Over<K>) {
        stream.log();
        match stream.end {
            Ok(_) if stream.stopped => {}
            Ok(_) => self.finished.push(stream.key),
            Err(error) => self.count(stream.name, &error),
        }
    }

    fn failed(&mut self, name: String, error: &Error) {
        tracing::info_span!("stream", name).in_scope(|| tracing::error!("{error}"));
        self.count(name, error);
    }

    fn count(&mut self, name: String, error: &Error) {
        self.failures += 1;
        self.first.get_or_insert((name, error.exit_code()));
    }
}

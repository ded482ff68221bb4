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
    /// Its settings. A stream with other settings is another stream.
    key: K,
    name: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<record::End>>,
}

/// Streams that run, and what became of the others.
struct Streams<'a, K> {
    runtime: &'a Runtime,
    board: &'a Board,
    running: Vec<Running<K>>,
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
    board: &Board,
    stop: &AtomicBool,
    mut changes: impl FnMut() -> Option<Vec<(K, Options)>>,
) -> Result<()> {
    let (running, finished) = (Vec::new(), Vec::new());
    let mut this = Streams { runtime, board, running, finished, failures: 0, first: None };
    this.change(streams);
    while !this.running.is_empty() {
        std::thread::sleep(TICK);
        this.reap();
        if stop.load(Ordering::Relaxed) {
            this.running.iter().for_each(Running::end);
        } else if let Some(streams) = changes() {
            this.change(streams);
        }
    }
    let failed = this.failures;
    this.first.map_or(Ok(()), |(first, code)| Err(Error::Streams { failed, first, code }))
}

impl<K> Running<K> {
    /// Asks the stream to end.
    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl<K: PartialEq> Streams<'_, K> {
    /// Ends what is not wanted and starts what is new.
    fn change(&mut self, wanted: Vec<(K, Options)>) {
        let is_wanted = |stream: &Running<K>| wanted.iter().any(|(key, _)| *key == stream.key);
        let (kept, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(is_wanted);
        self.running = kept;
        ended.iter().for_each(Running::end);
        let names: Vec<_> = wanted.iter().map(|(_, options)| options.stream.as_str()).collect();
        self.board.list_only(&names);
        // A changed stream may write to the same files, so the old one has to end first.
        for stream in ended {
            self.ended(stream);
        }
        for (key, options) in wanted {
            let known = self.finished.contains(&key);
            if !known && !self.running.iter().any(|stream| stream.key == key) {
                self.start(key, options);
            }
        }
    }

    fn start(&mut self, key: K, options: Options) {
        let name = options.stream.clone();
        self.board.put(&name, &options.counters);
        let span = tracing::info_span!("stream", name);
        let (runtime, stop) = (self.runtime.clone(), Arc::<AtomicBool>::default());
        let flag = stop.clone();
        match span.in_scope(|| spawn("stream", move || run(&runtime, options, &flag))) {
            Ok(thread) => self.running.push(Running { key, name, stop, thread }),
            Err(error) => self.failed(name, &error),
        }
    }

    /// Takes out the streams that have ended.
    fn reap(&mut self) {
        while let Some(at) = self.running.iter().position(|stream| stream.thread.is_finished()) {
            let stream = self.running.swap_remove(at);
            self.ended(stream);
        }
    }

    fn ended(&mut self, stream: Running<K>) {
        let Running { key, name, thread, stop } = stream;
        match join(thread) {
            Ok(end) => {
                tracing::info_span!("stream", name).in_scope(|| log_end(&end));
                if !stop.load(Ordering::Relaxed) {
                    self.finished.push(key);
                }
            }
            Err(error) => self.failed(name, &error),
        }
    }

    fn failed(&mut self, name: String, error: &Error) {
        tracing::info_span!("stream", name).in_scope(|| tracing::error!("{error}"));
        self.failures += 1;
        self.first.get_or_insert((name, error.exit_code()));
    }
}

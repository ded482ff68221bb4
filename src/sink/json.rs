//! Records as JSON lines, to standard output or to a file.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::{SharedFile, cannot_write};
use super::lines::{self, Ended, Importance};
use super::{Content, Context, Event, Plan, Sink, WhenSlow};
use crate::counters::SinkCounters;
use crate::{Error, Result};

/// Where records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which is truncated at the first record.
    File(PathBuf),
    /// A file that several streams share.
    Shared(SharedFile),
}

/// The sink for records.
#[derive(Debug)]
pub struct Json {
    /// Where they are written.
    pub target: Target,
    /// Optional parts of the records.
    pub content: Content,
    /// What happens in a live run if their reader is slow: the run waits, or the oldest frames'
    /// records that wait are dropped. Other records are kept.
    pub when_slow: WhenSlow,
}

impl Plan for Json {
    fn name(&self) -> &'static str {
        "records"
    }

    /// Always waits: making a line takes no time, and the lines have a queue of their own.
    fn when_slow(&self) -> WhenSlow {
        WhenSlow::Wait
    }

    fn file(&self) -> Option<&Path> {
        match &self.target {
            // A shared file belongs to no single stream.
            Target::Stdout | Target::Shared(_) => None,
            Target::File(path) => Some(path),
        }
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let (target, place) = match &self.target {
            Target::Stdout => {
                let place = "standard output".to_string();
                let failed = |e| cannot_write("records", &place, &e);
                (lines::Target::stdout().map_err(failed)?, place)
            }
            Target::File(path) => (create(path)?, path.display().to_string()),
            Target::Shared(file) => {
                file.open().map_err(|e| cannot_create(file.path(), &e))?;
                (lines::Target::Shared(file.clone()), file.path().display().to_string())
            }
        };
        Ok(Box::new(Records {
            target: Some((target, place)),
            lines: None,
            content: self.content,
            when_slow: self.when_slow,
            counters: context.counters.sink("records"),
            context: context.clone(),
        }))
    }
}

/// Writes one record per line, each at once, so that a reader gets every record with its frame and
/// a crash loses none.
struct Records {
    /// Until the first record.
    target: Option<(lines::Target, String)>,
    /// From the first record on.
    lines: Option<lines::Lines>,
    content: Content,
    when_slow: WhenSlow,
    counters: Arc<SinkCounters>,
    context: Arc<Context>,
}

impl Records {
    fn importance(&self, event: &Event) -> Importance {
        let live = self.context.live.load(Ordering::Relaxed);
        match event {
            _ if self.when_slow == WhenSlow::Wait || !live => Importance::Wait,
            Event::Frame(_) => Importance::Newest,
            _ => Importance::Kept,
        }
    }

    fn finish_lines(&mut self) -> Result<ControlFlow<&'static str>> {
        match self.lines.take().map(lines::Lines::finish).transpose()? {
            Some(Ended::ReaderGone) => Ok(ControlFlow::Break("the reader of the records has gone")),
            Some(Ended::Written) | None => Ok(ControlFlow::Continue(())),
        }
    }
}

impl Sink for Records {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let mut line = serde_json::to_vec(&event.record(self.content))
            .map_err(|e| Error::Bug(format!("a record cannot be serialised: {e}")))?;
        line.push(b'\n');
        if let Some((target, place)) = self.target.take() {
            self.lines = Some(lines::Lines::start(target, place)?);
        }
        let importance = self.importance(event);
        let Some(lines) = &self.lines else {
            return Ok(ControlFlow::Break("the records have ended"));
        };
        match lines.send(line, importance) {
            Ok(dropped) => {
                (0..dropped).for_each(|_| self.counters.dropped.add());
                Ok(ControlFlow::Continue(()))
            }
            Err(handoff::Closed) => self.finish_lines(),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        // A reader that leaves during the last lines has what it wanted.
        self.finish_lines().map(|_| ())
    }
}

fn create(path: &Path) -> Result<lines::Target> {
    lines::Target::open(path).map_err(|e| cannot_create(path, &e))
}

fn cannot_create(path: &Path, error: &io::Error) -> Error {
    Error::Sink(format!("cannot create {}: {error}; name another file with --json", path.display()))
}

//! Records as JSON lines, to standard output or to a file.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{TruncateOnWrite, cannot_write};
use super::{Content, Context, Event, Plan, Sink, WhenSlow};
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

/// A file into which several streams write whole lines. It is truncated at the first record.
#[derive(Debug, Clone)]
pub struct SharedFile {
    path: PathBuf,
    /// Opened by the first stream.
    file: Arc<Mutex<Option<TruncateOnWrite>>>,
}

impl SharedFile {
    /// The file at `path`, which is not opened yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: Arc::default() }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Option<TruncateOnWrite>> {
        // A stream that panicked left a whole line or, as at a full disk, a part of one.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<Self> {
        let mut file = self.lock();
        if file.is_none() {
            *file = Some(create(&self.path)?);
        }
        drop(file);
        Ok(self.clone())
    }
}

impl PartialEq for SharedFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Eq for SharedFile {}

impl Write for SharedFile {
    /// Writes all bytes, so that a line of one stream never lies within a line of another.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.lock().as_mut() {
            Some(file) => file.write_all(bytes).map(|()| bytes.len()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().as_mut().map_or(Ok(()), Write::flush)
    }
}

/// The sink for records.
#[derive(Debug)]
pub struct Json {
    /// Where they are written.
    pub target: Target,
    /// Optional parts of the records.
    pub content: Content,
}

impl Plan for Json {
    fn name(&self) -> &'static str {
        "records"
    }

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

    fn open(self: Box<Self>, _: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let (out, place): (Box<dyn Write + Send>, _) = match &self.target {
            Target::Stdout => (Box::new(io::stdout()), "standard output".into()),
            Target::File(path) => (Box::new(create(path)?), path.display().to_string()),
            Target::Shared(file) => (Box::new(file.open()?), file.path.display().to_string()),
        };
        Ok(Box::new(Lines { out, place, content: self.content, line: Vec::new() }))
    }
}

/// Writes one record per line and flushes each line, so that a reader gets every record with its
/// frame and a crash loses none.
struct Lines {
    out: Box<dyn Write + Send>,
    place: String,
    content: Content,
    line: Vec<u8>,
}

impl Sink for Lines {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let record = event.record(self.content);
        self.line.clear();
        serde_json::to_writer(&mut self.line, &record)
            .map_err(|e| Error::Bug(format!("a record cannot be serialised: {e}")))?;
        self.line.push(b'\n');
        match self.out.write_all(&self.line).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                Ok(ControlFlow::Break("the reader of the records has gone"))
            }
            Err(e) => Err(cannot_write("records", &self.place, &e)),
        }
    }
}

fn create(path: &Path) -> Result<TruncateOnWrite> {
    TruncateOnWrite::open(path).map_err(|e| {
        Error::Sink(format!("cannot create {}: {e}; name another file with --json", path.display()))
    })
}

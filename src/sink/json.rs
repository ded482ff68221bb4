//! Records as JSON lines, to standard output or to a file.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
            Target::Stdout => None,
            Target::File(path) => Some(path),
        }
    }

    fn open(self: Box<Self>, _: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let (out, place): (Box<dyn Write + Send>, _) = match &self.target {
            Target::Stdout => (Box::new(io::stdout()), "standard output".into()),
            Target::File(path) => (Box::new(create(path)?), path.display().to_string()),
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

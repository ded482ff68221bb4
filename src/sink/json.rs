//! Records as JSON lines, to standard output or a file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Anew;
use crate::record::Record;
use crate::{Error, Result};

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which is begun anew with the first record.
    File(PathBuf),
    /// Nowhere: they are not wanted, or their reader is in this program.
    Nowhere,
}

/// Writes one record a line, and each line at once: a reader sees it with its frame, and a crash
/// loses nothing.
pub struct Lines {
    out: Box<dyn Write + Send>,
    place: String,
    line: Vec<u8>,
}

impl Lines {
    /// Opens the target.
    ///
    /// # Errors
    /// [`Error::Sink`] if the file cannot be created.
    pub fn open(target: &Target) -> Result<Self> {
        let (out, place): (Box<dyn Write + Send>, _) = match target {
            Target::Stdout => (Box::new(io::stdout()), "standard output".into()),
            Target::File(path) => (Box::new(create(path)?), path.display().to_string()),
            Target::Nowhere => (Box::new(io::sink()), "nowhere".into()),
        };
        Ok(Self { out, place, line: Vec::new() })
    }

    /// Writes one record.
    ///
    /// # Errors
    /// [`Error::ClosedPipe`] if the reader has gone, [`Error::Sink`] if it cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)
            .map_err(|e| Error::Bug(format!("a record cannot be serialised: {e}")))?;
        self.line.push(b'\n');
        self.out
            .write_all(&self.line)
            .and_then(|()| self.out.flush())
            .map_err(|e| failed("records", &self.place, &e))
    }
}

/// What it means that `what` cannot be written to `place`.
pub fn failed(what: &str, place: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::ClosedPipe,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Sink(format!(
            "cannot write {what} to {place}: {error}; make room, or write elsewhere"
        )),
        _ => Error::Sink(format!("cannot write {what} to {place}: {error}; write elsewhere")),
    }
}

fn create(path: &Path) -> Result<Anew> {
    Anew::open(path).map_err(|e| {
        Error::Sink(format!("cannot create {}: {e}; name another file with --json", path.display()))
    })
}

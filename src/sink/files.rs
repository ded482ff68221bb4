//! Writing files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// A file that is truncated at the first write. Until then its contents are kept, so that a run
/// that fails early does not destroy the results of an earlier run.
#[derive(Debug)]
pub(crate) struct TruncateOnWrite {
    file: File,
    begun: bool,
}

impl TruncateOnWrite {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, begun: false })
    }
}

impl Write for TruncateOnWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.begun {
            // A pipe or a device has no length to truncate.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            self.begun = true;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The error for a failure to write `what` to `place`.
pub(crate) fn cannot_write(what: &str, place: &str, error: &io::Error) -> Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or write elsewhere"
        }
        _ => "write elsewhere",
    };
    Error::Sink(format!("cannot write {what} to {place}: {error}; {cure}"))
}

/// Creates a folder if it does not exist.
pub(crate) fn folder(path: &Path, flag: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| {
        let path = path.display();
        Error::Sink(format!("cannot make the folder {path}: {e}; name another with {flag}"))
    })
}

/// Writes a whole file, or removes it if that fails.
pub(crate) fn write(what: &str, path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: io::Error| cannot_write(what, &path.display().to_string(), &e);
    File::create(path).map_err(failed)?.write_all(bytes).map_err(|e| {
        remove_partial(path);
        failed(e)
    })
}

/// Removes a partially written file; pipes and devices are left alone.
pub(crate) fn remove_partial(path: &Path) {
    if path.is_file() {
        let _ = std::fs::remove_file(path);
    }
}

/// The state of a file to which nothing was written, for messages.
pub(crate) fn untouched(path: &Path) -> &'static str {
    let had_content = path.metadata().is_ok_and(|file| file.len() > 0);
    if had_content { "is left as it was" } else { "is empty" }
}

//! Files that sinks write.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// A file that is emptied with the first byte that is written: until then what was in it stays, so that
/// a run which is refused after it was opened costs nothing.
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
            // A pipe or a device has no length.
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

/// The error of writing `what` to `place`.
pub(crate) fn cannot_write(what: &str, place: &str, error: &io::Error) -> Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or write elsewhere"
        }
        _ => "write elsewhere",
    };
    Error::Sink(format!("cannot write {what} to {place}: {error}; {cure}"))
}

/// Makes a folder, or takes one that is there.
pub(crate) fn folder(path: &Path, flag: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| {
        let path = path.display();
        Error::Sink(format!("cannot make the folder {path}: {e}; name another with {flag}"))
    })
}

/// Writes a whole file. What cannot be written whole is removed again.
pub(crate) fn write(what: &str, path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: io::Error| cannot_write(what, &path.display().to_string(), &e);
    File::create(path).map_err(failed)?.write_all(bytes).map_err(|e| {
        remove_partial(path);
        failed(e)
    })
}

/// Removes a file that is not whole; a pipe or a device stays.
pub(crate) fn remove_partial(path: &Path) {
    if path.is_file() {
        let _ = std::fs::remove_file(path);
    }
}

/// What has become of a file that nothing was written to.
pub(crate) fn untouched(path: &Path) -> &'static str {
    let had_content = path.metadata().is_ok_and(|file| file.len() > 0);
    if had_content { "is left as it was" } else { "is empty" }
}

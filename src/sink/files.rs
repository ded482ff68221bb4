//! Writing files.

use std::fs::{File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::{Error, Result};

/// A file that is truncated at the first write. Until then its contents are kept, so that a run
/// that fails early does not destroy the results of an earlier run. While it is open, no other
/// process can open it like this. A named pipe is opened at the first write, because that waits for
/// its reader.
#[derive(Debug)]
pub(crate) struct TruncateOnWrite {
    /// `None` for a named pipe that is not open yet.
    file: Option<File>,
    path: PathBuf,
    begun: bool,
}

impl TruncateOnWrite {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let is_pipe = path.metadata().is_ok_and(|file| file.file_type().is_fifo());
        let file = if is_pipe {
            None
        } else {
            let file = File::options().write(true).create(true).truncate(false).open(path)?;
            // Devices such as /dev/null are for everybody.
            if file.metadata()?.is_file() {
                lock(&file)?;
            }
            Some(file)
        };
        Ok(Self { file, path: path.to_path_buf(), begun: false })
    }

    fn opened(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(File::options().write(true).open(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Locks a file or folder until it is closed. Where a file system has no locks, there are none.
fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("another run is writing to it, so wait for its end"))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

impl Write for TruncateOnWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = std::mem::replace(&mut self.begun, true);
        let file = self.opened()?;
        // A pipe or a device has no length to truncate.
        if !begun && file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Seek for TruncateOnWrite {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.opened()?.seek(to)
    }
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

    /// Opens the file, if no stream has done so.
    pub(super) fn open(&self) -> io::Result<()> {
        let mut file = self.lock();
        if file.is_none() {
            *file = Some(TruncateOnWrite::open(&self.path)?);
        }
        Ok(())
    }

    /// Writes a line, so that it never lies within a line of another stream.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        match self.lock().as_mut() {
            Some(file) => file.write_all(line).and_then(|()| file.flush()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl PartialEq for SharedFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Eq for SharedFile {}

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

/// A folder that this process alone writes to.
pub(crate) type Folder = Arc<File>;

/// Creates a folder if it does not exist, and locks it. Sinks of one run may share a folder: the
/// names of their files differ.
pub(crate) fn folder(path: &Path, flag: &str) -> Result<Folder> {
    type Known = ((u64, u64), Weak<File>);
    static LOCKED: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    let failed = |what: &str, e: io::Error| {
        let path = path.display();
        Error::Sink(format!("cannot {what} the folder {path}: {e}; name another with {flag}"))
    };
    std::fs::create_dir_all(path).map_err(|e| failed("make", e))?;
    let folder = File::open(path).map_err(|e| failed("open", e))?;
    let about = folder.metadata().map_err(|e| failed("open", e))?;
    let place = (about.dev(), about.ino());
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    locked.retain(|(_, folder)| folder.strong_count() > 0);
    let mine = locked.iter().find(|(known, _)| *known == place);
    if let Some(folder) = mine.and_then(|(_, folder)| folder.upgrade()) {
        return Ok(folder);
    }
    lock(&folder).map_err(|e| failed("write to", e))?;
    let folder = Arc::new(folder);
    locked.push((place, Arc::downgrade(&folder)));
    Ok(folder)
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

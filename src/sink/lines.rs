//! Writes lines on a thread of its own, so that a reader who stands still costs lines and nothing
//! else.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use handoff::{Closed, Receiver, Sender, mailbox};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::files::{SharedFile, TruncateOnWrite, cannot_write};
use crate::{Error, Result, ending};

/// Most lines of frames that wait for a reader: about two seconds of video.
const QUEUED: usize = 64;
/// Most bytes that are written to a pipe at once. A pipe that can be written to has room for them.
const CHUNK: usize = 4096;
/// How often a writer that waits for its reader asks whether it should go on.
const ASK: Duration = Duration::from_millis(50);

/// What becomes of a line if the reader is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Importance {
    /// The sender waits.
    Wait,
    /// The oldest such line in the queue is dropped.
    Newest,
    /// Kept, and the sender does not wait.
    Kept,
}

/// How the lines ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All were written.
    Written,
    /// The reader has closed its end.
    ReaderGone,
}

/// Lines on their way to a file, a pipe or standard output.
pub(super) struct Lines {
    queue: Sender<Vec<u8>>,
    thread: JoinHandle<Result<Ended>>,
}

impl Lines {
    /// Starts the thread that writes.
    pub(super) fn start(target: Target, place: String) -> Result<Self> {
        let (queue, lines) = mailbox(QUEUED);
        let writer = Writer { target, place };
        let thread = std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || writer.run(&lines))
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { queue, thread })
    }

    /// Passes a line on; returns how many lines were dropped for it.
    ///
    /// # Errors
    /// [`Closed`] if there is nobody to write any more: [`finish`](Self::finish) tells why.
    pub(super) fn send(
        &self,
        line: Vec<u8>,
        importance: Importance,
    ) -> std::result::Result<u64, Closed> {
        let dropped = match importance {
            Importance::Wait => return self.queue.send(line).map(|()| 0),
            Importance::Newest => self.queue.offer(line, QUEUED)?,
            Importance::Kept => self.queue.post(line)?,
        };
        Ok(dropped.map_or(0, |_| 1))
    }

    /// Waits until all is written, or until the time after a signal is over.
    ///
    /// # Errors
    /// [`Error::Sink`] if lines could not be written.
    pub(super) fn finish(self) -> Result<Ended> {
        drop(self.queue);
        let panicked = |_| Err(Error::Bug("the thread of the records panicked".into()));
        self.thread.join().unwrap_or_else(panicked)
    }
}

/// Where lines go.
pub(super) enum Target {
    /// A file or a device.
    File(TruncateOnWrite),
    /// Whatever standard output is. Several streams may write to it.
    Stdout(File),
    /// A pipe.
    Pipe(File),
    /// A file of several streams.
    Shared(SharedFile),
    /// A named pipe that nobody reads yet.
    Named(PathBuf),
}

impl Target {
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::Stdout(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.metadata().is_ok_and(|file| file.file_type().is_fifo()) {
            Ok(Self::Named(path.to_path_buf()))
        } else {
            TruncateOnWrite::open(path).map(Self::File)
        }
    }
}

/// How far a line came.
enum Progress {
    Whole,
    /// The time after a signal is over; so many bytes of the line are written.
    GaveUp(usize),
}

struct Writer {
    target: Target,
    place: String,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Vec<u8>>) -> Result<Ended> {
        while let Some(line) = lines.recv() {
            match self.write(&line) {
                Ok(Progress::Whole) => {}
                Ok(Progress::GaveUp(written)) => {
                    let left = 1 + std::iter::from_fn(|| lines.recv()).count();
                    return Err(self.stuck(left, written));
                }
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(Ended::ReaderGone),
                Err(e) => return Err(cannot_write("records", &self.place, &e)),
            }
        }
        Ok(Ended::Written)
    }

    fn stuck(&self, lines: usize, written: usize) -> Error {
        let place = &self.place;
        let why = match self.target {
            Target::Named(_) => "nobody reads it",
            _ => "its reader stands still",
        };
        let torn = if written > 0 { ", and the last line in it is broken off" } else { "" };
        Error::Sink(format!(
            "{lines} records could not be written to {place} before the end, because {why}{torn}"
        ))
    }

    fn write(&mut self, line: &[u8]) -> io::Result<Progress> {
        if let Target::Named(path) = &self.target {
            match open_pipe(path)? {
                Some(pipe) => self.target = Target::Pipe(pipe),
                None => return Ok(Progress::GaveUp(0)),
            }
        }
        match &mut self.target {
            Target::File(file) => {
                file.write_all(line).and_then(|()| file.flush()).map(|()| Progress::Whole)
            }
            Target::Shared(file) => file.write(line).map(|()| Progress::Whole),
            Target::Stdout(pipe) => match Turn::take() {
                Some(turn) => to_pipe(pipe, line).inspect(|progress| {
                    if matches!(progress, Progress::GaveUp(written) if *written > 0) {
                        // Nothing may follow on a line that is broken off.
                        std::mem::forget(turn);
                    }
                }),
                None => Ok(Progress::GaveUp(0)),
            },
            Target::Pipe(pipe) => to_pipe(pipe, line),
            Target::Named(_) => Ok(Progress::GaveUp(0)),
        }
    }
}

/// The turn to write a line to standard output. A line goes out in pieces, and pieces of lines of
/// several streams must not mix.
struct Turn;

/// Whether somebody has the turn.
static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    /// Waits for the turn; `None` if the time after a signal is over.
    fn take() -> Option<Self> {
        let mut taken = Self::lock();
        while *taken {
            if ending::is_impatient() {
                return None;
            }
            let waited = GIVEN_BACK.wait_timeout(taken, ASK);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(Self)
    }

    fn lock() -> MutexGuard<'static, bool> {
        // Nothing that could panic runs under the lock.
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *Self::lock() = false;
        GIVEN_BACK.notify_one();
    }
}

/// Waits for a reader of a named pipe; `None` if the time after a signal is over.
fn open_pipe(path: &Path) -> io::Result<Option<File>> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    loop {
        match OpenOptions::new().write(true).custom_flags(nonblocking).open(path) {
            Ok(pipe) => return Ok(Some(pipe)),
            // Nobody reads it.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if ending::is_impatient() {
            return Ok(None);
        }
        std::thread::sleep(ASK);
    }
}

/// Writes a line to a pipe without ever waiting in `write`, which could not be left.
fn to_pipe(pipe: &mut File, line: &[u8]) -> io::Result<Progress> {
    let chunk = if pipe.metadata()?.is_file() { usize::MAX } else { CHUNK };
    let mut written = 0;
    while written < line.len() {
        let mut ready = [PollFd::new(pipe, PollFlags::OUT)];
        let time = Timespec { tv_sec: 0, tv_nsec: ASK.subsec_nanos().into() };
        match poll(&mut ready, Some(&time)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {
                if ending::is_impatient() {
                    return Ok(Progress::GaveUp(written));
                }
                continue;
            }
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        let end = written.saturating_add(chunk).min(line.len());
        match pipe.write(&line[written..end]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if ending::is_impatient() {
                    return Ok(Progress::GaveUp(written));
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(Progress::Whole)
}

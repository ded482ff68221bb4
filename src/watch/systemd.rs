//! Tells systemd how the service is doing: ready, reloading, stopping, a status line, and that it is
//! alive. Does nothing where no service manager asked for it (`NOTIFY_SOCKET`).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sd_notify::NotifyState;

use super::health::Readiness;
use crate::board::Board;
use crate::{Error, Result};

/// How often the state is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last message.
const FAREWELL: Duration = Duration::from_millis(200);

/// A thread that sends notifications until the process ends.
pub(super) struct Notifier {
    reloads: Arc<Reloads>,
    /// Dropping it asks the thread to say good-bye.
    end: Option<Sender<Infallible>>,
    /// Disconnected when the thread has ended.
    done: Receiver<Infallible>,
}

/// Reloads that have begun, and those that are over.
#[derive(Default)]
struct Reloads {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Notifier {
    /// Starts the thread, if there is somebody to notify.
    pub(super) fn start(board: Arc<Board>, stop: Arc<AtomicBool>) -> Result<Option<Self>> {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|path| path.is_empty()) {
            return Ok(None);
        }
        let reloads = Arc::<Reloads>::default();
        let mut observer = Observer {
            board,
            stop,
            reloads: reloads.clone(),
            watchdog: sd_notify::watchdog_enabled()
                .filter(|time| !time.is_zero())
                .map(|time| time / 3),
            alive: None,
            ready: false,
            told: 0,
            stopping: false,
            status: String::new(),
        };
        let (end, ended) = bounded(0);
        let (running, done) = bounded(0);
        let work = move || {
            let _running: Sender<Infallible> = running;
            while ended.recv_timeout(TICK) != Err(RecvTimeoutError::Disconnected) {
                observer.messages().iter().for_each(tell);
            }
            if !observer.stopping {
                tell(&Message::Stopping);
            }
        };
        std::thread::Builder::new()
            .name("notify".into())
            .spawn(work)
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Some(Self { reloads, end: Some(end), done }))
    }

    pub(super) fn reloading(&self) {
        self.reloads.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reloaded(&self) {
        self.reloads.done.store(self.reloads.begun.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Notifier {
    /// A process that ends without a signal is stopping too. A service manager that does not listen
    /// is not waited for.
    fn drop(&mut self) {
        self.end.take();
        let _ = self.done.recv_timeout(FAREWELL);
    }
}

/// Finds out what is new.
struct Observer {
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    reloads: Arc<Reloads>,
    /// How often systemd wants to hear that the process is alive.
    watchdog: Option<Duration>,
    /// When it was told last.
    alive: Option<Instant>,
    ready: bool,
    /// Reloads that were told.
    told: u64,
    /// Whether the end was told.
    stopping: bool,
    status: String,
}

/// One message. Each is a datagram of its own, so that a reader sees their order.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Alive,
}

impl Observer {
    fn messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        let status = Readiness::of(&self.board).line();
        if self.status != status {
            self.status.clone_from(&status);
            messages.push(Message::Status(status));
        }
        let (done, begun) =
            (self.reloads.done.load(Ordering::Relaxed), self.reloads.begun.load(Ordering::Relaxed));
        if self.ready && self.told < begun {
            self.ready = false;
            messages.push(Message::Reloading);
        }
        if !self.ready && done == begun && self.board.has_begun() {
            self.ready = true;
            self.told = begun;
            messages.push(Message::Ready);
        }
        if self.stop.load(Ordering::Relaxed) && !self.stopping {
            self.stopping = true;
            messages.push(Message::Stopping);
        }
        let is_due = |every| self.alive.is_none_or(|told| told.elapsed() >= every);
        if self.watchdog.is_some_and(is_due) && self.board.stuck().is_empty() {
            self.alive = Some(Instant::now());
            messages.push(Message::Alive);
        }
        messages
    }
}

fn tell(message: &Message) {
    let sent = match message {
        Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Message::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        // A line break would begin another message.
        Message::Status(line) => {
            sd_notify::notify(&[NotifyState::Status(&line.replace(['\n', '\r'], " "))])
        }
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(error) = sent {
        tracing::debug!("the service manager was not reached: {error}");
    }
}

//! Signals: Ctrl-C, SIGTERM and SIGHUP end the program; SIGUSR1 asks for neutral faces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::{Error, Result, ending, neutral};

/// Signals within this time after the first count as the same request.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// What signals asked for.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// Ctrl-C or SIGTERM came, or SIGHUP.
    pub stop: Arc<AtomicBool>,
    /// SIGHUP came, where it asks for new settings. Whoever reads it clears it.
    pub reload: Arc<AtomicBool>,
}

impl Requests {
    /// Listens to signals. With `reloads`, SIGHUP asks for new settings instead of the end. A
    /// second signal to end exits at once, unless it comes right after the first: `timeout` signals
    /// the program and then its process group, which counts as one request. What hangs is not waited
    /// for: within three seconds the process has ended.
    ///
    /// # Errors
    /// [`Error::Bug`] if signals cannot be caught.
    pub fn listen(reloads: bool) -> Result<Self> {
        let failed = |e| Error::Bug(format!("signals cannot be caught: {e}"));
        let this = Self::default();
        let hangup = (reloads || !is_ignored(SIGHUP)).then_some(SIGHUP);
        let signals = [SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup);
        let mut signals = Signals::new(signals).map_err(failed)?;
        let Self { stop, reload } = this.clone();
        let listen = move || {
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    neutral::mark();
                    continue;
                }
                if reloads && signal == SIGHUP {
                    reload.store(true, Ordering::Relaxed);
                    continue;
                }
                stop.store(true, Ordering::Relaxed);
                ending::begin();
                if first.is_none() {
                    // Without a thread more only a second signal ends what hangs.
                    let _ = std::thread::Builder::new().name("last".into()).spawn(exit_at_last);
                }
                if first.get_or_insert_with(Instant::now).elapsed() > SAME_REQUEST {
                    signal_hook::low_level::exit(130);
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(failed)?;
        Ok(this)
    }
}

/// A flag that Ctrl-C, SIGTERM and SIGHUP set; a run checks it and ends properly.
///
/// # Errors
/// [`Error::Bug`] if signals cannot be caught.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    Requests::listen(false).map(|requests| requests.stop)
}

/// Exits when the time for a proper end is over.
fn exit_at_last() {
    std::thread::sleep(ending::LAST);
    let lost = ending::is_writing();
    let (told, heard) = mpsc::sync_channel(1);
    // On a thread of its own: standard error may be what blocks.
    let tell = move || {
        if lost {
            tracing::error!(
                "something hangs, and is not waited for after a signal: outputs may lack their ends"
            );
        } else {
            tracing::info!("stopped before anything was written");
        }
        let _ = told.send(());
    };
    if std::thread::Builder::new().name("farewell".into()).spawn(tell).is_ok() {
        let _ = heard.recv_timeout(Duration::from_millis(150));
    }
    signal_hook::low_level::exit(if lost { 6 } else { 0 });
}

/// Whether the parent process has set the signal to be ignored, as nohup does with SIGHUP.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

//! The end after a signal: what may still take how long.
//!
//! A signal concerns the whole process, so its time is kept in one place for all threads. Counted
//! from the signal, a source has a second to stop, a sink that blocks is waited for until
//! `PATIENCE`, sinks write their ends until `FINISH`, and at `LAST` the process exits,
//! whatever hangs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a source may take to stop.
pub(crate) const SOURCE: Duration = Duration::from_millis(1000);
/// Until when frames that were queued before the signal are still looked at.
const FRAMES: Duration = Duration::from_millis(500);
/// Until when a sink that blocks is waited for.
const PATIENCE: Duration = Duration::from_millis(1600);
/// Until when sinks may write what they have, and the ends of their files.
const FINISH: Duration = Duration::from_millis(2300);
/// When the process exits in any case.
pub(crate) const LAST: Duration = Duration::from_millis(2600);

static SIGNALLED: OnceLock<Instant> = OnceLock::new();
static WRITING: AtomicBool = AtomicBool::new(false);
static ABANDONED: AtomicBool = AtomicBool::new(false);

/// Notes the time of the first signal.
pub(crate) fn begin() {
    SIGNALLED.get_or_init(Instant::now);
}

/// Whether the time for sinks that block is over. False without a signal.
pub(crate) fn is_impatient() -> bool {
    SIGNALLED.get().is_some_and(|since| since.elapsed() > PATIENCE)
}

/// Whether the time for queued frames is over. False without a signal.
pub(crate) fn is_late_for_frames() -> bool {
    SIGNALLED.get().is_some_and(|since| since.elapsed() > FRAMES)
}

/// The time that is left for the ends of sinks; `None` without a signal.
pub(crate) fn left() -> Option<Duration> {
    SIGNALLED.get().map(|since| FINISH.saturating_sub(since.elapsed()))
}

/// Notes that the sinks are open: from now on an end that is too early loses something.
pub(crate) fn writing() {
    WRITING.store(true, Ordering::Relaxed);
}

/// Whether the sinks were opened.
pub(crate) fn is_writing() -> bool {
    WRITING.load(Ordering::Relaxed)
}

/// Notes that a thread that hangs was left behind.
pub(crate) fn abandon() {
    ABANDONED.store(true, Ordering::Relaxed);
}

/// Whether a thread that hangs was left behind. Then the process must exit without running
/// destructors of libraries that the thread may be using.
#[must_use]
pub fn has_abandoned() -> bool {
    ABANDONED.load(Ordering::Relaxed)
}

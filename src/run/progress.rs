//! A progress bar for files, on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::source::Length;

/// The progress bar, if it is shown.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows a bar if `wanted` and if standard error is a terminal.
    pub(super) fn new(wanted: bool) -> Self {
        Self { bar: (wanted && std::io::stderr().is_terminal()).then(bar) }
    }

    /// Counts a frame at `pts` seconds of a stream of the given length.
    pub(super) fn frame(&mut self, pts: f64, length: Length) {
        let Some(bar) = &self.bar else { return };
        bar.inc(1);
        if let Some(frames) = length.frames {
            bar.set_length(frames.max(bar.position()));
        } else if let Some(seconds) = length.seconds.filter(|_| pts > 0.0) {
            bar.set_length((bar.position() as f64 * seconds / pts) as u64);
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} frames  {per_sec}  {eta} left");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

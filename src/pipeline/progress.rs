//! A progress bar for files, on a terminal, where it does not run into the records.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::Config;
use crate::sink::json::Target;
use crate::source::Source;

/// Shown only while someone can see it.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar for files whose records do not go to the same terminal.
    pub fn new(config: &Config) -> Self {
        let records = config.json == Target::Stdout && std::io::stdout().is_terminal();
        let wanted = !config.source.input.is_live() && std::io::stderr().is_terminal() && !records;
        Self { bar: wanted.then(bar) }
    }

    /// One more frame is done, at `pts` seconds.
    pub fn frame(&mut self, pts: f64, source: &Source) {
        let Some(bar) = &self.bar else { return };
        let length = source.length();
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

//! A sink beside the records, on a thread of its own: drawing, encoding and writing large files must
//! not hold up the records of a live stream.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::Result;
use crate::sink::{Shot, Sink};

/// Frames that wait for a sink at most.
const WAITING: usize = 2;

/// A sink at work.
pub struct Side {
    name: &'static str,
    shots: Sender<Arc<Shot>>,
    thread: JoinHandle<Result<()>>,
    skipped: u64,
}

impl Side {
    /// Sets a sink to work.
    pub fn start(name: &'static str, mut sink: Box<dyn Sink>) -> Result<Self> {
        let (shots, waiting) = bounded::<Arc<Shot>>(WAITING);
        let thread = super::spawn(name, move || {
            for shot in waiting {
                sink.take(&shot)?;
            }
            sink.finish()
        })?;
        Ok(Self { name, shots, thread, skipped: 0 })
    }

    /// False if it takes no more; [`finish`](Self::finish) knows why. Files wait for it; live streams
    /// don't.
    pub fn take(&mut self, shot: Arc<Shot>, live: bool) -> bool {
        if !live {
            return self.shots.send(shot).is_ok();
        }
        let sent = self.shots.try_send(shot);
        self.skipped += u64::from(matches!(sent, Err(TrySendError::Full(_))));
        !matches!(sent, Err(TrySendError::Disconnected(_)))
    }

    /// Waits until all is written.
    pub fn finish(self) -> Result<()> {
        drop(self.shots);
        if self.skipped > 0 {
            let Self { name, skipped, .. } = self;
            tracing::warn!("{skipped} frames came too fast for the {name}, and are not in it");
        }
        super::join(self.thread)
    }
}

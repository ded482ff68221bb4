//! Sinks: where results go.
//!
//! A sink receives [`Event`]s on a thread of its own. The command line turns flags into [`Plan`]s.
//! A plan says what the sink needs from the run and what happens if the sink is slow. To add a
//! sink, write its file, add its flags, and add a line to `cli/sinks.rs`.

pub mod avatar;
mod event;
pub mod feed;
pub mod files;
pub mod json;
mod lines;
pub mod meshes;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "fleet")]
pub mod nats;
pub mod overlay;
pub mod report;
pub mod table;
mod thread;
pub mod volumes;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub use event::{Content, Context, Event, FrameEvent, VolumeSource, Volumes};
pub(crate) use thread::{Finished, SinkThread};

use crate::Result;

/// What a sink needs from the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Set if it needs volumes; which ones it prefers if the user does not choose.
    pub volumes: Option<VolumeSource>,
}

/// What happens in a live run if a sink is slow. A run on a file always waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSlow {
    /// The run waits (back-pressure).
    Wait,
    /// The queued frame is dropped for a newer one, and counted.
    DropOldest,
}

/// What happens to a run if one of its sinks fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The run ends.
    #[default]
    End,
    /// The sink is left out, and the run goes on with the others. The failure is still the run's.
    Drop,
}

/// A requested sink that is not open yet.
pub trait Plan: Send {
    /// Name of the sink in messages.
    fn name(&self) -> &'static str;

    /// What the sink needs from the run.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// What happens in a live run if the sink is slow.
    fn when_slow(&self) -> WhenSlow;

    /// The file that the sink will write, if any. Nothing else may write to it.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// Opens the sink. The contents of an existing file are kept until the first event.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if the target cannot be written,
    /// [`Error::Usage`](crate::Error::Usage) for a file name that the sink does not support.
    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>>;
}

/// Receives the events of a run in order: a header, then streams, frames and gaps, and finally an
/// end.
pub trait Sink: Send {
    /// Handles the next event. `Break`, with a reason, means that the sink wants no more events and
    /// the run may end: the reader has closed its end, or the window was closed.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if writing fails.
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>>;

    /// Writes what has not been written yet.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if writing fails.
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

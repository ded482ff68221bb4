//! Where results go.
//!
//! A sink receives [`Event`]s on a thread of its own. Its [`Plan`], which the command line makes of
//! flags, says beforehand what it needs of the run and what happens when it is slow. To add a sink:
//! write its file, add its flags, and add a line to `cli/sinks.rs`.

mod event;
pub(crate) mod files;
pub mod json;
pub mod meshes;
pub mod overlay;
pub mod report;
mod thread;
pub mod volumes;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub use event::{Content, Context, Event, FrameEvent, VolumeSource, Volumes};
pub(crate) use thread::{Finished, SinkThread};

use crate::Result;

/// What a sink needs of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Volumes, and which it wants if nobody chooses.
    pub volumes: Option<VolumeSource>,
}

/// What happens in a live run when a sink is slow. A file waits for every sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSlow {
    /// The run waits.
    Wait,
    /// The frame that waits is dropped for a newer one, and counted.
    DropOldest,
}

/// A sink that is wanted and not open yet.
pub trait Plan: Send {
    /// Its name, in messages.
    fn name(&self) -> &'static str;

    /// What it needs of the run.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// What happens in a live run when it is slow.
    fn when_slow(&self) -> WhenSlow;

    /// The file that it will write, if it is one: nothing else may write there.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// Opens it. Until its first event, what was in its file stays.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if it cannot be written,
    /// [`Error::Usage`](crate::Error::Usage) for a name that it cannot write to.
    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>>;
}

/// Takes what happens in a run, in order: a header, then streams, frames and gaps, and an end.
pub trait Sink: Send {
    /// Takes the next event. A break, with its reason, says that it wants no more and that the run may
    /// end: its reader has gone, its window was closed.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if it cannot be written.
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>>;

    /// Writes what is left to write.
    ///
    /// # Errors
    /// [`Error::Sink`](crate::Error::Sink) if it cannot be written.
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

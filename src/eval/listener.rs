//! The sink of an evaluation: collects records, and compares meshes while their volumes are in
//! memory.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use mmface::record;

use super::mesh::{ByPicture, MeshJudge};
use super::{Notes, Seen, lock};
use crate::sink::{Content, Context, Event, Needs, Plan, Sink, VolumeSource, WhenSlow};
use crate::{Error, Result};

/// The requested sink.
pub(super) struct ListenerPlan {
    pub(super) notes: Arc<Mutex<Notes>>,
    /// The labels with a true mesh.
    pub(super) meshed: ByPicture,
}

impl Plan for ListenerPlan {
    fn name(&self) -> &'static str {
        "evaluation"
    }

    fn needs(&self) -> Needs {
        Needs { volumes: (!self.meshed.is_empty()).then_some(VolumeSource::Network) }
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::Wait
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let meshes = MeshJudge::new(context.model.clone(), self.meshed);
        Ok(Box::new(Listener { notes: self.notes, meshes }))
    }
}

struct Listener {
    notes: Arc<Mutex<Notes>>,
    meshes: MeshJudge,
}

impl Sink for Listener {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        match event {
            Event::Header(header) => lock(&self.notes).header = Some(header.clone()),
            Event::Frame(frame) => {
                let Some(still) = &frame.frame.still else {
                    return Err(Error::Bug("an evaluation is of pictures".into()));
                };
                let seen = read(&frame.record(Content { landmarks: true, ..Content::default() }))?;
                let fits = self.meshes.judge(still.index, frame);
                let mut notes = lock(&self.notes);
                notes.seen.insert(still.index, seen);
                notes.fits.extend(fits.into_iter().map(|fit| (fit.label, fit)));
            }
            Event::Stream(_) | Event::Gap(_) | Event::End(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Converts a record to JSON and back, so that its numbers are rounded as a reader gets them.
fn read(frame: &record::Frame) -> Result<Seen> {
    serde_json::to_value(frame)
        .and_then(serde_json::from_value)
        .map_err(|e| Error::Bug(format!("a record cannot be read back: {e}")))
}
